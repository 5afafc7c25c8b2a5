"""Traps in training loops: backward passes, optimizers and models that do not follow the plain pattern."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.optim.swa_utils import AveragedModel
from traps import ROUNDS, counts, fit, loss_of, mlp, rms, sgd, step_events, untouched

from gradscope.records import Kind, StepEnd


def test_two_backwards_over_one_retained_graph_both_count() -> None:
    """Remembering per hook that it has fired would hide the second pass over a graph that is kept."""

    def loop(net: nn.Module) -> None:
        optimizer = sgd(net)
        for _ in range(ROUNDS):
            optimizer.zero_grad()
            loss = loss_of(net)
            loss.backward(retain_graph=True)
            loss.backward()
            optimizer.step()

    recording = untouched(mlp, loop).recording
    assert counts(recording, Kind.ACTIVATION_GRADIENT)["0"] == 2 * 5 * 8
    assert counts(recording, Kind.ACTIVATION)["0"] == 5 * 8


def test_a_view_changed_in_place_under_a_retained_graph() -> None:
    """The base's hook stands in for a view's lost one; told once per view, it is silent in the second backward."""

    def loop(net: nn.Module) -> None:
        flat = net(torch.randn(2, 1, 5, 5))
        flat += 1
        loss = flat.square().mean()
        loss.backward(retain_graph=True)
        loss.backward()

    def build() -> nn.Module:
        return nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten())

    assert counts(untouched(build, loop).recording, Kind.ACTIVATION_GRADIENT)["1"] == 2 * 36


def test_gradients_that_themselves_require_grad() -> None:
    """With create_graph, measuring without no_grad writes into cells that then require grad, and raises."""

    def loop(net: nn.Module) -> None:
        optimizer = sgd(net)
        for _ in range(ROUNDS):
            optimizer.zero_grad()
            slopes = torch.autograd.grad(loss_of(net), list(net.parameters()), create_graph=True)
            (loss_of(net) + torch.stack([slope.square().sum() for slope in slopes]).sum()).backward()
            optimizer.step()

    untouched(mlp, loop)


def test_maml_through_torch_func() -> None:
    """Inside torch.func.grad outputs are wrappers of another level: measuring them raises."""

    def loop(net: nn.Module) -> None:
        optimizer = sgd(net)
        parameters: dict[str, Tensor] = dict(net.named_parameters())

        def inner(values: dict[str, Tensor], x: Tensor) -> Tensor:
            output: Tensor = functional_call(net, values, (x,))
            return output.square().mean()

        for _ in range(ROUNDS):
            optimizer.zero_grad()
            slopes = torch.func.grad(inner)(parameters, torch.randn(5, 6))
            adapted = {name: value - 0.1 * slopes[name] for name, value in parameters.items()}
            inner(adapted, torch.randn(5, 6)).backward()
            optimizer.step()

    recording = untouched(mlp, loop).recording
    assert counts(recording, Kind.PARAMETER_GRADIENT).keys() == {"0.weight", "0.bias", "2.weight", "2.bias"}


def test_maml_by_hand() -> None:
    """functional_call swaps tensors that are no leaves into `_parameters`: taken for replaced ones, state is lost."""

    def loop(net: nn.Module) -> None:
        optimizer = sgd(net)
        for _ in range(ROUNDS):
            optimizer.zero_grad()
            slopes = torch.autograd.grad(loss_of(net), list(net.parameters()), create_graph=True)
            pairs = zip(net.named_parameters(), slopes, strict=True)
            adapted = {name: value - 0.1 * slope for (name, value), slope in pairs}
            functional_call(net, adapted, (torch.randn(5, 6),)).square().mean().backward()
            optimizer.step()

    recording = untouched(mlp, loop).recording
    assert len(recording.steps) == ROUNDS
    assert {info.contributions for info in recording.parameters} == {ROUNDS}


def test_gradients_assigned_from_autograd_grad() -> None:
    """No backward fills `.grad` here: a scope that waits for one would measure no step at all."""

    def loop(net: nn.Module) -> None:
        optimizer, parameters = sgd(net), list(net.parameters())
        for _ in range(ROUNDS):
            for parameter, slope in zip(parameters, torch.autograd.grad(loss_of(net), parameters), strict=True):
                parameter.grad = slope
            optimizer.step()

    recording = untouched(mlp, loop).recording
    assert len(recording.steps) == ROUNDS
    assert len(counts(recording, Kind.PARAMETER_GRADIENT)) == 4


def test_a_backward_into_chosen_inputs_only() -> None:
    """The others get no gradient on purpose: they must not be taken for reused or starved ones."""

    def loop(net: Any) -> None:
        optimizer = sgd(net)
        for _ in range(ROUNDS):
            optimizer.zero_grad()
            loss_of(net).backward(inputs=list(net[2].parameters()))
            optimizer.step()

    assert {info.path: info.contributions for info in untouched(mlp, loop).recording.parameters} == {
        "0.weight": 0,
        "0.bias": 0,
        "2.weight": ROUNDS,
        "2.bias": ROUNDS,
    }


def test_one_backward_from_several_losses() -> None:
    """Which module's gradient arrives first is not fixed with several roots: a start tied to the last one is missed."""

    def loop(net: Any) -> None:
        optimizer = sgd(net)
        for _ in range(ROUNDS):
            optimizer.zero_grad()
            hidden = net[1](net[0](torch.randn(5, 6)))
            torch.autograd.backward([hidden.mean(), net[2](hidden).square().mean()])
            optimizer.step()

    assert len(untouched(mlp, loop).recording.steps) == ROUNDS


