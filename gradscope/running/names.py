"""Checks settings before the program runs, without importing one of our analyzers: they import numpy."""

import ast
import pkgutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from gradscope.errors import BadSetting
from gradscope.settings import Settings, Threshold, fitted, unknown_threshold, wrong_value

KINDS = {"float": float, "int": int, "bool": bool, "str": str}


def check(settings: Settings) -> None:
    """Raise `UnknownAnalyzer` or `BadSetting` for what no analyzer has."""
    own = _own()
    named = (*(entry.partition(":")[0] for entry in settings.ignore), *(settings.select or ()))
    asked = (*named, *(analyzer for analyzer, _, _ in settings.thresholds))
    sound = all(entry.partition(":")[1:] != (":", "") for entry in settings.ignore)
    if not sound or not own.keys() >= set(
        asked
    ):  # of another package, or of nobody: the catalogue knows, and is slower
        from gradscope.selection import check as check_with_the_catalogue

        check_with_the_catalogue(settings)
        return
    for threshold in settings.thresholds:
        problem = _problem(threshold, own[threshold[0]])
        if problem:
            raise BadSetting(f"{settings.origin}: {problem}" if settings.origin else problem)


def _own() -> dict[str, Path]:
    """The files of our own analyzers by name: they are called after them."""
    package = find_spec("gradscope.analyzers")
    folders = list(package.submodule_search_locations or ()) if package is not None else []
    return {
        info.name.replace("_", "-"): Path(folder, f"{info.name}.py")
        for folder in folders
        for info in pkgutil.iter_modules([folder])
    }


def _problem(threshold: Threshold, file: Path) -> str:
    """What is wrong with a threshold of an analyzer of ours, as far as its source tells; "" if nothing is."""
    analyzer, name, value = threshold
    known = {field: (kind, default) for field, kind, default in _thresholds(file)}
    if name not in known:
        return unknown_threshold(analyzer, name, tuple(known))
    kind, default = known[name]
    try:
        fitted(value, KINDS[kind])
    except KeyError:
        return ""
    except TypeError as error:
        return wrong_value(analyzer, name, value, str(error), default)
    return ""


def _thresholds(file: Path) -> Iterator[tuple[str, str, str]]:
    """Name, type and default of each threshold in a file."""
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        match node:
            case ast.AnnAssign(
                target=ast.Name(id=name),
                annotation=ast.Name(id=kind),
                value=ast.Call(func=ast.Name(id="field"), keywords=[ast.keyword(arg="default", value=default), *_]),
            ):
                yield name, kind, ast.unparse(default)
