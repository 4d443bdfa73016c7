"""Muon for the matrices inside layers, Adam for everything else, on flat vectors.

All parameters are views of one vector, and so are their gradients: averaging between
processes, clipping, the moving average and a checkpoint are one operation each.
"""

import itertools

import torch
import torch.distributed as dist
from torch import Tensor, nn

MOMENTUM, BETAS, DECAY = 0.95, (0.9, 0.98), 0.05
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)


def inside_layers(name: str, parameter: nn.Parameter) -> bool:
    """Tell Muon's parameters from Adam's."""
    return ".layers." in name and parameter.ndim == 2


def orthogonalise(matrices: Tensor) -> Tensor:
    """Bring all singular values near 1: (n, rows, columns), five Newton-Schulz steps.

    References
    ----------
    Jordan et al. (2024), https://kellerjordan.github.io/posts/muon/
    """
    a, b, c = NEWTON_SCHULZ
    tall = matrices.shape[1] > matrices.shape[2]
    x = (matrices.mT if tall else matrices).bfloat16()
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(5):
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    return (x.mT if tall else x).float()


class Optimiser:
    """Holds a module's parameters, flat, and moves them."""

    def __init__(self, module: nn.Module) -> None:
        named = list(module.named_parameters())
        matrices = [p for name, p in named if inside_layers(name, p)]
        matrices.sort(key=lambda p: tuple(p.shape))
        others = [p for name, p in named if not inside_layers(name, p)]
        self.values = torch.cat([p.data.flatten() for p in matrices + others])
        self.gradients = torch.zeros_like(self.values)
        start = 0
        for p in matrices + others:
            span = slice(start, start + p.numel())
            p.data = self.values[span].view_as(p)
            p.grad = self.gradients[span].view_as(p)
            start += p.numel()
        self.average = self.values.clone()
        self.split = sum(p.numel() for p in matrices)
        groups = itertools.groupby(matrices, key=lambda p: tuple(p.shape))
        self.shapes = [(len(list(group)), *shape) for shape, group in groups]
        self.momentum = torch.zeros(self.split)
        self.first, self.second = torch.zeros(2, len(self.values) - self.split)
        self.steps = 0

    def share_gradients(self, clock: float) -> float:
        """Average the gradients over all processes; return the first one's clock."""
        if not dist.is_initialized():
            return clock
        told = clock if dist.get_rank() == 0 else 0.0
        message = torch.cat([self.gradients, torch.tensor([told])])
        dist.all_reduce(message)
        self.gradients.copy_(message[:-1]).div_(dist.get_world_size())
        return float(message[-1])

    @torch.no_grad()
    def step(self, muon_rate: float, adam_rate: float) -> None:
        """Move all parameters, then their average; forget the gradients."""
        self.steps += 1
        norm = float(self.gradients.norm())
        self.gradients.mul_(min(1.0, 1.0 / (norm + 1e-6)))
        self.step_muon(muon_rate)
        self.step_adam(adam_rate)
        keep = min(0.998, 1 - 10 / (self.steps + 20))
        self.average.lerp_(self.values, 1 - keep)
        self.gradients.zero_()

    def step_muon(self, rate: float) -> None:
        """Step by the orthogonalised momentum, matrices of one shape together."""
        gradient, values = self.gradients[: self.split], self.values[: self.split]
        self.momentum.lerp_(gradient, 1 - MOMENTUM)
        ahead = gradient.lerp(self.momentum, MOMENTUM)
        values.mul_(1 - rate * DECAY)
        start = 0
        for count, rows, columns in self.shapes:
            span = slice(start, start + count * rows * columns)
            update = orthogonalise(ahead[span].view(count, rows, columns))
            scale = max(1, rows / columns) ** 0.5
            values[span].add_(update.flatten(), alpha=-rate * scale)
            start = span.stop

    def step_adam(self, rate: float) -> None:
        """Step as Adam does."""
        gradient, (b1, b2) = self.gradients[self.split :], BETAS
        self.first.lerp_(gradient, 1 - b1)
        self.second.lerp_(gradient.square(), 1 - b2)
        first = self.first / (1 - b1**self.steps)
        second = self.second / (1 - b2**self.steps)
        step = first / (second.sqrt() + 1e-8)
        self.values[self.split :].add_(step, alpha=-rate)

    def state(self) -> dict[str, Tensor | int]:
        """Return everything needed to go on."""
        vectors = ("values", "average", "momentum", "first", "second")
        return {"steps": self.steps, **{name: getattr(self, name) for name in vectors}}

    def load(self, state: dict[str, Tensor]) -> None:
        """Go on from a state."""
        for name, value in state.items():
            if isinstance(value, Tensor):
                getattr(self, name).copy_(value)
        self.steps = int(state["steps"])
