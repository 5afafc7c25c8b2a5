"""Traps in what torch lets run around a model: transforms, tracers, exporters, modes and global settings."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call
from torch.fx.experimental.proxy_tensor import make_fx
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode
from traps import ROUNDS, counts, fit, loss_of, mlp, sgd, untouched

from gradscope.records import Kind

Aside = Callable[[Any], object]


def between_steps(aside: Aside) -> Callable[[nn.Module], object]:
    """A loop that does something else with the model in the middle of each step."""

    def loop(net: nn.Module) -> object:
        optimizer, results = sgd(net), []
        for _ in range(ROUNDS):
            optimizer.zero_grad()
            loss = loss_of(net)
            results.append(aside(net))
            loss.backward()
            results.append(aside(net))
            optimizer.step()
        return results

    return loop


def parameters_of(net: nn.Module) -> dict[str, Tensor]:
    return {name: parameter.detach() for name, parameter in net.named_parameters()}


def one(net: nn.Module, values: dict[str, Tensor], x: Tensor) -> Tensor:
    output: Tensor = functional_call(net, values, (x,))
    return output.square().sum()


def gradients_per_sample(net: nn.Module) -> object:
    slopes = torch.func.vmap(torch.func.grad(lambda values, x: one(net, values, x)), in_dims=(None, 0))
    return slopes(parameters_of(net), torch.ones(3, 6))


def forward_mode(net: nn.Module) -> object:
    return torch.func.jvp(net, (torch.ones(2, 6),), (torch.ones(2, 6),))


def dual_numbers(net: nn.Module) -> object:
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(torch.ones(2, 6), torch.ones(2, 6))
        return tuple(torch.autograd.forward_ad.unpack_dual(net(dual)))


def exported(net: nn.Module) -> object:
    return [node.name for node in torch.export.export(net, (torch.ones(2, 6),)).graph.nodes]


def made_fx(net: nn.Module) -> object:
    return [node.name for node in make_fx(net)(torch.ones(2, 6)).graph.nodes]


def made_fx_of_fakes(net: nn.Module) -> object:
    return [
        node.name
        for node in make_fx(net, tracing_mode="symbolic", _allow_non_fake_inputs=True)(torch.ones(2, 6)).graph.nodes
    ]


def counted_flops(net: nn.Module) -> object:
    with FlopCounterMode(display=False) as flops:
        net(torch.ones(2, 6)).sum()
    return flops.get_total_flops()


ASIDES: dict[str, Aside] = {
    "vmap of grad": gradients_per_sample,
    "vmap": lambda net: torch.func.vmap(net)(torch.ones(2, 3, 6)),
    "jvp": forward_mode,
    "vjp": lambda net: torch.func.vjp(net, torch.ones(2, 6))[1](torch.ones(2, 3)),
    "jacrev": lambda net: torch.func.jacrev(net)(torch.ones(6)),
    "jacfwd": lambda net: torch.func.jacfwd(net)(torch.ones(6)),
    "hessian": lambda net: torch.func.hessian(lambda x: net(x).square().sum())(torch.ones(6)),
    "functionalize": lambda net: torch.func.functionalize(net)(torch.ones(2, 6)),
    "dual numbers": dual_numbers,
    "export": exported,
    "make_fx": made_fx,
    "symbolic_trace": lambda net: [node.name for node in torch.fx.symbolic_trace(net).graph.nodes],
    "jit.trace": lambda net: [node.kind() for node in torch.jit.trace(net, torch.ones(2, 6)).inlined_graph.nodes()],
    "jit.script": lambda net: torch.jit.script(net)(torch.ones(2, 6)).detach(),
    "flop counter": counted_flops,
    "gradcheck": lambda net: torch.autograd.gradcheck(
        lambda x: net(x.float()).double(), torch.ones(1, 6, dtype=torch.float64, requires_grad=True), eps=1e-2, atol=0.1
    ),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("aside", ASIDES.values(), ids=ASIDES)
@pytest.mark.parametrize("traced", [False, True], ids=["measured", "traced"])
def test_the_model_is_transformed_or_exported_while_it_trains(aside: Aside, traced: bool) -> None:
    """Measured in a transform, outputs are wrappers that raise, and our operations end up in the user's graph."""
    recording = untouched(mlp, between_steps(aside), traced=traced).recording
    assert len(recording.steps) == ROUNDS
    assert {info.contributions for info in recording.parameters} == {ROUNDS}


def fakes(net: nn.Module) -> object:
    with FakeTensorMode(allow_non_fake_inputs=True):
        return tuple(net(torch.ones(2, 6)).shape)


@pytest.mark.parametrize("aside", [fakes, made_fx_of_fakes])
def test_a_forward_with_fake_tensors(aside: Aside) -> None:
    """A fake tensor has no data, and refuses to be mixed with real cells: such a forward is none of the training."""
    recording = untouched(mlp, between_steps(aside)).recording
    assert counts(recording, Kind.ACTIVATION) == {"0": 40, "1": 40, "2": 15, "(root)": 15}


