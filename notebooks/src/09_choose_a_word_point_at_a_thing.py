# %% [markdown]
# # Choose a word, point at a thing
#
# **How do logits become text, and text boxes?**
#
# ## What you'll do
#
# You bring the model into doubt and watch it choose: by the likeliest token, by a draw, by a draw from the
# likely ones alone. Then it points. Four tokens make a box, sixteen more an outline; you read both out of
# the text and lay them over the photo.
#
# ## What you'll learn
#
# - what temperature and top-p do to a distribution, and where in a sentence they do anything,
# - how one random number becomes one token, and why the same seed gives the same answer,
# - why places should be taken, not drawn,
# - how text is read back as boxes, what can be wrong with it, and whether one divides by 1023 or by 1024,
# - how sixteen tokens draw a mask of 64 × 64 pixels.
#
# ## What you'll need
#
# From notebook 08: for each new token the model gives the *logits*, one number for each of the V tokens it
# knows; the larger, the better that token would go on. In the shapes below, n is the number of tokens in an
# answer.

# %%
import numpy as np
import plotting as plots
from PIL import Image
from plotting import INK, LANGUAGE, QUIET, plt, show

from numpy_paligemma import load_hf_model
from numpy_paligemma.checkpoints.hub import bundled
from numpy_paligemma.inputs.image import load_image

model, processor = load_hf_model("miniature", dtype="float32")
tokenizer = processor.tokenizer
photo = load_image(bundled("sample.jpg"))
pieces = [tokenizer.decode([i], False) for i in range(model.config.text.vocab_size)]
print("the miniature knows V =", len(pieces), "tokens")

# %% [markdown]
# ## Bring it into doubt
#
# On a clear picture the miniature is sure of itself, and a sure model leaves nothing to choose. So let us
# paint the photo's blue star, step by step, purple, and ask for its colour. (`ask` also listens to the
# logits on their way.)


# %%
def ask(picture, prompt, **options):
    """Answer: the tokens (n,), and the logits that each was chosen from, (n, V)."""
    heard = []

    def listen(name, x):
        if name == "logits":
            heard.append(x[0].astype(np.float64))
        return x

    options = {"do_sample": False} | options
    inputs = processor(text=[prompt], images=[picture])
    [ids] = model.generate(**inputs, **options, tap=listen)
    return ids, np.array(heard)


# %%
pixels = np.asarray(photo).astype(float)
star = pixels[..., 2] > pixels[..., 0] + 25  # more blue than red


def painted(amount):
    """Paint the star: 0 leaves it blue, 1 makes it purple."""
    changed = pixels + amount * star[..., None] * [100, -30, -20]
    return Image.fromarray(changed.clip(0, 255).astype(np.uint8))


# %%
from numpy_paligemma.model.layers import softmax

COLOUR = "answer en what colour is the star?"
blue, purple = pieces.index("blue"), pieces.index("purple")


def odds(amount, prompt=COLOUR, step=0):
    """Say how likely each token is at one step of the answer, (V,)."""
    logits = ask(painted(amount), prompt, max_new_tokens=step + 1)[1]
    return softmax(logits[step])


# %%
amounts = np.linspace(0, 1, 26)
curves = np.array([odds(a)[[blue, purple]] for a in amounts])  # (26, 2)
figure, axes = plt.subplots(figsize=(6.5, 3))
axes.plot(amounts, curves[:, 0], color=LANGUAGE, label="blue")
axes.plot(amounts, curves[:, 1], "--", color=LANGUAGE, label="purple")
axes.set(xlabel="how far the star is painted", ylabel="probability", ylim=(0, 1.45))
axes.set_yticks([0, 0.5, 1])
axes.spines.left.set_bounds(0, 1)
axes.legend(frameon=False, loc="center left")
for amount in (0, 0.25, 0.5, 0.75, 1):
    crop = painted(amount).crop((230, 250, 520, 520))
    thumb = axes.inset_axes((amount - 0.08, 1.1, 0.16, 0.33), transform=axes.transData)
    plots.bare(thumb).imshow(crop)
show(
    figure,
    "Figure 1. What the model would answer while the star turns from blue to purple: sure of "
    "`blue`, sure of `purple`, and in between a narrow place where it doubts.",
    "Two curves that cross: the probability of blue falls from one to nought as that of purple "
    "rises. Above them the star in five colours.",
)

