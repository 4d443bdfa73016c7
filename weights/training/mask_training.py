"""Train the mask VQ-VAE: shapes of the wide generator, each in its own box.

Squared error and a commitment; the codebook follows the encoder by moving averages,
and words that nobody uses are moved onto the encoder's outputs at the start. A share
of the code words is exchanged for the next best, so that near words draw alike.
"""

import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from .painting import mask_in_box
from .scenes import WIDE, draw_ground, draw_things
from .shapes import NUMBER
from .vqvae import CODES, VQVAE, mask_overlap

MASKS, FRESH, BATCH = 12_000, 1_000, 48
COMMITMENT, KEEP, RATE = 0.25, 0.98, 1e-3
EXCHANGED = 0.1  # share of code words replaced by the next best in training
REVIVING = 400  # steps during which unused words are moved


def draw_masks(count: int, seed: int) -> Tensor:
    """Draw masks of ±1 from the wide generator: (count, 64, 64)."""
    rng, masks = np.random.default_rng(seed), []
    while len(masks) < count:
        ground = draw_ground(rng, WIDE)
        things = draw_things(rng, WIDE, ground)
        masks += [mask_in_box(t, ground) for t in things if t.kind != NUMBER]
    return torch.from_numpy(np.stack(masks[:count])).float() * 2 - 1


class Codebook:
    """The moving averages behind the code words."""

    def __init__(self, vae: VQVAE, first: Tensor) -> None:
        vectors = first.flatten(0, 1)
        chosen = torch.randperm(len(vectors))[:CODES]
        vae.codebook.copy_(vectors[chosen])
        self.words = vae.codebook
        self.count, self.total = torch.ones(CODES), vae.codebook.clone()

    def follow(self, vectors: Tensor, codes: Tensor, *, revive: bool) -> None:
        """Move each word towards the mean of the vectors that it stands for."""
        used = F.one_hot(codes, CODES).float()  # (n, 128)
        self.count.lerp_(used.sum(0), 1 - KEEP)
        self.total.lerp_(used.T @ vectors, 1 - KEEP)
        if revive and len(idle := (self.count < 0.3).nonzero().flatten()):
            chosen = torch.randint(len(vectors), (len(idle),))
            self.count[idle], self.total[idle] = 1.0, vectors[chosen]
        self.words.copy_(self.total / self.count.clamp(1e-3)[:, None])


def train_masks(file: Path, seconds: float, seed: int) -> None:
    """Train for some time, the rate falling to 0 over the second half, and save."""
    torch.manual_seed(seed)
    masks, fresh = draw_masks(MASKS, seed), draw_masks(FRESH, seed + 1)
    vae = VQVAE()
    optimiser = torch.optim.Adam(vae.parameters(), RATE)
    with torch.no_grad():
        book = Codebook(vae, vae.encode(masks[:BATCH]))
    start, step, share = time.monotonic(), 0, 0.0
    while share < 1:
        batch = masks[torch.randint(len(masks), (BATCH,))]
        batch = torch.where(torch.rand(len(batch), 1, 1) < 0.5, batch, batch.flip(2))
        value = learn(vae, book, batch, revive=step < REVIVING)
        optimiser.param_groups[0]["lr"] = RATE * min(1.0, 2 - 2 * share)
        optimiser.step()
        optimiser.zero_grad()
        step, share = step + 1, (time.monotonic() - start) / seconds
        if step % 250 == 0 or share >= 1:
            told = f"masks  step {step}  loss {value:.4f}  {measured(vae, fresh)}"
            print(told, flush=True)
    torch.save(vae.state_dict(), file)


def learn(vae: VQVAE, book: Codebook, batch: Tensor, *, revive: bool) -> float:
    """Compute the gradients of one step and let the codebook follow."""
    vectors = vae.encode(batch)
    with torch.no_grad():
        best = vae.distances(vectors).topk(2, largest=False).indices
        other = (torch.rand(best.shape[:2]) < EXCHANGED).long()
        codes = best.gather(-1, other[..., None])[..., 0]
        words = vae.codebook[codes]
    with torch.autocast("cpu", torch.bfloat16):
        drawn = vae.decode(vectors + (words - vectors).detach()).float()
    nearest = vae.codebook[best[..., 0]]
    loss = F.mse_loss(drawn, batch) + COMMITMENT * F.mse_loss(vectors, nearest)
    loss.backward()  # type: ignore[no-untyped-call]
    book.follow(vectors.detach().flatten(0, 1), best[..., 0].flatten(), revive=revive)
    return float(loss.detach())


@torch.no_grad()
def measured(vae: VQVAE, fresh: Tensor) -> str:
    """Tell unseen masks' mean IoU and how many code words they need."""
    codes = vae.codes(fresh)
    share = mask_overlap(vae.drawn(codes), fresh)
    used = len(codes.unique())
    return f"IoU {share.mean():.4f}, least {share.min():.3f}, {used} words"
