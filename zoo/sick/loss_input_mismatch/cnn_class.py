# expect: loss-input-mismatch at cnn_class.py:32 since step 0
"""F.softmax in the last line of forward, with SGD."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.pool = nn.MaxPool2d(2)
        self.fc = nn.Linear(8 * 49, 6)

    def forward(self, x):
        x = self.pool(F.relu(self.conv(x)))
        x = self.fc(torch.flatten(x, 1))
        return F.softmax(x, dim=-1)


net = Net()
sgd = optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
for i in range(12):
    images, labels = torch.randn(16, 3, 16, 16), torch.randint(6, (16,))
    sgd.zero_grad()
    outputs = net(images)
    loss = F.cross_entropy(outputs, labels)
    loss.backward()
    sgd.step()