# %% [markdown]
# The place in between is where we want to be. Halve the interval until it is found:


# %%
def doubtful(token, **where):
    """Find how far one can paint and leave a word for blue 60 % of the odds."""
    low, high = 0.0, 1.0
    for _ in range(12):
        middle = (low + high) / 2
        sure = odds(middle, **where)[token] > 0.6
        low, high = (middle, high) if sure else (low, middle)
    return low


# %%
amount = doubtful(blue)
_, logits = ask(painted(amount), COLOUR)  # (n, V)
print(f"painted {amount:.3f}: blue {odds(amount)[blue]:.0%}")

# %% [markdown]
# ## From logits to probabilities, and temperature
#
# Softmax makes probabilities of logits. Before it, the logits may be divided by a number, the
# *temperature*:
#
# $$p_i = \frac{e^{z_i / t}}{\sum_j e^{z_j / t}}$$
#
# What matters is the *distance* between logits: at t = 1 the token that lies by ln 2 ≈ 0.7 below another
# has half its probability. A t below one stretches the distances, a t above one shrinks them.

# %%
z = np.array([3.0, 2.0, 0.0])
for t in (0.25, 1, 4):
    print(t, softmax(z / t).round(3))

# %%
order = np.argsort(-logits[0])
rest = f"the other {len(pieces) - 4:,}"
names = [*(pieces[i].strip() for i in order[:4]), rest]
colours = [LANGUAGE] + [plots.to_rgba(LANGUAGE, 0.35)] * 3 + [QUIET]
figure, axes = plt.subplots(1, 4, figsize=(plots.WIDTH, 2.1), sharey=True)
for axis, t in zip(axes, [0.5, 1, 2, 4], strict=True):
    p = softmax(logits[0] / t)[order]
    shares = [*p[:4], p[4:].sum()]
    plots.bars(axis, names, shares, colours, [f"{x:.3f}" for x in shares])
    axis.set(xlim=(0, 1.4), xticks=[0, 0.5, 1], xlabel="probability", title=f"t = {t}")
    axis.set_ylim(4.6, -0.6)
show(
    figure,
    "Figure 2. The first word of the answer about the doubtful star at four temperatures: the four "
    "likeliest tokens, and all others together (grey). The order of tokens never changes; the "
    "hotter, the more goes to the many.",
    "Four bar charts. When it is cold nearly all goes to the first token; when it is hot most goes "
    "to the grey bar of all other tokens.",
)

# %% [markdown]
# The two ends: towards t = 0 everything goes to the likeliest token, and the draw is no draw any more
# (*greedy*); towards infinity all V tokens become equally likely.

# %%
cold, hot = softmax(logits[0] / 1e-3), softmax(logits[0] / 1e6)
np.testing.assert_allclose(cold[np.argmax(logits[0])], 1)
np.testing.assert_allclose(hot, 1 / len(pieces), rtol=1e-3)

# %% [markdown]
# ## From a random number to a token
#
# How does one draw a token that comes with probability p? Lay the probabilities one behind the other: they
# fill a ruler from 0 to 1. Throw a number at the ruler, evenly, and see in whose part it falls. The parts'
# right ends are the running sum of p, so "whose part" is one search in a sorted list (*inverse transform
# sampling*).

# %%
p = np.array([0.5, 0.3, 0.15, 0.05])
ends = np.cumsum(p)
throws = np.random.default_rng(1).random(14)
print(throws[:5].round(2), "->", np.searchsorted(ends, throws[:5], side="right"))

# %%
figure, axis = plt.subplots(figsize=(plots.WIDTH, 1.3))
for i, (start, size) in enumerate(zip(ends - p, p, strict=True)):
    shade = plots.to_rgba(LANGUAGE, 0.9 - 0.22 * i)
    axis.barh(0, size, left=start, color=shade, edgecolor="white", lw=2)
    axis.text(start + size / 2, 0, str(i), ha="center", va="center")
axis.plot(throws, [0.62] * len(throws), "v", color=INK, ms=6)
axis.set(yticks=[], xlim=(-0.01, 1.01), ylim=(-0.5, 0.85), xticks=[0, *ends.round(2)])
axis.spines[:].set_visible(False)
show(
    figure,
    "Figure 3. Fourteen throws at the ruler of four tokens, 0 to 3: in the long run a part that is "
    "twice as long is hit twice as often.",
    "A bar from 0 to 1 cut into four parts of falling length, with fourteen small marks above it.",
)

