"""Under torchrun each rank is a process of its own: the first one reports, others only what it has not found.

The ranks of one machine share a folder that is named after the process that started them. Rank 0 leaves there what
it has found; another rank that has found something waits for that, a while.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree
from tempfile import gettempdir
from time import monotonic, sleep
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gradscope.summary import Summary

PATIENCE = 20.0
PAUSE = 0.05


@dataclass(frozen=True)
class Rank:
    """One of several processes that train together.

    Attributes:
        number: among all.
        local_world: how many there are on this machine.
        folder: what the ranks of this machine share.
    """

    number: int
    local_world: int
    folder: Path

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> "Rank | None":
        """What torchrun says in the environment; None where it does not, or where there is one rank only."""
        try:
            number, world = int(environment["RANK"]), int(environment["WORLD_SIZE"])
            local_world = int(environment.get("LOCAL_WORLD_SIZE", world))
        except (KeyError, ValueError):
            return None
        if world < 2:  # noqa: PLR2004  nobody to compare with
            return None
        restarts = environment.get("TORCHELASTIC_RESTART_COUNT", "0")
        name = f"gradscope-{_user()}-{os.getppid()}-{environment.get('MASTER_PORT', '')}-{restarts}"
        return cls(number, local_world, Path(gettempdir()) / name)

    def path(self, file: str) -> str:
        """Where this rank writes what was to be written to a file: rank 0 there, others next to it."""
        if not self.number:
            return file
        path = Path(file)
        return str(path.with_name(f"{path.stem}.rank{self.number}{path.suffix}"))

    def agree(self, summary: "Summary") -> "Summary | None":
        """What this rank has to tell; None when that is nothing."""
        try:
            return self._agree(summary)
        except (OSError, ValueError):  # told twice is better than not at all
            return summary
        finally:
            self._leave()

    def _agree(self, summary: "Summary") -> "Summary | None":
        from gradscope.summary import key

        self.folder.mkdir(mode=0o700, exist_ok=True)
        if not self.number:
            draft = self.folder / "found.draft"
            draft.write_text(json.dumps([key(finding) for finding, _ in summary.findings]), "ascii")
            draft.replace(self._found)
            return summary
        if not summary.findings:
            return None
        end = monotonic() + PATIENCE
        while not self._found.exists() and monotonic() < end:
            sleep(PAUSE)
        known = json.loads(self._found.read_text("ascii")) if self._found.exists() else []
        new = summary.without(tuple(entry) for entry in known)
        return new if new.findings else None

    @property
    def _found(self) -> Path:
        return self.folder / "found.json"

    def _leave(self) -> None:
        """Of the ranks of this machine, the last one to leave removes the folder."""
        try:
            (self.folder / f"{self.number}.left").touch()
            if len(list(self.folder.glob("*.left"))) >= self.local_world:
                rmtree(self.folder, ignore_errors=True)
        except OSError:
            pass


def _user() -> str:
    return str(os.getuid()) if hasattr(os, "getuid") else os.environ.get("USERNAME", "")
