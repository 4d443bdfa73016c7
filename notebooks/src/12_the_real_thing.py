# %% [markdown]
# # The real thing
#
# **What does it take to run a published PaliGemma, and what is new in PaliGemma 2?**
#
# ## What you'll do
#
# You build every published model as a skeleton, from some twenty numbers each, and read off what it costs:
# disk, memory, and time on the machine in front of you. You learn how to get one, and what to ask it. Then
# you go through the five things that PaliGemma 2 changes, each with its formula, and switch each off to see
# who would notice.
#
# ## What you'll learn
#
# - which checkpoints there are, how to get one through its licence, and which branch to take,
# - where three billion parameters are, and how many bytes that makes in each dtype,
# - why a word takes as long as it takes to read the weights once,
# - what *pt*, *mix* and *ft* mean, and why the wrong one answers nonsense,
# - the four norms, two soft caps, the other scale and the window of Gemma 2.
#
# ## What you'll need
#
# Notebooks 07 and 08: the Gemma block, the cache. **No download:** cells that need the weights are tagged
# `needs-weights`; where there are none they say what they would do and pass on. In the shapes below, T is
# the number of places that picture and prompt take, D the numbers in a token's vector, V the tokens, L the
# blocks, N and K the query and key-value heads, H the numbers in a head.

# %%
import os
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import plotting as plots
from plotting import BRIDGE, INK, LANGUAGE, QUIET, VISION, plt, show
from safetensors.numpy import load_file

# %%
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # this page itself downloads nothing
warnings.filterwarnings("ignore", message="IProgress")  # nor has it progress bars
print("weights used here: the tiny random ones of tests/golden/gemma_2")

# %% [markdown]
# ## Which there are
#
# Two families, and three sizes of picture each. PaliGemma 1 writes with Gemma 2B, PaliGemma 2 with one of
# three Gemma 2; the eye is always the same SigLIP, but for its table of positions. These are all the
# numbers that decide about size and arithmetic, as `config.json` has them, in our own dataclasses:

# %%
from numpy_paligemma.model.config import PaliGemmaConfig, TextConfig, VisionConfig

ALL = {"vocab_size": 257_216, "norm_eps": 1e-6, "rope_base": 10_000.0}
GEMMA_2 = ALL | {"post_norms": True, "score_cap": 50, "logit_cap": 30, "window": 4096}
# %%
SIZES = {  # D, L, N, K, H, hidden width of the MLP
    "PaliGemma 3B": (2048, 18, 8, 1, 256, 16_384),
    "PaliGemma 2 3B": (2304, 26, 8, 4, 256, 9_216),
    "PaliGemma 2 10B": (3584, 42, 16, 8, 256, 14_336),
    "PaliGemma 2 28B": (4608, 46, 32, 16, 128, 36_864),
}

# %%
FIELDS = ("width", "depth", "heads", "kv_heads", "head_dim", "mlp_width")
EYE = {"patch_size": 14, "channels": 3, "width": 1152, "depth": 27, "heads": 16}
EYE |= {"mlp_width": 4304, "norm_eps": 1e-6}


# %%
def published(name, image_size=224):
    """Write down a published model's config."""
    numbers = dict(zip(FIELDS, SIZES[name], strict=True))
    text = TextConfig(**numbers, **(ALL if name == "PaliGemma 3B" else GEMMA_2))
    vision = VisionConfig(image_size=image_size, **EYE)
    return PaliGemmaConfig(vision, text, 257_152, 2, (1,), 0)


print(published("PaliGemma 3B").vision.patches, "patches at 224 pixels")

# %% [markdown]
# (Two of Gemma 2's fields are left out here, its scale of queries and the list of blocks with a window:
# they come below.)
#
# ## How many parameters?
#
# One need not trust a name that says 3B. The loader has an explicit line for every tensor, with its shape;
# whoever stands in for the file (`take`) is asked for each in turn. One that reads makes a model, one that
# adds up shapes makes a bill.

# %%
from numpy_paligemma.checkpoints.assemble import gemma_block_weights

