"""The assertions of gradscope.testing, on recordings made by hand and on real runs."""

import subprocess
import sys
import unittest
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import gradscope
import gradscope.testing
from gradscope.errors import NoSuchSite, NotRecorded, UnknownAnalyzer
from gradscope.findings import Finding, Severity
from gradscope.records import Call, GraphSummary, ParameterInfo, Recording, StepEnd
from gradscope.testing import (
    assert_bitwise_equal,
    assert_gain,
    assert_gradient_norm,
    assert_gradients_reach,
    assert_healthy,
    assert_no_cut,
    assert_parameters_update,
    recording,
    step_event,
)
from gradscope.testing.captured import findings_of
from gradscope.testing.profile import MOST_ROWS, Offence, concerning, profile

Between = Callable[[Tensor], Tensor]


class Net(nn.Module):
    """An encoder, something between, and a decoder."""

    def __init__(self, between: Between) -> None:
        super().__init__()
        self.between = between
        self.encoder = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.Dropout(0.0))
        self.decoder = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 1))
        self.spare = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.decoder(self.between(self.encoder(x)))
        return output


def same(x: Tensor) -> Tensor:
    return x


def train(net: nn.Module, steps: int = 2, lr: float = 0.1) -> None:
    optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr)
    for _ in range(steps):
        optimizer.zero_grad()
        net(torch.randn(6, 4)).square().mean().backward()
        optimizer.step()


def run(between: Between = same, steps: int = 2, lr: float = 0.1, seed: int = 0) -> gradscope.Scope:
    torch.manual_seed(seed)
    net = Net(between)
    with gradscope.watch(net, every=1) as scope:
        train(net, steps, lr)
    return scope


def failure(check: Callable[..., None], *arguments: object, **options: object) -> str:
    with pytest.raises(AssertionError) as caught:
        check(*arguments, **options)
    return str(caught.value)


def reached(*paths: str, trainable: bool = True) -> list[ParameterInfo]:
    return [ParameterInfo(path, path.rpartition(".")[0], trainable, 1, 1) for path in paths]


# Health


def test_a_healthy_run_passes() -> None:
    assert_healthy(run())
    assert_healthy(run().recording)


def test_what_was_found_is_told_with_the_line_and_the_layers() -> None:
    text = failure(assert_healthy, run(torch.detach))
    assert text.startswith(
        "not healthy: detached-tensor\n\nERROR    detached-tensor   since step 0   4 of 10 parameters"
    )
    assert "output: Tensor = self.decoder(self.between(self.encoder(x)))" in text
    assert "    >  encoder.2  Linear                  -                  -\n" in text


def test_what_is_ignored_does_not_count() -> None:
    scope = run(torch.detach)
    assert_healthy(scope, ignore=["detached-tensor"])
    assert_healthy(scope, ignore="detached-tensor")
    with pytest.raises(UnknownAnalyzer, match="did you mean 'detached-tensor'"):
        assert_healthy(scope, ignore=["detached-tensr"])


def test_what_the_scope_ignores_is_not_judged_by_the_assertion() -> None:
    net = Net(torch.detach)
    with gradscope.watch(net, every=1, ignore=["detached-tensor"]) as scope:
        train(net)
        assert_healthy(scope)
    assert_healthy(scope)
    assert_healthy(scope, ignore=["unzeroed-gradient"])


def test_a_consequence_counts_when_its_cause_is_ignored() -> None:
    events = {step: [step_event(reused=("a.weight",))] for step in range(1, 5)}
    grown: dict[str, float | list[float | None]] = {"a": [1.0, 1e2, 1e4, 1e6, 1e8, 1e10, 1e12], "b": 1.0}
    made = recording(events=events, parameter_gradient=grown, activation_gradient=grown, steps=7, complete=True)
    found = {finding.analyzer for finding in findings_of(made)}
    assert "unzeroed-gradient" in found
    text = failure(assert_healthy, made, ignore=["unzeroed-gradient"])
    assert text.startswith("not healthy: exploding-gradient")


def test_notes_count_when_they_are_asked_for() -> None:
    scope = run()
    assert "unused-parameter" in failure(assert_healthy, scope, severity="note")
    warned = recording(activation_gradient={str(i): 10.0 ** (-2 * i) for i in range(12, 0, -1)}, steps=20)
    assert failure(assert_healthy, warned, severity="warning").startswith("not healthy: vanishing-gradient")
    assert_healthy(warned, severity="error")
    with pytest.raises(ValueError, match="eror"):
        assert_healthy(scope, severity="eror")


