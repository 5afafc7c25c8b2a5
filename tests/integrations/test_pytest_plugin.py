"""The pytest plugin, in real pytest runs."""

import json
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest
import torch._dynamo
from pytest import Pytester, RunResult  # noqa: PT013  the types of the fixtures

import gradscope.integrations.pytest_watching
from gradscope.integrations.snapshots import Snapshots, drifts, file_name, leftovers, read, taken, written
from gradscope.records import Recording
from gradscope.testing import recording

pytest_plugins = ["pytester"]

# Runs in this process forget what they import, and torch cannot be imported twice.
LOADED_FOR_GOOD = (torch._dynamo, gradscope.integrations.pytest_watching)

MODELS = """
import pytest
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, cut=False):
        super().__init__()
        self.cut = cut
        self.encoder = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8))
        self.decoder = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 1))

    def forward(self, x):
        code = self.encoder(x)
        if self.cut:
            code = code.detach()
        return self.decoder(code)

class Sick(Net):
    def __init__(self):
        super().__init__(cut=True)

class Steep(nn.Sequential):
    def __init__(self):
        layers = [layer for _ in range(13) for layer in (nn.Linear(8, 8), nn.Sigmoid())]
        super().__init__(*layers, nn.Linear(8, 1))

def train(model, steps=2, lr=0.1, inputs=4):
    torch.manual_seed(0)
    optimizer = torch.optim.SGD(model.parameters(), lr)
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.randn(6, inputs)).square().mean().backward()
        optimizer.step()
"""


HEAD = "import pytest\nfrom nets_of_this_run import *\n\n"


@pytest.fixture(autouse=True)
def _models(pytester: Pytester) -> None:
    pytester.makepyfile(nets_of_this_run=MODELS)
    pytester.syspathinsert()


def run(pytester: Pytester, code: str, *arguments: str, **files: str) -> RunResult:
    """Run a test file in this process, where warnings are errors."""
    pytester.makepyfile(test_it=HEAD + dedent(code), **files)
    return again(pytester, *arguments)


def again(pytester: Pytester, *arguments: str) -> RunResult:
    return pytester.runpytest_inprocess("-W", "error", "-p", "no:cacheprovider", *arguments)


def text(result: RunResult) -> str:
    return "\n".join(result.outlines)


# Loading

LOADED = "import sys, pathlib\npathlib.Path('loaded').write_text(' '.join(sys.modules))\n"
HEAVY = {"numpy", "pandas", "torch", "rich", "matplotlib", "tensorboard"}


@pytest.mark.parametrize("arguments", [(), ("--gradscope-update",)])
def test_a_suite_that_does_not_use_it_loads_nothing_of_it(pytester: Pytester, arguments: tuple[str, ...]) -> None:
    pytester.makepyfile(test_it="def test_it():\n    pass\n")
    pytester.makeconftest("import atexit\n\n@atexit.register\ndef note():\n    " + LOADED.replace("\n", "\n    "))
    result = pytester.runpytest_subprocess(*arguments)
    result.assert_outcomes(passed=1)
    loaded = set((pytester.path / "loaded").read_text().split())
    assert "gradscope.integrations.pytest_plugin" in loaded
    assert not loaded & HEAVY
    ours = {name for name in loaded if name.split(".")[0] == "gradscope"}
    package = "gradscope.integrations"
    assert ours == {"gradscope", package, f"{package}.pytest_hooks", f"{package}.pytest_plugin"}


def test_the_modules_that_are_loaded_would_be_noticed() -> None:
    script = "import gradscope.integrations.pytest_watching, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert {"torch", "numpy", "pandas"} <= set(done.stdout.split())


def test_options_marker_and_fixtures_are_told(pytester: Pytester) -> None:
    shown = text(again(pytester, "--help", "--fixtures"))
    assert "--gradscope={error,warning}" in shown
    assert "--gradscope-update" in shown
    assert "@pytest.mark.gradscope(ignore=[...])" in text(again(pytester, "--markers"))
    shown = text(again(pytester, "--fixtures"))
    assert "gradscope -- " in shown
    assert "Watch a model for the rest of the test" in shown
    assert "gradscope_snapshot -- " in shown


def test_another_severity_is_refused(pytester: Pytester) -> None:
    result = pytester.runpytest_inprocess("--gradscope=note")
    assert result.ret == pytest.ExitCode.USAGE_ERROR


# The fixture


