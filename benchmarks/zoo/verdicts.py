"""Holds what was found in a run against what was expected."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from benchmarks.zoo.expectations import Expectation, Program
from benchmarks.zoo.visits import Visit
from gradscope.findings import Finding

Answer: TypeAlias = bool | None  # None: nothing was expected of that


@dataclass(frozen=True)
class Verdict:
    """One fault in one run.

    Attributes:
        program: where the fault is.
        expectation: the fault.
        seed: of the run.
        detected: whether there was any alarm, or a finding of this name.
        first: whether a finding of this name stands where it belongs: in front, or behind the faults before it.
        site: whether it names the right sites.
        line: whether it names the right line.
        step: whether it names the right step.
        wrong: what to look into, in words; empty if all is right.
    """

    program: Program
    expectation: Expectation
    seed: int
    detected: bool
    first: bool
    site: Answer
    line: Answer
    step: Answer
    wrong: str = ""


@dataclass(frozen=True)
class Alarms:
    """Errors and warnings that nobody expected, in one run: all of a healthy program, the others of a sick one."""

    program: Program
    seed: int
    findings: tuple[Finding, ...]
    error: str = ""


def verdicts(program: Program, visit: Visit) -> Iterator[Verdict]:
    """One for each fault."""
    for rank, expectation in enumerate(program.expected):
        found = next((f for f in visit.findings if f.analyzer == expectation.analyzer), None)
        in_place = len(visit.findings) > rank and visit.findings[rank].analyzer == expectation.analyzer
        answers = _answers(expectation, found)
        yield Verdict(
            program,
            expectation,
            visit.seed,
            bool(visit.alarms) or found is not None,
            in_place,
            *answers,
            wrong=_wrong(expectation, found, visit, (in_place, *answers)),
        )


def unexpected(program: Program, visit: Visit) -> Alarms | None:
    """What else was told, or went wrong."""
    expected = {expectation.analyzer for expectation in program.expected}
    others = tuple(finding for finding in visit.alarms if finding.analyzer not in expected)
    error = visit.error if program.healthy else ""
    if program.healthy and not visit.steps and not error:
        error = "no training step was seen"
    return Alarms(program, visit.seed, others, error) if others or error else None


def _answers(expected: Expectation, found: Finding | None) -> tuple[Answer, Answer, Answer]:
    site = line = step = None
    if expected.sites:
        site = found is not None and expected.is_at(found.sites)
    if expected.line is not None:
        line = found is not None and found.location is not None and found.location.line == expected.line
    if expected.first is not None and expected.last is not None:
        step = found is not None and expected.first <= found.step <= expected.last
    return site, line, step


def _wrong(expected: Expectation, found: Finding | None, visit: Visit, answers: Sequence[Answer]) -> str:
    if found is None:
        instead = ", ".join(f"{f.analyzer} (step {f.step})" for f in visit.findings) or "nothing"
        return f"found {instead}" + (f"; it ended with {visit.error}" if visit.error else "")
    in_place, site, line, step = answers
    wrong = []
    if not in_place:
        wrong.append("behind " + ", ".join(f.analyzer for f in visit.findings[: visit.findings.index(found)]))
    if site is False:
        wrong.append(f"at {', '.join(found.sites[:3]) or 'no site'} instead of {', '.join(expected.sites)}")
    if line is False:
        told = found.location.line if found.location else "no line"
        wrong.append(f"line {told} instead of {expected.line}")
    if step is False:
        wrong.append(f"step {found.step} instead of {expected.first} to {expected.last}")
    return "; ".join(wrong)
