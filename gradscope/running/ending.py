"""How a program ended: its exit status, and its uncaught exception, shown as Python shows it."""

import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from gradscope.errors import ProgramNotFound

_OURS = str(Path(__file__).parents[1])


@dataclass(frozen=True)
class Ending:
    """The end of a program: an exit status as Python would have given, and the exception that was not caught."""

    status: int = 0
    error: BaseException | None = None

    def leave(self, status: int) -> int:
        """The status to exit with. After an interrupt, the exception that makes Python die of it."""
        if not isinstance(self.error, KeyboardInterrupt):
            return status
        sys.excepthook = _silent  # the exception has been shown
        raise KeyboardInterrupt


def ending_of(run: Callable[[], None]) -> Ending:
    """Run a program, and show the exception that it does not catch."""
    try:
        run()
    except SystemExit as stop:
        return Ending(_status(stop.code))
    except ProgramNotFound:
        raise
    except BaseException as error:  # noqa: BLE001  Python shows all of them
        _show(error)
        return Ending(128 + signal.SIGINT if isinstance(error, KeyboardInterrupt) else 1, error)
    return Ending()


def _status(code: object) -> int:
    if code is None:
        return 0
    if isinstance(code, int):
        return code
    print(code, file=sys.stderr)
    return 1


def _show(error: BaseException) -> None:
    error.__traceback__ = _theirs(error.__traceback__)
    sys.excepthook(type(error), error, error.__traceback__)


def _theirs(traceback: TracebackType | None) -> TracebackType | None:
    """A traceback without frames of ours."""
    theirs = [each for each in _chain(traceback) if not each.tb_frame.f_code.co_filename.startswith(_OURS)]
    following = None
    for each in reversed(theirs):
        each.tb_next = following
        following = each
    return following


def _chain(traceback: TracebackType | None) -> Iterator[TracebackType]:
    while traceback is not None:
        yield traceback
        traceback = traceback.tb_next


def _silent(_kind: type[BaseException], _error: BaseException, _traceback: TracebackType | None) -> None:
    pass
