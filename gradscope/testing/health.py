"""Whether a run was healthy."""

from collections.abc import Iterable

from gradscope.findings import Severity
from gradscope.testing.captured import Captured, findings_of, measured, recording_of
from gradscope.testing.profile import profile


def assert_healthy(scope: Captured, *, ignore: Iterable[str] = (), severity: Severity | str = Severity.WARNING) -> None:
    """Fail if anything was found in a run.

    Args:
        scope: what `watch` gave, or its recording.
        ignore: names of analyzers that do not count, and "analyzer:pattern" for sites whose findings do not.
        severity: the least severe finding that counts: "error", "warning" or "note".

    Raises:
        AssertionError: something was found, or nothing was measured, which is no pass.
        UnknownAnalyzer: a name in `ignore` that no analyzer has.
        ValueError: no such severity.
    """
    __tracebackhide__ = True
    ignored = (ignore,) if isinstance(ignore, str) else tuple(ignore)
    least = Severity(severity)
    found = [finding for finding in findings_of(scope, ignored) if finding.severity.rank <= least.rank]
    if not found:
        measured(scope)
        return
    names = ", ".join(dict.fromkeys(finding.analyzer for finding in found))
    modules = {module for finding in found for module in _modules(scope, finding.sites)}
    table = profile(recording_of(scope), modules)
    raise AssertionError("\n\n".join([f"not healthy: {names}", *map(str, found), *([table] if table else [])]))


def _modules(scope: Captured, sites: Iterable[str]) -> set[str]:
    """The modules of these sites, which are modules or parameters."""
    homes = {parameter.path: parameter.module for parameter in recording_of(scope).parameters}
    return {homes.get(site, site) for site in sites}
