"""A step's pattern, compiled and not: both must say the same."""

import gc
from collections.abc import Callable
from weakref import ref

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gradscope.hooks.meters import host
from gradscope.hooks.pattern import Pattern, _Pattern, pattern

GOOD = (True, True)


@pytest.fixture(params=["compiled", "python"])
def make(request: pytest.FixtureRequest) -> Callable[..., Pattern]:
    """Makes a pattern of a model with parameters 0, 1 and 2, of which 1 and 2 are glanced at."""

    def made(model: nn.Module, advance: int = 0, *, rewritten: bool = False) -> Pattern:
        parameters: list[Tensor] = list(model.parameters())
        given = parameters, parameters[1:], [model], np.full(len(parameters), advance)
        if request.param == "python":
            return _Pattern(*given, rewritten)
        assert host.AVAILABLE
        return pattern(*given, rewritten=rewritten)

    return made


@pytest.fixture
def model() -> nn.Module:
    """A model whose every parameter has a gradient of ones."""
    model = nn.Module()
    for name in "abc":
        model.register_parameter(name, nn.Parameter(torch.ones(4)))
    backward(model)
    return model


def backward(model: nn.Module) -> None:
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)


def gradient(model: nn.Module, index: int) -> Tensor:
    found = list(model.parameters())[index].grad
    assert found is not None
    return found


def test_new_gradients_like_the_last(make: Callable[..., Pattern], model: nn.Module) -> None:
    seen = make(model)
    for _ in range(3):
        backward(model)
        assert seen.renewed()
        assert seen.look() == GOOD


def test_the_same_gradients_are_not_renewed(make: Callable[..., Pattern], model: nn.Module) -> None:
    seen = make(model)
    assert not seen.renewed()
    gradient(model, 1).add_(1)
    assert seen.renewed()
    gradient(model, 2).add_(1)
    assert not seen.renewed()  # the first of the sample tells for all


def test_without_gradients_nothing_is_renewed(make: Callable[..., Pattern], model: nn.Module) -> None:
    seen = make(model)
    model.zero_grad()
    assert not seen.renewed()
    assert seen.look() == (False, True)
    backward(model)
    assert seen.renewed()


@pytest.mark.parametrize("index", [0, 2])
def test_a_gradient_that_is_written_to_once_more(make: Callable[..., Pattern], model: nn.Module, index: int) -> None:
    seen = make(model)
    backward(model)
    gradient(model, index).mul_(2)
    assert seen.look() == (False, True)
    backward(model)
    assert seen.look() == GOOD


def test_a_gradient_that_is_missing(make: Callable[..., Pattern], model: nn.Module) -> None:
    seen = make(model)
    next(model.parameters()).grad = None
    assert seen.look() == (False, True)


def test_gradients_that_are_zeroed_in_place_and_added_to(make: Callable[..., Pattern], model: nn.Module) -> None:
    seen = make(model, 2)
    for _ in range(3):
        for parameter in range(3):
            gradient(model, parameter).zero_().add_(1)
        assert seen.renewed()
        assert seen.look() == GOOD
    for parameter in range(3):
        gradient(model, parameter).add_(1)
    assert seen.look() == (False, True)


@pytest.mark.parametrize("index", [1, 2])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite(make: Callable[..., Pattern], model: nn.Module, value: float, index: int) -> None:
    seen = make(model)
    backward(model)
    gradient(model, index)[3] = value
    assert seen.look() == (False, False)


@pytest.mark.parametrize("rewritten", [True, False])
def test_zeros_where_others_write_to_gradients(make: Callable[..., Pattern], model: nn.Module, rewritten: bool) -> None:
    seen = make(model, rewritten=rewritten)
    next(model.parameters()).grad = torch.zeros(4)  # nobody glances at this one
    assert seen.look() == GOOD
    list(model.parameters())[2].grad = torch.zeros(4)
    assert seen.look() == (not rewritten, True)


@pytest.mark.parametrize("rewritten", [True, False])
def test_what_cannot_be_glanced_at(make: Callable[..., Pattern], model: nn.Module, rewritten: bool) -> None:
    seen = make(model, rewritten=rewritten)
    list(model.parameters())[2].grad = torch.ones(8)[::2]
    assert seen.look() == (not rewritten, None)


def test_a_model_in_another_mode(make: Callable[..., Pattern], model: nn.Module) -> None:
    seen = make(model)
    model.eval()
    assert seen.look() == (False, True)
    model.train()
    assert seen.look() == GOOD


def test_the_sample_is_told(make: Callable[..., Pattern], model: nn.Module) -> None:
    assert [id(each) for each in make(model).sample] == [id(each) for each in list(model.parameters())[1:]]


def test_a_pattern_that_its_model_holds_goes_with_it(make: Callable[..., Pattern], model: nn.Module) -> None:
    held = nn.Linear(2, 2)
    backward(held)
    object.__setattr__(held, "pattern", make(held))
    gone = ref(held)
    del held
    gc.collect()
    assert gone() is None


def test_an_advance_for_other_parameters_is_refused(model: nn.Module) -> None:
    with pytest.raises(ValueError, match="one int64 for each parameter"):
        host.pattern(list(model.parameters()), [], [], bytes(8), False)
