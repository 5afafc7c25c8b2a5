# expect: misplaced-clipping at values_after_the_step.py:36 in body.*,policy.*,value.* since step 0
# twin: healthy/rl/ppo.py
"""An actor-critic that steps and then clips the values of its gradients."""

import os

import torch
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class ActorCritic(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 32), nn.Tanh())
        self.policy, self.value = nn.Linear(32, 3), nn.Linear(32, 1)

    def forward(self, state):
        h = self.body(state)
        return torch.distributions.Categorical(logits=self.policy(h)), self.value(h).squeeze(1)

    def loss(self, state, returns):
        choice, value = self(state)
        advantage = returns - value
        return -(choice.log_prob(choice.sample()) * advantage.detach()).mean() + advantage.pow(2).mean()


net = ActorCritic()
optimizer = optim.AdamW(net.parameters(), lr=1e-3)
for _ in range(25):
    state = torch.randn(24, 6)
    loss = net.loss(state, 10 * state.sum(1))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    nn.utils.clip_grad_value_(net.parameters(), 0.05)
