# expect: unzeroed-gradient at image_classifier.py:39 since step 1
# twin: healthy/vision/digits.py
"""A small convolutional classifier. zero_grad is called once, before the loop."""

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
        self.fc = nn.Linear(16 * 9, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        return self.fc(x.flatten(1))


labels = torch.randint(10, (320,))
images = torch.randn(10, 1, 12, 12)[labels] + 0.3 * torch.randn(320, 1, 12, 12)
loader = DataLoader(TensorDataset(images, labels), batch_size=32, shuffle=True)

net = Net()
opt = optim.Adam(net.parameters(), lr=1e-3)
opt.zero_grad()
for epoch in range(2):
    for data, target in loader:
        loss = F.cross_entropy(net(data), target)
        loss.backward()
        opt.step()
    print(epoch, loss.item())