class Sharpness(torch.optim.Optimizer):
    """SAM as it is commonly published: an optimizer around another one."""

    def __init__(self, parameters: Any, base: type[torch.optim.Optimizer], **options: Any) -> None:
        super().__init__(parameters, options)
        self.base = base(self.param_groups, **options)
        self.param_groups = self.base.param_groups

    @torch.no_grad()
    def first_step(self) -> None:
        for parameter in self.param_groups[0]["params"]:
            self.state[parameter]["old"] = parameter.data.clone()
            parameter.add_(0.05 * parameter.grad / (parameter.grad.norm() + 1e-12))
        self.zero_grad()

    @torch.no_grad()
    def second_step(self) -> None:
        for parameter in self.param_groups[0]["params"]:
            parameter.data = self.state[parameter]["old"]
        self.base.step()
        self.zero_grad()

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        self.first_step()
        with torch.enable_grad():
            closure()
        self.second_step()


def test_sharpness_aware_minimization_with_a_closure() -> None:
    """An optimizer that steps inside another one's step would end the step twice, or in its middle."""

    def loop(net: nn.Module) -> None:
        optimizer = Sharpness(net.parameters(), torch.optim.SGD, lr=0.05)
        for _ in range(ROUNDS):
            inputs = torch.randn(5, 6)
            net(inputs).square().mean().backward()
            optimizer.step(lambda inputs=inputs: net(inputs).square().mean().backward())

    recording = untouched(mlp, loop).recording
    assert [step.end for step in recording.steps] == [StepEnd.OPTIMIZER] * ROUNDS


def test_sharpness_aware_minimization_in_two_steps() -> None:
    """The ascent changes parameters and clears gradients without an optimizer's step: no update, nothing reused."""

    def loop(net: nn.Module) -> None:
        optimizer = Sharpness(net.parameters(), torch.optim.SGD, lr=0.05)
        for _ in range(ROUNDS):
            inputs = torch.randn(5, 6)
            net(inputs).square().mean().backward()
            optimizer.first_step()
            net(inputs).square().mean().backward()
            optimizer.second_step()

    events = step_events(untouched(mlp, loop).recording)
    assert [event.optimizer for event in events if event.optimizer] == ["SGD"] * ROUNDS
    assert not any(event.reused or event.cleared for event in events)


def test_three_optimizers_of_which_one_steps_more_rarely() -> None:
    """A slow optimizer accumulates on purpose: its gradients would be called reused when others' steps count for it."""

    def loop(net: Any) -> None:
        optimizers = [sgd(net[0]), torch.optim.Adam([net[2].weight]), torch.optim.RMSprop([net[2].bias])]
        for i in range(3 * ROUNDS):
            loss_of(net).backward()
            for optimizer in optimizers if i % 3 == 2 else optimizers[:2]:
                optimizer.step()
                optimizer.zero_grad()

    events = step_events(untouched(mlp, loop).recording)
    assert [event.optimizer for event in events].count("RMSprop") == ROUNDS
    assert not any(event.reused or event.cleared for event in events)


