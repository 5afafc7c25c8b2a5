"""Gradients against finite differences: honest functions agree, each fault shows, what cannot be told is no fault."""

import random
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  as everybody calls it

from gradscope.derivatives import Outcome, compare
from gradscope.probes import TooSlow
from gradscope.traces import Derivative

Shape = tuple[int, ...]


def leaf(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()


def outcome(function: Callable[..., Tensor | tuple[Tensor, ...]], **leaves: Tensor) -> Outcome:
    def run() -> tuple[Tensor, ...]:
        made = function(*leaves.values())
        return made if isinstance(made, tuple) else (made,)

    return compare(run, leaves)


def derivative(function: Callable[..., Tensor | tuple[Tensor, ...]], **leaves: Tensor) -> Derivative:
    found = outcome(function, **leaves)
    assert not found.unsure
    return found.derivatives[0]


def replaced(value: Tensor, slope: Tensor) -> Tensor:
    """The value of one tensor with the gradient of another."""
    return value.detach() + (slope - slope.detach())


HONEST: dict[str, Callable[[Tensor], Tensor]] = {
    "smooth": lambda x: x.tanh() * x.exp(),
    "kinks": lambda x: F.relu(x) + x.abs(),
    "ties at zero": lambda x: F.relu(x * 0 + x - x.detach()),
    "pool of ties": lambda x: F.max_pool1d(F.relu(x)[None], 3)[0],
    "single precision": lambda x: x.float().sin().square(),
    "half precision": lambda x: x.half().sin(),
    "dropout": lambda x: F.dropout(x, 0.5),
    "constant": lambda x: (x * 0).sum() + 3,
    "no influence through a norm": lambda x: F.layer_norm(x.sum(1, keepdim=True) + torch.arange(6.0), (6,)),
    "complex": torch.fft.fft,
    "a pole near": lambda x: 1 / x,
    "a domain": lambda x: x.abs().log() + x.abs().sqrt(),
    "sorted": lambda x: x.sort(dim=1).values[:, 2:] + x.topk(4).values,
    "a jump": lambda x: F.threshold(x, 0.3, -5.0),
    "a large offset": lambda x: 1e6 + x,
}


@pytest.mark.parametrize("name", HONEST)
def test_honest_gradients_agree(name: str) -> None:
    found = outcome(HONEST[name], x=leaf(8, 6))
    assert not found.wrong
    assert not found.unsure


@pytest.mark.parametrize("value", [0.0, 1.0, -2.0])
@pytest.mark.parametrize("function", [F.relu, torch.abs, F.hardtanh, F.relu6, F.silu], ids=lambda f: f.__name__)
def test_inputs_on_a_kink_are_moved_off_it(function: Callable[[Tensor], Tensor], value: float) -> None:
    assert derivative(function, x=torch.full((4, 3), value, dtype=torch.float64).requires_grad_()).error < 1e-6


def test_exact_agreement_is_exact() -> None:
    assert derivative(lambda x, w: F.linear(x, w).tanh(), x=leaf(5, 3), w=leaf(4, 3)).error < 1e-8


@pytest.mark.parametrize("factor", [0.5, 2.0, -1.0, -3.0])
def test_a_factor_is_named(factor: float) -> None:
    found = derivative(lambda x: replaced(x.exp(), factor * x.exp()), x=leaf(4, 3))
    assert found.error > 0.3
    assert found.factor == pytest.approx(factor)
    assert not found.transposed


def test_a_transposed_gradient_is_named() -> None:
    def function(w: Tensor) -> Tensor:
        return replaced(torch.ones(2, 5, dtype=w.dtype) @ w.sin(), torch.ones(2, 5, dtype=w.dtype) @ w.T.sin())

    def other(w: Tensor) -> Tensor:
        x = torch.arange(10.0, dtype=w.dtype).view(2, 5)
        return replaced(x @ w, x @ w.T)

    assert derivative(other, w=leaf(5, 5)).transposed
    assert not derivative(function, w=leaf(5, 5)).transposed
    assert derivative(function, w=leaf(5, 5)).factor is None


def test_a_missing_gradient_is_named_and_wrong_only_where_it_matters() -> None:
    x, unused = leaf(3), leaf(3)
    found = outcome(lambda x, unused: x.detach() * 2 + unused * 0, x=x, unused=unused)
    assert [(each.missing, each.error) for each in found.derivatives] == [(True, 1.0), (False, 0.0)]


def test_a_gradient_that_disagrees_has_neither_factor_nor_transposition() -> None:
    found = derivative(lambda x: replaced(x**3, x**2), x=leaf(4, 4))
    assert found.error > 0.1
    assert (found.factor, found.transposed, found.missing) == (None, False, False)


def test_wrong_gradients_in_single_precision_are_found() -> None:
    assert derivative(lambda x: replaced(x.float().exp(), 0.5 * x.float().exp()), x=leaf(6)).factor == pytest.approx(
        0.5, abs=1e-3
    )
    single = leaf(6, dtype=torch.float32)
    assert derivative(lambda x: replaced(x.exp(), 0.5 * x.exp()), x=single).factor == pytest.approx(0.5, abs=1e-2)


def test_honest_gradients_in_single_precision_agree() -> None:
    linear = nn.Linear(6, 6)
    assert derivative(lambda x: linear(x).tanh().square(), x=leaf(50, 6, dtype=torch.float32)).error < 1e-2


ROUNDERS: dict[str, Callable[[Tensor], Tensor]] = {
    "round": lambda x: replaced(x.round(), x),
    "sign": lambda x: replaced(x.sign(), F.hardtanh(x)),
    "eight bits": lambda x: replaced((x / 0.02).round() * 0.02, x),
    "spike": lambda x: replaced((x > 1).to(x), torch.sigmoid(4 * (x - 1))),
    "spike and reset": lambda x: replaced(x - (x > 0.5).to(x), x - torch.sigmoid(4 * (x - 0.5))),
    "one-hot argmax": lambda x: replaced(F.one_hot(x.argmax(1), 6).to(x), x.softmax(1)),
    "scaled sign without its name": lambda x: replaced(torch.where(x > 0, x.abs().mean(), -x.abs().mean()), x),
    "sampled": lambda x: replaced(torch.bernoulli(x.sigmoid()), x.sigmoid()),
    "learned step size": lambda x: replaced((x / x.std()).round() * x.std(), x),
    "nearest code": lambda x: replaced(torch.where(x > 0.2, 1.0, -0.7).to(x), x),
}


@pytest.mark.parametrize("name", ROUNDERS)
def test_what_rounds_or_jumps_is_seen_to(name: str) -> None:
    found = outcome(ROUNDERS[name], x=leaf(8, 6))
    assert found.wrong
    assert found.rounds
    assert not found.identity


SMOOTH: dict[str, Callable[[Tensor], Tensor]] = {
    "smooth": lambda x: replaced(x.exp(), x),
    "a kink": lambda x: replaced(F.relu(x), x),
    "a pole": lambda x: replaced(1 / x, -1 / x),
    "a root": lambda x: replaced(x.abs().sqrt(), x),
    "a logarithm": lambda x: replaced(x.abs().log(), x),
    "floor that leaves no jump": lambda x: replaced((x.floor() + (x - x.floor())).sin(), 2 * x),
    "a mask that does not depend on it": lambda x: replaced(F.dropout(x), x),
    "matrix inverse": lambda x: replaced(torch.linalg.inv(x[:6]), x[:6]),
}


@pytest.mark.parametrize("name", SMOOTH)
def test_a_wrong_gradient_of_a_function_without_jumps_is_no_rounding(name: str) -> None:
    found = outcome(SMOOTH[name], x=leaf(8, 6))
    assert found.wrong
    assert not found.rounds
    assert not found.identity


IDENTITIES: dict[str, Callable[[Tensor], Tensor]] = {
    "reversed": lambda x: replaced(x, -x),
    "scaled": lambda x: replaced(x, 0.1 * x),
    "clipped": lambda x: replaced(x.clamp(-0.5, 0.5), x),
    "bounded from below": lambda x: replaced(x.clamp(min=0.1), x),
}


@pytest.mark.parametrize("name", IDENTITIES)
def test_inputs_that_come_back_unchanged_or_clipped_are_seen_to(name: str) -> None:
    found = outcome(IDENTITIES[name], x=leaf(8, 6))
    assert found.wrong
    assert found.identity


def test_contradicting_differences_are_no_fault() -> None:
    drawn = np.random.default_rng(0)
    found = outcome(lambda x: x * drawn.normal(), x=leaf(4))
    assert found.unsure == ("x",)
    assert not found.wrong


def test_a_single_number_is_differentiated_as_a_loss() -> None:
    class Constant(torch.autograd.Function):
        @staticmethod
        def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor) -> Tensor:
            ctx.save_for_backward(x)
            return x.square().sum()

        @staticmethod
        def backward(ctx: torch.autograd.function.FunctionCtx, _: Tensor) -> Tensor:
            (x,) = ctx.saved_tensors  # type: ignore[attr-defined]
            return 2 * x  # type: ignore[no-any-return]

    found = outcome(Constant.apply, x=leaf(3))
    assert not found.wrong
    assert not found.linear
    several = outcome(lambda x: (Constant.apply(x), x.sum()), x=leaf(1))
    assert several.wrong
    assert several.derivatives[0].factor is None