def test_the_fixture_watches_and_its_methods_are_assertions(pytester: Pytester) -> None:
    result = run(
        pytester,
        """
        def test_all(gradscope):
            model = Net()
            scope = gradscope(model)
            train(model)
            assert len(scope.recording.observed) == 2
            gradscope.assert_healthy()
            gradscope.assert_gradients_reach("encoder.*")
            gradscope.assert_no_cut(between="encoder", and_="decoder")
            gradscope.assert_gradient_norm("decoder.*", 1e-6, 1e6)
            gradscope.assert_gain("decoder.*", 1e-6, 1e6)
            gradscope.assert_parameters_update()
            gradscope.assert_bitwise_equal([1.0], [1.0])

        def test_every_step_is_observed(gradscope):
            scope = gradscope(model := Net())
            train(model, steps=60)
            gradscope.assert_healthy()
            assert len(scope.recording.observed) == 60
        """,
    )
    result.assert_outcomes(passed=2)


@pytest.mark.parametrize(
    ("assertion", "headline"),
    [
        ("assert_healthy()", "not healthy: detached-tensor"),
        ('assert_gradients_reach("encoder")', "the gradient does not reach 4 of 4 parameters"),
        ('assert_no_cut("encoder", "decoder")', "the gradient does not come from 'decoder' to 'encoder'"),
        ('assert_gradient_norm("encoder", 1e-6)', "4 of 4 gradients that match 'encoder'"),
        ('assert_gain("decoder.*", 0.0, 1e-6)', "2 of 2 modules that match 'decoder.*'"),
        ("assert_parameters_update()", "4 of 8 parameters that match '*' were not updated"),
        ("assert_bitwise_equal(1, 2)", "the runs differ: 1 against 2"),
    ],
)
def test_each_assertion_can_fail(pytester: Pytester, assertion: str, headline: str) -> None:
    code = f"def test_it(gradscope):\n    gradscope(model := Sick())\n    train(model)\n    gradscope.{assertion}\n"
    result = run(pytester, code)
    result.assert_outcomes(failed=1)
    shown = text(result)
    assert f"E       AssertionError: {headline}" in shown
    assert "gradscope/testing" not in shown, "frames of gradscope's own are hidden"


def test_a_failure_shows_profile_line_and_report(pytester: Pytester) -> None:
    result = run(
        pytester,
        """
        def test_it(gradscope):
            gradscope(model := Sick())
            train(model)
            gradscope.assert_gradients_reach("encoder.*")
        """,
    )
    result.stdout.fnmatch_lines(
        [
            "E              module     type        at its output  of its parameters",
            "E           >  encoder.0  Linear                  -                  -",
            "E       ERROR    detached-tensor   since step 0   4 of 8 parameters",
            "E                *nets_of_this_run.py:15  .detach() after 'encoder.2' cuts the graph*",
            "E                    code = code.detach()",
            "*- gradscope -*",
            "Sick",
            "gradscope: 1 error in 2 steps, 2 observed*",
        ]
    )


def test_the_report_is_attached_to_any_failure_and_to_no_success(pytester: Pytester) -> None:
    result = run(
        pytester,
        """
        def test_fails(gradscope):
            gradscope(model := Sick())
            train(model)
            assert 1 == 2

        def test_passes(gradscope):
            gradscope(model := Sick())
            train(model)
        """,
        "-rA",
    )
    result.assert_outcomes(failed=1, passed=1)
    assert text(result).count("ERROR    detached-tensor") == 1


def test_one_backward_is_enough(pytester: Pytester) -> None:
    result = run(
        pytester,
        """
        def test_it(gradscope):
            gradscope(model := Sick())
            model(torch.randn(2, 4)).sum().backward()
            gradscope.assert_healthy()
        """,
    )
    result.stdout.fnmatch_lines(
        ["E                *nets_of_this_run.py:15  .detach() after 'encoder.2' cuts the graph*"]
    )


def test_a_model_may_be_watched_in_a_fixture(pytester: Pytester) -> None:
    result = run(
        pytester,
        """
        @pytest.fixture
        def model(gradscope):
            model = Net()
            gradscope(model)
            return model

        def test_it(model, gradscope):
            train(model)
            gradscope.assert_healthy()

        @pytest.fixture
        def broken(gradscope):
            gradscope(Net())
            raise OSError("no data")

        def test_setup_fails(broken):
            pass
        """,
    )
    result.assert_outcomes(passed=1, errors=1)


