"""Plays calls on a fused meter, here or in a process where Triton interprets the kernels.

Triton decides when it is imported whether it interprets, and other tests import it too. So the interpreter is a process
of its own, which runs this file as a script.
"""

import os
import pickle
import subprocess
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch

from gradscope.hooks.meters import fused
from gradscope.hooks.meters.fused import FusedMeter
from gradscope.records import Floats

CHUNK = fused.CHUNK

Call = tuple[str, Any]  # a method of the meter and its argument, or ("stream", number)


class Sending(NamedTuple):
    """What came of the calls between two sendings: their results, how many rows were used, and the rows."""

    results: list[Any]
    used: int
    rows: Floats


class Measure(Protocol):
    """Plays lists of calls on one meter, with a sending after each, and reads all when the last is on its way."""

    def __call__(self, *sendings: list[Call], chunk: int = CHUNK) -> list[Sending]: ...


def player(device: torch.device) -> Measure:
    """Plays calls in this process."""

    def play(*sendings: list[Call], chunk: int = CHUNK) -> list[Sending]:
        fused.CHUNK = chunk
        meter = FusedMeter(device)
        played = []
        for calls in sendings:
            results = [_perform(meter, name, argument, device) for name, argument in calls]
            played.append((results, meter.used, meter.send()))
        fused.CHUNK = CHUNK
        return [Sending(results, used, pending.read()) for results, used, pending in played]

    return play


def _perform(meter: FusedMeter, name: str, argument: Any, device: torch.device) -> Any:
    if name == "stream":
        return setattr(meter, "_stream", lambda: argument)
    if name == "measure":
        return meter.measure(argument.to(device))
    return meter.measure_all([flat.to(device) for flat in argument])


@contextmanager
def interpreter() -> Iterator[Measure]:
    """Plays calls on the CPU in a process that interprets."""
    with subprocess.Popen(
        [sys.executable, __file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"TRITON_INTERPRET": "1"},
        cwd=Path(fused.__file__).parents[3],
    ) as process:
        questions, answers = process.stdin, process.stdout
        assert questions is not None
        assert answers is not None

        def play(*sendings: list[Call], chunk: int = CHUNK) -> list[Sending]:
            pickle.dump((sendings, chunk), questions)
            questions.flush()
            answer = pickle.load(answers)
            assert not isinstance(answer, str), answer
            return [Sending(*sending) for sending in answer]

        yield play
        questions.close()


def _serve() -> None:
    play = player(torch.device("cpu"))
    while True:
        try:
            sendings, chunk = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        pickle.dump(_answer(play, sendings, chunk), sys.stdout.buffer)
        sys.stdout.buffer.flush()


def _answer(play: Measure, sendings: list[list[Call]], chunk: int) -> list[tuple[Any, ...]] | str:
    """The sendings, or the traceback."""
    try:
        return [tuple(sending) for sending in play(*sendings, chunk=chunk)]
    except Exception:  # noqa: BLE001  the test that asked fails, and the next one can still ask
        return traceback.format_exc()


if __name__ == "__main__":
    _serve()
