"""Traps in what modules return: structures, leaves, views, and tensors that live longer than a step."""

import io
from collections import OrderedDict, namedtuple
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from traps import ROUNDS, counts, fit, loss_of, mlp, rms, sgd, untouched

from gradscope.records import Kind


class Apply(nn.Module):
    """A linear layer and what is made of its output."""

    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.linear, self.function = nn.Linear(6, 8), function

    def forward(self, x: Tensor) -> Any:
        return self.function(self.linear(x))


@dataclass
class Output(OrderedDict[str, Any]):
    """A dict whose items are its fields that are set, as in Hugging Face's ModelOutput."""

    loss: Tensor | None = None
    logits: Tensor | None = None
    hidden: tuple[Tensor, ...] | None = None

    def __post_init__(self) -> None:
        self.update({item.name: value for item in fields(self) if (value := getattr(self, item.name)) is not None})


class Pair(NamedTuple):
    left: Tensor
    right: Tensor


@dataclass(slots=True)
class Slots:
    value: Tensor
    later: Tensor = field(init=False)


Triple = namedtuple("Triple", "a b c")  # noqa: PYI024  users write them so


class Opaque:
    """No structure that anybody could know."""

    def __init__(self, value: Tensor) -> None:
        self.value = value

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"nobody may ask for {name}")

    def __iter__(self) -> Iterator[Tensor]:
        raise AssertionError("nobody may iterate")


STRUCTURES: dict[str, tuple[Callable[[Tensor], Any], Callable[[Any], Tensor], set[str]]] = {
    "dict": (lambda x: {"a": x, "b": {"c": x + 1}}, lambda o: o["b"]["c"], {"a", "b.c"}),
    "keys that are no strings": (lambda x: {0: x, (1, 2): x + 1}, lambda o: o[0], {"0", "(1, 2)"}),
    "named tuple": (lambda x: Pair(x, x + 1), lambda o: o.right, {"0", "1"}),
    "old named tuple": (lambda x: Triple(x, None, "text"), lambda o: o.a, {"0"}),
    "model output": (lambda x: Output(logits=x, hidden=(x,)), lambda o: o.logits, {"logits", "hidden.0"}),
    "slots": (Slots, lambda o: o.value, {"value"}),
    "none": (lambda x: (None, [x, None], {}), lambda o: o[1][0], {"1.0"}),
    "the same twice": (lambda x: (x, x), lambda o: o[0] + o[1], {"0", "1"}),
    "a generator": (lambda x: iter([x, x]), lambda o: torch.stack(list(o)), set()),
    "something else": (Opaque, lambda o: o.value, set()),
}


@pytest.mark.parametrize("name", STRUCTURES)
def test_structured_outputs(name: str) -> None:
    """A hook that knows only tensors and tuples sees nothing; one that asks too much breaks the user's object."""
    function, read, names = STRUCTURES[name]
    scope = untouched(
        lambda: Apply(function), lambda net: fit(net, lambda net: read(net(torch.randn(5, 6))).square().mean())
    )
    assert {site.name for site in scope.recording.sites_of(Kind.ACTIVATION) if site.module == ""} == names


def test_an_output_that_contains_itself() -> None:
    """Walking a structure that contains itself never ends."""

    def knot(x: Tensor) -> dict[str, Any]:
        output: dict[str, Any] = {"x": x}
        output["self"] = output
        return output

    scope = untouched(lambda: Apply(knot), lambda net: net(torch.randn(5, 6))["x"].mean().backward())
    assert counts(scope.recording, Kind.ACTIVATION)["x"] == 40


def test_a_module_called_twice_of_which_once_without_grad() -> None:
    """A target pass through the same weights would be added to the activations that the loss is made of."""

    def loss(net: nn.Module) -> Tensor:
        with torch.no_grad():
            goal = net(torch.randn(7, 6))
        output: Tensor = net(torch.randn(5, 6))
        value: Tensor = (output.mean(0) - goal.mean(0)).square().mean()
        return value

    assert counts(untouched(mlp, lambda net: fit(net, loss)).recording, Kind.ACTIVATION)["0"] == 40


def test_a_module_that_returns_its_input() -> None:
    """Its output is the tensor of the module before: marking or wrapping it would change that one's."""
    same: list[bool] = []

    def build() -> nn.Module:
        net = nn.Sequential(nn.Linear(6, 8), nn.Identity(), nn.Dropout(0.0), nn.Linear(8, 3))
        net[1].register_forward_hook(lambda _module, args, output: same.append(args[0] is output))
        return net

    recording = untouched(build, fit).recording
    assert all(same)
    assert counts(recording, Kind.ACTIVATION_GRADIENT)["1"] == 40


class Prompt(nn.Module):
    """Returns a parameter as it is."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Parameter(torch.randn(2, 6))

    def forward(self) -> Tensor:
        return self.tokens


class Prompted(nn.Module):
    def __init__(self, *, held: bool) -> None:
        super().__init__()
        self.prompt, self.head = Prompt(), nn.Linear(6, 3)
        self.held = torch.autograd.graph.get_gradient_edge(self.prompt.tokens) if held else None

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.head(torch.cat([self.prompt(), x]))
        return output


@pytest.mark.parametrize("held", [False, True], ids=["free", "held as by DDP"])
def test_a_module_that_returns_its_parameter(held: bool) -> None:
    """A leaf's node outlives the step when somebody holds it: one more hook each step, and each adds its gradient."""
    recording = untouched(lambda: Prompted(held=held), fit).recording
    assert [counts(recording, Kind.ACTIVATION_GRADIENT, row)["prompt"] for row in range(ROUNDS)] == [12] * ROUNDS


