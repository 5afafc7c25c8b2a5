"""The front door: arguments, errors, callbacks, kept tensors, which steps are observed, and our own faults."""

import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.compat.tensorflow_stub.io import gfile
from torch import nn

import gradscope
from gradscope.analyzer import Analyzer, Request
from gradscope.errors import AlreadyWatched, NoParameters, NotAModule, NotRecorded, UnknownAnalyzer
from gradscope.findings import Finding, Severity
from gradscope.records import Kind, Recording


def model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2))


def train(net: nn.Module, steps: int = 4, *, zero: bool = True) -> None:
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
    for _ in range(steps):
        if zero:
            optimizer.zero_grad()
        net(torch.randn(6, 4)).square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize("wrong", [None, 3, torch.zeros(2), [nn.Linear(1, 1)], nn.Linear])
def test_what_is_no_module_is_refused(wrong: Any) -> None:
    with pytest.raises(NotAModule, match="pass the model"):
        gradscope.watch(wrong)


def test_a_module_without_parameters_is_refused() -> None:
    with pytest.raises(NoParameters, match=r"ReLU has no parameters.*pass the model"):
        gradscope.watch(nn.ReLU())


def test_the_same_model_is_not_watched_twice_at_once() -> None:
    net = model()
    with gradscope.watch(net), pytest.raises(AlreadyWatched, match="leave that"), gradscope.watch(net):
        pass
    with gradscope.watch(net) as scope:
        train(net, 1)
    with pytest.raises(AlreadyWatched, match="call watch"), scope:
        pass


def test_a_submodule_can_be_watched_inside() -> None:
    net = model()
    with gradscope.watch(net) as outer, gradscope.watch(net[2]) as inner:
        train(net, 2)
    assert {site.module for site in inner.recording.sites} == {""}
    assert len(outer.recording.steps) == len(inner.recording.steps) == 2


@pytest.mark.parametrize("options", [{"ignore": ["vanishing-gradiant"]}, {"analyzers": ["vanishing-gradiant"]}])
def test_an_unknown_analyzer_is_refused_with_the_nearest_name(options: dict[str, Any]) -> None:
    with pytest.raises(UnknownAnalyzer, match="did you mean 'vanishing-gradient'"):
        gradscope.watch(model(), **options)


@pytest.mark.parametrize("options", [{"every": 0}, {"budget": 0.0}, {"budget": 2.0}])
def test_a_cadence_out_of_range_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="pass"):
        gradscope.watch(model(), **options)


def test_each_finding_is_told_once_while_the_loop_runs() -> None:
    net, told = model(), list[Finding]()
    with gradscope.watch(net, on_finding=told.append) as scope:
        train(net, 6, zero=False)
        during = [finding.analyzer for finding in told]
    assert during == ["unzeroed-gradient"]
    assert [finding.analyzer for finding in scope.findings] == during


def test_a_finding_can_stop_the_loop() -> None:
    net, optimizers = model(), []

    def loop() -> None:
        optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
        for _ in range(10):
            net(torch.randn(6, 4)).square().mean().backward()
            optimizer.step()
            optimizers.append(optimizer)

    with pytest.raises(gradscope.FindingRaised, match="unzeroed-gradient") as caught:  # noqa: SIM117
        with gradscope.watch(net, on_finding="raise"):
            loop()
    assert isinstance(caught.value.finding, Finding)
    assert len(optimizers) == 2


def test_a_finding_of_the_last_step_is_raised_at_the_end() -> None:
    net = model()
    with pytest.raises(gradscope.FindingRaised), gradscope.watch(net, on_finding="raise"):
        train(net, 2, zero=False)


def test_ignored_analyzers_do_not_run() -> None:
    net = model()
    with gradscope.watch(net, ignore=["unzeroed-gradient"]) as scope:
        train(net, 4, zero=False)
    assert scope.findings == ()


def test_results_can_be_read_inside_the_loop() -> None:
    net = model()
    with gradscope.watch(net) as scope:
        net(torch.randn(6, 4)).sum().backward()
        assert set(scope.frame()["kind"]) == {"activation", "activation_gradient", "parameter_gradient"}
        assert len(scope.flow()) == 4
        assert scope.report().healthy


def test_kept_tensors_are_the_raw_ones() -> None:
    net = model()
    with gradscope.watch(net, keep=["2*", "0.weight"]) as scope:
        train(net, 3)
        output = net(inputs := torch.randn(6, 4))
        output.sum().backward()
    assert torch.equal(scope.tensor("2", "activation"), output.detach())
    assert torch.equal(scope.tensor("2", Kind.ACTIVATION_GRADIENT), torch.ones(6, 2))
    assert scope.tensor("2.weight", "parameter", step=1).shape == (2, 5)
    assert scope.tensor("0.weight", "update", step=-2).shape == (5, 4)
    assert inputs.grad is None