def test_nothing_measured_is_no_pass() -> None:
    net = Net(same)
    with gradscope.watch(net) as scope:
        net(torch.randn(2, 4))
    for check in (assert_healthy, assert_gradients_reach, assert_parameters_update, assert_gradient_norm, assert_gain):
        assert "gradscope saw no training step" in failure(check, scope)
    assert "gradscope saw no training step" in failure(assert_no_cut, scope, "encoder", "decoder")


def test_a_run_that_broke_in_its_first_forward_is_not_healthy() -> None:
    net = Net(lambda x: x[:, :3])
    with pytest.raises(RuntimeError), gradscope.watch(net, every=1) as scope:
        train(net)
    assert failure(assert_healthy, scope).startswith("not healthy: shape-mismatch")


def test_an_open_scope_is_judged_as_if_it_ended_here() -> None:
    net = Net(torch.detach)
    with gradscope.watch(net, every=1) as scope:
        net(torch.randn(2, 4)).sum().backward()
        assert scope.findings == ()
        assert "the graph is cut between 'encoder' and 'decoder.0'" in failure(assert_healthy, scope)


def test_what_is_no_scope_is_refused() -> None:
    with pytest.raises(TypeError, match=r"pass what gradscope\.watch\(\) gave, or its recording, not Linear"):
        assert_healthy(nn.Linear(1, 1))  # type: ignore[arg-type]


# How far gradients come


def test_gradients_that_reach_pass() -> None:
    scope = run()
    for pattern in ("encoder.*", "encoder", "*.bias", "decoder.0.weight", "encoder.1", "encoder.?.weight"):
        if pattern != "*.bias":
            assert_gradients_reach(scope, pattern)
    assert_gradients_reach(scope.recording, "decoder")


@pytest.mark.parametrize("pattern", ["encoder.*", "encoder", "encoder.[02].*"])
def test_gradients_that_do_not_reach_fail_with_profile_and_line(pattern: str) -> None:
    text = failure(assert_gradients_reach, run(torch.detach), pattern)
    assert text.startswith(f"the gradient does not reach 4 of 4 parameters that match {pattern!r}")
    assert "    'encoder.0.weight': no gradient\n" in text
    assert "gradients of step 1 in forward order (rms; -: none arrived)" in text
    assert "ERROR    detached-tensor   since step 0" in text
    assert "test_assertions.py:" in text


def test_only_what_the_pattern_names_is_judged() -> None:
    scope = run(torch.detach)
    assert_gradients_reach(scope, "decoder.*")
    assert "2 of 10 parameters" in failure(assert_gradients_reach, run())  # spare has not run
    assert "2 of 5 parameters that match '*.bias'" not in failure(assert_gradients_reach, scope, "*.bias")
    assert "3 of 5 parameters that match '*.bias'" in failure(assert_gradients_reach, scope, "*.bias")


def test_a_gradient_of_zeros_does_not_reach() -> None:
    text = failure(assert_gradients_reach, run(torch.round), "encoder.0")
    assert "    'encoder.0.weight': its gradient is exactly zero\n" in text
    assert "ERROR    non-differentiable-op" in text


def test_once_is_enough_and_nan_is_a_gradient() -> None:
    made = recording(
        parameter_gradient={"a.weight": [0.0, 0.0, 1.0], "b.weight": float("nan")},
        steps=3,
        parameters=reached("a.weight", "b.weight"),
    )
    assert_gradients_reach(made)


def test_a_parameter_that_only_unobserved_steps_have_reached_is_reached() -> None:
    made = recording(parameter_gradient={"a.weight": 1.0}, parameters=reached("a.weight", "b.weight"))
    assert_gradients_reach(made)


def test_modules_without_parameters_are_judged_by_their_outputs() -> None:
    assert_gradients_reach(run(), "encoder.1")
    text = failure(assert_gradients_reach, run(torch.detach), "encoder.1")
    assert text.startswith("the gradient does not reach 1 of 1 modules that match 'encoder.1'")


