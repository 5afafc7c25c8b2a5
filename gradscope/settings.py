"""What is asked of analyzers outside of the program: in `[tool.gradscope]` of pyproject.toml, on the command line.

Settings are read here and brought into force in `gradscope.selection`. Nothing here imports an analyzer, because
`gradscope run` reads its settings before the program has had its turn.
"""

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from functools import lru_cache
from math import isnan
from pathlib import Path
from typing import Any, TypeAlias, get_args, get_origin

from gradscope.errors import BadSetting

FILE = "pyproject.toml"
SECTION = "tool.gradscope"
KEYS = ("ignore", "select", "analyzers")
ALIKE = 0.75
WANTED = {float: "a number", int: "a whole number", bool: "true or false", str: "a text"}

Threshold: TypeAlias = tuple[str, str, Any]


@dataclass(frozen=True, slots=True)
class Settings:
    """What one source asks for.

    Attributes:
        origin: the source, as messages name it.
        ignore: names of analyzers that shall not run, and "analyzer:pattern" for sites whose findings do not count.
        select: names of the only analyzers that shall run; None for all.
        thresholds: analyzer, name of its threshold, value.
    """

    origin: str = ""
    ignore: tuple[str, ...] = ()
    select: tuple[str, ...] | None = None
    thresholds: tuple[Threshold, ...] = ()

    @classmethod
    def read(cls, plain: Mapping[str, Any]) -> "Settings":
        """Settings that `dataclasses.asdict` and JSON have made plain."""
        select = plain["select"]
        return cls(
            plain["origin"],
            tuple(plain["ignore"]),
            None if select is None else tuple(select),
            tuple((analyzer, name, value) for analyzer, name, value in plain["thresholds"]),
        )


_given: list[tuple[Settings, ...]] = []


def ambient() -> tuple[Settings, ...]:
    """What holds for everything that is watched in this process, the weakest first.

    Raises:
        BadSetting: pyproject.toml says something that cannot be meant.
    """
    return _given[-1] if _given else (project(Path.cwd()),)


def begin(settings: tuple[Settings, ...]) -> None:
    """Let these hold from now on, whatever the working directory becomes."""
    _given.append(settings)


def end(settings: tuple[Settings, ...]) -> None:
    """Let them hold no more."""
    if settings in _given:
        _given.remove(settings)


def project(folder: Path) -> Settings:
    """What the nearest pyproject.toml with a section of ours says, from a folder upwards.

    Raises:
        BadSetting: it cannot be read, or says something that cannot be meant.
    """
    for place in (folder, *folder.parents):
        try:
            status = (place / FILE).stat()
        except OSError:
            continue
        found = _read(place / FILE, status.st_mtime_ns, status.st_size)
        if found is not None:
            return found
    return Settings()


def assigned(texts: Iterable[str]) -> tuple[Threshold, ...]:
    """Thresholds as the command line writes them: "vanishing-gradient.fall=1e6", with a value as in TOML.

    Raises:
        BadSetting: a text is not of that form.
    """
    return tuple(map(_assigned, texts))


def names(given: str | Iterable[str]) -> tuple[str, ...]:
    """One name or several."""
    return (given,) if isinstance(given, str) else tuple(given)


def is_spared(exempt: Iterable[str], analyzer: str, sites: Sequence[str]) -> bool:
    """Whether a finding does not count: each of its sites matches an "analyzer:pattern"."""
    patterns = [pattern for name, _, pattern in (each.partition(":") for each in exempt) if name == analyzer]
    return bool(sites and patterns) and all(any(fnmatchcase(site, each) for each in patterns) for site in sites)


def fitted(value: Any, kind: Any) -> Any:
    """A value as a threshold of some type; `TypeError` says what would be one."""
    if kind is float and type(value) in (int, float) and not isnan(value):
        return float(value)
    if kind is not float and kind in WANTED and type(value) is kind:
        return value
    if get_origin(kind) in (tuple, frozenset) and isinstance(value, list):
        return get_origin(kind)(fitted(item, get_args(kind)[0]) for item in value)
    raise TypeError(WANTED.get(kind, "what no text can say: pass an instance to watch(analyzers=[...])"))