@pytest.mark.parametrize(
    ("path", "kind", "step", "message"),
    [
        ("0", "activation", -1, "pass keep='0'"),
        ("2", "activation", 9, r"step 9 is not kept: kept are steps \[0, 1, 2, 3\]"),
        ("2", "update", 0, "captured are .*2.weight"),
    ],
)
def test_a_tensor_that_was_not_kept(path: str, kind: str, step: int, message: str) -> None:
    net = model()
    with gradscope.watch(net, keep="2*") as scope:
        train(net, 4)
    with pytest.raises(NotRecorded, match=message):
        scope.tensor(path, kind, step)


def test_every_fixes_which_steps_are_observed() -> None:
    net = model()
    with gradscope.watch(net, every=3) as scope:
        train(net, 8)
    assert [step.index for step in scope.recording.observed] == [0, 3, 6]
    assert (scope.report().steps, scope.report().observed) == (8, 3)


def test_steps_that_are_not_observed_are_still_followed() -> None:
    net, told = model(), list[Finding]()
    with gradscope.watch(net, every=1000, on_finding=told.append):
        train(net, 5)
        train(net, 3, zero=False)
    assert [finding.step for finding in told] == [6]  # the first such step ends the rest, the next one is judged


def test_the_first_nan_is_noticed_in_a_step_that_is_not_observed() -> None:
    net, told = model(), list[Finding]()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
    with gradscope.watch(net, every=1000, on_finding=told.append):
        for step in range(8):
            optimizer.zero_grad()
            (net(torch.randn(6, 4)).sum() * (float("nan") if step == 5 else 1.0)).backward()
            optimizer.step()
    assert [(finding.analyzer, finding.step) for finding in told] == [("non-finite-value", 5)]


class Breaking(Analyzer):
    """Raises."""

    severity = Severity.NOTE

    def analyze(self, recording: Recording) -> Any:
        raise RuntimeError("broken")


class Curious(Analyzer):
    """Asks for a closer look, once."""

    severity = Severity.NOTE

    def analyze(self, recording: Recording) -> Any:
        if not recording.operations:
            yield Request("to look closer")


def test_an_analyzer_that_raises_is_a_note_and_training_goes_on() -> None:
    net = model()
    with gradscope.watch(net, analyzers=[Breaking()]) as scope:
        train(net)
    assert scope.report().notes == ("breaking failed: RuntimeError('broken')",)
    assert scope.report().steps == 4


def test_an_analyzer_can_ask_for_a_closer_look() -> None:
    net = model()
    with gradscope.watch(net, analyzers=[Curious()]) as scope:
        train(net)
    assert scope.recording.operations


def test_a_fault_of_ours_never_reaches_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise ZeroDivisionError("ours")

    monkeypatch.setattr("gradscope.hooks.recorder.Recorder.measure", broken)
    net = model()
    with gradscope.watch(net) as scope:
        train(net)
    assert any("ours" in note for note in scope.report().notes)
    assert scope.report().steps > 0 or scope.report().notes


def test_a_logdir_that_cannot_be_written_does_not_stop_training(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    net = model()
    with gradscope.watch(net, logdir=blocked) as scope:
        train(net)
    assert scope.report().steps == 4
    assert any("TensorBoard" in note for note in scope.report().notes)


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), ValueError("a bug of the report's")])
@pytest.mark.parametrize("method", ["write", "close"])
def test_a_report_that_breaks_does_not_stop_training(
    error: Exception, method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise error

    monkeypatch.setattr(f"gradscope.reports.tensorboard.TensorBoardWriter.{method}", broken)
    net = model()
    with gradscope.watch(net, logdir=tmp_path) as scope:
        train(net)
    assert scope.report().steps == 4
    assert len([note for note in scope.report().notes if "TensorBoard" in note]) == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is always full here")
def test_a_full_disk_does_not_stop_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = gfile.GFile.__init__

    def on_full_disk(self: Any, filename: str, mode: str) -> None:
        real(self, "/dev/full", mode)

    monkeypatch.setattr(gfile.GFile, "__init__", on_full_disk)
    monkeypatch.setattr(threading, "excepthook", lambda *_: None)  # the writer's thread says why it dies
    net = model()
    with gradscope.watch(net, logdir=tmp_path) as scope:
        train(net)
    assert scope.report().steps == 4
    assert any("No space left" in note for note in scope.report().notes)


def test_the_report_says_when_nothing_was_trained() -> None:
    with gradscope.watch(model()) as scope:
        pass
    assert "no training step" in str(scope.report())


def test_two_threads_watch_their_own_models() -> None:
    scopes: list[gradscope.Scope] = []

    def work(steps: int) -> None:
        net = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2))
        with gradscope.watch(net) as scope:
            train(net, steps)
        scopes.append(scope)

    threads = [threading.Thread(target=work, args=(steps,)) for steps in (5, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(len(scope.recording.steps) for scope in scopes) == [5, 9]
    assert all(scope.findings == () and not scope.recording.lost for scope in scopes)


def test_the_report_says_how_rarely_steps_were_observed() -> None:
    net = model()
    with gradscope.watch(net, every=None, budget=1e-9) as scope:
        for _ in range(40):
            train(net)
    assert scope.report().lately == 0
    assert "none lately" in scope.report().verdict
    with gradscope.watch(net, every=2) as scope:
        for _ in range(40):
            train(net)
    assert scope.report().lately == 1
