"""Parameters that never received a gradient, although nothing cuts the graph."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from gradscope.analyzer import Analyzer
from gradscope.findings import Finding, Severity, summary
from gradscope.graphs import cut_off, ran, starved
from gradscope.records import ParameterInfo, Recording
from gradscope.traces import Location


@dataclass(frozen=True)
class UnusedParameter(Analyzer):
    """Trainable parameters that no backward of the whole run gave a gradient, and no cut explains it.

    ## What it means
    The optimizer owns these parameters, but the loss never depended on them: their module did not run, or
    what it computed was not used.

    ## Why it matters
    They keep their initial values, take memory in every optimizer state, and make DistributedDataParallel
    wait or fail. Sometimes a whole branch was left out of `forward` by mistake.

    ## How it is measured
    At the end of the run: trainable, stepped by an optimizer, and no backward gave it a gradient, while others
    received one. Whether it is a fault only you can tell, so it is a note.

    ## What it is not
    Parameters behind a cut, which are `detached-tensor` or `non-differentiable-op`; frozen ones; experts, dropped
    layers and auxiliary heads that ran in at least one step; the parameters of an optimizer that has not stepped.

    ## How to fix it
    Use the module in `forward`, leave it out of the model, or freeze it with `requires_grad_(False)`. Under
    DistributedDataParallel, `find_unused_parameters=True` makes it harmless.

    ## Fires on
    >>> from gradscope.records import Call, ParameterInfo
    >>> from gradscope.testing import recording
    >>> used = ParameterInfo("fc.weight", "fc", optimizer_steps=5, contributions=5)
    >>> idle = ParameterInfo("aux.weight", "aux", optimizer_steps=5, contributions=0)
    >>> made = recording(calls={"fc": Call.GRAD}, parameters=[used, idle], complete=True)
    >>> for found in UnusedParameter().analyze(made):
    ...     print(found)
    NOTE     unused-parameter   since step 0   1 of 2 parameters
             'aux.weight' never received a gradient: no forward called its module
             measured: 0 gradients in 5 steps, and no call of 'aux' in the 5 that were observed
             why: what never receives a gradient keeps its initial value, and still takes memory
             fix: use it in forward, remove it, or freeze it with requires_grad_(False)

    ## Silent on
    >>> list(UnusedParameter().analyze(recording(parameters=[used], complete=True)))
    []

    ## Sources
    - PyTorch, "DistributedDataParallel" (find_unused_parameters),
      https://docs.pytorch.org/docs/stable/generated/torch.nn.parallel.DistributedDataParallel.html
    """

    severity: ClassVar[Severity] = Severity.NOTE

    def analyze(self, recording: Recording) -> Iterator[Finding]:
        """At the end of the run, one finding for each of the two reasons."""
        if not recording.complete:
            return
        hungry = starved(recording)
        if not hungry:
            return
        explained = cut_off(recording)
        unused = [parameter for parameter in hungry if parameter.path not in explained]
        traced = {path for operation in recording.operations for path in operation.parameters}
        running = ran(recording) if unused else frozenset()
        idle = [parameter for parameter in unused if parameter.module not in running and parameter.path not in traced]
        if idle:
            yield self._idle(recording, idle)
        if len(idle) < len(unused):
            yield self._unread(recording, [parameter for parameter in unused if parameter not in idle])

    def _idle(self, recording: Recording, parameters: list[ParameterInfo]) -> Finding:
        reason = "no forward called its module" if len(parameters) == 1 else "no forward called their modules"
        seen = f"and no call of {_modules(parameters)} in the {len(recording.observed)} that were observed"
        return self._found(recording, parameters, reason, seen)

    def _unread(self, recording: Recording, parameters: list[ParameterInfo]) -> Finding:
        reason = "what it computed did not reach the loss" if len(parameters) == 1 else "their results missed the loss"
        seen = f"although {_modules(parameters)} ran and nothing seems to cut the graph"
        return self._found(recording, parameters, reason, seen)

    def _found(self, recording: Recording, parameters: list[ParameterInfo], reason: str, seen: str) -> Finding:
        sites = tuple(parameter.path for parameter in parameters)
        subject = repr(sites[0]) if len(sites) == 1 else f"{len(sites)} parameters"
        steps = recording.steps[-1].index + 1 if recording.steps else 0
        return self.finding(
            step=0,
            message=f"{subject} never received a gradient: {reason}",
            evidence=f"0 gradients in {steps} steps, {seen}",
            why="what never receives a gradient keeps its initial value, and still takes memory",
            fix="use it in forward, remove it, or freeze it with requires_grad_(False)",
            sites=sites,
            scope=f"{len(sites)} of {len(recording.parameters)} parameters",
            location=_used(recording, sites[0]),
            cause=seen.split(maxsplit=1)[0],
        )


def _used(recording: Recording, path: str) -> Location | None:
    """The first line that used a parameter in a trace."""
    return next((each.location for each in recording.operations if path in each.parameters), None)


def _modules(parameters: list[ParameterInfo]) -> str:
    return summary(tuple(dict.fromkeys(repr(parameter.module or "(root)") for parameter in parameters)))
