"""Gradient snapshots: what a run captured, layer by layer, in a file that people can read, and what has drifted."""

import json
import re
from collections.abc import Collection, Iterator, Mapping
from functools import reduce
from hashlib import sha256
from math import inf, isfinite, isnan, nan
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from gradscope.records import UNMEASURED, Recording, Statistic, derive, merge
from gradscope.testing.captured import Captured, measured
from gradscope.testing.tables import aligned

FORMAT = 1
DIGITS = 5
FINEST = 1e-4
# Differences below this share of the largest value of their kind are rounding: a gradient that is zero but for noise.
NOISE = 1e-6
MOST_ROWS = 30
LONGEST_NAME = 100
STATISTICS = (Statistic.MEAN, Statistic.STD, Statistic.RMS, Statistic.ABS_MAX)
RENEW = "pytest --gradscope-update"
MEANT = f"If the change is meant, renew the snapshot with `{RENEW}`"
HEADING = ("layer", "kind", "statistic", "snapshot", "now", "drift")

Numbers: TypeAlias = Mapping[str, float]
Layers: TypeAlias = Mapping[str, Mapping[str, Numbers]]


class Snapshot(NamedTuple):
    """The steps of a run, and for each layer and kind of site the statistics over all observed steps together."""

    steps: int
    layers: Layers


class Snapshots:
    """The fixture `gradscope_snapshot`: the snapshots of one test.

    Args:
        folder: where the snapshots of the test's file are.
        test: the name of the test.
        update: write what is missing or has drifted, and do not fail.
    """

    def __init__(self, folder: Path, test: str, *, update: bool = False) -> None:
        self._folder = folder
        self._test = test
        self._update = update
        self._checked = 0

    def __repr__(self) -> str:
        return f"<snapshots of {self._test}>"

    def check(self, scope: Captured, name: str = "", *, tolerance: float = 0.01) -> None:
        """Fail if what was captured differs from the snapshot by more than a tolerance.

        Mean, standard deviation, root mean square and largest magnitude are compared for each layer's output, for the
        gradient that arrived there, for each parameter, its gradient and its update, over all observed steps together.

        Args:
            scope: what `gradscope` or `gradscope.watch` gave, or its recording.
            name: tells several snapshots of one test apart; without one they are numbered.
            tolerance: the relative difference that is allowed, 0.01 for 1 %, 0.0001 at least; for mean and standard
                deviation it is relative to the root mean square.

        Raises:
            AssertionError: something has drifted, or there is no snapshot yet; `--gradscope-update` writes it.
            ValueError: `tolerance` is finer than what a snapshot holds.
        """
        __tracebackhide__ = True
        if tolerance < FINEST:
            raise ValueError(f"tolerance={tolerance}: a snapshot holds {DIGITS} digits, so pass {FINEST} or more")
        self._checked += 1
        path = self._folder / file_name(self._test, name or (str(self._checked) if self._checked > 1 else ""))
        now = taken(measured(scope))
        complaint = _complaint(path, now, tolerance)
        if complaint and self._update:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(written(now), encoding="utf-8")
        elif complaint:
            raise AssertionError(complaint)


def file_name(test: str, name: str = "") -> str:
    """The name of the file that holds a test's snapshot."""
    return f"{_safe(test)}{'@' if name else ''}{_safe(name)}.json"


def leftovers(folder: Path, tests: Collection[str]) -> Iterator[Path]:
    """The snapshots in a test file's folder that belong to none of its tests."""
    kept = {_safe(test) for test in tests}
    return (path for path in sorted(folder.glob("*.json")) if path.stem.partition("@")[0] not in kept)


def taken(recording: Recording) -> Snapshot:
    """The snapshot of a recording."""
    layers: dict[str, dict[str, Numbers]] = {}
    for column, site in enumerate(recording.sites):
        stored = reduce(merge, recording.stored[:, column], UNMEASURED)
        if stored[0] > 0:
            numbers = {each.value: _rounded(float(derive(stored, each))) for each in STATISTICS}
            layers.setdefault(site.path, {})[site.kind.value] = numbers
    return Snapshot(len(recording.steps), layers)


def written(snapshot: Snapshot) -> str:
    """A snapshot as text: JSON in forward order, one line for each kind of each layer."""
    layers = ",\n".join(
        f"    {json.dumps(path)}: {{\n"
        + ",\n".join(f"      {json.dumps(kind)}: {json.dumps(_plain(numbers))}" for kind, numbers in kinds.items())
        + "\n    }"
        for path, kinds in snapshot.layers.items()
    )
    return f'{{\n  "format": {FORMAT},\n  "steps": {snapshot.steps},\n  "layers": {{\n{layers}\n  }}\n}}\n'