def test_frozen_parameters_are_passed_over_unless_there_are_no_others() -> None:
    net = Net(same)
    net.encoder[0].requires_grad_(False)
    with gradscope.watch(net, every=1) as scope:
        train(net)
    assert_gradients_reach(scope, "encoder.*")
    assert_parameters_update(scope, "encoder.*")
    for check in (assert_gradients_reach, assert_parameters_update, assert_gradient_norm):
        text = failure(check, scope, "encoder.0")
        assert text.startswith("every parameter that matches 'encoder.0' is frozen")
        assert "    'encoder.0.weight': its requires_grad is False\n" in text


@pytest.mark.parametrize("check", [assert_gradients_reach, assert_gradient_norm, assert_parameters_update, assert_gain])
def test_a_pattern_that_names_nothing_is_an_error_with_near_names(check: Callable[..., None]) -> None:
    scope = run()
    with pytest.raises(NoSuchSite, match=r"no module or parameter matches 'encodr\.\*': did you mean 'encoder' or"):
        check(scope, "encodr.*")
    with pytest.raises(NoSuchSite, match=r"'zzz': there are 'encoder', 'decoder'"):
        check(scope, "zzz")


def test_another_name_of_a_shared_parameter_names_it_too() -> None:
    shared = ParameterInfo("embed.weight", "embed", True, 1, 1, ("head.weight",))
    made = recording(parameter_gradient={"embed.weight": 0.0}, parameters=[shared])
    assert "'embed.weight': its gradient is exactly zero" in failure(assert_gradients_reach, made, "head.*")


def test_a_recording_without_a_list_of_parameters_is_judged_by_its_sites() -> None:
    made = recording(parameter_gradient={"a.weight": 1.0, "b.weight": 0.0})
    assert_gradients_reach(made, "a.*")
    assert "1 of 1" in failure(assert_gradients_reach, made, "b.*")


# Norms and gains


def norms(**values: float | list[float | None]) -> Recording:
    """RMS values of gradients of 16 elements, whose norm is four times as large."""
    table = {f"{name}.weight": value for name, value in values.items()}
    return recording(parameter_gradient=table, activation_gradient=values, steps=3, parameters=reached(*table))


def test_norms_within_pass_and_limits_belong_to_it() -> None:
    made = norms(a=0.5, b=[1.0, 2.0, 4.0])
    assert_gradient_norm(made, "a", 2.0, 2.0)
    assert_gradient_norm(made, "*", 2.0, 16.0)
    assert_gradient_norm(made)


def test_the_first_step_outside_is_named() -> None:
    text = failure(assert_gradient_norm, norms(a=0.5, b=[1.0, 2.0, 4.0]), "*", high=7.0)
    assert text.startswith("1 of 2 gradients that match '*' have a norm outside 0 to 7 (parameter_gradient)")
    assert "    'b.weight': norm 8.00e+00 in step 1\n" in text
    assert "gradients of step 1 in forward order" in text
    assert "    >  b" in text
    assert "    >  a" not in text


def test_one_step_can_be_chosen() -> None:
    made = norms(b=[1.0, 2.0, 4.0])
    assert_gradient_norm(made, "b", high=4.0, step=0)
    assert "norm 1.60e+01 in step 2" in failure(assert_gradient_norm, made, "b", high=4.0, step=-1)
    with pytest.raises(NotRecorded, match="step 7 was not observed"):
        assert_gradient_norm(made, "b", step=7)
    with pytest.raises(NotRecorded, match="step 7 was not observed"):
        assert_gain(made, "b", step=7)


def test_nan_is_in_no_range() -> None:
    text = failure(assert_gradient_norm, norms(a=1.0, b=[1.0, float("nan"), 1.0]))
    assert "'b.weight': norm nan in step 1" in text


def test_a_gradient_that_never_arrived_has_no_norm() -> None:
    text = failure(assert_gradient_norm, norms(a=1.0, b=[None, None, None]), "*", 0.0)
    assert "'b.weight': no gradient arrived" in text
    assert_gradient_norm(norms(b=[None, 1.0, None]), "*", 4.0)


def test_gradients_that_were_thrown_away_have_no_norm_to_keep() -> None:
    made = recording(
        parameter_gradient={"a.weight": [float("inf"), 1.0]},
        steps=2,
        ends={0: StepEnd.CLEARED},
        parameters=reached("a.weight"),
    )
    assert_gradient_norm(made, "a.*", 4.0, 4.0)
    assert "norm inf in step 0" in failure(assert_gradient_norm, made, "a.*", high=1e9, step=0)


