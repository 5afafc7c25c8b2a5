"""The pytest plugin: fixtures, the marker, and `--gradscope`, which watches every model that a test trains.

pytest loads this module in every suite where gradscope is installed, so it imports nothing that a suite without
gradients does not have already. Whoever uses it gets the rest from its neighbours.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gradscope.integrations.pytest_hooks import count, counted, register, watch_of

if TYPE_CHECKING:
    from gradscope.integrations.pytest_watching import Watching
    from gradscope.integrations.snapshots import Snapshots

MARKER = (
    "gradscope(ignore=[...]): names of gradscope's analyzers that do not judge what this test trains, "
    'as in ignore=["vanishing-gradient"]; "vanishing-gradient:encoder.*" is for some sites only.'
)

FOLDER = "__gradscope__"

collected: pytest.StashKey[list[pytest.Item]] = pytest.StashKey()
stale: pytest.StashKey[set[str]] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the command line options."""
    group = parser.getgroup("gradscope", "the debugger for gradients")
    group.addoption(
        "--gradscope",
        choices=("error", "warning"),
        help="watch every model that a test trains, and fail the test on findings of this severity or a higher one",
    )
    group.addoption("--gradscope-update", action="store_true", help="write the snapshots that are missing or drifted")


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker, and what is counted over the whole session."""
    config.addinivalue_line("markers", MARKER)
    if config.getoption("gradscope"):
        _check_settings()
        register(config)
    config.stash[counted] = {}
    config.stash[collected] = []
    config.stash[stale] = set()


def _check_settings() -> None:
    """Say once, and not in each test, that pyproject.toml asks for something that cannot be meant."""
    from gradscope.errors import GradscopeError
    from gradscope.selection import select

    try:
        select()
    except GradscopeError as error:
        raise pytest.UsageError(f"gradscope: {error}") from None


@pytest.fixture(name="gradscope")
def _gradscope(request: pytest.FixtureRequest) -> "Watching":
    """Watch a model for the rest of the test: `scope = gradscope(model)`; its methods are assertions.

    The report of what was watched is attached to a test that fails.
    """
    register(request.config)
    return watch_of(request.node).fixture


@pytest.fixture(name="gradscope_snapshot")
def _gradscope_snapshot(request: pytest.FixtureRequest) -> "Snapshots":
    """Hold what a scope captured against what it captured before: `gradscope_snapshot.check(scope)`."""
    from gradscope.integrations.snapshots import Snapshots

    count(request.config, {"snapshots": 1})
    update = request.config.getoption("gradscope_update")
    return Snapshots(_folder(request.node.path), _name(request.node), update=update)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Remember all tests, before some are deselected: their snapshots are not left over."""
    if not any("::" in argument for argument in config.args) and not config.getoption("lf", default=False):
        config.stash[collected] = [*items]


def pytest_sessionfinish(session: pytest.Session) -> None:
    """See which snapshots are left over; a worker of pytest-xdist hands on to the controller what it has seen."""
    config = session.config
    total, tests, old = config.stash[counted], config.stash[collected], config.stash[stale]
    if total.get("snapshots") or config.getoption("gradscope_update"):
        old |= _leftovers(tests)
    output = getattr(config, "workeroutput", None)
    if output is not None:
        output["gradscope"] = {"counted": total, "stale": sorted(old)}


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take over what a worker of pytest-xdist has counted."""
    output = getattr(node, "workeroutput", {}).get("gradscope")
    if output:
        count(node.config, output["counted"])
        known: set[str] = node.config.stash[stale]
        known.update(output["stale"])


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Say how much was watched, and which snapshots nobody needs."""
    if config.getoption("gradscope"):
        total = config.stash[counted]
        models, tests = total.get("models", 0), total.get("tests", 0)
        seen = f"models watched: {models}, in {tests} tests" if models else "no test has trained a model"
        terminalreporter.write_line(f"gradscope: {seen}")
    old, update = config.stash[stale], config.getoption("gradscope_update")
    if old:
        verb = "deleted" if update else "delete them with --gradscope-update"
        terminalreporter.write_line(f"gradscope: snapshots of tests that no longer exist ({verb}):")
    for path in sorted(old):
        terminalreporter.write_line(f"    {path}")
        if update:
            Path(path).unlink(missing_ok=True)


def _name(item: pytest.Item) -> str:
    """The test's name in its module, with its class and its parameters."""
    return item.nodeid.partition("::")[2].replace("::", ".") or item.name


def _folder(test: Path) -> Path:
    """Where the snapshots of a test file are: a folder for each file, beside it."""
    return test.parent / FOLDER / test.stem


def _leftovers(items: Iterable[pytest.Item]) -> set[str]:
    """The snapshots beside these tests that belong to none of them, nor to another file that is still there."""
    names: dict[Path, set[str]] = {}
    for item in items:
        names.setdefault(item.path, set()).add(_name(item))
    folders = {_folder(test): its for test, its in names.items() if _folder(test).is_dir()}
    for home in {test.parent for test in names}:
        gone = (folder for folder in (home / FOLDER).glob("*") if not (home / f"{folder.name}.py").exists())
        folders |= {folder: set() for folder in gone}
    if not folders:
        return set()
    from gradscope.integrations.snapshots import leftovers

    return {str(path) for folder, its in folders.items() for path in leftovers(folder, its)}
