"""Traps in tensors: dtypes, layouts and flags that plain reductions refuse or read wrongly."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from traps import ROUNDS, counts, fit, loss_of, mlp, rms, sgd, untouched

from gradscope.records import Kind, Statistic


class Apply(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *args: Any) -> Any:
        return self.function(*args)


def between(function: Callable[[Tensor], Any], width: int = 8) -> nn.Module:
    """A model whose module "1" applies a function."""
    return nn.Sequential(nn.Linear(6, 8), Apply(function), nn.Linear(width, 3))


class Complex(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 8, dtype=torch.complex64), nn.Linear(8, 3, dtype=torch.complex64)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.last(self.first(x.to(torch.complex64)))
        return output


def test_complex_parameters_and_outputs() -> None:
    """Min and max are not defined for complex numbers: aminmax raises."""
    recording = untouched(Complex, lambda net: fit(net, lambda net: net(torch.randn(5, 6)).abs().square().mean()))
    assert counts(recording.recording, Kind.ACTIVATION)["first"] == 2 * 40
    assert counts(recording.recording, Kind.UPDATE)["last.weight"] == 2 * 24


def test_a_complex_output_that_is_conjugated_lazily() -> None:
    """view_as_real refuses a tensor with the conjugate bit; resolving it in place would change the user's."""
    outputs: list[Tensor] = []

    def loop(net: nn.Module) -> None:
        output = net(torch.randn(5, 6))
        outputs.append(output.detach())
        output.abs().square().mean().backward()

    scope = untouched(lambda: nn.Sequential(Complex(), Apply(lambda x: x.conj())), loop)
    assert outputs[-1].is_conj()
    assert rms(scope.recording, Kind.ACTIVATION)["1"] == pytest.approx(
        float(torch.view_as_real(outputs[-1].resolve_conj()).square().mean().sqrt())
    )


def test_an_output_with_the_negative_bit() -> None:
    """The imaginary part of a conjugate is negated lazily: read through raw memory, all signs are wrong."""
    outputs: list[Tensor] = []

    def loop(net: nn.Module) -> None:
        output = net(torch.randn(5, 6))
        outputs.append(output.detach())
        output.square().mean().backward()

    scope = untouched(lambda: nn.Sequential(Complex(), Apply(lambda x: x.conj().imag)), loop)
    assert outputs[-1].is_neg()
    sums = dict(zip(*_column(scope.recording, Kind.ACTIVATION, Statistic.SUM), strict=True))
    assert sums["1"] == pytest.approx(float(outputs[-1].sum()), rel=1e-4)


def _column(recording: Any, kind: Kind, statistic: Statistic) -> tuple[list[str], list[float]]:
    return [site.path for site in recording.sites_of(kind)], recording.values(kind, statistic)[-1].tolist()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_modules(dtype: torch.dtype) -> None:
    """Sums in half precision overflow at 65504 or stop growing at 256: means and alarms would be wrong."""

    def loop(net: nn.Module) -> list[Tensor]:
        return fit(net, lambda net: net(torch.full((900, 6), 100.0, dtype=dtype)).float().square().mean() * 1e-6)

    scope = untouched(lambda: nn.Sequential(Apply(torch.ones_like), nn.Linear(6, 3)).to(dtype), loop)
    sums = dict(zip(*_column(scope.recording, Kind.ACTIVATION, Statistic.SUM), strict=True))
    assert sums["0"] == 5400


def test_outputs_in_eight_bit_floats() -> None:
    """Nearly no operation knows float8: reductions raise."""
    scope = untouched(
        lambda: between(lambda x: x.to(torch.float8_e4m3fn).to(torch.float32)),
        lambda net: (net(torch.randn(5, 6)).mean() + net[0](torch.randn(5, 6)).mean()).backward(),
    )
    assert "1" in counts(scope.recording, Kind.ACTIVATION)

    class Stored(nn.Linear):
        def forward(self, x: Tensor) -> Any:
            output = super().forward(x)
            return output, output.to(torch.float8_e5m2)

    untouched(
        lambda: Stored(6, 3),
        lambda net: net(torch.randn(5, 6))[0].mean().backward(),
        lost=["activation of (root).1: a tensor of dtype float8_e5m2"],
    )