# %%
from numpy_paligemma.model.sampling import sample_token

plots.source(sample_token)

# %% [markdown]
# Three things to see in it. It works in float64 whatever the model ran in, on the host, so that a graphics
# card draws what a processor draws. The largest logit is taken off first, or `exp` would overflow. And
# `rng` is handed in: the function has no luck of its own.
#
# ### Check: frequencies are probabilities
#
# Draw twenty thousand times from the doubtful place, at t = 2 so that more than two tokens have a chance.
# In m draws a token with probability p comes m · p times, give or take a standard deviation of √(m p (1 -
# p)).

# %%
m, t = 20_000, 2.0
rng = np.random.default_rng(9)
draws = [sample_token(logits[0], rng, temperature=t, top_p=1.0) for _ in range(m)]
counts = np.bincount(draws, minlength=len(pieces))
p = softmax(logits[0] / t)

# %%
deviation = (counts - m * p) / np.sqrt(m * p * (1 - p))
likely = np.argsort(-p)[:6]
for i in likely:
    print(f"{pieces[i]!r:12} expected {m * p[i]:8.1f}, came {counts[i]:6d}")
assert np.abs(deviation[likely]).max() < 4  # by chance once in some 2,500 runs

# %% [markdown]
# ## The tail, and the nucleus
#
# A model gives *every* token a probability. One in a thousand tokens that make no sense is little, but an
# answer of a hundred tokens draws a hundred times. *Nucleus sampling* (top-p) cuts the tail off: sort, keep
# the likeliest tokens until they hold the share top-p together, and draw among those.

# %%
from numpy_paligemma.model.sampling import nucleus

print(nucleus(np.array([0.2, 0.5, 0.05, 0.25]), 0.6).round(3))
plots.source(nucleus)

# %% [markdown]
# The token that crosses the line stays, so there is always one. What makes it better than "keep the best
# forty" (*top-k*) is that the number follows the doubt. Count what it keeps, step by step, along a caption.
# (The caption does not doubt where the question did, so we first look for *its* doubtful star.)

# %%
STEP = 5  # a red circle, a ...
amount = doubtful(pieces.index(" blue"), prompt="caption en", step=STEP)
star_in_doubt = painted(amount)
caption, steps = ask(star_in_doubt, "caption en")
words = [pieces[i] for i in caption]
print(tokenizer.decode(caption), f"(painted {amount:.3f})")

# %%
temperatures = [1, 2.5, 3]
kept = [[(nucleus(softmax(z / t), 0.9) > 0).sum() for z in steps] for t in temperatures]

# %%
figure, axes = plt.subplots(3, 1, figsize=(plots.WIDTH, 3.6), sharex=True)
for axis, t, sizes in zip(axes, temperatures, kept, strict=True):
    bars = axis.bar(range(len(words)), sizes, color=LANGUAGE, width=0.7)
    axis.bar_label(bars, sizes, size=8.5)
    axis.set(ylabel=f"t = {t}", yscale="log", ylim=(0.8, 9 * max(sizes)), yticks=[])
    axis.minorticks_off()
axes[-1].set_xticks(range(len(words)), [w.strip() for w in words], rotation=30)
show(
    figure,
    "Figure 4. How many tokens top-p 0.9 keeps at each step of a caption (logarithmic). At t = 1 "
    "one everywhere, but two where the star's colour is due. Heat lets the tail in, by the dozen "
    "and soon by the hundred.",
    "Three rows of bars over the words of a caption. In the first row all bars are one but that of "
    "the star's colour; in the second some are longer, in the third nearly all are in the hundreds.",
)

# %% [markdown]
# `generate` draws with t = 0.8 and top-p 0.9 unless it is told otherwise: the same caption with eight
# seeds. Where the nucleus has one token, the draw is none.

# %%
said = [
    tokenizer.decode(ask(star_in_doubt, "caption en", do_sample=True, seed=s)[0])
    for s in range(8)
]
for text in sorted(set(said)):
    print(said.count(text), "times", text)

# %% [markdown]
# ### Check: a seed is a promise
#
# Where does the luck come from? One generator a row of the batch, made from `[seed, row]`: so the same seed
# gives the same tokens, and a row's tokens do not depend on the rows beside it. Three rows at a temperature
# at which nothing is sure, twice; then with a fourth row at their side:

