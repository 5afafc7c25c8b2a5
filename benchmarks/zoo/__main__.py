"""Runs the zoo and writes docs/zoo.md.

`python -m benchmarks.zoo` takes minutes and exits with 1 when anything is not as expected; `--only TEXT` runs the
programs whose name holds the text, and writes nothing; `--seeds N` runs each with so many seeds.
"""

import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

from benchmarks.zoo.expectations import Program, programs
from benchmarks.zoo.page import page, summary
from benchmarks.zoo.results import Results
from benchmarks.zoo.visits import visit
from gradscope.catalogue import known

PAGE = Path(__file__).parents[2] / "docs" / "zoo.md"


def tour(chosen: Sequence[Program], seeds: int) -> Results:
    """Run programs with each seed, and say of each what is not as expected."""
    results = Results(seeds=seeds)
    for program in chosen:
        if {expectation.analyzer for expectation in program.expected} - known().keys():
            results.unjudged.append(program)
            continue
        for seed in range(seeds):
            complaints = results.add(program, visit(program.file, seed))
            if complaints:
                print(f"{program.name} (seed {seed}): {'; '.join(complaints)}", flush=True)
    return results


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the zoo, write the page, and return 1 when anything is not as expected."""
    parser = ArgumentParser(description="Run the programs in zoo/, and hold what is found against what is expected.")
    parser.add_argument("--only", default="", metavar="TEXT", help="run those whose name holds TEXT; write nothing")
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="how many seeds (3)")
    chosen = parser.parse_args(arguments)
    results = tour([program for program in programs() if chosen.only in program.name], chosen.seeds)
    if not chosen.only:
        PAGE.write_text(page(results), encoding="utf-8")
    print(summary(results))
    return int(not results.as_expected)


if __name__ == "__main__":
    sys.exit(main())
