"""What the pytest plugin does around each test. It is registered when the first test asks for it: hooks cost time."""

from collections.abc import Generator, Iterable
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from gradscope.integrations.pytest_watching import WatchedTest

NAME = "gradscope-tests"

watched: pytest.StashKey["WatchedTest"] = pytest.StashKey()
counted: pytest.StashKey[dict[str, int]] = pytest.StashKey()


class AroundTests:
    """Watches, closes, judges and reports, test by test."""

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None, None, None]:
        """With `--gradscope`, watch from here on, so that what fixtures train counts too."""
        if item.config.getoption("gradscope"):
            watch_of(item).watch_everything()
        yield

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        """Close what is open when the test is over, and judge what `--gradscope` has seen."""
        try:
            result = yield
        except BaseException as error:
            if watched in item.stash:
                item.stash[watched].close(error)
            raise
        if watched in item.stash:
            _judge(item, item.stash[watched])
        return result

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, None, None]:
        """Let go of the models; what a failed setup has left open is closed."""
        if watched in item.stash:
            item.stash[watched].close(None)
            del item.stash[watched]
        yield

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Attach what was captured to the report of a test that failed."""
        report = yield
        if report.failed and watched in item.stash:
            report.sections.extend(("gradscope", text) for text in item.stash[watched].sections())
        return report


def register(config: pytest.Config) -> None:
    """From now on, be around each test."""
    if not config.pluginmanager.has_plugin(NAME):
        config.pluginmanager.register(AroundTests(), NAME)


def watch_of(item: pytest.Item) -> "WatchedTest":
    """What is watched in a test, made when it is first asked for."""
    if watched not in item.stash:
        from gradscope.integrations.pytest_watching import WatchedTest

        item.stash[watched] = WatchedTest(_ignored(item.iter_markers("gradscope")))
    return item.stash[watched]


def count(config: pytest.Config, more: dict[str, int]) -> None:
    """Add to what is counted over the whole session."""
    total = config.stash[counted]
    for name, number in more.items():
        total[name] = total.get(name, 0) + number


def _judge(item: pytest.Item, watch: "WatchedTest") -> None:
    """Fail the test for what `--gradscope` has found, and count what it has seen."""
    watch.close(None)
    least = item.config.getoption("gradscope")
    if not least:
        return
    models = watch.models()
    count(item.config, {"models": models, "tests": int(models > 0)})
    verdict = watch.verdict(least)
    if verdict:
        pytest.fail(verdict, pytrace=False)


def _ignored(marks: Iterable[pytest.Mark]) -> tuple[str, ...]:
    """The names in all markers of a test, its class and its module."""
    names: list[str] = []
    for mark in marks:
        if mark.args or set(mark.kwargs) != {"ignore"}:
            pytest.fail(f"pytest.mark.gradscope takes ignore=[...] and nothing else, not {mark}", pytrace=False)
        ignore = mark.kwargs["ignore"]
        names.extend([ignore] if isinstance(ignore, str) else ignore)
    return tuple(names)
