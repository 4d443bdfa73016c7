# %% [markdown]
# # Cut an image into patches
#
# **Why is a convolution a matmul here?**
#
# ## What you'll do
#
# You cut a picture into squares, turn each into a vector by one matrix product, look at
# what that matrix has learned to see, and tell each vector where it came from.
#
# ## What you'll learn
#
# - how `reshape` and `transpose` cut a picture, and why `reshape` alone does not,
# - why a convolution whose stride is as large as its kernel *is* a matrix product,
# - what the learned filters look like, and what they answer,
# - why a transformer must be *told* where a patch was, and what it is told.
#
# ## What you'll need
#
# NumPy shapes and `@`. If you know `nn.Conv2d(3, 128, kernel_size=14, stride=14)` from
# PyTorch: this notebook is about that one line. If you don't, read on just the same.

# %%
from dataclasses import replace

import numpy as np
import plotting as plots
from plotting import INK, VISION, plt, show
from safetensors.numpy import load_file

from numpy_paligemma import load_hf_model
from numpy_paligemma.checkpoints.hub import bundled
from numpy_paligemma.inputs.image import load_image, pixel_values

# %%
model, processor = load_hf_model("miniature", dtype="float64")
w, c = model.weights.vision, model.config.vision  # the eye's numbers, and its sizes
photo = load_image(bundled("sample.jpg"))
pixels = pixel_values([photo], processor.image_settings).astype(np.float64)
golden = load_file("../tests/golden/miniature.safetensors")
rng = np.random.default_rng(0)
print("pixels:", pixels.shape, "from", pixels.min(), "to", pixels.max())

# %% [markdown]
# We work in float64 here, so that rounding cannot hide a mistake. `golden` holds what the
# reference implementation (Hugging Face's `transformers`) got for this very picture.
#
# ## From a picture to rows of numbers
#
# A transformer works on a list of vectors. A picture is no list. Its pixels could be one,
# but there are 12,544 of them, and it compares each with each. So the picture is cut
# into squares, *patches*, of 14 × 14 pixels: 8 rows of 8, and each patch becomes one vector.

# %%
CHOSEN = 18  # row 2, column 2: the right edge of the circle
row, column = divmod(CHOSEN, c.grid)
patch = pixels[0, :, row * 14 : row * 14 + 14, column * 14 : column * 14 + 14]
print("one patch:", patch.shape, "->", patch.ravel().shape)

# %%
small = pixels[0].transpose(1, 2, 0) / 2 + 0.5  # (112, 112, 3), 0 … 1, to look at
layout = [["picture", "patch", "R", "G", "B"], ["row"] * 5]
figure, axes = plt.subplot_mosaic(
    layout,
    figsize=(plots.WIDTH, 2.9),
    height_ratios=[1, 0.12],
    width_ratios=[1.5] + [1] * 4,
)
plots.picture_with_grid(axes["picture"], small, c.grid)
frame = plt.Rectangle((column, row), 1, 1, fill=False, color=INK, linewidth=2.5)
axes["picture"].add_patch(frame)
plots.bare(axes["patch"], f"patch {CHOSEN}").imshow(patch.transpose(1, 2, 0) / 2 + 0.5)
for name, channel in zip("RGB", patch, strict=True):
    look = {"cmap": "gray", "vmin": -1, "vmax": 1}
    plots.bare(axes[name], name).imshow(channel, **look)
axes["row"].imshow(patch.reshape(1, -1), aspect="auto", **look)
axes["row"].set(xticks=[0, 196, 392, 588], yticks=[], xlabel="place in the row of 588")
show(
    figure,
    "Figure 1. One patch of 64: where it was, what is on it, its three channels, and all "
    "its numbers in a row, channel by channel, line by line.",
    "The picture with a grid of 8 by 8 and one square marked; the square enlarged, its red, "
    "green and blue channels in grey, and below a strip of 588 grey levels.",
)

# %% [markdown]
# ### Cutting is reshape, transpose, reshape
#
# Take sixteen numbers as a picture of 4 × 4, and patches of 2 × 2. Split each axis in two,
# *which patch* and *where in it*; bring the two "which" to the front; flatten.

