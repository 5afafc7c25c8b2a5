"""Traps in modules: how they are called, what they are made of, and what else hangs on them."""

import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from traps import ROUNDS, counts, fit, mlp, rms, sgd, step_events, untouched

from gradscope.records import Kind


@pytest.mark.parametrize("parametrization", [parametrizations.spectral_norm, parametrizations.weight_norm])
def test_a_parametrized_weight_is_not_read(parametrization: Callable[[nn.Module], nn.Module]) -> None:
    """Reading `module.weight` runs the parametrization; that of spectral_norm then moves its vectors."""
    runs: list[int] = []

    def build() -> nn.Module:
        net = nn.Sequential(parametrization(nn.Linear(6, 8)), nn.Tanh(), parametrization(nn.Linear(8, 3)))
        runs.append(0)
        net[0].parametrizations.weight[0].register_forward_hook(lambda *_: runs.append(runs.pop() + 1))  # type: ignore[index,union-attr]
        return net

    recording = untouched(build, fit, keep="*").recording
    assert runs == [ROUNDS, ROUNDS]
    assert any(path.startswith("0.parametrizations.weight.original") for path in counts(recording, Kind.UPDATE))


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(10, 6), nn.Linear(6, 10, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, tokens: Tensor) -> Tensor:
        output: Tensor = self.head(self.embed(tokens))
        return output


def test_tied_weights_are_updated_once() -> None:
    """Counted under both names, one weight would have two gradients, two updates and a gradient used twice."""
    scope = untouched(Tied, lambda net: fit(net, lambda net: net(torch.arange(5)).square().mean()))
    assert counts(scope.recording, Kind.UPDATE) == {"embed.weight": 60}
    assert {event.parameters for event in step_events(scope.recording)} == {1}


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.attention = nn.LayerNorm(8), nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(x)
        output: Tensor = self.attention(x, x, x, need_weights=False)[0]
        return output


def test_attention_of_a_tensor_to_itself() -> None:
    """Wrapped outputs make `query is key` false: another projection runs, and the bits change. out_proj never runs."""
    scope = untouched(Attention, lambda net: fit(net, lambda net: net(torch.randn(2, 5, 8)).square().mean()))
    assert counts(scope.recording, Kind.PARAMETER_GRADIENT)["attention.out_proj.weight"] == 64
    assert "attention.out_proj" not in counts(scope.recording, Kind.ACTIVATION)


