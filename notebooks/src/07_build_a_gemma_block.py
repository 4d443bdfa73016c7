# %% [markdown]
# # Build a Gemma block
#
# **How do several questions share one memory?**
#
# ## What you'll do
#
# You take one block of the language model apart, down to its last multiplication, put it
# together again and find the reference's numbers. Then you watch the blocks at work: where
# they look while the model says `red`, and whether it looks there in another language, too.
#
# ## What you'll learn
#
# - what the *residual stream* is, and why a block only ever adds to it,
# - why Gemma's norm multiplies by 1 + w and not by w,
# - why the prompt is not causal, though everybody says that language models are,
# - how several query heads share one key-value head, and what that saves,
# - what a *gated* feed-forward is, and that its gates are closed more often than not.
#
# ## What you'll need
#
# From notebook 05: picture and prompt have become one sequence of vectors, `(B, T, D)`. From 06:
# queries and keys are turned by their positions, so that scores see distances. We explain attention
# again, but briefly; notebook 04 has it in full. In the shapes below, B is the number of prompts at once
# (here one), T the tokens new to a block and S all it may look at, D the numbers in a token's vector, N
# the query heads, K the key-value heads, H the numbers in a head.

# %%
import numpy as np
import plotting as plots
from plotting import BRIDGE, INK, LANGUAGE, QUIET, plt, show
from safetensors.numpy import load_file

from numpy_paligemma import load_hf_model
from numpy_paligemma.checkpoints.hub import bundled
from numpy_paligemma.inputs.image import load_image

# %%
model, processor = load_hf_model("miniature", dtype="float32")
w, c = model.weights, model.config  # every learned number, every size
golden = load_file("../tests/golden/miniature.safetensors")
photo = load_image(bundled("sample.jpg"))
small = np.asarray(photo.resize((112, 112))) / 255  # to draw on
P, N, H = c.vision.patches, c.text.heads, c.text.head_dim
print(c.text.depth, "blocks; in each", N, "query heads of", H, "numbers,", end=" ")
print(c.text.kv_heads, "key-value head")

# %% [markdown]
# `golden` is what `transformers` computed inside its own model, in float64, from the same weights,
# photo and prompt (`caption en`). Two right computations in float32 agree to about 1e-6 of the
# largest number in an array, the classic mistakes (but for a misplaced ε) cost 4e-5 or
# more; we ask for 1e-5, and at the end we make two such mistakes, to see them caught.


# %%
def check(found, name):
    """Compare with the reference: a difference of 1e-5 of the largest number passes."""
    expected = golden[name]
    np.testing.assert_allclose(
        found, expected, rtol=0, atol=1e-5 * np.abs(expected).max()
    )
    print(f"{name}: {found.shape} agree")


# %% [markdown]
# ## A block, seen from far
#
# Each token has one vector, and it flows through all blocks. This is the *residual stream*, an array
# `(B, T, D)`. A block takes a copy out, works on it, and **adds** the result. It does so twice: *attention* fetches
# something from other tokens, the *MLP* works on each token alone.

# %%
figure, axes = plt.subplots(figsize=(plots.WIDTH, 1.9))
stream = {"arrowstyle": "-|>", "color": BRIDGE, "lw": 2.5}
axes.annotate("", (11, 0), (0, 0), arrowprops=stream)
box = {"boxstyle": "round,pad=0.4", "fc": "white", "ec": LANGUAGE}
middle = {"ha": "center", "va": "center"}
for x, name in [(0.8, "attention"), (6, "MLP")]:
    axes.plot([x, x, x + 3.6, x + 3.6], [0, 1, 1, 0], color=QUIET, zorder=0)
    axes.text(x + 1, 1, "RMSNorm", bbox=box, **middle)
    axes.text(x + 2.6, 1, name, bbox=box, **middle)
    plus = {"boxstyle": "circle,pad=0.15", "fc": "white", "ec": BRIDGE}
    axes.text(x + 3.6, 0, "+", bbox=plus, **middle)
for x, name in [(0.1, "x"), (5.2, "mid"), (10.3, "out")]:
    axes.text(x, -0.32, f"{name} (B, T, D)", color=BRIDGE, ha="center")
