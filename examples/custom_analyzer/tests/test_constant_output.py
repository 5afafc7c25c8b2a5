import torch
from constant_output import ConstantOutput
from torch import nn

import gradscope
from gradscope.testing import recording


def test_it_fires_on_recordings_made_by_hand() -> None:
    made = recording(activation={"head": 0.0, "body": 1.0}, steps=5)
    assert [found.sites for found in ConstantOutput().analyze(made)] == [("head",)]
    assert [found.step for found in ConstantOutput(steps=2).analyze(made)] == [3]


def test_it_is_silent_on_a_head_that_begins_at_zero() -> None:
    assert not list(ConstantOutput().analyze(recording(activation={"head": [0.0, 0.1, 0.2, 0.2, 0.3]}, steps=5)))


def test_it_is_silent_on_a_single_number() -> None:
    assert not list(ConstantOutput().analyze(recording(activation={"loss": 0.0}, count=1, steps=5)))


def watched(last: nn.Module) -> gradscope.Scope:
    model = nn.Sequential(nn.Linear(4, 1), last)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with gradscope.watch(model) as scope:
        for _ in range(8):
            optimizer.zero_grad()
            nn.functional.binary_cross_entropy(model(torch.randn(16, 4)), torch.rand(16, 1)).backward()
            optimizer.step()
    return scope


def test_gradscope_finds_it_and_runs_it() -> None:
    assert "constant-output" in [finding.analyzer for finding in watched(nn.Softmax(dim=1)).findings]
    assert watched(nn.Sigmoid()).findings == ()
