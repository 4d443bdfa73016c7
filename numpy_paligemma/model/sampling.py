"""From logits to a token: the likeliest, or a seeded draw from the nucleus.

Always on the host and in float64: the same logits and seed give the same token
wherever the model ran.
"""

import numpy as np

from numpy_paligemma.model.layers import softmax


def greedy_token(logits: np.ndarray) -> int:
    """Take the likeliest token of logits (V,), the lowest id among equals.

    Compared in float32, as transformers does even where the model ran in float64.
    """
    return int(np.argmax(logits.astype(np.float32)))


def nucleus(probs: np.ndarray, top_p: float) -> np.ndarray:
    """Keep the fewest most likely tokens that together reach `top_p`.

    A token stays if those ahead of it hold less than `top_p`: the one that crosses the
    line stays too, so the likeliest always does. (OpenAI's GPT-2 drops the one that
    crosses.)

    Probabilities (V,) -> (V,), zero outside the nucleus, that sum to one again;
    `top_p` in (0, 1].

    References
    ----------
    Holtzman et al. (2019), https://arxiv.org/abs/1904.09751, section 3.1, equation 2.
    """
    order = np.argsort(-probs, kind="stable")  # likeliest first
    ahead = np.cumsum(probs[order]) - probs[order]
    stays = order[ahead < top_p]
    kept = np.zeros_like(probs)
    kept[stays] = probs[stays]
    return kept / kept.sum()


def sample_token(
    logits: np.ndarray, rng: np.random.Generator, *, temperature: float, top_p: float
) -> int:
    """Draw one token id; temperature 0 takes the likeliest.

    Parameters
    ----------
    logits : float array, (V,)
    rng : numpy.random.Generator
        One number is drawn from it a token.
    temperature : float
        Divides the logits: below one sharpens, above one flattens.
    top_p : float
        See `nucleus`.
    """
    if temperature == 0:
        return greedy_token(logits)
    below = logits.astype(np.float64) - np.max(logits)
    with np.errstate(over="ignore"):  # a tiny temperature sends the others to -inf
        probs = nucleus(softmax(below / temperature), top_p)
    cdf = np.cumsum(probs)
    return int(np.searchsorted(cdf, rng.random() * cdf[-1], side="right"))
