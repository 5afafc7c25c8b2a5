"""Who used a gradient last, noted when it happens and written down when somebody asks."""

import numpy as np
import torch
from torch import nn

from gradscope.hooks.uses import MANY, Uses

FIRST, SECOND = 11, 22


def uses_of(parameters: int) -> Uses:
    uses = Uses()
    uses.forget(parameters)
    return uses


def test_the_last_use_counts() -> None:
    uses, both, one = uses_of(2), np.array([0, 1]), np.array([1])
    uses.note(both, FIRST, None)
    uses.note(one, SECOND, None)
    uses.note(both, FIRST, None)
    uses.begins(SECOND)
    assert uses.by_others(both, SECOND).tolist() == [0, 1]
    assert uses.by_others(both, FIRST).tolist() == []


def test_what_an_optimizer_does_not_use_any_more_is_still_its_own() -> None:
    uses, both, one = uses_of(2), np.array([0, 1]), np.array([1])
    uses.note(both, FIRST, None)
    uses.note(one, FIRST, None)
    uses.begins(SECOND)
    assert uses.by_others(both, SECOND).tolist() == [0, 1]


def test_an_optimizer_that_uses_its_gradient_again() -> None:
    parameter = nn.Parameter(torch.ones(3))
    parameter.grad = torch.ones(3)
    uses, own = uses_of(1), np.array([0])
    uses.note(own, FIRST, (0, parameter.grad))
    assert uses.by_itself(own, FIRST, [parameter]).tolist() == [0]
    parameter.grad.add_(1)
    assert uses.by_itself(own, FIRST, [parameter]).tolist() == []


def test_a_program_that_makes_optimizers_all_the_time() -> None:
    uses, own = uses_of(1), np.array([0])
    for owner in range(1, 3 * MANY):
        uses.note(own, owner, None)
    assert len(uses._latest) <= MANY
    uses.begins(3 * MANY)
    assert uses.by_others(own, 3 * MANY).tolist() == [0]
    assert uses.by_others(own, 3 * MANY - 1).tolist() == []


def test_other_parameters() -> None:
    uses, own = uses_of(1), np.array([0])
    uses.note(own, FIRST, None)
    uses.forget(2)
    uses.begins(SECOND)
    assert uses.by_others(np.array([0, 1]), SECOND).tolist() == []
