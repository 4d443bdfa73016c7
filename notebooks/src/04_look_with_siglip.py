# %% [markdown]
# # Look with SigLIP
#
# **What does an eye without a mask see?**
#
# ## What you'll do
#
# You follow 64 patches through the four blocks of the eye, watch where each of them looks,
# measure how far, and find out what single heads are looking for.
#
# ## What you'll learn
#
# - what a transformer block is: two additions to a *residual stream*,
# - why each of them begins with a LayerNorm, and what happens without,
# - what *attention* computes, and why the eye needs no mask,
# - why there are two formulas called GELU, and why it must be the one with tanh.
#
# ## What you'll need
#
# Notebook 03: the picture is now a list of P = 64 vectors of D = 128 numbers, one a patch,
# and each knows what is on it and where it was. Letters: B pictures, N heads, H numbers a head.

# %%
import math
from pathlib import Path

import numpy as np
import plotting as plots
from IPython.display import Markdown
from plotting import INK, QUIET, VISION, plt, show
from safetensors.numpy import load_file

from numpy_paligemma import load_hf_model
from numpy_paligemma.checkpoints.hub import bundled
from numpy_paligemma.inputs.image import load_image, pixel_values
from numpy_paligemma.model.tap import recorder, scoped

# %%
model, processor = load_hf_model("miniature", dtype="float64")
w, c = model.weights.vision, model.config.vision  # the eye's numbers, and its sizes
photo = load_image(bundled("sample.jpg"))
pixels = pixel_values([photo], processor.image_settings).astype(np.float64)
golden = load_file("../tests/golden/miniature.safetensors")
print(f"{c.depth} blocks, {c.heads} heads of {c.head_dim}, MLP of {c.mlp_width}")

# %% [markdown]
# One run of the eye. A *tap* is called with the name and the value of every array inside, as
# it is born; this one, a recorder, keeps them all. (`scoped` puts `vision/` before each name.)
# `golden` has under the same names what the reference, Hugging Face's `transformers`, got.

# %%
from numpy_paligemma.model.siglip import siglip_encoder

tap, seen = recorder()
features = siglip_encoder(pixels, w, c, tap=scoped(tap, "vision"))  # (1, P, D)
for name in list(seen)[:13]:
    print(f"{name:34}{seen[name].shape}")

# %% [markdown]
# ## A block adds twice
#
# A transformer is a stack of *blocks* (layers) that are built alike. The list of vectors runs
# through them as through a pipe; it is called the *residual stream*. A block never replaces what is in it. It reads a tidied copy, works something out,
# and **adds** it, twice:
#
# $$ x \leftarrow x + \text{attention}(\text{norm}(x)) \qquad
#    x \leftarrow x + \text{MLP}(\text{norm}(x)) $$
#
# Attention is where patches look at each other. The MLP works on each patch alone.

# %%
from numpy_paligemma.model.siglip import siglip_block

plots.source(siglip_block)

# %% [markdown]
# So the stream after any block is the patch embedding plus all that was added since:

# %%
x = seen["vision/embed"]
for i in range(c.depth):
    at = f"vision/block{i:02d}"
    x = x + seen[f"{at}/attention/out"] + seen[f"{at}/mlp/out"]
np.testing.assert_allclose(x, seen["vision/block03/out"], rtol=1e-12, atol=1e-12)
print("the sum of nine arrays is what leaves the last block")

# %% [markdown]
# ## Why LayerNorm
#
# Where things are only ever added, they tend to grow. The *root mean square* (RMS) says how large the
# numbers of an array are on average.


# %%
def rms(x):
    return np.sqrt(np.mean(x**2))


stations = ["embed"] + [f"block{i:02d}/{at}" for i in range(4) for at in ("mid", "out")]
stream = [rms(seen[f"vision/{station}"]) for station in stations]
norms = [f"block{i:02d}/{at}_norm" for i in range(4) for at in ("attention", "mlp")]
tidied = [rms(seen[f"vision/{norm}"]) for norm in norms]
branches = [f"block{i:02d}/{at}/out" for i in range(4) for at in ("attention", "mlp")]
added = [rms(seen[f"vision/{branch}"]) for branch in branches]

