"""The user's line: the innermost frame on the stack that is neither torch's, ours, nor another library's."""

import os
import sys
import sysconfig
from functools import cache
from types import FrameType

from gradscope.traces import Location

_OURS = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_LIBRARIES = tuple(
    os.path.realpath(sysconfig.get_path(name)) + os.sep for name in ("stdlib", "platstdlib", "purelib", "platlib")
)


@cache
def is_users(file: str) -> bool:
    """Whether a code file belongs to the user's program rather than to a library."""
    if file.startswith("<frozen"):
        return False
    path = os.path.realpath(file)
    return not path.startswith((_OURS, *_LIBRARIES)) and f"{os.sep}site-packages{os.sep}" not in path


def user_frame(frame: FrameType | None = None) -> FrameType | None:
    """The innermost frame of the user's program at or above `frame`; None when there is none."""
    frame = frame or sys._getframe(1)
    while frame is not None and not is_users(frame.f_code.co_filename):
        frame = frame.f_back
    return frame


def location(frame: FrameType | None, line: int | None = None) -> Location | None:
    """Where a frame is, with its file relative to the working directory when it lies below it."""
    if frame is None:
        return None
    code = frame.f_code
    return Location(_shown(code.co_filename), line or frame.f_lineno, code.co_name)


def user_location() -> Location | None:
    """The user's line that led here."""
    return location(user_frame(sys._getframe(1)))


@cache
def _shown(file: str) -> str:
    here = os.getcwd() + os.sep
    return file.removeprefix(here)
