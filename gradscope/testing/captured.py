"""What assertions look at: a run's recording, as if it had ended, and the findings in it."""

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

from gradscope.engine import Engine
from gradscope.findings import Finding
from gradscope.records import Recording
from gradscope.selection import Selection, select, split
from gradscope.settings import is_spared

if TYPE_CHECKING:
    from gradscope.scope import Scope

Captured: TypeAlias = "Scope | Recording"


def recording_of(captured: Captured) -> Recording:
    """The recording of a run, as if the run had ended here.

    Raises:
        TypeError: it is neither what `watch` gave nor a recording.
    """
    found = captured if isinstance(captured, Recording) else getattr(captured, "recording", None)
    if not isinstance(found, Recording):
        raise TypeError(f"pass what gradscope.watch() gave, or its recording, not {type(captured).__name__}")
    return found if found.complete else replace(found, complete=True)


def measured(captured: Captured) -> Recording:
    """The recording of a run in which something was measured; `AssertionError` where nothing was."""
    __tracebackhide__ = True
    recording = recording_of(captured)
    if recording.observed:
        return recording
    raise AssertionError(
        "gradscope saw no training step: run forward and backward of the watched model while it is watched, and call "
        "the model itself, not its forward()"
    )


def findings_of(captured: Captured, ignore: Iterable[str] = ()) -> tuple[Finding, ...]:
    """What is found in a run, most important first, if it ended here and some analyzers or sites did not count.

    Raises:
        TypeError: it is neither what `watch` gave nor a recording.
        UnknownAnalyzer, BadSetting: a name in `ignore` that no analyzer has, or no pattern of sites.
    """
    recording = recording_of(captured)
    given = tuple(ignore)
    if isinstance(captured, Recording):
        return _judged(recording, select(None, given))
    unwanted, exempt = split(given)
    if captured.recording.complete and not given:
        return captured.findings
    wanted = tuple(each for each in captured.analyzers if each.name not in unwanted)
    judged = _judged(recording, Selection(wanted, (*captured.exempt, *exempt)))
    known = [finding for finding in captured.findings if finding.analyzer not in unwanted]
    known = [finding for finding in known if not is_spared(exempt, finding.analyzer, finding.sites)]
    # What only steps have shown that are not kept any more.
    earlier = [finding for finding in known if not any(_same(finding, other) for other in judged)]
    return tuple(sorted([*judged, *earlier], key=lambda finding: (finding.severity.rank, finding.step)))


def _judged(recording: Recording, chosen: Selection) -> tuple[Finding, ...]:
    engine = Engine(chosen.analyzers, chosen.exempt)
    engine.run(recording, 0.0)
    return engine.findings()


def _same(finding: Finding, other: Finding) -> bool:
    return finding.analyzer == other.analyzer and (
        finding.cause == other.cause or bool(set(finding.sites) & set(other.sites))
    )