# %%
figure, axes = plt.subplots(figsize=(plots.WIDTH, 3.1))
axes.plot(stream, "o-", color=VISION, label="the residual stream")
axes.bar(np.arange(1, 9), added, 0.45, color=VISION, alpha=0.35, label="what is added")
axes.plot(np.arange(8) + 0.5, tidied, "s", color=INK, label="what a branch reads")
words = ["embed"] + [f"{i}: {at}" for i in range(4) for at in ("attention", "MLP")]
axes.set_xticks(range(9), words)
axes.set(xlabel="after which half of which block", ylabel="RMS")
axes.legend(frameon=False)
show(
    figure,
    "Figure 1. The residual stream grows from block to block, because each adds to it. What "
    "attention and MLP get to read, behind their norms, stays small. The squares are not at exactly "
    "1 because the learned gain comes after the scaling.",
    "A rising line from embedding to the fourth block, bars for what each half block adds, and "
    "squares between 0.3 and 1.1 for the normalised input.",
)

# %% [markdown]
# A *LayerNorm* takes each vector for itself, moves its mean to 0 and its variance to 1, and then
# lets a learned gain and bias have their say:
#
# $$ \frac{x - \text{mean}(x)}{\sqrt{\text{mean}\big((x - \text{mean}(x))^2\big) + \epsilon}} \cdot \text{weight} + \text{bias} $$
#
# Two vectors, one a hundred times the other plus something, come out the same:

# %%
x = np.array([[1.0, 2.0, 3.0, 6.0], [107.0, 207.0, 307.0, 607.0]])
centred = x - x.mean(axis=-1, keepdims=True)
tidy = centred / np.sqrt(np.mean(centred**2, axis=-1, keepdims=True) + 1e-6)
print(tidy.round(3))

# %%
from numpy_paligemma.model.layers import layer_norm

plots.source(layer_norm)

# %%
again = layer_norm(x, np.ones(4), np.zeros(4), 1e-6)  # gain one, bias nought
np.testing.assert_allclose(again, tidy, rtol=1e-14, atol=1e-14)

# %% [markdown]
# (Two details that differ between libraries, and cost people days: the variance divides by D and
# not by D - 1, and $\epsilon$ is 10⁻⁶ *inside* the root. PyTorch's own default would be 10⁻⁵.)
#
# What if we left it out? Attention multiplies two vectors that both come from $x$. If $x$ is
# ten times too large, their product is a hundred times too large, and `softmax`, which turns
# scores into shares, gives everything to the largest. Try it on the last block:

# %%
from numpy_paligemma.model.attention import split_heads
from numpy_paligemma.model.layers import linear, softmax

last, x = w.blocks[-1], seen["vision/block02/out"]
tidy = layer_norm(x, *last.attention_norm, c.norm_eps)
for name, y in {"with the norm": tidy, "without": x}.items():
    q = split_heads(linear(y, *last.q_proj), c.head_dim)  # (B, N, P, H)
    k = split_heads(linear(y, *last.k_proj), c.head_dim)
    shares = softmax(q @ k.swapaxes(-1, -2) * c.head_dim**-0.5)
    print(f"{name}: on average {shares.max(axis=-1).mean():.0%} go to a single patch")

# %% [markdown]
# ## Attention: who looks at whom
#
# Each patch asks a question, a *query* vector $q$. Each patch shows a label, a *key* $k$, and has
# something to give, a *value* $v$. All three are matrix products of its tidied vector. A query
# and a key that point the same way give a high score; the scores become shares that sum to
# one; the values are mixed by these shares:
#
# $$ \text{softmax}\left( \frac{q \cdot k^\top}{\sqrt{H}} \right) v $$
#
# Here H is the length of $q$ and $k$.
#
# Three patches, four numbers each. The first asks for what the third has:

# %%
q = np.array([[0, 0, 0, 4], [2, 0, 0, 0], [0, 0, 0, 0.0]])
k = np.array([[2, 0, 0, 0], [0, 3, 0, 0], [0, 0, 0, 3.0]])
v = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0.0]])
shares = softmax(q @ k.T / np.sqrt(4))
print(shares.round(2), "\n", (shares @ v).round(2), sep="")

