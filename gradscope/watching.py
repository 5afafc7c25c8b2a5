"""`watch_everything()`: each model that is trained is watched by itself, without a word in the program."""

import gc
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from threading import RLock
from time import monotonic, perf_counter
from types import TracebackType
from typing import Any, Self
from weakref import ReferenceType, ref

from torch import Tensor, nn
from torch.optim.optimizer import Optimizer

from gradscope.analyzer import Analyzer
from gradscope.errors import AlreadyWatched
from gradscope.findings import Finding, Report
from gradscope.hooks.by_hand import ByHand
from gradscope.hooks.optimizers import Optimizers
from gradscope.hooks.owners import roots_of, twins_of
from gradscope.scope import Scope, open_scopes, paced, watch
from gradscope.selection import select
from gradscope.summary import mean_cost

BY_HAND = 0
FREE_SECONDS = 5.0
SHARE = 0.02


@dataclass(eq=False)
class Model:
    """One model that is or was trained.

    Attributes:
        name: its class, and a number where it is not the first of that name.
        root: the module, while it lives.
        scope: what watches it; None when nobody does any more.
        reports: of the scopes before, oldest first.
        optimizers: keys of the optimizers that train it now; `BY_HAND` where none does.
    """

    name: str
    root: "ReferenceType[nn.Module]"
    scope: Scope | None = None
    reports: list[Report] = field(default_factory=list)
    optimizers: set[int] = field(default_factory=set)


def watch_everything(
    *,
    logdir: str | Path | None = None,
    every: int | None = None,
    budget: float = 0.02,
    ignore: Iterable[str] = (),
    analyzers: Iterable[Analyzer | str] | None = None,
    on_step: Callable[["Everything"], object] | None = None,
) -> "Everything":
    """Watch every model that an optimizer trains, from the moment the optimizer is made until the context is left.

    A model is the outermost module that holds some of the optimizer's parameters. Each is watched by a scope of its
    own, which ends when its last optimizer is gone; its report stays. While there is no optimizer, a model whose
    parameters move from one backward to the next is watched from the second one on. A model that the program watches by
    itself is left to it, and of two contexts the inner one has it. What goes wrong in here becomes a note, and never
    reaches the program.

    Args:
        logdir: where to write TensorBoard data, in a folder for each model; None writes nothing.
        every: take statistics on every so-many-th step; None lets `budget` decide.
        budget: the share of the training's time that measuring may take; 0.02 is 2 %.
        ignore: names of analyzers that shall not run, and "analyzer:pattern" for sites whose findings do not count.
        analyzers: the analyzers to run, by name or as configured instances; None runs all.
        on_step: called with what this gives, after each optimizer's step.

    Raises:
        UnknownAnalyzer: a name in `ignore` or `analyzers` that no analyzer has.
        BadSetting: pyproject.toml or the command line ask for something that cannot be meant.
        ValueError: `every` or `budget` is out of range.
    """
    paced(every, budget)
    chosen = select(analyzers, ignore)
    options = {"every": every, "budget": budget, "analyzers": chosen.analyzers, "ignore": chosen.exempt}
    return Everything(options, logdir, on_step)


