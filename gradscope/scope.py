"""The front door: `watch()` puts hooks, engine and reports around an unchanged training loop."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from time import monotonic
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Literal, Self

from torch import nn

from gradscope.analyzer import Analyzer
from gradscope.catalogue import failures
from gradscope.engine import Engine
from gradscope.errors import AlreadyWatched, FindingRaised, NoParameters, NotAModule
from gradscope.findings import Finding, Report
from gradscope.hooks.attachment import Attachment
from gradscope.hooks.cadence import Cadence
from gradscope.outlets import Outlet, Outlets, Sink
from gradscope.records import Kind, Recording, Step
from gradscope.reports.loggers import Logger, LoggerSink
from gradscope.selection import select
from gradscope.settings import names

if TYPE_CHECKING:
    import pandas as pd
    import torch

OnFinding = Callable[[Finding], object] | Literal["raise"]

_open: dict[int, "Scope"] = {}


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
    loggers: Iterable[Logger] = (),
) -> "Scope":
    """Watch a model while it trains. Use as a context manager around an unchanged loop.

    Args:
        model: a module, or several by name, whose names then prefix their sites.
        logdir: where to write TensorBoard data, in its sub-folder `gradscope`; None writes nothing.
        every: take statistics on every so-many-th step; None lets `budget` decide.
        budget: the share of the training's time that measuring may take; 0.02 is 2 %.
        ignore: names of analyzers that shall not run, and "analyzer:pattern" for sites whose findings do not count.
        analyzers: the analyzers to run, by name or as configured instances; None runs all.
        on_finding: called with each new finding; "raise" stops the loop with `FindingRaised`.
        keep: patterns of module paths and parameter names whose raw tensors are kept, on the CPU, for the
            last few observed steps; see `Scope.tensor`.
        loggers: where scalars and findings shall go as well; see `gradscope.reports.loggers.Logger`.

    Raises:
        NotAModule, NoParameters, AlreadyWatched: there is nothing to watch, or it is being watched.
        UnknownAnalyzer: a name in `ignore` or `analyzers` that no analyzer has.
        BadSetting: pyproject.toml or the command line ask for something that cannot be meant.
        ValueError: `every` or `budget` is out of range.
    """
    chosen = select(analyzers, ignore)
    return Scope(
        _roots(model),
        cadence=paced(every, budget),
        engine=Engine(chosen.analyzers, chosen.exempt),
        keep=names(keep),
        outlets=_outlets(logdir, loggers),
        on_finding=on_finding,
    )


class Scope:
    """What `watch` gives: the hooks while the context is open, the recording and the findings at any time.

    Attributes:
        on_rival: ends this scope when another one wants a module of its model; by default there is no such way.
    """

    def __init__(
        self,
        roots: Mapping[str, nn.Module],
        *,
        cadence: Cadence,
        engine: Engine,
        keep: tuple[str, ...],
        outlets: Iterable[Outlet],
        on_finding: OnFinding | None,
    ) -> None:
        self._roots = dict(roots)
        self._engine = engine
        self._cadence = cadence
        before_writes = self._judge_open if on_finding == "raise" else None
        self._hooks = Attachment(roots, cadence, keep, self._steps_arrived, self._deliver, before_writes)
        self._recorder = self._hooks.recorder
        self._outlets = Outlets(outlets, self._recorder.lose)
        self._on_finding = on_finding
        self._news: deque[Finding] = deque()
        self._complete = False
        self._open = False
        self.on_rival: Callable[[], None] | None = None

    def __enter__(self) -> Self:
        if self._complete or self._open:
            raise AlreadyWatched("this scope has been used: call watch() again for another run")
        for root in self._roots.values():
            if (other := _open.get(id(root))) is not None and other.on_rival is None:
                raise AlreadyWatched(f"this {type(root).__name__} is being watched: leave that `with` block first")
        for rival in self._rivals():
            if rival.on_rival is not None:
                rival.on_rival()
        _open.update((id(root), self) for root in self._roots.values())
        self._open = True
        self._hooks.attach()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for root in self._roots.values():
            _open.pop(id(root), None)
        self._open = False
        self._hooks.detach(error)
        self._complete = True
        self._steps_arrived([])
        self._outlets.close()
        if error is None:
            self._deliver()
        else:
            self._explain(error)

    @property
    def models(self) -> Mapping[str, nn.Module]:
        """The watched modules, by the names that `watch` was given; "" for a single one."""
        return MappingProxyType(self._roots)

    @property
    def analyzers(self) -> tuple[Analyzer, ...]:
        """The analyzers that judge this run."""
        return self._engine.analyzers

    @property
    def exempt(self) -> tuple[str, ...]:
        """An "analyzer:pattern" for each pattern of sites whose findings do not count."""
        return self._engine.exempt

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
        recording = self._judged_recording()
        notes = (*self._recorder.lost, *failures(), *self._engine.unjudged(recording))
        return replace(self.glance(), notes=notes)

    def glance(self) -> Report:
        """What the report would say, as far as it is known without another look at the recording."""
        recorder = self._recorder
        return Report(
            self._engine.findings(),
            steps=recorder.log.index,
            observed=recorder.observed_steps,
            lately=recorder.lately,
            cost=recorder.cost,
        )

    def shares(self, model: nn.Module) -> bool:
        """Whether this scope watches the model or a part of it, or the model is a part of what it watches."""
        mine = {id(module) for root in self._roots.values() for module in root.modules()}
        return any(id(module) in mine for module in model.modules())

    def abandon(self) -> None:
        """Stop listening and do nothing else, as befits a copy of the scope in a process that was forked."""
        for root in self._roots.values():
            _open.pop(id(root), None)
        self._open, self._complete = False, True
        self._hooks.abandon()

    def forget(self) -> None:
        """Let go of the model, once the run is over; reports and recordings made before stay what they are."""
        self._roots.clear()
        self._hooks.forget()

    def _repr_html_(self) -> str:
        """What a notebook shows: the report."""
        return self.report()._repr_html_()

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

    def _rivals(self) -> "list[Scope]":
        """The open scopes that watch some of the same modules."""
        return [other for other in open_scopes() if any(other.shares(root) for root in self._roots.values())]

    def _steps_arrived(self, steps: list[Step]) -> None:
        if self._complete or self._engine.due(steps, monotonic()):
            recording = self._recorder.recording(complete=self._complete)
            self._judge(recording)
            self._outlets.write(recording, self._engine.findings())

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
        if requests and self._open:
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


def open_scopes() -> tuple[Scope, ...]:
    """The scopes of this process that watch a model now."""
    return tuple(dict.fromkeys(_open.values()))


def _outlets(logdir: str | Path | None, loggers: Iterable[Logger]) -> Iterator[Outlet]:
    if logdir is not None:
        yield Outlet(f"TensorBoard data under {logdir}", partial(_tensorboard, logdir))
    for logger in loggers:
        if not isinstance(logger, Logger):
            raise TypeError(
                f"{type(logger).__name__} is no logger, which has log_scalars, log_findings and close: for a run of "
                "Weights & Biases or MLflow pass a WandbLogger or MLflowLogger of gradscope.integrations"
            )
        yield Outlet(type(logger).__name__, partial(LoggerSink, logger))


def _tensorboard(logdir: str | Path) -> Sink:
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


def paced(every: int | None, budget: float) -> Cadence:
    """The cadence that these options of `watch` ask for; raises ValueError when one is out of range."""
    if every is not None and every < 1:
        raise ValueError(f"every={every}: pass how many steps lie between observed ones, 1 for each step")
    if not 0 < budget <= 1:
        raise ValueError(f"budget={budget}: pass a share of the step's time, as in 0.02 for 2 %")
    return Cadence(every, budget)
