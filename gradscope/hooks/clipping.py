"""Clipping and unscaling: seen in a traced step, by what torch's own functions for them call.

And what becomes of gradients after the step that used them: a few small ones are kept until the next backward.
"""

from collections.abc import Iterator
from dataclasses import replace
from types import FrameType
from typing import Any

from torch import Tensor
from torch.amp import grad_scaler
from torch.nn.utils import clip_grad

from gradscope.events import Changed, Clipped, Unscaled
from gradscope.hooks.copies import Saved, restored, save
from gradscope.hooks.frames import user_location
from gradscope.hooks.marks import version
from gradscope.hooks.observers import Observer
from gradscope.hooks.recorder import Recorder
from gradscope.hooks.registry import Indices, Registry
from gradscope.hooks.spelling import in_place
from gradscope.hooks.usage import Usage

CLIPPER, SCALER = clip_grad.__file__, grad_scaler.__file__
MOST = 16
SMALL = 4096


class Clipping:
    """Notes in the log of a traced step where gradients are clipped and unscaled, by torch's own functions."""

    def __init__(self, registry: Registry, recorder: Recorder) -> None:
        self._registry = registry
        self._recorder = recorder

    def saw(self, name: str, caller: FrameType, args: tuple[Any, ...]) -> None:
        """A torch function is called by `caller`."""
        file = caller.f_code.co_filename
        if file == SCALER and name.startswith("_amp_foreach_"):
            scaler = _local(caller, SCALER, "self")
            self._note(Unscaled(scale=_number(getattr(scaler, "_init_scale", None))), args[0])
        elif file == CLIPPER and args and in_place(name):
            gradients = args[0] if isinstance(args[0], list | tuple) else [args[0]]
            self._note(Clipped(limit=_limit(caller)), gradients)
        elif file == CLIPPER and name == "tensor":  # the norm of no gradient at all
            paths = self._given(caller)
            if paths or _is_used_up(caller):
                self._log(Clipped(limit=_limit(caller)), paths)

    def _given(self, caller: FrameType) -> list[str]:
        """Those of our parameters that a function for clipping was given."""
        given = _local(caller, CLIPPER, "parameters")
        known = {id(parameter) for parameter in given} if isinstance(given, list) else set()
        return [item.path for item in self._registry.parameters if id(item.parameter) in known]

    def _note(self, event: Clipped | Unscaled, gradients: Any) -> None:
        touched = {id(gradient) for gradient in gradients}
        paths = [item.path for item in self._registry.parameters if id(item.parameter.grad) in touched]
        if paths:  # else of another model
            self._log(event, paths)

    def _log(self, event: Clipped | Unscaled, paths: list[str]) -> None:
        place, log = user_location(), self._recorder.log
        last = log.events[-1][0] if log.events else None
        if isinstance(last, type(event)) and last.location == place:  # of another device, or in a loop
            log.events.pop()
            paths = [*dict.fromkeys((*last.gradients, *paths))]
        log.add_event(replace(event, location=place, gradients=tuple(paths)))


class Afterwards(Observer):
    """A few gradients that a step has used, as they were then, until the next backward begins.

    Whoever changes a gradient that is then thrown away has done so too late. Nothing is read unless one was changed.
    """

    def __init__(self, registry: Registry, recorder: Recorder) -> None:
        self._registry = registry
        self._recorder = recorder
        self._used: dict[str, tuple[Tensor, int, Saved]] = {}

    def step_observed(self, owned: Indices) -> None:
        """A step has used the gradients of these parameters."""
        every = -(-len(owned) // MOST) | 1  # odd: an even one would meet weights only, which are mostly large
        items = [self._registry.parameters[index] for index in owned[::every].tolist()]
        found = [(each.path, grad) for each in items if (grad := each.parameter.grad) is not None]
        small = [(path, gradient) for path, gradient in found if gradient.numel() <= SMALL]
        for (path, gradient), saved in zip(small, save([gradient for _, gradient in small]), strict=True):
            if saved is not None:
                self._used[path] = gradient, version(gradient), saved

    def rest_begins(self) -> None:
        """Nobody will look."""
        self._used.clear()

    def backward_begins(self) -> None:
        """Note which gradients were changed since they were used, and then thrown away."""
        used, self._used = self._used, {}
        if all(version(gradient) == seen for gradient, seen, _ in used.values()):
            return
        current = {item.path: item.parameter.grad for item in self._registry.parameters if item.path in used}
        gone = {path: held for path, held in used.items() if current.get(path) is not held[0]}
        if gone:
            measure = self._recorder.readback.measure_all
            values = [restored(saved, gradient) for gradient, _, saved in gone.values()]
            before = measure([value for value in values if value is not None])
            after = measure([gradient for gradient, _, _ in gone.values()])
            self._recorder.log.add_event(
                Changed(), Usage(changed=tuple(gone), before=tuple(before), after=tuple(after))
            )


def _limit(caller: FrameType) -> float | None:
    """The limit that the caller of a function for clipping has given it."""
    limit = _local(caller, CLIPPER, "max_norm")
    return _number(_local(caller, CLIPPER, "clip_value") if limit is None else limit)


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _is_used_up(caller: FrameType) -> bool:
    """Whether there was nothing to clip, because an iterator over the parameters had come to its end before."""
    outer = list(_frames(caller, CLIPPER))
    if not outer or _local(caller, CLIPPER, "parameters") != []:
        return False
    given = outer[-1].f_locals
    first = next(iter(given.get("args", ())), given.get("kwargs", {}).get("parameters"))
    return isinstance(first, Iterator)


def _local(caller: FrameType, file: str, name: str) -> object:
    """A variable of the innermost function in a file that is running and has it."""
    return next((frame.f_locals[name] for frame in _frames(caller, file) if name in frame.f_locals), None)


def _frames(frame: FrameType | None, file: str) -> Iterator[FrameType]:
    while frame is not None and frame.f_code.co_filename == file:
        yield frame
        frame = frame.f_back


FILES = frozenset({CLIPPER, SCALER})