class Everything:
    """What `watch_everything` gives: the scopes that are open, and a report for each model."""

    def __init__(
        self,
        options: Mapping[str, Any],
        logdir: str | Path | None = None,
        on_step: Callable[["Everything"], object] | None = None,
    ) -> None:
        self._options = options
        self._logdir = logdir
        self._on_step = on_step
        self._optimizers = Optimizers(self._made, self._stepped)
        self._by_hand = ByHand(self.trained_by_hand)
        self._known: dict[int, tuple[ReferenceType[Optimizer], int]] = {}
        self._models: list[Model] = []
        self._gone: list[int] = []
        self._notes: dict[str, None] = {}
        self._lock = RLock()
        self._collecting = False
        self._begin, self._spent = monotonic(), 0.0

    def __enter__(self) -> Self:
        self._begin = monotonic()
        gc.callbacks.append(self._collects)
        self._optimizers.start()
        self._by_hand.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._fall_silent()
        for model in self._models:
            with self._guarded():
                _close(model, error)
        self._known.clear()

    @property
    def scopes(self) -> Mapping[str, Scope]:
        """The scopes of the models that are still trained, or were when the context was left, by name."""
        return {model.name: model.scope for model in self._models if model.scope is not None}

    @property
    def notes(self) -> tuple[str, ...]:
        """What is not watched, and why."""
        return tuple(self._notes)

    def reports(self) -> dict[str, Report]:
        """A report for each model, by name, in the order in which their optimizers were made."""
        return {
            model.name: _joined([*model.reports, *_current(model)]) for model in self._models if _was_watched(model)
        }

    def glance(self) -> Report:
        """The findings and steps of all models, as far as they are known without another look at the recordings."""
        return _together([*model.reports, *_glances(model)] for model in self._models)

    def abandon(self) -> None:
        """Listen no more and write nothing: of a process that was forked, its parent does that."""
        self._fall_silent()
        for model in self._models:
            if model.scope is not None:
                model.scope.abandon()
        self._models.clear()
        self._known.clear()

    def trained_by_hand(self, parameters: list[Tensor]) -> None:
        """Watch the models that hold these, which were moved although no optimizer is there."""
        self._by_hand.stop()
        if not self._known:
            with self._guarded(), self._timed():
                self._watch_all(roots_of(parameters, self._roots()), parameters, "hand", BY_HAND)

    def _fall_silent(self) -> None:
        self._optimizers.stop()
        self._by_hand.stop()
        if self._collects in gc.callbacks:
            gc.callbacks.remove(self._collects)

    def _made(self, optimizer: Optimizer) -> None:
        self._by_hand.stop()
        with self._guarded():
            self._clear_up()
            self._look_at(optimizer)

    def _stepped(self, optimizer: Optimizer) -> None:
        known = self._known.get(id(optimizer))
        if known is None or known[0]() is not optimizer or known[1] != len(optimizer.param_groups):
            self._made(optimizer)
        if self._gone:
            with self._guarded():
                self._clear_up()
        if self._on_step is not None:
            with self._guarded():
                self._on_step(self)

    def _look_at(self, optimizer: Optimizer) -> None:
        """Watch what it trains, unless optimizers are made faster than they can be looked at."""
        name, key, groups = type(optimizer).__name__, id(optimizer), optimizer.param_groups
        self._known[key] = ref(optimizer, partial(self._ended, key)), len(groups)
        if self._spent > FREE_SECONDS + SHARE * (monotonic() - self._begin):
            self._note(f"some of what is trained by {name}: optimizers are made faster than they can be looked at")
            return
        with self._timed():
            parameters = [parameter for group in groups for parameter in group["params"]]
            self._watch_all(roots_of(parameters, self._roots()) or twins_of(parameters), parameters, name, key)

    def _watch_all(self, roots: Iterable[nn.Module], parameters: list[Tensor], trainer: str, key: int) -> None:
        """Watch these models, which hold the parameters; there may be none."""
        roots = list(roots)
        if not roots:
            count = len(parameters)
            self._note(f"{count} tensor{'s' * (count != 1)} trained by {trainer}: in no torch.nn.Module")
        for root in roots:
            self._watch(root, key)

    def _watch(self, root: nn.Module, optimizer: int) -> None:
        ours = [model for model in self._models if model.scope is not None and model.scope.shares(root)]
        if ours:
            for model in ours:
                model.optimizers.add(optimizer)
            return
        if any(scope.on_rival is None and scope.shares(root) for scope in open_scopes()):
            self._note(f"{type(root).__name__}: the program watches it by itself")
            return
        model = self._model(root)
        scope = watch(root, logdir=self._folder(model), **self._options)
        scope.on_rival = partial(self._step_aside, model)
        try:
            scope.__enter__()
        except AlreadyWatched:  # another thread was faster
            return
        model.scope = scope
        model.optimizers.add(optimizer)

    def _roots(self) -> list[nn.Module]:
        return [root for model in self._models if model.scope is not None and (root := model.root()) is not None]

    def _model(self, root: nn.Module) -> Model:
        for model in self._models:
            if model.root() is root:
                return model
        kind = type(root).__name__
        taken = {model.name for model in self._models}
        number = 1 + sum(name == kind or name.startswith(f"{kind}#") for name in taken)
        model = Model(f"{kind}#{number}" if number > 1 else kind, ref(root))
        self._models.append(model)
        return model

    def _folder(self, model: Model) -> Path | None:
        """Of its own for each scope: the steps of a second one begin at 0 again."""
        if self._logdir is None:
            return None
        times = len(model.reports)
        return Path(self._logdir) / (f"{model.name}.{times + 1}" if times else model.name)

    def _step_aside(self, model: Model) -> None:
        with self._guarded():
            self._note(f"{model.name}: the program watches it by itself from then on")
            self._end(model)

    def _ended(self, key: int, _reference: object) -> None:
        """An optimizer is gone. In the middle of Python's garbage collection nothing may be done about it."""
        self._gone.append(key)
        if not self._collecting:
            with self._guarded():
                self._clear_up()

    def _clear_up(self) -> None:
        while self._gone:
            key = self._gone.pop()
            known = self._known.get(key)
            if known is not None and known[0]() is None:
                del self._known[key]
                self._release(key)

    def _release(self, optimizer: int) -> None:
        for model in self._models:
            model.optimizers.discard(optimizer)
            if model.scope is not None and not model.optimizers:
                self._end(model)

    def _end(self, model: Model) -> None:
        """Close its scope, keep the report, and let go of the model."""
        with self._timed():
            _close(model, None)
            scope, model.scope = model.scope, None
            if scope is not None:
                report = scope.report()
                model.reports += [report] if report.steps or report.findings else []
                scope.forget()

    def _collects(self, phase: str, _info: Mapping[str, int]) -> None:
        self._collecting = phase == "start"

    def _note(self, text: str) -> None:
        self._notes[text] = None

    @contextmanager
    def _timed(self) -> Iterator[None]:
        start = perf_counter()
        try:
            yield
        finally:
            self._spent += perf_counter() - start

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """No exception of ours reaches the user's program."""
        try:
            with self._lock:
                yield
        except Exception as error:  # noqa: BLE001  as above
            self._note(f"a model: {error!r}")


