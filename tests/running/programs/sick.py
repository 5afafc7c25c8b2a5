"""A classifier whose encoder never learns: what it makes is detached."""

import torch
from torch import Tensor, nn


class Classifier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(8, 16), nn.ReLU())
        self.head = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        code = self.encoder(x).detach()
        return self.head(code)


torch.manual_seed(0)
model = Classifier()
optimizer = torch.optim.Adam(model.parameters())
for _ in range(12):
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(torch.randn(16, 8)), torch.randint(3, (16,)))
    loss.backward()
    optimizer.step()
print(f"loss {loss.item():.4f}")