plots.source(gemma_block_weights)

# %%
from numpy_paligemma.checkpoints.about.bill import memory_bills
from numpy_paligemma.checkpoints.about.sizes import count_parameters

plots.source(count_parameters)
print(count_parameters(published("PaliGemma 3B")))

# %%
print("                      pixels      parameters    float32   bfloat16")
for name in SIZES:
    for size in (224, 448, 896):
        total = count_parameters(published(name, size)).total
        gigabytes = f"{4 * total / 1e9:8.2f} GB {2 * total / 1e9:7.2f} GB"
        print(f"{name:20} {size:7} {total:15,} {gigabytes}")

# %% [markdown]
# ### Check: others have counted
#
# keras-hub, a library that has nothing to do with ours, lists its presets' parameters. It keeps the
# vocabulary at 257,152 rows; Hugging Face's files have 64 more, `<image>` and padding. With as many rows
# the counts must agree to the unit.

# %%
LISTED = {  # keras-hub, pali_gemma_presets.py
    ("PaliGemma 3B", 224): 2_923_335_408,
    ("PaliGemma 3B", 896): 2_927_759_088,
    ("PaliGemma 2 3B", 448): 3_032_979_696,
    ("PaliGemma 2 10B", 896): 9_666_833_136,
    ("PaliGemma 2 28B", 224): 27_650_192_112,
}

# %%
for (name, size), listed in LISTED.items():
    ours = count_parameters(published(name, size)).total - 64 * SIZES[name][0]
    assert ours == listed, (name, ours)

# %%
PALE = plots.to_rgba(LANGUAGE, 0.45)
SHADES = {"vision": VISION, "projector": BRIDGE, "embedding": PALE, "decoder": LANGUAGE}

# %% tags=["cover"]
figure, axes = plt.subplots(figsize=(plots.WIDTH, 2.4))
left = np.zeros(len(SIZES))
counts = [count_parameters(published(name)) for name in SIZES]
for part, shade in SHADES.items():
    billions = np.array([getattr(each, part) for each in counts]) / 1e9
    axes.barh(list(SIZES), billions, left=left, color=shade, label=part, height=0.7)
    left += billions
for row, total in enumerate(left):
    axes.text(total + 0.2, row, f"{total:.2f}", va="center")
axes.set(xlabel="billion parameters", xlim=(0, 31))
axes.invert_yaxis()
axes.legend(frameon=False, loc="upper right")
show(
    figure,
    "Figure 1. Where the parameters are. The eye (blue) is the same in all and the projector too thin "
    "to see; the table of tokens (pale) is large because the vocabulary is; the rest is the "
    "decoder.",
    "Four bars, of 2.9, 3.0, 9.7 and 27.7 billion parameters, each cut into eye, embedding and "
    "decoder; the decoder is the longest part of all.",
)

# %% [markdown]
# ## Getting one
#
# The published checkpoints are *gated*: you accept Google's licence for Gemma once, on the hub, and are let
# in at once.
#
# 1. Make an account on huggingface.co, open a model's page, such as
#    [google/paligemma-3b-mix-224](https://huggingface.co/google/paligemma-3b-mix-224), and accept.
# 2. Make an [access token](https://huggingface.co/settings/tokens) that may read, and hand it over: `hf
#    auth login`, or the environment variable `HF_TOKEN`.
# 3. Ask by name:
#
# ```sh
# numpy-paligemma generate --model google/paligemma-3b-mix-224 \
#     --image photo.jpg --prompt "caption en" --no-sample
# ```
#
# The first time it downloads into the hub's cache, which other libraries share; then it does not ask the
# network for weights again.
#
# **Which branch?** PaliGemma 1's `main` holds float32, 11.7 GB; the branches `bfloat16` and `float16` hold
# the same in half of that. This package holds matrices in bfloat16 unless told otherwise: so without
# `--revision` it takes the branch `bfloat16`. PaliGemma 2 is published in bfloat16 only.
#
# Is one here?

# %% tags=["needs-weights"]
from numpy_paligemma.checkpoints.hub import HubError, checkpoint_folder

