"""Located cases: programs that mark the line a finding must name, and programs on which there must be none.

A marked line ends in `# <- here`. Lines that the finding must name besides end in `# <- named`.
"""

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  as users write it

import gradscope
from gradscope import Scope
from gradscope.findings import Finding, Severity

HERE = "# <- here"
NAMED = "# <- named"

Program = Callable[[], Scope]


@dataclass(frozen=True)
class Case:
    """A program and what is to be found in it; no analyzer means nothing at all."""

    program: Program
    analyzer: str = ""
    words: tuple[str, ...] = ()
    severity: Severity = Severity.ERROR
    step: int = 0


class Cases(list[Case]):
    """The cases of one file."""

    def located(
        self, analyzer: str, *words: str, severity: Severity = Severity.ERROR, step: int = 0
    ) -> Callable[[Program], Program]:
        """The marked line must be named by this analyzer, with these words."""

        def register(program: Program) -> Program:
            self.append(Case(program, analyzer, words, severity, step))
            return program

        return register

    def silent(self, program: Program) -> Program:
        """Neither an error nor a warning may be found."""
        self.append(Case(program))
        return program

    def parametrized(self) -> pytest.MarkDecorator:
        """One test for each case."""
        return pytest.mark.parametrize("case", self, ids=lambda case: case.program.__name__)


class Chain(nn.Module):
    """An encoder and a decoder of four parameters each; what lies between them is up to the case."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8))
        self.decoder = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))


def fit(
    net: nn.Module, loss: Callable[[], Tensor] | None = None, *, steps: int = 7, optimizer: Any = torch.optim.SGD
) -> Scope:
    """Train with SGD or another optimizer, by default as a regression on inputs of shape (5, 6)."""

    def regression() -> Tensor:
        return F.mse_loss(net(torch.randn(5, 6)), torch.randn(5, 2))

    made = optimizer(net.parameters(), lr=0.01)
    with gradscope.watch(net) as scope:
        for _ in range(steps):
            made.zero_grad()
            (loss or regression)().backward()
            made.step()
    return scope


def failing(net: nn.Module, loss: Callable[[], Tensor] | None = None) -> Scope:
    """Train as `fit` does, up to the exception that must come."""
    scope = gradscope.watch(net)
    with pytest.raises(RuntimeError), scope:
        (loss() if loss else net(torch.randn(5, 6)).square().mean()).backward()
    return scope


def check(case: Case) -> None:
    """Run a case and compare what was found with what was marked."""
    torch.manual_seed(0)
    scope = case.program()
    alarms = [finding for finding in scope.findings if finding.severity is not Severity.NOTE]
    assert [finding.analyzer for finding in alarms] == [case.analyzer] * bool(case.analyzer), f"\n{scope.report()}"
    assert scope.recording.operations or scope.recording.failure, f"nothing was traced\n{scope.report()}"
    if case.analyzer:
        _check_finding(case, alarms[0])


def _check_finding(case: Case, finding: Finding) -> None:
    (line, source), *_ = _marked(case.program, HERE)
    place = finding.location
    assert place is not None, f"no line\n{finding}"
    assert (Path(place.file).name, place.line) == (_file(case).name, line), f"line {line} is to be named\n{finding}"
    assert source in place.source, f"{source!r} is not in {place.source!r}"
    assert (finding.severity, finding.step) == (case.severity, case.step), f"step {case.step}\n{finding}"
    lines = (f"{_file(case).name}:{line}" for line, _ in _marked(case.program, NAMED))
    text = f"{finding} {finding.sites}"
    missing = [word for word in (*case.words, *lines) if word not in text]
    assert not missing, f"{missing} not in\n{finding}"


def _file(case: Case) -> Path:
    return Path(case.program.__code__.co_filename)


def _marked(program: Program, mark: str) -> Iterator[tuple[int, str]]:
    """The lines of a program that bear a mark, each with its code."""
    lines, first = inspect.getsourcelines(program)
    for number, line in enumerate(lines, first):
        code, found, _ = line.partition(mark)
        if found:
            yield number, code.strip()