def test_a_gradient_that_cannot_be_measured_is_no_pass() -> None:
    net = nn.Embedding(10, 2, sparse=True)
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    with gradscope.watch(net, every=1) as scope:
        net(torch.tensor([1, 2])).sum().backward()
        optimizer.step()
    assert_gradients_reach(scope)
    text = failure(assert_gradient_norm, scope)
    assert "'weight': not measured: parameter_gradient of (root).weight: " in text


def test_the_gradient_at_outputs_can_be_meant() -> None:
    made = norms(a=1.0, b=2.0)
    assert_gradient_norm(made, "b", 8.0, 8.0, kind="activation_gradient")
    assert "'b': norm 8.00e+00 in step 0" in failure(
        assert_gradient_norm, made, "*", high=5.0, kind="activation_gradient"
    )
    with pytest.raises(ValueError, match="kind='update' is no gradient"):
        assert_gradient_norm(made, kind="update")


@pytest.mark.parametrize("check", [assert_gradient_norm, assert_gain])
def test_limits_in_the_wrong_order_are_refused(check: Callable[..., None]) -> None:
    with pytest.raises(ValueError, match=r"low=2\.0 and high=1\.0: pass the smaller limit first"):
        check(norms(a=1.0), "*", 2.0, 1.0)


CHAIN: dict[str, float | list[float | None]] = {"a": 1.0, "b": 2.0, "c": [8.0, 8.0, 80.0]}


def test_a_gain_is_what_flow_says() -> None:
    made = recording(activation_gradient=CHAIN, steps=3, sources={"a": (), "b": ("a",), "c": ("b",)})
    assert_gain(made, "b", 0.5, 0.5)
    assert_gain(made, "c", 0.25, 0.25, step=0)
    text = failure(assert_gain, made, "*", 0.1)
    assert text.startswith("1 of 2 modules that match '*' have a gain outside 0.1 to inf")
    assert "'c': gain 2.50e-02 in step 2" in text
    assert "gradients of step 2" in text


def test_modules_without_a_gain_do_not_pass_alone() -> None:
    made = recording(activation_gradient=CHAIN, steps=3, sources={"a": (), "b": ("a",), "c": ("b",)})
    assert failure(assert_gain, made, "a").startswith("no module that matches 'a' has a gain")
    with pytest.raises(NoSuchSite):
        assert_gain(made, "a.weight")


def test_gains_of_a_real_run_agree_with_its_flow() -> None:
    scope = run()
    gain = scope.flow(0).set_index("module")["gain"]["decoder.2"]
    assert_gain(scope, "decoder.2", gain, gain, step=0)
    assert "'decoder.2'" in failure(assert_gain, scope, "decoder.2", gain * 1.01, step=0)


# Cuts


def test_a_way_without_a_cut_passes_in_either_order() -> None:
    scope = run()
    assert_no_cut(scope, between="encoder", and_="decoder")
    assert_no_cut(scope, "decoder.0", "encoder.0")
    assert_no_cut(scope, "encoder.3", "decoder")  # dropout that hands its input on
    assert_no_cut(scope, "encoder.0", "encoder.2")
    assert_no_cut(scope, "encoder", "")


@pytest.mark.parametrize("pair", [("encoder", "decoder"), ("decoder.2", "encoder.0")])
def test_a_cut_is_told_with_its_line(pair: tuple[str, str]) -> None:
    text = failure(assert_no_cut, run(torch.detach), *pair)
    assert text.startswith("the gradient does not come from ")
    assert "was not computed from it, as autograd saw it: the graph is cut between them" in text
    assert "output: Tensor = self.decoder(self.between(self.encoder(x)))" in text


def test_beside_the_cut_there_is_none() -> None:
    scope = run(torch.detach)
    assert_no_cut(scope, "decoder.0", "decoder.2")
    assert "no gradient arrives at 'encoder.2' itself" in failure(assert_no_cut, scope, "encoder.0", "encoder.2")
    assert "'encoder': no gradient arrives at its output" in failure(assert_no_cut, scope, "encoder", "")
    assert_no_cut(scope, "decoder.2", "")


