# expect: edited-weight at average_in_the_wrong_hook.py:27 since step 0
# twin: healthy/optimizers/lookahead.py
"""A callback draws the weights toward their average, and its hook runs between the loss and the backward."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Callback:
    def on_loss(self, trainer): ...

    def on_step_end(self, trainer): ...


class PullToAverage(Callback):
    def __init__(self, model, decay=0.9, pull=0.1):
        self.average = [p.detach().clone() for p in model.parameters()]
        self.decay, self.pull = decay, pull

    def on_loss(self, trainer):
        for p, slow in zip(trainer.model.parameters(), self.average):
            p.data.lerp_(slow, self.pull)

    def on_step_end(self, trainer):
        for p, slow in zip(trainer.model.parameters(), self.average):
            slow.lerp_(p.detach(), 1 - self.decay)


class Trainer:
    def __init__(self, model, callbacks):
        self.model, self.callbacks = model, callbacks
        self.optimizer = optim.Adam(model.parameters(), lr=1e-3)

    def fit(self, batches):
        for x, y in batches:
            self.loss = F.huber_loss(self.model(x), y)
            for callback in self.callbacks:
                callback.on_loss(self)
            self.optimizer.zero_grad()
            self.loss.backward()
            self.optimizer.step()
            for callback in self.callbacks:
                callback.on_step_end(self)


series = torch.randn(25, 16, 1, 20).cumsum(-1)
model = nn.Sequential(nn.Conv1d(1, 8, 5), nn.GELU(), nn.Flatten(), nn.Linear(8 * 15, 1))
Trainer(model, [PullToAverage(model)]).fit([(x[..., :-1], x[..., -1]) for x in series])
