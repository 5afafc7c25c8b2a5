"""`verify`: honest modules pass, wrong backwards are named, and the module notices nothing."""
# mypy: disable-error-code="attr-defined, no-any-return, no-untyped-call"

import random
from collections.abc import Callable
from copy import deepcopy
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn.utils.prune import random_unstructured

import gradscope
from gradscope.errors import GradscopeError, NotAModule
from gradscope.findings import Finding, Report, Severity
from gradscope.verification import verify


def rand(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


SEQUENCE, IMAGE, TABLE = rand(3, 5, 8), rand(2, 4, 9, 9), rand(6, 8)

HONEST: list[tuple[Callable[[], nn.Module], tuple[Tensor, ...]]] = [
    (lambda: nn.Linear(8, 3), (TABLE,)),
    (lambda: nn.Bilinear(8, 8, 3), (TABLE, TABLE)),
    (lambda: nn.Conv2d(4, 6, 3, padding=1), (IMAGE,)),
    (lambda: nn.ConvTranspose2d(4, 3, 3), (IMAGE,)),
    (lambda: nn.BatchNorm2d(4), (IMAGE,)),
    (lambda: nn.BatchNorm2d(4).eval(), (IMAGE,)),
    (lambda: nn.InstanceNorm2d(4), (IMAGE,)),
    (lambda: nn.GroupNorm(2, 4), (IMAGE,)),
    (lambda: nn.LayerNorm(8), (TABLE,)),
    (lambda: nn.LocalResponseNorm(2), (IMAGE,)),
    (lambda: nn.MaxPool2d(2), (IMAGE.relu(),)),
    (lambda: nn.AdaptiveMaxPool2d(3), (IMAGE,)),
    (lambda: nn.FractionalMaxPool2d(2, output_size=3), (IMAGE,)),
    (lambda: nn.Upsample(scale_factor=2, mode="bicubic"), (IMAGE,)),
    (nn.Dropout, (TABLE,)),
    (nn.RReLU, (TABLE,)),
    (lambda: nn.ReLU(inplace=True), (torch.zeros(4, 4),)),
    (nn.PReLU, (torch.zeros(4, 4),)),
    (nn.Hardshrink, (TABLE,)),
    (lambda: nn.LSTM(8, 5, 2, batch_first=True, bidirectional=True, dropout=0.5), (SEQUENCE,)),
    (lambda: nn.GRU(8, 5), (SEQUENCE,)),
    (lambda: nn.MultiheadAttention(8, 2, batch_first=True), (SEQUENCE, SEQUENCE, SEQUENCE)),
    (lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), (SEQUENCE,)),
    (lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval(), (SEQUENCE,)),
    (lambda: nn.Embedding(10, 4, padding_idx=0, scale_grad_by_freq=True), (torch.tensor([0, 1, 1, 5]),)),
    (lambda: nn.Embedding(10, 4, sparse=True), (torch.tensor([0, 1, 1, 5]),)),
    (lambda: nn.EmbeddingBag(10, 4, mode="max"), (torch.tensor([[0, 1], [1, 5]]),)),
    (nn.CrossEntropyLoss, (rand(6, 4), torch.tensor([0, 1, 2, 3, 0, 1]))),
    (nn.L1Loss, (TABLE, TABLE)),
    (lambda: nn.KLDivLoss(reduction="batchmean"), (TABLE.log_softmax(1), TABLE.softmax(1))),
    (lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(8, 8)), (TABLE,)),
    (lambda: nn.utils.spectral_norm(nn.Linear(8, 8)), (TABLE,)),
    (lambda: nn.utils.parametrizations.weight_norm(nn.Linear(8, 8)), (TABLE,)),
    (lambda: nn.utils.parametrizations.orthogonal(nn.Linear(8, 8)), (TABLE,)),
    (lambda: nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(), nn.Linear(8, 2)), (TABLE,)),
]


