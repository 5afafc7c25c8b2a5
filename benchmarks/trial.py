"""Trains one architecture bare and watched, and compares."""

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import Tensor

import gradscope
from benchmarks.architectures.architecture import Architecture
from benchmarks.reference import Reference, Tallies, measured
from gradscope.findings import Finding, Severity
from gradscope.records import Kind

STEPS = 2
TIMED = 3
SHOWN = 3

State = dict[str, Tensor]


@dataclass(frozen=True)
class Rows:
    """How many modules or parameters should have rows, whose are missing or wrong, and who has one in vain."""

    wanted: int = 0
    missing: tuple[str, ...] = ()
    surplus: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.wanted - len(self.missing)} of {self.wanted}"


@dataclass(frozen=True)
class Result:
    """What came of one architecture.

    Attributes:
        modules: how many modules ran.
        differences: what differs, bit for bit, between the watched and the bare run.
        deterministic: whether two bare runs give the same bits; without that, differences say nothing.
        alarms: the findings that are errors or warnings.
        lost: what gradscope says it could not measure.
        overhead: duration of a watched step over that of a bare one.
        error: the exception that ended the trial.
    """

    name: str
    library: str
    modules: int = 0
    activations: Rows = field(default_factory=Rows)
    gradients: Rows = field(default_factory=Rows)
    parameters: Rows = field(default_factory=Rows)
    differences: tuple[str, ...] = ()
    deterministic: bool = True
    alarms: tuple[Finding, ...] = ()
    lost: tuple[str, ...] = ()
    overhead: float = float("nan")
    error: str = ""

    @property
    def problems(self) -> tuple[str, ...]:
        """One sentence for each thing that is not as it should be."""
        return tuple(self._problems())

    def _problems(self) -> Iterator[str]:
        if self.error:
            yield self.error
        if self.differences and self.deterministic:
            yield f"not bit-identical: {_few(self.differences)}"
        for what in ("activations", "gradients", "parameters"):
            rows: Rows = getattr(self, what)
            if wrong := (*rows.missing, *rows.surplus):
                yield f"{what} missing or wrong: {_few(wrong)}"
        for finding in self.alarms:
            yield f"{finding.analyzer} at {finding.where}"
        if self.lost:
            yield f"not measured: {_few(self.lost)}"


class Run:
    """A model, its optimizer, and what each step left behind."""

    def __init__(self, architecture: Architecture) -> None:
        _seed(0)
        self._loss = architecture.loss
        self.model = architecture.build().train()
        self._optimizer = torch.optim.SGD(
            (p for p in self.model.parameters() if p.requires_grad), lr=1e-3, momentum=0.9
        )
        self.trace: list[State] = []

    def step(self, index: int) -> None:
        """One training step on inputs that depend on nothing but its index."""
        _seed(index)
        self._optimizer.zero_grad()
        loss = self._loss(self.model)
        loss.backward()
        self.last_loss = loss.detach()
        self._optimizer.step()

    def traced_step(self, index: int) -> None:
        """A step whose loss, gradients and generators are kept."""
        self.step(index)
        self.trace.append(dict(self._state()))

    def _state(self) -> Iterator[tuple[str, Tensor]]:
        yield "loss", self.last_loss
        yield "torch's generator", torch.get_rng_state()
        yield "numpy's generator", _numbers(np.random.get_state()[1])  # type: ignore[index]  # noqa: NPY002  models draw from it
        yield "Python's generator", _numbers(random.getstate()[1])
        for name, parameter in self.model.named_parameters():
            if parameter.grad is not None:
                yield f"gradient of {name}", parameter.grad.clone()

    def final(self) -> State:
        """Parameters and buffers."""
        return dict(self.model.named_parameters()) | dict(self.model.named_buffers())


def attempt(architecture: Architecture) -> Result:
    """The result of an architecture, whatever happens."""
    try:
        return trial(architecture)
    except Exception as error:  # noqa: BLE001  a model that fails is a row of the table
        message = f"{type(error).__name__}: {error}".splitlines()[0]
        return Result(architecture.name, architecture.library, error=message)


