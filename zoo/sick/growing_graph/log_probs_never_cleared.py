# expect: growing-graph at log_probs_never_cleared.py:30 since step 1
# twin: healthy/rl/reinforce.py
"""REINFORCE: the list of log-probabilities is never emptied, and retain_graph was the advice of the error message."""

import os

import torch
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Agent:
    def __init__(self, lr=1e-2):
        self.policy = nn.Linear(4, 2)
        self.optimizer = optim.Adam(self.policy.parameters(), lr=lr)
        self.log_probs, self.rewards = [], []

    def act(self, state):
        choice = torch.distributions.Categorical(logits=self.policy(state))
        action = choice.sample()
        self.log_probs.append(choice.log_prob(action))
        return action

    def learn(self):
        rewards = torch.tensor(self.rewards)
        advantage = (rewards - rewards.mean()) / (rewards.std() + 1e-6)
        loss = -(torch.stack(self.log_probs) * advantage).mean()
        self.optimizer.zero_grad()
        loss.backward(retain_graph=True)
        self.optimizer.step()


agent = Agent()
for episode in range(20):
    state = torch.randn(4)
    for _ in range(6):
        action = agent.act(state)
        agent.rewards.append(float(state[action]))
        state = 0.9 * state + 0.3 * torch.randn(4)
    agent.learn()