def test_nothing_is_left_watched(pytester: Pytester) -> None:
    result = run(
        pytester,
        """
        from gradscope.hooks.broadcast import _listeners
        MODEL = Net()

        @pytest.mark.parametrize("how", ["pass", "fail", "skip", "xfail"])
        def test_it(gradscope, how):
            gradscope(MODEL)
            if how != "pass":
                getattr(pytest, how)("as planned")

        def test_after():
            assert not _listeners
        """,
    )
    result.assert_outcomes(passed=2, failed=1, skipped=1, xfailed=1)


def test_which_model_is_meant_must_be_clear(pytester: Pytester) -> None:
    result = run(
        pytester,
        """
        def test_two(gradscope):
            one, two = Net(), Sick()
            first, second = gradscope(one), gradscope(two)
            train(one)
            train(two)
            with pytest.raises(ValueError, match="2 models are watched: say which is meant, with scope="):
                gradscope.assert_healthy()
            gradscope.assert_healthy(scope=first)
            with pytest.raises(AssertionError, match="not healthy"):
                gradscope.assert_healthy(scope=second)

        def test_none(gradscope):
            with pytest.raises(ValueError, match=r"call gradscope\\(model\\) before the training"):
                gradscope.assert_healthy()

        def test_by_name(gradscope):
            one, two = Net(), Sick()
            gradscope({"one": one, "two": two})
            train(one)
            train(two)
            gradscope.assert_gradients_reach("one.*")
            with pytest.raises(AssertionError):
                gradscope.assert_gradients_reach("two.*")
        """,
    )
    result.assert_outcomes(passed=3)


def test_the_package_of_the_same_name_is_at_hand(pytester: Pytester) -> None:
    result = run(
        pytester,
        """
        import gradscope

        def test_it(gradscope):
            assert gradscope.Kind.UPDATE == "update"
            with gradscope.watch(model := Net()) as scope:
                train(model)
            assert scope.report().healthy
            gradscope.testing.assert_healthy(scope)
            with pytest.raises(AttributeError, match="no attribute 'wacth'"):
                gradscope.wacth(model)
        """,
    )
    result.assert_outcomes(passed=1)


def test_options_of_watch_are_passed_on(pytester: Pytester) -> None:
    result = run(
        pytester,
        """
        def test_it(gradscope):
            scope = gradscope(model := Net(), every=2, keep="decoder.*")
            train(model, steps=4)
            assert [step.index for step in scope.recording.observed] == [0, 2]
            assert scope.tensor("decoder.2", "activation").shape == (6, 1)

        def test_ignore(gradscope):
            gradscope(model := Sick(), ignore="detached-tensor")
            train(model)
            gradscope.assert_healthy()

        def test_no_model(gradscope):
            gradscope(3)
        """,
    )
    result.assert_outcomes(passed=2, failed=1)
    assert "NotAModule: watch() needs a torch.nn.Module, not int" in text(result)


# The marker


def test_the_marker_ignores_in_class_and_test(pytester: Pytester) -> None:
    result = run(
        pytester,
        """
        @pytest.mark.gradscope(ignore=["detached-tensor"])
        class TestSick:
            def test_it(self, gradscope):
                gradscope(model := Sick())
                train(model)
                gradscope.assert_healthy()

            @pytest.mark.gradscope(ignore="vanishing-gradient")
            def test_both(self, gradscope):
                gradscope(model := Sick())
                gradscope(steep := Steep())
                train(model)
                train(steep, inputs=8)
                for scope in gradscope.scopes:
                    gradscope.assert_healthy(scope=scope)
        """,
        "--strict-markers",
        "--gradscope=warning",
    )
    result.assert_outcomes(passed=2)


@pytest.mark.parametrize("marker", ['("detached-tensor")', "(ignored=[])", "()"])
def test_a_wrong_marker_is_a_clear_error(pytester: Pytester, marker: str) -> None:
    code = f"@pytest.mark.gradscope{marker}\ndef test_it(gradscope):\n    pass\n"
    for arguments in ((), ("--gradscope=error",)):
        result = run(pytester, code, *arguments)
        result.assert_outcomes(errors=1)
        assert "pytest.mark.gradscope takes ignore=[...] and nothing else, not Mark(" in text(result)


def test_an_unknown_analyzer_is_a_clear_error(pytester: Pytester) -> None:
    code = "@pytest.mark.gradscope(ignore=['detached'])\ndef test_it(gradscope):\n    gradscope(Net())\n"
    for arguments in ((), ("--gradscope=error",)):
        assert "no analyzer is called 'detached': did you mean 'detached-tensor'?" in text(
            run(pytester, code, *arguments)
        )


