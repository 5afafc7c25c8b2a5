"""Which analyzers judge, with which thresholds: what the program says over the command line over pyproject.toml.

What is said of the same thing more than once, the strongest says; what shall be ignored adds up. Who names the
analyzers that shall run overrides what weaker sources ignore, but for sites.
"""

from collections.abc import Iterable, Iterator
from dataclasses import MISSING, Field, dataclass, fields, replace
from typing import Any, get_type_hints

from gradscope.analyzer import Analyzer
from gradscope.catalogue import find, known
from gradscope.errors import BadSetting, UnknownAnalyzer
from gradscope.settings import Settings, ambient, fitted, names, unknown_threshold, wrong_value


@dataclass(frozen=True, slots=True)
class Selection:
    """The analyzers that judge, and "analyzer:pattern" for each pattern of sites whose findings do not count."""

    analyzers: tuple[Analyzer, ...] = ()
    exempt: tuple[str, ...] = ()


def select(wanted: Iterable[Analyzer | str] | None = None, ignore: str | Iterable[str] = ()) -> Selection:
    """The analyzers to run: all, or those wanted (by name or as configured instances), less the ignored.

    Raises:
        UnknownAnalyzer: a name that no analyzer has.
        BadSetting: pyproject.toml says something that cannot be meant.
    """
    levels = ambient()
    for level in levels:
        check(level)
    own = Settings(ignore=names(ignore))
    check(own)
    chosen = _chosen(levels, None if wanted is None else tuple(wanted))
    ignored, exempt = _split(_ignored(levels, explicit=wanted is not None) + own.ignore)
    return Selection(tuple(analyzer for analyzer in chosen if analyzer.name not in ignored), exempt)


def check(settings: Settings) -> None:
    """Raise `UnknownAnalyzer` or `BadSetting` for what no analyzer has."""
    try:
        for entry in settings.ignore:
            check_entry(entry)
            find(entry.partition(":")[0])
        for name in settings.select or ():
            find(name)
        for analyzer, name, value in settings.thresholds:
            _fitted(find(analyzer), name, value)
    except (UnknownAnalyzer, BadSetting) as error:
        raise (type(error)(f"{settings.origin}: {error}") if settings.origin else error) from None


def check_entry(entry: str) -> None:
    """Raise `BadSetting` for an "analyzer:" without a pattern."""
    name, colon, pattern = entry.partition(":")
    if colon and not pattern:
        raise BadSetting(f"ignore {entry!r} names no sites: write '{name}:encoder.*', or {name!r} for all of them")


def split(ignore: str | Iterable[str]) -> tuple[frozenset[str], tuple[str, ...]]:
    """The analyzers that are ignored as a whole, and the "analyzer:pattern" that exempt sites.

    Raises:
        UnknownAnalyzer, BadSetting: as `select`.
    """
    given = Settings(ignore=names(ignore))
    check(given)
    return _split(given.ignore)


def _split(ignore: tuple[str, ...]) -> tuple[frozenset[str], tuple[str, ...]]:
    exempt = tuple(dict.fromkeys(entry for entry in ignore if ":" in entry))
    return frozenset(ignore) - frozenset(exempt), exempt


def _chosen(levels: tuple[Settings, ...], wanted: tuple[Analyzer | str, ...] | None) -> Iterator[Analyzer]:
    selected = (level.select for level in reversed(levels) if level.select is not None)
    items = wanted if wanted is not None else next(selected, tuple(known()))
    for item in items:
        yield item if isinstance(item, Analyzer) else _configured(find(item), levels)


def _ignored(levels: tuple[Settings, ...], *, explicit: bool) -> tuple[str, ...]:
    """What all sources ignore; a selection of a stronger one overrides analyzers that a weaker one ignores."""
    ignored: tuple[str, ...] = ()
    for level in levels:
        ignored = (_split(ignored)[1] if level.select is not None else ignored) + level.ignore
    return _split(ignored)[1] if explicit else ignored


def _configured(analyzer: type[Analyzer], levels: tuple[Settings, ...]) -> Analyzer:
    asked = (threshold for level in levels for threshold in level.thresholds)
    values = {name: _fitted(analyzer, name, value) for owner, name, value in asked if owner == analyzer.name}
    return replace(analyzer(), **values)


def _fitted(analyzer: type[Analyzer], name: str, value: Any) -> Any:
    """A value of a threshold, in the type that it has."""
    thresholds = {each.name: each for each in fields(analyzer) if each.init}
    if name not in thresholds:
        raise BadSetting(unknown_threshold(analyzer.name, name, tuple(thresholds)))
    try:
        return fitted(value, get_type_hints(analyzer)[name])
    except TypeError as error:
        raise BadSetting(wrong_value(analyzer.name, name, value, str(error), _default(thresholds[name]))) from None


def _default(threshold: "Field[Any]") -> object:
    return threshold.default if threshold.default_factory is MISSING else threshold.default_factory()