@pytest.mark.parametrize("traced", [False, True], ids=["measured", "traced"])
def test_the_fast_path_of_an_encoder_layer_in_evaluation(traced: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hooks on the layer, or a function mode that is still on, disable the fast path: other bits come out."""
    runs: list[bool] = []
    fast = torch._transformer_encoder_layer_fwd

    def counted(*args: Any, **kwargs: Any) -> Any:
        runs.append(True)
        return fast(*args, **kwargs)

    monkeypatch.setattr(torch, "_transformer_encoder_layer_fwd", counted)

    def loop(net: nn.Module) -> list[Tensor]:
        optimizer, outputs = sgd(net), []
        for _ in range(ROUNDS):
            optimizer.zero_grad()
            net.train()(torch.randn(2, 5, 8)).square().mean().backward()
            optimizer.step()
            with torch.no_grad():
                outputs.append(net.eval()(torch.randn(2, 5, 8)))
        return outputs

    untouched(lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), loop, traced=traced)
    assert len(runs) == 2 * ROUNDS


def test_a_hook_of_the_users_that_replaces_the_output() -> None:
    """A hook of ours that returned a value would win over the user's; what is recorded is the module's own output."""

    def build() -> nn.Module:
        net = mlp()
        net.get_submodule("0").register_forward_hook(lambda _module, _args, output: output * 2)
        return net

    recording = untouched(build, fit).recording
    assert counts(recording, Kind.ACTIVATION)["0"] == counts(recording, Kind.ACTIVATION_GRADIENT)["0"] == 40


def halved(_module: nn.Module, gradients: Any) -> Any:
    return (gradients[0] * 0.5,)


@pytest.mark.parametrize("where", [1, 2])
def test_full_backward_hooks_of_the_users(where: int) -> None:
    """Registering such hooks globally turns the user's old ones into errors; theirs replace outputs after ours ran."""
    seen: list[int] = []

    def build() -> nn.Module:
        net, gradients = mlp(), list[Any]()
        module = net.get_submodule(str(where))
        module.register_full_backward_hook(lambda *arguments: gradients.append(arguments))
        module.register_full_backward_pre_hook(halved)
        module.register_forward_pre_hook(lambda *_: seen.append(len(gradients)))
        return net

    recording = untouched(build, fit).recording
    assert seen == [0, 1, 2, 3] * 2
    assert counts(recording, Kind.ACTIVATION_GRADIENT) == {"0": 40, "1": 40, "2": 15, "(root)": 15}


def tenfold(_module: nn.Module, _args: Any, output: Tensor) -> None:
    output.register_hook(lambda gradient: gradient * 10)


def test_a_tensor_hook_of_the_users_that_rescales_a_gradient() -> None:
    """Seen before the user's hook, the gradient would not be the one that flows on."""

    def build() -> nn.Module:
        net = mlp()
        net.get_submodule("2").register_forward_hook(tenfold)
        return net

    recording = untouched(build, lambda net: fit(net, lambda net: net(torch.randn(5, 6)).sum())).recording
    assert rms(recording, Kind.ACTIVATION_GRADIENT)["2"] == pytest.approx(10)


def test_forward_called_directly() -> None:
    """A module that is never called has no activation: its parameters are measured all the same."""

    class Direct(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(6, 8), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.last.forward(self.first.forward(x).tanh())

    recording = untouched(Direct, fit).recording
    assert counts(recording, Kind.ACTIVATION).keys() == {"(root)"}
    assert len(counts(recording, Kind.UPDATE)) == 4


class Guarded(nn.Module):
    """A module that answers everything it is asked, in its own way."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(6, 3)
        self.written: list[str]
        self.__dict__["written"] = []

    def __getattr__(self, name: str) -> Any:
        if name in ("inner", "_parameters", "_modules"):
            return super().__getattr__(name)
        raise AttributeError(f"nobody may ask for {name}")

    def __setattr__(self, name: str, value: Any) -> None:
        if "written" in self.__dict__:
            self.written.append(name)
        super().__setattr__(name, value)

    def __eq__(self, other: object) -> bool:
        raise AssertionError("nobody may compare")

    def __hash__(self) -> int:
        return 1

    def __len__(self) -> int:
        return 0

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.inner(x)
        return output


def test_a_module_with_its_own_getattr_setattr_eq_and_len() -> None:
    """Modules as keys are compared and hashed; as truth values, an empty container is no module; `_x` is noticed."""

    def loop(net: nn.Module) -> object:
        fit(net)
        return net[0].written if isinstance(net, nn.Sequential) else ()

    recording = untouched(lambda: nn.Sequential(Guarded()), loop).recording
    assert counts(recording, Kind.ACTIVATION).keys() == {"0", "0.inner", "(root)"}


def test_very_deep_nesting() -> None:
    """A walk that recurses for each level meets Python's limit in the user's forward."""

    def build() -> nn.Module:
        net: nn.Module = nn.Linear(6, 3)
        for _ in range(150):
            net = nn.Sequential(net)
        return net

    assert len(counts(untouched(build, fit).recording, Kind.ACTIVATION_GRADIENT)) == 151


def test_parameters_in_lists_and_dicts() -> None:
    """ParameterList and ParameterDict are never called: their parameters belong to no module that ran."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.several = nn.ParameterList([nn.Parameter(0.3 * torch.randn(6, 6)) for _ in range(2)])
            self.named = nn.ParameterDict({"out": nn.Parameter(torch.randn(6, 3))})

        def forward(self, x: Tensor) -> Tensor:
            output: Tensor = x @ self.several[0] @ self.several[1] @ self.named["out"]
            return output

    recording = untouched(Net, fit).recording
    assert counts(recording, Kind.UPDATE) == {"several.0": 36, "several.1": 36, "named.out": 18}


class Hidden(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers, self.head = [nn.Linear(6, 6).requires_grad_(False)], nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.head(self.layers[0](x))
        return output


def test_a_module_held_in_a_plain_list() -> None:
    """The model does not own it, so it has no name: taken for a foreign one, not for a replaced child."""
    recording = untouched(Hidden, fit).recording
    assert {site.module for site in recording.sites} == {"head", ""}


def test_a_loss_module_made_anew_in_each_step() -> None:
    """Foreign modules that are remembered for good are never freed, and each costs a walk over the whole model."""
    made: list[weakref.ref[nn.Module]] = []

    def loss(net: nn.Module) -> Tensor:
        criterion = nn.MSELoss()
        made.append(weakref.ref(criterion))
        value: Tensor = criterion(net(torch.randn(5, 6)), torch.zeros(5, 3))
        return value

    scope = untouched(mlp, lambda net: fit(net, loss))
    assert [reference() for reference in made] == [None] * len(made)
    assert scope._hooks._registry.generation < ROUNDS
