"""Programs that train in evaluation mode by mistake, and those that do it on purpose."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import gradscope
from gradscope.findings import Severity

STEPS = 8

Program = Callable[[], gradscope.Scope]


class Classifier(nn.Module):
    """A backbone with batch norm and dropout, and a head."""

    def __init__(self, p: float = 0.2) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(p))
        self.head = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.head(self.backbone(x))
        return output


def fit(net: nn.Module, optimizer: torch.optim.Optimizer | None = None, steps: int = STEPS) -> gradscope.Scope:
    trained = [parameter for parameter in net.parameters() if parameter.requires_grad]
    made = optimizer or torch.optim.SGD(trained, lr=0.01)
    with gradscope.watch(net) as scope:
        for _ in range(steps):
            made.zero_grad()
            net(torch.randn(5, 6)).square().mean().backward()
            made.step()
    return scope


def never_in_training_mode() -> gradscope.Scope:
    return fit(Classifier().eval())


def never_in_training_mode_with_adam_and_dropout_alone() -> gradscope.Scope:
    net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 2)).eval()
    return fit(net, torch.optim.Adam(net.parameters()))


def not_back_in_training_mode_after_validation() -> gradscope.Scope:
    net = Classifier()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    with gradscope.watch(net, every=1) as scope:
        for _ in range(3):
            for _ in range(4):
                optimizer.zero_grad()
                net(torch.randn(5, 6)).square().mean().backward()
                optimizer.step()
            net.eval()
            with torch.no_grad():
                net(torch.randn(5, 6))
    return scope


def after_the_first_steps_were_observed() -> gradscope.Scope:
    net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 2))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    with gradscope.watch(net, budget=1e-6) as scope:
        for step in range(60):
            if step == 40:
                net.eval()
            optimizer.zero_grad()
            net(torch.randn(5, 6)).square().mean().backward()
            optimizer.step()
    return scope


def after_the_first_steps_of_an_irregular_loop() -> gradscope.Scope:
    net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 2))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    with gradscope.watch(net, budget=1e-6) as scope:
        for step in range(60):
            if step == 40:
                net.eval()
            optimizer.zero_grad()
            for _ in range(1 + step % 2):
                net(torch.randn(5, 6)).square().mean().backward()
            optimizer.step()
    return scope


@pytest.mark.parametrize(
    ("program", "step", "site"),
    [
        (never_in_training_mode, 0, "backbone.1"),
        (never_in_training_mode_with_adam_and_dropout_alone, 0, "2"),
        (not_back_in_training_mode_after_validation, 4, "backbone.1"),
        (after_the_first_steps_were_observed, 41, "2"),
        (after_the_first_steps_of_an_irregular_loop, 41, "2"),
    ],
)
def test_training_in_eval_mode_is_named_first_and_alone(program: Program, step: int, site: str) -> None:
    scope = program()
    (finding,) = scope.findings
    assert (finding.analyzer, finding.step, finding.sites[0]) == ("training-in-eval-mode", step, site)
    assert finding.location is not None


healthy: list[Program] = []


def looks_alike(program: Program) -> Program:
    healthy.append(program)
    return program


@looks_alike
def batch_norm_that_is_frozen_on_purpose() -> gradscope.Scope:
    net = Classifier()
    net.backbone[1].eval()
    return fit(net)


@looks_alike
def everything_but_the_root_in_evaluation_mode() -> gradscope.Scope:
    net = Classifier()
    for module in net.children():
        module.eval()
    return fit(net)


@looks_alike
def a_frozen_backbone_in_evaluation_mode_below_a_new_head() -> gradscope.Scope:
    net = Classifier().eval().requires_grad_(False)
    net.head = nn.Linear(8, 2)
    return fit(net)


@looks_alike
def a_linear_probe_of_a_model_that_is_in_evaluation_mode() -> gradscope.Scope:
    net = Classifier().eval()
    net.backbone.requires_grad_(False)
    return fit(net)


@looks_alike
def a_head_in_training_mode_above_a_backbone_that_learns_in_evaluation_mode() -> gradscope.Scope:
    net = Classifier().eval()
    net.head.train()
    return fit(net)


@looks_alike
def dropout_that_never_drops() -> gradscope.Scope:
    return fit(nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.0), nn.LayerNorm(8), nn.Linear(8, 2)).eval())


@looks_alike
def batch_norm_without_running_statistics() -> gradscope.Scope:
    return fit(nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8, track_running_stats=False), nn.Linear(8, 2)).eval())


@looks_alike
def adapters_in_a_pretrained_model_in_evaluation_mode() -> gradscope.Scope:
    class Adapted(nn.Module):
        def __init__(self, base: nn.Module) -> None:
            super().__init__()
            self.base, self.down, self.up = base, nn.Linear(6, 2, bias=False), nn.Linear(2, 8, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            output: Tensor = self.base(x) + self.up(self.down(x))
            return output

    net = Classifier().eval().requires_grad_(False)
    net.backbone[0] = Adapted(net.backbone[0])
    return fit(net)


@looks_alike
def validation_after_each_epoch() -> gradscope.Scope:
    net = Classifier()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    with gradscope.watch(net) as scope:
        for _ in range(3):
            net.train()
            for _ in range(4):
                optimizer.zero_grad()
                net(torch.randn(5, 6)).square().mean().backward()
                optimizer.step()
            net.eval()
            with torch.no_grad():
                net(torch.randn(5, 6))
    return scope


@looks_alike
def perturbations_found_in_evaluation_mode() -> gradscope.Scope:
    net = Classifier()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    with gradscope.watch(net) as scope:
        for _ in range(STEPS):
            inputs = torch.randn(5, 6).requires_grad_()
            net.eval()
            (slope,) = torch.autograd.grad(net(inputs).square().mean(), inputs)
            net.train()
            optimizer.zero_grad()
            net((inputs + 0.1 * slope.sign()).detach()).square().mean().backward()
            optimizer.step()
    return scope


@looks_alike
def a_learned_input_of_a_model_in_evaluation_mode() -> gradscope.Scope:
    net = Classifier().eval()
    image = torch.randn(5, 6, requires_grad=True)
    optimizer = torch.optim.Adam([image])
    with gradscope.watch(net) as scope:
        for _ in range(STEPS):
            optimizer.zero_grad()
            net(image).square().mean().backward()
            optimizer.step()
    return scope


@looks_alike
def a_teacher_in_evaluation_mode() -> gradscope.Scope:
    pair = {"student": Classifier(), "teacher": Classifier().eval()}
    optimizer = torch.optim.SGD(pair["student"].parameters(), lr=0.01)
    with gradscope.watch(pair) as scope:
        for _ in range(STEPS):
            inputs = torch.randn(5, 6)
            with torch.no_grad():
                goal = pair["teacher"](inputs)
            optimizer.zero_grad()
            nn.functional.mse_loss(pair["student"](inputs), goal).backward()
            optimizer.step()
    return scope


@looks_alike
def one_step_in_evaluation_mode_as_in_a_test() -> gradscope.Scope:
    return fit(Classifier().eval(), steps=1)


@pytest.mark.parametrize("program", healthy, ids=lambda program: program.__name__)
def test_evaluation_mode_on_purpose_raises_no_alarm(program: Program) -> None:
    torch.manual_seed(0)
    scope = program()
    alarms = [str(finding) for finding in scope.findings if finding.severity is not Severity.NOTE]
    assert not alarms, "\n".join(alarms)
    assert scope.recording.steps


def test_validation_between_epochs_costs_no_observation() -> None:
    net = Classifier()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    with gradscope.watch(net, budget=1e-6) as scope:
        for step in range(60):
            if step % 10 == 0:
                net.eval()
                with torch.no_grad():
                    net(torch.randn(5, 6))
                net.train()
            optimizer.zero_grad()
            net(torch.randn(5, 6)).square().mean().backward()
            optimizer.step()
    assert scope.report().observed == 20