def test_channels_last() -> None:
    """A flat view of another memory format fails, and a contiguous copy costs ten times the reduction."""
    seen: list[bool] = []

    def build() -> nn.Module:
        net: Any = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3))
        net.to(memory_format=torch.channels_last)
        return nn.Sequential(*net)

    def loss(net: nn.Module) -> Tensor:
        output: Tensor = net(torch.randn(2, 3, 8, 8).to(memory_format=torch.channels_last))
        seen.append(output.is_contiguous(memory_format=torch.channels_last))
        return output.square().mean()

    scope = untouched(build, lambda net: fit(net, loss), keep="*")
    assert all(seen)
    assert scope.tensor("0", "activation").stride() == (288, 1, 48, 8)
    assert counts(scope.recording, Kind.ACTIVATION_GRADIENT)["0"] == 2 * 8 * 36


def test_the_gradient_of_a_sum_is_expanded() -> None:
    """The gradient of sum() is one number with stride 0: a flat view of its memory runs beyond the end."""
    scope = untouched(mlp, lambda net: fit(net, lambda net: net(torch.randn(5, 6)).sum() * 0.25))
    assert rms(scope.recording, Kind.ACTIVATION_GRADIENT)["2"] == pytest.approx(0.25)
    assert counts(scope.recording, Kind.ACTIVATION_GRADIENT)["2"] == 15


def test_outputs_that_overlap_in_memory() -> None:
    """Windows of an unfold share their elements: a flat view of the memory counts too few, or beyond its end."""
    scope = untouched(lambda: nn.Sequential(nn.Linear(6, 8), Apply(lambda x: x.unfold(1, 4, 1)), nn.Linear(4, 3)), fit)
    assert counts(scope.recording, Kind.ACTIVATION)["1"] == 5 * 5 * 4


def test_outputs_with_gaps_in_memory() -> None:
    """Every other column of a matrix: a flat view of the memory would measure the columns that are not there."""
    outputs: list[Tensor] = []

    def skip(x: Tensor) -> Tensor:
        outputs.append(x[:, ::2].detach().clone())
        return x[:, ::2]

    scope = untouched(lambda: between(skip, 4), fit)
    assert rms(scope.recording, Kind.ACTIVATION)["1"] == pytest.approx(float(outputs[-1].square().mean().sqrt()))


def test_an_empty_batch() -> None:
    """The smallest of no elements does not exist: aminmax raises, and a mean of them is NaN."""

    def loop(net: nn.Module) -> None:
        optimizer = sgd(net)
        for i in range(ROUNDS):
            optimizer.zero_grad()
            net(torch.randn(0 if i == 1 else 5, 6)).square().sum().backward()
            optimizer.step()

    scope = untouched(mlp, loop)
    assert counts(scope.recording, Kind.ACTIVATION, 1) == {}
    assert len(counts(scope.recording, Kind.PARAMETER_GRADIENT, 1)) == 4


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("layout", [torch.strided, torch.jagged], ids=str)
def test_nested_tensors(layout: torch.layout) -> None:
    """A nested tensor looks like a plain one, and asking for its shape raises."""

    def loop(net: nn.Module) -> None:
        rows = [torch.randn(2, 6), torch.randn(4, 6)]
        output = net(torch.nested.nested_tensor(rows, layout=layout))
        torch.stack([part.square().mean() for part in output.unbind()]).sum().backward()

    reason = "a tensor subclass (NestedTensor)" if layout is torch.jagged else "a nested tensor"
    untouched(
        lambda: nn.Sequential(nn.Linear(6, 3)), loop, lost=[f"activation of {m}: {reason}" for m in ("0", "(root)")]
    )


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_quantized_part_in_front_of_a_trained_head() -> None:
    """Quantized modules keep packed weights that are no parameters, and give outputs that no reduction takes."""

    def build() -> nn.Module:
        body = torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(6, 8), nn.ReLU()).eval(), {nn.Linear})
        stub = Apply(lambda x: torch.quantize_per_tensor(x, 0.1, 0, torch.quint8))
        return nn.Sequential(body, stub, Apply(lambda x: x.dequantize()), nn.Linear(8, 3))

    scope = untouched(build, fit)
    assert counts(scope.recording, Kind.ACTIVATION).keys() >= {"0.0", "0.1", "2", "3"}


