"""A parameter is stepped twice on the same gradient: by two optimizers, or by one that holds it twice."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from gradscope.analyzer import Analyzer
from gradscope.events import LoopEvent
from gradscope.findings import Finding, Severity, summary
from gradscope.inventory import OptimizerInfo
from gradscope.loops import first_misuses
from gradscope.records import Recording


@dataclass(frozen=True)
class DuplicateParameter(Analyzer):
    """A parameter is stepped twice on the same gradient: by two optimizers, or by one that holds it twice.

    ## What it means
    The parameter is in the lists of two optimizers that step on the same backward, or stands twice in the list of
    one, as when tied weights are collected module by module.

    ## Why it matters
    It moves twice as far as its learning rate says, each optimizer keeps its own momentum for it, and weight decay
    is applied twice. For two optimizers PyTorch gives no warning.

    ## How it is measured
    At every step of every optimizer: had another optimizer used the very gradient before, and has no backward
    added to it and nobody written to it since? And once: does a parameter stand twice in an optimizer's
    groups? The answers are yes or no; there is no threshold.

    ## What it is not
    Optimizers that share parameters and step on losses of their own (a new gradient for each), optimizers that wrap
    others and call them in their step, an optimizer that takes over from another, and tied weights as
    `model.parameters()` gives them, which is once.

    ## How to fix it
    Give each parameter to one optimizer, once; `list(dict.fromkeys(parameters))` drops what stands there twice.

    ## Fires on
    >>> from gradscope.testing import recording, step_event
    >>> second = step_event(parameters=2, shared=("trunk.weight",))
    >>> for found in DuplicateParameter().analyze(recording(events={0: [step_event(), second]})):
    ...     print(found)
    ERROR    duplicate-parameter   since step 0   1 of 2 parameters
             SGD.step() used gradients that another optimizer had used already
             measured: 1 gradient was the same tensor, unchanged, when a second optimizer stepped on it
             why: what is stepped twice moves twice as far as its learning rate says
             fix: give each parameter to one optimizer only, or each optimizer a backward of its own

    ## Silent on
    >>> list(DuplicateParameter().analyze(recording(events={0: [step_event(), step_event()]})))
    []

    ## Sources
    - PyTorch, "torch.optim.Optimizer.add_param_group",
      https://docs.pytorch.org/docs/stable/generated/torch.optim.Optimizer.add_param_group.html
    """

    severity: ClassVar[Severity] = Severity.ERROR
    every_step: ClassVar[bool] = True
    explains: ClassVar[frozenset[str]] = frozenset({"exploding-gradient", "oversized-update"})

    def analyze(self, recording: Recording) -> Iterator[Finding]:
        """One finding for each optimizer that comes second, and for each that holds something twice."""
        for optimizer in recording.inventory.optimizers:
            if optimizer.doubled:
                yield self._doubled(optimizer)
        for step, event in first_misuses(recording, lambda event: event.shared):
            yield self._shared(step, event)

    def _doubled(self, optimizer: OptimizerInfo) -> Finding:
        number = len(optimizer.doubled)
        return self.finding(
            step=optimizer.first,
            message=f"{optimizer.name} holds {summary(tuple(map(repr, optimizer.doubled)))} twice",
            evidence=f"{number} of its {len(optimizer.parameters)} parameters stand twice in its parameter groups",
            why="what is stepped twice moves twice as far as its learning rate says",
            fix="pass each parameter once, as model.parameters() and dict.fromkeys(parameters) do",
            sites=optimizer.doubled,
            scope=f"{number} of {len(optimizer.parameters)} parameters",
            location=optimizer.location,
            cause=f"{optimizer.name} twice",
        )

    def _shared(self, step: int, event: LoopEvent) -> Finding:
        number = len(event.shared)
        tensors = "gradients were the same tensors" if number > 1 else "gradient was the same tensor"
        return self.finding(
            step=step,
            message=f"{event.optimizer}.step() used gradients that another optimizer had used already",
            evidence=f"{number} {tensors}, unchanged, when a second optimizer stepped on "
            f"{'them' if number > 1 else 'it'}",
            why="what is stepped twice moves twice as far as its learning rate says",
            fix="give each parameter to one optimizer only, or each optimizer a backward of its own",
            sites=event.shared,
            scope=f"{number} of {event.parameters} parameters",
            location=event.location,
            cause=event.stepper,
        )