plots.bare(axes).set(xlim=(-0.6, 11.2), ylim=(-0.5, 1.4))
show(
    figure,
    "Figure 1. One block: the residual stream (amber) runs straight through; attention and "
    "MLP each read a normalised copy and add to it.",
    "A thick arrow from left to right. Two side paths leave it, pass RMSNorm and attention, "
    "or RMSNorm and MLP, and come back to a plus sign on it.",
)

# %%
from numpy_paligemma.model.gemma import gemma_block

plots.source(gemma_block)

# %% [markdown]
# (`tap("mid", x)` gives x back and lets anyone listen under that name; the formulas do not need it.)
#
# Why add, and not replace? Because then a block that has nothing to say can add nothing, and what
# earlier blocks found stays where it is. Let us go through its four parts.
#
# ## Part one: RMSNorm, and why 1 + w
#
# The stream grows as it flows, for everybody adds. So each branch first brings its copy to
# a standard size: divide by the root of the mean of the squares, then multiply each direction by
# a learnt gain.
#
# $$\text{RMSNorm}(x) = \frac{x}{\sqrt{\text{mean}(x^2) + \varepsilon}} \cdot (1 + w)$$

# %%
x = np.array([3.0, 4.0])
size = np.sqrt(np.mean(x**2))
print("size", size, " ->", x / size, " of size", np.sqrt(np.mean((x / size) ** 2)))

# %%
from numpy_paligemma.model.layers import rms_norm

plots.source(rms_norm)

# %% [markdown]
# **Why 1 + w?** A gain of one means "leave it". Gemma stores the gain's *distance from one*. Then
# a fresh norm is all zeros; whatever pulls weights towards zero in training pulls the gain towards
# "leave it", not towards silence; and bfloat16, with its 8 significant bits, is fine near 0 (steps of
# 0.0001 at 0.02) and coarse near 1 (steps of 0.008). Llama, and most others, store the gain itself. A
# file does not say which it is. Here are all the w of our decoder:

# %%
gains = [b.attention_norm for b in w.decoder.blocks]
gains += [b.mlp_norm for b in w.decoder.blocks]
gains = np.concatenate([*gains, w.decoder.final_norm])

# %%
figure, axes = plt.subplots(figsize=(6.5, 2.6))
axes.hist(gains, bins=40, color=LANGUAGE)
axes.axvline(0, color=INK, lw=1)
axes.set(xlabel="stored weight w", ylabel="how many")
above = axes.secondary_xaxis("top", functions=(lambda v: 1 + v, lambda g: g - 1))
above.set_xlabel("gain, 1 + w")
show(
    figure,
    "Figure 2. Every stored weight of every RMSNorm in the decoder. They lie around zero: the "
    "gains lie around one. Taken for gains themselves, they would silence the model.",
    "A histogram of numbers around zero, with a second axis above that reads one more.",
)

# %% [markdown]
# ## Part two: who may see whom
#
# You have heard that language models are *causal*: a token sees what came before it, never what
# comes after. The reason is training: where all tokens of a text are guessed at once, a token that could
# see the next one would only have to copy it.
#
# **Why is the prompt not causal?** Because nobody asks the model to guess the prompt. Picture and
# question are given, all at once; forbidding them to look ahead would only lose something. So in
# PaliGemma the *prefix*, that is picture, `<bos>`, question and newline, sees all of itself, and only
# the answer is causal. Patches are read in the light of the question.

# %%
from numpy_paligemma.model.fusion import prefix_lm_mask

plots.source(prefix_lm_mask)


# %% [markdown]
# Let us have the model write, and give everything it read to the recorder, answer included.


# %%
from numpy_paligemma.model.tap import recorder


def read_back(prompt):
    """Answer greedily, then read all of it at once: pieces, arrays, T of the prefix."""
    inputs = processor(text=[prompt], images=[photo])
    answer = model.generate(**inputs, do_sample=False)
    ids = np.concatenate([inputs["input_ids"], answer[:, :-1]], axis=1)  # (B, S)
    T = inputs["input_ids"].shape[1]
    is_answer = (np.arange(ids.shape[1]) >= T)[None].astype(int)
    tap, seen = recorder()
    model.logits(ids, inputs["pixel_values"], np.ones_like(ids), is_answer, tap)
    pieces = [processor.tokenizer.decode([i], False) for i in answer[0]]
    return pieces, seen, T


# %%
pieces, seen, T = read_back("caption en")
print(pieces)

