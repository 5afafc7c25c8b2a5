"""Configuration: pyproject.toml, the program, the command line; which wins; what is said when it cannot be meant."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from running.commands import gradscope_run
from torch import nn

import gradscope
from gradscope import catalogue, settings
from gradscope.analyzer import Analyzer, Request
from gradscope.analyzers.unzeroed_gradient import UnzeroedGradient
from gradscope.analyzers.vanishing_gradient import VanishingGradient
from gradscope.catalogue import find, known
from gradscope.cli import main
from gradscope.engine import Engine
from gradscope.errors import BadSetting, UnknownAnalyzer
from gradscope.findings import Finding, Severity
from gradscope.records import Recording
from gradscope.running import names
from gradscope.selection import Selection, check, select
from gradscope.settings import Settings, ambient, assigned, begin, end, is_spared
from gradscope.testing import assert_healthy, recording, step_event
from gradscope.trainers import WatchedRuns
from gradscope.watching import watch_everything

Project = Callable[[str], Path]
SICK = """
import torch
net = torch.nn.ModuleDict({"encoder": torch.nn.Linear(4, 4), "head": torch.nn.Linear(4, 1)})
optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
for _ in range(6):
    optimizer.zero_grad()
    net["head"](net["encoder"](torch.randn(8, 4)).detach()).square().mean().backward()
    optimizer.step()
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """Writes pyproject.toml, and goes into a folder below it."""
    below = tmp_path / "src" / "deep"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)

    def write(text: str) -> Path:
        (tmp_path / "pyproject.toml").write_text(text, encoding="utf-8")
        return tmp_path / "pyproject.toml"

    return write


@pytest.fixture
def command_line() -> Iterator[Callable[..., None]]:
    """Puts settings of the command line in force, over those of the project."""
    given: list[tuple[Settings, ...]] = []

    def put(**options: object) -> None:
        given.append((*ambient(), Settings(**options)))  # type: ignore[arg-type]
        begin(given[-1])

    yield put
    for each in given:
        end(each)


def chosen_names(selection: Selection) -> list[str]:
    return [analyzer.name for analyzer in selection.analyzers]


def fall(selection: Selection) -> float:
    (found,) = (analyzer for analyzer in selection.analyzers if isinstance(analyzer, VanishingGradient))
    return found.fall


def sick() -> gradscope.Scope:
    net = nn.ModuleDict({"encoder": nn.Linear(4, 4), "head": nn.Linear(4, 1)})
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    with gradscope.watch(net) as scope:
        for _ in range(6):
            optimizer.zero_grad()
            net["head"](net["encoder"](torch.randn(8, 4)).detach()).square().mean().backward()
            optimizer.step()
    return scope


def test_without_a_section_everything_is_as_it_was(project: Project) -> None:
    project('[project]\nname = "gradscope-user"\n')
    assert select() == Selection(tuple(cls() for cls in known().values()))


def test_the_nearest_section_counts(project: Project) -> None:
    file = project('[tool.gradscope]\nignore = ["unused-parameter"]\n')
    (file.parent / "src" / "pyproject.toml").write_text('[tool.gradscope]\nselect = ["vanishing-gradient"]\n')
    (file.parent / "src" / "deep" / "pyproject.toml").write_text("[tool.ruff]\nline-length = 1  # gradscope\n")
    assert chosen_names(select()) == ["vanishing-gradient"]


def test_a_file_that_has_changed_is_read_again(project: Project) -> None:
    project('[tool.gradscope]\nignore = ["unused-parameter"]\n')
    assert "unused-parameter" not in chosen_names(select())
    project("[tool.gradscope]\nignore = []  # any more\n")
    assert "unused-parameter" in chosen_names(select())


def test_thresholds_of_the_project_hold_for_analyzers_that_are_named_or_not(project: Project) -> None:
    project("[tool.gradscope.analyzers.vanishing-gradient]\nfall = 1000\nsteps = 5\n")
    assert fall(select()) == 1000.0
    assert isinstance(fall(select()), float)
    assert fall(select(["vanishing-gradient"])) == 1000.0


