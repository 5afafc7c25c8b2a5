"""Finds analyzers: one for each module in `analyzers/`, then the entry points of other packages."""

import importlib
import pkgutil
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from functools import cache
from importlib.metadata import entry_points
from types import ModuleType

import gradscope.analyzers
from gradscope.analyzer import Analyzer
from gradscope.errors import UnknownAnalyzer

GROUP = "gradscope.analyzers"


@cache
def known() -> dict[str, type[Analyzer]]:
    """All analyzers by name, our own first. One of another package that fails to load is left out."""
    return {cls.name: cls for cls in (*_own(), *_foreign())}


def find(name: str) -> type[Analyzer]:
    """The analyzer of this name; raises `UnknownAnalyzer`, which names the nearest."""
    if name in known():
        return known()[name]
    near = get_close_matches(name, known(), n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known())}"
    raise UnknownAnalyzer(f"no analyzer is called {name!r}: {hint}")


def select(wanted: Iterable[Analyzer | str] | None, ignore: Iterable[str] = ()) -> tuple[Analyzer, ...]:
    """The analyzers to run: all, or those wanted (by name or as configured instances), less the ignored."""
    chosen = [cls() for cls in known().values()] if wanted is None else [_instance(item) for item in wanted]
    ignored = {find(name).name for name in ignore}
    return tuple(analyzer for analyzer in chosen if analyzer.name not in ignored)


def _instance(item: Analyzer | str) -> Analyzer:
    return find(item)() if isinstance(item, str) else item


def _own() -> Iterator[type[Analyzer]]:
    for info in pkgutil.iter_modules(gradscope.analyzers.__path__):
        yield from _defined_in(importlib.import_module(f"{gradscope.analyzers.__name__}.{info.name}"))


def _defined_in(module: ModuleType) -> Iterator[type[Analyzer]]:
    for value in vars(module).values():
        if isinstance(value, type) and issubclass(value, Analyzer) and value.__module__ == module.__name__:
            yield value


def _foreign() -> Iterator[type[Analyzer]]:
    for entry in entry_points(group=GROUP):
        try:
            value = entry.load()
        except Exception:  # noqa: BLE001, S112  another package's break must not stop the user's training
            continue
        if isinstance(value, type) and issubclass(value, Analyzer):
            yield value
