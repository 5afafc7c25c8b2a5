"""The processes that a program starts through multiprocessing: they are watched too, and leave their reports behind.

A spawned process reads what its parent has prepared for it before it does anything else. We add one entry to that,
whose reading calls `begin` here. A forked one is told by multiprocessing itself. Both write their reports when
multiprocessing ends them in order, as one file for each process.
"""

import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from secrets import token_hex
from tempfile import gettempdir
from typing import TYPE_CHECKING, Any

from gradscope.running.arrival import when_imported
from gradscope.running.options import Options
from gradscope.running.watch import Watch

if TYPE_CHECKING:
    from gradscope.findings import Report

ENTRY = "gradscope"
_SUMMONS = """
try:
    from gradscope.running.workers import begin
    begin({folder!r}, {options!r})
except Exception:
    pass
"""
LAST = -1000  # of multiprocessing's priorities: when the process has nothing else to do

_current: "Workers | None" = None
_told_of_forks: list[bool] = []


class Summons:
    """Read in another process, it begins to watch there; if that fails, the process goes on as if it had not."""

    def __init__(self, folder: Path, options: Options) -> None:
        self._code = _SUMMONS.format(folder=str(folder), options=options.dumps())

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return exec, (self._code,)


class Workers:
    """The children of this process, and theirs."""

    def __init__(self, folder: Path, options: Options, watch: Watch) -> None:
        self.folder = folder
        self._options = options
        self._watch = watch
        self._process = os.getpid()
        self._undo: list[Callable[[], None]] = []

    def start(self) -> None:
        """Have each process that is started from now on watched."""
        global _current  # noqa: PLW0603  the process has one
        _current = self
        if not _told_of_forks and hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=_forked)  # cannot be taken back
            _told_of_forks.append(True)
        self._undo.append(when_imported("multiprocessing.spawn", self._prepare))
        self._undo.append(when_imported("multiprocessing.util", self._expect))

    def stop(self) -> None:
        """Watch no further ones."""
        global _current  # noqa: PLW0603  as above
        _current = None
        while self._undo:
            self._undo.pop()()

    def copied(self) -> None:
        """This is a fork: what was watched is watched by the parent."""
        self._watch.abandon()

    def _prepare(self) -> None:
        """Add our entry to what a spawned process reads first."""
        from multiprocessing import spawn

        original = spawn.get_preparation_data

        def prepared(name: str) -> dict[str, Any]:
            data = original(name)
            if _current is self:
                data[ENTRY] = Summons(self.folder, self._options)
            return data

        spawn.get_preparation_data = prepared
        self._undo.append(lambda: setattr(spawn, "get_preparation_data", original))

    def _expect(self) -> None:
        """Ask multiprocessing to tell in each process that it forks."""
        from multiprocessing import util

        util.register_after_fork(self, Workers._begin_in_fork)

    def _begin_in_fork(self) -> None:
        if _current is self and self._process != os.getpid():
            _watch_worker(self.folder, self._options)


def begin(folder: str, options: str) -> None:
    """In a spawned process, before it has imported anything of the program's: watch it, and its own children."""
    _watch_worker(Path(folder), Options.loads(options))


def folder_for_reports() -> Path:
    """A folder for the reports of other processes, which the first of them makes: most programs have none."""
    return Path(gettempdir()).absolute() / f"gradscope-{token_hex(8)}"


def collect(folder: Path) -> "Iterator[tuple[str, dict[str, Report], tuple[str, ...]]]":
    """Of each process that has left something: its name, its reports and its notes."""
    from gradscope.exchange import from_dict

    try:
        for file in sorted(folder.glob("*.json"), key=lambda file: file.stat().st_mtime_ns):
            left = json.loads(file.read_text("ascii"))
            reports = {name: from_dict(report) for name, report in left["models"].items()}
            yield left["process"], reports, tuple(left["notes"])
    except (OSError, ValueError, KeyError) as error:
        yield "another process", {}, (f"what it trained: {error!r}",)


def _watch_worker(folder: Path, options: Options) -> None:
    from multiprocessing import util
    from multiprocessing.process import current_process

    watch = Watch(options.below(f"process-{os.getpid()}"))
    workers = Workers(folder, options, watch)

    def leave() -> None:
        workers.stop()
        _leave(watch, folder, current_process().name)

    def at_the_end(_: object) -> None:
        util.Finalize(None, leave, exitpriority=LAST)

    at_the_end(None)
    util.register_after_fork(workers, at_the_end)  # a fork server's child forgets all finalizers, and then tells us
    watch.start()
    workers.start()


def _leave(watch: Watch, folder: Path, process: str) -> None:
    """Write what was found, if anything was trained."""
    try:
        error = sys.exc_info()[1]
        summary = watch.end(error.__context__ if isinstance(error, SystemExit) else error)
        if not summary.trained:
            return
        from gradscope.exchange import to_dict

        models = {name: to_dict(report) for name, report in summary.trained.items()}
        text = json.dumps({"process": process, "models": models, "notes": list(summary.notes)})
        folder.mkdir(mode=0o700, exist_ok=True)
        draft = folder / f"{os.getpid()}.draft"
        draft.write_text(text, "ascii")
        draft.replace(draft.with_suffix(".json"))
    except Exception:  # noqa: BLE001, S110  there is nobody to tell, and the process ends as it would have
        pass


def _forked() -> None:
    global _current  # noqa: PLW0603  as above
    workers, _current = _current, None
    if workers is not None:
        workers.copied()
        _current = workers  # whom multiprocessing may ask to begin anew