# %% [markdown]
# The third query is zero, wants nothing in particular, and gets a bit of everything. All this is
# done N = 4 times side by side, by *heads*: the 128 numbers are cut into four times 32, so that a
# patch can ask four questions at once. The $\sqrt{H}$ keeps scores from growing with the length
# of the vectors.

# %%
from numpy_paligemma.model.attention import grouped_query_attention
from numpy_paligemma.model.siglip import siglip_attention

plots.source(siglip_attention)

# %% [markdown]
# `split_heads` cuts, `merge_heads` joins again, and in between stands the formula. One last matrix,
# `out_proj`, mixes what the heads brought into directions of the stream. The formula on our toy,
# as one picture with one head:

# %%
mine = grouped_query_attention(*(part[None, None] for part in (q, k, v)))  # B = N = 1
np.testing.assert_allclose(mine[0, 0], shares @ v, rtol=1e-14, atol=1e-14)
print(q.shape, "->", mine.shape)

# %% [markdown]
# (*Grouped-query* attention is the general case, in which heads share keys and values; notebook
# 07 needs it. Here every head has its own.)
#
# ## Where one patch looks
#
# Take patch 18, the right edge of the red circle. Here are its shares of attention over
# the picture, in all four heads of all four blocks:

# %% tags=["cover"]
CHOSEN = 18
small = pixels[0].transpose(1, 2, 0) / 2 + 0.5  # (112, 112, 3)
figure, axes = plt.subplots(4, 4, figsize=(6.4, 6.7))
y, x = np.array(divmod(CHOSEN, c.grid)) * c.patch_size
for i, head in np.ndindex(c.depth, c.heads):
    shares = seen[f"vision/block{i:02d}/attention/probs"][0, head, CHOSEN]  # (P,)
    title = f"block {i}, head {head}"
    plots.attention_over_picture(axes[i, head], small, shares.reshape(8, 8), title)
    frame = plt.Rectangle((x, y), 13, 13, fill=False, color="white", linewidth=1.5)
    axes[i, head].add_patch(frame)
show(
    figure,
    "Figure 2. Where patch 18 (white frame) looks: bright patches get most of its attention. "
    "Each head has an interest of its own. In each panel the brightest patch is at full "
    "brightness.",
    "Sixteen copies of the picture, four blocks by four heads, each lit where the framed patch "
    "on the red circle's edge looks: at the circle, at its rim, at other shapes.",
)

# %% [markdown]
# ## No mask
#
# A language model reads from left to right, and a token must not see what has not been written yet:
# a *mask* hides it. A picture has no before and after. Patch 0, top left, may look at patch 63, and
# the other way round. All 64 × 64 shares of one head, a row for each patch that looks:

# %%
probs = np.array([seen[f"vision/block{i:02d}/attention/probs"][0] for i in range(4)])
later = np.triu(np.ones((64, 64), bool), 1)  # keys that come after the query
np.testing.assert_allclose(probs.sum(axis=-1), 1, rtol=1e-14)  # every row is shared out
assert (probs > 0).all()  # nobody is invisible to anybody
ahead = (probs * later).sum(axis=-1).mean()  # the mean over blocks, heads, queries

# %%
head = (2, 0)  # block, head
figure, axes = plt.subplots(1, 2, figsize=(plots.WIDTH, 3.9), sharey=True)
for axis, hidden in zip(axes, (np.zeros_like(later), later), strict=True):
    shares = np.ma.masked_where(hidden, probs[head])
    look = {"cmap": "Blues", "norm": "log", "vmin": 1e-4, "vmax": 1}
    axis.set_facecolor("#dddddd")
    image = axis.imshow(shares, **look)
    axis.set(
        xlabel="patch looked at (key)", xticks=range(0, 64, 8), yticks=range(0, 64, 8)
    )
axes[0].set(ylabel="patch that looks (query)", title="what an eye sees")
axes[1].set_title("what a reader from left to right would see")
figure.colorbar(image, ax=axes, label="share of attention")
show(
    figure,
    "Figure 3. The shares of attention of block 2, head 0, patch by patch (logarithmic); no cell "
    "is zero, however pale. A mask as language models have it would hide the grey half, and with "
    f"it, on average over all heads and blocks, {ahead:.0%} of what this eye looks at.",
    "Two square maps of attention from 64 patches to 64 patches. The left has no hidden part; "
    "in the right one the upper triangle is hidden.",
)

