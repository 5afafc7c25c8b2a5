"""What `make bench` has measured, as a table next to its targets, and on its page."""

import os
import platform
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeAlias

import torch

import gradscope
from benchmarks.peers import PEERS
from benchmarks.timing import Figure, Way
from benchmarks.ways import BETWEEN, DEFAULT, FULL, LOGDIR

PAGE = Path(__file__).parent.parent / "docs" / "cost.md"
MEASURED = re.compile(r"(?<=<!-- measured: begin -->\n).*(?=<!-- measured: end -->)", re.DOTALL)

TARGETS: dict[str, dict[str, float]] = {
    FULL.name: {"ResNet-18": 1.05, "GPT-2": 1.05, "MLP": 1.12},
    BETWEEN.name: dict.fromkeys(("ResNet-18", "GPT-2", "MLP"), 1.01),
    DEFAULT.name: dict.fromkeys(("ResNet-18", "GPT-2", "MLP"), 1.02),
}
LOGDIR_ABOVE_DEFAULT = 0.005

Figures: TypeAlias = Mapping[str, Figure]


def limit(way: str, workload: str, figures: Figures) -> float | None:
    """The highest ratio that meets the target, if there is one."""
    if way == LOGDIR.name and workload in TARGETS[DEFAULT.name] and DEFAULT.name in figures:
        return round(figures[DEFAULT.name].ratio, 3) + LOGDIR_ABOVE_DEFAULT
    return TARGETS.get(way, {}).get(workload)


def verdict(way: str, workload: str, figures: Figures) -> str:
    """Whether the target is met, to the digits that are shown; empty when there is none."""
    highest = limit(way, workload, figures)
    if highest is None:
        return ""
    return "met" if round(figures[way].ratio, 3) <= round(highest, 3) else "**missed**"


def target(way: str, workloads: Iterable[str]) -> str:
    """The targets of a row, in words."""
    if way == LOGDIR.name:
        return f"default + {LOGDIR_ABOVE_DEFAULT}"
    limits = [TARGETS.get(way, {}).get(workload) for workload in workloads]
    shown = [f"{highest:.2f}" for highest in limits if highest is not None]
    return " / ".join([shown[0]] if len(set(shown)) == 1 else shown)


def table(results: Mapping[str, Figures], bare: Mapping[str, float], ways: Sequence[Way]) -> str:
    """One row a way, one column a workload, in Markdown."""
    names = list(results)
    rows = [["", "target", *names, "steps"]]
    rows.append(["bare step", "", *(f"{1000 * bare[name]:.1f} ms" for name in names), ""])
    for way in ways:
        counts = [str(results[name][way.name].steps) if way.name in results[name] else "-" for name in names]
        if set(counts) != {"-"}:
            cells = [cell(way.name, name, results[name]) for name in names]
            rows.append([way.name, target(way.name, names), *cells, " / ".join(counts)])
    return markdown(rows)


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """A table, its first row the head."""
    lines = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def cell(way: str, workload: str, figures: Figures) -> str:
    """One ratio with its quartiles, and whether it meets its target."""
    if way not in figures:
        return "-"
    return ", ".join(filter(None, (str(figures[way]), verdict(way, workload, figures))))


def machine(threads: int) -> str:
    """What was measured on, and with what."""
    peers = ", ".join(f"{peer.package} {peer.version}" for peer in PEERS if peer.version)
    return (
        f"{_processor()}, {os.cpu_count()} cores, {threads} thread{'s' * (threads != 1)} used; "
        f"{platform.system()} {platform.release().partition('-')[0]}; "
        f"Python {platform.python_version()}; torch {torch.__version__}; "
        f"gradscope {gradscope.__version__}; {f'{peers}; ' if peers else ''}{datetime.now(UTC):%Y-%m-%d}."
    )


def written(page: str, measured: str) -> str:
    """The page with this between its markers.

    Raises:
        ValueError: the page has no markers.
    """
    if not MEASURED.search(page):
        raise ValueError("the page has no <!-- measured: begin --> and <!-- measured: end -->")
    return MEASURED.sub(lambda _: measured, page)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{named[0] if named else platform.processor() or 'unknown processor'} ({platform.machine()})"