def _close(model: Model, error: BaseException | None) -> None:
    if model.scope is not None:
        model.scope.__exit__(type(error) if error else None, error, error.__traceback__ if error else None)


def _was_watched(model: Model) -> bool:
    return bool(model.reports) or model.scope is not None


def _current(model: Model) -> list[Report]:
    return [] if model.scope is None else [model.scope.report()]


def _glances(model: Model) -> list[Report]:
    return [] if model.scope is None else [model.scope.glance()]


def _joined(reports: list[Report]) -> Report:
    """One report of one model whose optimizers came one after the other: its steps are counted on."""
    if len(reports) == 1:
        return reports[0]
    found: dict[tuple[str, str], Finding] = {}
    before = 0
    for report in reports:
        for finding in report.findings:
            found.setdefault((finding.analyzer, finding.cause), replace(finding, step=finding.step + before))
        before += report.steps
    findings = sorted(found.values(), key=lambda finding: (finding.severity.rank, finding.step))
    return replace(_sum(reports), findings=tuple(findings))


def _together(models: Iterable[list[Report]]) -> Report:
    """What all models have in sum."""
    reports = [_joined(reports) for reports in models if reports]
    return replace(_sum(reports), findings=tuple(finding for report in reports for finding in report.findings))


def _sum(reports: list[Report]) -> Report:
    return Report(
        steps=sum(report.steps for report in reports),
        observed=sum(report.observed for report in reports),
        lately=reports[-1].lately if reports else 1,
        cost=mean_cost(reports),
        notes=tuple(dict.fromkeys(note for report in reports for note in report.notes)),
    )
