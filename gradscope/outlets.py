"""Where a run is written while it goes on, and what happens when that fails."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic
from typing import Protocol

from gradscope.findings import Finding
from gradscope.records import Recording

PERIOD = 1.0


class Sink(Protocol):
    """What takes a run as it grows."""

    def write(self, recording: Recording, findings: tuple[Finding, ...]) -> None:
        """Write what is new in a recording, and the findings if they changed."""

    def close(self) -> None:
        """The run is over."""


@dataclass
class Outlet:
    """One place to write to. `make` opens it, when there is something to write for the first time."""

    name: str
    make: Callable[[], Sink]
    sink: Sink | None = None

    def write(self, recording: Recording, findings: tuple[Finding, ...]) -> None:
        """Write what is new."""
        self.sink = self.sink or self.make()
        self.sink.write(recording, findings)

    def close(self) -> None:
        """The run is over."""
        if self.sink is not None:
            self.sink.close()


class Outlets:
    """All places that one run is written to, at most once in `PERIOD` seconds and at the end.

    One that cannot be written (a full disk, a server that is away) is told to `lose`, and not tried again.
    """

    def __init__(self, outlets: Iterable[Outlet], lose: Callable[[str], None]) -> None:
        self._outlets = list(outlets)
        self._lose = lose
        self._written = float("-inf")

    def write(self, recording: Recording, findings: tuple[Finding, ...]) -> None:
        """Write what is new, if it is time."""
        now = monotonic()
        if not (recording.complete or now >= self._written + PERIOD):
            return
        self._written = now
        for outlet in tuple(self._outlets):
            with self._guarded(outlet):
                outlet.write(recording, findings)

    def close(self) -> None:
        """The run is over."""
        for outlet in tuple(self._outlets):
            with self._guarded(outlet):
                outlet.close()

    @contextmanager
    def _guarded(self, outlet: Outlet) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # noqa: BLE001  no exception of ours reaches the user's loop
            self._lose(f"{outlet.name}: {error!r}")
            self._outlets.remove(outlet)