def test_the_program_wins_over_the_command_line_over_the_project(
    project: Project, command_line: Callable[..., None]
) -> None:
    project("[tool.gradscope.analyzers.vanishing-gradient]\nfall = 1e3\nsteps = 5\n")
    command_line(thresholds=assigned(["vanishing-gradient.fall=1e4"]))
    (named,) = select(["vanishing-gradient"]).analyzers
    assert named == VanishingGradient(fall=1e4, steps=5)
    (given,) = select([VanishingGradient(fall=1e7)]).analyzers
    assert given == VanishingGradient(fall=1e7)


def test_what_is_ignored_adds_up(project: Project, command_line: Callable[..., None]) -> None:
    project('[tool.gradscope]\nignore = ["unused-parameter", "detached-tensor:a.*"]\n')
    command_line(ignore=("vanishing-gradient", "detached-tensor:b.*"))
    made = select(ignore="exploding-gradient")
    assert set(known()) - set(chosen_names(made)) == {"unused-parameter", "vanishing-gradient", "exploding-gradient"}
    assert made.exempt == ("detached-tensor:a.*", "detached-tensor:b.*")


def test_who_names_an_analyzer_gets_it(project: Project, command_line: Callable[..., None]) -> None:
    project('[tool.gradscope]\nignore = ["unused-parameter", "detached-tensor:a.*"]\nselect = ["unused-parameter"]\n')
    assert chosen_names(select()) == []
    command_line(select=("unused-parameter", "detached-tensor"))
    assert chosen_names(select()) == ["unused-parameter", "detached-tensor"]
    assert select(["detached-tensor", "unused-parameter"]).exempt == ("detached-tensor:a.*",)
    assert chosen_names(select(["unused-parameter"])) == ["unused-parameter"]
    assert chosen_names(select(["unused-parameter"], ["unused-parameter"])) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[tool.gradscope]\ningore = []", r"\[tool.gradscope\] has no 'ingore': did you mean 'ignore'\?"),
        ("[tool.gradscope]\nignore = [1]", r'ignore is to be a list of names, as in ignore = \["unused-parameter"\]'),
        ("[tool]\ngradscope = true", r"tool.gradscope is to be a table, \[tool.gradscope\]"),
        ("[tool.gradscope", "is no valid TOML: "),
        (
            '[tool.gradscope]\nignore = ["vanishing-gradients"]',
            "no analyzer is called 'vanishing-gradients': did you mean 'vanishing-gradient'",
        ),
        ("[tool.gradscope.analyzers.vanishing]\nfall = 1", "no analyzer is called 'vanishing': did you mean"),
        (
            "[tool.gradscope.analyzers.vanishing-gradient]\nfal = 1",
            r"vanishing-gradient has no threshold 'fal': did you mean 'fall'\?",
        ),
        (
            "[tool.gradscope.analyzers.vanishing-gradient]\nratio = 1",
            "vanishing-gradient has no threshold 'ratio': it has fall, least_sites, correlation, share, steps",
        ),
        ("[tool.gradscope.analyzers.unzeroed-gradient]\nratio = 1", "unzeroed-gradient has no thresholds"),
        (
            '[tool.gradscope.analyzers.vanishing-gradient]\nfall = "big"',
            "vanishing-gradient.fall takes a number, as in 100000.0, not 'big'",
        ),
        ("[tool.gradscope.analyzers.vanishing-gradient]\nfall = nan", "takes a number"),
        ("[tool.gradscope.analyzers.vanishing-gradient]\nfall = true", "takes a number"),
        (
            "[tool.gradscope.analyzers.vanishing-gradient]\nsteps = 2.5",
            "vanishing-gradient.steps takes a whole number, as in 3, not 2.5",
        ),
        ("[tool.gradscope.analyzers]\nvanishing-gradient = false", "thresholds stand in a table for each analyzer"),
        ('[tool.gradscope]\nignore = ["detached-tensor:"]', "names no sites: write 'detached-tensor:encoder.\\*'"),
    ],
)
def test_what_cannot_be_meant_is_one_error_with_the_file_and_the_way_out(
    project: Project, text: str, message: str
) -> None:
    file = project(text)
    with pytest.raises((BadSetting, UnknownAnalyzer), match=message) as raised:
        gradscope.watch(nn.Linear(1, 1))
    assert str(raised.value).startswith(str(file))
    assert "\n" not in str(raised.value)
    with pytest.raises((BadSetting, UnknownAnalyzer), match=message):
        watch_everything()
    with pytest.raises((BadSetting, UnknownAnalyzer), match=message):
        WatchedRuns()


