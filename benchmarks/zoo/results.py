"""What came of all runs, and the numbers in it."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from benchmarks.zoo.expectations import Program
from benchmarks.zoo.verdicts import Alarms, Answer, Verdict, unexpected, verdicts
from benchmarks.zoo.visits import Visit


@dataclass
class Results:
    """Verdicts on faults, alarms that nobody expected, and programs whose analyzer does not exist yet."""

    seeds: int
    sick: list[Program] = field(default_factory=list)
    healthy: list[Program] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    alarms: list[Alarms] = field(default_factory=list)
    unjudged: list[Program] = field(default_factory=list)
    seconds: float = 0.0

    def add(self, program: Program, visit: Visit) -> list[str]:
        """Judge one run. Returns what is not as expected, in words."""
        among = self.healthy if program.healthy else self.sick
        if program not in among:
            among.append(program)
        self.seconds += visit.seconds
        judged, others = list(verdicts(program, visit)), unexpected(program, visit)
        self.verdicts += judged
        self.alarms += [others] if others else []
        return [
            *(f"{verdict.expectation.analyzer}: {verdict.wrong}" for verdict in judged if verdict.wrong),
            *(_told(others) if others else ()),
        ]

    @property
    def as_expected(self) -> bool:
        """Whether nothing is wrong."""
        return not self.alarms and not any(verdict.wrong for verdict in self.verdicts)

    def of(self, analyzer: str) -> list[Verdict]:
        """The verdicts on the faults of one name."""
        return [verdict for verdict in self.verdicts if verdict.expectation.analyzer == analyzer]

    def alarmed(self, *, healthy: bool) -> set[str]:
        """Names of the programs with an alarm that nobody expected, in any run."""
        return {alarms.program.name for alarms in self.alarms if alarms.program.healthy is healthy and alarms.findings}


def share(answers: Iterable[Answer]) -> str:
    """How many are right, of those that something was expected of."""
    given = [answer for answer in answers if answer is not None]
    return f"{sum(given)} / {len(given)}" if given else "-"


def _told(others: Alarms) -> Iterable[str]:
    for finding in others.findings:
        yield f"unexpected {finding.severity} {finding.analyzer} (step {finding.step}): {finding.message}"
    if others.error:
        yield f"it ended with {others.error}"