# %%
hot = {"temperature": 3.0, "top_p": 1.0, "seed": 7, "max_new_tokens": 12}
rows = processor(text=["caption en"] * 4, images=[photo] * 4)
three = {name: x[:3] for name, x in rows.items()}
once, again = model.generate(**three, **hot), model.generate(**three, **hot)
beside = model.generate(**rows, **hot)
for row in once:
    print(repr(tokenizer.decode(row)))

# %%
np.testing.assert_array_equal(once, again)
np.testing.assert_array_equal(once, beside[:3, : once.shape[1]])
assert len({tuple(row) for row in once}) == 3  # each row has luck of its own

# %% [markdown]
# ## A place is a token
#
# Among the tokens are 1,024 that are places: `<loc0000>` … `<loc1023>`, fractions of a side of the picture,
# from its top or its left. An object is four of them, **top, left, bottom, right** (y before x), and its
# name.

# %%
THINGS = {
    "red circle": "#c8352e",
    "blue star": "#2f5fc4",
    "yellow triangle": "#d9a300",
}
found = {name: ask(photo, f"detect {name}") for name in THINGS}
for ids, _ in found.values():
    print(tokenizer.decode(ids, skip_special_tokens=False))

# %% [markdown]
# So to point at an edge is to choose one token among 1,024, and before it is chosen there is a
# *distribution over places*. Let us draw it where it belongs, along the edges of the photo.

# %%
first = tokenizer.token_id("<loc0000>")
hills = {
    name: softmax(z[:4])[:, first : first + 1024] for name, (_, z) in found.items()
}
for name, hill in hills.items():  # (4, 1024)
    print(f"{name}: {hill.sum(axis=-1).min():.2%} or more of the odds are places")


# %%
def draw_hills(sides, name, colour):
    """Draw one thing's four hills, each on its side of the photo."""
    along = np.arange(1024)
    for k, (side, hill) in enumerate(zip(sides, hills[name], strict=True)):
        fill = side.fill_between if k % 2 else side.fill_betweenx
        fill(along, 0, hill, color=colour, alpha=0.75, lw=0)


def draw_edges(axis, name, colour):
    """Draw lines across the photo, where the four hills are highest."""
    for k, place in enumerate(hills[name].argmax(axis=-1)):
        line = axis.axvline if k % 2 else axis.axhline
        line(place, color=colour, lw=0.8, ls=":")


# %% tags=["cover"]
EDGES = ["1: top", "2: left", "3: bottom", "4: right"]
figure, grid = plt.subplots(
    3, 3, figsize=(6.6, 6.6), width_ratios=[1, 5, 1], height_ratios=[1, 5, 1]
)
sides = [grid[1, 0], grid[0, 1], grid[1, 2], grid[2, 1]]
for name, colour in THINGS.items():
    draw_hills(sides, name, colour)
    draw_edges(grid[1, 1], name, colour)
grid[1, 1].imshow(photo, extent=(0, 1024, 1024, 0), aspect="auto")
for axis in grid.flat:
    plots.bare(axis)
for k, (axis, label) in enumerate(zip(sides, EDGES, strict=True)):
    axis.set(xlim=(0, 1024)) if k % 2 else axis.set(ylim=(1024, 0), title=label)
    axis.set_ylabel(label if k % 2 else "")
sides[0].invert_xaxis()
sides[3].invert_yaxis()
show(
    figure,
    "Figure 5. Where the model thinks the edges of three things are, each in its colour: four "
    "tokens, four hills, each on one side of the photo. The dotted lines are the places taken.",
    "The photo of a circle, a star and a triangle. On its left side hills mark their top edges, "
    "above it their left edges, on its right their bottoms, below it their right edges.",
)

# %% [markdown]
# **Why hills and not needles?** Because the miniature was taught so: its targets were not "this bin, and
# all others are wrong" but a bell with a standard deviation of 8 bins around the true place. A neighbouring
# bin is nearly right, after all. A plain cross entropy does not know that bins have neighbours. Look at one
# hill closely, the top edge of the circle:

# %%
hill = hills["red circle"][0]
bins = np.arange(1024)
mean = (hill * bins).sum() / hill.sum()
spread = np.sqrt((hill * (bins - mean) ** 2).sum() / hill.sum())
in_nucleus = nucleus(hill, 0.9) > 0
print(f"peak {hill.argmax()}, mean {mean:.1f}, standard deviation {spread:.1f} bins")
print(in_nucleus.sum(), "places are in the nucleus of top-p 0.9")