# %%
prefix = seen["fusion/mask"][0, 0]  # (S, S)
S = len(prefix)
causal = np.tri(S, dtype=bool)
print("prefix", T, "tokens, answer", S - T)

# %%
shades = [BRIDGE, plots.to_rgba(LANGUAGE, 0.45), LANGUAGE]
shades = np.array([plots.to_rgba(k) for k in shades])
of_key = shades[np.digitize(np.arange(S), [P, T])]  # (S, 4), a colour for each key
figure, axes = plt.subplots(1, 2, figsize=(plots.WIDTH, 3.9), sharey=True)
for axis, mask, name in zip(
    axes, [prefix, causal], ["PaliGemma", "causal"], strict=True
):
    axis.imshow(np.where(mask[..., None], of_key, 0.94), extent=(0, S, S, 0))
    axis.set(xlabel="is it seen?  (key)", title=name)
    axis.set_xticks([P / 2, P + 1, T + 6], ["picture", "prompt", "answer"])
    axis.tick_params(length=0)
    axis.tick_params(axis="x", rotation=30)
axes[0].set(ylabel="who looks?  (query)")
axes[0].set_yticks([P / 2, P + 2, T + 6], ["picture", "prompt", "answer"])
show(
    figure,
    "Figure 3. Row by row, who may see whom: amber the picture, pale the prompt, magenta "
    "the answer. PaliGemma's prefix sees all of itself (left); with a causal mask no patch would see "
    "the question (right).",
    "Two squares. The left one is filled except for a small triangle at the bottom right; the "
    "right one is filled below its diagonal only.",
)

# %% [markdown]
# Does the picture make use of it? Ask about the star instead of the circle, and see how much the
# vector of each *patch* changes, block by block. With a causal mask the change would be exactly zero,
# as the patches come before the question.


# %%
def patches_after(noun, causal=False):
    """The patches' vectors after each block, (blocks, P, D)."""
    inputs = processor(text=[f"answer en what colour is the {noun}?"], images=[photo])
    if causal:  # everything counts as answer
        inputs["token_type_ids"] = np.ones_like(inputs["input_ids"])
    tap, seen = recorder()
    model.logits(**inputs, tap=tap)
    blocks = range(c.text.depth)
    return np.array([seen[f"decoder/block{b:02d}/out"][0, :P] for b in blocks])


# %%
circle, star = patches_after("circle"), patches_after("star")
change = np.linalg.norm(star - circle, axis=-1) / np.linalg.norm(circle, axis=-1)
print("the patch that changes most, block by block:", change.max(axis=-1).round(2))

# %%
blind = patches_after("star", causal=True) - patches_after("circle", causal=True)
np.testing.assert_array_equal(blind, 0)  # to the last bit

# %%
figure, axes = plt.subplots(1, 4, figsize=(plots.WIDTH, 2.5))
for b, (axis, amount) in enumerate(zip(axes, change, strict=True)):
    title = f"block {b}: up to {amount.max():.0%}"
    light = np.kron(amount.reshape(8, 8) / change.max(), np.ones((14, 14)))
    axis.imshow(small * (0.2 + 0.8 * light[..., None]))
    plots.bare(axis, title)
show(
    figure,
    "Figure 4. How much each patch's vector changes when the question says `star` instead of "
    "`circle`, on one scale for all: little in block 0, then more from block to block, most of all "
    "on the star and the paper beside it.",
    "The photo four times, one for each block: dark, then brighter from block to block, brightest "
    "on and around the star.",
)

# %% [markdown]
# (`transformers` makes *everything* causal when it is called without `token_type_ids`: one of the
# reasons why "my numbers differ".)
#
# ## Part three: several questions, one memory
#
# Attention, in three lines. Each token makes a query q, a key k and a value v. The score of a
# query with a key says how well they fit; softmax turns a row of scores into weights that sum to
# one; and what comes out is the values' mean with these weights:
#
# $$\text{softmax}\!\left(\frac{q\,k^{\mathsf T}}{\sqrt H}\right) v$$
#
# A token wants to know several things at once, so there are N *heads*, each with queries of its
# own. And keys and values? There are three answers:
#
# | | query heads | key-value heads K |
# |---|---|---|
# | multi-head attention (MHA): SigLIP, the first transformers | N | N |
# | grouped-query attention (GQA): Llama 3, larger Gemmas | N | fewer, such as N / 4 |
# | multi-query attention (MQA): **PaliGemma's Gemma 2B** | N | 1 |
#
# **Why one key-value head for all query heads?** Because keys and values must be *remembered*, for
# every token so far and in every block, while queries are needed once and dropped. Sharing them divides
# the memory, and what must be read from it for every new token, by N / K. What is lost is small: the
# questions still differ; only the catalogue in which they look things up is one.

