"""`verify()`: are the gradients of one module the derivatives of what it computes?"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from gradscope.analyzers.incorrect_gradient import IncorrectGradient
from gradscope.derivatives import DIRECTIONS, Outcome, compare
from gradscope.errors import GradscopeError, NotAModule
from gradscope.findings import Finding, Report, Severity
from gradscope.hooks.twin import Twin
from gradscope.records import Recording
from gradscope.traces import Verification

PRECISIONS = (torch.float64, torch.float32)
CUT = "look for detach(), .data, item() or no_grad() in its forward: no gradient passes there"


@dataclass(frozen=True, slots=True)
class ModuleReport(Report):
    """What `verify` has found in `subject`, of which so many gradients were compared."""

    subject: str = ""
    gradients: int = 0
    dtype: str = "float64"

    @property
    def verdict(self) -> str:
        """The last line: how many findings, how much was compared."""
        counts = [(s, sum(f.severity is s for f in self.findings)) for s in Severity]
        found = ", ".join(f"{n} {s}{'s' * (n > 1)}" for s, n in counts if n) or "no findings"
        compared = f"{self.gradients} gradient{'s' * (self.gradients != 1)} of {self.subject}"
        return f"gradscope: {found}; {compared} compared in {DIRECTIONS} directions each, in {self.dtype}."


def verify(module: nn.Module, *inputs: Any, **named: Any) -> Report:
    """Compare the gradients of a module with finite differences, on a copy of it.

    The copy is in float64, without the user's hooks, in the same mode (training or evaluation). Compared are the
    gradients of its trainable parameters and of its floating-point inputs, a little off the given values, which
    may lie on kinks. Autograd Functions that it applies are compared by themselves; where one is wrong, the report
    names it. Nothing of the module, its gradients or the state of random numbers changes.

    Args:
        module: what to verify.
        inputs: what its forward is called with.
        named: likewise, by name.

    Raises:
        NotAModule: it is no torch.nn.Module.
        GradscopeError: it cannot be copied or called, or there is nothing to differentiate.
    """
    if not isinstance(module, nn.Module):
        raise NotAModule(
            f"verify() needs a torch.nn.Module, not {type(module).__name__}: pass the module first, then its inputs"
        )
    module = getattr(module, "_orig_mod", module)  # torch.compile keeps the module that it compiles there
    first: Exception | None = None
    for precision in PRECISIONS:
        try:
            return _verified(Twin(module, inputs, named, precision), precision)
        except GradscopeError:
            raise
        except Exception as error:  # noqa: BLE001  raised below, unless single precision helps
            first = first or error
    raise GradscopeError(
        f"{type(module).__name__} could not be verified: its float64 copy raised {type(first).__name__}: {first}. "
        "Call it with these inputs yourself; if that works, make new tensors in the dtype of the inputs"
    ) from first


def _verified(twin: Twin, precision: torch.dtype) -> Report:
    dtype = str(precision).removeprefix("torch.")
    functions, notes = twin.functions()
    findings = _judged(functions)
    if findings:
        number = sum(len(each.derivatives) for each in functions)
        return ModuleReport(findings, notes=tuple(notes), subject=_several(functions), gradients=number, dtype=dtype)
    outcome = compare(twin.run, twin.leaves)
    found = Verification(
        twin.name, dtype=dtype, identity=outcome.identity, rounds=outcome.rounds, derivatives=outcome.derivatives
    )
    findings = _judged([found])
    if not twin.applies:
        findings = tuple(_of_a_cut(finding, outcome) for finding in findings)
    return ModuleReport(
        findings,
        notes=(*notes, *_doubts(outcome)),
        subject=twin.name,
        gradients=len(outcome.derivatives),
        dtype=dtype,
    )


def _judged(verifications: Sequence[Verification]) -> tuple[Finding, ...]:
    found = IncorrectGradient().analyze(Recording(verifications=tuple(verifications)))
    return tuple(sorted(found, key=lambda finding: finding.severity.rank))


def _several(functions: Sequence[Verification]) -> str:
    return ", ".join(dict.fromkeys(each.function for each in functions))


def _of_a_cut(finding: Finding, outcome: Outcome) -> Finding:
    """Where every backward is torch's own, something is detached; if only in part, that may be meant."""
    if finding.severity is Severity.NOTE:
        return finding
    limit = IncorrectGradient().limit
    partly = all(each.computed for each in outcome.derivatives if each.error > limit)
    fix = f"{CUT}; nothing, if it is meant" if partly else CUT
    return replace(finding, severity=Severity.NOTE if partly else Severity.ERROR, fix=fix)


def _doubts(outcome: Outcome) -> Iterator[str]:
    for name in outcome.unsure:
        yield f"the gradient of {name!r}: finite differences contradict each other there, at jumps or the domain's edge"
    if not outcome.linear and not outcome.wrong:
        yield "what a backward does with an incoming gradient other than 1: it does not multiply by it"