NAME = "google/paligemma-3b-mix-224"  # or a folder of yours
try:
    folder = checkpoint_folder(NAME)
    print("found:", NAME)
except HubError as error:
    folder = None
    print("skipped, as all cells that need weights:", error)

# %% [markdown]
# ## The bill in memory
#
# Matrices are held as you ask, and nearly all parameters are in matrices. Beside them stands the cache
# (notebook 08), in float32: keys and values, 2 · L · K · H numbers a place.

# %%
GIB = 2**30
for name in SIZES:
    c = published(name)
    bills = memory_bills(c, c.vision.patches + 100)
    weights = "  ".join(f"{d} {b.weights / GIB:5.1f}" for d, b in bills.items())
    print(f"{name:16} GiB of weights: {weights}")

# %%
bills = [memory_bills(published(name), 0) for name in SIZES]
weights = [bill["bfloat16"].weights / GIB for bill in bills]

# %%
figure, axes = plt.subplots(1, 2, figsize=(plots.WIDTH, 2.7), width_ratios=[3, 2])
rows = np.arange(len(SIZES))
for k, (size, label) in enumerate([(224, "224 px"), (448, "448 px"), (896, "896 px")]):
    models = [published(name, size) for name in SIZES]
    bills = [memory_bills(c, c.vision.patches + 100) for c in models]
    held = [bill["bfloat16"].cache / GIB for bill in bills]
    shade = plots.to_rgba(BRIDGE, [0.35, 0.65, 1][k])
    bars = axes[1].barh(rows + 0.27 * (k - 1), held, 0.25, color=shade, label=label)
    axes[1].bar_label(bars, [f"{g:.2f}" for g in held], padding=2, size=8)
bars = axes[0].barh(rows, weights, 0.6, color=LANGUAGE)
axes[0].bar_label(bars, [f"{g:.1f}" for g in weights], padding=3, size=8.5)
axes[0].set(xlabel="GiB of weights in bfloat16", xlim=(0, 62), yticks=rows)
axes[0].set_yticklabels(SIZES)
axes[1].set(xlabel="GiB of cache, picture and 100 tokens", yticks=[], xlim=(0, 3.7))
axes[1].legend(frameon=False, loc="upper right")
for axis in axes:
    axis.invert_yaxis()
show(
    figure,
    "Figure 2. Memory: the weights, and the cache of one question about a picture of 224, 448 or "
    "896 pixels. PaliGemma 1, with one key-value head, hardly has a cache; PaliGemma 2 pays for its "
    "four to sixteen.",
    "Two bar charts. Weights grow from 5 to 52 GiB; caches are far below, the largest about 3 GiB.",
)

# %% [markdown]
# (Where the file's dtype is the one you ask for, the matrices are not copied at all: they stay in the file,
# *mapped*, and the system keeps in memory what it has room for. The bill then is what should fit if you do
# not want to wait for the disk at every word.)
#
# ## The bill in time
#
# Two limits decide. The first token needs the eye and the prefill, hundreds of vectors through every
# matrix: it waits for **arithmetic**. Every further token is one vector through every matrix: each
# parameter is fetched, used once and dropped, so it waits for **memory**. Measure both here, on a matrix as
# large as one of PaliGemma's:

# %%
from timeit import repeat

from numpy_paligemma.arrays.hold import hold_matrix

# %%
rng = np.random.default_rng(0)
wide = rng.random((16_384, 2048), np.float32)  # an MLP's, 128 MiB
many, one = rng.random((128, 2048), np.float32), rng.random((1, 2048), np.float32)


# %%
def best(work):
    """Time a function of no arguments, the best of four, in seconds."""
    return min(repeat(work, number=1, repeat=4))


# %%
matrices = {dtype: hold_matrix(wide, dtype) for dtype in ("float32", "bfloat16")}
speed, bandwidth = {}, {}
for dtype, matrix in matrices.items():
    T = matrix.T
    speed[dtype] = (
        len(many) * wide.size / best(lambda T=T: many @ T)
    )  # products a second
    bandwidth[dtype] = matrix.nbytes / best(lambda T=T: one @ T)  # bytes a second
    print(f"{dtype:8} {speed[dtype] / 1e9:5.0f} billion products a second,", end=" ")
    print(f"{bandwidth[dtype] / 1e9:5.1f} GB of weights a second")