# %%
LAYERS, SIZE = 18, 256  # of PaliGemma 3B, with 8 query heads
tokens = {"224 px": 256, "448 px": 1024, "896 px": 4096}
per_head = LAYERS * 2 * SIZE * 4  # bytes a token: keys and values in float32
print(f"{per_head:,} bytes a token and key-value head")

# %%
figure, axes = plt.subplots(1, 3, figsize=(plots.WIDTH, 2.1), sharey=True)
for axis, (name, count) in zip(axes, tokens.items(), strict=True):
    kv_heads = np.array([8, 4, 2, 1])
    mebibytes = count * kv_heads * per_head / 2**20
    kinds = ["MHA, K = 8", "GQA, K = 4", "GQA, K = 2", "MQA, K = 1"]
    colours = [plots.to_rgba(LANGUAGE, 0.35)] * 3 + [LANGUAGE]
    plots.bars(axis, kinds, mebibytes, colours, [f"{m:.0f}" for m in mebibytes])
    axis.set(
        xlabel="MiB", title=f"{name}: {count} patches", xlim=(0, 1.3 * mebibytes[0])
    )
show(
    figure,
    "Figure 5. Memory for keys and values of one picture in PaliGemma 3B, had it 8, 4 or 2 "
    "key-value heads instead of one. It has one (dark).",
    "Three bar charts, for pictures of 224, 448 and 896 pixels; the bar of multi-query "
    "attention is an eighth of that of multi-head attention.",
)

# %% [markdown]
# In code, sharing is no work at all: lay the queries of the group one under the other, as if they
# were more tokens, and one matrix product serves them all.

# %%
from numpy_paligemma.model.attention import grouped_query_attention

plots.source(grouped_query_attention)

# %% [markdown]
# ### Check: grouped is repeated
#
# A second formula: *copy* the keys and values, so that each query head has its own, and spell
# the sums out. Six query heads, two key-value heads, in float64, where two right ways agree to 1e-15.

# %%
rng = np.random.default_rng(0)
q = rng.standard_normal((1, 6, 5, 4))  # (B, N, T, H)
k, v = rng.standard_normal((2, 1, 2, 5, 4))  # (B, K, T, H)
k_each, v_each = np.repeat(k, 3, axis=1), np.repeat(v, 3, axis=1)  # (B, N, T, H)

# %%
scores = np.einsum("bnth,bnsh->bnts", q, k_each) / np.sqrt(4)
weights = np.exp(scores) / np.exp(scores).sum(axis=-1, keepdims=True)
repeated = np.einsum("bnts,bnsh->bnth", weights, v_each)
np.testing.assert_allclose(grouped_query_attention(q, k, v), repeated, atol=1e-12)

# %% [markdown]
# (Note `repeat`, which gives heads 0, 0, 0, 1, 1, 1: neighbours share. `np.tile` would give 0, 1, 0,
# 1, 0, 1, and with K = 1 nobody would notice.)
#
# The whole layer is projections, the turn of notebook 06, this formula, and one last matrix that
# mixes what the heads brought; `cache` waits for notebook 08:

# %%
from numpy_paligemma.model.gemma import gemma_attention

plots.source(gemma_attention)

# %% [markdown]
# And do the heads really ask different questions of the one memory? Here is what each looks at in
# each block, **while the model says `red`**. To say it, the model looks from the token before, `a`.

# %% tags=["cover"]
step = T - 1 + pieces.index(" red")  # the place that is about to say it
figure, axes = plt.subplots(4, N, figsize=(7.4, 8))
for b, n in np.ndindex(axes.shape):
    probs = seen[f"decoder/block{b:02d}/attention/probs"][0, n, step]  # (S,)
    picture = probs[:P].reshape(8, 8)
    title = f"block {b}, head {n}: {picture.sum():.0%}"
    plots.attention_over_picture(axes[b, n], small, picture, title)