def test_optimizers_that_step_inside_the_backward() -> None:
    """A step in the middle of a backward would be lost when the backward's end sets the phase back."""

    def loop(net: nn.Module) -> None:
        optimizers: dict[Tensor, torch.optim.Optimizer] = {p: torch.optim.SGD([p], lr=0.05) for p in net.parameters()}

        def apply(parameter: Tensor) -> None:
            optimizers[parameter].step()
            optimizers[parameter].zero_grad()

        for parameter in net.parameters():
            parameter.register_post_accumulate_grad_hook(apply)
        for _ in range(ROUNDS):
            loss_of(net).backward()

    recording = untouched(mlp, loop).recording
    assert len(recording.steps) == ROUNDS
    assert len(step_events(recording)) == 4 * ROUNDS
    assert len(counts(recording, Kind.UPDATE)) == 4


SCALE = 1024.0


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam], ids=["sgd", "adam"])
@pytest.mark.parametrize("fused", [False, True], ids=["plain", "fused"])
def test_statistics_under_a_loss_scaler_are_of_unscaled_gradients(optimizer: Any, fused: bool) -> None:
    """A fused optimizer unscales gradients itself: read before its step, they are 1024 times too big."""
    true: list[float] = []

    def loop(net: Any) -> None:
        made, scaler = optimizer(net.parameters(), lr=0.01, fused=fused), torch.amp.GradScaler("cpu", init_scale=SCALE)
        for _ in range(ROUNDS):
            made.zero_grad()
            scaler.scale(loss_of(net)).backward()
            true.append(float(net[0].weight.grad.square().mean().sqrt()) / SCALE)
            scaler.step(made)
            scaler.update()

    recording = untouched(mlp, loop).recording
    assert rms(recording, Kind.PARAMETER_GRADIENT)["0.weight"] == pytest.approx(true[-1], rel=1e-4)


@pytest.mark.parametrize("fused", [False, True], ids=["plain", "fused"])
def test_an_overflow_that_the_loss_scaler_skips_is_no_finding(fused: bool) -> None:
    """A fused optimizer's step is called on an overflow too, and does nothing: its Inf would look like an error."""

    def loop(net: nn.Module) -> None:
        made, scaler = torch.optim.Adam(net.parameters(), fused=fused), torch.amp.GradScaler("cpu", init_scale=8.0)
        for i in range(ROUNDS):
            made.zero_grad()
            scaler.scale(loss_of(net) * (float("inf") if i == 1 else 1.0)).backward()
            scaler.step(made)
            scaler.update()

    assert len(untouched(mlp, loop).recording.steps) == ROUNDS


def test_autocast_does_not_reach_our_arithmetic() -> None:
    """Under autocast our own reductions are cast to another dtype than the cells they are written into."""

    def loop(net: nn.Module) -> list[Tensor]:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return fit(net)

    recording = untouched(mlp, loop).recording
    assert {site.dtype for site in recording.sites_of(Kind.ACTIVATION) if site.path != "1"} == {"bfloat16"}


def test_a_copy_that_is_averaged_and_evaluated() -> None:
    """Hooks stored on the modules travel with a copy, whose forwards would then count as the model's."""

    def loop(net: nn.Module) -> list[Tensor]:
        shadow, average, optimizer = copy.deepcopy(net), AveragedModel(net), sgd(net)
        outputs = []
        for _ in range(ROUNDS):
            optimizer.zero_grad()
            loss_of(net).backward()
            optimizer.step()
            average.update_parameters(net)
            with torch.no_grad():
                for slow, fast in zip(shadow.parameters(), net.parameters(), strict=True):
                    slow.lerp_(fast, 0.1)
            outputs += [shadow(torch.ones(7, 6)), average(torch.ones(7, 6))]
        return outputs

    assert counts(untouched(mlp, loop).recording, Kind.ACTIVATION)["0"] == 5 * 8


def test_features_computed_in_inference_mode() -> None:
    """Inference tensors have no version counter: asking for it raises."""

    def loop(net: Any) -> None:
        optimizer = sgd(net)
        for _ in range(ROUNDS):
            with torch.inference_mode():
                features = torch.randn(5, 2, 3) + 1
            optimizer.zero_grad()
            net[1](net[0](features).clone()).square().mean().backward()
            optimizer.step()

    recording = untouched(lambda: nn.Sequential(nn.Flatten(), nn.Linear(6, 2)), loop).recording
    assert counts(recording, Kind.ACTIVATION) == {"0": 30, "1": 10}
