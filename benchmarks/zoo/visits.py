"""Runs a program of the zoo in this process, watched as `gradscope run` watches, and leaves the process as it was."""

import gc
import io
import os
import random
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch

from gradscope.findings import Finding, Severity
from gradscope.running.programs import Program as Script
from gradscope.summary import Summary
from gradscope.watching import watch_everything

LIMIT = 60


class TooSlow(Exception):
    """A program of the zoo is one of seconds."""


@dataclass(frozen=True)
class Visit:
    """One run of a program.

    Attributes:
        seed: which one it was given.
        findings: of all its models, most important first, each cause once.
        steps: how many ran.
        notes: what was not measured.
        error: the exception that ended it, if one did.
        seconds: how long it took.
    """

    seed: int
    findings: tuple[Finding, ...] = ()
    steps: int = 0
    notes: tuple[str, ...] = ()
    error: str = ""
    seconds: float = 0.0

    @property
    def alarms(self) -> tuple[Finding, ...]:
        """Errors and warnings."""
        return tuple(finding for finding in self.findings if finding.severity is not Severity.NOTE)


def visit(file: Path, seed: int) -> Visit:
    """Run it once, with this seed."""
    start = perf_counter()
    error = ""
    watch = watch_everything()
    with _isolated(seed):
        try:
            with watch, _in_time():
                Script(str(file)).run()
        except (Exception, SystemExit) as raised:  # noqa: BLE001  what it raises is a result
            error = f"{type(raised).__name__}: {raised}".partition("\n")[0]
        told = Summary(watch.reports(), watch.notes)
    found = tuple(finding for finding, _ in told.findings)
    reports = told.reports.values()
    notes = tuple(dict.fromkeys((*told.notes, *(note for report in reports for note in report.notes))))
    result = Visit(seed, found, sum(report.steps for report in reports), notes, error, perf_counter() - start)
    del watch, told, reports
    gc.collect()
    return result


@contextmanager
def _isolated(seed: int) -> Iterator[None]:
    """Seeded, silent, on one thread; and whatever a program changes of the process is put back."""
    main, argv, path = sys.modules["__main__"], sys.argv, list(sys.path)
    threads, dtype, environment = torch.get_num_threads(), torch.get_default_dtype(), os.environ.get("SEED")
    os.environ["SEED"] = str(seed)
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002  programs use it as it is
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        sys.modules["__main__"], sys.argv, sys.path[:] = main, argv, path
        torch.set_num_threads(threads)
        torch.set_default_dtype(dtype)
        torch.set_grad_enabled(True)
        torch.autograd.set_detect_anomaly(mode=False)
        os.environ.pop("SEED", None)
        if environment is not None:
            os.environ["SEED"] = environment


@contextmanager
def _in_time() -> Iterator[None]:
    """Ends a program that takes too long, where the system can."""
    if not hasattr(signal, "SIGALRM") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def ring(*_: Any) -> None:
        raise TooSlow(f"more than {LIMIT} seconds")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(LIMIT)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