# %% [markdown]
# The lines beside the diagonal, eight patches apart, are neighbours above and below.
#
# So **what does an eye without a mask see? Everything at once.** In every block each patch may take
# from all others. What it does take is its own choice, made anew for every picture.
#
# ## How far do they look?
#
# A convolution sees as far as its kernel is wide. Attention may choose. For each head, average the
# distance from the patch that looks to the patches it looks at, by their shares, over the ten
# sample pictures that come with the miniature:

# %%
pictures = Path("../weights/samples").glob("*.[jp][pn]g")
files = sorted(file for file in pictures if file.stem != "answer")
many = pixel_values([load_image(file) for file in files], processor.image_settings)
tap, looks = recorder()
siglip_encoder(many.astype(np.float64), w, c, tap=tap)
probs = np.array([looks[f"block{i:02d}/attention/probs"] for i in range(c.depth)])
print(len(files), "pictures:", probs.shape, "(block, picture, head, query, key)")

# %%
place = np.stack(np.divmod(np.arange(c.patches), c.grid), axis=-1)  # (P, 2)
apart = np.linalg.norm(place[:, None] - place, axis=-1)  # (P, P), in patches
distance = (probs * apart).sum(axis=-1).mean(axis=(1, 3))  # (block, head)
nowhere_special = apart.mean()  # if all shares were equal

# %%
figure, axes = plt.subplots(figsize=(plots.WIDTH, 2.8))
for head in range(c.heads):
    axes.plot(distance[:, head], "o", color=VISION, alpha=0.8)
axes.plot(distance.mean(axis=1), color=VISION, label="mean of the heads")
axes.axhline(
    nowhere_special, color=QUIET, linestyle="--", label="looking everywhere alike"
)
axes.set(xlabel="block", ylabel="mean distance / patches", xticks=range(c.depth))
axes.set_ylim(0)
axes.legend(frameon=False, loc="lower left")
show(
    figure,
    "Figure 4. How far each head looks, a dot a head. Heads on the dashed line look over the "
    "whole picture, heads far below it at their own neighbourhood.",
    "A chart with four dots for each of the four blocks, giving the mean distance of attention "
    "in patches, and a dashed line for even attention.",
)

# %% [markdown]
# A stack of convolutions would have to go from near to far: each layer sees a little more than the
# one before. Here already the first block may look across the whole picture, and does.

# %%
near, far = distance.mean(axis=1).argmin(), distance.mean(axis=1).argmax()
Markdown(
    f"Block {near} looks nearest, {distance[near].mean():.1f} patches on average, and block "
    f"{far} farthest, {distance[far].mean():.1f}; with even shares it would be "
    f"{nowhere_special:.1f}. The most short-sighted head of all looks {distance.min():.1f} "
    "patches far."
)

# %% [markdown]
# And some heads have learned a direction. In Figure 2 there are heads that look at nothing but one
# neighbour of the framed patch: on its right, below it, above it. Is that so for other patches
# and other pictures? Average the share that goes to the same neighbour over all patches that
# have all four, and list the heads that give one of them more than half.

# %%
steps = {"on the left": -1, "on the right": 1, "above": -c.grid, "below": c.grid}
inner = [p for p in range(c.patches) if {0, 7}.isdisjoint(divmod(p, c.grid))]
for i, head in np.ndindex(c.depth, c.heads):
    for where, step in steps.items():
        share = probs[i, :, head, inner, np.add(inner, step)].mean()
        if share > 0.5:
            print(f"block {i}, head {head}: {share:.0%} go to the patch {where}")

# %% [markdown]
# (Counted over the patches with four neighbours; at the border there may be none on that side, so
# the mean distance over all patches is more than 1.)
#
# They do so whatever is on the patches, and know the way from the position embeddings. They have
# learned what a convolution is built for: to shift the picture by one patch.
#
# ## What a head looks for
#
# Let us ask from the other side: which patches, of the 640 in ten pictures, get most attention from a
# head, whoever looks? Here are the six favourites of each of the sixteen heads.