# --gradscope

SUITE = """
    def test_healthy():
        train(Net())

    def test_sick():
        train(Sick())

    def test_steep():
        train(Steep(), steps=20, inputs=8)

    @pytest.mark.gradscope(ignore=["detached-tensor"])
    def test_meant():
        train(Sick())

    def test_no_model():
        pass
"""


def test_without_the_option_nothing_is_watched(pytester: Pytester) -> None:
    result = run(pytester, SUITE)
    result.assert_outcomes(passed=5)
    assert "gradscope" not in text(result).replace("gradscope-", "").split("collected")[1]


def test_errors_fail_the_test_that_trained_the_model(pytester: Pytester) -> None:
    result = run(pytester, SUITE, "--gradscope=error")
    result.assert_outcomes(passed=4, failed=1)
    result.stdout.fnmatch_lines(
        [
            "*_ test_sick _*",
            "gradscope: Sick, which this test trains, is not healthy",
            "ERROR    detached-tensor   since step 0   4 of 8 parameters",
            "         *nets_of_this_run.py:15  .detach() after 'encoder.2' cuts the graph*",
            "if that is meant, mark the test: @pytest.mark.gradscope(ignore=['detached-tensor'])",
            "gradscope: models watched: 4, in 4 tests",
        ]
    )
    assert text(result).count("ERROR    detached-tensor") == 1


def test_warnings_fail_too_when_they_are_asked_for(pytester: Pytester) -> None:
    result = run(pytester, SUITE, "--gradscope=warning")
    result.assert_outcomes(passed=3, failed=2)
    assert "gradscope: Steep, which this test trains, is not healthy" in text(result)


def test_a_suite_that_trains_nothing_is_told_so(pytester: Pytester) -> None:
    result = run(pytester, "def test_it():\n    pass\n", "--gradscope=error")
    result.assert_outcomes(passed=1)
    assert "gradscope: no test has trained a model" in text(result)


def test_what_fixtures_train_counts_and_teardown_does_not(pytester: Pytester) -> None:
    result = run(
        pytester,
        """
        @pytest.fixture
        def model():
            train(model := Sick())
            return model

        def test_setup(model):
            pass

        @pytest.fixture
        def later():
            yield
            train(Sick())

        def test_teardown(later):
            pass
        """,
        "--gradscope=error",
    )
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["FAILED test_it.py::test_setup*"])


def test_a_test_that_fails_by_itself_keeps_its_failure(pytester: Pytester) -> None:
    result = run(pytester, "def test_it():\n    train(Sick())\n    assert 1 == 2\n", "--gradscope=error")
    result.assert_outcomes(failed=1)
    shown = text(result)
    assert "E       assert 1 == 2" in shown
    assert "which this test trains" not in shown
    assert shown.count("ERROR    detached-tensor") == 1
    assert "- gradscope -" in shown


def test_a_model_that_the_fixture_watches_is_judged_once(pytester: Pytester) -> None:
    code = "def test_it(gradscope):\n    gradscope(model := Sick())\n    train(model)\n"
    result = run(pytester, code, "--gradscope=error")
    result.assert_outcomes(failed=1)
    assert text(result).count("ERROR    detached-tensor") == 1
    assert "models watched: 1, in 1 tests" in text(result)


def test_expected_exceptions_skips_and_unittest_are_as_without(pytester: Pytester) -> None:
    result = run(
        pytester,
        """
        import unittest

        def test_raises():
            with pytest.raises(RuntimeError):
                train(Net(), inputs=3)

        def test_skips():
            train(Net())
            pytest.skip("as planned")

        class TestSick(unittest.TestCase):
            def test_it(self):
                train(Sick())

            def test_healthy(self):
                train(Net())
        """,
        "--gradscope=error",
    )
    result.assert_outcomes(passed=2, failed=1, skipped=1)
    result.stdout.fnmatch_lines(["FAILED test_it.py::TestSick::test_it*"])


# Snapshots

SNAPSHOT = """
    def test_snap(gradscope, gradscope_snapshot):
        torch.manual_seed(0)
        scope = gradscope(model := Net())
        train(model, lr={lr})
        gradscope_snapshot.check(scope)
"""


