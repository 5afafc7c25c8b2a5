"""Every module of torch's own module database, with every sample input: the same bits, watched or not."""

import warnings
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import gradscope
from gradscope.hooks.outputs import tensors

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from torch.testing._internal.common_modules import module_db

pytestmark = pytest.mark.filterwarnings("ignore")  # what torch's samples warn of is their own business


class Holder(nn.Module):
    """Gives a module without parameters one, so that it can be watched; calls go to the module directly."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.extra = inner, nn.Parameter(torch.ones(1))


def samples(info: Any, *, training: bool) -> list[Any]:
    torch.manual_seed(0)
    options = {"device": "cpu", "dtype": torch.float32, "requires_grad": True, "training": training}
    return [sample for sample in info.module_inputs_func(info, **options) if sample.forward_input is not None]


def loss_of(output: Any) -> Tensor | None:
    parts = [tensor.abs().double().square().sum() for _, tensor in tensors(output) if tensor.requires_grad]
    return torch.stack(parts).sum() if parts else None


def everything(info: Any, sample: Any, *, training: bool, watched: bool) -> list[Tensor]:
    """Outputs, gradients of parameters and inputs, buffers and RNG state after one forward and backward."""
    torch.manual_seed(0)
    built, (args, kwargs) = sample.constructor_input, (sample.forward_input.args, sample.forward_input.kwargs)
    module = info.module_cls(*built.args, **built.kwargs).float().train(training)
    target = module if next(module.parameters(), None) is not None else Holder(module)
    watching: AbstractContextManager[Any] = gradscope.watch(target) if watched else nullcontext()
    with watching as scope:
        output = module(*args, **kwargs)
        loss = loss_of(output)
        if loss is not None:
            loss.backward()
    assert scope is None or not scope.recording.lost
    made = [tensor.detach() for _, tensor in tensors(output)]
    leaves = [*module.parameters(), *(tensor for _, tensor in tensors((args, kwargs)) if tensor.is_leaf)]
    return [*made, *(leaf.grad for leaf in leaves if leaf.grad is not None), *module.buffers(), torch.get_rng_state()]


def same(left: Tensor, right: Tensor) -> bool:
    """Bit for bit, NaN included."""
    if left.layout is not torch.strided:
        left, right = left.to_dense(), right.to_dense()
    return torch.equal(left.isnan(), right.isnan()) and torch.equal(left.nan_to_num(), right.nan_to_num())


@pytest.mark.parametrize("info", module_db, ids=lambda info: info.name)
def test_a_module_of_torch_is_left_as_it_is(info: Any) -> None:
    ran = 0
    for training in (True, False):
        for first, second in zip(samples(info, training=training), samples(info, training=training), strict=True):
            bare = everything(info, first, training=training, watched=False)
            watched = everything(info, second, training=training, watched=True)
            assert len(bare) == len(watched)
            assert all(same(left, right) for left, right in zip(bare, watched, strict=True))
            ran += 1
    assert ran
