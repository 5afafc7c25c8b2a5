"""The main job: watch digits.py learn, then plant each fault in turn and see whether it is named.

    python examples/demo.py

Exit status 1 when a fault is not the first thing in its report, or when the healthy program is given an
error or a warning, or learns less than 95 %.
"""

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from digits import FAULTS, HEALTHY, Outcome, run
from rich.console import Console
from rich.table import Table

import gradscope

LOGDIR = Path("runs/digits")
ENOUGH = 0.95


@dataclass(frozen=True)
class Row:
    """A line of the closing table."""

    program: str
    expected: str
    found: str
    where: str
    step: str
    right: bool


def main() -> int:
    """Run everything and return the exit status."""
    torch.set_num_threads(1)  # for layers this small, threads cost more than they save
    rows = [healthy_row(watch_program(None)), *(fault_row(fault, watch_program(fault)) for fault in FAULTS)]
    Console(width=None if sys.stdout.isatty() else 120).print(table(rows))
    print(f"Charts of all runs: tensorboard --logdir {LOGDIR}")
    return 0 if all(row.right for row in rows) else 1


def watch_program(fault: str | None) -> Outcome:
    """Run the healthy program, or one with a fault, and show its report."""
    name, program = fault or "healthy", FAULTS[fault] if fault else HEALTHY
    heading = f"{name}: {program.description}"
    print(f"{heading}\n{'-' * len(heading)}")
    # Faulty runs are so short that each step can be measured: the first NaN then has a place.
    outcome = run(fault, logdir=LOGDIR / name, every=1 if fault else None)
    if outcome.error:
        print(f"The program stopped with {type(outcome.error).__name__}: {outcome.error}\n")
    else:
        print(f"test accuracy {100 * outcome.accuracy:.1f} %\n")
    gradscope.show(outcome.report)
    print("\n")
    return outcome


def healthy_row(outcome: Outcome) -> Row:
    """Right when nothing is wrong with the program and it has learnt."""
    findings = outcome.report.findings
    found = findings[0].analyzer if findings else "no findings"
    right = outcome.report.healthy and outcome.accuracy >= ENOUGH
    return Row("healthy", "no findings", found, f"test accuracy {100 * outcome.accuracy:.1f} %", "", right)


def fault_row(fault: str, outcome: Outcome) -> Row:
    """Right when the first finding is the one that was planted."""
    expected, findings = FAULTS[fault].expected, outcome.report.findings
    if not findings:
        return Row(fault, expected, "no findings", "", "", right=False)
    first = findings[0]
    line = f"{Path(first.location.file).name}:{first.location.line}" if first.location else ""
    where = ", ".join(part for part in (first.where, line) if part)
    return Row(fault, expected, first.analyzer, where, str(first.step), first.analyzer == expected)


def table(rows: Iterable[Row]) -> Table:
    """The closing table; rows that are wrong stand out."""
    made = Table("program", "expected", "first finding", "where", "step", "verdict")
    for row in rows:
        verdict = "[green]ok[/]" if row.right else "[bold red]MISSED[/]"
        made.add_row(row.program, row.expected, row.found, row.where, row.step, verdict)
    return made


if __name__ == "__main__":
    raise SystemExit(main())