def test_masks_with_infinite_elements_stay() -> None:
    mask = torch.zeros(4, 4, dtype=torch.float64).masked_fill_(torch.ones(4, 4).triu(1).bool(), float("-inf"))
    found = outcome(lambda x, mask: (x + mask).softmax(1), x=leaf(4, 4), mask=mask.requires_grad_())
    assert not found.wrong
    assert not found.unsure


def test_an_input_at_the_edge_of_the_domain_stays_there() -> None:
    x = torch.zeros(4, dtype=torch.float64).requires_grad_()
    found = outcome(lambda x: (F.threshold(x, -1e-12, float("nan")) + 1) * (x == x.detach()), x=x)
    assert not found.wrong


def test_leaves_and_random_numbers_are_as_before() -> None:
    x = leaf(4)
    values, python, array, own = x.detach().clone(), random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    outcome(lambda x: F.dropout(x) * random.random() * np.random.rand(), x=x)  # noqa: NPY002, S311
    assert torch.equal(x, values)
    assert x.grad is None
    assert random.getstate() == python
    assert repr(np.random.get_state()) == repr(array)  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), own)


def test_no_grad_inference_mode_and_autocast_do_not_matter() -> None:
    x = leaf(4, 4)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert derivative(lambda x: x @ x, x=x).error < 1e-8
        single = outcome(lambda x: x @ x, x=leaf(4, 4, dtype=torch.float32))
        assert single.derivatives[0].error < 1e-3
    with torch.inference_mode():
        assert derivative(lambda x: x @ x, x=x).error < 1e-8


def test_the_time_is_limited() -> None:
    with pytest.raises(TooSlow):
        compare(lambda: (torch.ones(1),), {"x": leaf(1)}, seconds=-1)


def test_an_exception_passes() -> None:
    def broken(x: Tensor) -> Tensor:
        raise KeyError(x.shape)

    with pytest.raises(KeyError):
        outcome(broken, x=leaf(1))


@pytest.mark.parametrize("shape", [(), (1,), (2, 0), (3, 1, 4)])
def test_every_shape_goes(shape: Shape) -> None:
    assert derivative(lambda x: x * 3, x=leaf(*shape)).error < 1e-8