# %%
toy = np.arange(16).reshape(4, 4)
tiles = toy.reshape(2, 2, 2, 2)  # (patch row, y, patch column, x)
tiles = tiles.transpose(0, 2, 1, 3)  # (patch row, patch column, y, x)
print(toy, "\n\none patch a line:\n", tiles.reshape(4, 4), sep="")

# %% [markdown]
# `reshape` alone never moves a number in memory: `toy.reshape(4, 4)` would give back the
# *rows* of the picture, strips of 4 × 1. The `transpose` in the middle makes them squares.
# It is the step that is forgotten most often, and nothing crashes without it.
#
# The real one does this with colour channels and for several pictures at once:

# %%
from numpy_paligemma.model.siglip import cut_patches

plots.source(cut_patches)

# %%
patches = cut_patches(pixels, c.patch_size)
np.testing.assert_array_equal(patches[0, CHOSEN], patch.ravel())
print(pixels.shape, "->", patches.shape)

# %% [markdown]
# ## Where is the convolution?
#
# Papers and frameworks say that SigLIP begins with a *convolution*. A convolution lays a small
# window of weights, a *kernel* or *filter*, on the picture, multiplies what lies on top of
# each other, adds it all up, moves on by a *stride* of $s$ pixels, and does it again. With
# filter $d$, channel $k$, and the window's place $(i, j)$:
#
# $$ \text{out}_{d,i,j} = b_d + \sum_{k,y,x} W_{d,k,y,x} \cdot \text{pixels}_{k, is + y, js + x} $$
#
# In most networks windows overlap: a pixel is seen by several, and must be copied for each of
# them before a matrix product can do the work. How often is each pixel seen by windows of
# 14 × 14?


# %%
def visits(stride):
    """Count how many windows see each pixel."""
    seen = np.zeros((112, 112), int)
    for y in range(0, 112 - 13, stride):
        for x in range(0, 112 - 13, stride):
            seen[y : y + 14, x : x + 14] += 1
    return seen


