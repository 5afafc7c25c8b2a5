"""A siamese network: the same trunk sees both images, and a head compares what it made of them."""

import torch
from torch import Tensor, nn, optim

torch.manual_seed(3)


class SiameseNetwork(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Conv2d(8, 16, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.AdaptiveAvgPool2d(2),
        )
        self.fc = nn.Sequential(nn.Linear(128, 32), nn.ReLU(inplace=True), nn.Linear(32, 1))
        self.sigmoid = nn.Sigmoid()
        self.trunk.apply(self.init_weights)
        self.fc.apply(self.init_weights)

    def init_weights(self, m: nn.Module) -> None:
        if isinstance(m, nn.Linear):
            torch.nn.init.xavier_uniform_(m.weight)
            m.bias.data.fill_(0.01)

    def forward_once(self, x: Tensor) -> Tensor:
        output = self.trunk(x)
        return output.view(output.size()[0], -1)

    def forward(self, input1: Tensor, input2: Tensor) -> Tensor:
        output = torch.cat((self.forward_once(input1), self.forward_once(input2)), 1)
        return self.sigmoid(self.fc(output))


model = SiameseNetwork()
optimizer = optim.Adadelta(model.parameters(), lr=1.0)
criterion = nn.BCELoss()
prototypes = torch.randn(5, 1, 12, 12)

for epoch in range(3):
    model.train()
    for batch_idx in range(12):
        first = torch.randint(5, (32,))
        same = torch.rand(32) < 0.5
        second = torch.where(same, first, (first + 1) % 5)
        images_1 = prototypes[first] + 0.2 * torch.randn(32, 1, 12, 12)
        images_2 = prototypes[second] + 0.2 * torch.randn(32, 1, 12, 12)
        targets = same.float()
        optimizer.zero_grad()
        outputs = model(images_1, images_2).squeeze()
        loss = criterion(outputs, targets)
        loss.backward()
        optimizer.step()
        if batch_idx % 6 == 0:
            print(f"Train Epoch: {epoch} [{batch_idx}]\tLoss: {loss.item():.6f}")
