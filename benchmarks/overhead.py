"""What watching costs: the time of a step, watched in many ways, as a ratio to the bare step. `make bench`.

docs/cost.md says how it is measured, and holds the table of a whole run, which takes about 25 minutes.
"""

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from typing import TypeVar

import torch
from threadpoolctl import threadpool_limits

from benchmarks.cost import PAGE, Figures, machine, table, written
from benchmarks.peers import PEERS
from benchmarks.timing import (
    Figure,
    Program,
    Way,
    bare_seconds,
    in_turns,
    keep_memory,
    steadily,
    total,
    turns_of,
    wholly,
)
from benchmarks.ways import IN_TURNS, STEADY, WHOLE
from benchmarks.workloads import WORKLOADS, Workload

ENOUGH_SECONDS = 8.0
WATCHED_TO_A_BARE = 3  # in whole runs of slow models, which take minutes
BLOCK_SECONDS = 1.0
TURN_SECONDS = 0.5

Named = TypeVar("Named", Way, Workload)

ALL: tuple[Way, ...] = (*STEADY[:3], *WHOLE, *STEADY[3:], *IN_TURNS, *(peer.way for peer in PEERS))


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the table, and write it when told to."""
    options = _options(arguments)
    torch.set_num_threads(options.threads)
    threadpool_limits(options.threads)  # numpy's, which histograms are made with
    keep_memory()
    for line in absent():
        print(line)
    results: dict[str, Figures] = {}
    bare: dict[str, float] = {}
    for workload in chosen(WORKLOADS, options.only):
        program = Program(workload)
        bare[workload.name] = bare_seconds(program)
        print(f"{workload.name}: bare step {1000 * bare[workload.name]:.1f} ms", flush=True)
        results[workload.name] = measured(program, bare[workload.name], options)
    sizes = f"At most {options.pairs} blocks, {options.rounds} rounds, runs of {options.steps} steps."
    shown = f"{machine(options.threads)} {sizes}\n\n{table(results, bare, ALL)}"
    print(f"\n{shown}", end="")
    if options.write:
        PAGE.write_text(written(PAGE.read_text(encoding="utf-8"), f"\n{shown}\n"), encoding="utf-8")


def _options(arguments: Sequence[str] | None) -> Namespace:
    parser = ArgumentParser(description="Time a step, watched in many ways, as a ratio to the bare step.")
    parser.add_argument("--pairs", type=int, default=40, help="most blocks of a second, each with as many bare steps")
    parser.add_argument(
        "--rounds", type=int, default=3, help="blocks of the ways that take turns: other tools and such"
    )
    parser.add_argument("--steps", type=int, default=500, help="steps of a run with the default budget")
    parser.add_argument("--threads", type=int, default=1, help="threads that torch uses")
    parser.add_argument("--only", nargs="*", default=[], metavar="TEXT", help="workloads whose name holds the text")
    parser.add_argument("--ways", nargs="*", default=[], metavar="TEXT", help="ways whose name holds the text")
    parser.add_argument("--write", action="store_true", help=f"write the table into docs/{PAGE.name}")
    return parser.parse_args(arguments)


def absent() -> list[str]:
    """A line for each tool that is not installed."""
    return [
        f"{peer.name} is left out: {peer.package} is not installed (pip install -r benchmarks/requirements.txt)"
        for peer in PEERS
        if not peer.version
    ]


def chosen(candidates: Sequence[Named], texts: Sequence[str]) -> list[Named]:
    """Those whose name holds one of the texts; all when there are no texts."""
    return [each for each in candidates if not texts or any(text.lower() in each.name.lower() for text in texts)]


def measured(program: Program, bare: float, options: Namespace) -> dict[str, Figure]:
    """The figure of every way, said as soon as it is known."""
    found: dict[str, Figure] = {}
    for way in chosen(STEADY, options.ways):
        found[way.name] = _said(way.name, steadily(program, way, turns_of(bare), BLOCK_SECONDS, options.pairs))
    for way in chosen(WHOLE, options.ways):
        runs = max(1, round(ENOUGH_SECONDS / (options.steps * bare)))
        turns = turns_of(bare, WATCHED_TO_A_BARE)
        wholly(program, way, turns, 1)  # a process loads the modules that a way needs once, not in each run
        parts = [part for _ in range(runs) for part in wholly(program, way, turns, options.steps)]
        found[way.name] = _said(way.name, total(parts), f"{runs} x {options.steps} steps; {program.report()}")
    others = [*IN_TURNS, *(peer.way for peer in PEERS if peer.version)]
    for name, figure in in_turns(program, chosen(others, options.ways), options.rounds, TURN_SECONDS).items():
        found[name] = _said(name, figure)
    return found


def _said(name: str, figure: Figure, remark: str = "") -> Figure:
    print(f"  {name}: {figure}, {remark or f'{figure.steps} steps'}", flush=True)
    return figure


if __name__ == "__main__":
    main()