show(
    figure,
    "Figure 6. Where each head looks while the model says `red`, and how much of its attention "
    "is on the picture at all (the rest is on words). The keys are the same for all heads of a "
    "block; the questions are not. Each panel's brightest patch is at full brightness.",
    "Sixteen copies of the photo, four blocks by four heads. In the later blocks the light lies on "
    "patches of the red circle, in the earlier ones often elsewhere.",
)

# %% [markdown]
# A head with little on the picture looks at words, and its picture shows how it divides that little.
#
# ## Part four: a feed-forward with a gate
#
# After looking, thinking. Each vector is widened to F numbers, bent, and narrowed again. Gemma
# widens *twice*. One copy goes through GELU, a smooth switch, and decides how much of the other may
# pass:
#
# $$\text{MLP}(x) = W_\text{down}\big(\text{GELU}(W_\text{gate}\,x) \odot W_\text{up}\,x\big)$$
#
# GELU lets positive numbers through and takes negative ones almost to zero.

# %%
from numpy_paligemma.model.layers import gelu

gate, up = np.array([-4.0, -1.0, 0.5, 3.0]), np.array([2.0, 2.0, 2.0, 2.0])
print(
    "gate ", gate, "\nopen ", gelu(gate).round(3), "\npass ", (gelu(gate) * up).round(3)
)

# %%
from numpy_paligemma.model.gemma import gemma_mlp

plots.source(gemma_mlp)

# %% [markdown]
# How often is a gate open? Take all tokens of our sequence and all F gates of each block.

# %%
from numpy_paligemma.model.layers import linear

gates, shares = [], []
for b, block in enumerate(w.decoder.blocks):
    y = seen[f"decoder/block{b:02d}/mlp_norm"][0]  # (S, D)
    gates.append(linear(y, block.gate_proj))  # (S, F)
    passed = np.abs(gelu(gates[b]) * linear(y, block.up_proj))
    passed = -np.sort(-passed, axis=-1)  # largest first
    shares.append((passed.cumsum(axis=-1) / passed.sum(axis=-1, keepdims=True)).mean(0))
print("F =", c.text.mlp_width)

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(plots.WIDTH, 3))
low, high = np.percentile(gates, [0.2, 99.8])
left.hist(np.ravel(gates), bins=80, range=(low, high), color=LANGUAGE, alpha=0.45)
left.set(xlabel="gate before GELU", ylabel="how many")
curve = left.twinx()
t = np.linspace(low, high, 200)
curve.plot(t, gelu(t), color=INK)
curve.set(ylabel="GELU (black)")
for b, share in enumerate(shares):
    shade = plots.to_rgba(LANGUAGE, 0.3 + 0.7 * b / len(shares))
    right.plot(np.arange(1, len(share) + 1), share, color=shade, label=f"block {b}")
right.axhline(0.9, color=QUIET, lw=0.8)
right.set(xlabel="hidden numbers, largest first", ylabel="share of what passes")
right.set(ylim=(0, 1.02))
right.legend(frameon=False)
show(
    figure,
    "Figure 7. More than half of the gates stand left of zero, where GELU lets at most 0.17 through, "
    "with its sign turned. The spike is hidden numbers that the miniature leaves unused, with weights "
    "near zero (left). Besides, for each token a part of the F carries 90 % of what passes (right).",
    "Left: a histogram of gate values, mostly negative, under the GELU curve. Right: four rising "
    "curves that cross the line at 0.9 long before the last hidden number.",
)

# %%
for b, share in enumerate(shares):
    closed = (gates[b] < 0).mean()
    few = np.searchsorted(share, 0.9) / len(share)
    print(f"block {b}: {closed:.0%} of the gates below zero;", end=" ")
    print(f"{few:.0%} of the hidden numbers carry 90 % of what passes")

# %% [markdown]
# Each hidden number is a little rule, "if you see this, add that", and few rules apply at once. (The
# one does not follow from the other: block 1 has most gates below zero and needs the most numbers.)
#
# ## The whole block against the reference
#
# All parts, checked together. We give each block the *reference's* input, so that a mistake in one
# cannot hide in the next, and compare what it adds up to. `None` twice: no mask, as `caption en` is
# all prefix, and no cache (notebook 08).

# %%
from numpy_paligemma.model.rope import rope_table

x = golden["fusion/out"]  # (B, T, D)
positions = np.arange(1, x.shape[1] + 1)[None]
rope = rope_table(positions, H, c.text.rope_base, like=x)

