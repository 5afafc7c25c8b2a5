"""An optimizer holds tensors that the model does not have any more."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from gradscope.analyzer import Analyzer
from gradscope.findings import Finding, Severity
from gradscope.inventory import OptimizerInfo, Orphan
from gradscope.ownership import ENOUGH, stale
from gradscope.records import Kind, Recording, Statistic


@dataclass(frozen=True)
class StaleOptimizer(Analyzer):
    """An optimizer steps tensors that never have a gradient, while parameters with gradients are in no optimizer.

    ## What it means
    The optimizer was made for other tensors than those that the model has now: for a copy of the model, before the
    model or its last layer was made anew, or before `load_state_dict(..., assign=True)` replaced its parameters.

    ## Why it matters
    Every step moves tensors that nobody uses. The parameters that learn nothing keep their values, and
    nothing fails.

    ## How it is measured
    By identity, at the end of the run. The optimizer has stepped at least twice; it holds tensors that are no
    parameters of the model and had no gradient in any of its steps, or the model has replaced
    parameters that it held. In their place are parameters that received gradients, are in no optimizer of the
    process, and have not changed. Or none of what it holds ever had a gradient or
    moved, no module of its model ran, and another model did whose parameters look like its own, have gradients and
    are in no optimizer. Or that is so from some step on: the optimizer goes on stepping and finds no gradient any more.

    ## What it is not
    Optimizers of other models (their tensors have gradients), learned inputs, master copies in full precision (they
    have gradients, and the model's weights move), averaged copies (in no optimizer), weights that the program moves
    by hand, an optimizer that has taken over (the one before it does not step any more), and one that steps for the
    sake of its schedule, while no model runs.

    ## How to fix it
    Make the optimizer after the last change of the model, from `model.parameters()` of the model that runs.

    ## Fires on
    >>> from gradscope.inventory import Inventory, OptimizerInfo, Orphan
    >>> from gradscope.testing import recording
    >>> held = OptimizerInfo("SGD", steps=5, foreign=2, idle=((2, 3), (2,)))
    >>> left = Orphan("fc.weight", "fc", (2, 3)), Orphan("fc.bias", "fc", (2,))
    >>> for found in StaleOptimizer().analyze(recording(inventory=Inventory((held,), left), complete=True)):
    ...     print(found)
    ERROR    stale-optimizer   since step 0   2 parameters
             SGD.step() moves tensors that the model does not have; 'fc.weight' and 1 more are in no optimizer
             measured: 2 tensors without a gradient in 5 steps of SGD, 2 parameters with gradients that never moved
             why: the steps move tensors that nobody uses, and the model's own never learn
             fix: make the optimizer from model.parameters() after the last change of the model

    ## Silent on
    >>> other = OptimizerInfo("SGD", steps=5, foreign=2)
    >>> list(StaleOptimizer().analyze(recording(inventory=Inventory((other,), left), complete=True)))
    []

    ## Sources
    - PyTorch issue 14467, "Optimizer warning when parameters 'change'",
      https://github.com/pytorch/pytorch/issues/14467
    - PyTorch, "torch.nn.Module.load_state_dict" (assign),
      https://docs.pytorch.org/docs/stable/generated/torch.nn.Module.html
    """

    severity: ClassVar[Severity] = Severity.ERROR

    def analyze(self, recording: Recording) -> Iterator[Finding]:
        """At the end of the run, one finding for each optimizer."""
        if not recording.complete:
            return
        for optimizer, orphans in stale(recording):
            yield self._found(optimizer, orphans)
        if recording.inventory.double:
            yield from self._left_behind(recording) if recording.modules else self._of_another_model(recording)

    def _found(self, optimizer: OptimizerInfo, orphans: tuple[Orphan, ...]) -> Finding:
        number, first = len(orphans), orphans[0].path
        subject = f"{first!r} and {number - 1} more are" if number > 1 else f"{first!r} is"
        tensors = len(optimizer.idle) or len(optimizer.replaced)
        return self.finding(
            step=min(orphan.step for orphan in orphans),
            message=f"{optimizer.name}.step() moves tensors that the model does not have; {subject} in no optimizer",
            evidence=f"{tensors} tensor{'s' * (tensors > 1)} without a gradient in {optimizer.steps} steps of "
            f"{optimizer.name}, {number} parameter{'s' * (number > 1)} with gradients that never moved",
            why="the steps move tensors that nobody uses, and the model's own never learn",
            fix="make the optimizer from model.parameters() after the last change of the model",
            sites=tuple(orphan.path for orphan in orphans),
            scope=f"{number} parameter{'s' * (number > 1)}",
            location=optimizer.location,
            cause=f"{optimizer.name} of {len(optimizer.parameters) + optimizer.foreign}",
        )

    def _left_behind(self, recording: Recording) -> Iterator[Finding]:
        """The watched model ran, and from some step on another one does, while the optimizer goes on stepping."""
        for optimizer in recording.inventory.optimizers:
            if optimizer.parameters and optimizer.empty is not None:
                number, since = len(optimizer.parameters), optimizer.empty
                yield self.finding(
                    step=since,
                    message=f"{optimizer.name}.step() goes on with the parameters of a model that does not run now",
                    evidence=f"no gradient for its {number} parameter{'s' * (number > 1)} from step {since} on, while "
                    "another model of the same shapes has gradients and is in no optimizer",
                    why="the model that runs now, such as a copy of the best one, never learns",
                    fix="make the optimizer anew for the new model, or keep the model and call load_state_dict()",
                    sites=optimizer.parameters,
                    scope=f"{number} of {len(recording.parameters)} parameters",
                    location=optimizer.location,
                    cause=f"{optimizer.name} of {number}",
                )

    def _of_another_model(self, recording: Recording) -> Iterator[Finding]:
        """Nothing of the watched model ran, and the optimizer stepped nevertheless."""
        moved = recording.values(Kind.UPDATE, Statistic.ABS_MAX) > 0
        if moved.any() or any(parameter.contributions for parameter in recording.parameters):
            return
        for optimizer in recording.inventory.optimizers:
            if optimizer.parameters and optimizer.steps >= ENOUGH:
                number = len(optimizer.parameters)
                yield self.finding(
                    step=0,
                    message=f"{optimizer.name}.step() moves the parameters of a model that never ran",
                    evidence=f"no gradient for its {number} parameter{'s' * (number > 1)} in {optimizer.steps} steps, "
                    "and no module of their model was called",
                    why="the model that runs is another one, and its parameters never learn",
                    fix="make the optimizer from model.parameters() of the model that runs, after its last change",
                    sites=optimizer.parameters,
                    scope=f"{number} of {len(recording.parameters)} parameters",
                    location=optimizer.location,
                    cause=f"{optimizer.name} of {number}",
                )
