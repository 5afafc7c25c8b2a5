"""One `gradscope run`: the program, what watches it, and what is told and written when it has ended."""

import os
import sys
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from shutil import rmtree
from typing import TYPE_CHECKING

from gradscope.running.ending import Ending, ending_of
from gradscope.running.live import Live, live
from gradscope.running.options import Options
from gradscope.running.programs import Program
from gradscope.running.ranks import Rank
from gradscope.running.watch import Watch
from gradscope.running.workers import Workers, collect, folder_for_reports

if TYPE_CHECKING:
    from gradscope.summary import Summary

FOUND = 3


@dataclass(frozen=True)
class Wishes:
    """What to make of the findings.

    Attributes:
        json: a file for the report as JSON.
        html: a file for the report as a page of HTML.
        fail_on: the least severity that makes a program fail which has succeeded; "never" for none.
    """

    json: str | None = None
    html: str | None = None
    fail_on: str = "never"


def run(program: Program, options: Options, wishes: Wishes) -> int:
    """Run a program, watched, and tell what was found on standard error. Returns the exit status.

    Raises:
        ProgramNotFound: there is no such program.
        KeyboardInterrupt: the program was interrupted; it has been shown, and Python is to die of it.
    """
    program.check()
    rank = Rank.of(os.environ)
    wishes = _absolute(wishes, rank)
    options = options.below(f"rank-{rank.number}" if rank is not None and rank.number else "")
    line = live() if rank is None or not rank.number else None
    watch = Watch(options, line.show if line is not None else None)
    workers = Workers(folder_for_reports(), options, watch)
    try:
        watch.start()
        workers.start()
        ending = ending_of(program.run)
        if not watch.is_ours:  # a fork that came back here instead of leaving
            return ending.leave(ending.status)
        return ending.leave(_told(watch, workers, ending, rank, wishes, line))
    finally:
        workers.stop()
        if watch.is_ours:
            rmtree(workers.folder, ignore_errors=True)


def _told(watch: Watch, workers: Workers, ending: Ending, rank: Rank | None, wishes: Wishes, line: Live | None) -> int:
    """Tell what was found. Nothing that goes wrong in here changes the program's exit status."""
    from gradscope.findings import Severity

    try:
        if line is not None:
            line.close()
        summary = _whole(watch.end(ending.error), workers.folder)
        told = summary if rank is None else rank.agree(summary)
        if told is not None:
            if rank is not None and rank.number:
                print(f"gradscope: rank {rank.number} has found what rank 0 has not:", file=sys.stderr)
            _tell(told, wishes)
    except Exception as error:  # noqa: BLE001  the program has ended, and its status is what counts
        print(f"gradscope: there is no report: {error!r}", file=sys.stderr)
        return ending.status
    least = None if wishes.fail_on == "never" else Severity(wishes.fail_on)
    return FOUND if not ending.status and summary.reaches(least) else ending.status


def _whole(summary: "Summary", folder: Path) -> "Summary":
    """With what other processes have found."""
    reports, notes = dict(summary.reports), list(summary.notes)
    for process, models, more in collect(folder):
        for name, report in models.items():
            reports[_unused(f"{name} in {process}", reports)] = report
        notes += [f"in {process}: {note}" for note in more]
    return replace(summary, reports=reports, notes=tuple(dict.fromkeys(notes)))


def _unused(name: str, taken: Collection[str]) -> str:
    number = 1
    while (unused := f"{name} ({number})" if number > 1 else name) in taken:
        number += 1
    return unused


def _tell(summary: "Summary", wishes: Wishes) -> None:
    from gradscope.reports import html, json
    from gradscope.reports.terminal import show

    if sys.stderr is not None:
        sys.stdout.flush()
        show(summary, sys.stderr)
    if wishes.json is not None:
        _write(wishes.json, json.dumps(summary) + "\n")
    if wishes.html is not None:
        _write(wishes.html, html.page(summary, f"gradscope: {Path(sys.argv[0]).name}"))


def _write(file: str, text: str) -> None:
    try:
        Path(file).write_text(text, "utf-8")
    except OSError as error:
        print(f"gradscope: the report could not be written to {file}: {error.strerror}", file=sys.stderr)


def _absolute(wishes: Wishes, rank: Rank | None) -> Wishes:
    """Files lie where they lay when the program began, and each rank has its own."""

    def placed(file: str | None) -> str | None:
        return None if file is None else str(Path(file if rank is None else rank.path(file)).absolute())

    return replace(wishes, json=placed(wishes.json), html=placed(wishes.html))
