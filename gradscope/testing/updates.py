"""Whether training moves the weights."""

from gradscope.graphs import names
from gradscope.records import Kind, ParameterInfo, Recording, Statistic
from gradscope.testing.captured import Captured, measured
from gradscope.testing.places import no_match, parameters_like
from gradscope.testing.profile import Offence, failure, number


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
    moved, gradients = _peaks(recording, Kind.UPDATE), _peaks(recording, Kind.PARAMETER_GRADIENT)
    stuck = [
        Offence(each.path, each.module, _reason(each, max(gradients.get(name, 0.0) for name in names(each))))
        for each in wanted
        if not any(moved.get(name) for name in names(each))
    ]
    if stuck:
        headline = f"{len(stuck)} of {len(wanted)} parameters that match {pattern!r} were not updated"
        raise failure(scope, headline, stuck)


def _peaks(recording: Recording, kind: Kind) -> dict[str, float]:
    """The largest magnitude at each site of this kind that was measured, over all observed steps."""
    counts, values = recording.values(kind, Statistic.COUNT), recording.values(kind, Statistic.ABS_MAX)
    measured_in = {site.path: counts[:, column] > 0 for column, site in enumerate(recording.sites_of(kind))}
    return {
        path: float(values[rows, column].max()) for column, (path, rows) in enumerate(measured_in.items()) if rows.any()
    }


def _reason(parameter: ParameterInfo, gradient: float) -> str:
    if not parameter.optimizer_steps:
        return "no optimizer has stepped it"
    if gradient:
        return f"its gradient, {number(gradient)} at most, does not move its bits"
    return "its gradient is exactly zero" if parameter.contributions else "it received no gradient"
