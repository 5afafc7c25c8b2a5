# expect: nothing
"""Digits by a small convolutional network."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 3, padding=1)
        self.conv2 = nn.Conv2d(8, 16, 3, padding=1)
        self.dropout = nn.Dropout(0.25)
        self.fc = nn.Linear(16 * 9, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        return F.log_softmax(self.fc(self.dropout(x.flatten(1))), dim=1)


labels = torch.randint(10, (320,))
images = torch.randn(10, 1, 12, 12)[labels] + 0.3 * torch.randn(320, 1, 12, 12)
loader = DataLoader(TensorDataset(images, labels), batch_size=32, shuffle=True)
net = Net()
opt = optim.Adadelta(net.parameters(), lr=1.0)
for epoch in range(3):
    for data, target in loader:
        opt.zero_grad()
        F.nll_loss(net(data), target).backward()
        opt.step()
