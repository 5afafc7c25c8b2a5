"""What the pytest plugin watches in one test: the models that the test names, and with `--gradscope` all others."""

import sys
from collections.abc import Iterable, Iterator, Mapping
from math import inf
from typing import Any

from torch import nn

from gradscope.findings import Finding, Report, Severity
from gradscope.records import Kind
from gradscope.scope import Scope, watch
from gradscope.testing import (
    assert_bitwise_equal,
    assert_gain,
    assert_gradient_norm,
    assert_gradients_reach,
    assert_healthy,
    assert_no_cut,
    assert_parameters_update,
)
from gradscope.watching import Everything, watch_everything


class Watching:
    """The fixture `gradscope`: called with a model, it watches it until the test ends or an assertion is made.

    The assertions are those of `gradscope.testing`, made of the model that is watched; where several are, `scope` says
    which. An assertion ends the watching, so that the last step is judged too. What the package `gradscope` offers is
    offered here as well (`gradscope.Kind`), because the fixture hides the package of the same name.
    """

    def __init__(self, ignore: Iterable[str] = ()) -> None:
        self._ignore = tuple(ignore)
        self._scopes: list[Scope] = []
        self._open: list[Scope] = []

    def __call__(self, model: nn.Module | Mapping[str, nn.Module], *, every: int = 1, **options: Any) -> Scope:
        """Watch a model, or several by name.

        Args:
            model: a module, or several by name.
            every: take statistics on every so-many-th step.
            options: those of `gradscope.watch`; `ignore` adds to what the test's marker ignores.

        Raises:
            NotAModule, NoParameters, AlreadyWatched, UnknownAnalyzer, ValueError: as `gradscope.watch`.
        """
        ignore = options.pop("ignore", ())
        ignore = (ignore,) if isinstance(ignore, str) else tuple(ignore)
        scope = watch(model, every=every, ignore=(*self._ignore, *ignore), **options)
        scope.__enter__()
        self._scopes.append(scope)
        self._open.append(scope)
        return scope

    def __repr__(self) -> str:
        watched = ", ".join(map(_names, self._scopes)) or "nothing yet"
        return f"<gradscope watches {watched}>"

    @property
    def scopes(self) -> tuple[Scope, ...]:
        """What was watched, in the order of the calls."""
        return tuple(self._scopes)

    def close(self, error: BaseException | None = None) -> None:
        """End the watching; an exception that ended the test gets a note where gradscope can explain it."""
        while self._open:
            self._open.pop().__exit__(type(error) if error else None, error, error.__traceback__ if error else None)

    def assert_healthy(
        self,
        *,
        ignore: Iterable[str] = (),
        severity: Severity | str = Severity.WARNING,
        scope: Scope | None = None,
    ) -> None:
        """As `gradscope.testing.assert_healthy`."""
        __tracebackhide__ = True
        assert_healthy(self._ended(scope), ignore=ignore, severity=severity)

    def assert_gradients_reach(self, pattern: str = "*", *, scope: Scope | None = None) -> None:
        """As `gradscope.testing.assert_gradients_reach`."""
        __tracebackhide__ = True
        assert_gradients_reach(self._ended(scope), pattern)

    def assert_no_cut(self, between: str, and_: str, *, scope: Scope | None = None) -> None:
        """As `gradscope.testing.assert_no_cut`."""
        __tracebackhide__ = True
        assert_no_cut(self._ended(scope), between, and_)

    def assert_gradient_norm(
        self,
        pattern: str = "*",
        low: float = 0.0,
        high: float = inf,
        *,
        kind: Kind | str = Kind.PARAMETER_GRADIENT,
        step: int | None = None,
        scope: Scope | None = None,
    ) -> None:
        """As `gradscope.testing.assert_gradient_norm`."""
        __tracebackhide__ = True
        assert_gradient_norm(self._ended(scope), pattern, low, high, kind=kind, step=step)

    def assert_gain(
        self,
        pattern: str = "*",
        low: float = 0.0,
        high: float = inf,
        *,
        step: int | None = None,
        scope: Scope | None = None,
    ) -> None:
        """As `gradscope.testing.assert_gain`."""
        __tracebackhide__ = True
        assert_gain(self._ended(scope), pattern, low, high, step=step)

    def assert_parameters_update(self, pattern: str = "*", *, scope: Scope | None = None) -> None:
        """As `gradscope.testing.assert_parameters_update`."""
        __tracebackhide__ = True
        assert_parameters_update(self._ended(scope), pattern)

    def assert_bitwise_equal(self, run_a: object, run_b: object) -> None:
        """As `gradscope.testing.assert_bitwise_equal`; it needs no watched model."""
        __tracebackhide__ = True
        assert_bitwise_equal(run_a, run_b)

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.modules["gradscope"], name)

    def _ended(self, scope: Scope | None) -> Scope:
        """The scope that is meant, closed."""
        if scope is None and not self._scopes:
            raise ValueError("no model is watched: call gradscope(model) before the training")
        if scope is None and len(self._scopes) > 1:
            raise ValueError(f"{len(self._scopes)} models are watched: say which is meant, with scope=")
        self.close()
        return self._scopes[0] if scope is None else scope


class WatchedTest:
    """Everything that is watched in one test."""

    def __init__(self, ignore: Iterable[str] = ()) -> None:
        self._ignore = tuple(ignore)
        self._everything: Everything | None = None
        self._open = False
        self._told = False
        self.fixture = Watching(self._ignore)

    def watch_everything(self) -> None:
        """Watch every model that an optimizer trains from now on."""
        self._everything = watch_everything(ignore=self._ignore)
        self._everything.__enter__()
        self._open = True

    def close(self, error: BaseException | None) -> None:
        """End all watching."""
        self.fixture.close(error)
        if self._everything is not None and self._open:
            self._open = False
            self._everything.__exit__(type(error) if error else None, error, error.__traceback__ if error else None)

    def models(self) -> int:
        """How many models were trained."""
        return len(list(self._reports()))

    def verdict(self, severity: str) -> str:
        """Why the test fails for findings of this severity or a higher one; "" if it does not."""
        parts: list[str] = []
        for name, report in self._reports():
            found = [finding for finding in report.findings if finding.severity.rank <= Severity(severity).rank]
            parts += [_told(name, found)] if found else []
        self._told = bool(parts)
        return "\n\n".join(parts)

    def sections(self) -> Iterator[str]:
        """The reports that belong to a failed test, but for what its message says already."""
        if self._told:
            return
        for name, report in self._reports():
            yield f"{name}\n\n{report}" if name else str(report)
        if self._everything is not None and self._everything.notes:
            yield "\n".join(f"not watched: {note}" for note in self._everything.notes)

    def _reports(self) -> Iterator[tuple[str, Report]]:
        """The name of each model that did at least one step, and what is said of it."""
        named = [(_names(scope), scope.report()) for scope in self.fixture.scopes]
        found = self._everything.reports().items() if self._everything is not None else ()
        return ((name, report) for name, report in (*named, *found) if report.steps or report.findings)


def _names(scope: Scope) -> str:
    return ", ".join(type(model).__name__ for model in scope.models.values())


def _told(name: str, findings: list[Finding]) -> str:
    names = list(dict.fromkeys(finding.analyzer for finding in findings))
    way_out = f"if that is meant, mark the test: @pytest.mark.gradscope(ignore={names!r})"
    return "\n\n".join([f"gradscope: {name}, which this test trains, is not healthy", *map(str, findings), way_out])
