"""The text of a failed assertion: what is wrong, the gradient layer by layer, and the line at fault."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from gradscope.findings import Finding
from gradscope.records import ROOT, Floats, Kind, Recording, Statistic, derive
from gradscope.testing.captured import Captured, findings_of, recording_of
from gradscope.testing.places import is_inside
from gradscope.testing.tables import aligned

MOST_ROWS = 40
CONTEXT = 1
MARK = ">"
NONE = "-"
HEADING = ("", "module", "type", "at its output", "of its parameters")

Row = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Offence:
    """What is wrong at one place: a module's path or a parameter's full name, and the module it belongs to."""

    path: str
    module: str
    reason: str

    def __str__(self) -> str:
        return f"{self.path or ROOT!r}: {self.reason}"


def failure(
    captured: Captured, headline: str, offences: Sequence[Offence], row: int | None = None, otherwise: str = ""
) -> AssertionError:
    """The error that an assertion raises.

    Args:
        captured: the run.
        headline: what was expected and is not so.
        offences: where it is not so.
        row: the row of the observed step whose gradients are shown; None for the last that has any.
        otherwise: what to say at the end where no finding speaks of these places.
    """
    recording = recording_of(captured)
    reasons = [f"    {offence}" for offence in offences[:MOST_ROWS]]
    more = [f"    and {len(offences) - MOST_ROWS} more"] if len(offences) > MOST_ROWS else []
    parts = ["\n".join([headline, *reasons, *more]), profile(recording, {each.module for each in offences}, row)]
    related = [str(finding) for finding in concerning(findings_of(captured), offences)] or [otherwise]
    return AssertionError("\n\n".join(part for part in [*parts, *related] if part))


def concerning(findings: Iterable[Finding], offences: Sequence[Offence]) -> tuple[Finding, ...]:
    """The findings about one of these places, and those about the whole run."""
    modules, paths = {each.module for each in offences if each.module}, {each.path for each in offences}
    return tuple(
        finding
        for finding in findings
        if not finding.sites
        or paths & set(finding.sites)
        or any(is_inside(site, module) for site in finding.sites for module in modules)
    )


def profile(recording: Recording, marked: Collection[str] = (), row: int | None = None) -> str:
    """A table of the gradients of one step (rms), module by module in forward order; "" where none were measured."""
    row = _last(recording) if row is None else row
    if row is None:
        return ""
    step = recording.observed[row].index
    title = f"gradients of step {step} in forward order (rms; {NONE}: none arrived)"
    return "\n".join(
        [f"    {title}", *(f"    {line}" for line in aligned([HEADING, *_rows(recording, marked, row)], 3))]
    )


def _last(recording: Recording) -> int | None:
    rows = [recording.row(-1, kind) for kind in (Kind.ACTIVATION_GRADIENT, Kind.PARAMETER_GRADIENT)]
    seen = [row for row in rows if row is not None]
    return max(seen, default=len(recording.observed) - 1 if recording.observed else None)


def _rows(recording: Recording, marked: Collection[str], row: int) -> list[Row]:
    outputs, parameters = (
        _by_module(recording, kind, row) for kind in (Kind.ACTIVATION_GRADIENT, Kind.PARAMETER_GRADIENT)
    )
    rows: list[Row] = [
        (
            MARK if module.path in marked else "",
            module.path or ROOT,
            module.type,
            outputs.get(module.path, NONE),
            parameters.get(module.path, NONE if _has_parameters(recording, module.path) else ""),
        )
        for module in recording.modules
    ]
    return rows if len(rows) <= MOST_ROWS else _shortened(rows)


def _has_parameters(recording: Recording, module: str) -> bool:
    return any(parameter.module == module for parameter in recording.parameters)


def _by_module(recording: Recording, kind: Kind, row: int) -> dict[str, str]:
    """The rms of all tensors of a module together, as text, where one was measured."""
    stored = recording.stored[row]
    sums: dict[str, Floats] = {}
    for column, site in enumerate(recording.sites):
        if site.kind is kind and stored[column, 0] > 0:
            sums[site.module] = sums.get(site.module, np.zeros(stored.shape[1])) + stored[column]
    return {module: number(float(derive(total, Statistic.RMS))) for module, total in sums.items()}


def number(value: float) -> str:
    """A magnitude in three digits."""
    return "0" if value == 0 else f"{value:.2e}"


def _shortened(rows: list[Row]) -> list[Row]:
    """The marked rows with their neighbours, the first and the last, and in between how many are left out."""
    near = {at + shift for at, row in enumerate(rows) if row[0] for shift in range(-CONTEXT, CONTEXT + 1)} | {
        0,
        len(rows) - 1,
    }
    kept = sorted(at for at in near if 0 <= at < len(rows))[: MOST_ROWS - 1]
    kept = kept if kept[-1] == len(rows) - 1 else [*kept, len(rows) - 1]
    shown: list[Row] = []
    for before, at in zip([-1, *kept], kept, strict=False):
        if at - before > 1:
            shown.append(("", f"... {at - before - 1} more", "", "", ""))
        shown.append(rows[at])
    return shown
