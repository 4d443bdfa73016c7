"""Mistakes in RoPE: how queries and keys are turned, by how much, from where."""

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from numpy_paligemma.arrays.formats import round_to_bfloat16, widen_bfloat16
from numpy_paligemma.model.rope import RopeTable, apply_rope, rope_table
from numpy_paligemma.traces.causes.positions import MOVES, moved, positions_of_pass
from numpy_paligemma.traces.causes.variant import Here, Setup, Swap, Variant

Turn = Callable[[np.ndarray, Setup], np.ndarray]

BASES = (
    *(100.0, 500.0, 1e3, 2e3, 5e3, 1e4, 2e4, 2.5e4, 4e4, 5e4, 1e5, 1.6e5, 2e5),
    *(2.5e5, 5e5, 1e6, 2e6, 5e6, 8e6, 1e7, 1e8),
)
LARGEST_BASE, FAR = 1e12, 100.0  # beyond, it is no rotation by position


def rounded(x: np.ndarray) -> np.ndarray:
    """Round to bfloat16 and come back."""
    return widen_bfloat16(round_to_bfloat16(x)).reshape(x.shape)


def _table(x: np.ndarray, setup: Setup) -> RopeTable:
    """Work out the right table."""
    c = setup.c.text
    return rope_table(positions_of_pass(setup), c.head_dim, c.rope_base, like=x)


def _pairs(x: np.ndarray, setup: Setup) -> np.ndarray:
    """Turn neighbours, (2j, 2j + 1)."""
    cos, sin = _table(x, setup)
    turned = np.empty_like(x)
    a, b = x[..., ::2], x[..., 1::2]
    turned[..., ::2] = a * cos - b * sin
    turned[..., 1::2] = b * cos + a * sin
    return turned


def _paired(x: np.ndarray, setup: Setup) -> np.ndarray:
    """Order neighbours into halves, and then turn halves."""
    ordered = np.concatenate([x[..., ::2], x[..., 1::2]], axis=-1)
    return apply_rope(ordered, _table(x, setup))


def _mixed(x: np.ndarray, setup: Setup) -> np.ndarray:
    """Turn halves by a table that was repeated for pairs (0 0 1 1 for 0 1 0 1)."""
    cos, sin = (np.repeat(t, 2, axis=-1) for t in _table(x, setup))
    a, b = np.split(x, 2, axis=-1)
    return x * cos + np.concatenate([-b, a], axis=-1) * sin


def _backwards(x: np.ndarray, setup: Setup) -> np.ndarray:
    cos, sin = _table(x, setup)
    return apply_rope(x, RopeTable(cos, -sin))


def _not(x: np.ndarray, setup: Setup) -> np.ndarray:  # noqa: ARG001  as the others
    return x


def _twice(x: np.ndarray, setup: Setup) -> np.ndarray:
    return apply_rope(apply_rope(x, _table(x, setup)), _table(x, setup))


def _by(angles: Callable[[np.ndarray, np.ndarray, Setup], np.ndarray]) -> Turn:
    """Turn by other angles: a function of positions (B, 1, T, 1) and exponents (H/2,)."""

    def turn(x: np.ndarray, setup: Setup) -> np.ndarray:
        H = setup.c.text.head_dim
        at = positions_of_pass(setup)[:, None, :, None]
        theta = angles(at, np.arange(0, H, 2) / H, setup)
        table = (f(theta).astype(x.dtype) for f in (np.cos, np.sin))
        return apply_rope(x, RopeTable(*table))

    return turn


def _frequencies_rounded(p: np.ndarray, e: np.ndarray, setup: Setup) -> np.ndarray:
    return p * rounded(setup.c.text.rope_base**-e)


def _angles_rounded(p: np.ndarray, e: np.ndarray, setup: Setup) -> np.ndarray:
    return rounded(p * setup.c.text.rope_base**-e)


def _over_width(p: np.ndarray, e: np.ndarray, setup: Setup) -> np.ndarray:
    c = setup.c.text
    return p * c.rope_base ** (-e * c.head_dim / c.width)


def _one_frequency_late(p: np.ndarray, e: np.ndarray, setup: Setup) -> np.ndarray:
    c = setup.c.text
    return p * c.rope_base ** -(e + 2 / c.head_dim)


def _half_exponents(p: np.ndarray, e: np.ndarray, setup: Setup) -> np.ndarray:
    return p * setup.c.text.rope_base ** (-e / 2)


def _table_rounded(x: np.ndarray, setup: Setup) -> np.ndarray:
    cos, sin = (rounded(t).astype(x.dtype) for t in _table(x, setup))
    return apply_rope(x, RopeTable(cos, sin))


