# %% [markdown]
# # Write position as rotation
#
# **Why does only distance matter?**
#
# ## What you'll do
#
# You teach a model that has no idea of order which word came first, with nothing but
# turning points on circles. Then you settle the question that everyone asks who ports such
# a model: *why two halves, when the paper has pairs?*
#
# ## What you'll learn
#
# - why attention, left alone, cannot tell `a red circle` from `circle red a`,
# - how a rotation puts a position into a vector so that only distances come out again,
# - what *halves* and *pairs* are, why they are the same thing, and how to go from one to the other,
# - whether it matters where positions start (no), and how precise the angles are (yes).
#
# ## What you'll need
#
# School trigonometry: a point at 30°, turned by 20°, is at 50°. And from notebook
# 01: in attention each token has a *query* vector q ("what do I look for?") and a *key* vector k
# ("what do I offer?"). Their dot product, the *score*, says how much one looks at the other. It does so
# several times side by side, in *heads*, each with queries and keys of its own. In the shapes below, B is
# the number of prompts at once (here one), N the heads, T the tokens, H the numbers in a head.

# %%
import numpy as np
import plotting as plots
from plotting import BRIDGE, INK, LANGUAGE, QUIET, VISION, plt, show
from safetensors.numpy import load_file

from numpy_paligemma import load_hf_model
from numpy_paligemma.checkpoints.hub import bundled
from numpy_paligemma.inputs.image import load_image

model, processor = load_hf_model("miniature", dtype="float64")
w, c = model.weights, model.config  # every learned number, every size
golden = load_file("../tests/golden/miniature.safetensors")

inputs = processor(text=["caption en"], images=[load_image(bundled("sample.jpg"))])
T, H = inputs["input_ids"].shape[1], c.text.head_dim
print("T =", T, "tokens,  H =", H, "numbers a head,  base =", c.text.rope_base)

# %% [markdown]
# We work in float64 here, so that claims of the kind "exactly the same" can be checked to
# twelve digits.
#
# ## The problem
#
# Attention is a weighted mean. A mean does not care in which order you add. Take three tokens,
# let one of them look at all, then shuffle the other tokens:

# %%
from numpy_paligemma.model.attention import grouped_query_attention

rng = np.random.default_rng(0)
q, k, v = rng.standard_normal((3, 1, 1, 3, 4))  # each (B, N, T, H): T = 3, H = 4
shuffled = [2, 0, 1]
in_order = grouped_query_attention(q, k, v)
mixed_up = grouped_query_attention(q, k[:, :, shuffled], v[:, :, shuffled])
np.testing.assert_allclose(in_order, mixed_up, atol=1e-12)
print("the same, in any order")

# %% [markdown]
# So order must be written *into* the vectors. SigLIP adds a learnt vector for each place
# (notebook 03). Gemma does something else, called *rotary position embedding*, RoPE for short.
#
# ## The idea, with one point
#
# Let query and key be points in the plane. Before they meet, turn each about the origin, by
# its position times some angle θ:
#
# $$q' = R(p\,\theta)\,q \qquad k' = R(s\,\theta)\,k$$
#
# ($p$ and $s$ are the positions; $R(\varphi)$ turns a point by the angle $\varphi$.) Their dot product depends on their lengths and on the angle *between* them. Turn both
# by the same amount and nothing changes. So the dot product of the turned points sees what
# $q$ and $k$ were, and the difference $p - s$, and nothing else:
#
# $$q' \cdot k' = q \cdot R\big((s - p)\,\theta\big)\,k$$


# %%
def turned(point, position, theta=0.5):
    """Turn a point (2,) about the origin by position · theta."""
    (x, y), (cos, sin) = point, (np.cos(position * theta), np.sin(position * theta))
    return np.array([x * cos - y * sin, y * cos + x * sin])


q, k = np.array([1.0, 0.2]), np.array([0.3, 0.8])
for p, s in [(1, 3), (2, 4), (1001, 1003), (1, 4)]:
    print(f"{p:4} and {s:4}: {turned(q, p) @ turned(k, s):+.12f}")