# %%
taken = hill.argmax()
near = slice(taken - 45, taken + 46)
figure, axis = plt.subplots(figsize=(6.5, 2.6))
shades = np.where(in_nucleus[near], 0.9, 0.3)
axis.bar(bins[near], hill[near], color=[plots.to_rgba(LANGUAGE, a) for a in shades])
axis.axvline(taken, color=INK, lw=1)
axis.set(xlabel="place of the circle's top edge, in bins", ylabel="probability")
show(
    figure,
    "Figure 6. One hill, bin by bin. Dark: the nucleus of top-p 0.9. The line is the place that is "
    "taken when nothing is drawn.",
    "A bell of narrow bars, dark in the middle and pale at its feet, with a line at its peak.",
)

# %% [markdown]
# ## Places are taken, not drawn
#
# Now the draw looks different. In a sentence the nucleus was one token wide and drawing cost nothing; here
# it is dozens of places wide at every edge. All of them are *nearly* right, so a drawn box is nearly right,
# each time in another way. Forty rows with the default options, one look for all (`look`, then
# `soft_tokens`):

# %%
from numpy_paligemma.answers.detection import box_in_pixels, parse_answer

rows = processor(text=["detect red circle"] * 40, images=[photo] * 40)
soft = model.look(rows["pixel_values"][:1])  # (1, P, D)
drawn = model.generate(**rows, seed=0, soft_tokens=soft[[0] * 40])
greedy = found["red circle"][0]


# %%
def boxes_in(ids):
    """Read an answer's boxes, in pixels of the photo: (boxes, 4)."""
    parts = parse_answer(tokenizer.decode(ids))
    return np.array([box_in_pixels(p.bins, photo.size, scale=1024) for p in parts])


def overlap(a, b):
    """Intersection over union of two boxes (left, top, right, bottom)."""
    low, high = np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])
    both = np.prod(np.maximum(high - low, 0))
    return both / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - both)


# %%
import json
from pathlib import Path

answers = json.loads(Path("../weights/samples/answers.json").read_text("utf-8"))
truths = answers["paper.jpg"]["boxes"]
[truth] = np.array(truths["detect red circle"])  # left, top, right, bottom
[taken] = boxes_in(greedy)
clouds = np.array([boxes_in(ids)[0] for ids in drawn])  # (40, 4)
shares = np.array([overlap(box, truth) for box in clouds])
print(f"IoU with the true box: greedy {overlap(taken, truth):.3f};", end=" ")
print(f"drawn {shares.mean():.3f} on average, the worst {shares.min():.3f}")

# %%
from matplotlib.patches import Rectangle


def outline(axis, box, **style):
    """Draw a box."""
    left, top, right, bottom = box
    axis.add_patch(
        Rectangle((left, top), right - left, bottom - top, fill=False, **style)
    )


figure, axes = plt.subplots(1, 2, figsize=(6.5, 3.3))
for axis, title, some in zip(
    axes, ["drawn, forty times", "greedy"], [clouds, [taken]], strict=True
):
    axis.imshow(photo)
    for box in some:
        outline(axis, box, color=LANGUAGE, lw=0.8 if len(some) > 1 else 2)
    outline(axis, truth, color=INK, lw=1, ls=":")
    plots.bare(axis, title).set(xlim=(0, 280), ylim=(330, 70))
show(
    figure,
    "Figure 7. `detect red circle`, drawn with the default options (left) and taken greedily "
    "(right); dotted the true box. The draws scatter around the answer; no single one is to be "
    "preferred.",
    "The red circle twice: on the left within a thick bundle of forty boxes, on the right in one "
    "box.",
)

# %% [markdown]
# Hence the rule: `--no-sample` for `detect` and `segment`.
#
# ## Reading boxes
#
# The text comes back as tokens, and somebody must read it. `parse_answer` drops nothing: what it cannot
# read stays, with the reason why.

