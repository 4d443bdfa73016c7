"""What is learnt: the vision tower's passing heads, and the answers."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .code_words import segment_rows, shared_targets
from .colours import COLOURS
from .labels import NO_DIGIT
from .layers import Sizes
from .network import PaliGemma
from .packing import Batch
from .places import CODE, codes, location_rows, soft_targets
from .scenes import GRID, MOST, SIZE
from .shapes import KINDS, NUMBER
from .tokenizer import IMAGE_ID, PIECES
from .truth import BINS

# linear heads on every patch, and on the patches' mean: name, outputs
HEADS = {
    "kind": len(KINDS) + 1,
    "colour": len(COLOURS),
    "rank": MOST,
    "digit": NO_DIGIT + 1,
    "digits": 3 * (NO_DIGIT + 1),
    "box": 4,
    "code": 4 * CODE,
    "mask": 64,  # of 8 × 8 cells, in the object's box
}
POOLED = {"count": MOST + 1, "total": MOST + 1}
WEIGHTS = {
    "kind": 2.0,
    "colour": 1.0,
    "rank": 1.0,
    "digit": 0.5,
    "digits": 1.0,
    "box": 8.0,
    "code": 2.0,
    "mask": 2.0,
    "count": 0.5,
    "total": 0.5,
}
# of a token's loss, by what it is
TOKEN_WEIGHTS = {"word": 1.0, "place": 0.7, "code": 0.4}
QUIET = ("out_proj", "fc2", "o_proj", "down_proj")  # write into the residual stream


class Learner(nn.Module):
    """The model with the heads that are thrown away at the end.

    `codebook`, (128, 512), is the mask VQ-VAE's.
    """

    bells: Tensor
    shared: Tensor

    def __init__(self, c: Sizes, codebook: Tensor) -> None:
        super().__init__()
        self.model = PaliGemma(c)
        self.heads = nn.Linear(c.width, sum(HEADS.values()))
        self.pooled = nn.Linear(c.width, sum(POOLED.values()))
        self.register_buffer("bells", soft_targets(), persistent=False)
        shared = shared_targets(codebook)
        self.register_buffer("shared", shared, persistent=False)
        self.start(codebook)

    @torch.no_grad()
    def start(self, codebook: Tensor) -> None:
        """Set the first weights: 1/√inputs, residual writers smaller."""
        for name, p in self.named_parameters():
            if p.ndim > 1:
                quiet = 0.3 if name.split(".")[-2] in QUIET else 1.0
                nn.init.normal_(p, std=quiet * p[0].numel() ** -0.5)
            elif name.endswith("bias"):
                nn.init.zeros_(p)
        table = self.model.language_model.model.embed_tokens.weight
        table[PIECES : PIECES + BINS] = location_rows(self.model.c.width)
        table[PIECES + BINS : IMAGE_ID] = segment_rows(codebook, self.model.c.width)
        nn.init.normal_(
            self.model.vision_tower.vision_model.embeddings.position_embedding.weight,
            std=0.5,
        )

    def looking(self, features: Tensor) -> dict[str, Tensor]:
        """Apply the heads: (B, P, D) -> (B, P, outputs) or (B, outputs) each."""
        patches = self.heads(features).float()
        whole = self.pooled(features.mean(1)).float()
        parts = torch.split(patches, list(HEADS.values()), -1)
        parts += torch.split(whole, list(POOLED.values()), -1)
        return dict(zip((*HEADS, *POOLED), parts, strict=True))

    def vision_loss(self, features: Tensor, batch: Batch) -> Tensor:
        """Sum the heads' losses, weighted."""
        out, truth = self.looking(features), labels(batch)
        matters = truth["matters"].float()
        on, on_number = truth["on"].float(), truth["on_number"].float()
        code = codes(truth["box"] / SIZE * BINS).flatten(2)
        losses = {
            name: mean(cross_entropy(out[name], truth[name]), weight)
            for name, weight in (
                ("kind", matters),
                ("colour", on),
                ("rank", on),
                ("digit", on_number),
            )
        }
        digits = cross_entropy(out["digits"].view(*on.shape, 3, -1), truth["digits"])
        losses["digits"] = mean(digits.mean(-1), on_number)
        losses["box"] = mean((out["box"] - truth["box"] / SIZE).abs().sum(-1), on)
        losses["code"] = mean((out["code"] - code).square().mean(-1), on)
        errors = (out["mask"] - truth["mask"]).square().mean(-1)
        losses["mask"] = mean(errors, on - on_number)
        for name in POOLED:
            losses[name] = cross_entropy(out[name], truth[name]).mean()
        return torch.stack([WEIGHTS[name] * x for name, x in losses.items()]).sum()

    def answer_loss(self, features: Tensor, batch: Batch) -> Tensor:
        """Average the loss over words and, softly, places and codes.

        `features` are repeated where a picture has several rows of text.
        """
        rows = len(batch["ids"])
        features = features.repeat_interleave(rows // len(features), 0)
        args = (batch["ids"], batch["position"], batch["hidden"])
        states = self.model.read(features, *args).flatten(0, 1)  # (B·T, D)
        target = batch["target"].flatten()
        total, count = states.new_zeros(()), states.new_zeros(())
        for name, token_weight in TOKEN_WEIGHTS.items():
            at, weight = batch[f"{name}_at"], batch[f"{name}_weight"] * token_weight
            scores = self.model.logits(states[at])
            total = total + (self.token_loss(name, scores, target[at]) * weight).sum()
            count = count + weight.sum()
        return total / count

    def token_loss(self, name: str, scores: Tensor, target: Tensor) -> Tensor:
        """Compare one kind of token with its target: (n, rows), (n,) -> (n,)."""
        if name == "word":
            return cross_entropy(scores, target.clamp(0))  # -1 where the weight is 0
        place = name == "place"
        table, first = (self.bells, PIECES) if place else (self.shared, PIECES + BINS)
        wanted = table[(target - first).clamp(0)]
        return -(wanted * scores.log_softmax(-1)[:, first : first + len(table)]).sum(-1)


def labels(batch: Batch) -> dict[str, Tensor]:
    """Spread what is known of the objects over the patches they own."""
    owner = batch["owner"].long()  # (B, P)
    rank = owner.clamp(0)
    kinds, colours = batch["kind"].long(), batch["colour"].long()  # (B, MOST)
    kind = kinds.gather(1, rank)
    on = owner >= 0
    numbers = batch["digits"].long()[:, None].expand(-1, GRID * GRID, -1)
    return {
        "matters": owner >= -1,
        "on": on,
        "on_number": on & (kind == NUMBER),
        "kind": torch.where(on, kind, len(KINDS)),
        "colour": colours.gather(1, rank).clamp(0),
        "rank": rank,
        "digit": batch["digit"].long(),
        "digits": numbers,
        "box": batch["box"].gather(1, rank[..., None].expand(-1, -1, 4)),
        "mask": batch["mask"].gather(1, rank[..., None].expand(-1, -1, 64)),
        "count": ((kinds >= 0) & (kinds != NUMBER)).sum(-1),
        "total": (kinds >= 0).sum(-1),
    }


def cross_entropy(scores: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy over the last axis, not reduced."""
    flat = F.cross_entropy(scores.flatten(0, -2), target.flatten(), reduction="none")
    return flat.view(target.shape)


def mean(x: Tensor, weight: Tensor) -> Tensor:
    """Average with weights, 0 where there is nothing to average."""
    return (x * weight).sum() / weight.sum().clamp(1)