def test_a_module_that_returns_its_parameter_in_a_step_that_follows_a_skipped_one() -> None:
    """The skipped step is closed inside the next one's backward: letting go of leaves there loses their gradient."""

    def loop(net: nn.Module) -> None:
        optimizer, scaler = sgd(net), torch.amp.GradScaler("cpu", init_scale=8.0)
        for i in range(ROUNDS):
            loss = loss_of(net)
            optimizer.zero_grad()
            scaler.scale(loss * (float("inf") if i == 1 else 1.0)).backward()
            scaler.step(optimizer)
            scaler.update()

    recording = untouched(lambda: Prompted(held=False), loop).recording
    assert [counts(recording, Kind.ACTIVATION_GRADIENT, row)["prompt"] for row in range(ROUNDS)] == [12] * ROUNDS


def test_a_module_that_returns_its_parameter_in_each_of_several_batches() -> None:
    """Batches that accumulate share the leaf's node: the first one's hook would count the second gradient too."""

    def loop(net: nn.Module) -> None:
        optimizer = sgd(net)
        for _ in range(ROUNDS):
            optimizer.zero_grad()
            for _ in range(3):
                loss = loss_of(net) / 3
                loss.backward()
            optimizer.step()

    recording = untouched(lambda: Prompted(held=True), loop).recording
    assert [counts(recording, Kind.ACTIVATION_GRADIENT, row)["prompt"] for row in range(ROUNDS)] == [36] * ROUNDS


def test_an_input_that_requires_grad_and_comes_out_again() -> None:
    """The user's leaf lives through all steps: hooks on it pile up, or stay behind on the user's tensor."""

    def loop(net: nn.Module) -> tuple[object, object]:
        image, optimizer = torch.randn(5, 6, requires_grad=True), sgd(net)
        for _ in range(ROUNDS):
            optimizer.zero_grad()
            loss = net(image).square().mean()
            loss.backward()
            optimizer.step()
        return image, (image._backward_hooks, image.grad)

    recording = untouched(lambda: nn.Sequential(nn.Identity(), nn.Linear(6, 3)), loop).recording
    assert [counts(recording, Kind.ACTIVATION_GRADIENT, row)["0"] for row in range(ROUNDS)] == [30] * ROUNDS


def test_a_part_of_an_output_that_is_changed_in_place() -> None:
    """The view's node is replaced and its hook is lost: the base's gradient is of more elements than the view's."""

    def loss(net: nn.Module) -> Tensor:
        part = net(torch.randn(5, 6))
        part *= 2
        value: Tensor = part.square().mean()
        return value

    recording = untouched(lambda: Apply(lambda x: x[:, :4]), lambda net: fit(net, loss)).recording
    assert counts(recording, Kind.ACTIVATION_GRADIENT).get("(root)", 20) == 20
    assert counts(recording, Kind.ACTIVATION_GRADIENT)["linear"] == 40


def test_a_container_that_changes_its_childs_output_in_place() -> None:
    """It returns the very tensor that its child did, with other values: the child's measurement must not be reused."""
    recording = untouched(lambda: Apply(lambda x: x.mul_(0).add_(3)), fit).recording
    activations = rms(recording, Kind.ACTIVATION)
    assert activations["(root)"] == pytest.approx(3)
    assert activations["linear"] != pytest.approx(3)


def test_a_chunk_of_which_a_piece_is_not_used() -> None:
    """A node with several outputs gives None for those that the loss does not need: reading its norm raises."""
    recording = untouched(
        lambda: Apply(lambda x: x.chunk(4, dim=1)),
        lambda net: fit(net, lambda net: net(torch.randn(5, 6))[2].square().mean()),
    ).recording
    assert counts(recording, Kind.ACTIVATION).keys() == {"0", "1", "2", "3", "linear"}
    assert counts(recording, Kind.ACTIVATION_GRADIENT) == {"2": 10, "linear": 40}


def test_an_output_can_be_saved() -> None:
    """A hook on the tensor itself, rather than on its node, makes torch.save warn."""

    def loop(net: nn.Module) -> None:
        output = net(torch.randn(5, 6))
        torch.save(output, io.BytesIO())
        output.square().mean().backward()

    assert len(untouched(mlp, loop).recording.steps) == 1


def test_a_backward_after_the_context_has_ended() -> None:
    """Hooks on graphs that the user still holds fire when the scope is closed: they must not measure any more."""
    kept: list[Tensor] = []

    def loop(net: nn.Module) -> None:
        fit(net)
        kept.append(loss_of(net))

    scope = untouched(mlp, loop)
    rows, spent = len(scope.frame()), scope._recorder.spent
    entries = len(scope._recorder.log.entries)
    for loss in kept:
        loss.backward()
    assert (len(scope.frame()), len(scope._recorder.log.entries)) == (rows, entries)
    assert scope._recorder.spent == spent