def read(text: str) -> Snapshot:
    """The snapshot that a text holds; `ValueError` if it holds none."""
    try:
        data: Any = json.loads(text)
        if data["format"] != FORMAT:
            raise ValueError(f"its format is {data['format']}, this version reads {FORMAT}")
        layers = {
            path: {kind: {name: float(value) for name, value in numbers.items()} for kind, numbers in kinds.items()}
            for path, kinds in data["layers"].items()
        }
        return Snapshot(int(data["steps"]), layers)
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"it is no snapshot: {error!r}") from None


def drifts(before: Snapshot, now: Snapshot, tolerance: float) -> Iterator[tuple[str, ...]]:
    """A row for each site that has drifted, is new or is gone, in forward order."""
    if before.steps != now.steps:
        yield ("steps", "", "", str(before.steps), str(now.steps), "")
    largest = _largest(before.layers)
    for path in dict.fromkeys([*now.layers, *before.layers]):
        old, new = before.layers.get(path, {}), now.layers.get(path, {})
        for kind in dict.fromkeys([*new, *old]):
            if kind not in old or kind not in new:
                yield (path, kind, "", "-" if kind not in old else "there", "-" if kind not in new else "there", "")
            else:
                yield from _moved(path, kind, old[kind], new[kind], tolerance, NOISE * largest.get(kind, 0.0))


def _complaint(path: Path, now: Snapshot, tolerance: float) -> str:
    """What is wrong with the snapshot in a file; "" if nothing is."""
    shown = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    if not path.exists():
        return f"there is no snapshot {shown}: write it with `{RENEW}`, look at it, and commit it"
    try:
        before = read(path.read_text(encoding="utf-8"))
    except ValueError as error:
        return f"the snapshot {shown} cannot be read: {error}\nWrite it anew with `{RENEW}`"
    rows = list(drifts(before, now, tolerance))
    if not rows:
        return ""
    places = {row[:2] for row in rows}
    total = sum(len(kinds) for kinds in now.layers.values())
    head = f"{len(places)} of {total} sites have drifted by more than {100 * tolerance:g} % from the snapshot {shown}"
    more = [f"    and {len(rows) - MOST_ROWS} more"] if len(rows) > MOST_ROWS else []
    return "\n".join(
        [head, "", *(f"    {line}" for line in aligned([HEADING, *rows[:MOST_ROWS]], 3)), *more, "", MEANT]
    )


def _moved(
    path: str, kind: str, old: Numbers, new: Numbers, tolerance: float, noise: float
) -> Iterator[tuple[str, ...]]:
    """A row for the statistic of a site that has drifted most, if one has."""
    rms = abs(old.get(Statistic.RMS, 0.0))
    found: list[tuple[float, tuple[str, ...]]] = []
    for name in (each.value for each in STATISTICS):
        before, now = old.get(name, nan), new.get(name, nan)
        unit = rms if name in (Statistic.MEAN, Statistic.STD) else abs(before)
        same = before == now or (isnan(before) and isnan(now))
        if not same and not abs(now - before) <= max(tolerance * unit, noise):
            share = (now - before) / unit if unit and isfinite(now - before) else inf
            numbers = (f"{before:.{DIGITS - 1}e}", f"{now:.{DIGITS - 1}e}", f"{share:+.1%}" if isfinite(share) else "")
            found.append((abs(share), (path, kind, name, *numbers)))
    if found:
        yield max(found)[1]


def _largest(layers: Layers) -> dict[str, float]:
    """The largest root mean square of each kind."""
    table: dict[str, float] = {}
    for kinds in layers.values():
        for kind, numbers in kinds.items():
            rms = numbers.get(Statistic.RMS, 0.0)
            table[kind] = max(table.get(kind, 0.0), rms if isfinite(rms) else 0.0)
    return table


def _plain(numbers: Numbers) -> dict[str, float | str]:
    """Numbers as JSON has them: it knows neither NaN nor Inf."""
    return {name: value if isfinite(value) else str(value) for name, value in numbers.items()}


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


def _safe(name: str) -> str:
    """A name that any file system takes; what was changed leaves a mark that tells like names apart."""
    plain = re.sub(r"[^\w.\[\]=,+-]", "_", name)
    if plain == name and len(name) <= LONGEST_NAME:
        return name
    return f"{plain[:LONGEST_NAME]}-{sha256(name.encode()).hexdigest()[:8]}"