# %% [markdown]
# A matrix in bfloat16 has half the bytes, but each number must be widened to float32 on its way, tile by
# tile. Now the estimate is a multiplication: vectors times the parameters that they pass. (It leaves out
# the comparing of places with places, which is small at 224 pixels.)


# %%
def seconds(c, dtype):
    """Estimate the first token and every further one."""
    n, P = count_parameters(c), c.vision.patches
    products = P * n.vision + (P + 5) * n.decoder + n.embedding  # the head, once
    read = (n.decoder + n.embedding) * (4 if dtype == "float32" else 2)
    return products / speed[dtype], read / bandwidth[dtype]


# %%
bills = {dtype: [seconds(published(name), dtype) for name in SIZES] for dtype in speed}

# %%
figure, axes = plt.subplots(1, 2, figsize=(plots.WIDTH, 2.6), sharey=True)
titles = "seconds to the first token", "seconds for every further token"
for k, axis in enumerate(axes):
    for offset, shade, dtype in ((-0.2, PALE, "float32"), (0.2, LANGUAGE, "bfloat16")):
        times = [bill[k] for bill in bills[dtype]]
        bars = axis.barh(rows + offset, times, 0.36, color=shade, label=dtype)
        labels = [f"{s:.0f}" if s > 9.5 else f"{s:.1f}" for s in times]
        axis.bar_label(bars, labels, padding=3, size=8)
    longest = max(bill[k] for each in bills.values() for bill in each)
    axis.set(xlabel=titles[k], xlim=(0, 1.25 * longest))
axes[0].set_yticks(rows, SIZES)
axes[0].invert_yaxis()
axes[1].legend(frameon=False, loc="upper right")
show(
    figure,
    "Figure 3. What the limits of the machine that made this page allow at 224 pixels, if the "
    "weights fit into its memory: time to the first token (left) and for each one after it (right). "
    "Run this page on yours.",
    "Two bar charts for four models and two dtypes; times grow with the number of parameters.",
)

# %% [markdown]
# ### Does the estimate hold?
#
# Build one decoder block of PaliGemma 3B in its true size, by the loader's own lines, from a take that
# makes numbers up; send one vector through; and compare with what its bytes say.

# %%
from numpy_paligemma.model.gemma import gemma_block
from numpy_paligemma.model.rope import rope_table


# %%
class MadeUp:
    """A take that makes numbers up, small ones."""

    def vector(self, _, shape):
        return 0.02 * rng.random(shape, np.float32)

    def matrix(self, name, shape):
        return hold_matrix(self.vector(name, shape), "bfloat16")


# %%
c = published("PaliGemma 3B").text
block = gemma_block_weights(MadeUp(), 0, c)
held = [getattr(block, name) for name in block.__slots__]
held = sum(x.nbytes for x in held if x is not None)

# %%
x = rng.standard_normal((1, 1, c.width), np.float32)
rope = rope_table(np.ones((1, 1), int), c.head_dim, c.rope_base, like=x)
took = best(lambda: gemma_block(x, block, rope, None, None, c))
print(f"one block of {held / 2**20:.0f} MiB: {1000 * took:.0f} ms,", end=" ")
print(f"by its bytes {1000 * held / bandwidth['bfloat16']:.0f} ms")