def test_a_broken_file_that_does_not_speak_of_us_is_not_our_business(project: Project) -> None:
    project("[tool.black")
    assert select().analyzers


@pytest.mark.parametrize("text", ["vanishing-gradient", "fall=3", "vanishing-gradient.=3", ".fall=3", "=", ""])
def test_assignments_that_are_none(text: str) -> None:
    with pytest.raises(BadSetting, match=r"takes ANALYZER\.THRESHOLD=VALUE, as in vanishing-gradient\.fall=1e6"):
        assigned([text])


def test_values_are_written_as_in_toml() -> None:
    given = ["a.b=1", "a.b = 1e-8", "a.b=true", "a.b='x'", "a.b=x y", "a.b=[1, 2]", "a.b=1\nc=2"]
    assert [value for _, _, value in assigned(given)] == [1, 1e-8, True, "x", "x y", [1, 2], "1\nc=2"]


@pytest.mark.parametrize("name", list(known()))
def test_the_command_line_knows_each_threshold_without_the_catalogue(name: str) -> None:
    file = names._own()[name]
    found = [threshold for threshold, _, _ in names._thresholds(file)]
    assert found == [threshold.name for threshold in fields(find(name))]
    for threshold, _, default in names._thresholds(file):
        given = Settings("", thresholds=((name, threshold, eval(default)),))  # noqa: S307  our own source
        names.check(given)
        check(given)


@pytest.mark.parametrize("check_it", [check, names.check])
def test_both_checks_say_the_same(check_it: Callable[[Settings], None]) -> None:
    for threshold, message in {
        ("vanishing-gradient", "fal", 1): r"^here: vanishing-gradient has no threshold 'fal': did you mean 'fall'\?$",
        ("vanishing-gradient", "steps", 0.5): "^here: vanishing-gradient.steps takes a whole number, as in 3, not 0.5$",
        ("vanishing", "steps", 0.5): "^here: no analyzer is called 'vanishing': ",
    }.items():
        with pytest.raises((BadSetting, UnknownAnalyzer), match=message):
            check_it(Settings("here", thresholds=(threshold,)))
    with pytest.raises(BadSetting, match="names no sites"):
        check_it(Settings("here", ignore=("detached-tensor:",)))


def test_a_finding_is_spared_when_all_of_its_sites_match() -> None:
    exempt = ("detached-tensor:encoder.*", "detached-tensor:head.bias", "vanishing-gradient:*")
    assert is_spared(exempt, "detached-tensor", ("encoder.0.weight", "head.bias"))
    assert not is_spared(exempt, "detached-tensor", ("encoder.0.weight", "head.weight"))
    assert not is_spared(exempt, "unzeroed-gradient", ("encoder.0.weight",))
    assert not is_spared(exempt, "vanishing-gradient", ())


@dataclass(frozen=True)
class Consequence(Analyzer):
    severity: ClassVar[Severity] = Severity.ERROR

    def analyze(self, recording: Recording) -> Iterator[Finding | Request]:
        yield self.finding(step=2, message="then", evidence="", fix="", sites=("head.weight",))


@dataclass(frozen=True)
class Cause(Consequence):
    explains: ClassVar[frozenset[str]] = frozenset({"consequence"})

    def analyze(self, recording: Recording) -> Iterator[Finding | Request]:
        yield self.finding(step=1, message="first", evidence="", fix="", sites=("encoder.weight",))