# %%
whole = "<loc0168><loc0059><loc0471><loc0379> red circle"
odd = {
    "two things": f"{whole} ; {whole.replace('red', 'blue')}",
    "cut off": f"{whole} ; <loc0168><loc00",
    "three places": "<loc0168><loc0059><loc0471> circle",
    "upside down": "<loc0471><loc0059><loc0168><loc0379> circle",
    "again and again": f"{whole} ; {whole}",
    "no box at all": "a red circle",
}
for name, text in odd.items():
    parts = parse_answer(text)
    assert "".join(part.text for part in parts) == text  # nothing is lost
    told = [(type(part).__name__, part.reason) for part in parts]
    print(f"{name}: {told}")

# %% [markdown]
# **1023 or 1024?** The published models were trained on round(v · 1023): bin 0 is one edge of the picture,
# bin 1023 the other, and one divides by 1023. Most programs divide by 1024, and some fine-tunes were
# trained so, as the miniature was. If you do not know what a model was trained on, you can lose this much:

# %%
everything = (0, 0, 1023, 1023)
for scale in (1023, 1024):
    print(scale, box_in_pixels(everything, photo.size, scale=scale))

# %%
from numpy_paligemma.answers.detection import bins_of_box

off = []
for box in np.random.default_rng(0).uniform(0, 640, (1000, 4)):
    back = box_in_pixels(bins_of_box(box, photo.size), photo.size)
    off.append(np.abs(back - box).max())
print(f"to bins and back: off by {max(off):.3f} pixels at most")
assert max(off) <= 640 / 1023 / 2 + 1e-9  # half a bin

# %% [markdown]
# Less than a pixel here: the hills are wider than that. Whoever compares published figures should still use
# the right one.
#
# ## Sixteen more tokens
#
# Ask `segment` for `detect`, and between the box and the name come sixteen `<seg>` tokens, of 128 that
# there are.

# %%
said = tokenizer.decode(ask(photo, "segment red circle")[0])
print(said)
[thing] = parse_answer(said)
codes = np.array([thing.codes])  # (masks, 16)

# %% [markdown]
# They are the words of another, small network, a *VQ-VAE*. Its encoder looked at masks of 64 × 64 pixels
# and described each by a grid of 4 × 4 vectors, but it was only allowed vectors out of a *codebook* of 128.
# Its decoder learned to draw the mask again. PaliGemma learned the encoder's words; what we need here is
# the decoder. It is convolutions, and a few of them:

# %%
from numpy_paligemma.answers.segmentation import decode_masks
from numpy_paligemma.checkpoints.mask_decoder import load_mask_decoder

decoder = load_mask_decoder(bundled("miniature") / "vae-oid.npz")
print("codebook", decoder.codebook.shape)
plots.source(decode_masks)

# %% [markdown]
# Each doubling is a *transposed convolution*: every cell lays its kernel of 4 × 4 down, two pixels on from
# its neighbour's, and where kernels overlap they add. With kernels of ones you can count the overlaps:

# %%
from numpy_paligemma.answers.segmentation import transposed_conv

cells, kernel = np.ones((1, 3, 3, 1)), np.ones((1, 1, 4, 4))
print(transposed_conv(cells, kernel, np.zeros(1))[0, ..., 0].astype(int))

# %% [markdown]
# Check it against its formula, out[2y + i - 1, 2x + j - 1] += in[y, x] · w[i, j], spelt out cell by cell on
# random numbers:

# %%
rng = np.random.default_rng(0)
cells, kernel = rng.standard_normal((1, 3, 3, 5)), rng.standard_normal((5, 2, 4, 4))
slow = np.zeros((2 * 3 + 2, 2 * 3 + 2, 2))  # a rim for what falls outside
for y, x in np.ndindex(3, 3):
    patch = np.einsum("c,coij->ijo", cells[0, y, x], kernel)
    slow[2 * y : 2 * y + 4, 2 * x : 2 * x + 4] += patch
found_by_layer = transposed_conv(cells, kernel, np.zeros(2))[0]
np.testing.assert_allclose(found_by_layer, slow[1:-1, 1:-1], atol=1e-12)

# %% [markdown]
# Now the circle's sixteen words, stage by stage. (Between codebook and mask we draw how long each cell's
# vector is.)

# %%
from numpy_paligemma.answers.segmentation import conv, relu, residual_block

x = decoder.codebook[codes].reshape(1, 4, 4, -1)
x = relu(conv(x, *decoder.entry))
for block in decoder.blocks:
    x = residual_block(x, block)
stages = [x]
for doubling in decoder.upsamplings:
    stages.append(relu(transposed_conv(stages[-1], *doubling)))
print(" -> ".join(str(stage.shape[1:]) for stage in stages))