# %%
figure, axes = plt.subplots(1, 3, figsize=(plots.WIDTH, 2.4))
for axis, (p, s) in zip(axes, [(1, 3), (6, 8), (6, 11)], strict=True):
    axis.add_patch(plt.Circle((0, 0), 1.02, fill=False, color=QUIET, lw=0.8))
    for point, place, colour, name in [(q, p, LANGUAGE, "q"), (k, s, VISION, "k")]:
        x, y = turned(point, place)
        axis.plot([0, x], [0, y], color=colour, marker="o", markevery=[1])
        side = "left" if x > 0 else "right"
        axis.text(1.13 * x, 1.13 * y, f"{name} at {place}", color=colour, ha=side)
    product = turned(q, p) @ turned(k, s)
    plots.bare(axis, f"distance {s - p}: score {product:+.2f}")
    axis.set(xlim=(-1.75, 1.75), ylim=(-1.2, 1.2), aspect="equal")
show(
    figure,
    "Figure 1. A query and a key, each turned by its position. At the same distance (left and "
    "middle) the angle between them is the same, and so is the score; at another distance "
    "(right) it is not.",
    "Three circles with two arrows each. The first two differ only by a turn of the whole; "
    "in the third the angle between the arrows is another.",
)

# %% [markdown]
# ## Many points, many speeds
#
# One point alone would be a poor clock: after a full turn it shows the same again. So a
# head of H numbers is read as H/2 points, each turning at its own speed:
#
# $$\text{angle}(p, j) = p \cdot \text{base}^{-2j/H} \qquad j = 0, 1, \dots, H/2 - 1$$
#
# The first point turns by 1 radian (57°) a token. Each next one is slower by the same factor, the
# last hardly moves. Like the hands of a clock: the fast ones tell near places apart, the slow ones
# far ones.

# %%
frequencies = c.text.rope_base ** (-np.arange(0, H, 2) / H)  # (H/2,)
for j in [0, 1, 2, 4, 8, 15]:
    print(f"point {j:2}: a full turn takes {2 * np.pi / frequencies[j]:9.1f} tokens")

# %% tags=["cover"]
figure, axes = plt.subplots(2, 8, figsize=(plots.WIDTH, 2.7))
places = np.arange(1, 13)  # the first twelve tokens
for j, axis in enumerate(axes.flat):
    angles = places * frequencies[j]
    axis.add_patch(plt.Circle((0, 0), 1, fill=False, color=QUIET, lw=0.8))
    axis.plot([0, np.cos(angles[-1])], [0, np.sin(angles[-1])], color=LANGUAGE, lw=1)
    axis.scatter(np.cos(angles), np.sin(angles), c=places, cmap="PuRd", vmin=-4, s=22)
    plots.bare(axis, f"point {j}").set(xlim=(-1.2, 1.2), ylim=(-1.2, 1.2))
    axis.set_aspect("equal")
show(
    figure,
    "Figure 2. The 16 points of one head at positions 1 (pale) to 12 (dark, with a hand), "
    "all having started at three o'clock: the first goes round nearly twice, the last "
    "stays where it was.",
    "Sixteen small circles with dots. On the first the dots go all the way round, on the "
    "later ones they crowd into a short arc and in the end into a single point.",
)

# %% [markdown]
# ## In the package
#
# First the angles, as a table of cosines and sines, worked out once for all blocks; then the turn.
# (`like` is any array of the dtype that the table shall have.)

# %%
from numpy_paligemma.model.rope import apply_rope, rope_table

plots.source(rope_table)
plots.source(apply_rope)

# %% [markdown]
# A toy, one head with H = 4, that is two points. The token at position 1 has both at three
# o'clock; the first is turned by a radian and the second by a hundredth.

# %%
toy = np.array([1.0, 1.0, 0.0, 0.0]).reshape(1, 1, 1, 4)  # x₀ x₁ y₀ y₁
table = rope_table(np.array([[1]]), head_dim=4, base=10_000, like=toy)
print(apply_rope(toy, table).round(4))

# %% [markdown]
# Look at the order: both x first, then both y. We come back to that.
#
# ### Check: it is a complex multiplication
#
# To turn the point $(x, y)$ by $\varphi$ is to multiply $x + iy$ by $e^{i\varphi}$. That is a formula of
# another kind, with no sine in it that we wrote ourselves. In float64 two right ways agree
# to about 1e-15, so 1e-12 is generous and catches everything.