def test_what_does_not_count_is_no_cause_either() -> None:
    for exempt, expected in {
        (): ["cause"],
        ("cause:encoder.*",): ["consequence"],
        ("cause:head.*",): ["cause"],
    }.items():
        engine = Engine((Cause(), Consequence()), exempt)
        new, _ = engine.run(recording(complete=True), 0.0)
        assert [finding.analyzer for finding in new] == expected
        assert [finding.analyzer for finding in engine.findings()] == expected


def test_sites_are_ignored_in_a_run_and_in_assertions(project: Project) -> None:
    assert [finding.analyzer for finding in sick().findings] == ["detached-tensor"]
    assert_healthy(sick(), ignore="detached-tensor:encoder.*")
    with pytest.raises(AssertionError, match="detached-tensor"):
        assert_healthy(sick(), ignore="detached-tensor:head.*")
    with pytest.raises(AssertionError, match="detached-tensor"):
        assert_healthy(sick().recording, ignore=["detached-tensor:head.*"])
    assert_healthy(sick().recording, ignore=["detached-tensor:encoder.*"])
    project('[tool.gradscope]\nignore = ["detached-tensor:encoder.*"]\n')
    scope = sick()
    assert scope.findings == ()
    assert scope.exempt == ("detached-tensor:encoder.*",)
    assert_healthy(scope, ignore=["vanishing-gradient"])


def test_trainers_and_watch_everything_ignore_sites(project: Project) -> None:
    with watch_everything(ignore=["detached-tensor:encoder.*"]) as everything:
        namespace: dict[str, object] = {}
        exec(SICK, namespace)  # noqa: S102  our own program
    assert [report.findings for report in everything.reports().values()] == [()]
    runs = WatchedRuns(ignore=["detached-tensor:encoder.*"], quiet=True)
    assert runs._begin(nn.Linear(1, 1), main=True).exempt == ("detached-tensor:encoder.*",)
    runs._end()


