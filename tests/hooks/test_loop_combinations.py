"""Every combination of what loops do with gradients: silent when they are zeroed once per step, and only then."""

from itertools import product
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

import gradscope

STEPS = 5
ZEROING = ["before forward", "after forward", "after step", "never"]
OPTIMIZERS = {
    "sgd": lambda net: torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9),
    "adam foreach": lambda net: torch.optim.Adam(net.parameters(), lr=1e-3, foreach=True),
    "adamw fused": lambda net: torch.optim.AdamW(net.parameters(), lr=1e-3, fused=True),
}


class Case(NamedTuple):
    """One way to write the loop; `every` is how often it is observed."""

    zeroing: str
    set_to_none: bool
    batches: int
    clip: bool
    scaled: bool
    optimizer: str
    every: int


FLAGS = (False, True)
CASES = [Case(*options) for options in product(ZEROING, FLAGS, (1, 3), FLAGS, FLAGS, OPTIMIZERS, (1, 3))]


def trained(case: Case) -> gradscope.Scope:
    torch.manual_seed(0)
    net = nn.Sequential(*(layer for _ in range(4) for layer in (nn.Linear(6, 6), nn.Tanh())))
    optimizer = OPTIMIZERS[case.optimizer](net)
    scaler = torch.amp.GradScaler("cpu", init_scale=256.0, enabled=case.scaled)

    def zero(when: str) -> None:
        if when == case.zeroing:
            optimizer.zero_grad(set_to_none=case.set_to_none)

    with gradscope.watch(net, every=case.every) as scope:
        for _ in range(STEPS):
            zero("before forward")
            for batch in range(case.batches):
                loss: Tensor = (net(torch.randn(8, 6)) - 0.5).square().mean() / case.batches
                if batch == 0:
                    zero("after forward")
                scaler.scale(loss).backward()
            if case.clip:
                scaler.unscale_(optimizer)
                nn.utils.clip_grad_norm_(net.parameters(), 1e-3)
            scaler.step(optimizer)
            scaler.update()
            zero("after step")
    return scope


@pytest.mark.parametrize("zeroing", ZEROING)
def test_only_loops_that_never_zero_are_named(zeroing: str) -> None:
    expected = ["unzeroed-gradient"] if zeroing == "never" else []
    wrong = []
    for case in CASES:
        if case.zeroing == zeroing:
            scope = trained(case)
            named = [finding.analyzer for finding in scope.findings]
            if named != expected or scope.recording.lost or scope.report().steps != STEPS:
                wrong.append((case, named, scope.recording.lost, scope.report().steps))
    assert not wrong, "\n".join(map(str, wrong))
