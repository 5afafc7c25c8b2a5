"""The user's line: the innermost frame on the stack that is neither torch's, ours, nor another library's."""

import linecache
import os
import sys
import sysconfig
from functools import cache
from itertools import islice
from types import CodeType, FrameType

import torch

from gradscope.hooks import stand_in
from gradscope.traces import Location

_OURS = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_TORCH = os.path.dirname(os.path.abspath(torch.__file__)) + os.sep
_LIBRARIES = tuple(
    os.path.realpath(sysconfig.get_path(name)) + os.sep for name in ("stdlib", "platstdlib", "purelib", "platlib")
)

Spot = tuple[CodeType, int, int]
_locations: dict[tuple[int, int], tuple[CodeType, Location]] = {}


@cache
def is_users(file: str) -> bool:
    """Whether a code file belongs to the user's program rather than to a library."""
    if file.startswith("<frozen"):
        return False
    path = os.path.realpath(file)
    return not path.startswith((_OURS, *_LIBRARIES)) and f"{os.sep}site-packages{os.sep}" not in path


def is_users_own(frame: FrameType) -> bool:
    """Whether a frame runs the user's program, and does not only stand in for it."""
    return is_users(frame.f_code.co_filename) and frame.f_code.co_name != stand_in.NAME


def user_frame(frame: FrameType | None = None) -> FrameType | None:
    """The innermost frame of the user's program at or above `frame`.

    Where there is none, the innermost of another library than torch; None when there is not even that.
    """
    start = frame = frame or sys._getframe(1)
    while frame is not None:
        if is_users_own(frame):
            return frame
        frame = frame.f_back
    frame = start
    while frame is not None and frame.f_code.co_filename.startswith((_OURS, _TORCH, "<frozen")):
        frame = frame.f_back
    return frame


def in_optimizer() -> bool:
    """Whether the step of an optimizer runs, of whatever library."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_name == "step" and isinstance(frame.f_locals.get("self"), torch.optim.Optimizer):
            return True
        frame = frame.f_back
    return False


def spot(frame: FrameType) -> Spot:
    """Where a frame is, as cheap as can be; `resolve` makes a location of it later."""
    return frame.f_code, frame.f_lasti, frame.f_lineno


def mention(frame: FrameType, text: str) -> Spot:
    """The last line with a text that ran before a frame's own, in its function or in those around; else its own."""
    here: FrameType | None = frame
    while here is not None and here.f_code.co_name != "<module>":
        code = here.f_code
        for line in range(here.f_lineno, code.co_firstlineno - 1, -1):
            if is_users(code.co_filename) and text in linecache.getline(code.co_filename, line):
                return code, -line, line
        here = here.f_back
    return spot(frame)


def resolve(place: Spot) -> Location:
    """The location, with its file relative to the working directory when it lies below it."""
    code, instruction, line = place
    known = _locations.get((id(code), instruction))
    if known is None or known[0] is not code:
        known = _locations[id(code), instruction] = code, _location(code, instruction, line)
    return known[1]


def location(frame: FrameType | None, line: int | None = None, instruction: int | None = None) -> Location | None:
    """Where a frame is, or was when it had reached that line and instruction."""
    if frame is None:
        return None
    code, now, current = spot(frame)
    return resolve((code, now if instruction is None else instruction, line or current))


def user_location() -> Location | None:
    """The user's line that led here."""
    return location(user_frame(sys._getframe(1)))


def _location(code: CodeType, instruction: int, line: int) -> Location:
    text = linecache.getline(code.co_filename, line).rstrip()
    source = text.lstrip()
    column, end = _columns(code, instruction, line, text)
    shift = len(text) - len(source)
    column, end = (column - shift, end - shift) if shift <= column < end else (0, 0)
    return Location(_shown(code.co_filename), line, code.co_name, source, column, end)


def _columns(code: CodeType, instruction: int, line: int, text: str) -> tuple[int, int]:
    """Where in its line the expression stands that an instruction belongs to, in characters; 0 and 0 if not known."""
    if instruction < 0:
        return 0, 0
    first, last, start, end = next(islice(code.co_positions(), instruction // 2, None), (None,) * 4)
    if first != line or start is None or end is None:
        return 0, 0
    encoded = text.encode()
    stop = len(encoded) if last != first else end
    return len(encoded[:start].decode(errors="replace")), len(encoded[:stop].decode(errors="replace"))


def _shown(file: str) -> str:
    here = os.getcwd() + os.sep
    return _cell(file) or file.removeprefix(here)


def _cell(file: str) -> str:
    """The cell of a notebook or of an interactive shell that was compiled under this name, as in "Cell In[3]"."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    named = getattr(getattr(shell, "compile", None), "format_code_name", lambda _: None)(file)
    return " ".join(named) if named else ""