def test_without_a_trace_the_graph_of_the_first_calls_decides() -> None:
    whole, cut = (replace(run(between).recording, operations=()) for between in (same, torch.detach))
    assert_no_cut(whole, "encoder", "decoder")
    assert_no_cut(whole, "encoder.3", "decoder")  # dropout that hands its input on
    assert "was not computed from it" in failure(assert_no_cut, cut, "encoder", "decoder")


class Adversaries(nn.Module):
    """A generator and a critic that is first asked about something real."""

    def __init__(self, between: Between = same) -> None:
        super().__init__()
        self.generator, self.critic, self.between = nn.Linear(4, 4), nn.Linear(4, 1), between

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.critic(self.between(self.generator(x)))
        return output


def play(net: Adversaries) -> gradscope.Scope:
    """The critic's turn, then the generator's; only the first step is traced."""
    with gradscope.watch(net, every=1) as scope:
        for _ in range(2):
            for player in (net.critic, net.generator):
                optimizer = torch.optim.SGD(player.parameters(), 0.1)
                net.zero_grad()
                fake = net.generator(torch.randn(6, 4))
                fake = fake.detach() if player is net.critic else net.between(fake)
                (net.critic(torch.randn(6, 4)) - net.critic(fake)).sum().backward()
                optimizer.step()
    return scope


def test_a_detach_in_another_turn_is_no_cut() -> None:
    assert_no_cut(play(Adversaries()), "generator", "critic")
    assert_no_cut(play(Adversaries()), "critic", "generator")


def test_a_flat_operation_lets_nothing_through() -> None:
    text = failure(assert_no_cut, run(torch.round), "encoder", "decoder")
    assert "'encoder': the gradient at its output is exactly zero" in text
    assert "round after 'encoder.2' has a derivative of zero" in text


class WithHelp(Net):
    """The encoder is trained by a loss of its own, so that the cut behind it starves nobody."""

    def forward(self, x: Tensor) -> Tensor:
        code = self.encoder(x)
        output: Tensor = self.decoder(code.detach()) + code.sum()
        return output


def test_a_cut_that_starves_nobody_is_told_with_its_line() -> None:
    net = WithHelp(same)
    with gradscope.watch(net, every=1) as scope:
        train(net)
    assert_healthy(scope)
    text = failure(assert_no_cut, scope, "encoder", "decoder")
    assert "detach between them cuts the graph\n    output: Tensor = self.decoder(code.detach()) + code.sum()" in text


def test_a_source_with_equal_zeros_is_no_twin() -> None:
    made = recording(
        activation_gradient={"a": 0.0, "b": 0.0, "c": 1.0},
        calls=dict.fromkeys("abc", Call.GRAD),
        sources={"a": (), "b": ("a",), "c": ("a",)},
    )
    assert "was not computed from it" in failure(assert_no_cut, made, "b", "c")


def test_a_module_that_did_not_run_is_an_error() -> None:
    with pytest.raises(NoSuchSite, match=r"no module that ran is called 'encoder\.9': did you mean"):
        assert_no_cut(run(), "encoder.9", "decoder")
    with pytest.raises(NoSuchSite, match="no module that ran is called 'spare'"):
        assert_no_cut(run(), "spare", "decoder")


# Updates


def test_parameters_that_move_pass() -> None:
    assert_parameters_update(run(), "encoder.*")
    assert_parameters_update(run(torch.detach), "decoder")


def test_why_a_parameter_does_not_move() -> None:
    stuck = failure(assert_parameters_update, run(torch.detach))
    assert stuck.startswith("6 of 10 parameters that match '*' were not updated")
    assert "'encoder.0.weight': it received no gradient" in stuck
    assert "'encoder.0.weight': its gradient is exactly zero" in failure(assert_parameters_update, run(torch.round))
    assert "at most, does not move its bits" in failure(assert_parameters_update, run(lr=1e-30), "decoder.0.weight")


def test_without_an_optimizer_nothing_moves() -> None:
    net = Net(same)
    with gradscope.watch(net, every=1) as scope:
        net(torch.randn(2, 4)).sum().backward()
    assert "'decoder.0.bias': no optimizer has stepped it" in failure(assert_parameters_update, scope, "decoder")


# The text