# %%
figure, axes = plt.subplots(1, 2, figsize=(6.2, 2.9))
for axis, stride in zip(axes, (7, 14), strict=True):
    image = axis.imshow(visits(stride), cmap="Blues", vmin=0, vmax=4)
    windows = ((112 - 14) // stride + 1) ** 2
    axis.set(title=f"stride {stride}: {windows} windows", xlabel="pixel column")
axes[0].set_ylabel("pixel row")
figure.colorbar(image, ax=axes, label="windows that see it", ticks=range(5))
show(
    figure,
    "Figure 2. How many windows see each pixel. With a stride of 7 most are seen four times; "
    "with a stride as large as the window each is seen exactly once.",
    "Two maps of the picture's area: a checked one with counts of one, two and four, and an "
    "even one with a count of one everywhere.",
)

# %% [markdown]
# There is the answer. In one dimension, with a kernel of three numbers and a stride of three:

# %%
signal, small_kernel = np.array([3, 1, 4, 1, 5, 9]), np.array([1, 0, -1])
print("slid:       ", [signal[i : i + 3] @ small_kernel for i in (0, 3)])
print("one product:", signal.reshape(2, 3) @ small_kernel)

# %% [markdown]
# **If stride and kernel have the same size, every pixel is in exactly one
# window**, and the windows are our patches. The sum over $k, y, x$ is then the dot product
# of one row of 588 numbers with one filter of 588 numbers, and all of them together are
#
# $$ \text{out} = \text{patches} \cdot W^\top + b, \qquad (64 \times 588) \cdot (588 \times 128) $$
#
# In the checkpoint the weight still has a convolution's shape, (128, 3, 14, 14). Flattened, it
# has the same order as our patches: channel, then line, then column. Check it against
# a true sliding window, which moves one pixel at a time and of which we keep every 14th place:

# %%
from numpy_paligemma.model.layers import linear

windows = np.lib.stride_tricks.sliding_window_view(pixels, (14, 14), axis=(2, 3))
windows = windows[:, :, ::14, ::14]  # (B, 3, 8, 8, 14, 14)
kernel = w.patch_embed.weight.reshape(-1, 3, 14, 14)
slid = np.einsum("bkijyx,dkyx->bijd", windows, kernel) + w.patch_embed.bias
print("windows:", windows.shape, " kernel:", kernel.shape)

# %%
by_matmul = linear(patches, *w.patch_embed)  # (B, P, D)
slid = slid.reshape(by_matmul.shape)
np.testing.assert_allclose(by_matmul, slid, rtol=0, atol=1e-12)
print("largest value", np.abs(slid).max().round(2))
print("largest difference", np.abs(by_matmul - slid).max())

# %% [markdown]
# The same. Only the order in which 588 products are added up may differ between the two, and in
# float64 that changes the sixteenth digit of each step at most: 10⁻¹² leaves room for all 588
# steps, and for no mistake.
#
# ## What has the matrix learned to see?
#
# A row of the matrix has as many numbers as a patch, so it *is* a small picture. Grey is
# zero: the filter doesn't care. Where it is reddish, red there makes its answer larger.


# %%
def colours(rows):
    """See rows (n, 588) as tiles (n, 14, 14, 3), grey for zero."""
    tiles = rows.reshape(-1, 3, 14, 14).transpose(0, 2, 3, 1)
    return 0.5 + 0.5 * tiles / np.abs(tiles).max(axis=(1, 2, 3), keepdims=True)


# %%
def wall(tiles, across, gap=2):
    """Lay tiles (n, 14, 14, 3) side by side."""
    step = 14 + gap
    sheet = np.ones((len(tiles) // across * step - gap, across * step - gap, 3))
    for i, tile in enumerate(tiles):
        y, x = np.array(divmod(i, across)) * step
        sheet[y : y + 14, x : x + 14] = tile
    return sheet


# %% [markdown]
# 128 filters are many, and the miniature was trained for an hour or two and not for weeks,
# so each of them still carries the random numbers that it began with. What they have in common
# shows better in their *principal components*: the small pictures of which all filters are
# mixtures, the weightiest first. (The singular value decomposition finds them.)

# %%
weight = w.patch_embed.weight  # (D, 588), one filter a row
_, _, components = np.linalg.svd(weight, full_matrices=False)  # (D, 588)
strongest = weight[np.argsort(-np.linalg.norm(weight, axis=1))]

# %% tags=["cover"]
figure, (left, right) = plt.subplots(1, 2, figsize=(plots.WIDTH, 4.3))
plots.bare(left, "25 of the 128 filters").imshow(wall(colours(strongest[:25]), 5))
plots.bare(right, "the first 25 components").imshow(wall(colours(components[:25]), 5))
show(
    figure,
    "Figure 3. What the first matrix looks for, as colour tiles. Right: stripes in several "
    "directions, which answer to edges, and patches of colour.",
    "Two walls of 25 small colour tiles. On the left noisy blobs and edges, on the right "
    "clear oblique, horizontal and vertical stripes first, noisier tiles last.",
)

# %% [markdown]
# Stripes answer to edges: one side reddish, the other greenish. Colours answer to colours. Nobody
# put them there; they help to tell a red circle from a blue star. Here is what the
# first four components find on each patch of our picture:

# %%
answers = (patches @ components.T)[0]  # (P, D)
figure, axes = plt.subplots(1, 8, figsize=(plots.WIDTH, 1.6), width_ratios=[1, 2] * 4)
for d, (tile, over) in enumerate(axes.reshape(4, 2)):
    plots.bare(tile, f"no. {d}").imshow(colours(components[d])[0])
    plots.bare(over).imshow(small.mean(axis=-1), cmap="gray", extent=(0, 8, 8, 0))
    said, limit = answers[:, d].reshape(8, 8), np.abs(answers[:, d]).max()
    look = {"cmap": "PuOr_r", "vmin": -limit, "vmax": limit}
    over.imshow(said, extent=(0, 8, 8, 0), alpha=0.7, **look)
show(
    figure,
    "Figure 4. Four components, and how much of them there is on each of the 64 patches: "
    "orange is much, purple is much of the opposite, white is nothing.",
    "Four pairs of a component's colour tile and the picture with an 8 by 8 map of its "
    "answers, strong where shapes have edges.",
)

# %% [markdown]
# ## Where was the patch?
#
# The vectors know what is *on* a patch. Do they know where it was? Everything that follows, as
# you will see in the next notebook, treats the 64 vectors as a *set*: attention compares each
# with each, and the rest works on each alone. So let us shuffle the patches, and see what the
# whole eye makes of it, at first without any information on places.


# %%
def glued(patches):
    """Put patches (B, P, 588) together again to pictures (B, 3, 112, 112)."""
    tiles = patches.reshape(-1, 8, 8, 3, 14, 14).transpose(0, 3, 1, 4, 2, 5)
    return tiles.reshape(-1, 3, 112, 112)


# %%
order = rng.permutation(c.patches)
shuffled = glued(patches[:, order])
np.testing.assert_array_equal(glued(patches), pixels)

# %%
from numpy_paligemma.model.siglip import siglip_encoder

nought = np.zeros_like(w.position_embed)
placeless = replace(w, position_embed=nought)  # all other weights as they were
before = siglip_encoder(pixels, placeless, c)
after = siglip_encoder(shuffled, placeless, c)
np.testing.assert_allclose(after, before[:, order], rtol=0, atol=1e-10)
print("without places: the same 64 vectors, shuffled")

# %% [markdown]
# The tolerance is again one for rounding alone, now through four blocks. No vector has
# changed: **an eye without places cannot tell a picture from its jigsaw.**

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(4.6, 2.4))
plots.bare(left, "a picture").imshow(small)
plots.bare(right, "its jigsaw").imshow(shuffled[0].transpose(1, 2, 0) / 2 + 0.5)
show(
    figure,
    "Figure 5. Without position embeddings these two are the same set of patches.",
    "The sample picture, and beside it the same 64 patches in random order.",
)

# %% [markdown]
# So to each vector a second one is added, which belongs to the place and not to the picture: the
# *position embedding*, a learned table with one row for each of the 64 places. With it the
# two pictures are different:

# %%
before, after = (siglip_encoder(p, w, c) for p in (pixels, shuffled))
print(
    "with places, largest difference:", np.abs(after - before[:, order]).max().round(1)
)

# %% [markdown]
# Nothing in that table says that place 0 is at the top left, or that 8 lies below it. It was
# random when training began. Compare its rows with each other (the *cosine* is 1 where
# two vectors point the same way, 0 where they have nothing in common):

# %%
table = w.position_embed - w.position_embed.mean(axis=0)  # (P, D)
unit = table / np.linalg.norm(table, axis=1, keepdims=True)
alike = unit @ unit.T  # (P, P)
maps = np.full((8, 9, 8, 9), np.nan)  # a white line after each map
maps[:, :8, :, :8] = alike.reshape(8, 8, 8, 8).transpose(0, 2, 1, 3)

# %%
y, x = np.divmod(np.arange(c.patches), c.grid)
rows_apart, columns_apart = abs(y[:, None] - y), abs(x[:, None] - x)  # (P, P)
along = [alike[(rows_apart == 0) & (columns_apart == n)].mean() for n in range(8)]
down = [alike[(columns_apart == 0) & (rows_apart == n)].mean() for n in range(8)]

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(plots.WIDTH, 4.2))
image = left.imshow(maps.reshape(72, 72)[:-1, :-1], cmap="PuOr_r", vmin=-1, vmax=1)
left.set_xticks(np.arange(8) * 9 + 3.5, range(8))
left.set_yticks(np.arange(8) * 9 + 3.5, range(8))
left.set(xlabel="column of the place", ylabel="row of the place")
left.spines[:].set_visible(False)
figure.colorbar(image, ax=left, label="cosine", shrink=0.8)
right.plot(along, "o-", color=VISION, label="in the same row")
right.plot(down, "s--", color=VISION, label="in the same column")
right.axhline(0, color=INK, linewidth=0.7)
right.set(xlabel="patches apart", ylabel="mean cosine")
right.legend(frameon=False)
show(
    figure,
    "Figure 6. The position table has learned the plane. Left: for each place a small map of "
    "how alike its vector is to all the others. Right: neighbours are most alike, and along a "
    "row or a column of the picture some likeness stays.",
    "A wall of 8 by 8 small maps, each with a bright cross through its own place; and two "
    "curves of cosine against distance, which fall steeply at first.",
)

# %% [markdown]
# Each small map is brightest at its own place and has a cross through it: the row and the
# column that it lies in. Nobody told the table that there are rows and columns. It found them,
# because pictures are made so.
#
# ## The whole station
#
# One product and one sum, and the picture is a list of vectors:
#
# $$ x = \text{patches} \cdot W^\top + b + \text{positions} $$

# %%
x = linear(patches, *w.patch_embed) + w.position_embed  # (B, P, D)
print(patches.shape, "->", x.shape)

# %% [markdown]
# ### Check: against the reference
#
# The reference was worked out in float64, as ours, and kept as float32. Keeping moves a
# number by at most 2⁻²⁴ of itself. That is our tolerance, plus the 10⁻¹² from above.

# %%
np.testing.assert_allclose(x, golden["vision/embed"], rtol=2**-24, atol=1e-12)
print("equal to the reference:", x.size, "numbers")

# %% [markdown]
# ## On your own
#
# 1. **One line.** From the sizes in `c` alone: how many multiplications does it take to embed
#    one picture? It must equal `patches[0].size * c.width`. And with a stride of 7?
# 2. **Another order.** TensorFlow and JAX keep pictures channels last. Cut
#    `pixels.transpose(0, 2, 3, 1)` into patches whose numbers go line, column, channel, and
#    reorder the weight so that the product is `by_matmul` again.
# 3. **A convolution without patches.** Write `embed(pixels)` with no `cut_patches` and no window
#    view: a loop over the 14 × 14 places in a window, and one product for each, of the pixels
#    `[:, :, y::14, x::14]` with the weights at `(y, x)`. It must equal `golden["vision/embed"]`.
#
# And whenever you have written a `cut_patches` of your own, the package's tests will judge it:
# [tests/exercises](../tests/exercises/README.md).
#
# ## In practice
#
# - PaliGemma comes for three sizes of picture: 224, 448 and 896 pixels, so 256, 1024 and 4096
#   patches. **What are the 256 equal ids at the start of a prompt?** One place holder for each
#   patch: notebook 05 puts their vectors there. Each size has a position table of its own.
# - 14 divides all these sizes. Where a patch does not fit, a convolution drops the pixels at the
#   right and at the bottom, and so does `cut_patches`.
# - The order of channels matters as much as the transpose: with BGR for RGB all runs, and red
#   things are called blue. Pictures are resized by bicubic interpolation *with* smoothing
#   (antialias) as Pillow does it; other resizers change the answers.
#
# ## Further reading
#
# - Dosovitskiy et al. (2020), [An Image is Worth 16x16 Words](https://arxiv.org/abs/2010.11929):
#   the first to do this at scale. Their figure 7 has our figures 3 and 6, for a large model.
# - Zhai et al. (2023), [Sigmoid Loss for Language Image
#   Pre-Training](https://arxiv.org/abs/2303.15343): SigLIP, PaliGemma's eye.
# - [`model/siglip.py`](../numpy_paligemma/model/siglip.py), the file this notebook begins.
# - Next: [04, Look with SigLIP](04_look_with_siglip.ipynb).

# %% [markdown]
# <details><summary>Solutions</summary>
#
# ```python
# # 1: each of the 3·112·112 numbers meets each filter once; with stride 7 there are
# # 15·15 windows instead of 8·8, three and a half times as many
# assert c.channels * c.image_size**2 * c.width == patches[0].size * c.width
#
# # 2
# last = pixels.transpose(0, 2, 3, 1)  # (B, height, width, 3)
# tiles = last.reshape(1, 8, 14, 8, 14, 3).transpose(0, 1, 3, 2, 4, 5)
# reordered = kernel.transpose(0, 2, 3, 1).reshape(c.width, -1)
# mine = tiles.reshape(1, 64, -1) @ reordered.T + w.patch_embed.bias
# np.testing.assert_allclose(mine, by_matmul, rtol=0, atol=1e-12)
#
# # 3
# def embed(pixels):
#     out = np.zeros((1, 8, 8, c.width))
#     for y in range(14):
#         for x in range(14):
#             seen = pixels[:, :, y::14, x::14]  # (B, 3, 8, 8)
#             out += seen.transpose(0, 2, 3, 1) @ kernel[:, :, y, x].T
#     return out.reshape(1, 64, -1) + w.patch_embed.bias + w.position_embed
#
# np.testing.assert_allclose(
#     embed(pixels), golden["vision/embed"], rtol=2**-24, atol=1e-12
# )
# ```
#
# </details>
