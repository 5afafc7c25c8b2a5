"""The front door: `watch()` puts hooks, engine and reports around an unchanged training loop."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self

from torch import nn

from gradscope.analyzer import Analyzer
from gradscope.catalogue import select
from gradscope.engine import Engine
from gradscope.errors import AlreadyWatched, FindingRaised, NoParameters, NotAModule
from gradscope.findings import Finding, Report
from gradscope.hooks.attachment import Attachment
from gradscope.hooks.cadence import Cadence
from gradscope.records import Kind, Recording, Step

if TYPE_CHECKING:
    import pandas as pd
    import torch

    from gradscope.reports.tensorboard import TensorBoardWriter

OnFinding = Callable[[Finding], object] | Literal["raise"]

WRITE_PERIOD = 1.0

_watched: dict[int, nn.Module] = {}


def watch(
    model: nn.Module | Mapping[str, nn.Module],
    *,
    logdir: str | Path | None = None,
    every: int | None = None,
    budget: float = 0.02,
    ignore: Iterable[str] = (),
    analyzers: Iterable[Analyzer | str] | None = None,
    on_finding: OnFinding | None = None,
    keep: str | Iterable[str] = (),
) -> "Scope":
    """Watch a model while it trains. Use as a context manager around an unchanged loop.

    Args:
        model: a module, or several by name, whose names then prefix their sites.
        logdir: where to write TensorBoard data, in its sub-folder `gradscope`; None writes nothing.
        every: take statistics on every so-many-th step; None lets `budget` decide.
        budget: the share of the training's time that measuring may take; 0.02 is 2 %.
        ignore: names of analyzers that shall not run.
        analyzers: the analyzers to run, by name or as configured instances; None runs all.
        on_finding: called with each new finding; "raise" stops the loop with `FindingRaised`.
        keep: patterns of module paths and parameter names whose raw tensors are kept, on the CPU, for the
            last few observed steps; see `Scope.tensor`.

    Raises:
        NotAModule, NoParameters, AlreadyWatched: there is nothing to watch, or it is being watched.
        UnknownAnalyzer: a name in `ignore` or `analyzers` that no analyzer has.
        ValueError: `every` or `budget` is out of range.
    """
    return Scope(
        _roots(model),
        cadence=_cadence(every, budget),
        engine=Engine(select(analyzers, _names(ignore))),
        keep=_names(keep),
        logdir=logdir,
        on_finding=on_finding,
    )


class Scope:
    """What `watch` gives: the hooks while the context is open, the recording and the findings at any time."""

    def __init__(
        self,
        roots: Mapping[str, nn.Module],
        *,
        cadence: Cadence,
        engine: Engine,
        keep: tuple[str, ...],
        logdir: str | Path | None,
        on_finding: OnFinding | None,
    ) -> None:
        self._roots = roots
        self._engine = engine
        self._cadence = cadence
        before_writes = self._judge_open if on_finding == "raise" else None
        self._hooks = Attachment(roots, cadence, keep, self._steps_arrived, self._deliver, before_writes)
        self._recorder = self._hooks.recorder
        self._logdir = logdir
        self._writer: TensorBoardWriter | None = None
        self._written = float("-inf")
        self._on_finding = on_finding
        self._news: deque[Finding] = deque()
        self._complete = False
        self._open = False

    def __enter__(self) -> Self:
        if self._complete or self._open:
            raise AlreadyWatched("this scope has been used: call watch() again for another run")
        for root in self._roots.values():
            if id(root) in _watched:
                raise AlreadyWatched(f"this {type(root).__name__} is being watched: leave that `with` block first")
        _watched.update((id(root), root) for root in self._roots.values())
        self._open = True
        self._hooks.attach()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for root in self._roots.values():
            _watched.pop(id(root), None)
        self._open, self._complete = False, True
        self._hooks.detach(error)
        self._steps_arrived([])
        self._close_writer()
        if error is None:
            self._deliver()
        else:
            self._explain(error)

    @property
    def recording(self) -> Recording:
        """Everything measured so far. Inside the loop it includes the step that has not ended yet."""
        return self._recorder.recording(complete=self._complete, with_open=self._open)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What was found so far, most important first."""
        self._judged_recording()
        return self._engine.findings()

    def report(self) -> Report:
        """Findings, how much was watched, what it cost, and what could not be measured."""
        recording, recorder = self._judged_recording(), self._recorder
        return Report(
            self._engine.findings(),
            steps=recorder.log.index,
            observed=recorder.observed_steps,
            lately=recorder.lately,
            cost=recorder.cost,
            notes=(*recorder.lost, *self._engine.unjudged(recording)),
        )

    def frame(self) -> "pd.DataFrame":
        """A tidy table, one row per observed step and site; see `gradscope.reports.frame.frame`."""
        from gradscope.reports.frame import frame

        return frame(self.recording)

    def flow(self, step: int = -1) -> "pd.DataFrame":
        """The gradient's way from the loss, module by module; see `gradscope.reports.frame.flow`."""
        from gradscope.reports.frame import flow

        return flow(self.recording, step)

    def tensor(self, module: str, kind: Kind | str, step: int = -1) -> "torch.Tensor":
        """A raw tensor that `keep` kept, on the CPU.

        Args:
            module: path of a module, or the full name of a parameter ("fc1.weight").
            kind: what of it; of several calls in one step, the last.
            step: a step's number; negative ones count kept steps from the end.

        Raises:
            NotRecorded: it was not kept; the message says what was.
        """
        return self._recorder.kept.tensor(module, Kind(kind), step)

    def trace_next(self) -> None:
        """Trace the operations of the next step; the recording's `operations` then hold them."""
        self._hooks.trace_next()

    def _steps_arrived(self, steps: list[Step]) -> None:
        if self._complete or self._engine.due(steps, monotonic()):
            recording = self._recorder.recording(complete=self._complete)
            self._judge(recording)
            self._write(recording)

    def _judged_recording(self) -> Recording:
        recording = self.recording
        if self._open:
            self._judge(recording)
        return recording

    def _judge_open(self) -> None:
        self._judge(self.recording)

    def _judge(self, recording: Recording) -> None:
        new, requests = self._engine.run(recording, monotonic())
        self._news.extend(new)
        if new:
            self._cadence.watch_closely(self._recorder.log.index)
        if requests:
            self._hooks.request_trace()
        if new or requests:
            self._recorder.history.hurry(self._recorder.log.index)

    def _deliver(self) -> None:
        """Hand new findings to the user. Called where an exception of the user's callback may pass."""
        while self._news:
            finding = self._news.popleft()
            if self._on_finding == "raise":
                self._news.clear()
                raise FindingRaised(finding)
            if self._on_finding is not None:
                self._on_finding(finding)

    def _explain(self, error: BaseException) -> None:
        """Add what was found about an exception to it, as a note; the exception stays the user's."""
        for finding in self._engine.findings():
            if finding.analyzer == "shape-mismatch":
                error.add_note(f"\ngradscope:\n{finding}")

    def _write(self, recording: Recording) -> None:
        now = monotonic()
        if self._logdir is None or not (self._complete or now >= self._written + WRITE_PERIOD):
            return
        self._written = now
        with self._reporting():
            self._writer = self._writer or _tensorboard(self._logdir)
            self._writer.write(recording, self._engine.findings())

    def _close_writer(self) -> None:
        with self._reporting():
            if self._writer is not None:
                self._writer.close()

    @contextmanager
    def _reporting(self) -> Iterator[None]:
        """A report that cannot be written (a full disk, a blocked folder) is a note, and not tried again."""
        try:
            yield
        except Exception as error:  # noqa: BLE001  no exception of ours reaches the user's loop
            self._recorder.lose(f"TensorBoard data under {self._logdir}: {error!r}")
            self._logdir = self._writer = None


