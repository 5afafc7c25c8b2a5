"""The user's autograd Functions, checked by themselves: what is wrong, what is meant, what must not be called again."""
# mypy: disable-error-code="attr-defined, no-any-return"

import builtins
import math
import random
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F  # noqa: N812  as everybody calls it

import gradscope
from gradscope.findings import Finding
from gradscope.hooks.functions import FunctionCalls
from gradscope.hooks.purity import impurity
from gradscope.hooks.replay import fits
from gradscope.traces import Location, Verification

Grads = Any


def leaf(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).requires_grad_()


def checked(function: type[Function], *arguments: Any) -> tuple[list[Verification], list[str]]:
    calls = FunctionCalls()
    calls.seen(function, arguments, "block.0", Location("train.py", 7), 0)
    return calls.verify()


def verified(function: type[Function], *arguments: Any) -> Verification:
    (found,), notes = checked(function, *arguments)
    assert notes == []
    return found


def wrong(found: Verification) -> dict[str, float]:
    return {each.name: each.error for each in found.derivatives if each.error > 1e-2}


def made(forward: Callable[..., Any], backward: Callable[..., Any]) -> type[Function]:
    return type("Made", (Function,), {"forward": staticmethod(forward), "backward": staticmethod(backward)})


# Honest ones.


class Exp(Function):
    """Saves its result."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        result = x.exp()
        ctx.save_for_backward(result)
        return result

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (result,) = ctx.saved_tensors
        return grad * result


class MaskedReLU(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.mask = x > 0
        return x * ctx.mask

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        grad = grad.clone()
        grad[~ctx.mask] = 0
        return grad


class Clamp(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, low: float, high: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.bounds = low, high
        return x.clamp(low, high)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Grads:
        (x,) = ctx.saved_tensors
        low, high = ctx.bounds
        return grad * ((x > low) & (x < high)), None, None


class Dirty(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.mark_dirty(x)
        return x.mul_(3)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad * 3


class Once(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.sin()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad * ctx.saved_tensors[0].cos()


class SeveralOutputs(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Grads:
        ctx.save_for_backward(x)
        return x.sin(), x.square().sum()

    @staticmethod
    def backward(ctx: Any, first: Tensor, second: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return first * x.cos() + 2 * second * x


class Sorted(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Grads:
        values, indices = x.sort()
        ctx.mark_non_differentiable(indices)
        ctx.save_for_backward(indices)
        return values, indices

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> Tensor:
        (indices,) = ctx.saved_tensors
        return torch.zeros_like(grad).scatter(-1, indices, grad)


class MaskOut(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Grads:
        mask = (x > 0).to(x)
        ctx.mark_non_differentiable(mask)
        ctx.save_for_backward(mask)
        return x * mask, mask

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> Tensor:
        return grad * ctx.saved_tensors[0]


class Linear(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        ctx.save_for_backward(x, weight, bias)
        result = x @ weight.t()
        return result if bias is None else result + bias

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Grads:
        x, weight, bias = ctx.saved_tensors
        of_x = grad @ weight if ctx.needs_input_grad[0] else None
        of_weight = grad.t() @ x if ctx.needs_input_grad[1] else None
        return of_x, of_weight, grad if bias is not None else None  # autograd sums the last one over the batch


class NewStyle(Function):
    @staticmethod
    def forward(x: Tensor, power: int = 3) -> Tensor:
        return x**power

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(inputs[0])
        ctx.power = inputs[1]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Grads:
        return grad * ctx.power * ctx.saved_tensors[0] ** (ctx.power - 1), None


class LayerNorm(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        mean, var = x.mean(-1, keepdim=True), x.var(-1, unbiased=False, keepdim=True)
        normal = (x - mean) / (var + eps).sqrt()
        ctx.save_for_backward(normal, var, weight)
        ctx.eps = eps
        return normal * weight + bias

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Grads:
        normal, var, weight = ctx.saved_tensors
        inner = grad * weight
        spread = inner - inner.mean(-1, keepdim=True) - normal * (inner * normal).mean(-1, keepdim=True)
        return spread / (var + ctx.eps).sqrt(), (grad * normal).sum(0), grad.sum(0), None


class Softmax(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, dim: int) -> Tensor:
        result = x.softmax(dim)
        ctx.save_for_backward(result)
        ctx.dim = dim
        return result

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Grads:
        (result,) = ctx.saved_tensors
        return result * (grad - (grad * result).sum(ctx.dim, keepdim=True)), None


class Convolution(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: tuple[int, int]) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride = stride
        return F.conv2d(x, weight, stride=stride)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Grads:
        x, weight = ctx.saved_tensors
        of_x = nn.grad.conv2d_input(x.shape, weight, grad, ctx.stride)
        return of_x, nn.grad.conv2d_weight(x, weight.shape, grad, ctx.stride), None


class CrossEntropy(Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor) -> Tensor:
        chances = logits.softmax(1)
        ctx.save_for_backward(chances, labels)
        return -chances.gather(1, labels[:, None]).log().mean()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Grads:
        chances, labels = ctx.saved_tensors
        return grad * (chances - F.one_hot(labels, chances.shape[1])) / len(labels), None


class SinglePrecision(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.float().tanh().to(x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return (grad.float() * (1 - ctx.saved_tensors[0].float().tanh() ** 2)).to(grad.dtype)


class OnlySingle(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        if x.dtype is not torch.float32:
            raise TypeError("only single precision")
        ctx.save_for_backward(x)
        return x.tanh()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad * (1 - ctx.saved_tensors[0].tanh() ** 2)


class WithNumpy(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return torch.from_numpy(np.sin(x.detach().numpy()))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad * torch.from_numpy(np.cos(ctx.saved_tensors[0].detach().numpy()))


class Dropout(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, p: float) -> Tensor:
        ctx.mask = (torch.rand_like(x) > p).to(x) / (1 - p)
        return x * ctx.mask * (random.random() + np.random.rand())  # noqa: NPY002, S311

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Grads:
        raise NotImplementedError


class DropoutMask(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, p: float) -> Tensor:
        ctx.mask = (torch.rand_like(x) > p).to(x) / (1 - p)
        return x * ctx.mask

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Grads:
        return grad * ctx.mask, None


class BatchNorm(Function):
    """Keeps a running mean in an argument."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, running: Tensor) -> Tensor:
        mean = x.mean(0)
        running.mul_(0.9).add_(0.1 * mean)
        return x - mean

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Grads:
        return grad - grad.mean(0), None