def test_a_missing_snapshot_fails_and_is_written_with_the_option(pytester: Pytester) -> None:
    path = Path("__gradscope__/test_it/test_snap.json")
    result = run(pytester, SNAPSHOT.format(lr=0.1))
    result.assert_outcomes(failed=1)
    assert f"there is no snapshot {path}: write it with `pytest --gradscope-update`" in text(result)
    assert not (pytester.path / path).exists()
    again(pytester, "--gradscope-update").assert_outcomes(passed=1)
    shown = (pytester.path / path).read_text()
    assert json.loads(shown)["steps"] == 2
    assert '    "encoder.0": {\n      "activation": {"mean": ' in shown
    again(pytester).assert_outcomes(passed=1)


def test_drift_fails_with_a_table_and_is_renewed_with_the_option(pytester: Pytester) -> None:
    run(pytester, SNAPSHOT.format(lr=0.1), "--gradscope-update").assert_outcomes(passed=1)
    result = run(pytester, SNAPSHOT.format(lr=0.2))
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "E       AssertionError: * of 42 sites have drifted by more than 1 % from the snapshot *test_snap.json",
            "E           layer * kind * statistic * snapshot * now * drift",
            "E           encoder.0.weight  update * rms * +5?.?%",
            "E       If the change is meant, renew the snapshot with `pytest --gradscope-update`",
        ]
    )
    again(pytester, "--gradscope-update").assert_outcomes(passed=1)
    again(pytester).assert_outcomes(passed=1)


def test_what_has_not_drifted_is_not_written_again(pytester: Pytester) -> None:
    run(pytester, SNAPSHOT.format(lr=0.1), "--gradscope-update")
    before = snapshot(pytester).read_text()
    run(pytester, SNAPSHOT.format(lr=0.1001), "--gradscope-update").assert_outcomes(passed=1)
    assert snapshot(pytester).read_text() == before


def snapshot(pytester: Pytester) -> Path:
    (found,) = pytester.path.glob("__gradscope__/test_it/*.json")
    return found


def test_several_snapshots_of_one_test_and_odd_names(pytester: Pytester) -> None:
    result = run(
        pytester,
        """
        class TestNets:
            @pytest.mark.parametrize("name", ["a/b", "a b", "a"])
            def test_two(self, gradscope, gradscope_snapshot, name):
                scope = gradscope(model := Net())
                train(model)
                gradscope_snapshot.check(scope)
                gradscope_snapshot.check(scope)
                gradscope_snapshot.check(scope, "last")
        """,
        "--gradscope-update",
    )
    result.assert_outcomes(passed=3)
    names = {path.name for path in pytester.path.glob("__gradscope__/test_it/*")}
    assert {f"TestNets.test_two[a]{end}.json" for end in ("", "@2", "@last")} <= names
    assert len(names) == 9


def test_snapshots_of_tests_that_are_gone_are_reported_and_deleted_with_the_option(pytester: Pytester) -> None:
    run(pytester, SNAPSHOT.format(lr=0.1), "--gradscope-update")
    old = snapshot(pytester).with_name("test_old@2.json")
    old.write_text("{}")
    for partial in (("test_it.py::test_snap",), ("--gradscope-update", "test_it.py::test_snap")):
        assert "no longer exist" not in text(again(pytester, *partial))
    for arguments in ((), ("-k", "test_snap")):
        result = again(pytester, *arguments)
        result.assert_outcomes(passed=1)
        result.stdout.fnmatch_lines(
            ["gradscope: snapshots of tests that no longer exist (delete them with --gradscope-update):", f"    {old}"]
        )
    removed = old.parent.with_name("test_removed") / "test_old.json"
    removed.parent.mkdir()
    removed.write_text("{}")
    assert f"    {removed}" in text(again(pytester))
    again(pytester, "--gradscope-update", "-k", "nothing")
    assert not old.exists()
    assert not removed.exists()
    assert snapshot(pytester).exists(), "it belongs to a test that was only deselected"


def test_a_snapshot_that_cannot_be_read_is_told(pytester: Pytester) -> None:
    run(pytester, SNAPSHOT.format(lr=0.1), "--gradscope-update")
    path = snapshot(pytester)
    for content in (
        "{",
        '{"format": 1}',
        "[]",
        '{"format": 99}',
        path.read_text().replace('"steps": 2', '"steps": []'),
    ):
        path.write_text(content)
        result = again(pytester)
        result.assert_outcomes(failed=1)
        assert "test_snap.json cannot be read: " in text(result)
        assert "Write it anew with `pytest --gradscope-update`" in text(result)
    again(pytester, "--gradscope-update").assert_outcomes(passed=1)