def test_a_long_profile_shows_what_fails_and_its_neighbours() -> None:
    made = recording(activation_gradient={f"block{i}": 1.0 for i in range(100)})
    lines = profile(made, {"block50"}).splitlines()
    assert [line.split()[0] for line in lines[2:]] == ["block0", "...", "block49", ">", "block51", "...", "block99"]
    assert lines[3].split() == ["...", "48", "more"]
    assert len(profile(made, {f"block{i}" for i in range(100)}).splitlines()) <= 2 * MOST_ROWS
    assert len(profile(recording(activation_gradient={f"block{i}": 1.0 for i in range(MOST_ROWS)})).splitlines()) == 42


def test_a_profile_of_nothing_is_empty() -> None:
    assert profile(Recording()) == ""


def test_findings_about_other_places_are_left_out() -> None:
    def about(*sites: str) -> Finding:
        return Finding("some-disease", Severity.ERROR, 0, "m", "e", "f", sites=sites)

    far, near, inside, whole = about("far.weight"), about("near"), about("near.0.weight"), about()
    offences = [Offence("near", "near", "")]
    assert concerning([far, near, inside, whole], offences) == (near, inside, whole)
    root = [Offence("weight", "", "")]
    assert concerning([far, about("weight"), whole], root) == (about("weight"), whole)


# Equal bits


def seeded(seed: int = 0, lr: float = 0.1, steps: int = 3) -> nn.Module:
    torch.manual_seed(seed)
    net = Net(same)
    train(net, steps, lr)
    return net


def test_equal_runs_are_equal() -> None:
    assert_bitwise_equal(seeded, seeded)
    assert_bitwise_equal(seeded(), seeded())
    assert_bitwise_equal(run(), run())
    assert_bitwise_equal(run().recording, run().recording)


def test_the_first_step_and_site_that_differ_are_named() -> None:
    text = failure(assert_bitwise_equal, run(), run(lr=0.2))
    assert text.startswith("the runs differ: first in step 0: update of encoder.0.weight: rms ")
    assert " against " in text
    assert failure(assert_bitwise_equal, run(), run(seed=1)).startswith(
        "the runs differ: first in step 0: activation of encoder.0: "
    )


def test_in_backward_the_last_module_comes_first() -> None:
    one, other = (recording(activation_gradient={"a": value, "b": value}) for value in (1.0, 2.0))
    assert failure(assert_bitwise_equal, one, other).startswith(
        "the runs differ: first in step 0: activation_gradient of b: rms 1 against 2"
    )


def test_a_difference_in_a_later_step_is_found() -> None:
    one, other = (recording(activation={"a": [1.0, 1.0, value]}, steps=3) for value in (1.0, 1.0 + 2**-52))
    assert "first in step 2: activation of a: " in failure(assert_bitwise_equal, one, other)
    assert "measured in one run only" in failure(
        assert_bitwise_equal, one, recording(activation={"a": [1.0, None, 1.0]}, steps=3)
    )
    assert "5 steps against 3" in failure(assert_bitwise_equal, recording(activation={"a": 1.0}, steps=5), one)


def test_what_a_function_trains_is_compared_step_by_step() -> None:
    def other() -> nn.Module:
        return seeded(lr=0.2)

    text = failure(assert_bitwise_equal, seeded, other)
    assert text.startswith("the runs differ: Net: first in step 0: update of encoder.0.weight")
    assert "only one of them has 'Net'" in failure(assert_bitwise_equal, seeded, lambda: Net(same))


def test_a_function_that_forgets_its_seed_is_caught() -> None:
    def unseeded() -> nn.Module:
        net = Net(same)
        train(net)
        return net

    assert "first in step 0: activation of encoder.0" in failure(assert_bitwise_equal, unseeded, unseeded)


def test_gradients_and_buffers_of_modules_are_compared() -> None:
    one, other = nn.BatchNorm1d(3), nn.BatchNorm1d(3)
    assert_bitwise_equal(one, other)
    one.weight.grad = torch.zeros(3)
    assert "weight.grad: Parameter" not in failure(assert_bitwise_equal, one, other)
    assert "weight.grad: Tensor against NoneType" in failure(assert_bitwise_equal, one, other)
    other.weight.grad = torch.zeros(3)
    assert_bitwise_equal(one, other)
    other(torch.randn(4, 3))
    assert "running_mean: 3 of 3 elements" in failure(assert_bitwise_equal, one, other)