# %% [markdown]
# ## What to ask
#
# The names end in what a model was trained for. **pt** is pretrained only: it knows the prompts below and
# wants to be fine-tuned; a free question often gets an empty answer or a caption. **mix** was tuned on a
# mixture of tasks, and is the one to try things with. **ft-…** was tuned on one task, and takes only its
# prompts.
#
# | prompt | answer | pt | mix |
# |---|---|---|---|
# | `caption en` | a sentence, as in COCO | yes | yes |
# | `cap en` | raw alternative text | yes | |
# | `ocr` | the text in the picture | yes | PaliGemma 2's |
# | `answer en what is on the table?` | a word or two, lower case | yes | yes |
# | `detect cat ; dog` | four `<loc>`, a label, `;` … | yes | yes |
# | `segment cat` | four `<loc>`, sixteen `<seg>`, a label | yes | yes |
# | `What is on the flower?` | free text | | yes |
#
# What should come out? These pairs are published, by people who had the weights; they were **not** run for
# this page, which was made without them.
#
# | checkpoint | picture and prompt | greedy answer | published in |
# |---|---|---|---|
# | 3b-pt-224 | a cow on a beach, empty prompt | `cow on the beach` | tests of transformers |
# | 3b-pt-224 | the same, `answer en Where is the cow standing?` | `beach` | tests of transformers |
# | 3b-pt-224 | a shoe, `detect shoe` | `<loc0051><loc0309><loc0708><loc0646> shoe` | tests of transformers |
# | 3b-mix-224 | a bee, `What is on the flower?` | `bee` | Hugging Face's blog |
# | paligemma2-3b-mix-224 | a cat in the snow, `Where is the cat standing?` | `snow` | transformers' documentation |
#
# Now the sample picture of this series. The miniature calls it "a red circle, a blue star and a yellow
# triangle".

# %%
from numpy_paligemma import load_hf_model
from numpy_paligemma.checkpoints.hub import bundled
from numpy_paligemma.inputs.image import load_image

# %%
photo = load_image(bundled("sample.jpg"))
PROMPTS = ["caption en", "answer en how many shapes are there?", "detect star"]

# %% tags=["needs-weights"]
if folder is None:
    print(f"skipped: would load {NAME} and answer {PROMPTS}, one line each")
else:
    model, processor = load_hf_model(folder)
    soft = model.look(processor(text=["caption en"], images=[photo])["pixel_values"])

# %% tags=["needs-weights"]
answers = {}
if folder is None:
    print("skipped: would ask, having looked at the picture once for all prompts")
else:
    for prompt in PROMPTS:
        inputs = processor(text=[prompt], images=[photo])
        ids = model.generate(**inputs, soft_tokens=soft, do_sample=False)
        answers[prompt] = processor.tokenizer.decode(ids[0])
        print(f"{prompt:40} {answers[prompt]}")

# %%
from numpy_paligemma.answers.detection import Detection, box_in_pixels, parse_answer
from numpy_paligemma.answers.drawing import Thing, draw_things

# %% tags=["needs-weights"]
if folder is None:
    print("skipped: would draw the star's box on the photo, its bins divided by 1023")
else:
    parts = parse_answer(answers["detect star"])
    boxes = [p for p in parts if isinstance(p, Detection)]
    things = [Thing(p.label, box_in_pixels(p.bins, photo.size)) for p in boxes]
    plots.display(draw_things(photo, things))

# %% tags=["needs-weights"]
if folder is None:
    print("skipped: would time one answer, beside the estimate of Figure 3")
else:
    began = best(lambda: model.generate(**inputs, do_sample=False, max_new_tokens=1))
    more = best(lambda: model.generate(**inputs, do_sample=False, max_new_tokens=5))
    print(f"first token {began:.2f} s, further ones {(more - began) / 4:.2f} s")
    print("estimated", [f"{s:.2f} s" for s in seconds(model.config, "bfloat16")])

# %% [markdown]
# ## PaliGemma 2: one function, five changes
#
# Gemma 2 is the same stack of blocks, and here it is the same functions; each change acts where its field
# is set. The golden model for it is tiny and random. What `transformers` computed inside its own copy is
# stored beside it, in float64.

# %%
from numpy_paligemma import PaliGemma
from numpy_paligemma.checkpoints.config import read_config
from numpy_paligemma.checkpoints.load import load_weights