def made(**rms: float) -> Recording:
    return recording(activation_gradient=rms, steps=2)


@pytest.mark.parametrize(
    ("before", "now", "drifted"),
    [
        ({"a": 1.0}, {"a": 1.009}, False),
        ({"a": 1.0}, {"a": 1.011}, True),
        ({"a": 1.0}, {"a": 0.989}, True),
        ({"a": 0.0}, {"a": 0.0}, False),
        ({"a": 0.0}, {"a": 1e-3}, True),
        ({"a": 1.0, "b": 1e-9}, {"a": 1.0, "b": 5e-9}, False),  # zero but for rounding
        ({"a": 1.0, "b": 1e-3}, {"a": 1.0, "b": 5e-3}, True),
        ({"a": float("nan")}, {"a": float("nan")}, False),
        ({"a": float("inf")}, {"a": float("inf")}, False),
        ({"a": 1.0}, {"a": float("nan")}, True),
        ({"a": float("nan")}, {"a": 1.0}, True),
        ({"a": 1.0}, {"a": 1.0, "b": 1.0}, True),
        ({"a": 1.0, "b": 1.0}, {"a": 1.0}, True),
    ],
)
def test_what_counts_as_drift(before: dict[str, float], now: dict[str, float], drifted: bool) -> None:
    kept = read(written(taken(made(**before))))
    assert bool(list(drifts(kept, taken(made(**now)), 0.01))) is drifted


def test_another_number_of_steps_is_drift() -> None:
    two, three = taken(made(a=1.0)), taken(recording(activation_gradient={"a": 1.0}, steps=3))
    assert list(drifts(two, three, 0.01)) == [("steps", "", "", "2", "3", "")]


def test_a_snapshot_survives_its_file() -> None:
    kept = taken(made(a=0.123456789, b=float("nan"), c=float("inf"), d=0.0))
    text = written(kept)
    again = read(text)
    assert written(again) == text
    assert list(drifts(kept, again, 1e-4)) == []
    assert '"rms": 0.12346' in text
    assert json.loads(text)["layers"]["b"]["activation_gradient"]["rms"] == "nan"


def test_the_order_is_that_of_the_forward_pass() -> None:
    assert list(taken(made(z=1.0, a=1.0)).layers) == ["z", "a"]


def test_a_tolerance_finer_than_the_digits_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a snapshot holds 5 digits, so pass 0\.0001 or more"):
        Snapshots(tmp_path, "test_it").check(made(a=1.0), tolerance=1e-5)


def test_file_names_are_safe_and_apart() -> None:
    assert file_name("test_it[a-1]") == "test_it[a-1].json"
    odd = [file_name(f"test_it[{name}]") for name in ("a/b", "a\\b", "a:b", "a@b", "ä", "a" * 300, "a" * 301, "../b")]
    assert len(set(odd)) == len(odd)
    assert all("/" not in name and "\\" not in name and "@" not in name and len(name) < 130 for name in odd)
    assert file_name("test_it", "a@b/c").startswith("test_it@a_b_c-")


def test_leftovers_are_told_from_named_snapshots(tmp_path: Path) -> None:
    for name in ("test_a.json", "test_a@2.json", "test_b.json", "notes.txt"):
        (tmp_path / name).write_text("")
    assert [path.name for path in leftovers(tmp_path, {"test_a"})] == ["test_b.json"]
    assert list(leftovers(tmp_path / "none", {"test_a"})) == []


# pytest-xdist


def test_everything_works_on_workers_of_xdist(pytester: Pytester) -> None:
    pytester.makepyfile(test_it=HEAD + dedent(SUITE))
    pytester.makepyfile(test_snap=HEAD + dedent(SNAPSHOT.format(lr=0.1)))
    old = pytester.path / "__gradscope__/test_snap/test_old.json"
    old.parent.mkdir(parents=True)
    old.write_text("{}")
    arguments = ["-W", "error", "-n", "2", "--gradscope=error", "--gradscope-update"]
    result = pytester.runpytest_subprocess(*arguments)
    result.assert_outcomes(passed=5, failed=1)
    result.stdout.fnmatch_lines(
        [
            "*_ test_sick _*",
            "gradscope: Sick, which this test trains, is not healthy",
            "gradscope: models watched: 5, in 5 tests",
            "gradscope: snapshots of tests that no longer exist (deleted):",
            f"    {old}",
        ]
    )
    assert [path.name for path in old.parent.iterdir()] == ["test_snap.json"]