def test_a_scope_has_its_models_compared_too() -> None:
    one, other = run(), run()
    with torch.no_grad():
        other.models[""].get_parameter("spare.bias").add_(1.0)
    assert "spare.bias: 2 of 2 elements" in failure(assert_bitwise_equal, one, other)


def test_in_a_pair_the_recording_is_asked_first() -> None:
    def pair(lr: float) -> tuple[nn.Module, gradscope.Scope]:
        scope = run(lr=lr)
        return scope.models[""], scope

    assert "[1]: first in step 0" in failure(assert_bitwise_equal, pair(0.1), pair(0.2))


NAN = float("nan")


@pytest.mark.parametrize(
    ("one", "other", "text"),
    [
        (torch.tensor([1.0, NAN]), torch.tensor([1.0, NAN]), ""),
        (torch.tensor(0.0), torch.tensor(-0.0), "1 of 1 elements, the first is 0.0 against -0.0"),
        (torch.ones(2, 2), torch.ones(4), "float32 (2, 2) against float32 (4,)"),
        (torch.ones(2), torch.ones(2).double(), "float32 (2,) against float64 (2,)"),
        (torch.ones(0), torch.ones(0), ""),
        (torch.ones(4)[::2], torch.ones(2), ""),
        (torch.ones(2).to_sparse(), torch.ones(2).to_sparse(), ""),
        (torch.eye(2).to_sparse(), torch.ones(2, 2).to_sparse(), "2 of 4 elements"),
        (torch.ones(2, dtype=torch.bfloat16), torch.tensor([1.0, 2.0]).bfloat16(), "1 of 2 elements"),
        (torch.tensor([1 + 2j]).conj(), torch.tensor([1 - 2j]), ""),
        (torch.tensor([True]), torch.tensor([False]), "1 of 1 elements, the first is True against False"),
        (np.ones(2), np.ones(2), ""),
        (np.ones(2), np.zeros(2), "the bits of float64 (2,) differ"),
        (np.ones(2), np.ones(3), "float64 (2,) against float64 (3,)"),
        ({"a": 1, "b": [2.0, NAN]}, {"a": 1, "b": [2.0, NAN]}, ""),
        ({"a": {"b": 1}}, {"a": {"b": 2}}, "a.b: 1 against 2"),
        ({"a": 1}, {"b": 1}, "only one of them has 'a'"),
        ([1, 2], [1], "2 items against 1"),
        ([1, 2], (1, 2), "list against tuple"),
        (0.0, -0.0, "0.0 against -0.0"),
        (None, 1, "NoneType against int"),
    ],
)
def test_values_are_equal_bit_by_bit(one: object, other: object, text: str) -> None:
    if text:
        assert text in failure(assert_bitwise_equal, one, other)
    else:
        assert_bitwise_equal(one, other)


def test_the_state_of_optimizers_is_compared() -> None:
    def adam(beta: float) -> torch.optim.Optimizer:
        weight = nn.Parameter(torch.ones(2))
        optimizer = torch.optim.Adam([weight], betas=(beta, 0.999))
        weight.sum().backward()
        optimizer.step()
        return optimizer

    assert_bitwise_equal(adam(0.9), adam(0.9))
    assert "state.0.exp_avg: 2 of 2 elements" in failure(assert_bitwise_equal, adam(0.9), adam(0.8))


def test_runs_without_a_common_step_cannot_be_compared() -> None:
    late = Recording(sites=run().recording.sites, steps=run(steps=4).recording.steps[2:], graph=GraphSummary())
    with pytest.raises(ValueError, match="watch both of them with every=1"):
        assert_bitwise_equal(run().recording, late)


# Where they are used


class TestInUnittest(unittest.TestCase):
    def test_the_assertions_are_plain_functions(self) -> None:
        assert_healthy(run())
        with self.assertRaises(self.failureException):  # noqa: PT027  as its users write it
            assert_gradients_reach(run(torch.detach), "encoder.*")


def test_recordings_by_hand_need_no_torch() -> None:
    script = "from gradscope.testing import recording; import sys; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_each_assertion_has_a_home() -> None:
    names = [name for name in gradscope.testing.__all__ if name.startswith("assert_")]
    assert names == sorted(gradscope.testing._HOMES)
    assert all(getattr(gradscope.testing, name).__doc__ for name in names)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'assert_helthy'"):
        _ = gradscope.testing.assert_helthy