# %%
positions = np.arange(1, T + 1)[None]  # (B, T)
x = rng.standard_normal((1, 4, T, H))  # (B, N, T, H)
x_plus_iy = x[..., : H // 2] + 1j * x[..., H // 2 :]  # (B, N, T, H/2)
product = x_plus_iy * np.exp(1j * positions[0][:, None] * frequencies)

table = rope_table(positions, H, c.text.rope_base, like=x)
by_complex = np.concatenate([product.real, product.imag], axis=-1)
np.testing.assert_allclose(apply_rope(x, table), by_complex, atol=1e-12)

# %% [markdown]
# ### Check: against the reference
#
# `golden` holds what `transformers` had inside its first block, before the turn (`q_proj`,
# `k_proj`) and after (`q`, `k`). It was worked out in float64 and stored in float32, which
# rounds each number in its eighth digit; so differences up to 1e-6 of the largest number are
# rounding. A wrong angle or a wrong pairing is off by about as much as the numbers are large.

# %%
for name in ["q", "k"]:
    before = golden[f"decoder/block00/attention/{name}_proj"].astype(np.float64)
    after = golden[f"decoder/block00/attention/{name}"]
    found = apply_rope(before, table)
    np.testing.assert_allclose(found, after, rtol=0, atol=1e-6 * np.abs(after).max())
    print(name, found.shape, "agree; largest difference", np.abs(found - after).max())

# %% [markdown]
# ## Only distance
#
# Take one query and one key of the miniature, put copies of them at all positions, and
# compute all scores. (Here, the newline of our prompt looks for a patch.)

# %%
attention = "decoder/block00/attention/"
one_q = golden[attention + "q_proj"][:, :1, -1:]  # the newline, head 0: (1, 1, 1, H)
one_k = golden[attention + "k_proj"][:, :1, 20:21]  # patch 20: (1, 1, 1, H)
q = apply_rope(np.repeat(one_q.astype(np.float64), T, axis=2), table)
k = apply_rope(np.repeat(one_k.astype(np.float64), T, axis=2), table)
scores = (q @ k.swapaxes(-1, -2))[0, 0] / H**0.5  # (T, T): query by key

# %% [markdown]
# And for the picture, the curve between the whole numbers too: leave the query where it is, and
# put the key at any distance.

# %%
distance = np.linspace(-30, 30, 1200)
between = rope_table(distance[None], H, c.text.rope_base, like=one_q.astype(np.float64))
curve = (apply_rope(one_k, between) @ one_q.swapaxes(-1, -2)).ravel() / H**0.5

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(plots.WIDTH, 3.4))
image = left.imshow(scores, cmap="PuOr_r", extent=(0.5, T + 0.5, T + 0.5, 0.5))
left.set(xlabel="position of the key", ylabel="position of the query")
figure.colorbar(image, ax=left, label="score", shrink=0.8)
right.plot(distance, curve, color=QUIET, linewidth=0.8)
for p in range(1, T + 1, 3):  # one row of the matrix, pale for an early query
    shade = plots.to_rgba(LANGUAGE, 0.2 + 0.8 * p / T)
    right.plot(np.arange(1, T + 1) - p, scores[p - 1], ".", color=shade, ms=7)
right.set(xlim=(-30, 30))
right.set(xlabel="distance: position of key less that of query", ylabel="score")
show(
    figure,
    "Figure 3. The same query and key at all pairs of positions: along each diagonal the "
    "score is one and the same (left), so that all rows, drawn over the distance, fall "
    "onto one curve (right).",
    "Left: a matrix with stripes parallel to the diagonal. Right: points "
    "that lie on one wavy curve over the distance.",
)

# %% [markdown]
# Said as a check: every row is the row above it, moved by one.

# %%
np.testing.assert_allclose(scores[1:, 1:], scores[:-1, :-1], atol=1e-12)

# %% [markdown]
# ## Why halves, when the paper has pairs?
#
# H numbers are H/2 points. But *which two numbers make a point?* There are two traditions:
#
# - **pairs**: neighbours, (0, 1), (2, 3), … So the paper writes it, and Meta's Llama code has it.
# - **halves**: number j of the first half with number j of the second, (0, H/2), (1, H/2 + 1), …
#   So big_vision (the code that trained PaliGemma) and Hugging Face have it, and so this package.

