"""Location tokens as a continuum: neighbouring bins get neighbouring codes.

A bin's code holds sines and cosines of 32 growing frequencies with shrinking
amplitudes, so that the product of two codes is a bell over their distance. It is the
start of the bins' embeddings and a target of the vision tower's box head; the targets
of the decoder are bells, too.
"""

import math

import torch
from torch import Tensor

from .truth import BINS

WAVES, PERIOD = 32, 2400.0
CODE = 2 * WAVES
BELL = 8.0  # standard deviation of a soft target, in bins


def codes(bins: Tensor) -> Tensor:
    """Encode positions in bins, of any shape: (…,) -> (…, 64) of norm √32."""
    k = torch.arange(1, WAVES + 1)
    amplitude = torch.exp(-((k / 14) ** 2) / 2)
    amplitude = amplitude * math.sqrt(WAVES) / amplitude.norm()
    angles = bins[..., None] * (2 * math.pi * k / PERIOD)
    return torch.cat([amplitude * angles.sin(), amplitude * angles.cos()], -1)


def location_rows(width: int) -> Tensor:
    """Start the location tokens' embeddings: (1024, width)."""
    rows = torch.zeros(BINS, width)
    rows[:, :CODE] = codes(torch.arange(BINS)) * (0.85 / math.sqrt(WAVES))
    turned, _ = torch.linalg.qr(torch.randn(width, width))
    common = torch.randn(width)
    return rows @ turned + 0.4 * common / common.norm()


def soft_targets() -> Tensor:
    """Tabulate the bell around each bin: (1024, 1024), rows summing to 1."""
    bins = torch.arange(BINS)
    return torch.softmax(-((bins[:, None] - bins) ** 2) / (2 * BELL**2), dim=-1)
