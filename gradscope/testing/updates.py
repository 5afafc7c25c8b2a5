"""Whether training moves the weights."""

from gradscope.graphs import names
from gradscope.records import Kind, ParameterInfo, Recording, Statistic
from gradscope.testing.captured import Captured, measured
from gradscope.testing.places import no_match, parameters_like
from gradscope.testing.profile import Offence, failure


def assert_parameters_update(scope: Captured, pattern: str = "*") -> None:
    """Fail unless an optimizer's step has changed every trainable parameter that a pattern names.

    One observed step in which it changed is enough. Of parameters with 8,192 elements or more, evenly spaced runs of
    elements are compared, so that a lone row of a large embedding may be missed.

    Args:
        scope: what `watch` gave, or its recording.
        pattern: of module paths and parameter names, as in `fnmatch`; frozen parameters are passed over.

    Raises:
        AssertionError: a parameter was not changed, all that are named are frozen, or nothing was measured.
        NoSuchSite: the pattern names nothing.
    """
    __tracebackhide__ = True
    recording = measured(scope)
    named = parameters_like(recording, pattern)
    if not named:
        raise no_match(recording, pattern)
    wanted = [each for each in named if each.trainable]
    if not wanted:
        frozen = [Offence(each.path, each.module, "its requires_grad is False") for each in named]
        raise failure(scope, f"every parameter that matches {pattern!r} is frozen", frozen)
    moved, reached = _nonzero(recording, Kind.UPDATE), _nonzero(recording, Kind.PARAMETER_GRADIENT)
    stuck = [
        Offence(each.path, each.module, _reason(each, bool(names(each) & reached)))
        for each in wanted
        if not names(each) & moved
    ]
    if stuck:
        headline = f"{len(stuck)} of {len(wanted)} parameters that match {pattern!r} were not updated"
        raise failure(scope, headline, stuck)


def _nonzero(recording: Recording, kind: Kind) -> frozenset[str]:
    """The sites of this kind that were not zero in some observed step."""
    changed = (recording.values(kind, Statistic.ABS_MAX) != 0) & (recording.values(kind, Statistic.COUNT) > 0)
    return frozenset(
        site.path for site, some in zip(recording.sites_of(kind), changed.any(axis=0), strict=True) if some
    )


def _reason(parameter: ParameterInfo, has_gradient: bool) -> str:
    if not parameter.optimizer_steps:
        return "no optimizer has stepped it"
    if has_gradient:
        return "its gradient is not zero, and yet its bits do not move"
    return "its gradient is exactly zero" if parameter.contributions else "it received no gradient"