# %%
pictures = many.transpose(0, 2, 3, 1) / 2 + 0.5  # (10, 112, 112, 3)
padded = np.pad(pictures, ((0, 0), (14, 14), (14, 14), (0, 0)), mode="edge")
received = probs.mean(axis=3).transpose(0, 2, 1, 3)  # (block, head, picture, key)
received = received.reshape(c.depth, c.heads, -1)  # (block, head, 640)


def framed(n):
    """Cut patch n of all 640 out with its eight neighbours, in a frame."""
    picture, patch = divmod(n, c.patches)
    y, x = np.array(divmod(patch, c.grid)) * 14
    cut = padded[picture, y : y + 42, x : x + 42].copy()
    for near, shade in ((12, 0.1), (13, 1.0)):
        far = 41 - near
        cut[near : far + 1, [near, far]] = cut[[near, far], near : far + 1] = shade
    return cut


# %%
STEP = 48
sheet = np.ones((8 * STEP, 13 * STEP, 3))
figure, axes = plt.subplots(figsize=(plots.WIDTH, 5.2))
for i, head in np.ndindex(c.depth, c.heads):
    y, x = (2 * i + head // 2) * STEP, head % 2 * 7 * STEP
    axes.text(x - 6, y + 21, f"{i}, {head}", ha="right", va="center")
    for n in np.argsort(-received[i, head])[:6]:
        sheet[y : y + 42, x : x + 42] = framed(n)
        x += STEP
plots.bare(axes).imshow(sheet, interpolation="nearest")
show(
    figure,
    "Figure 5. For each head (block, head) the six patches that get most attention, framed, with "
    "their surroundings. Rows in which you can say what they have in common are heads with a job.",
    "Sixteen rows of six small picture cuttings, among them rows of shapes' centres, of edges of "
    "one direction, of empty ground and of digits.",
)

# %% [markdown]
# Read it row by row and try to give each head a name: dark ground, bright ground, the middle of
# a shape, one of its edges, digits. Some will resist: a head may have several jobs, or one that
# has no name. (And a favourite is not the whole story: it says where a head looks, not what it
# takes from there.)
#
# What comes of it all? Compare the vector of our patch with all others, before the first block
# and after each. (The *cosine* of two vectors is 1 where they point the same way.)

# %%
figure, axes = plt.subplots(1, 6, figsize=(plots.WIDTH, 1.75))
plots.bare(axes[0], "picture").imshow(small, extent=(0, 8, 8, 0))
stations = {"embed": "before", **{f"block{i:02d}/out": f"block {i}" for i in range(4)}}
for axis, (station, title) in zip(axes[1:], stations.items(), strict=True):
    x = seen[f"vision/{station}"][0]  # (P, D)
    x = x / np.linalg.norm(x, axis=-1, keepdims=True)
    image = plots.bare(axis, title).imshow(
        (x @ x[CHOSEN]).reshape(8, 8),
        cmap="PuOr_r",
        vmin=-1,
        vmax=1,
        extent=(0, 8, 8, 0),
    )
y, x = divmod(CHOSEN, c.grid)
for axis in axes:
    axis.add_patch(plt.Rectangle((x, y), 1, 1, fill=False, color=INK, linewidth=1.2))
figure.colorbar(image, ax=axes, label="cosine", shrink=0.8)
show(
    figure,
    "Figure 6. How alike the framed patch's vector is to all others. At first those that look "
    "alike are, some of the triangle's among them; in the end all that belong to the same thing.",
    "The picture, and five maps of 8 by 8 cosines: at first bright at the framed patch and its "
    "like, at last bright all over the red circle.",
)

# %% [markdown]
# ## The MLP, and which GELU
#
# The other half of a block widens each vector from 128 to 512 numbers, bends them, and narrows them
# again. The bend is called *GELU*: it lets positive numbers pass, damps negative ones, and does so
# smoothly. Without a bend two matrices in a row would be one matrix.

# %%
from numpy_paligemma.model.siglip import siglip_mlp

plots.source(siglip_mlp)

# %% [markdown]
# There are two formulas for GELU. The exact one uses the error function erf; the other, with
# tanh, approximates it and was once quicker to compute:
#
# $$ \tfrac{x}{2}\left(1 + \text{erf}\tfrac{x}{\sqrt 2}\right) \qquad
#    \tfrac{x}{2}\left(1 + \tanh\big(\sqrt{2/\pi} (x + 0.044715 x^3)\big)\right) $$

# %%
from numpy_paligemma.model.layers import gelu


def erf_gelu(x):
    """Bend by the exact formula."""
    return x / 2 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


# %%
x = np.linspace(-5, 5, 501)
figure, (left, right) = plt.subplots(1, 2, figsize=(plots.WIDTH, 2.7))
left.plot(x, gelu(x), color=VISION, label="with tanh")
left.plot(x, erf_gelu(x), "--", color=INK, label="with erf")
left.set(xlabel="x", ylabel="GELU(x)")
left.legend(frameon=False)
right.plot(x, 1e4 * (gelu(x) - erf_gelu(x)), color=VISION)
right.axhline(0, color=QUIET, linewidth=0.7)
right.set(xlabel="x", ylabel="difference × 10,000")
show(
    figure,
    "Figure 7. Two formulas, one curve to the eye (left); their difference, ten thousand times "
    "enlarged (right).",
    "Left: two curves lying on each other, zero on the left and rising on the right. Right: their "
    "difference, waves of less than five ten-thousandths.",
)

# %% [markdown]
# **Why tanh and not erf?** Because SigLIP was trained with it, and the weights fit the bend they
# grew up with. Neither is better. But five ten-thousandths is a nasty size: too small to be
# noticed in a caption, and thousands of times larger than rounding. If you compare your own
# model with a reference and find an error of 10⁻⁴ that starts at the first MLP, this is it. Let
# us plant it, by exchanging the function in the module for one run:

# %%
from numpy_paligemma.model import siglip

tap, wrong = recorder()
siglip.gelu = erf_gelu
siglip_encoder(pixels, w, c, tap=scoped(tap, "vision"))
siglip.gelu = gelu

# %% [markdown]
# ### Check: every array of every block, against the reference
#
# We computed in float64. So did the reference, but its values were kept as float32, which moves
# each by at most 2⁻²⁴ of itself, about 6·10⁻⁸. A relative tolerance of 2⁻²⁴, and 10⁻¹⁰ of the
# largest value of the array for the rounding of float64 on the way: that is all we allow. (The
# scores are left out of the golden file to save room; the shares that come of them are in it.)

# %%
compared = [name for name in seen if name in golden]
for name in compared:
    ours, theirs = seen[name], golden[name]
    largest = np.abs(theirs).max()
    np.testing.assert_allclose(ours, theirs, rtol=2**-24, atol=1e-10 * largest)
print(len(compared), "of", len(seen), "arrays compared, all equal")


# %%
def error(run, name):
    """Measure how far an array is from the reference, in parts of its largest value."""
    return np.abs(run[name] - golden[name]).max() / np.abs(golden[name]).max()


figure, axes = plt.subplots(figsize=(plots.WIDTH, 2.8))
axes.semilogy([error(seen, name) for name in compared], color=VISION, label="ours")
axes.semilogy([error(wrong, name) for name in compared], color=QUIET, label="with erf")
axes.axhline(2**-24, color=INK, linestyle=":", label="rounding of the reference")
starts = [n for n, name in enumerate(compared) if name.endswith("/attention_norm")]
axes.set_xticks(starts, [f"block {i}" for i in range(c.depth)], ha="left")
axes.set(xlabel="arrays in the order of the model", ylabel="error / largest value")
axes.legend(frameon=False)
show(
    figure,
    "Figure 8. The distance to the reference, array by array. Ours stays below the rounding of the "
    "reference itself; with the other GELU it jumps in the first MLP, and stays.",
    "Two lines on a logarithmic axis: ours flat below one ten-millionth, the one with erf leaving it "
    "in the first block and staying near one ten-thousandth.",
)

# %% [markdown]
# Behind the fourth block stands one last LayerNorm. Then the eye is done: 64 vectors, each of
# which says what is on its patch, and what that is part of.
#
# ## On your own
#
# 1. **One line.** Every row of attention sums to one, so the mean of all values in `probs` is known
#    without looking. What is it?
# 2. **Switch a head off.** What a tap returns is what the model goes on with. Write a tap that gives
#    head 0 of block 2 equal shares of 1/64 everywhere, run the eye with it, and find how far
#    `out` has moved. Up to `block02/attention/scores` every array must be what it was.
# 3. **A whole block.** Write `my_block(x, weights)` in plain NumPy, with nothing imported from
#    `numpy_paligemma`. From `golden["vision/embed"]` and `w.blocks[0]` it must make
#    `golden["vision/block00/out"]`, to 10⁻⁶ of its largest value.
#
# The package's tests will judge your own `layer_norm`, `softmax`, `gelu`, `siglip_attention` and
# others, and name the mistake if it is a known one: [tests/exercises](../tests/exercises/README.md).
#
# ## In practice
#
# - PaliGemma's SigLIP has 27 such blocks of width 1152, with 16 heads of 72 numbers, and sees 256,
#   1024 or 4096 patches. Four times the patches are sixteen times the scores.
# - It was trained on pictures and captions from the web, to tell which belong together. For that it had
#   one more layer, a *pooling head*, that made one vector out of all; PaliGemma leaves it out
#   and takes all patches. In some checkpoints its weights are still there; the loader says so.
# - Attention maps show where a head looks, not why the model says what it says. Treat them as a
#   hint, and test it by switching off, as in exercise 2.
# - To compare your own port with these formulas, record both, and look for the first array that
#   leaves the tolerance, as in Figure 8.
#
# ## Further reading
#
# - Vaswani et al. (2017), [Attention Is All You Need](https://arxiv.org/abs/1706.03762), section 3.2.
# - Ba, Kiros and Hinton (2016), [Layer Normalization](https://arxiv.org/abs/1607.06450).
# - Hendrycks and Gimpel (2016), [GELUs](https://arxiv.org/abs/1606.08415): both formulas, in section 2.
# - Dosovitskiy et al. (2020), [An Image is Worth 16x16 Words](https://arxiv.org/abs/2010.11929):
#   attention distance by depth, for large models, is in their figure 7.
# - [`model/siglip.py`](../numpy_paligemma/model/siglip.py): the whole eye, on two screens.
# - Next: [05, Cross the bridge](05_cross_the_bridge.ipynb).

# %% [markdown]
# <details><summary>Solutions</summary>
#
# ```python
# # 1: 64 shares that sum to one
# np.testing.assert_allclose(probs.mean(), 1 / 64, rtol=1e-14)
#
# # 2
# now = {}
#
# def switch_off(name, x):
#     if name == "block02/attention/probs":
#         x = x.copy()  # the recorder above still holds the old one
#         x[:, 0] = 1 / 64
#     now[f"vision/{name}"] = x
#     return x
#
# siglip_encoder(pixels, w, c, tap=switch_off)
# for name in list(seen)[: list(seen).index("vision/block02/attention/scores") + 1]:
#     np.testing.assert_array_equal(now[name], seen[name])
# print("vision/out moved by", rms(now["vision/out"] - seen["vision/out"]))
#
# # 3
# def my_norm(x, gain, bias):
#     x = x - x.mean(axis=-1, keepdims=True)
#     return x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + 1e-6) * gain + bias
#
# def my_block(x, weights):
#     y = my_norm(x, *weights.attention_norm)
#     q, k, v = (
#         (y @ a.weight.T + a.bias).reshape(1, 64, 4, 32).transpose(0, 2, 1, 3)
#         for a in (weights.q_proj, weights.k_proj, weights.v_proj)
#     )
#     scores = np.exp(q @ k.transpose(0, 1, 3, 2) / math.sqrt(32))
#     shares = scores / scores.sum(axis=-1, keepdims=True)
#     context = (shares @ v).transpose(0, 2, 1, 3).reshape(1, 64, 128)
#     x = x + context @ weights.out_proj.weight.T + weights.out_proj.bias
#     y = my_norm(x, *weights.mlp_norm) @ weights.fc1.weight.T + weights.fc1.bias
#     bent = y / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (y + 0.044715 * y**3)))
#     return x + bent @ weights.fc2.weight.T + weights.fc2.bias
#
# out = my_block(golden["vision/embed"].astype(np.float64), w.blocks[0])
# np.testing.assert_allclose(out, golden["vision/block00/out"], rtol=0, atol=1e-6 * np.abs(out).max())
# ```
#
# </details>