# %%
for b, block in enumerate(w.decoder.blocks):
    tap, parts = recorder()
    gemma_block(x, block, rope, None, None, c.text, tap=tap)
    for name in ["attention_norm", "attention/probs", "mid", "mlp/out", "out"]:
        check(parts[name], f"decoder/block{b:02d}/{name}")
    x = golden[f"decoder/block{b:02d}/out"]

# %% [markdown]
# Would the check notice a mistake? Two classics: w for 1 + w, which is as large as a mistake can be,
# and the exact GELU (with the error function, erf) for the approximation (with tanh) that Gemma
# was trained with, which is one of the smallest: the two curves differ by 5e-4 at most.

# %%
from math import erf

first = w.decoder.blocks[0]
wrong_norm = rms_norm(golden["fusion/out"], first.attention_norm - 1, c.text.norm_eps)

y = golden["decoder/block00/mlp_norm"]
gate, up = linear(y, first.gate_proj), linear(y, first.up_proj)
exact_gelu = gate / 2 * (1 + np.vectorize(erf)(gate / 2**0.5))
wrong_mlp = linear(exact_gelu * up, first.down_proj)

for wrong, name in [(wrong_norm, "attention_norm"), (wrong_mlp, "mlp/out")]:
    expected = golden[f"decoder/block00/{name}"]
    error = np.abs(wrong - expected).max() / np.abs(expected).max()
    assert error > 1e-5
    print(f"{name:14} off by {error:.0e} of the largest number; allowed: 1e-05")

# %% [markdown]
# ## The same picture in two languages
#
# The miniature also speaks Spanish, where the noun comes first: *un círculo rojo*. Does it look at
# the same things for the same words? Take the attention of each word over the 64 patches, the mean over
# all heads of the last two blocks, and correlate all English words with all Spanish ones.

# %%
LATE = range(c.text.depth - 2, c.text.depth)


def looks(seen, T):
    """Attention over the patches for each answer token, (new, P)."""
    late = [seen[f"decoder/block{b:02d}/attention/probs"][0] for b in LATE]  # (N, S, S)
    return np.mean(late, axis=(0, 1))[T - 1 :, :P]


# %%
spanish, seen_es, T_es = read_back("caption es")
print("".join(pieces), "\n" + "".join(spanish))

# %%
english_looks, spanish_looks = looks(seen, T), looks(seen_es, T_es)
alike = np.corrcoef(english_looks, spanish_looks)[: len(pieces), len(pieces) :]

# %%
figure, axes = plt.subplots(figsize=(6, 4.9))
image = axes.imshow(alike, cmap="PuOr_r", vmin=-1, vmax=1)
axes.set_xticks(
    range(len(spanish)), [s.strip() for s in spanish], rotation=60, ha="right"
)
axes.set_yticks(range(len(pieces)), [s.strip() for s in pieces])
axes.set(xlabel="Spanish word being said", ylabel="English word being said")
figure.colorbar(image, label="correlation of the two looks")
show(
    figure,
    "Figure 8. How alike the model looks at the picture for each pair of words. The orange squares "
    "are things: whatever the language and the order of its words, the model looks at the thing "
    "it is talking about. One column breaks its square.",
    "A matrix of correlations with bright squares along the diagonal, one for each of the three "
    "shapes, and little elsewhere.",
)

# %%
pairs = [(" red", " rojo"), (" circle", " círculo"), (" star", " estrella")]
pairs += [(" triangle", " triángulo")]
figure, axes = plt.subplots(2, 4, figsize=(7.4, 4.1))
for (top, bottom), (en, es) in zip(axes.T, pairs, strict=True):
    for axis, word, said, look in [
        (top, en, pieces, english_looks),
        (bottom, es, spanish, spanish_looks),
    ]:
        light = look[said.index(word)].reshape(8, 8)
        plots.attention_over_picture(axis, small, light, word.strip())
show(
    figure,
    "Figure 9. Where the model looks while it says a word in English (above) and the same word "
    "in Spanish (below). Each panel's brightest patch is at full brightness.",
    "Two rows of four pictures; in three columns the bright patches lie on the same shape, under "
    "`estrella` they are spread over more than the star.",
)