class Tagged(Tensor):
    """A subclass that notes which functions it was given to."""

    calls: list[str] = []  # noqa: RUF012  a list for all instances is what counts them

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        Tagged.calls.append(getattr(func, "__name__", str(func)))
        return super().__torch_function__(func, types, args, kwargs or {})


@pytest.mark.parametrize("traced", [False, True], ids=["measured", "traced"])
def test_outputs_of_a_tensor_subclass(traced: bool) -> None:
    """What a subclass computes is its own business: reducing it may raise, or run code of the user's."""

    def loop(net: nn.Module) -> list[str]:
        Tagged.calls.clear()
        output = net(torch.randn(5, 6).as_subclass(Tagged))
        output.square().mean().backward()
        return list(Tagged.calls)

    untouched(
        lambda: nn.Sequential(nn.Linear(6, 3)),
        loop,
        lost=[
            "activation of 0: a tensor subclass (Tagged)",
            "activation of (root): a tensor subclass (Tagged)",
        ],
        traced=traced,
    )


@pytest.mark.parametrize("traced", [False, True], ids=["measured", "traced"])
def test_parameters_of_a_tensor_subclass(traced: bool) -> None:
    """A parameter that is a subclass (DTensor, quantized weights) may be a wrapper without memory of its own."""

    class Net(nn.Linear):
        def __init__(self) -> None:
            super().__init__(6, 3)
            self.weight = nn.Parameter(self.weight.detach().as_subclass(Tagged))

        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).as_subclass(Tensor)

    def loop(net: nn.Module) -> list[str]:
        Tagged.calls.clear()
        fit(net)
        return list(Tagged.calls)

    kinds = ("parameter", "parameter_gradient", "update")
    reasons = [f"{kind} of (root).weight: a tensor subclass (Tagged)" for kind in kinds]
    scope = untouched(Net, loop, lost=reasons, traced=traced)
    assert counts(scope.recording, Kind.UPDATE) == {"bias": 3}


def test_outputs_of_integers_and_booleans() -> None:
    """Labels and masks have no gradient and no norm: they are neither measured nor complained about."""
    scope = untouched(
        lambda: nn.Sequential(nn.Linear(6, 3), Apply(lambda x: (x, x.argmax(1), x > 0, 1, "a"))),
        lambda net: fit(net, lambda net: net(torch.randn(5, 6))[0].square().mean()),
    )
    sites = scope.recording.sites_of(Kind.ACTIVATION)
    assert {(site.module, site.name) for site in sites} == {("0", ""), ("1", "0"), ("", "0")}


def test_a_loss_inside_the_model() -> None:
    """A tensor without dimensions cannot be viewed byte-wise, sliced, or reduced along one."""
    scope = untouched(
        lambda: nn.Sequential(nn.Linear(6, 3), Apply(lambda x: x.square().mean())),
        lambda net: fit(net, lambda net: net(torch.randn(5, 6))),
    )
    assert counts(scope.recording, Kind.ACTIVATION_GRADIENT)["1"] == 1
    assert rms(scope.recording, Kind.ACTIVATION_GRADIENT)["1"] == 1.0


def test_a_gradient_that_is_zero_without_memory() -> None:
    """sgn() gives a ZeroTensor back: it has no memory to read, but "all zero" is what must be recorded."""
    flat = "non-differentiable-op"  # which it is
    scope = untouched(
        lambda: between(torch.sgn), lambda net: (net(torch.randn(5, 6)).sum() + 0).backward(), ignore=flat
    )
    gradients = rms(scope.recording, Kind.ACTIVATION_GRADIENT)
    assert (gradients["0"], gradients["1"] > 0) == (0.0, True)
    direct = untouched(lambda: nn.ParameterList([torch.randn(3)]), lambda net: torch.sgn(net[0]).sum().backward())
    assert direct.recording.parameters