def test_the_command_line_reaches_the_models_and_what_the_program_watches(project: Project, tmp_path: Path) -> None:
    project("[tool.gradscope.analyzers.vanishing-gradient]\nfall = 1e3\n")
    (tmp_path / "sick.py").write_text(SICK, encoding="utf-8")
    own = (
        "import gradscope, torch\nscope = gradscope.watch(torch.nn.Linear(1, 1))\n"
        "print(scope.exempt, *[a for a in scope.analyzers if a.name == 'vanishing-gradient'])\n"
        "import os; os.chdir('/')\nprint(gradscope.watch(torch.nn.Linear(1, 1)).exempt)\n"
    )
    (tmp_path / "own.py").write_text(own, encoding="utf-8")
    done = gradscope_run("--ignore", "detached-tensor:encoder.*", "--fail-on", "error", "sick.py", cwd=tmp_path)
    assert (done.returncode, "no findings" in done.stderr) == (0, True), done.stderr
    options = ("--ignore", "detached-tensor:encoder.*", "--set", "vanishing-gradient.steps=7")
    told = gradscope_run(*options, "own.py", cwd=tmp_path).stdout.splitlines()
    assert told[0].startswith("('detached-tensor:encoder.*',) VanishingGradient(fall=1000.0, ")
    assert told[0].endswith("steps=7)")
    assert told[1] == "('detached-tensor:encoder.*',)"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "vanishing-gradient.fal=1"], "vanishing-gradient has no threshold 'fal': did you mean 'fall'?"),
        (["--set", "vanishing-gradient.fall=x"], "vanishing-gradient.fall takes a number, as in 100000.0, not 'x'"),
        (["--ignore", "detached:*"], "no analyzer is called 'detached': did you mean 'detached-tensor'?"),
    ],
)
def test_the_command_line_is_checked_before_the_program_runs(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", *arguments, str(tmp_path / "not_there.py")]) == 2
    assert capsys.readouterr().err == f"gradscope: {message}\n"


def test_a_bad_section_stops_a_run_before_the_program(
    project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = project('[tool.gradscope.analyzers.vanishing-gradient]\nfall = "x"\n')
    assert main(["run", str(tmp_path / "not_there.py")]) == 2
    assert capsys.readouterr().err.startswith(f"gradscope: {file}: vanishing-gradient.fall takes a number")


def test_settings_are_checked_without_numpy(tmp_path: Path) -> None:
    code = (
        "import sys; from gradscope.running.names import check; from gradscope.settings import *; "
        "check(Settings('', ('detached-tensor:x',), None, assigned(['vanishing-gradient.fall=1e3']))); "
        "print('numpy' in sys.modules, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"


@dataclass(frozen=True)
class Fine(Consequence):
    """Another package's.

    ## What it means
    """

    names: tuple[str, ...] = ("a",)
    kept: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Demanding(Consequence):
    must: int = field(kw_only=True)


@dataclass(frozen=True)
class Stop(Consequence):
    def __post_init__(self) -> None:
        sys.exit(1)


class Entry:
    """An entry point of another package."""

    def __init__(self, name: str, value: object) -> None:
        self.name, self.value, self.dist, self._loaded = name, f"package:{name}", None, value

    def load(self) -> object:
        if isinstance(self._loaded, Exception):
            raise self._loaded
        return self._loaded


@pytest.fixture
def packages(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    entries = [
        Entry("fine", Fine),
        Entry("absent", ImportError("no module")),
        Entry("no-analyzer", int),
        Entry("demanding", Demanding),
        Entry("stop", Stop),
        Entry("unzeroed", type("UnzeroedGradient", (Consequence,), {})),
    ]
    monkeypatch.setattr(catalogue, "entry_points", lambda group: entries)
    catalogue._found.cache_clear()
    yield
    catalogue._found.cache_clear()


@pytest.mark.usefixtures("packages")
def test_an_analyzer_of_another_package_that_cannot_be_used_is_a_note(
    capsys: pytest.CaptureFixture[str], project: Project
) -> None:
    assert known()["unzeroed-gradient"] is UnzeroedGradient
    assert list(known())[-1] == "fine"
    with gradscope.watch(nn.Linear(1, 1)) as scope:
        pass
    notes = "\n".join(scope.report().notes)
    for name in ("absent", "no-analyzer", "demanding", "stop", "unzeroed"):
        assert f"the analyzer {name!r} could not be loaded: " in notes
    assert "'unzeroed-gradient', is taken" in notes
    with pytest.raises(UnknownAnalyzer, match="'absent' could not be loaded"):
        select(["absent"])
    assert main(["analyzers"]) == 0
    told = capsys.readouterr()
    assert "fine " in told.out
    assert "'absent' could not be loaded" in told.err


@pytest.mark.usefixtures("packages")
def test_analyzers_of_other_packages_are_configured_like_ours(project: Project) -> None:
    project('[tool.gradscope]\nselect = ["fine"]\n[tool.gradscope.analyzers.fine]\nnames = ["x", "y"]\n')
    assert select().analyzers == (Fine(names=("x", "y")),)
    project("[tool.gradscope.analyzers.fine]\nkept = {a = 1}\n")
    with pytest.raises(BadSetting, match=r"fine\.kept takes what no text can say: pass an instance"):
        select()


def test_settings_of_a_run_end_with_it(project: Project) -> None:
    given = (Settings(ignore=("unused-parameter",)),)
    begin(given)
    assert ambient() == given
    end(given)
    end(given)
    assert ambient() == (Settings(),)
    assert settings._given == []


def test_sites_are_ignored_where_loops_are_judged() -> None:
    again = step_event(parameters=2, reused=("encoder.weight", "encoder.bias"))
    engine = Engine((UnzeroedGradient(),), ("unzeroed-gradient:encoder.*",))
    engine.run(recording(events={1: [again]}), 0.0)
    assert engine.findings() == ()