def _halfway(x: np.ndarray, setup: Setup) -> np.ndarray:
    """Turn the first half of each head alone, as partial rotations do."""
    first, rest = np.split(x, 2, axis=-1)
    c = setup.c.text
    at = rope_table(positions_of_pass(setup), c.head_dim // 2, c.rope_base, like=x)
    return np.concatenate([apply_rope(first, at), rest], axis=-1)


TURNS: tuple[tuple[str, str, Turn], ...] = (
    (
        "RoPE pairs for halves",
        (
            "RoPE turns neighbours (2j, 2j + 1) where halves (j, j + H/2) are due: a "
            "permutation of the head axis"
        ),
        _pairs,
    ),
    (
        "RoPE pairs for halves",
        (
            "the head axis is ordered from pairs to halves before RoPE, which these "
            "weights do not need"
        ),
        _paired,
    ),
    (
        "RoPE pairs for halves",
        "RoPE turns halves by a table that was repeated for pairs",
        _mixed,
    ),
    ("RoPE sign", "RoPE turns backwards: the sine has the other sign", _backwards),
    ("RoPE left out", "RoPE is left out", _not),
    ("RoPE applied twice", "RoPE is applied twice", _twice),
    (
        "RoPE precision",
        "RoPE's frequencies are rounded to bfloat16: the error grows with position",
        _by(_frequencies_rounded),
    ),
    (
        "RoPE precision",
        "RoPE's angles are rounded to bfloat16: the error grows with position",
        _by(_angles_rounded),
    ),
    (
        "RoPE precision",
        "RoPE's cosine and sine are rounded to bfloat16",
        _table_rounded,
    ),
    (
        "RoPE frequencies",
        "RoPE's exponents are divided by the width where the head's size is due",
        _by(_over_width),
    ),
    (
        "RoPE frequencies",
        "RoPE's exponents begin one step late",
        _by(_one_frequency_late),
    ),
    ("RoPE frequencies", "RoPE's exponents are half as large", _by(_half_exponents)),
    ("RoPE on part of the head", "RoPE turns only half of each head", _halfway),
)


def _turned(turn: Turn, name: str, here: Here, _: np.ndarray) -> np.ndarray:
    return turn(here.near(f"attention/{name}_proj"), here.setup)


def _keys_too(turn: Turn) -> dict[str, Swap]:
    """Turn keys in the same way, where a trace shows neither them nor queries."""
    return {"decoder/block/attention/k": partial(_turned, turn, "k")}


def _with_base(base: float, setup: Setup) -> Setup:
    return setup.text(rope_base=base)


def measured(
    projected: np.ndarray, turned: np.ndarray, setup: Setup, at: str
) -> Iterator[Variant]:
    """Measure the base and the scale of positions by how far each point is turned.

    projected, turned (B, N, T, H) of a side -> its RoPE as mistakes to try, with fewer
    or more digits of what was measured; none where that is no rotation by position.
    """
    if setup.positions is None or projected.shape != turned.shape:
        return
    before, after = (np.split(x, 2, axis=-1) for x in (projected, turned))
    turn = (after[0] + 1j * after[1]) * (before[0] - 1j * before[1])  # (B, N, T, H/2)
    following = np.diff(setup.positions, axis=1) == 1  # (B, T - 1)
    steps = turn[:, :, 1:] * turn[:, :, :-1].conj() * following[:, None, :, None]
    frequencies = np.angle(steps.sum(axis=(0, 1, 2)))  # (H/2,)
    if len(frequencies) < 2 or np.any(frequencies <= 0):
        return
    scale = float(f"{frequencies[0]:.4g}")
    slopes = -np.log(frequencies[1:] / frequencies[0]) / np.arange(1, len(frequencies))
    base = float(np.exp(np.median(slopes) * len(frequencies)))
    if not (1 < base < LARGEST_BASE and 1 / FAR <= scale <= FAR):
        return
    for digits in (4, 5, 6, 8, 17):
        yield _measured(float(f"{base:.{digits}g}"), scale, at)


def _measured(base: float, scale: float, at: str) -> Variant:
    """Make a mistake of a base and a scale of positions."""

    def angles(p: np.ndarray, e: np.ndarray, _: Setup) -> np.ndarray:
        return p * scale * base**-e

    text = f"RoPE's base is {base:,.6g}"
    text += f", and positions are {scale:.6g} times as large" if scale != 1 else ""
    turned_so = partial(_turned, _by(angles), at.rpartition("/")[2])
    text = f"{text}: the error grows with position"
    return Variant("RoPE base", text, at, swap=turned_so)


def _on_values(here: Here, x: np.ndarray) -> np.ndarray:
    return apply_rope(x, _table(x, here.setup))


ROTATION = (
    *(
        variant
        for name in ("q", "k")
        for at in [f"decoder/block/attention/{name}"]
        for variant in (
            *(
                Variant(
                    cause,
                    text,
                    at,
                    swap=partial(_turned, turn, name),
                    behind=_keys_too(turn) if name == "q" else {},
                )
                for cause, text, turn in TURNS
            ),
            *(
                Variant(
                    "RoPE base",
                    f"RoPE's base is {base:,.0f}: the error grows with position",
                    at,
                    partial(_with_base, base),
                )
                for base in BASES
            ),
            *(
                Variant(cause, text, at, partial(moved, move))
                for cause, text, move in MOVES
            ),
        )
    ),
    Variant(
        "RoPE on values",
        "RoPE turns values, too",
        "decoder/block/attention/out",
        behind={"decoder/block/attention/v_proj": _on_values},
    ),
)