# %%
figure, axes = plt.subplots(2, 1, figsize=(plots.WIDTH, 3.0))
shades = [VISION, BRIDGE, LANGUAGE, INK]
layouts = {"halves": [0, 1, 2, 3] * 2, "pairs": [0, 0, 1, 1, 2, 2, 3, 3]}
for axis, (name, points) in zip(axes, layouts.items(), strict=True):
    for place, j in enumerate(points):
        letter = "y" if j in points[:place] else "x"
        axis.add_patch(plt.Rectangle((place, 0), 0.92, 0.55, color=shades[j]))
        text = {"color": "white", "ha": "center", "va": "center"}
        axis.text(place + 0.46, 0.27, f"{letter}  of point {j}", **text)
    for j in range(4):  # an arc joins the two coordinates of a point
        a, b = (place + 0.46 for place in range(8) if points[place] == j)
        t = np.linspace(0, np.pi, 40)
        x, y = (a + b) / 2 - (b - a) / 2 * np.cos(t), 0.6 + 0.11 * (b - a) * np.sin(t)
        axis.plot(x, y, color=shades[j], lw=1.6)
    plots.bare(axis, name).set(xlim=(-0.1, 8.1), ylim=(-0.05, 1.12))
show(
    figure,
    "Figure 4. A head of H = 8 numbers in the two layouts; arcs join the two coordinates of "
    "each point. The same four points, written down in another order.",
    "Two rows of eight boxes. Above, arcs join box 0 with 4, 1 with 5 and so on; below, "
    "arcs join neighbours.",
)

# %% [markdown]
# The picture is the proof. Turning does not care where on paper a coordinate stands. Write
# the turn for pairs (a toy; the package has no use for it) and compare:


# %%
def apply_rope_to_pairs(x, rope):
    """Turn points whose coordinates are neighbours."""
    a, b = x[..., 0::2], x[..., 1::2]
    turned = [a * rope.cos - b * rope.sin, b * rope.cos + a * rope.sin]
    return np.stack(turned, axis=-1).reshape(x.shape)


to_pairs = np.arange(H).reshape(2, -1).T.ravel()  # 0, H/2, 1, H/2 + 1, …
print(to_pairs)

# %%
x = rng.standard_normal((1, 4, T, H))
halves_then_moved = apply_rope(x, table)[..., to_pairs]
moved_then_pairs = apply_rope_to_pairs(x[..., to_pairs], table)
np.testing.assert_array_equal(halves_then_moved, moved_then_pairs)
print("equal, to the last bit")

# %% [markdown]
# And a dot product adds up over all H numbers, in whatever order. So if q and k are *both* in
# the other layout, every score is the same. The layout of q and k is the order of the rows of
# the matrices that make them. So a checkpoint made for one layout is turned into one for the
# other by **reordering the rows of `q_proj` and `k_proj`, head by head**, and leaving everything
# else as it is. This is what conversion scripts do, and why.

# %%
from numpy_paligemma.model.attention import split_heads
from numpy_paligemma.model.layers import linear, rms_norm

block = w.decoder.blocks[0]
y = rms_norm(golden["fusion/out"], block.attention_norm, c.text.norm_eps)  # (B, T, D)


def scores_of(q_proj, k_proj, turn):
    """Scores of the first block, (B, N, T, T), with given matrices and turn."""
    q = turn(split_heads(linear(y, q_proj), H), table)  # (B, N, T, H)
    k = turn(split_heads(linear(y, k_proj), H), table)  # (B, 1, T, H)
    return q @ k.swapaxes(-1, -2) / H**0.5


def reordered(matrix):
    """Put the rows of each head into the order of pairs."""
    heads = matrix.reshape(-1, H, matrix.shape[-1])  # (N, H, D)
    return heads[:, to_pairs].reshape(matrix.shape)


