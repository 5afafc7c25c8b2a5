"""Checks names of analyzers before the program runs, without importing one: they import numpy."""

import pkgutil
from collections.abc import Iterable
from importlib.util import find_spec


def check(names: Iterable[str]) -> None:
    """Raise `UnknownAnalyzer` for a name that no analyzer has."""
    unknown = set(names) - _own()
    if unknown:  # of another package, or of nobody: the catalogue knows, and is slower
        from gradscope.catalogue import find

        for name in sorted(unknown):
            find(name)


def _own() -> set[str]:
    """The names of our own analyzers, which their files are called after."""
    package = find_spec("gradscope.analyzers")
    folders = package.submodule_search_locations if package is not None else None
    return {module.name.replace("_", "-") for module in pkgutil.iter_modules(folders)}
