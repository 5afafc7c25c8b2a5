"""What `gradscope run` was asked to watch, as data that also reaches the processes that the program starts."""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Self


@dataclass(frozen=True)
class Options:
    """See `gradscope.watching.watch_everything`; `select` are names of analyzers, None for all."""

    every: int | None = None
    budget: float = 0.02
    ignore: tuple[str, ...] = ()
    select: tuple[str, ...] | None = None
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
        for key in ("ignore", "select"):
            given[key] = None if given[key] is None else tuple(given[key])
        return cls(**given)