def unknown_threshold(analyzer: str, name: str, known: Sequence[str]) -> str:
    """That an analyzer has no such threshold, and what it has."""
    if not known:
        return f"{analyzer} has no thresholds, so there is nothing to set: {name!r}"
    return f"{analyzer} has no threshold {name!r}: {nearest(name, known, 'it has')}"


def wrong_value(analyzer: str, name: str, value: Any, wanted: str, default: object) -> str:
    """That a value does not fit a threshold, and what would."""
    return f"{analyzer}.{name} takes {wanted}, as in {default}, not {value!r}"


def nearest(name: str, known: Iterable[str], otherwise: str = "") -> str:
    """Which of the known names was meant; or what there is, sooner where that is short and introduced."""
    choices = tuple(known)
    near = get_close_matches(name, choices, 3, ALIKE)
    if not near and not otherwise:
        near = get_close_matches(name, choices, 1)
    if near:
        return f"did you mean {' or '.join(map(repr, near))}?"
    return f"{otherwise or 'known are'} {', '.join(choices)}"


@lru_cache(maxsize=8)
def _read(path: Path, _changed: int, _size: int) -> Settings | None:
    """What a file says; None if it says nothing to us. Read once for each state of the file."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BadSetting(f"{path} cannot be read: {error.strerror}") from error
    if b"gradscope" not in content:
        return None
    try:
        section = tomllib.loads(content.decode()).get("tool", {}).get("gradscope")
    except (ValueError, AttributeError) as error:
        raise BadSetting(f"{path} is no valid TOML: {error}") from error
    return None if section is None else _parsed(str(path), section)


def _parsed(origin: str, section: Any) -> Settings:
    if not isinstance(section, dict):
        raise BadSetting(f"{origin}: {SECTION} is to be a table, [{SECTION}]")
    for key in section:
        if key not in KEYS:
            raise BadSetting(f"{origin}: [{SECTION}] has no {key!r}: {nearest(key, KEYS, 'it has')}")
    select = _listed(origin, section, "select")
    return Settings(
        origin,
        _listed(origin, section, "ignore"),
        select if "select" in section else None,
        tuple(_thresholds(origin, section.get("analyzers", {}))),
    )


def _listed(origin: str, section: dict[str, Any], key: str) -> tuple[str, ...]:
    value = section.get(key, [])
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise BadSetting(f'{origin}: {key} is to be a list of names, as in {key} = ["unused-parameter"]')
    return tuple(value)


def _thresholds(origin: str, analyzers: Any) -> Iterable[Threshold]:
    tables = analyzers if isinstance(analyzers, dict) else {"NAME": analyzers}
    for analyzer, table in tables.items():
        if not isinstance(table, dict):
            raise BadSetting(
                f"{origin}: thresholds stand in a table for each analyzer, [{SECTION}.analyzers.{analyzer}], "
                f"and what shall not run in {SECTION}.ignore"
            )
        yield from ((analyzer, name, value) for name, value in table.items())


def _assigned(text: str) -> Threshold:
    target, equals, value = text.partition("=")
    analyzer, dot, name = (part.strip() for part in target.rpartition("."))
    if not (equals and dot and analyzer and name):
        raise BadSetting(
            f"--set takes ANALYZER.THRESHOLD=VALUE, as in vanishing-gradient.fall=1e6, not {text!r}: "
            "`gradscope explain ANALYZER` lists its thresholds"
        )
    return analyzer, name, _value(value.strip())


def _value(text: str) -> Any:
    """A value as TOML writes it; what is none is a text."""
    try:
        read = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return read["value"] if len(read) == 1 else text
