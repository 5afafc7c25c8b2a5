"""How far gradients come, how large they are, and what modules make of them on their way back."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import inf, isnan

from gradscope.records import ROOT, Kind, ParameterInfo, Recording, Statistic, StepEnd
from gradscope.reports.frame import flow
from gradscope.testing.captured import Captured, measured
from gradscope.testing.places import modules_like, no_match, parameters_like
from gradscope.testing.profile import Offence, failure, number

ARRIVING = Kind.ACTIVATION_GRADIENT
OWN = Kind.PARAMETER_GRADIENT

Homes = Mapping[str, str]
Series = Mapping[str, Sequence[tuple[int, float]]]


def assert_gradients_reach(scope: Captured, pattern: str = "*") -> None:
    """Fail unless the loss's gradient reaches every trainable parameter that a pattern names.

    A pattern names parameters by their own name or by a module that holds them: "encoder.*", "encoder", "*.bias". It is
    reached if it received a gradient that is not zero throughout, in at least one step. Frozen parameters are passed
    over. Where the pattern names only modules without parameters, the gradient at their outputs decides.

    Args:
        scope: what `watch` gave, or its recording.
        pattern: of module paths and parameter names, as in `fnmatch`.

    Raises:
        AssertionError: a parameter was not reached, all that are named are frozen, or nothing was measured.
        NoSuchSite: the pattern names nothing.
    """
    __tracebackhide__ = True
    recording = measured(scope)
    kind = OWN if parameters_like(recording, pattern) else ARRIVING
    homes = _homes(scope, recording, pattern, kind)
    series = _series(recording, kind, Statistic.ABS_MAX, homes, range(len(recording.observed)))
    fed = {each.path for each in recording.parameters if each.contributions}
    offences = [
        Offence(path, home, "its gradient is exactly zero" if path in series else "no gradient")
        for path, home in homes.items()
        if not (any(value != 0 for _, value in series[path]) if path in series else path in fed)
    ]
    if offences:
        what = "parameters" if kind is OWN else "modules"
        headline = f"the gradient does not reach {len(offences)} of {len(homes)} {what} that match {pattern!r}"
        raise failure(scope, headline, offences)


def assert_gradient_norm(
    scope: Captured,
    pattern: str = "*",
    low: float = 0.0,
    high: float = inf,
    *,
    kind: Kind | str = OWN,
    step: int | None = None,
) -> None:
    """Fail unless the norm of each gradient that a pattern names lies between two limits, in each observed step.

    Args:
        scope: what `watch` gave, or its recording.
        pattern: of module paths and parameter names, as in `fnmatch`.
        low: the smallest L2 norm that is allowed, in units of the loss over units of the tensor.
        high: the largest.
        kind: "parameter_gradient", the gradient of each trainable parameter as the optimizer used it; or
            "activation_gradient", the gradient that arrived at the output of each module.
        step: the step to look at; -1 for the last that has gradients, None for every observed step but those whose
            gradients were thrown away, as a loss scaler does that met an overflow.

    Raises:
        AssertionError: a norm lies outside or is NaN, a gradient never arrived, or nothing was measured.
        NoSuchSite: the pattern names nothing of this kind.
        NotRecorded: the step was not observed.
        ValueError: `kind` is not a gradient's, or the limits are in the wrong order.
    """
    __tracebackhide__ = True
    kind = Kind(kind)
    if kind not in (ARRIVING, OWN):
        raise ValueError(f"kind={str(kind)!r} is no gradient: pass 'parameter_gradient' or 'activation_gradient'")
    _check_limits(low, high)
    recording = measured(scope)
    homes = _homes(scope, recording, pattern, kind)
    norms = _series(recording, kind, Statistic.NORM, homes, _rows(recording, kind, step))
    headline = f"have a norm outside {low:g} to {high:g} ({kind})"
    _check(scope, pattern, homes, norms, (low, high), ("gradients", headline, "norm"))


def assert_gain(
    scope: Captured, pattern: str = "*", low: float = 0.0, high: float = inf, *, step: int | None = None
) -> None:
    """Fail unless each module that a pattern names passes the gradient on with a gain between two limits.

    The gain is that of `Scope.flow`: the root mean square of the gradient that arrived at the outputs that the module
    computed from, over that of the gradient that arrived at its own output. Below 1 the gradient shrinks on its way
    back through the module, above 1 it grows. Modules that no other module feeds have none and are passed over.

    Args:
        scope: what `watch` gave, or its recording.
        pattern: of module paths, as in `fnmatch`; "blocks.?" names the blocks and not what is in them.
        low: the smallest gain that is allowed, a ratio without unit.
        high: the largest.
        step: the step to look at; -1 for the last that has gradients, None for every observed step.

    Raises:
        AssertionError: a gain lies outside, none of these modules has one, or nothing was measured.
        NoSuchSite: the pattern names no module.
        NotRecorded: the step was not observed.
        ValueError: the limits are in the wrong order.
    """
    __tracebackhide__ = True
    _check_limits(low, high)
    recording = measured(scope)
    homes = _homes(scope, recording, pattern, ARRIVING)
    gains = _gains(recording, homes, _rows(recording, ARRIVING, step))
    if not gains:
        reason = "no gradient was measured both at its output and at what it was computed from"
        raise failure(
            scope,
            f"no module that matches {pattern!r} has a gain",
            [Offence(path, home, reason) for path, home in homes.items()],
        )
    known = {path: home for path, home in homes.items() if path in gains}
    _check(scope, pattern, known, gains, (low, high), ("modules", f"have a gain outside {low:g} to {high:g}", "gain"))


def _check(
    scope: Captured,
    pattern: str,
    homes: Homes,
    series: Series,
    limits: tuple[float, float],
    words: tuple[str, str, str],
) -> None:
    """Fail where a number of a series lies outside, and where there is none."""
    __tracebackhide__ = True
    what, wrong, name = words
    recording = measured(scope)
    outside = {path: next(_outside(series[path], limits), None) for path in homes if path in series}
    firsts = {path: found for path, found in outside.items() if found is not None}
    offences = [
        Offence(path, home, _reason(recording, path, firsts.get(path), name))
        for path, home in homes.items()
        if path in firsts or path not in series
    ]
    if offences:
        headline = f"{len(offences)} of {len(homes)} {what} that match {pattern!r} {wrong}"
        raise failure(scope, headline, offences, min((row for row, _ in firsts.values()), default=None))


def _outside(values: Iterable[tuple[int, float]], limits: tuple[float, float]) -> Iterator[tuple[int, float]]:
    low, high = limits
    return ((row, value) for row, value in values if not low <= value <= high)


def _reason(recording: Recording, path: str, found: tuple[int, float] | None, name: str) -> str:
    if found is not None:
        row, value = found
        return f"{name} {number(value)} in step {recording.observed[row].index}"
    places = (f"gradient of {path}: ", f"gradient of {ROOT}.{path}: ")
    why = next((text for text in recording.lost if any(place in text for place in places)), "")
    return f"not measured: {why}" if why else "no gradient arrived"


def _homes(scope: Captured, recording: Recording, pattern: str, kind: Kind) -> dict[str, str]:
    """What a pattern names, in forward order: trainable parameters with their modules, or modules."""
    __tracebackhide__ = True
    if kind is ARRIVING:
        modules = modules_like(recording, pattern)
        if not modules:
            raise no_match(recording, pattern)
        return {path: path for path in modules}
    named = parameters_like(recording, pattern)
    if not named:
        raise no_match(recording, pattern)
    trainable = {each.path: each.module for each in named if each.trainable}
    if not trainable:
        raise failure(scope, f"every parameter that matches {pattern!r} is frozen", list(map(_frozen, named)))
    return trainable


def _frozen(parameter: ParameterInfo) -> Offence:
    return Offence(parameter.path, parameter.module, "its requires_grad is False")


def _rows(recording: Recording, kind: Kind, step: int | None) -> Sequence[int]:
    if step is None:
        return [row for row, each in enumerate(recording.observed) if each.end is not StepEnd.CLEARED]
    row = recording.row(step, kind)
    return [] if row is None else [row]


def _series(recording: Recording, kind: Kind, statistic: Statistic, homes: Homes, rows: Iterable[int]) -> Series:
    """For each of these places the row and the value of each step in which something was measured there."""
    values, counts = recording.values(kind, statistic), recording.values(kind, Statistic.COUNT)
    series: dict[str, list[tuple[int, float]]] = {}
    for column, site in enumerate(recording.sites_of(kind)):
        place = site.module if kind is ARRIVING else site.path
        if place in homes:
            seen = [(row, float(values[row, column])) for row in rows if counts[row, column] > 0]
            series.setdefault(place, []).extend(seen)
    return {path: sorted(seen) for path, seen in series.items() if seen}


def _gains(recording: Recording, homes: Homes, rows: Iterable[int]) -> Series:
    gains: dict[str, list[tuple[int, float]]] = {}
    for row in rows:
        table = flow(recording, recording.observed[row].index)
        for module, gain in zip(table["module"], table["gain"].tolist(), strict=True):
            if module in homes and not isnan(gain):
                gains.setdefault(module, []).append((row, gain))
    return gains


def _check_limits(low: float, high: float) -> None:
    if not low <= high:
        raise ValueError(f"low={low} and high={high}: pass the smaller limit first")
