"""Finds analyzers: one for each module in `analyzers/`, then the entry points of other packages."""

import importlib
import pkgutil
from collections.abc import Iterator
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType

import gradscope.analyzers
from gradscope.analyzer import Analyzer
from gradscope.errors import UnknownAnalyzer
from gradscope.settings import nearest

GROUP = "gradscope.analyzers"


def known() -> dict[str, type[Analyzer]]:
    """All analyzers by name, our own first. One of another package that cannot be used is left out."""
    return _found()[0]


def failures() -> tuple[str, ...]:
    """The entry points of other packages that cannot be used, and why."""
    return tuple(_found()[1].values())


def find(name: str) -> type[Analyzer]:
    """The analyzer of this name; raises `UnknownAnalyzer`, which names the nearest."""
    analyzers, failed = _found()
    if name in analyzers:
        return analyzers[name]
    hint = failed[name] if name in failed else nearest(name, analyzers)
    raise UnknownAnalyzer(f"no analyzer is called {name!r}: {hint}")


@cache
def _found() -> tuple[dict[str, type[Analyzer]], dict[str, str]]:
    """All analyzers by name, and what became of entry points that cannot be used, by the names of those."""
    analyzers = {cls.name: cls for cls in _own()}
    failed: dict[str, str] = {}
    for entry in entry_points(group=GROUP):
        try:
            cls = _loaded(entry)
            if analyzers.setdefault(cls.name, cls) is not cls:
                raise TypeError(f"its name, {cls.name!r}, is taken")  # noqa: TRY301  one more way to fail
        except (Exception, SystemExit) as error:  # noqa: BLE001  no other package's break may stop the user's training
            owner = f" of {entry.dist.name}" if entry.dist is not None else ""
            failed[entry.name] = f"the analyzer {entry.name!r}{owner} could not be loaded: {error!r}"
    return analyzers, failed


def _own() -> Iterator[type[Analyzer]]:
    for info in pkgutil.iter_modules(gradscope.analyzers.__path__):
        yield from _defined_in(importlib.import_module(f"{gradscope.analyzers.__name__}.{info.name}"))


def _defined_in(module: ModuleType) -> Iterator[type[Analyzer]]:
    for value in vars(module).values():
        if isinstance(value, type) and issubclass(value, Analyzer) and value.__module__ == module.__name__:
            yield value


def _loaded(entry: EntryPoint) -> type[Analyzer]:
    """What an entry point names, if it can be made without arguments and says how severe its findings are."""
    value = entry.load()
    if not (isinstance(value, type) and issubclass(value, Analyzer)):
        raise TypeError(f"{entry.value} is no class derived from gradscope.Analyzer")
    _ = value().severity
    return value