class Words(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(10, 4, sparse=True), nn.Linear(4, 1)

    def forward(self, tokens: Tensor) -> Tensor:
        output: Tensor = self.head(self.embed(tokens))
        return output


def test_sparse_gradients_stay_uncoalesced() -> None:
    """Reading a norm off a sparse gradient coalesces it, which reorders the user's sums."""

    def loop(net: Any) -> list[bool]:
        optimizer, coalesced = sgd(net), []
        for _ in range(ROUNDS):
            optimizer.zero_grad()
            for _ in range(2):
                net(torch.tensor([1, 1, 2, 7, 1])).square().mean().backward()
            coalesced.append(net.embed.weight.grad.is_coalesced())
            optimizer.step()
        return coalesced

    untouched(Words, loop, lost=["parameter_gradient of embed.weight: a tensor of layout sparse_coo"])


def test_outputs_that_are_sparse() -> None:
    """A sparse adjacency that a graph layer hands on has no strides: flattening it raises."""

    def build() -> nn.Module:
        return nn.Sequential(nn.Linear(6, 6), Apply(lambda x: (x, x.detach().relu().to_sparse())))

    def loop(net: nn.Module) -> None:
        dense, sparse = net(torch.randn(5, 6))
        (dense.square().mean() + torch.sparse.sum(sparse)).backward()

    reason = "a tensor of layout sparse_coo"
    untouched(build, loop, lost=[f"activation of 1.1: {reason}", f"activation of (root).1: {reason}"])


@pytest.mark.parametrize("scale", [1e-25, 1e25], ids=["tiny", "huge"])
def test_magnitudes_whose_squares_leave_single_precision(scale: float) -> None:
    """The squares of 1e-25 are zero in float32: a vanishing gradient would look like an exact zero."""
    scope = untouched(lambda: nn.Linear(6, 3), lambda net: (net(torch.randn(500, 6)).sum() * scale).backward())
    assert rms(scope.recording, Kind.ACTIVATION_GRADIENT)["(root)"] == pytest.approx(scale, rel=0.01, abs=0)


def test_a_model_of_two_precisions() -> None:
    """Cells of one dtype for all would round the doubles or refuse them."""

    def build() -> nn.Module:
        return nn.Sequential(nn.Linear(6, 8), Apply(Tensor.double), nn.Linear(8, 3, dtype=torch.float64))

    scope = untouched(build, lambda net: fit(net, lambda net: (net(torch.randn(5, 6)) + 1e-9).square().mean()))
    dtypes = {site.path: site.dtype for site in scope.recording.sites_of(Kind.ACTIVATION)}
    assert dtypes == {"0": "float32", "1": "float64", "2": "float64", "(root)": "float64"}


def test_parameters_that_are_integers() -> None:
    """An integer among the parameters (a frozen codebook index) has no norm and no update."""

    class Net(nn.Linear):
        def __init__(self) -> None:
            super().__init__(6, 3)
            self.index = nn.Parameter(torch.arange(3), requires_grad=False)

        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x)[:, self.index]

    scope = untouched(Net, fit)
    assert set(counts(scope.recording, Kind.PARAMETER)) == {"weight", "bias"}


def test_kept_tensors_of_unusual_kinds() -> None:
    """A kept tensor that shares memory with the user's changes later; one that cannot be copied raises."""

    def build() -> nn.Module:
        tail = (Apply(lambda x: x.conj()), Apply(lambda x: x.real[:, ::2]), Apply(Tensor.bfloat16))
        return nn.Sequential(Complex(), *tail)

    scope = untouched(build, lambda net: fit(net, lambda net: loss_of(net).float()), keep="*")
    assert scope.tensor("1", "activation").dtype == torch.complex64
    assert scope.tensor("2", "activation").shape == (5, 2)
    assert scope.tensor("3", "activation_gradient").dtype == torch.bfloat16
    assert np.isfinite(scope.tensor("0.first.weight", "update").abs().numpy()).all()