# %%
ours = scores_of(block.q_proj, block.k_proj, apply_rope)
q_proj, k_proj = reordered(block.q_proj), reordered(block.k_proj)
pairs = scores_of(q_proj, k_proj, apply_rope_to_pairs)
mixed = scores_of(block.q_proj, block.k_proj, apply_rope_to_pairs)

np.testing.assert_allclose(ours, pairs, atol=1e-12)
print("weights and turn both in pairs: off by", f"{np.abs(ours - pairs).max():.0e}")
print("weights in halves, turn in pairs: off by", f"{np.abs(ours - mixed).max():.0e}")

# %% [markdown]
# The last line is the classic mistake. All shapes fit and nothing complains. What does the model
# say, with its weights in one layout and the turn in the other?

# %%
from dataclasses import replace

from numpy_paligemma.paligemma import PaliGemma

blocks = tuple(
    replace(b, q_proj=reordered(b.q_proj), k_proj=reordered(b.k_proj))
    for b in w.decoder.blocks
)
mixed_up = PaliGemma(c, replace(w, decoder=replace(w.decoder, blocks=blocks)))
for it in (model, mixed_up):
    said = it.generate(**inputs, do_sample=False, max_new_tokens=14)[0]
    print(repr(processor.tokenizer.decode(said)))

# %% [markdown]
# Words still come out, and that is the trouble: a wrong model does not fall silent.
#
# **So why halves?** Convenience. Two halves are two contiguous slices, and joining them is one
# `concatenate`; pairs need every second number, which is slower on most hardware. The
# mathematics has no preference. But the *weights* have: they were learnt in one of the two
# layouts, and Gemma's in halves.
#
# ## Why do positions start at 1?
#
# `transformers` counts PaliGemma's positions from one, so we do too: only then can q and k be
# compared with its own, as above. For the answer it makes no difference where one starts.

# %%
from numpy_paligemma.model.gemma import gemma_decoder

x = golden["fusion/out"].astype(np.float64)


def hidden(positions):
    """Carry the sequence through all blocks: (B, T, D)."""
    return gemma_decoder(x, positions, None, w.decoder, c.text)


from_one = hidden(positions)
np.testing.assert_allclose(hidden(positions - 1), from_one, atol=1e-11)
np.testing.assert_allclose(hidden(positions + 1000), from_one, atol=1e-11)

# %% [markdown]
# (1e-11, because at position 1,000 an angle is a larger number, and fewer of its sixteen
# digits are left behind the point.) What does make a difference is a *gap*. A loop that counts the
# last token one too far, for example:

# %%
gap = positions + (np.arange(T) == T - 1)  # only the last token, one too far
print("all by 1000:  ", f"{np.abs(hidden(positions + 1000) - from_one).max():.0e}")
print("the last by 1:", f"{np.abs(hidden(gap) - from_one).max():.0e}")

# %% [markdown]
# ## What would coarse frequencies do?
#
# Networks are stored in bfloat16, which keeps two or three digits (notebook 02). May the
# frequencies be, too? An angle is position *times* frequency, so an error in the frequency grows
# with the position. Let us round the frequencies of a Gemma head (H = 256) to bfloat16,
# that is, to 8 significant bits, and to float32, and measure the angles.


# %%
def rounded(x, bits):
    """Keep so many significant bits of each number."""
    mantissa, exponent = np.frexp(x)
    return np.ldexp(np.round(np.ldexp(mantissa, bits)), exponent - bits)


exact = 10_000.0 ** (-np.arange(0, 256, 2) / 256)  # (128,)
print("bfloat16 of 0.1:", rounded(0.1, 8))

# %%
p = np.arange(1, 4400)[:, None]
figure, axes = plt.subplots(figsize=(6.8, 3.2))
for bits, name, colour in [(8, "bfloat16", LANGUAGE), (24, "float32", VISION)]:
    error = np.abs(p * rounded(exact, bits) - p * exact).max(axis=-1)  # worst point
    axes.loglog(p, error, color=colour)
    axes.text(20, error[19] / 25, f"frequencies as {name}", color=colour)