# %%
tiny = Path("../tests/golden/gemma_2")
c = read_config(tiny)
model_2 = PaliGemma(c, load_weights(tiny, c, "float64"))
expected = load_file(tiny / "expected.safetensors")
inputs = load_file(tiny / "inputs.safetensors")
inputs = {k: x for k, x in inputs.items() if k != "pictures"}
print(c.text)

# %%
real = inputs["attention_mask"] == 1  # not padding


def apart(model):
    """Run a model: the largest difference of its logits from the reference's."""
    logits = model.logits(pixel_values=expected["pixels"], **inputs)
    off = np.abs(logits - expected["logits"])[real].max()
    return off / np.abs(expected["logits"]).max(), logits


# %%
found, logits = apart(model_2)
print(f"off by {found:.0e} of the largest logit")
assert found < 1e-12

# %% [markdown]
# **One: four norms.** Gemma 1 normalises what a branch reads; Gemma 2 also what it adds:
#
# $$x \leftarrow x + \text{norm}_2(\text{attention}(\text{norm}_1(x))), \qquad x \leftarrow x + \text{norm}_4(\text{MLP}(\text{norm}_3(x)))$$
#
# A branch cannot shout any more: what it adds has the size that its gain says.

# %%
plots.source(gemma_block)

# %% [markdown]
# A trap for whoever loads files: `post_attention_layernorm` is in both families. In PaliGemma 1 it is the
# norm *before the MLP*, in PaliGemma 2 the new one, *behind the attention*. A loader that only compares
# names takes the wrong one and says nothing. Ours looks at the family first:

# %%
as_gemma_1 = replace(c, text=replace(c.text, post_norms=False))
try:
    load_weights(tiny, as_gemma_1, "float32")
except ValueError as error:
    print(error)

# %% [markdown]
# **Two and three: soft caps.** Scores are bent to stay within ±50 before the softmax of attention, logits
# within ±30 before the last one:
#
# $$\text{cap} \cdot \tanh(x / \text{cap})$$

# %%
from numpy_paligemma.model.layers import soft_cap, softmax

print(soft_cap(np.array([1.0, 10, 30, 100, 1000]), 30).round(2))
plots.source(soft_cap)

# %%
x = np.linspace(-120, 120, 241)
figure, axes = plt.subplots(figsize=(6.5, 2.7))
axes.plot(x, x, color=QUIET, lw=1, ls=":", label="no cap")
axes.plot(x, soft_cap(x, 50), color=LANGUAGE, label="scores, 50")
axes.plot(x, soft_cap(x, 30), "--", color=LANGUAGE, label="logits, 30")
axes.set(xlabel="number", ylabel="bent", ylim=(-65, 65), yticks=[-50, -30, 0, 30, 50])
axes.legend(frameon=False)
show(
    figure,
    "Figure 4. The two soft caps: small numbers pass, large ones never get beyond 50 or 30.",
    "A straight dotted line and two curves that follow it near nought and flatten at 50 and 30.",
)

# %% [markdown]
# A cap keeps the order, so greedy text does not depend on the one on logits. Probabilities do. How many
# times as likely as a logit of 30 is one of 40?

# %%
raw, bent = np.array([40.0, 30]), soft_cap(np.array([40.0, 30]), 30)
odds = [softmax(z)[0] / softmax(z)[1] for z in (raw, bent)]
print(f"without the cap {odds[0]:,.0f} times, with it {odds[1]:.0f}")

# %% [markdown]
# **Four: the scale of the queries.** Scores are multiplied by 1/√H, the size of a head, in PaliGemma 1 and
# in the 3B and 10B of PaliGemma 2. The 28B has H = 128, but its config says `query_pre_attn_scalar` 144,
# which is D / N. Taking H there makes every score 6 % too large:

# %%
D, _, N, _, H, _ = SIZES["PaliGemma 2 28B"]
print(f"D / N = {D // N}, H = {H}: scores too large by {H**-0.5 / (D / N) ** -0.5:.3f}")

# %% [markdown]
# **Five: windows.** Every other block, beginning with the first, looks back at most 4,096 places. At 224
# and 448 pixels no usual sequence is as long, so nothing happens. At 896 pixels the picture alone has
# 4,096. And the prefix? As `transformers` reads it, the window shortens only the looking *back* of the
# answer: picture and prompt go on seeing all of each other. In small, five places of picture and prompt,
# four of answer and a window of four:

# %%
from numpy_paligemma.model.fusion import prefix_lm_mask

is_answer = (np.arange(9) >= 5).astype(int)[None]
masks = [prefix_lm_mask(np.ones((1, 9)), is_answer, w)[0, 0] for w in (None, 4)]
names = ["picture"] * 3 + ["prompt"] * 2 + ["answer"] * 4

# %%
figure, axes = plt.subplots(1, 2, figsize=(7, 3.4))
titles = ["every second block", "the others: a window of 4"]
for axis, mask, title in zip(axes, masks, titles, strict=True):
    plots.prefix_mask(axis, masks[0], names, soft=3)
    for query, key in zip(*np.nonzero(masks[0] & ~mask), strict=True):
        axis.add_patch(plots.Rectangle((key, query), 0.92, 0.92, color=INK, lw=0))
    axis.set(title=title)
axes[1].set(ylabel="", yticks=[])
show(
    figure,
    "Figure 5. Who may see whom: amber the picture, pale the prompt, magenta the answer. Black: "
    "what the window takes away, and only from the answer's rows.",
    "Two squares of nine by nine cells. On the right a staircase at the lower left is black: the "
    "later a token of the answer, the fewer places of picture and prompt it sees.",
)

# %% [markdown]
# ### Who would notice?
#
# Switch each of them off in the golden model, one at a time, and compare: how far off the logits are, and
# at how many places another token would be the likeliest. (The golden model's caps, 3 and 4, and its
# window, 3, are small so that they show; how much the published 50, 30 and 4,096 do, only the published
# weights can tell.)


# %%
def without(**fields):
    """Leave the model's weights, change its config."""
    return replace(model_2, config=replace(c, text=replace(c.text, **fields)))


# %%
blocks = tuple(replace(b, post_norms=None) for b in model_2.weights.decoder.blocks)
decoder = replace(model_2.weights.decoder, blocks=blocks)
variants = {
    "nothing": model_2,
    "post norms": replace(model_2, weights=replace(model_2.weights, decoder=decoder)),
    "cap on scores": without(score_cap=None),
    "cap on logits": without(logit_cap=None),
    "own query scale": without(query_scale=None),
    "window": without(window=None, sliding_blocks=frozenset()),
}

# %%
off, changed = [], []
for variant in variants.values():
    distance, other = apart(variant)
    off.append(distance)
    changed.append((other.argmax(axis=-1) != logits.argmax(axis=-1))[real].mean())
assert min(off[1:]) > 1e-4  # all are far above the rounding, 1e-12

# %%
figure, axes = plt.subplots(figsize=(plots.WIDTH, 2.4))
shades = [QUIET] + [LANGUAGE] * 5
labels = [f"{d:.0e}, {k:.0%} of tokens" for d, k in zip(off, changed, strict=True)]
plots.bars(axes, list(variants), off, shades, labels, start=1e-17)
axes.set(
    xscale="log", xlim=(1e-17, 1e5), xlabel="difference of the logits (logarithmic)"
)
axes.set_xticks([1e-16, 1e-12, 1e-8, 1e-4, 1])
axes.minorticks_off()
show(
    figure,
    "Figure 6. What is left out, how far the logits are then from the reference's, and how many of "
    "the likeliest tokens change. Without the cap on logits none does: greedy text alone would "
    "never tell.",
    "Six bars on a logarithmic axis: with nothing left out about 1e-15, with each of the others "
    "between a thousandth and one.",
)

