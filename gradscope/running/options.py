"""What `gradscope run` was asked to watch, as data that also reaches the processes that the program starts."""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Self

from gradscope.settings import Settings


@dataclass(frozen=True)
class Options:
    """See `gradscope.watching.watch_everything`; `settings` are those of the project and of the command line."""

    every: int | None = None
    budget: float = 0.02
    settings: tuple[Settings, ...] = ()
    logdir: str | None = None

    def below(self, folder: str) -> Self:
        """The same, but written to a folder below the log directory."""
        return self if self.logdir is None else replace(self, logdir=str(Path(self.logdir).absolute() / folder))

    def dumps(self) -> str:
        """As text."""
        return json.dumps(asdict(self))

    @classmethod
    def loads(cls, text: str) -> Self:
        """What `dumps` has made text of."""
        given = json.loads(text)
        return cls(**{**given, "settings": tuple(map(Settings.read, given["settings"]))})