# %% [markdown]
# The words for a thing are many, the place where one looks for it is one. And `estrella`? Of the
# shapes that the miniature knows, only the star is feminine in Spanish. Once it has said `una`, and
# for that it did look at the star, the noun is settled, and its eyes are free to wander. Is that so?
# Put `una` into its mouth in front of an *empty* picture:

# %%
from numpy_paligemma.model.layers import softmax

empty = np.full((112, 112, 3), 235, np.uint8)
inputs = processor(text=["caption es"], images=[empty])
una = processor.tokenizer.encode("una")
ids = np.concatenate([inputs["input_ids"], [una]], axis=1)
kinds = (np.arange(ids.shape[1]) == ids.shape[1] - 1)[None].astype(int)

# %%
logits = model.logits(ids, inputs["pixel_values"], np.ones_like(ids), kinds)
probs = softmax(logits[0, -1])
for i in np.argsort(-probs)[:3]:
    print(f"{probs[i]:.3f}  una{processor.tokenizer.decode([i], False)}")

# %% [markdown]
# It needs no picture for that.
#
# ## On your own
#
# 1. **One line.** RMSNorm of `golden["fusion/out"]` with the weight of the first block's
#    `attention_norm`, without calling `rms_norm`. Match: `decoder/block00/attention_norm`.
# 2. **One head.** From `golden`'s `decoder/block00/attention/q` and `…/k`, compute the weights of
#    head 2, with `@` and `np.exp` alone. Match: `decoder/block00/attention/probs`, head 2. Which
#    key head does it read?
# 3. **A whole block.** Write `rms_norm`, `gelu`, `gemma_mlp` and `grouped_query_attention` yourself,
#    in a file, and let the package's tests try them: `pytest tests/exercises --layers my_layers.py`.
#    Where a layer is wrong in a known way they tell you which; see
#    [tests/exercises](../tests/exercises/README.md).
#
# ## In practice
#
# - PaliGemma 3B: 18 blocks, width 2,048, 8 query heads of 256 numbers over one key-value head, F =
#   16,384. Most of its numbers are in the MLPs: 18 · 3 · 2,048 · 16,384, nearly two billion.
# - PaliGemma 2 has Gemma 2 inside: two more norms in each block, after the branches, soft limits on
#   scores and logits, and a window in every other block.
#
# ## Further reading
#
# - Gemma Team, *Gemma*, [arXiv:2403.08295](https://arxiv.org/abs/2403.08295), section 2.
# - Shazeer, *Fast transformer decoding: one write-head is all you need*,
#   [arXiv:1911.02150](https://arxiv.org/abs/1911.02150) (MQA); Ainslie et al.,
#   [arXiv:2305.13245](https://arxiv.org/abs/2305.13245) (GQA).
# - Shazeer, *GLU variants improve transformer*, [arXiv:2002.05202](https://arxiv.org/abs/2002.05202);
#   its last sentence is the field's most honest one.
# - Raffel et al., [arXiv:1910.10683](https://arxiv.org/abs/1910.10683), section 3.2.1: causal and prefix masks.
# - [`model/gemma.py`](../numpy_paligemma/model/gemma.py) and
#   [`model/attention.py`](../numpy_paligemma/model/attention.py), three pages in all.
# - Next: [08, Remember with a cache](08_remember_with_a_cache.ipynb).

# %% [markdown]
# <details>
# <summary><b>Solutions</b></summary>
#
# **1.** Mind the axis and the 1:
#
# ```python
# x = golden["fusion/out"]
# size = np.sqrt(np.mean(x**2, axis=-1, keepdims=True) + c.text.norm_eps)
# normed = x / size * (1 + w.decoder.blocks[0].attention_norm)
# check(normed, "decoder/block00/attention_norm")
# ```
#
# **2.** There is only one key head, number 0. (2 // (4 / 1) = 0.)
#
# ```python
# q = golden["decoder/block00/attention/q"][0, 2]  # (T, H)
# k = golden["decoder/block00/attention/k"][0, 0]  # (T, H)
# e = np.exp(q @ k.T / H**0.5)
# expected = golden["decoder/block00/attention/probs"][0, 2]
# np.testing.assert_allclose(e / e.sum(axis=-1, keepdims=True), expected, atol=1e-5)
# ```
#
# **3.** The package's own are above, and in `model/layers.py`. The two that most people get wrong
# at first: `eps` belongs inside the root, and the queries of a group are neighbours.
#
# </details>