def trial(architecture: Architecture) -> Result:
    """Train an architecture bare, watched and with the reference's hooks."""
    bare, watched = Run(architecture), Run(architecture)
    for index in range(STEPS):
        bare.traced_step(index)
    with gradscope.watch(watched.model, every=1) as scope:
        for index in range(STEPS):
            watched.traced_step(index)
        differences = tuple(_differences(bare, watched))
        overhead = _overhead(bare, watched)
    reference, recording = _reference(architecture), scope.recording
    return Result(
        architecture.name,
        architecture.library,
        modules=len(reference.modules),
        activations=_rows(reference.activations, measured(recording, Kind.ACTIVATION)),
        gradients=_rows(reference.gradients, measured(recording, Kind.ACTIVATION_GRADIENT)),
        parameters=_parameter_rows(bare.trace[0], {site.path for site in recording.sites_of(Kind.PARAMETER_GRADIENT)}),
        differences=differences,
        deterministic=not differences or _deterministic(architecture),
        alarms=tuple(f for f in scope.findings if f.severity is not Severity.NOTE),
        lost=recording.lost,
        overhead=overhead,
    )


def _reference(architecture: Architecture) -> Reference:
    reference = _observed(architecture, Reference())
    return _observed(architecture, Reference(reference.modified)) if reference.modified else reference


def _observed(architecture: Architecture, reference: Reference) -> Reference:
    run = Run(architecture)
    reference.attach(run.model)
    run.step(0)
    return reference


def _seed(index: int) -> None:
    random.seed(index)
    np.random.seed(index)  # noqa: NPY002  models draw from numpy's global generator
    torch.manual_seed(index)


def _numbers(state: Any) -> Tensor:
    return torch.tensor([int(number) for number in state])


def _differences(one: Run, other: Run) -> Iterator[str]:
    states = [*zip(one.trace, other.trace, strict=True), (one.final(), other.final())]
    for step, (left, right) in enumerate(states):
        when = f" in step {step}" if step < STEPS else " at the end"
        for name in left.keys() | right.keys():
            if name not in left or name not in right or not _same_bits(left[name], right[name]):
                yield name + when


def _same_bits(one: Tensor, other: Tensor) -> bool:
    return one.dtype == other.dtype and one.shape == other.shape and torch.equal(_bits(one), _bits(other))


def _bits(tensor: Tensor) -> Tensor:
    tensor = tensor.detach().contiguous()
    return (torch.view_as_real(tensor) if tensor.is_complex() else tensor).reshape(-1).view(torch.uint8)


def _deterministic(architecture: Architecture) -> bool:
    runs = Run(architecture), Run(architecture)
    for run in runs:
        for index in range(STEPS):
            run.traced_step(index)
    return not any(_differences(*runs))


def _overhead(bare: Run, watched: Run) -> float:
    ratios = []
    for index in range(STEPS, STEPS + TIMED):
        plain = _duration(bare, index)
        ratios.append(_duration(watched, index) / plain)
    return median(ratios)


def _duration(run: Run, index: int) -> float:
    start = perf_counter()
    run.step(index)
    return perf_counter() - start


def _rows(wanted: Tallies, found: Tallies) -> Rows:
    wrong = [path for path, tally in wanted.items() if not tally.agrees(found.get(path))]
    return Rows(len(wanted), _named(wrong), _named(found.keys() - wanted.keys()))


def _parameter_rows(state: State, found: set[str]) -> Rows:
    wanted = [name.removeprefix("gradient of ") for name in state if name.startswith("gradient of ")]
    return Rows(len(wanted), _named(name for name in wanted if name not in found))


def _named(paths: Iterable[str]) -> tuple[str, ...]:
    return tuple(path or "(root)" for path in paths)


def _few(names: tuple[str, ...]) -> str:
    first, more = names[:SHOWN], len(names) - SHOWN
    return ", ".join(first) + (f" and {more} more" if more > 0 else "")
