"""The user's autograd Functions, each checked by itself against finite differences, once.

The first call of each is remembered with copies of its arguments. Only what can be called again without anybody
noticing is called again; of the others a note says why not.
"""

import inspect
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from gradscope.derivatives import Outcome, compare
from gradscope.hooks.applied import is_torchs
from gradscope.hooks.frames import is_users
from gradscope.hooks.purity import impurity, is_plain
from gradscope.hooks.replay import Call, Replay, Shape, copied
from gradscope.hooks.statistics import PLAIN, out_of_sight
from gradscope.probes import TooSlow
from gradscope.traces import Location, Verification

MOST_FUNCTIONS = 16
MOST_ELEMENTS = 1 << 20
SECONDS = 2.0
PRECISIONS = (torch.float64, torch.float32)


@dataclass
class FunctionCalls:
    """Remembers the first call of each Function with an argument that needs a gradient.

    `seconds` is how long the checks of all of them may take together, `advice` what a note ends with.
    """

    seconds: float = SECONDS
    advice: str = "; try gradscope.verify"
    _calls: dict[type, Call | None] = field(default_factory=dict)
    _inner: dict[type, set[str]] = field(default_factory=dict)
    _more: bool = False

    def seen(
        self, function: type[Function], arguments: Sequence[Any], module: str, location: Location | None, step: int
    ) -> None:
        """A Function is being applied to these arguments."""
        if function in self._calls:
            return
        if is_torchs(function):
            self._calls[function] = None
        elif any(isinstance(each, Tensor) and each.requires_grad for each in arguments):
            self._remember(function, tuple(arguments), Call(function, (), module, location, step))

    def inner(self, function: type[Function], name: str) -> None:
        """A torch function of this name runs inside of its forward."""
        self._inner.setdefault(function, set()).add(name.strip("_"))

    def verify(self) -> tuple[list[Verification], list[str]]:
        """Check what was seen. Returns the results, and a note for each Function that could not be checked."""
        calls = [call for call in self._calls.values() if call is not None]
        deadline = perf_counter() + self.seconds
        results = [self._verified(call, deadline) for call in calls]
        self._calls.update(dict.fromkeys(self._calls))
        notes = [each for each in results if isinstance(each, str) and each]
        if self._more:
            notes.append(f"the gradients of only {MOST_FUNCTIONS} autograd Functions were verified")
        return [each for each in results if isinstance(each, Verification)], notes

    def _remember(self, function: type[Function], arguments: tuple[Any, ...], call: Call) -> None:
        if sum(known is not None for known in self._calls.values()) >= MOST_FUNCTIONS:
            self._more, self._calls[function] = True, None
            return
        obstacle = _obstacle(arguments) or impurity(function)
        with out_of_sight(), torch.no_grad():
            copies = () if obstacle else tuple(copied(each) for each in arguments)
        self._calls[function] = replace(call, arguments=copies, obstacle=obstacle)

    def _verified(self, call: Call, deadline: float) -> Verification | str:
        """The result, or why there is none."""
        obstacle = call.obstacle or _parallel()
        if obstacle:
            return self._note(call, obstacle)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return self._checked(call, deadline)
        except TooSlow:
            return self._note(call, "it takes too long")
        except Exception as error:  # noqa: BLE001  the user's code, called by us
            return self._note(call, f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}")

    def _checked(self, call: Call, deadline: float) -> Verification | str:
        known = frozenset(self._inner.get(call.function, ()))
        precision, outcome, returned = _compared(call, known, deadline)
        if outcome.unsure and not outcome.derivatives:
            return self._note(call, "it is not smooth, or computes in low precision")
        if not outcome.linear and not outcome.wrong:
            return self._note(
                call, "its backward does not multiply by the incoming gradient, which is right only where that is 1"
            )
        return Verification(
            function=call.function.__name__,
            module=call.module,
            step=call.step,
            location=call.location,
            dtype=str(precision).removeprefix("torch."),
            identity=outcome.identity,
            rounds=outcome.rounds,
            derivatives=tuple(replace(each, returned=returned.get(each.name)) for each in outcome.derivatives),
        )

    def _note(self, call: Call, reason: str) -> str:
        """Why one was not checked; nothing is said of other libraries' Functions."""
        code = getattr(inspect.unwrap(call.function.forward), "__code__", None)
        if code is not None and not is_users(code.co_filename):
            return ""
        return f"the gradients of {call.function.__name__} were not verified: {reason}{self.advice}"


def _compared(call: Call, known: frozenset[str], deadline: float) -> tuple[torch.dtype, Outcome, dict[str, Shape]]:
    """In double precision; in single where the Function cannot do that."""
    first: Exception | None = None
    for precision in PRECISIONS:
        if perf_counter() > deadline:
            raise TooSlow
        replay = Replay(call, precision)
        try:
            returned = replay.returned()
            misfit = replay.misfit(returned)
            outcome = misfit or compare(replay.run, replay.leaves, known=known, seconds=deadline - perf_counter())
        except TooSlow:
            raise
        except Exception as error:  # noqa: BLE001  raised again below, unless single precision helps
            first = first or error
        else:
            return precision, outcome, returned
    raise first or RuntimeError


def _parallel() -> str:
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return "it may talk to other processes"
    return ""


def _obstacle(arguments: Sequence[Any]) -> str:
    """Why arguments cannot be copied and given again; "" if they can."""
    if torch._C._functorch.maybe_current_level() is not None:
        return "it runs inside a transform"
    reasons = (_unsuitable(each) for each in _flat(arguments))
    large = sum(each.numel() for each in _flat(arguments) if isinstance(each, Tensor)) > MOST_ELEMENTS
    return next(filter(None, reasons), "its arguments are too large" if large else "")


def _flat(values: Sequence[Any]) -> Iterator[Any]:
    for value in values:
        if type(value) is tuple:
            yield from _flat(value)
        else:
            yield value


def _unsuitable(value: Any) -> str:
    if not isinstance(value, Tensor):
        return "" if is_plain(value) else f"an argument is of type {type(value).__name__} and may remember"
    if type(value) not in PLAIN or value.layout is not torch.strided or value.is_nested or value.is_quantized:
        return "an argument is no plain tensor"
    if value.device.type == "meta":
        return "an argument has no data"
    return "an argument is complex" if value.is_complex() and value.requires_grad else ""
