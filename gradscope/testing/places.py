"""The places that a pattern names: parameters and modules, and an error with near matches where there are none."""

from collections.abc import Collection, Iterable
from difflib import get_close_matches
from fnmatch import fnmatchcase

from gradscope.errors import NoSuchSite
from gradscope.graphs import ancestors, names
from gradscope.records import Kind, ParameterInfo, Recording

MOST_HINTS = 4
LIKENESS = 0.5


def parameters_like(recording: Recording, pattern: str) -> tuple[ParameterInfo, ...]:
    """The parameters whose name matches, or a module that holds them, in the model's order; perhaps none."""
    return tuple(each for each in parameters_of(recording) if _is_meant(each, pattern))


def modules_like(recording: Recording, pattern: str) -> tuple[str, ...]:
    """The paths of the modules that ran and match, in forward order; perhaps none."""
    return tuple(path for path in modules_of(recording) if fnmatchcase(path, pattern))


def module_like(recording: Recording, path: str) -> str:
    """This module, if it ran, or holds one that ran.

    Raises:
        NoSuchSite: no such module ran.
    """
    known = frozenset[str]().union(*map(ancestors, modules_of(recording)))
    if path not in known:
        raise no_match(recording, path, "module that ran is called", known)
    return path


def no_match(
    recording: Recording, pattern: str, lacking: str = "module or parameter matches", known: Collection[str] = ()
) -> NoSuchSite:
    """The error for a pattern that names nothing, with names that come near."""
    return NoSuchSite(f"no {lacking} {pattern!r}: {_hint(pattern, known or _names_of(recording))}")


def parameters_of(recording: Recording) -> tuple[ParameterInfo, ...]:
    """The parameters of the model; those that were measured, where the recording does not list them."""
    kinds = Kind.PARAMETER_GRADIENT, Kind.PARAMETER, Kind.UPDATE
    sites = {site.path: site.module for kind in kinds for site in recording.sites_of(kind)}
    return recording.parameters or tuple(ParameterInfo(path, module) for path, module in sites.items())


def modules_of(recording: Recording) -> tuple[str, ...]:
    """The paths of the modules that ran, in forward order."""
    return tuple(module.path for module in recording.modules)


def is_inside(path: str, module: str) -> bool:
    """Whether a path is this module's or one within it."""
    return not module or path == module or path.startswith(f"{module}.")


def _is_meant(parameter: ParameterInfo, pattern: str) -> bool:
    holders = (holder for name in names(parameter) for holder in ancestors(name) if holder)
    return any(fnmatchcase(holder, pattern) for holder in holders)


def _names_of(recording: Recording) -> list[str]:
    parameters = [name for parameter in parameters_of(recording) for name in (parameter.path, *parameter.aliases)]
    return list(dict.fromkeys([*modules_of(recording), *parameters]))


def _hint(pattern: str, known: Iterable[str]) -> str:
    """Names that are like the pattern's fixed part, or else the first that there are."""
    candidates = dict.fromkeys(holder for name in known for holder in (name, *sorted(ancestors(name))) if holder)
    fixed = pattern.strip("*?.")
    near = get_close_matches(fixed, candidates, MOST_HINTS, LIKENESS)
    if near:
        return f"did you mean {' or '.join(map(repr, near))}?"
    top = [name for name in candidates if "." not in name]
    return (
        f"there are {', '.join(map(repr, top[:MOST_HINTS]))}{', ...' * (len(top) > MOST_HINTS)}" if top else "none ran"
    )
