# expect: cleared-gradient at trainer_hooks.py:40 since step 0
# twin: healthy/loops/trainer_hooks.py
"""A trainer with hooks: on_after_backward is where somebody put the clearing."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Callback:
    def on_after_backward(self, trainer): ...

    def on_step_end(self, trainer): ...


class ClearGradients(Callback):
    def on_after_backward(self, trainer):
        for group in trainer.optimizer.param_groups:
            for p in group["params"]:
                p.grad = None


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
batches = [(x := torch.randn(16, 6), x.sin().sum(1, keepdim=True)) for _ in range(15)]
Trainer(net, [ClearGradients()]).fit(batches)
