"""What is captured: every module that runs, with the values that a clone-based reference gives."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from models import Digits, Encoder, ResNet18, digits_batch, images_batch, tokens_batch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence
from torch.utils.checkpoint import checkpoint

import gradscope
from gradscope.hooks.statistics import SAMPLED
from gradscope.records import Kind, Recording, Statistic


def rms(recording: Recording, kind: Kind) -> dict[str, float]:
    values = recording.values(kind, Statistic.RMS)[-1]
    return dict(zip((site.path for site in recording.sites_of(kind)), values.tolist(), strict=True))


def recorded(model: nn.Module, *inputs: Any, **options: Any) -> Recording:
    with gradscope.watch(model, **options) as scope:
        output = model(*inputs)
        loss = sum(t.square().sum() for t in output) if isinstance(output, tuple) else output.square().sum()
        loss.backward()
    assert not scope.recording.lost
    return scope.recording


def root_mean_square(tensor: Tensor) -> float:
    return float(tensor.double().square().mean().sqrt())


class Chain(nn.Module):
    """Two layers whose intermediate results are kept for comparison."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.act, self.last = nn.Linear(5, 7), nn.ReLU(inplace=True), nn.Linear(7, 2)
        self.seen: dict[str, Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:
        for name, layer in (("first", self.first), ("act", self.act), ("last", self.last)):
            x = layer(x)
            self.seen[name] = x.detach().clone()
            x.register_hook(lambda gradient, name=name: self.seen.update({f"d{name}": gradient.clone()}))
        return x


def test_values_equal_a_reference_with_an_in_place_activation() -> None:
    model = Chain()
    recording = recorded(model, torch.randn(4, 5))
    activations, gradients = rms(recording, Kind.ACTIVATION), rms(recording, Kind.ACTIVATION_GRADIENT)
    for name in ("first", "act", "last"):
        assert activations[name] == pytest.approx(root_mean_square(model.seen[name]), rel=1e-5)
        assert gradients[name] == pytest.approx(root_mean_square(model.seen[f"d{name}"]), rel=1e-5)


def test_parameters_gradients_and_updates_equal_a_reference() -> None:
    model = nn.Linear(4, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    before = model.weight.detach().clone()
    with gradscope.watch(model) as scope:
        model(torch.randn(8, 4)).square().mean().backward()
        optimizer.step()
    recording = scope.recording
    assert model.weight.grad is not None
    assert rms(recording, Kind.PARAMETER)["weight"] == pytest.approx(root_mean_square(model.weight.detach()), rel=1e-5)
    assert rms(recording, Kind.PARAMETER_GRADIENT)["weight"] == pytest.approx(
        root_mean_square(model.weight.grad), rel=1e-5
    )
    assert rms(recording, Kind.UPDATE)["weight"] == pytest.approx(
        root_mean_square(model.weight.detach() - before), rel=1e-5
    )


def test_the_gradient_that_is_recorded_is_the_one_that_was_applied() -> None:
    model = nn.Linear(4, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    with gradscope.watch(model) as scope:
        model(100 * torch.randn(8, 4)).square().mean().backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.01)
        optimizer.step()
    norms = scope.recording.values(Kind.PARAMETER_GRADIENT, Statistic.NORM)[-1]
    assert np.linalg.norm(norms) == pytest.approx(0.01, rel=1e-3)


def test_updates_of_large_parameters_are_estimated_from_a_sample() -> None:
    model = nn.Embedding(100, 4 * SAMPLED // 100)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    before = model.weight.detach().clone()
    with gradscope.watch(model) as scope:
        model(torch.arange(100)).square().sum().backward()
        optimizer.step()
    norm = scope.recording.values(Kind.UPDATE, Statistic.NORM)[-1, 0]
    assert norm == pytest.approx(float((model.weight.detach() - before).norm()), rel=0.02)
    assert scope.recording.values(Kind.UPDATE, Statistic.COUNT)[-1, 0] == pytest.approx(before.numel(), rel=1e-3)


@pytest.mark.parametrize(
    ("model", "batch"),
    [(Digits, digits_batch), (ResNet18, images_batch), (Encoder, tokens_batch)],
    ids=["digits", "resnet18", "encoder"],
)
def test_every_module_that_runs_has_its_rows(model: Any, batch: Any) -> None:
    net = model()
    ran: set[str] = set()
    for path, module in net.named_modules():
        module.register_forward_hook(lambda *_, path=path: ran.add(path))
    recording = recorded(net, batch())
    for kind in (Kind.ACTIVATION, Kind.ACTIVATION_GRADIENT):
        measured = recording.values(kind, Statistic.COUNT)[-1] > 0
        assert {site.module for site, here in zip(recording.sites_of(kind), measured, strict=True) if here} == ran
    counts = recording.values(Kind.PARAMETER_GRADIENT, Statistic.COUNT)[-1]
    assert len(counts) == len(list(net.parameters()))
    assert np.all(counts > 0)


def test_sites_are_in_forward_order_with_parameters_behind_their_module() -> None:
    sites = [(site.module, str(site.kind), site.name) for site in recorded(Chain(), torch.randn(4, 5)).sites]
    assert sites[:4] == [
        ("first", "activation", ""),
        ("first", "activation_gradient", ""),
        ("first", "parameter", "weight"),
        ("first", "parameter_gradient", "weight"),
    ]
    assert list(dict.fromkeys(module for module, _, _ in sites)) == ["first", "act", "last", ""]


@dataclass
class Outputs:
    hidden: Tensor
    scores: list[Tensor]


class Structured(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Outputs:
        hidden = self.a(x)
        return Outputs(hidden, [self.b(hidden), hidden.argmax(1)])


def test_tensors_in_a_structure_are_sites_of_their_own() -> None:
    model = Structured()
    with gradscope.watch(model) as scope:
        model(torch.randn(5, 3)).scores[0].sum().backward()
    names = {site.name for site in scope.recording.sites_of(Kind.ACTIVATION) if site.module == ""}
    assert names == {"hidden", "scores.0"}
    assert not scope.recording.lost


def test_a_packed_sequence_and_the_states_of_an_lstm_are_captured() -> None:
    model = nn.LSTM(3, 4, batch_first=True)
    packed = pack_padded_sequence(torch.randn(2, 5, 3), torch.tensor([5, 2]), batch_first=True)
    with gradscope.watch(model) as scope:
        output, (hidden, _cell) = model(packed)
        (output.data.sum() + hidden.sum()).backward()
    gradients = scope.recording.sites_of(Kind.ACTIVATION_GRADIENT)
    assert {"0.0", "1.0", "1.1"} <= {site.name for site in gradients}


def test_calls_of_one_module_merge_exactly() -> None:
    shared = nn.Linear(3, 3)
    model = nn.Sequential(shared, shared)
    inputs = torch.randn(4, 3)
    recording = recorded(model, inputs)
    once = shared(inputs).detach()
    both = torch.cat([once, shared(once).detach()])
    assert rms(recording, Kind.ACTIVATION)["0"] == pytest.approx(root_mean_square(both), rel=1e-5)
    assert recording.values(Kind.ACTIVATION, Statistic.COUNT)[-1, 0] == 24


def test_tied_parameters_are_one_site_with_both_names() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    (site,) = [s for s in recorded(model, torch.randn(2, 3)).sites_of(Kind.PARAMETER_GRADIENT) if s.name == "weight"]
    assert (site.path, site.aliases) == ("0.weight", ("1.weight",))


class Viewing(nn.Module):
    """Returns a view that its caller then modifies in place, which gives the view a new node."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.flatten = nn.Conv2d(1, 2, 3), nn.Flatten()

    def forward(self, x: Tensor) -> Tensor:
        flat: Tensor = self.flatten(self.inner(x))
        flat += 1
        return flat * 2


def test_a_view_that_is_modified_in_place_still_gets_its_gradient() -> None:
    gradients = rms(recorded(Viewing(), torch.randn(2, 1, 5, 5)), Kind.ACTIVATION_GRADIENT)
    assert gradients["flatten"] > 0


@pytest.mark.parametrize("reentrant", [True, False])
def test_a_checkpointed_module_has_one_activation_and_one_gradient(reentrant: bool) -> None:
    class Checkpointed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.body = nn.Linear(3, 4), nn.Sequential(nn.Linear(4, 4), nn.Tanh())

        def forward(self, x: Tensor) -> Tensor:
            output: Tensor = checkpoint(self.body, self.stem(x), use_reentrant=reentrant)
            return output

    recording = recorded(Checkpointed(), torch.randn(2, 3))
    for kind in (Kind.ACTIVATION, Kind.ACTIVATION_GRADIENT):
        counts = dict(
            zip(
                (site.path for site in recording.sites_of(kind)),
                recording.values(kind, Statistic.COUNT)[-1],
                strict=True,
            )
        )
        assert counts["body.0"] == counts["body.1"] == 8


def test_an_autograd_grad_is_left_out_of_the_loss_gradient() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh())
    inputs = torch.randn(2, 3, requires_grad=True)
    alone = rms(recorded(model, inputs), Kind.ACTIVATION_GRADIENT)
    model.zero_grad()
    with gradscope.watch(model) as scope:
        output = model(inputs)
        torch.autograd.grad(output.sum() * 1000, inputs, retain_graph=True)
        output.square().sum().backward()
    assert rms(scope.recording, Kind.ACTIVATION_GRADIENT) == pytest.approx(alone)


def test_half_precision_sums_do_not_overflow() -> None:
    model = nn.Linear(4, 4).half()
    recording = recorded(model, torch.full((64, 4), 500.0, dtype=torch.float16) * 0 + 1)
    assert not np.any(recording.values(Kind.ACTIVATION, Statistic.INF) == 1)
    with gradscope.watch(nn.Sequential(nn.Identity(), model)) as scope:
        scope._roots[""](torch.full((3000, 4), 60.0, dtype=torch.float16)).sum().backward()
    total = scope.recording.values(Kind.ACTIVATION, Statistic.SUM)[-1]
    assert np.all(np.isfinite(total))


def test_what_cannot_be_measured_is_said_and_the_rest_is_measured() -> None:
    class Sparse(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.head = nn.Embedding(10, 3, sparse=True), nn.Linear(3, 1)

        def forward(self, tokens: Tensor) -> Tensor:
            output: Tensor = self.head(self.embed(tokens))
            return output

    model = Sparse()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with gradscope.watch(model) as scope:
        model(torch.arange(5)).sum().backward()
        optimizer.step()
    assert scope.recording.lost == ("parameter_gradient of embed.weight: a tensor of layout sparse_coo",)
    assert rms(scope.recording, Kind.PARAMETER_GRADIENT)["head.weight"] > 0


def test_modules_swapped_in_during_training_are_captured() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    with gradscope.watch(model) as scope:
        model(torch.randn(2, 3)).sum().backward()
        model[1] = nn.Sequential(nn.Tanh(), nn.Linear(4, 5))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        optimizer.zero_grad()
        model(torch.randn(2, 3)).sum().backward()
        optimizer.step()
    assert {"1.0", "1.1"} <= {site.module for site in scope.recording.sites_of(Kind.ACTIVATION_GRADIENT)}
    assert {"1.1.weight"} <= {site.path for site in scope.recording.sites_of(Kind.UPDATE)}


def test_foreign_modules_are_not_captured() -> None:
    model, other = nn.Linear(3, 3), nn.Linear(3, 3)
    recording = recorded(model, other(torch.randn(2, 3)))
    assert {site.module for site in recording.sites} == {""}


def test_the_sources_of_a_module_are_those_autograd_saw() -> None:
    class Branched(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.left, self.right, self.head = (nn.Linear(3, 3) for _ in range(4))

        def forward(self, x: Tensor) -> Tensor:
            x = torch.relu(self.stem(x))
            output: Tensor = self.head(torch.sigmoid(self.left(x)) * 2 + self.right(x))
            return output

    sources = recorded(Branched(), torch.randn(2, 3)).graph.sources
    assert sources["left"] == sources["right"] == ("stem",)
    assert set(sources["head"]) == {"left", "right"}
    assert sources[""] == ()


def test_several_models_are_watched_by_name() -> None:
    pair = {"generator": nn.Linear(2, 3), "critic": nn.Linear(3, 1)}
    with gradscope.watch(pair) as scope:
        pair["critic"](pair["generator"](torch.randn(4, 2))).sum().backward()
    assert [site.module for site in scope.recording.sites_of(Kind.ACTIVATION)] == ["generator", "critic"]
    assert "critic.weight" in {info.path for info in scope.recording.parameters}
