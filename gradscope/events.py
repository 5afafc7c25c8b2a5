"""What the training loop did in a step, as the hooks have seen it or inferred it. Frozen data, no torch."""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from gradscope.traces import Location


class EventKind(StrEnum):
    """What happened in the loop."""

    BACKWARD = "backward"
    STEP = "step"
    CHECKED = "checked"
    CLIPPED = "clipped"
    UNSCALED = "unscaled"
    CHANGED = "changed"
    LEAKED = "leaked"


@dataclass(frozen=True, slots=True)
class LoopEvent:
    """Something that the training loop did.

    A `step` event tells which of the optimizer's parameters it used wrongly: `reused` were not cleared
    since an earlier step used them, `cleared` were cleared after backward and before the step. Of `repeated` the
    optimizer's last step, and of `shared` another optimizer, had used the very gradient, and no backward ran since.
    `evaluating` are the modules that trained in evaluation mode, as far as the mode matters to them. A `checked`
    event stands before a step that would write NaN or Inf into the weights.
    `non_finite` is True when a sampled gradient held NaN or Inf; None when that is not known. `rate` is the lowest
    learning rate among the optimizer's groups in an observed step; None when there is none that is a plain number.
    """

    kind: EventKind
    location: Location | None = None
    optimizer: str = ""
    parameters: int = 0
    reused: tuple[str, ...] = ()
    cleared: tuple[str, ...] = ()
    non_finite: bool | None = None
    repeated: tuple[str, ...] = ()
    shared: tuple[str, ...] = ()
    evaluating: tuple[str, ...] = ()
    rate: float | None = None

    @property
    def stepper(self) -> str:
        """The optimizer that stepped, told from others of its class by how many parameters it holds."""
        return f"{self.optimizer} of {self.parameters}"

    @property
    def misused(self) -> bool:
        """Whether the step used gradients wrongly."""
        return bool(self.reused or self.cleared or self.repeated or self.shared)


@dataclass(frozen=True, slots=True, kw_only=True)
class Clipped(LoopEvent):
    """In a traced step torch's own function has clipped the gradients of these parameters to a limit.

    None of them: there was nothing to clip, for an iterator had come to its end before.
    """

    kind: EventKind = EventKind.CLIPPED
    gradients: tuple[str, ...] = ()
    limit: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Unscaled(LoopEvent):
    """In a traced step torch's own function has unscaled these parameters' gradients; `scale` is what it began with."""

    kind: EventKind = EventKind.UNSCALED
    gradients: tuple[str, ...] = ()
    scale: float | None = None


class Change(NamedTuple):
    """A gradient that was changed after the step had used it, and then thrown away: its norm and largest element."""

    parameter: str
    norm: float
    peak: float
    norm_after: float
    peak_after: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed(LoopEvent):
    """Gradients were changed too late. It stands in the step after the one that had used them."""

    kind: EventKind = EventKind.CHANGED
    changes: tuple[Change, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaked(LoopEvent):
    """An optimizer used, in the step `since`, `gradients` that the loss of the optimizer `rival` had left.

    `opposed` says that its own loss reached what the rival steps, too; else it is a loss of its own.
    """

    kind: EventKind = EventKind.LEAKED
    gradients: tuple[str, ...] = ()
    rival: str = ""
    since: int = 0
    opposed: bool = True
