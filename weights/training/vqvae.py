"""The mask VQ-VAE in PyTorch: 64 × 64 pixels, sixteen code words, and back.

Decoder and codebook are the published ones' (big_vision,
`evaluators/proj/paligemma/transfers/segmentation.py`) in form and in names; the
encoder mirrors the decoder.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from .data import open_data
from .painting import MASK

CODES, WIDTH, CELLS = 128, 512, 16
CODEBOOK = "_vq_vae._embedding"


class Residual(nn.Module):
    """x + c(relu(b(relu(a(x)))))."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Add what the three convolutions make of x."""
        y: Tensor = x + self.net(x)
        return y


def halving(inputs: int, outputs: int) -> list[nn.Module]:
    """Halve the side."""
    return [nn.Conv2d(inputs, outputs, 4, stride=2, padding=1), nn.ReLU()]


def doubling(inputs: int, outputs: int) -> list[nn.Module]:
    """Double the side."""
    return [nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1), nn.ReLU()]


class VQVAE(nn.Module):
    """Encoder, codebook and decoder."""

    codebook: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            *halving(1, 16),
            *halving(16, 32),
            *halving(32, 64),
            *halving(64, 128),
            Residual(128),
            Residual(128),
            nn.Conv2d(128, WIDTH, 1),
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(WIDTH, 128, 1),
            nn.ReLU(),
            Residual(128),
            Residual(128),
            *doubling(128, 128),
            *doubling(128, 64),
            *doubling(64, 32),
            *doubling(32, 16),
            nn.Conv2d(16, 1, 1),
        )
        self.register_buffer("codebook", torch.randn(CODES, WIDTH))

    def encode(self, masks: Tensor) -> Tensor:
        """Look at masks of ±1: (n, 64, 64) -> (n, 16, 512), before the codebook."""
        with torch.autocast("cpu", torch.bfloat16):  # twice as fast
            y: Tensor = self.encoder(masks[:, None]).flatten(2).mT
        return y.float()

    def distances(self, vectors: Tensor) -> Tensor:
        """Measure squared distances to all code words: (…, 512) -> (…, 128)."""
        lengths = vectors.square().sum(-1, keepdim=True)
        products = vectors @ self.codebook.T
        return lengths - 2 * products + self.codebook.square().sum(-1)

    def codes(self, masks: Tensor) -> Tensor:
        """Name the nearest code words: (n, 64, 64) -> (n, 16)."""
        return self.distances(self.encode(masks)).argmin(-1)

    def decode(self, vectors: Tensor) -> Tensor:
        """Draw masks: (n, 16, 512) -> (n, 64, 64), inside above 0."""
        y: Tensor = self.decoder(vectors.mT.unflatten(2, (4, 4)))[:, 0]
        return y

    def drawn(self, codes: Tensor) -> Tensor:
        """Draw masks from code words: (n, 16) -> (n, 64, 64)."""
        return self.decode(self.codebook[codes])


def load_vqvae(file: Path) -> VQVAE:
    """Load what `train_masks` saved."""
    vae = VQVAE()
    vae.load_state_dict(torch.load(file))
    return vae.eval()


def export_decoder(vae: VQVAE, file: Path) -> None:
    """Write decoder and codebook as float16 under the published names."""
    arrays = {f"decoder.{name}": p for name, p in vae.decoder.state_dict().items()}
    arrays[CODEBOOK] = vae.codebook
    halves = {name: p.detach().numpy().astype(np.float16) for name, p in arrays.items()}
    with file.open("wb") as out:
        np.savez(out, **halves)  # type: ignore[arg-type]


@torch.no_grad()
def write_codes(folder: Path, vae: VQVAE) -> None:
    """Encode all masks of stored pictures, unless that is done."""
    if (folder / "encoded").exists():
        return
    store = open_data(folder, "r+")
    here = np.argwhere(store["mask"].any(-1))
    for start in range(0, len(here), 512):
        rows, places = here[start : start + 512].T
        masks = unpack(store["mask"][rows, places])
        store["codes"][rows, places] = vae.codes(masks).numpy()
    (folder / "encoded").touch()


def unpack(bits: np.ndarray) -> Tensor:
    """Turn packed bits into masks of ±1: uint8 (n, 512) -> (n, 64, 64)."""
    pixels = np.unpackbits(bits, axis=-1).reshape(-1, MASK, MASK)
    return torch.from_numpy(pixels).float() * 2 - 1


def mask_overlap(a: Tensor, b: Tensor) -> Tensor:
    """Measure intersection over union of masks, inside above 0: (n, …) -> (n,)."""
    both = ((a > 0) & (b > 0)).flatten(1).sum(1)
    either = ((a > 0) | (b > 0)).flatten(1).sum(1)
    return both / either.clamp(1)