@pytest.mark.parametrize(("make", "inputs"), HONEST, ids=lambda value: "" if isinstance(value, tuple) else None)
def test_honest_modules_are_healthy(make: Callable[[], nn.Module], inputs: tuple[Tensor, ...]) -> None:
    report = verify(make(), *inputs)
    assert (report.findings, report.notes) == ((), ())


def test_the_report_says_what_was_compared() -> None:
    assert str(verify(nn.Linear(8, 3), TABLE)) == (
        "gradscope: no findings; 3 gradients of Linear compared in 3 directions each, in float64."
    )
    assert "1 gradient of Dropout" in str(verify(nn.Dropout(), TABLE))


class TransposedFunction(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return x @ weight.t()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        x, weight = ctx.saved_tensors
        return grad @ weight, x.t() @ grad


class Transposed(nn.Module):
    def __init__(self, inner: int, outer: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(rand(outer, inner))

    def forward(self, x: Tensor) -> Tensor:
        return TransposedFunction.apply(x, self.weight)


def only(report: Report) -> Finding:
    (finding,) = report.findings
    return finding


def test_a_wrong_function_is_named_with_its_module_and_line() -> None:
    report = verify(nn.Sequential(nn.Linear(8, 4), nn.Tanh(), Transposed(4, 4)), TABLE)
    finding = only(report)
    assert not report.healthy
    assert finding.message == "the gradient that TransposedFunction gives 'weight' is transposed"
    assert finding.sites == ("2",)
    assert finding.location is not None
    assert finding.location.function == "forward"
    assert finding.location.source == "return TransposedFunction.apply(x, self.weight)"
    assert str(report).endswith("1 error; 2 gradients of TransposedFunction compared in 3 directions each, in float64.")


def test_a_transpose_that_autograd_refuses_is_named() -> None:
    finding = only(verify(Transposed(8, 3), TABLE))
    assert finding.message == "the gradient that TransposedFunction gives 'weight' has the transposed shape"
    assert finding.evidence == "the backward returned [8, 3], 'weight' is [3, 8]"


class Applies(nn.Module):
    """A linear layer, and a Function made of a forward and a backward."""

    def __init__(self, forward: Callable[..., Any], backward: Callable[..., Any]) -> None:
        super().__init__()
        self.function = type(
            "Made", (Function,), {"forward": staticmethod(forward), "backward": staticmethod(backward)}
        )
        self.layer = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.function.apply(self.layer(x))


def identity(ctx: Any, x: Tensor) -> Tensor:
    return x.view_as(x)


@pytest.mark.parametrize(
    ("forward", "backward", "words"),
    [
        (lambda ctx, x: x * 3, lambda ctx, grad: grad, "is 0.3333 times what it should be: a factor of 3 is missing"),
        (lambda ctx, x: x * 3, lambda ctx, grad: -3 * grad, "has the wrong sign"),
        (lambda ctx, x: x * 3, lambda ctx, grad: None, "is missing (None)"),
        (lambda ctx, x: x.exp(), lambda ctx, grad: grad, "disagrees with finite differences"),
    ],
    ids=["factor", "sign", "None", "chain rule"],
)
def test_each_fault_of_a_function_is_told(forward: Any, backward: Any, words: str) -> None:
    finding = only(verify(Applies(forward, backward), TABLE))
    assert finding.severity is Severity.ERROR
    assert finding.message == f"the gradient that Made gives 'x' {words}"


@pytest.mark.parametrize(
    ("forward", "backward", "words"),
    [
        (lambda ctx, x: x.round(), lambda ctx, grad: grad, "straight-through"),
        (lambda ctx, x: x.clamp(-0.3, 0.3), lambda ctx, grad: grad, "changes the gradient"),
        (identity, lambda ctx, grad: -grad, "gradient reversal"),
        (identity, lambda ctx, grad: grad.clamp(-0.1, 0.1), "changes the gradient"),
    ],
    ids=["round", "clamp", "reversal", "clip"],
)
def test_what_may_be_meant_is_a_note(forward: Any, backward: Any, words: str) -> None:
    report = verify(Applies(forward, backward), TABLE)
    assert report.healthy
    assert words in only(report).message


def test_a_function_that_remembers_is_judged_by_its_module() -> None:
    calls: list[int] = []

    def backward(ctx: Any, grad: Tensor) -> Tensor:
        calls.append(1)
        return 2 * grad

    report = verify(Applies(identity, backward), TABLE)
    finding = only(report)
    assert finding.message == "the gradients that Applies gives 'x', 'layer.weight' and 'layer.bias' are wrong"
    assert finding.severity is Severity.ERROR
    (note,) = report.notes
    assert note.startswith("the gradients of Made were not verified: its backward uses calls, which is of type list")
    assert "gradscope.verify" not in note


class Cut(nn.Module):
    def __init__(self, cut: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.last, self.cut = nn.Linear(8, 8), nn.Linear(8, 8), cut

    def forward(self, x: Tensor) -> Tensor:
        return self.cut(self.first(x).tanh(), self.last(x))


def test_a_missing_gradient_of_a_module_is_an_error() -> None:
    report = verify(Cut(lambda a, b: a.detach()), TABLE)
    assert only(report).severity is Severity.ERROR
    assert "'first.weight'" in only(report).message
    assert "detach()" in only(report).fix


def test_a_gradient_of_a_module_that_is_cut_in_part_is_a_note() -> None:
    finding = only(verify(Cut(lambda a, b: a + b + a.detach()), TABLE))
    assert finding.severity is Severity.NOTE
    assert finding.fix.endswith("nothing, if it is meant")


def test_the_straight_through_trick_in_a_module_is_a_note() -> None:
    finding = only(verify(Cut(lambda a, b: b + (b.round() - b).detach()), TABLE))
    assert finding.severity is Severity.NOTE
    assert "straight-through" in finding.message


class Strange(nn.Module):
    """Arguments and results of every kind, hooks, buffers, attributes."""

    class Result(NamedTuple):
        value: Tensor
        hidden: dict[str, Tensor]
        number: int

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(rand(8))
        self.frozen = nn.Parameter(rand(8), requires_grad=False)
        self.running: Tensor = nn.Buffer(torch.zeros(8))
        self.plain = rand(8)
        self.calls = 0

    def forward(self, weight: Tensor, parts: list[Any], *, scale: float, mask: Tensor | None = None) -> Result:
        self.running = self.running * 0.9 + 1
        self.calls += 1
        made = torch.ones(8, 8) @ (self.weight + self.frozen + self.plain + self.running)
        value = (weight * made + parts[0]["x"]).masked_fill(mask, 0) * scale
        return self.Result(value, {"sum": value.sum() * random.random()}, len(parts))  # noqa: S311


def test_structures_names_and_keywords_are_understood() -> None:
    module = Strange()
    report = verify(module, TABLE, [{"x": rand(6, 8)}, "text"], scale=2.0, mask=TABLE > 0)
    assert report.findings == ()
    assert "3 gradients of Strange" in str(report)
    assert module.calls == 0


def test_module_gradients_and_random_numbers_are_as_before() -> None:
    module = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Dropout())
    x = rand(6, 8).requires_grad_()
    module(x).sum().backward()
    module[0].weight.requires_grad_(False)
    state, gradients = (
        deepcopy(module.state_dict()),
        [None if p.grad is None else p.grad.clone() for p in module.parameters()],
    )
    identities = [id(p) for p in module.parameters()]
    before = x.detach().clone(), x.grad.clone() if x.grad is not None else None
    draws = torch.get_rng_state(), random.getstate(), repr(np.random.get_state())  # noqa: NPY002
    with torch.no_grad():
        verify(module, x)
    assert torch.equal(torch.get_rng_state(), draws[0])
    assert (random.getstate(), repr(np.random.get_state())) == draws[1:]  # noqa: NPY002
    assert all(torch.equal(value, state[name]) for name, value in module.state_dict().items())
    assert [id(p) for p in module.parameters()] == identities
    assert [p.requires_grad for p in module.parameters()] == [False, True, True, True]
    for parameter, gradient in zip(module.parameters(), gradients, strict=True):
        assert parameter.grad is not None
        assert gradient is not None
        assert torch.equal(parameter.grad, gradient)
    assert module.training
    assert torch.equal(x, before[0])
    assert before[1] is not None
    assert x.grad is not None
    assert torch.equal(x.grad, before[1])
    assert torch.get_default_dtype() is torch.float32
    assert not module[1]._forward_hooks


def test_the_users_hooks_do_not_run_and_torchs_own_do() -> None:
    module = nn.utils.parametrizations.weight_norm(nn.Linear(8, 4))
    old = nn.Linear(8, 4)
    random_unstructured(old, "weight", amount=0.5)
    calls: list[int] = []
    for each in (module, old):
        each.register_forward_hook(lambda *_: calls.append(1))
        each.register_forward_pre_hook(lambda *_: calls.append(1))
        each.register_full_backward_hook(lambda *_: calls.append(1))
        assert verify(each, TABLE).findings == ()
    assert calls == []
    old(TABLE)
    assert calls == [1, 1]


def test_a_result_kept_as_an_attribute_can_be_copied() -> None:
    module = nn.Linear(8, 4)
    module.last = module(TABLE)
    assert verify(module, TABLE).findings == ()


class OnlySingle(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        if x.dtype is torch.float64:
            raise TypeError("only single precision")
        return super().forward(x).tanh()


def test_a_module_that_cannot_do_double_precision_is_compared_in_single() -> None:
    report = verify(OnlySingle(8, 4), TABLE)
    assert report.findings == ()
    assert str(report).endswith("in float32.")


def test_what_is_no_module_is_refused() -> None:
    with pytest.raises(NotAModule, match=r"verify\(\) needs a torch.nn.Module, not Tensor"):
        verify(TABLE)  # type: ignore[arg-type]


def test_a_module_without_anything_to_differentiate_is_refused() -> None:
    with pytest.raises(GradscopeError, match="no trainable parameter and was given no floating-point tensor"):
        verify(nn.Identity(), torch.tensor([1, 2]))


def test_a_module_without_floating_results_is_refused() -> None:
    class Classes(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.argmax(1)

    with pytest.raises(GradscopeError, match="returned no floating-point tensor but Tensor"):
        verify(Classes(), TABLE)


def test_an_exception_of_the_module_is_the_cause_of_ours() -> None:
    with pytest.raises(GradscopeError, match="its float64 copy raised RuntimeError: mat1 and mat2") as caught:
        verify(nn.Linear(3, 3), TABLE)
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_a_module_that_cannot_be_copied_is_refused() -> None:
    module = nn.Linear(8, 8)
    vars(module)["source"] = (i for i in range(3))
    with pytest.raises(GradscopeError, match="Linear cannot be copied: TypeError"):
        verify(module, TABLE)


def test_within_a_watched_loop_nothing_of_it_is_recorded() -> None:
    model = nn.Linear(8, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with gradscope.watch(model) as scope:
        for _ in range(3):
            optimizer.zero_grad()
            loss = model(TABLE).square().mean()
            assert verify(model, TABLE).findings == ()
            loss.backward()
            optimizer.step()
    assert scope.findings == ()
    assert not scope.report().notes


def test_a_loss_that_ignores_the_incoming_gradient_is_told_of() -> None:
    class Loss(Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            ctx.save_for_backward(x)
            return x.square().sum()

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> Tensor:
            return 2 * ctx.saved_tensors[0]

    class Module(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return Loss.apply(x)

    report = verify(Module(), TABLE)
    assert report.findings == ()
    assert any("does not multiply" in note for note in report.notes)


def test_inputs_that_share_a_name_with_a_parameter_are_told_apart() -> None:
    class Doubled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(rand(8))

        def forward(self, weight: Tensor) -> Tensor:
            return self.weight.detach() * weight.detach()

    assert "'argument weight' and 'weight'" in only(verify(Doubled(), TABLE)).message
