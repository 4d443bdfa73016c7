"""Segment tokens as a cloud: near code words get near embeddings and share targets.

Nearness is the distance in the mask VQ-VAE's codebook: different words often mean
nearly the same mask, and only the mask counts.
"""

import math

import torch
from torch import Tensor

NEXT_BEST = 0.25  # what the nearest other word gets, against the true one's 1
WIDER = 9.0  # the embeddings' bell against the targets', in squared distance


def bells(codebook: Tensor) -> Tensor:
    """Tabulate a Gaussian over the distance of each two words: (128, 512) -> (128, 128).

    A typical word's nearest neighbour has a quarter of its own share.
    """
    squared = torch.cdist(codebook, codebook).square()
    away = squared + torch.diag(torch.full((len(squared),), torch.inf))
    scale = away.min(1).values.median() / math.log(1 / NEXT_BEST)
    return torch.exp(-squared / scale)


def shared_targets(codebook: Tensor) -> Tensor:
    """Tabulate what each true word's target gives to all words: rows sum to 1."""
    table = bells(codebook)
    return table / table.sum(-1, keepdim=True)


def segment_rows(codebook: Tensor, width: int) -> Tensor:
    """Start the segment tokens' embeddings: (128, 512) -> (128, width).

    The product of two rows is a wide bell over their words' distance; a random
    orthogonal matrix turns them, and one vector is common to all.
    """
    values, vectors = torch.linalg.eigh(bells(codebook) ** (1 / WIDER))
    rows = (vectors * values.clamp(0).sqrt()).flip(1)[:, :width]  # largest first
    turned, _ = torch.linalg.qr(torch.randn(width, width))
    common = torch.randn(width)
    return 0.85 * rows @ turned[: rows.shape[1]] + 0.4 * common / common.norm()