def _tensorboard(logdir: str | Path) -> "TensorBoardWriter":
    from gradscope.reports.tensorboard import TensorBoardWriter

    return TensorBoardWriter(logdir)


def _roots(model: object) -> dict[str, nn.Module]:
    given: dict[str, object] = dict(model) if isinstance(model, Mapping) else {"": model}
    if not given:
        raise NotAModule("watch() was given no model: pass a torch.nn.Module, or several by name")
    roots: dict[str, nn.Module] = {}
    for name, root in given.items():
        if not isinstance(root, nn.Module):
            raise NotAModule(
                f"watch() needs a torch.nn.Module, not {type(root).__name__}{f' (for {name!r})' if name else ''}: "
                "pass the model, not its parameters or its output"
            )
        if next(root.parameters(), None) is None:
            raise NoParameters(
                f"{type(root).__name__} has no parameters, so nothing trains: pass the model that the optimizer trains"
            )
        roots[name] = root
    return roots


def _cadence(every: int | None, budget: float) -> Cadence:
    if every is not None and every < 1:
        raise ValueError(f"every={every}: pass how many steps lie between observed ones, 1 for each step")
    if not 0 < budget <= 1:
        raise ValueError(f"budget={budget}: pass a share of the step's time, as in 0.02 for 2 %")
    return Cadence(every, budget)


def _names(names: str | Iterable[str]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)