# %%
from numpy_paligemma.answers.paste import paste_mask

[mask] = decode_masks(codes, decoder)  # (64, 64), above 0 is inside
box = box_in_pixels(thing.bins, photo.size, scale=1024)
pasted = paste_mask(mask, box, photo.size)  # (640, 640) of the photo
maps = [np.linalg.norm(stage[0], axis=-1) for stage in stages[:3]]

# %%
figure, axes = plt.subplots(1, 6, figsize=(plots.WIDTH, 1.9))
plots.bare(axes[0], "16 words").set(xlim=(-0.5, 3.5), ylim=(3.5, -0.5), aspect=1)
for k, code in enumerate(codes[0]):
    axes[0].text(k % 4, k // 4, code, ha="center", va="center", color=LANGUAGE)
for axis, sheet in zip(axes[1:4], maps, strict=True):
    plots.bare(axis, f"{len(sheet)} × {len(sheet)}").imshow(sheet, cmap="PuRd")
plots.bare(axes[4], "mask, 64 × 64").imshow(mask, cmap="PuRd", vmin=-1, vmax=1)
lit = np.where(pasted[..., None], 1, 0.25) * np.asarray(photo) / 255
plots.bare(axes[5], "pasted").imshow(lit)
show(
    figure,
    "Figure 8. From sixteen words to a mask: codebook rows in a grid of 4 × 4, doubled until they "
    "are 64 × 64, then stretched over the box on the photo.",
    "Six small pictures: a grid of sixteen numbers; maps of 4, 8 and 16 cells a side in which a "
    "disc appears; a clean disc of 64 pixels; and the photo, lit only at the red circle.",
)

# %% [markdown]
# ### Does the mask fit?
#
# The circle fills its box, so its true mask is the disc in its true box.

# %%
left, top, right, bottom = truth
rows, columns = np.mgrid[:640, :640] + 0.5
away = (
    (2 * columns - left - right) / (right - left),
    (2 * rows - top - bottom) / (bottom - top),
)
disc = np.square(away).sum(axis=0) <= 1
share = (disc & pasted).sum() / (disc | pasted).sum()
print(f"IoU with the true disc: {share:.3f}")
assert share > 0.8

# %% [markdown]
# **What does one word draw?** Exchange each of the sixteen for other words, one at a time, and see where
# the mask moves.

# %%
rng = np.random.default_rng(0)
tries = np.repeat(codes, 16 * 8, axis=0).reshape(16, 8, 16)
for k in range(16):
    tries[k, :, k] = rng.choice(128, 8, replace=False)
other = decode_masks(tries.reshape(-1, 16), decoder).reshape(16, 8, 64, 64)
moved = np.abs(other - mask).mean(axis=1)  # (16, 64, 64)

# %%
figure, axes = plt.subplots(2, 8, figsize=(plots.WIDTH, 2.4))
for k, axis in enumerate(axes.flat):
    axis.imshow(moved[k], cmap="PuRd", vmin=0, vmax=1)
    axis.contour(mask, [0], colors=[INK], linewidths=0.6)
    plots.bare(axis, f"word {k}")
show(
    figure,
    "Figure 9. Where the circle's mask (its edge is the thin line) changes when one word is "
    "exchanged: in that word's sixteenth of the square and close to it, most of all where the edge "
    "runs; the middle is filled in any case.",
    "Sixteen small squares with a thin circle; what is coloured lies along the edge, and wanders "
    "from the top left to the bottom right.",
)

# %% [markdown]
# ## The whole answer, drawn
#
# What `--draw` does: read the parts, decode the masks, paste them, draw.

# %%
from numpy_paligemma.answers.drawing import Thing, draw_things

things = []
for name in THINGS:
    text = tokenizer.decode(ask(photo, f"segment {name}")[0])
    [part] = parse_answer(text)
    box = box_in_pixels(part.bins, photo.size, scale=1024)
    [small] = decode_masks(np.array([part.codes]), decoder)
    things.append(Thing(part.label, box, paste_mask(small, box, photo.size)))

# %%
figure, axis = plt.subplots(figsize=(4.6, 4.6))
plots.bare(axis).imshow(draw_things(photo, things))
show(
    figure,
    "Figure 10. `segment`, three times: boxes, masks and names on the photo, read out of nothing "
    "but text.",
    "The photo; circle, star and triangle each in a box with its name, their shapes veiled in "
    "colour.",
)

# %% [markdown]
# A star is harder than a circle: its words must also say how it is turned. Its true mask is at hand, we
# painted it at the beginning.

# %%
masks = {thing.label: thing.mask for thing in things}
pairs = {"red circle": disc, "blue star": star}
for name, true in pairs.items():
    both, either = true & masks[name], true | masks[name]
    print(f"{name}: IoU {both.sum() / either.sum():.3f}")

# %% [markdown]
# ## On your own
#
# 1. **Without a ruler.** There is another way to draw: add to each logit z / t a number -ln(-ln u), u even
#    between 0 and 1, and take the largest (the *Gumbel trick*; `rng.gumbel` draws such numbers). Draw so
#    five thousand times from `logits[0]` at t = 2; the `likely` tokens must come as often as `p` says, to 4
#    standard deviations. (Then write `nucleus` and `sample_token` yourself, and let the package's tests try
#    them: [tests/exercises](../tests/exercises/README.md).)
# 2. **The centre of the hill.** Greedy takes the peak of each hill. Take its mean instead, `(hill *
#    bins).sum()`, for all three things, and compare the boxes' IoU with `truths`. Each of your edges must
#    lie within 10 bins of the one taken.
# 3. **A mask from a mask.** Draw the mask of another size: `decode_masks` gives 64 × 64, paste it into the
#    whole photo. Its share of inside pixels must be that of `mask`, to 2 %.
#
# ## In practice
#
# - Greedy is the right choice wherever one answer is right: boxes, masks, `ocr`, short answers. Draw where
#   you want several, such as captions to choose from.
# - transformers' `generate(do_sample=True)` also cuts at the fifty likeliest tokens (top-k) unless told
#   `top_k=0`. Same options, other text.
# - On the command line: `--draw OUT.png` draws, `--json` prints boxes and masks in pixels, `--box-scale
#   1024` suits models trained so.
# - Published checkpoints need the published mask decoder, `--mask-decoder vae-oid`.
#
# ## Further reading
#
# - Holtzman et al., *The curious case of neural text degeneration*,
#   [arXiv:1904.09751](https://arxiv.org/abs/1904.09751): nucleus sampling.
# - Chen et al., *Pix2seq*, [arXiv:2109.10852](https://arxiv.org/abs/2109.10852): boxes as tokens.
# - Ning et al., *All in tokens*, [arXiv:2301.02229](https://arxiv.org/abs/2301.02229): masks as tokens.
# - van den Oord et al., [arXiv:1711.00937](https://arxiv.org/abs/1711.00937): the VQ-VAE.
# - [`model/sampling.py`](../numpy_paligemma/model/sampling.py),
#   [`answers/detection.py`](../numpy_paligemma/answers/detection.py) and
#   [`answers/segmentation.py`](../numpy_paligemma/answers/segmentation.py).
# - Next: [10, Prove that it matches](10_prove_that_it_matches.ipynb).

# %% [markdown]
# <details>
# <summary><b>Solutions</b></summary>
#
# **1.** The noise lifts each token above all others exactly as often as softmax says:
#
# ```python
# m, p = 5000, softmax(logits[0] / 2)
# noise = np.random.default_rng(3).gumbel(size=(m, len(pieces)))
# winners = np.argmax(logits[0] / 2 + noise, axis=-1)
# came = np.bincount(winners, minlength=len(pieces))
# off = (came - m * p) / np.sqrt(m * p * (1 - p))
# assert np.abs(off[likely]).max() < 4
# ```
#
# **2.** The mean weighs both slopes of the hill, and needs no rounding to whole bins:
#
# ```python
# for name, hill in hills.items():
#     centres = (hill * bins).sum(axis=-1) / hill.sum(axis=-1)  # (4,)
#     assert np.abs(centres - hill.argmax(axis=-1)).max() < 10
#     [truth] = np.array(truths[f"detect {name}"])
#     box = np.array(box_in_pixels(centres, photo.size, scale=1024))
#     print(name, overlap(boxes_in(found[name][0])[0], truth), overlap(box, truth))
# ```
#
# **3.** `paste_mask` stretches to any box:
#
# ```python
# large = paste_mask(mask, (0, 0, *photo.size), photo.size)
# assert abs(large.mean() - (mask > 0).mean()) < 0.02
# ```
#
# </details>