def test_a_model_without_data() -> None:
    """On the meta device nothing can be measured or read back: copying to the host raises."""

    def build() -> nn.Module:
        return mlp().to("meta")

    def loop(net: nn.Module) -> object:
        with torch.device("meta"):
            fit(net)
        net.to_empty(device="cpu")
        for parameter in net.parameters():
            nn.init.constant_(parameter, 0.1)
        return fit(net)

    recording = untouched_meta(build, loop)
    assert len(recording.steps) == 2 * ROUNDS
    assert len(counts(recording, Kind.UPDATE)) == 4


def untouched_meta(build: Callable[[], nn.Module], loop: Callable[[Any], object]) -> Any:
    kinds = ("parameter", "parameter_gradient", "update")
    names = [f"{kind} of {i}.{name}" for kind in kinds for i in (0, 2) for name in ("weight", "bias")]
    names += [f"activation of {path}" for path in ("0", "1", "2", "(root)")]
    return untouched(build, loop, lost=[f"{name}: a tensor without data (meta)" for name in names]).recording


class Functions(TorchFunctionMode):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen.append(getattr(func, "__name__", str(func)))
        return func(*args, **(kwargs or {}))


class Dispatches(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen.append(str(func))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("mode", [Functions, Dispatches])
@pytest.mark.parametrize("outside", [False, True], ids=["around a forward", "around the loop"])
@pytest.mark.parametrize("traced", [False, True], ids=["measured", "traced"])
def test_a_mode_of_the_users_sees_only_the_users_calls(mode: Any, outside: bool, traced: bool) -> None:
    """Our reductions and attribute reads would show up in a profiler, a counter or a recorder of the user's."""

    def loop(net: nn.Module) -> list[str]:
        made = mode()
        if outside:
            with made:
                fit(net)
        else:
            optimizer = sgd(net)
            for _ in range(ROUNDS):
                optimizer.zero_grad()
                with made:
                    loss = loss_of(net)
                    loss.backward()
                optimizer.step()
        return list(made.seen)

    untouched(mlp, loop, traced=traced)


@contextmanager
def default_dtype() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextmanager
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


SETTINGS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "device context": lambda: torch.device("cpu"),
    "default dtype": default_dtype,
    "deterministic algorithms": deterministic,
    "anomaly detection": torch.autograd.detect_anomaly,
    "saved tensors on the host": torch.autograd.graph.save_on_cpu,
    "multithreading disabled": lambda: torch.autograd.set_multithreading_enabled(False),
    "saved tensors may change": torch.autograd.graph.allow_mutation_on_saved_tensors,
}


@pytest.mark.filterwarnings("ignore:Anomaly Detection has been enabled")
@pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("traced", [False, True], ids=["measured", "traced"])
def test_a_global_setting_around_the_loop(setting: Callable[[], AbstractContextManager[Any]], traced: bool) -> None:
    """Cells made under a device or dtype of the user's choice are of the wrong kind; a trace may be left on a stack."""

    def loop(net: nn.Module) -> list[Tensor]:
        with setting():
            return fit(net, lambda net: net(torch.randn(5, 6, dtype=torch.float32)).square().mean())

    assert len(counts(untouched(mlp, loop, traced=traced).recording, Kind.UPDATE)) == 4


def test_cells_are_made_on_the_tensors_device() -> None:
    """torch.device is a function mode: a buffer made inside `with torch.device("meta")` has no memory."""

    def loop(net: nn.Module) -> list[Tensor]:
        inputs = torch.randn(5, 6)
        with torch.device("meta"):
            return fit(net, lambda net: net(inputs).square().mean())

    assert len(counts(untouched(mlp, loop).recording, Kind.ACTIVATION_GRADIENT)) == 4


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    "script", [torch.jit.script, lambda m: torch.jit.trace(m, torch.ones(2, 8))], ids=["script", "trace"]
)
def test_a_scripted_part(script: Callable[[nn.Module], nn.Module]) -> None:
    """A ScriptModule refuses hooks, and its table of parameters is no dict."""

    def build() -> nn.Module:
        return nn.Sequential(nn.Linear(6, 8), script(nn.Sequential(nn.Linear(8, 8), nn.Tanh())), nn.Linear(8, 3))

    recording = untouched(build, fit).recording
    assert counts(recording, Kind.UPDATE).keys() >= {"1.0.weight", "1.0.bias"}
    assert counts(recording, Kind.ACTIVATION_GRADIENT)["1"] == 40


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_model_that_is_scripted_as_a_whole() -> None:
    """Only the outermost call comes through Python: its output and all parameters are measured."""
    recording = untouched(lambda: torch.jit.script(mlp()), fit).recording
    assert counts(recording, Kind.ACTIVATION)["(root)"] == 15
    assert len(counts(recording, Kind.UPDATE)) == 4
