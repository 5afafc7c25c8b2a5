"""A callback for the Trainer of Transformers."""

import inspect
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

from gradscope.trainers import WatchedRuns

if TYPE_CHECKING:
    from torch import nn
    from transformers import TrainerControl, TrainerState, TrainingArguments

# The trainer tells its callbacks of no exception, so one of these methods is listened to: the first that there is.
PARTS = ("_run_epoch", "training_step")


class GradScopeCallback(WatchedRuns, TrainerCallback):
    """Watches each `train()` and prints the report when it ends: `Trainer(..., callbacks=[GradScopeCallback()])`.

    In a distributed run each process watches its own copy, and the first one writes and prints.
    The arguments are those of `WatchedRuns`.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._leave: Callable[[], object] = _nothing

    def on_train_begin(
        self,
        args: "TrainingArguments",  # noqa: ARG002
        state: "TrainerState",
        control: "TrainerControl",  # noqa: ARG002
        *,
        model: "nn.Module",
        **_: Any,
    ) -> None:
        """The model is on its device, and restored from a checkpoint where there is one: begin to watch."""
        self._leave()
        self._begin(model, main=state.is_world_process_zero).on_rival = self.on_train_end
        self._leave = _listen(_caller(self), self._failed)

    def on_train_end(self, *_: Any, **__: Any) -> None:
        """Training has ended by itself."""
        self._leave()
        try:
            self._end()
        finally:
            self._tell()

    def _failed(self, error: BaseException) -> None:
        """Training has ended in an exception, or by Ctrl-C."""
        self._leave()
        self._end(error)
        self._tell()

    def __getstate__(self) -> dict[str, Any]:
        """A copy listens to nobody."""
        return {**super().__getstate__(), "_leave": _nothing}


def _caller(callback: TrainerCallback) -> Any:
    """The trainer that calls this callback: it is not among the arguments."""
    frame = inspect.currentframe()
    while frame is not None:
        caller = frame.f_locals.get("self")
        if callback in getattr(getattr(caller, "callback_handler", None), "callbacks", ()):
            return caller
        frame = frame.f_back
    return None


def _listen(trainer: Any, tell: Callable[[BaseException], object]) -> Callable[[], object]:
    """Have `tell` called with what a part of the trainer raises. Returns what ends that, and leaves no trace."""
    name = next((name for name in PARTS if hasattr(trainer, name)), None)
    if name is None:
        return _nothing
    part, own = getattr(trainer, name), vars(trainer)
    before = {name: own[name]} if name in own else {}

    @wraps(part)
    def heard(*args: Any, **kwargs: Any) -> Any:
        try:
            return part(*args, **kwargs)
        except BaseException as error:
            tell(error)
            raise

    def leave() -> None:
        if own.get(name) is heard:
            del own[name]
            own.update(before)

    own[name] = heard
    return leave


def _nothing() -> None:
    """There is nothing to leave."""