axes.axhline(np.pi, color=QUIET, lw=0.8)
axes.text(1.2, np.pi * 1.25, "half a turn", color=QUIET, size=8.5)
axes.axvline(257, color=QUIET, lw=0.8)
axes.text(270, 3e-8, "the prompt begins\nbehind 256 patches", color=QUIET, size=8.5)
axes.set(xlabel="position", ylabel="worst error of an angle, radians", ylim=(1e-8, 20))
show(
    figure,
    "Figure 5. How wrong the worst angle is. With bfloat16 frequencies it is off by a third "
    "of a radian where the prompt begins, and by more than half a turn at the end of a large "
    "picture.",
    "Two rising lines on logarithmic axes: bfloat16 starts at a thousandth of a radian and "
    "reaches several radians, float32 stays below a thousandth.",
)

# %% [markdown]
# Note that the *weights* may well be bfloat16: their errors do not grow with anything. The angles
# are computed in float64 here and stored as float32. And note how quietly this mistake comes: cast a
# whole PyTorch model to bfloat16, and the frequencies, kept in it as a buffer, are cast along. Casting
# them back later does not bring the lost digits back.
#
# ## On your own
#
# 1. **One line.** Turn backwards: from `golden["decoder/block00/attention/q"]` get back
#    `…/q_proj`, with `apply_rope` and a table of other positions. To match: 1e-6 of the largest
#    number.
# 2. **A matrix.** Write `rotation(p)`, the (H, H) matrix that turns a whole head in the halves
#    layout to position p. Check that `rotation(5) @ x` is `apply_rope`'s answer, and that
#    `rotation(5).T @ rotation(9)` equals `rotation(4)`. Which sentence of this notebook is that?
# 3. **The whole layer.** Write `rope_table` and `apply_rope` yourself, in a file, and let the
#    package's tests try them: `pytest tests/exercises --layers my_layers.py` (see
#    [tests/exercises](../tests/exercises/README.md)). Then put `apply_rope_to_pairs` in its
#    place and read what they say.
#
# ## In practice
#
# - Only q and k are turned, never v: positions decide who looks where, not what is seen.
# - The turn happens after the projection and *before* the cache (notebook 08), so that each key
#   is turned once in its life.
# - Gemma's base is 10,000. Models for long texts take a larger one (Llama 3 has 500,000): slower
#   hands, a longer day.
# - The patches of a picture get positions 1 to 64 in reading order here. Where a patch lies in two
#   dimensions the eye has already written into its feature.
#
# ## Further reading
#
# - Su et al., *RoFormer*, [arXiv:2104.09864](https://arxiv.org/abs/2104.09864), section 3.4.2,
#   and equation 34 for the form without matrices (pairs).
# - [`model/rope.py`](../numpy_paligemma/model/rope.py), all of it on one page.
# - Biderman et al., [*Rotary embeddings: a relative revolution*](https://blog.eleuther.ai/rotary-embeddings/),
#   with the complex numbers.
# - Next: [07, Build a Gemma block](07_build_a_gemma_block.ipynb).

# %% [markdown]
# <details>
# <summary><b>Solutions</b></summary>
#
# **1.** To turn back is to turn by the negative angle:
#
# ```python
# attention = "decoder/block00/attention/"
# after = golden[attention + "q"].astype(np.float64)
# before = apply_rope(after, rope_table(-positions, H, c.text.rope_base, like=after))
# expected = golden[attention + "q_proj"]
# np.testing.assert_allclose(before, expected, atol=1e-6 * np.abs(expected).max())
# ```
#
# **2.** Four diagonal blocks. The product says: only the distance, 9 less 5, is left.
#
# ```python
# def rotation(p):
#     cos, sin = np.diag(np.cos(p * frequencies)), np.diag(np.sin(p * frequencies))
#     return np.block([[cos, -sin], [sin, cos]])
#
#
# x = rng.standard_normal(H)
# table_5 = rope_table(np.array([[5]]), H, c.text.rope_base, like=x)
# turned_x = apply_rope(x.reshape(1, 1, 1, H), table_5).ravel()
# np.testing.assert_allclose(rotation(5) @ x, turned_x, atol=1e-12)
# np.testing.assert_allclose(rotation(5).T @ rotation(9), rotation(4), atol=1e-12)
# ```
#
# **3.** The package's own are above. What makes them short is that `rope_table` gives cos and sin
# the shape (B, 1, T, H/2), so that they fit to all heads at once.
#
# </details>
