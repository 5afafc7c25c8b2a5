"""Super-resolution by an efficient sub-pixel network, which is saved at the end."""

import math
import tempfile
from pathlib import Path

import torch
from torch import Tensor, nn, optim
from torch.nn import init

torch.manual_seed(123)


class Net(nn.Module):
    def __init__(self, upscale_factor: int) -> None:
        super().__init__()
        self.relu = nn.ReLU()
        self.conv1 = nn.Conv2d(1, 16, (5, 5), (1, 1), (2, 2))
        self.conv2 = nn.Conv2d(16, 16, (3, 3), (1, 1), (1, 1))
        self.conv3 = nn.Conv2d(16, 8, (3, 3), (1, 1), (1, 1))
        self.conv4 = nn.Conv2d(8, upscale_factor**2, (3, 3), (1, 1), (1, 1))
        self.pixel_shuffle = nn.PixelShuffle(upscale_factor)
        init.orthogonal_(self.conv1.weight, init.calculate_gain("relu"))
        init.orthogonal_(self.conv2.weight, init.calculate_gain("relu"))
        init.orthogonal_(self.conv3.weight, init.calculate_gain("relu"))
        init.orthogonal_(self.conv4.weight)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.conv1(x))
        x = self.relu(self.conv2(x))
        x = self.relu(self.conv3(x))
        return self.pixel_shuffle(self.conv4(x))


def images(count: int) -> Tensor:
    rough = torch.rand(count, 1, 4, 4)
    return nn.functional.interpolate(rough, scale_factor=4, mode="bicubic", align_corners=False)


model = Net(upscale_factor=2)
criterion = nn.MSELoss()
optimizer = optim.Adam(model.parameters(), lr=0.003)
held_out = images(16)
for epoch in range(1, 4):
    epoch_loss = 0.0
    for _ in range(12):
        target = images(8)
        small = nn.functional.avg_pool2d(target, 2)
        optimizer.zero_grad()
        loss = criterion(model(small), target)
        epoch_loss += loss.item()
        loss.backward()
        optimizer.step()
    print(f"===> Epoch {epoch} Complete: Avg. Loss: {epoch_loss / 12:.4f}")
    with torch.no_grad():
        mse = criterion(model(nn.functional.avg_pool2d(held_out, 2)), held_out)
    print(f"===> Avg. PSNR: {10 * math.log10(1 / mse.item()):.4f} dB")
with tempfile.TemporaryDirectory() as folder:
    file = Path(folder) / "model.pth"
    torch.save(model, file)
    again = torch.load(file, weights_only=False)
    print(f"saved {sum(p.numel() for p in again.parameters())} parameters of {type(again).__name__}")
