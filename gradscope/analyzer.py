"""The contract of an analyzer: a pure function of a recording that yields findings.

An analyzer is one frozen dataclass in one file. Its name comes from its class, its thresholds are its
fields, its page is its docstring. The docstring has the sections of `SECTIONS`; the examples in it are tests.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from gradscope.findings import Finding, Severity
from gradscope.records import Kind, Recording

SECTIONS = (
    "What it means",
    "Why it matters",
    "How it is measured",
    "What it is not",
    "How to fix it",
    "Fires on",
    "Silent on",
    "Sources",
)


@dataclass(frozen=True, slots=True)
class Request:
    """An analyzer's wish for a closer look: trace the operations of the next step."""

    reason: str


@dataclass(frozen=True)
class Analyzer(ABC):
    """Judges one disease. Subclasses are frozen dataclasses whose fields are thresholds.

    Class attributes:
        name: kebab-case, derived from the class name.
        severity: of the findings it makes.
        needs: kinds of sites without which it cannot judge; lacking them, the report says it did not run.
        every_step: judged at every step, because it looks at exact events only and costs next to nothing.
        revocable: later steps may take its findings back, as of a parameter that gets its first gradient at last.
        explains: names of analyzers whose later findings are consequences of this one's.
    """

    name: ClassVar[str]
    severity: ClassVar[Severity]
    needs: ClassVar[frozenset[Kind]] = frozenset()
    every_step: ClassVar[bool] = False
    revocable: ClassVar[bool] = False
    explains: ClassVar[frozenset[str]] = frozenset()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.name = re.sub(r"(?<!^)(?=[A-Z])", "-", cls.__name__).lower()

    @abstractmethod
    def analyze(self, recording: Recording) -> Iterator[Finding | Request]:
        """Yield what is wrong in the recording, or ask for a closer look."""
        raise NotImplementedError

    def finding(self, **fields: Any) -> Finding:
        """A finding of this analyzer, with its name and severity filled in."""
        return Finding(**{"analyzer": self.name, "severity": self.severity, **fields})
