# expect: nothing
"""A trainer with hooks: clipping after the backward, clearing after the step, logging of norms."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Callback:
    def on_after_backward(self, trainer): ...

    def on_step_end(self, trainer): ...


class Clip(Callback):
    def on_after_backward(self, trainer):
        nn.utils.clip_grad_value_(trainer.model.parameters(), 0.1)


class Clear(Callback):
    def on_step_end(self, trainer):
        trainer.optimizer.zero_grad()


class Norms(Callback):
    def __init__(self):
        self.norms = []

    def on_after_backward(self, trainer):
        self.norms.append(max(p.grad.norm().item() for p in trainer.model.parameters()))


class Trainer:
    def __init__(self, model, callbacks):
        self.model, self.callbacks = model, callbacks
        self.optimizer = optim.RMSprop(model.parameters(), lr=1e-3)

    def call(self, hook):
        for callback in self.callbacks:
            getattr(callback, hook)(self)

    def fit(self, loader):
        for x, y in loader:
            F.huber_loss(self.model(x), y).backward()
            self.call("on_after_backward")
            self.optimizer.step()
            self.call("on_step_end")


net = nn.Sequential(nn.Linear(6, 24), nn.SiLU(), nn.Linear(24, 1))
batches = [(x := torch.randn(16, 6), x.sin().sum(1, keepdim=True)) for _ in range(25)]
Trainer(net, [Norms(), Clip(), Clear()]).fit(batches)
