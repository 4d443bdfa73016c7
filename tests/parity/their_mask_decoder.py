"""The mask decoder in PyTorch's own modules, numbered as the published file is."""

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import torch
from random_mask_decoders import CODEBOOK, Sizes
from torch import nn


class Residual(nn.Module):
    """Three convolutions beside a straight line."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 1),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (n, C, height, width) to the same."""
        return x + self.net(x)


def decoder(s: Sizes) -> nn.Sequential:
    """Build the decoder: (n, row, 4, 4) -> (n, 1, 64, 64)."""
    layers = [nn.Conv2d(s.row, s.width, 1), nn.ReLU()]
    layers += [Residual(s.width), Residual(s.width)]
    for c, o in pairwise((s.width, *s.upsampled)):
        layers += [nn.ConvTranspose2d(c, o, 4, stride=2, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(s.upsampled[-1], 1, 1))


def their_masks(
    codes: np.ndarray,
    arrays: Mapping[str, np.ndarray],
    s: Sizes,
    dtype: torch.dtype = torch.float64,
) -> np.ndarray:
    """Decode (n, 16) into (n, 64, 64); the arrays' names have to be the modules'."""
    tensors = {name: torch.from_numpy(x).to(dtype) for name, x in arrays.items()}
    codebook = tensors.pop(CODEBOOK)
    net = decoder(s).to(dtype)
    net.load_state_dict({n.removeprefix("decoder."): x for n, x in tensors.items()})
    rows = codebook[torch.from_numpy(codes)]  # (n, 16, row)
    grid = rows.unflatten(1, (4, 4)).permute(0, 3, 1, 2)  # (n, row, 4, 4)
    with torch.no_grad():
        return net(grid)[:, 0].numpy()
