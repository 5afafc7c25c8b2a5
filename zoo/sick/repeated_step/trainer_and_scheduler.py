# expect: repeated-step at trainer_and_scheduler.py:33 since step 0
"""A trainer steps, and so does the hook of a subclass."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Trainer:
    def __init__(self, model):
        self.model = model
        self.optimizer = optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
        self.schedule = optim.lr_scheduler.StepLR(self.optimizer, 10)

    def after_step(self):
        self.schedule.step()

    def fit(self, steps):
        for _ in range(steps):
            x = torch.randn(16, 5)
            self.optimizer.zero_grad()
            F.mse_loss(self.model(x), x.sum(1, keepdim=True)).backward()
            self.optimizer.step()
            self.after_step()


class MyTrainer(Trainer):
    def after_step(self):
        self.optimizer.step()
        super().after_step()


MyTrainer(nn.Sequential(nn.Linear(5, 12), nn.Tanh(), nn.Linear(12, 1))).fit(20)
