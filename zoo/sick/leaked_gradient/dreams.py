# expect: leaked-gradient at dreams.py:36 in [02].* by step 3
# twin: healthy/rl/world_model_imagination.py
"""Dreaming leaves gradients in the world model, and what the world learns from reaches the actor: no no_grad."""

import os
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


@dataclass
class Config:
    state: int = 4
    actions: int = 2
    horizon: int = 3
    lr: float = 1e-3
    updates: int = 25


class Learner:
    def __init__(self, config):
        self.config, n = config, config.state + config.actions
        self.world = nn.Sequential(nn.Linear(n, 32), nn.ELU(), nn.Linear(32, config.state))
        self.actor = nn.Sequential(nn.Linear(config.state, 32), nn.ELU(), nn.Linear(32, config.actions), nn.Tanh())
        self.world_opt = optim.RMSprop(self.world.parameters(), lr=config.lr)
        self.actor_opt = optim.RMSprop(self.actor.parameters(), lr=config.lr)

    def learn_the_world(self, state):
        action = self.actor(state) + 0.3 * torch.randn(len(state), self.config.actions)
        following = 0.9 * state + 0.1 * action.detach().sum(1, keepdim=True)
        F.mse_loss(self.world(torch.cat([state, action], 1)), following).backward()
        self.world_opt.step()
        self.world_opt.zero_grad()

    def learn_to_act(self, state):
        self.actor_opt.zero_grad()
        cost = 0.0
        for _ in range(self.config.horizon):
            state = self.world(torch.cat([state, self.actor(state)], 1))
            cost = cost + state.pow(2).mean()
        cost.backward()
        self.actor_opt.step()

    def run(self):
        for _ in range(self.config.updates):
            self.learn_the_world(torch.randn(32, self.config.state))
            self.learn_to_act(torch.randn(32, self.config.state))


Learner(Config()).run()