# %% [markdown]
# This is why the package compares layer by layer with the reference, and why it refuses a `config.json`
# that asks for other arithmetic than it has: a model that loads and writes English can be wrong.
#
# ## On your own
#
# 1. **What fits?** Write `fits(gib)`: the models of `SIZES` whose weights in bfloat16 and cache of a
#    224-pixel picture with 100 tokens fit. `fits(8)` must give both 3Bs, `fits(24)` the 10B too, `fits(64)`
#    all.
# 2. **The last words of a long answer.** At 896 pixels picture, `<bos>`, prompt and newline take T places.
#    How many of them does the answer's token i (from 0) *not* see in a block with the window w? Check your
#    formula against `prefix_lm_mask` for T = 12, w = 5, ten tokens.
# 3. **Another sort of off.** Give the golden model the query scale of a head twice as large, `(2 *
#    c.text.head_dim) ** -0.5`. Scores before the cap must be those of `without(query_scale=None)` divided
#    by √2 in the first block. (With a `tap`: `decoder/block00/attention/scores` comes *behind* the cap, so
#    set `score_cap=None` in both.)
#
# ## In practice
#
# - `numpy-paligemma info NAME` prints this page's bill for any checkpoint, before its weights are
#   downloaded.
# - Try `mix` at 224 first; 448 reads text better, at four times the places. `pt` is for fine-tuning.
# - The weights are read once for every further token, whatever the batch: the answers to several prompts at
#   once take little longer than one.
# - A graphics card has ten or more times the bandwidth of a processor's memory, and so gives that many
#   times the words: `--device cuda`.
# - If a checkpoint is refused, the line says which field or tensor; it is cheaper than an answer that is
#   quietly wrong.
# - `pytest -m weights --model NAME` compares a checkpoint that you have with `transformers`, array by
#   array.
#
# ## Further reading
#
# - Beyer et al., *PaliGemma*, [arXiv:2407.07726](https://arxiv.org/abs/2407.07726); Steiner et al.,
#   *PaliGemma 2*, [arXiv:2412.03555](https://arxiv.org/abs/2412.03555).
# - Gemma Team, *Gemma 2*, [arXiv:2408.00118](https://arxiv.org/abs/2408.00118), section 2 and table 1.
# - Hugging Face's posts on [PaliGemma](https://huggingface.co/blog/paligemma) and [PaliGemma
#   2](https://huggingface.co/blog/paligemma2): names, branches, examples.
# - [`model/gemma.py`](../numpy_paligemma/model/gemma.py),
#   [`model/config.py`](../numpy_paligemma/model/config.py) and
#   [`checkpoints/assemble.py`](../numpy_paligemma/checkpoints/assemble.py).

# %% [markdown]
# <details>
# <summary><b>Solutions</b></summary>
#
# **1.** Both bills, added:
#
# ```python
# def fits(gib):
#     names = []
#     for name in SIZES:
#         c = published(name)
#         bill = memory_bills(c, c.vision.patches + 100)["bfloat16"]
#         if bill.weights + bill.cache <= gib * GIB:
#             names.append(name)
#     return names
#
#
# assert fits(8) == list(SIZES)[:2]
# assert fits(24) == list(SIZES)[:3]
# assert fits(64) == list(SIZES)
# ```
#
# **2.** Token i stands at place T + i and sees w places, its own included, so all before T + i - w + 1 are
# hidden, and at most all T:
#
# ```python
# def hidden(T, i, w):
#     return min(T, max(0, T + i - w + 1))
#
#
# T, w, n = 12, 5, 10
# is_answer = (np.arange(T + n) >= T).astype(int)[None]
# mask = prefix_lm_mask(np.ones((1, T + n)), is_answer, w)[0, 0]
# for i in range(n):
#     assert (~mask[T + i, :T]).sum() == hidden(T, i, w)
# ```
#
# **3.** The first block's queries and keys are the same in both, so only the scale differs:
#
# ```python
# from numpy_paligemma.model.tap import recorder
#
#
# def scores(scale):
#     tap, seen = recorder()
#     without(query_scale=scale, score_cap=None).logits(
#         pixel_values=expected["pixels"], **inputs, tap=tap
#     )
#     return seen["decoder/block00/attention/scores"]
#
#
# halved = scores((2 * c.text.head_dim) ** -0.5)
# np.testing.assert_allclose(halved * np.sqrt(2), scores(None), atol=1e-12)
# ```
#
# </details>