class Unmaterialized(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Grads:
        ctx.set_materialize_grads(False)
        return x * 2, x * 3

    @staticmethod
    def backward(ctx: Any, first: Tensor | None, second: Tensor | None) -> Any:
        parts = [2 * first if first is not None else None, 3 * second if second is not None else None]
        return sum(part for part in parts if part is not None)


class Gather(Function):
    @staticmethod
    def forward(ctx: Any, table: Tensor, indices: Tensor, scale: float, unused: None) -> Tensor:
        ctx.save_for_backward(indices)
        ctx.shape, ctx.scale = table.shape, scale
        return table[indices] * scale

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Grads:
        (indices,) = ctx.saved_tensors
        return grad.new_zeros(ctx.shape).index_add(0, indices, grad * ctx.scale), None, None, None


class ReluThreshold(Function):
    """A pure helper, a constant of the module and a tuple of arguments."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, sizes: tuple[Tensor, int]) -> Tensor:
        ctx.scale = sizes[0] * sizes[1]
        return helper(x) * ctx.scale * CONSTANT

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Grads:
        return grad * ctx.scale * CONSTANT * math.pi, None


CONSTANT = 1.5
TABLE = torch.arange(4.0)


def helper(x: Tensor) -> Tensor:
    parts = [x * math.pi]
    parts.append(torch.zeros_like(x))
    return sum(parts, start=torch.zeros_like(x))


class ReadsATensor(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x * TABLE

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad * TABLE


HONEST: list[tuple[type[Function], tuple[Any, ...]]] = [
    (Exp, (leaf(4, 3),)),
    (MaskedReLU, (leaf(4, 3),)),
    (MaskedReLU, (torch.zeros(4, 3).requires_grad_(),)),
    (MaskedReLU, (leaf(4, 3).half().detach().requires_grad_(),)),
    (Clamp, (leaf(4, 3), -0.5, 0.5)),
    (Dirty, (leaf(4, 3),)),
    (Once, (leaf(4, 3),)),
    (SeveralOutputs, (leaf(4, 3),)),
    (Sorted, (leaf(4, 3),)),
    (MaskOut, (leaf(4, 3),)),
    (Linear, (leaf(6, 4), leaf(4, 4, seed=1), leaf(4, seed=2))),
    (Linear, (leaf(6, 4).detach(), leaf(3, 4, seed=1))),
    (Linear, (leaf(6, 4), leaf(3, 4, seed=1).detach(), None)),
    (NewStyle, (leaf(4, 3), 2)),
    (LayerNorm, (leaf(5, 8), leaf(8, seed=1), leaf(8, seed=2), 1e-5)),
    (Softmax, (leaf(5, 8), 1)),
    (Convolution, (leaf(2, 3, 8, 8), leaf(4, 3, 3, 3, seed=1), (2, 2))),
    (CrossEntropy, (leaf(6, 4), torch.tensor([0, 1, 2, 3, 0, 1]))),
    (SinglePrecision, (leaf(4, 3),)),
    (OnlySingle, (leaf(4, 3),)),
    (WithNumpy, (leaf(4, 3),)),
    (DropoutMask, (leaf(40, 3), 0.5)),
    (BatchNorm, (leaf(6, 3), torch.zeros(3))),
    (Unmaterialized, (leaf(6, 3),)),
    (Gather, (leaf(6, 3), torch.tensor([0, 0, 5]), 0.5, None)),
    (ReluThreshold, (leaf(6, 3), (torch.ones(3), 2))),
    (ReadsATensor, (leaf(3, 4),)),
]


@pytest.mark.parametrize(("function", "arguments"), HONEST, ids=lambda value: getattr(value, "__name__", ""))
def test_honest_functions_agree(function: type[Function], arguments: tuple[Any, ...]) -> None:
    found = verified(function, *arguments)
    assert wrong(found) == {}
    assert {each.name for each in found.derivatives}
    assert not found.rounds
    assert not found.identity


def test_what_was_seen_is_told() -> None:
    found = verified(Linear, leaf(6, 4), leaf(3, 4), leaf(3))
    assert (found.function, found.module, found.step) == ("Linear", "block.0", 0)
    assert str(found.location) == "train.py:7"
    assert found.dtype == "float64"
    assert [each.name for each in found.derivatives] == ["x", "weight", "bias"]
    assert [each.expected for each in found.derivatives] == [(6, 4), (3, 4), (3,)]
    assert [each.returned for each in found.derivatives] == [(6, 4), (3, 4), (6, 3)]
    assert verified(OnlySingle, leaf(3)).dtype == "float32"
    assert [each.name for each in verified(NewStyle, leaf(3), 2).derivatives] == ["x"]


# Wrong ones.


def linear_with(of_x: Callable[..., Any], of_weight: Callable[..., Any]) -> type[Function]:
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return x @ weight.t()

    def backward(ctx: Any, grad: Tensor) -> Grads:
        x, weight = ctx.saved_tensors
        return of_x(grad, x, weight), of_weight(grad, x, weight)

    return made(forward, backward)


def right_x(grad: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    return grad @ weight


def right_weight(grad: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    return grad.t() @ x


def test_a_square_transpose_is_found() -> None:
    found = verified(linear_with(right_x, lambda grad, x, weight: x.t() @ grad), leaf(6, 4), leaf(4, 4, seed=1))
    assert list(wrong(found)) == ["weight"]
    assert found.derivatives[1].transposed
    assert not found.identity
    assert not found.rounds


def test_an_untransposed_weight_is_found() -> None:
    found = verified(
        linear_with(lambda grad, x, weight: grad @ weight.t(), right_weight), leaf(6, 4), leaf(4, 4, seed=1)
    )
    assert list(wrong(found)) == ["x"]


def test_a_transpose_that_autograd_refuses_is_found() -> None:
    found = verified(linear_with(right_x, lambda grad, x, weight: x.t() @ grad), leaf(6, 4), leaf(3, 4, seed=1))
    assert list(wrong(found)) == ["weight"]
    assert found.derivatives[0].transposed
    assert (found.derivatives[0].expected, found.derivatives[0].returned) == ((3, 4), (4, 3))


@pytest.mark.parametrize(("scale", "factor"), [(0.5, 0.5), (-1, -1), (6, 6)])
def test_a_factor_and_a_sign_are_found(scale: float, factor: float) -> None:
    found = verified(linear_with(right_x, lambda *given: scale * right_weight(*given)), leaf(6, 4), leaf(4, 4))
    assert list(wrong(found)) == ["weight"]
    assert found.derivatives[1].factor == pytest.approx(factor)


def test_a_missing_gradient_is_found() -> None:
    found = verified(linear_with(right_x, lambda *_: None), leaf(6, 4), leaf(4, 4))
    assert wrong(found) == {"weight": 1.0}
    assert found.derivatives[1].missing


def test_none_for_what_needs_no_gradient_is_right() -> None:
    assert not wrong(verified(linear_with(right_x, lambda *_: None), leaf(6, 4), leaf(4, 4).detach()))


def test_a_forgotten_chain_rule_is_found() -> None:
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.square()

    found = verified(made(forward, lambda ctx, grad: 2 * ctx.saved_tensors[0]), leaf(6))
    assert wrong(found)
    assert found.derivatives[0].factor is None


def test_a_forgotten_chain_rule_of_a_loss_is_a_note_because_it_may_be_right() -> None:
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.square().sum()

    found, notes = checked(made(forward, lambda ctx, grad: 2 * ctx.saved_tensors[0]), leaf(6))
    assert found == []
    assert "does not multiply by the incoming gradient" in notes[0]


def test_swapped_gradients_are_found() -> None:
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        ctx.save_for_backward(a, b)
        return a * b.sin()

    def backward(ctx: Any, grad: Tensor) -> Grads:
        a, b = ctx.saved_tensors
        return grad * a * b.cos(), grad * b.sin()

    assert list(wrong(verified(made(forward, backward), leaf(4), leaf(4, seed=1)))) == ["a", "b"]


def test_a_missing_term_is_found() -> None:
    def forward(ctx: Any, x: Tensor) -> Tensor:
        result = x.softmax(1)
        ctx.save_for_backward(result)
        return result

    found = verified(made(forward, lambda ctx, grad: grad * ctx.saved_tensors[0]), leaf(4, 5))
    assert list(wrong(found)) == ["x"]


def test_a_forgotten_mask_is_found() -> None:
    found = verified(made(lambda ctx, x: x.clamp(min=0), lambda ctx, grad: grad), leaf(8, 6))
    assert wrong(found)
    assert not found.identity
    assert not found.rounds


def test_a_wrong_gradient_among_one_hot_and_argmax_is_no_rounding() -> None:
    def forward(ctx: Any, logits: Tensor, labels: Tensor) -> Tensor:
        ctx.save_for_backward(logits, labels)
        return -(F.one_hot(labels, 4) * logits.log_softmax(1)).sum()

    def backward(ctx: Any, grad: Tensor) -> Grads:
        logits, labels = ctx.saved_tensors
        return grad * (logits.softmax(1) + F.one_hot(labels, 4)), None

    found = verified(made(forward, backward), leaf(6, 4), torch.tensor([0, 1, 2, 3, 0, 1]))
    assert wrong(found)
    assert not found.rounds


# Gradients that are meant to differ.


def test_gradient_reversal_and_its_kin_are_identities() -> None:
    def backward_with(change: Callable[[Tensor], Tensor | None]) -> type[Function]:
        return made(lambda ctx, x: x.view_as(x), lambda ctx, grad: change(grad))

    reversal = verified(backward_with(lambda grad: -0.5 * grad), leaf(4, 3))
    clip = verified(backward_with(lambda grad: grad.clamp(-0.01, 0.01)), leaf(4, 3))
    stop = verified(backward_with(lambda grad: None), leaf(4, 3))
    assert reversal.identity
    assert clip.identity
    assert stop.identity
    assert reversal.derivatives[0].factor == pytest.approx(-0.5)
    assert clip.derivatives[0].factor is None
    assert stop.derivatives[0].missing


@pytest.mark.parametrize(
    ("forward", "names"),
    [
        (lambda ctx, x: x.round(), ()),
        (lambda ctx, x: x.sign(), ()),
        (lambda ctx, x: torch.where(x > 0, 1.0, -1.0).to(x), ()),
        (lambda ctx, x: F.one_hot(x.argmax(1), 6).to(x), ()),
        (lambda ctx, x: (x > 0.5).to(x), ()),
        (lambda ctx, x: torch.bernoulli(x.sigmoid()), ()),
        (lambda ctx, x: (x * 20).round() / 20, ("round",)),
        (lambda ctx, x: x.sign() * x.abs().mean(), ()),
    ],
    ids=["round", "sign", "where", "one-hot", "spike", "sampled", "quantized", "scaled sign"],
)
def test_straight_through_estimators_round(forward: Callable[..., Tensor], names: tuple[str, ...]) -> None:
    calls = FunctionCalls()
    function = made(forward, lambda ctx, grad: grad)
    calls.seen(function, (leaf(8, 6),), "", None, 0)
    for name in names:
        calls.inner(function, name)
    (found,), notes = calls.verify()
    assert notes == []
    assert found.rounds
    assert wrong(found)


def test_a_spike_next_to_a_smooth_output_rounds() -> None:
    def forward(ctx: Any, v: Tensor) -> Grads:
        spike = (v > 0.5).to(v)
        ctx.save_for_backward(v)
        return spike, v - spike

    def backward(ctx: Any, first: Tensor, second: Tensor) -> Tensor:
        (v,) = ctx.saved_tensors
        slope = 1 / (1 + (math.pi * (v - 0.5)) ** 2)
        return first * slope + second * (1 - slope)

    assert verified(made(forward, backward), leaf(8, 6)).rounds


def test_a_vector_quantizer_rounds_also_for_its_codes() -> None:
    def forward(ctx: Any, x: Tensor, codes: Tensor) -> Grads:
        chosen = torch.cdist(x, codes).argmin(1)
        ctx.mark_non_differentiable(chosen)
        return codes[chosen], chosen

    found = verified(made(forward, lambda ctx, grad, _: (grad, None)), leaf(16, 4), leaf(5, 4, seed=1))
    assert found.rounds
    assert list(wrong(found)) == ["x", "codes"]


@pytest.mark.parametrize("shape", [(64,), (3, 5)])
def test_masks_by_size_with_the_whole_gradient_round(shape: tuple[int, ...]) -> None:
    def top(ctx: Any, x: Tensor) -> Tensor:
        return x * (x.abs() >= x.abs().flatten().topk(4).values[-1])

    def pruned(ctx: Any, x: Tensor) -> Tensor:
        return x * (x.abs() > 0.5)

    for forward in (top, pruned):
        found = verified(made(forward, lambda ctx, grad: grad), leaf(*shape))
        assert found.rounds
        assert wrong(found)


def test_in_a_watched_loop_it_is_found_with_its_line_and_the_training_stays_as_it_was() -> None:
    wrong_linear = linear_with(right_x, lambda grad, x, weight: x.t() @ grad)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.weight, self.drop = nn.Linear(4, 4), nn.Parameter(leaf(4, 4).detach()), nn.Dropout()

        def forward(self, x: Tensor) -> Tensor:
            return DropoutMask.apply(wrong_linear.apply(self.drop(self.first(x)), self.weight), 0.5)

    def losses(scope: Any) -> list[float]:
        torch.manual_seed(0)
        model, found = Net(), []
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        with scope(model) as watched:
            for _ in range(3):
                optimizer.zero_grad()
                loss = model(torch.randn(6, 4)).square().mean()
                loss.backward()
                optimizer.step()
                found.append(loss.item())
        if watched is not None:
            findings.extend(watched.findings)
        return found

    findings: list[Finding] = []
    assert losses(gradscope.watch) == losses(lambda _: nullcontext())
    (finding,) = findings
    assert finding.message == "the gradient that Made gives 'weight' is transposed"
    assert finding.location is not None
    assert "wrong_linear.apply" in finding.location.source


# What must not be called again.


def test_each_function_is_checked_once_and_only_when_it_needs_a_gradient() -> None:
    calls = FunctionCalls()
    calls.seen(Exp, (leaf(3).detach(),), "", None, 0)
    assert calls.verify() == ([], [])
    calls.seen(Exp, (leaf(3),), "first", None, 0)
    calls.seen(Exp, (leaf(3),), "second", None, 0)
    assert [found.module for found in calls.verify()[0]] == ["first"]
    calls.seen(Exp, (leaf(3),), "third", None, 1)
    assert calls.verify() == ([], [])


def test_torchs_own_functions_are_nobodys_concern() -> None:
    checkpoint = torch.utils.checkpoint.CheckpointFunction
    assert checked(checkpoint, leaf(3)) == ([], [])


def test_no_more_than_sixteen_are_remembered() -> None:
    calls = FunctionCalls()
    for _ in range(20):
        calls.seen(made(lambda ctx, x: x * 2, lambda ctx, grad: grad * 2), (leaf(3),), "", None, 0)
    found, (note,) = calls.verify()
    assert len(found) == 16
    assert "only 16" in note


def test_arguments_are_copied_when_they_are_seen() -> None:
    calls = FunctionCalls()
    x = leaf(3)
    calls.seen(Exp, (x,), "", None, 0)
    with torch.no_grad():
        x.fill_(float("nan"))
    assert wrong(calls.verify()[0][0]) == {}


class SaysIt(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        print("forward")  # noqa: T201
        return x

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad


LOG: list[float] = []
COUNT = 0
MODULE = nn.Linear(2, 2)


def remembers(grad: Tensor) -> Tensor:
    LOG.append(float(grad.sum()))
    return grad


def identity(ctx: Any, x: Tensor) -> Tensor:
    return x.clone()


def counts(ctx: Any, grad: Tensor) -> Tensor:
    global COUNT  # noqa: PLW0603
    COUNT += 1
    return grad


def through_helper(ctx: Any, grad: Tensor) -> Tensor:
    return remembers(grad)


def of_a_module(ctx: Any, grad: Tensor) -> Tensor:
    return MODULE(grad)


def on_itself(ctx: Any, grad: Tensor) -> Tensor:
    SaysIt.calls = 1
    return grad


def in_a_tensor(ctx: Any, grad: Tensor) -> Tensor:
    TABLE.add_(1)
    return grad


def in_a_lambda(ctx: Any, grad: Tensor) -> Tensor:
    return next(map(lambda each: remembers(each), [grad]))  # noqa: C417, PLW0108  a function within


def with_import(ctx: Any, grad: Tensor) -> Tensor:
    import logging  # noqa: PLC0415

    logging.info("backward")  # noqa: LOG015
    return grad


def to_disk(ctx: Any, grad: Tensor) -> Tensor:
    torch.save(grad, "grad.pt")
    return grad


def with_default(ctx: Any, grad: Tensor, seen: list[Tensor] = []) -> Tensor:  # noqa: B006
    seen.append(grad)
    return grad


def closures() -> Iterator[tuple[str, Callable[..., Any]]]:
    own: list[Tensor] = []
    times = 0
    history: deque[Tensor] = deque()

    def appends(ctx: Any, grad: Tensor) -> Tensor:
        own.append(grad)
        return grad

    def counts_in_closure(ctx: Any, grad: Tensor) -> Tensor:
        nonlocal times
        times += 1
        return grad

    def bound(append: Callable[[Tensor], None]) -> Callable[..., Any]:
        def backward(ctx: Any, grad: Tensor) -> Tensor:
            append(grad)
            return grad

        return backward

    yield "a list of the closure", appends
    yield "a number of the closure", counts_in_closure
    yield "a bound method", bound(history.append)


IMPURE: dict[str, Callable[..., Any]] = {
    "a global": counts,
    "a helper with a list": through_helper,
    "a module of torch": of_a_module,
    "a class": on_itself,
    "a tensor modified in place": in_a_tensor,
    "a lambda": in_a_lambda,
    "an import": with_import,
    "a file": to_disk,
    "a default argument": with_default,
    "a builtin": builtins.print,
    **dict(closures()),
}


@pytest.mark.parametrize("name", IMPURE)
def test_a_function_that_remembers_is_not_called_again(name: str) -> None:
    function = made(identity, IMPURE[name])
    found, notes = checked(function, leaf(3))
    assert found == []
    assert notes[0].startswith("the gradients of Made were not verified: its backward ")
    assert notes[0].endswith("; try gradscope.verify")
    assert (LOG, COUNT) == ([], 0)


def test_a_function_that_prints_is_not_called_again(capsys: pytest.CaptureFixture[str]) -> None:
    _, (note,) = checked(SaysIt, leaf(3))
    assert "its forward uses print, which must not be called twice" in note
    assert capsys.readouterr().out == ""


def test_a_class_that_remembers_is_not_called_again() -> None:
    function = type("Keeps", (Exp,), {"_seen": []})
    assert "_seen is of type list" in impurity(function)
    assert impurity(type("Pure", (Exp,), {"scale": 2.0, "shape": (1, 2)})) == ""


@pytest.mark.parametrize("argument", [[1], {}, nn.Linear(2, 2), print, torch.Generator(), torch.nn.ReLU])
def test_arguments_that_remember_are_not_given_again(argument: object) -> None:
    found, (note,) = checked(Exp, leaf(3), argument)
    assert found == []
    assert "may remember" in note


def test_large_and_strange_arguments_are_not_copied() -> None:
    assert "too large" in checked(Exp, torch.zeros(1 << 21).requires_grad_())[1][0]
    assert "no plain tensor" in checked(Exp, torch.eye(3).to_sparse().requires_grad_())[1][0]
    assert "has no data" in checked(Exp, torch.zeros(3, device="meta").requires_grad_())[1][0]
    assert "complex" in checked(Exp, torch.zeros(3, dtype=torch.complex64).requires_grad_())[1][0]


def test_an_exception_is_a_note() -> None:
    assert "NotImplementedError" in checked(Dropout, leaf(3), 0.5)[1][0]


def test_a_function_that_takes_too_long_is_given_up() -> None:
    calls = FunctionCalls(seconds=-1.0)
    calls.seen(Exp, (leaf(3),), "", None, 0)
    assert "it takes too long" in calls.verify()[1][0]


def test_nothing_is_left_behind() -> None:
    x = leaf(40, 3)
    own, python, array = torch.get_rng_state(), random.getstate(), repr(np.random.get_state())  # noqa: NPY002
    filters = list(warnings.filters)
    verified(DropoutMask, x, 0.5)
    running = torch.zeros(3)
    verified(BatchNorm, x, running)
    checked(Dropout, x, 0.5)
    assert torch.equal(own, torch.get_rng_state())
    assert random.getstate() == python
    assert repr(np.random.get_state()) == array  # noqa: NPY002
    assert warnings.filters == filters
    assert x.grad is None
    assert not running.any()


def test_the_backward_is_called_without_grad_mode_as_autograd_does() -> None:
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad if not torch.is_grad_enabled() else grad[:1, :1, :1]

    assert not wrong(verified(made(identity, backward), leaf(3)))


@pytest.mark.parametrize(
    ("returned", "expected", "fit"),
    [
        ((3, 4), (3, 4), True),
        ((6, 4), (4,), True),
        ((3, 4), (3, 1), True),
        ((4, 3), (3, 4), False),
        ((4,), (3, 4), False),
        ((), (1,), False),
    ],
)
def test_what_autograd_can_sum_fits(returned: tuple[int, ...], expected: tuple[int, ...], fit: bool) -> None:
    assert fits(returned, expected) is fit
