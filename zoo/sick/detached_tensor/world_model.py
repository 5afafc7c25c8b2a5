# expect: detached-tensor at world_model.py:22 in encoder.* since step 0
# twin: healthy/rl/dqn.py
"""A latent dynamics model: the encoding of the present is detached, as only that of the future should be."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class WorldModel(nn.Module):
    def __init__(self, obs=6, actions=2, latent=10):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(obs, 32), nn.ELU(), nn.Linear(32, latent))
        self.dynamics = nn.GRUCell(actions, latent)
        self.reward = nn.Linear(latent, 1)

    def rollout(self, obs, actions):
        state = self.encoder(obs).detach()
        rewards = []
        for t in range(actions.size(1)):
            state = self.dynamics(actions[:, t], state)
            rewards.append(self.reward(state))
        return torch.cat(rewards, dim=1)


model = WorldModel()
optimizer = optim.Adam(model.parameters(), lr=3e-4)
for update in range(15):
    obs, actions = torch.randn(16, 6), torch.randn(16, 5, 2)
    target = obs.sum(1, keepdim=True) + actions.sum(2).cumsum(1)
    optimizer.zero_grad()
    loss = F.mse_loss(model.rollout(obs, actions), target)
    loss.backward()
    optimizer.step()
