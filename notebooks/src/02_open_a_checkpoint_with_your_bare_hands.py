# %% [markdown]
# # Open a checkpoint with your bare hands
#
# **What is in the file?**
#
# ## What you'll do
#
# You open the miniature's weights as a row of bytes, read its table of contents in eight
# lines of Python, turn bits into numbers that NumPy does not know, and find out where a
# model of three billion parameters keeps them.
#
# ## What you'll learn
#
# - how a `.safetensors` file is laid out, and why nothing in it can run,
# - what a *bfloat16* is, why NumPy cannot load it, and why two steps are enough to read it,
# - where the parameters are, and how much memory they take,
# - what a *tied head* is: one table that is read in two ways.
#
# ## What you'll need
#
# Notebook 01, or the knowledge that a model is formulas plus learned numbers, its *weights*
# (also called *parameters*). A *checkpoint* is the folder that those numbers travel in.
# A *tensor* is an array with a name.

# %%
import json
import math
import re

import numpy as np
import plotting as plots
from matplotlib.colors import to_rgb
from plotting import BRIDGE, INK, LANGUAGE, QUIET, VISION, plt, show
from safetensors.numpy import load_file

from numpy_paligemma.checkpoints.hub import bundled

# %%
folder = bundled("miniature")
path = folder / "model.safetensors"
golden = load_file("../tests/golden/miniature.safetensors")

for file in sorted(folder.iterdir()):
    print(f"{file.stat().st_size:>11,} bytes  {file.name}")

# %% [markdown]
# The `.json` files say how large the model is and how pictures and words are prepared; they
# are text, open them in an editor. `tokenizer.model` cuts text into tokens. Everything that
# was *learned* is in `model.safetensors`, and that is the file we open.
#
# (`golden` holds the arrays that the reference implementation, Hugging Face's
# `transformers`, got on the way from a picture to a word, with the same weights. We use it
# at the end, to prove that we read them well.)
#
# ## A file is a row of bytes
#
# A *memory map* makes a file look like an array. Nothing is read until you touch it, and
# then only the part that you touch.

# %%
raw = np.memmap(path, np.uint8, mode="r")  # one number, 0 … 255, a byte
print("bytes:      ", raw.shape)
print("first eight:", raw[:8])
print("then:       ", raw[8:70].tobytes())

# %% [markdown]
# Eight numbers, and then something a person can read. The eight are *one* whole number, its
# least byte first (*little-endian*): the first byte counts ones, the second 256s, the third
# 65,536s, and so on. It says how long the readable part is.

# %%
length = int.from_bytes(raw[:8].tobytes(), "little")
powers = 256 ** np.arange(8, dtype=np.uint64)
print(length, "=", int(raw[:8] @ powers))

# %%
ROW, START = 26, 8 + length  # bytes in a row of the picture; where the header ends


def draw_bytes(axes, first, rows, title):
    """Write bytes into squares: letters where the file means letters, else hex."""
    for i, byte in enumerate(raw[first : first + rows * ROW]):
        place, (y, x) = first + i, divmod(i, ROW)
        is_text = 8 <= place < START
        face = "#e8e8e8" if is_text else INK if place < 8 else LANGUAGE
        axes.add_patch(plt.Rectangle((x, y), 0.94, 0.94, color=face))
        word = chr(byte) if is_text else f"{byte:02x}"
        ink = INK if is_text else "white"
        axes.text(
            x + 0.47, y + 0.52, word, ha="center", va="center", size=8.5, color=ink
        )
    plots.bare(axes, title)
    axes.set(xlim=(0, ROW), ylim=(rows, 0), aspect="equal")


# %%
figure, (top, bottom) = plt.subplots(2, 1, figsize=(plots.WIDTH, 3.1))
draw_bytes(top, 0, 4, "the file begins: eight bytes of length, then the header")
draw_bytes(bottom, START - 2 * ROW - 9, 4, "the header ends, the numbers begin")
show(
    figure,
    "Figure 1. Two places in the file, a square a byte. Dark: how long the header is. "
    "Grey: the header, plain text (JSON), filled up with spaces. Magenta: the numbers, "
    "shown in hexadecimal, two digits a byte.",
    "Rows of squares with one byte each: eight dark ones, then readable JSON text, and "
    "in the lower half the end of that text and the first bytes of the weights.",
)

# %% [markdown]
# ## The whole format in eight lines
#
# That is all there is: **length, header, numbers**. The header is a dictionary, and says of
# each tensor its `dtype`, its `shape`, and at which bytes behind the header it begins and
# ends. With the line that made `raw`, these are the eight. (The bytes come back as 16-bit
# integers, for a reason that you will see in a moment.)

# %%
length = int.from_bytes(raw[:8].tobytes(), "little")
header = json.loads(raw[8 : 8 + length].tobytes())
header.pop("__metadata__", None)  # a remark by the writer, no tensor
data = raw[8 + length :]


def bits_of(name):
    first, stop = header[name]["data_offsets"]
    return data[first:stop].view(np.uint16).reshape(header[name]["shape"])


# %%
print(len(header), "tensors, for example\n")
for name in list(header)[:: len(header) // 6]:
    print(name, "\n   ", header[name])

# %% [markdown]
# Names are paths: `vision_tower` is the eye (SigLIP), `multi_modal_projector` the bridge,
# `language_model` the language model (Gemma). The file `numpy_paligemma/checkpoints/assemble.py`
# has one line for each tensor and says which weight of which formula it is.
#
# Note what is *not* there: no code. Older checkpoints were Python pickles, and to open a
# pickle is to run whatever its author put in. Here a reader only has to check that the
# places make sense, which the `safetensors` library does for us before we trust a file.

# %% [markdown]
# Let us colour every byte of the file by the tensor that it belongs to.

# %%
SQUARE, ACROSS = 1024, 128  # bytes in a square, squares in a row
ENCODER = "vision_model.encoder.layers"
roles = {"vision": VISION, "multi": BRIDGE, "language": LANGUAGE}


def shade(name):
    """Choose a tensor's colour: its organ's, every other block of it lighter."""
    colour = np.array(to_rgb(roles[name.split("_")[0]]))
    block = re.search(r"layers\.(\d+)", name)
    light = 0.25 * (1 + int(block[1]) % 2) if block else 0
    return colour + light * (1 - colour)


# %%
squares = np.ones((-(-len(raw) // SQUARE // ACROSS) * ACROSS, 3))  # white, whole rows
squares[: START // SQUARE] = to_rgb(INK)
for name, entry in header.items():
    first, stop = (START + place for place in entry["data_offsets"])
    squares[first // SQUARE : -(-stop // SQUARE)] = shade(name)

# %%
landmarks = {"embedding": "language_model.model.embed", "projector": "multi_modal"}
for i in range(4):
    landmarks[f"Gemma block {i}"] = f"language_model.model.layers.{i}.mlp"
    landmarks[f"SigLIP block {i}"] = f"vision_tower.{ENCODER}.{i}.mlp"

# %%
figure, axes = plt.subplots(figsize=(plots.WIDTH, 3.2))
sheet = squares.reshape(-1, ACROSS, 3)
axes.imshow(sheet, aspect="auto", interpolation="nearest")
ticks = range(0, ACROSS + 1, 32)
axes.set_xticks([t - 0.5 for t in ticks], [f"{t * SQUARE:,}" for t in ticks])
axes.set(xlabel="bytes from the row's beginning", ylabel="row of the page")
for label, name in landmarks.items():
    places = [e["data_offsets"] for n, e in header.items() if n.startswith(name)]
    y = (START + np.mean(places)) / SQUARE / ACROSS - 0.5
    colour = roles[name.split("_")[0]]
    axes.text(ACROSS, y, label, va="center", color=colour)
show(
    figure,
    "Figure 2. The whole file, a square 1024 bytes, read like a page. Dark, top left: the "
    "header. Magenta: Gemma. Amber: the projector. Blue: SigLIP; its darkest strips are the "
    "patch matrix, the positions and the last norm.",
    "A page of small squares: a short dark strip, then a magenta half, a thin amber strip "
    "and a blue half, each made of stripes, one for each block of the model.",
)

# %% [markdown]
# ## The bits of a bfloat16
#
# Every tensor here has the dtype `BF16`, two bytes a number. Ask NumPy for it:

# %%
try:
    np.dtype("bfloat16")
except TypeError as error:
    print("TypeError:", error)

# %% [markdown]
# **Why does bf16 not load in NumPy?** NumPy's numbers are those that the C language and the
# IEEE 754 standard define: `float16`, `float32`, `float64`. *bfloat16* ("brain float") was
# made at Google for neural networks and is in neither. So the `safetensors` library, asked
# for NumPy arrays, has no dtype to put them in.
#
# A number of floating point is a *sign*, an *exponent* (which power of two) and a *fraction*
# (how far to the next power). Look at how the same number is kept in three formats:

# %%
tenth = np.float32(0.1)
formats = {  # the bits, and how many of them are exponent
    "float32\n0.1000000015": (f"{tenth.view(np.uint32):032b}", 8),
    "bfloat16\n0.1000976562": (f"{0x3DCD:016b}", 8),
    "float16\n0.0999755859": (f"{np.float16(tenth).view(np.uint16):016b}", 5),
}
figure, axes = plt.subplots(figsize=(plots.WIDTH, 1.75))
for y, (bits, exponent) in enumerate(formats.values()):
    for x, bit in enumerate(bits):
        face = INK if x == 0 else QUIET if x <= exponent else "#e2e2e2"
        axes.add_patch(plt.Rectangle((x, y), 0.94, 0.86, color=face))
        ink = "white" if x <= exponent else INK
        axes.text(x + 0.47, y + 0.45, bit, ha="center", va="center", color=ink)
plots.bare(axes).set(xlim=(0, 32), ylim=(3, 0))
axes.set_yticks([0.43, 1.43, 2.43], formats)
axes.tick_params(length=0)
show(
    figure,
    "Figure 3. The number 0.1 in three formats, and what each really holds: one bit of "
    "sign (dark), the exponent (grey), the fraction (light). bfloat16 is the upper half of "
    "a float32, rounded; float16 divides its bits in another way.",
    "Three rows of ones and zeros. The exponent of float32 and bfloat16 is the same eight "
    "bits; bfloat16 keeps seven bits of fraction, float32 has 23, float16 ten.",
)

# %% [markdown]
# A bfloat16 has the exponent of a float32, so it reaches just as far (up to about 3·10³⁸;
# float16 ends at 65,504), and only 7 bits of fraction, so it knows two or three decimal
# digits. Training needs the reach more than the digits. In a formula, with the sign bit $s$,
# the exponent $e$ and the fraction $f$ read as whole numbers:
#
# $$ (-1)^s \cdot 2^{e-127} \cdot \left(1 + \tfrac{f}{128}\right) $$
#
# (For $e = 0$, the very small numbers, it is $(-1)^s \cdot 2^{-126} \cdot f/128$; and $e = 255$
# means infinity or no number at all, which no sound checkpoint holds.) But we need no
# formula to read it: **put sixteen zeros behind the bits, and call it a float32.**

# %%
bits = np.array([0x3F80, 0xC000, 0x3DCD], np.uint16)
wide = bits.astype(np.uint32) << 16  # sixteen zeros behind
print(wide.view(np.float32))  # the same bits, seen as float32

# %% [markdown]
# That is the package's reader, too:

# %%
from numpy_paligemma.arrays.formats import widen_bfloat16

plots.source(widen_bfloat16)

# %% [markdown]
# ### Check: the shift against the formula
#
# On every number of the file. Tolerance: none, they are equal to the last bit.


# %%
def by_formula(bits):
    """Work bfloat16 out from sign, exponent and fraction."""
    sign = 1.0 - 2.0 * (bits >> 15)
    exponent = (bits >> 7 & 0xFF).astype(np.int32)
    fraction = (bits & 0x7F) / 128
    tiny = exponent == 0  # no 1 in front of the fraction
    return sign * np.ldexp(fraction + ~tiny, exponent - 127 + tiny)


# %%
everything = data.view(np.uint16)
np.testing.assert_array_equal(widen_bfloat16(everything), by_formula(everything))
print(f"{everything.size:,} numbers equal")

# %% [markdown]
# And our eight lines against the package, which lets the `safetensors` library check the
# file first: the same names, the same places, the same bits.

# %%
from numpy_paligemma.checkpoints.safetensors import list_tensors

listed = list_tensors(folder)
assert {tensor.name for tensor in listed} == set(header)
for tensor in listed:
    np.testing.assert_array_equal(tensor.read(), bits_of(tensor.name))
print(len(listed), "tensors equal")

# %% [markdown]
# ## Where the parameters are
#
# `assemble.py` builds the model by asking for each tensor by name and shape. Let us hand it
# something that only counts. Then it can tell us about any size of model, without a file:
# the published PaliGemma for 224-pixel pictures, for one.

# %%
from numpy_paligemma.checkpoints.assemble import paligemma_weights
from numpy_paligemma.checkpoints.config import read_config
from numpy_paligemma.model.config import PaliGemmaConfig, TextConfig, VisionConfig


# %%
class Count(dict):
    """Takes down how many numbers each tensor has."""

    def matrix(self, name, shape):
        self[name] = math.prod(shape)
        return np.empty(0)

    vector = matrix


# %%
PALIGEMMA_3B = PaliGemmaConfig(
    # pixels, patch, channels; width, blocks, heads; MLP
    VisionConfig(224, 14, 3, 1152, 27, 16, 4304, 1e-6),
    # tokens it knows; width, blocks, heads, key-value heads, head size; MLP
    # (rows of the table: 257,152 tokens, then `<image>` and unused ones)
    TextConfig(257_216, 2048, 18, 8, 1, 256, 16_384, 1e-6, 10_000.0),
    image_token_id=257_152,
    bos_token_id=2,
    eos_token_ids=(1,),
    pad_token_id=0,
)

# %%
small, large = Count(), Count()
paligemma_weights(small, read_config(folder), tied=True)
paligemma_weights(large, PALIGEMMA_3B, tied=True)
print(f"{sum(small.values()):>13,} in the miniature")
print(f"{sum(large.values()):>13,} in PaliGemma 3B")

# %% [markdown]
# Check: the first number is that of the values in our file, the second the one that follows
# from the published file's size, 5,846,932,960 bytes of two each.

# %%
assert sum(small.values()) == everything.size
assert sum(large.values()) == 5_846_932_960 // 2

# %%
PARTS = {"mlp": "MLP", "self_attn": "attention", "embed": "embedding"}


def grouped(count):
    """Add the tensors up by organ and by part."""
    tree = {role: {} for role in roles}
    for name, size in count.items():
        part = next((PARTS[key] for key in PARTS if key in name), "other")
        organ = tree[name.split("_")[0]]
        organ[part] = organ.get(part, 0) + size
    return tree


# %%
def treemap(axes, tree, title):
    """Draw areas in proportion to the numbers: a column an organ, a box a part."""
    whole, x = sum(sum(organ.values()) for organ in tree.values()), 0.0
    for role, organ in tree.items():
        y, width = 0.0, sum(organ.values()) / whole
        for part, size in sorted(organ.items(), key=lambda item: -item[1]):
            height = size / whole / width
            box = plt.Rectangle((x, y), width, height, fc=roles[role], ec="white")
            axes.add_patch(box)
            if size / whole > 0.025:
                words = f"{part}{' ' if height < 0.12 else chr(10)}{size / whole:.0%}"
                place = (x + width / 2, y + height / 2)
                axes.text(*place, words, ha="center", va="center", color="white")
            y += height
        x += width
    plots.bare(axes, title).set(xlim=(0, 1), ylim=(1, 0))


# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(plots.WIDTH, 3.6))
treemap(left, grouped(small), f"the miniature: {sum(small.values()):,}")
treemap(right, grouped(large), f"PaliGemma 3B: {sum(large.values()):,}")
show(
    figure,
    "Figure 4. Parameters as areas: SigLIP blue, the projector amber (hardly to be seen), "
    "Gemma magenta. In the large model most of them are the MLPs of the language model, "
    "and the embedding alone outweighs the eye.",
    "Two squares cut into boxes. In the miniature vision and language share the area; in "
    "PaliGemma 3B vision has 14 percent, Gemma's MLPs 62, its embedding 18.",
)

# %% [markdown]
# *Attention* is what lets tokens look at each other, the *MLP* is what works on each token
# alone, the *embedding* is the table of vectors for words (in the eye: the patch matrix and the
# table of positions, notebook 03). All three get a notebook.
#
# ### How much RAM?
#
# Weights are nearly everything, so the answer is a product: parameters times bytes.

# %%
for dtype, size in {"float64": 8, "float32": 4, "bfloat16": 2}.items():
    print(f"PaliGemma 3B as {dtype:8} {sum(large.values()) * size / 1e9:5.1f} GB")

c = PALIGEMMA_3B.text
each = c.depth * 2 * c.kv_heads * c.head_dim * 4  # keys and values, float32
print(f"and for each token that it remembers {each / 1e3:.0f} kB (notebook 08)")

# %% [markdown]
# By default the package keeps matrices as they lie in the file, as bfloat16 bits in a memory
# map, and widens a tile of them to float32 at the moment it is multiplied. The pages of a
# memory map belong to the file: where memory gets short, the system may drop them and read
# them again. Arithmetic is always in float32, or in float64 if you ask for it.

# %%
from numpy_paligemma import load_hf_model

model, processor = load_hf_model("miniature", dtype="bfloat16")
embed = model.weights.decoder.embed
print(type(embed).__name__, embed.shape, f"holds {embed.nbytes:,} bytes")
print("copied from the file:", embed.numbers.flags.owndata)

# %% [markdown]
# ## A tied head: one table, read in two ways
#
# At its entrance a language model turns a token's number, its *id*, into a vector. At its
# exit it turns a vector into one score for each token it knows, the *logits*. Both need a
# table with a row a token. Look for the second one:

# %%
print([name for name in header if "embed_tokens" in name or "lm_head" in name])
print("the head is the embedding:", model.weights.decoder.head is embed)

# %% [markdown]
# There is none. The head (`lm_head`) is *tied* to the embedding: it is the same table. To
# read a token is to take its row; to say one is to ask which row points the same way as
# what the model has in mind.

# %%
table = np.array([[1, 0], [0, 1], [-1, 0], [0.6, 0.8]])  # four tokens, width two
heard = table[3]  # read token 3
scores = table @ heard
print(f"read token 3: {heard}; scores: {scores}; say token {np.argmax(scores)}")

# %% [markdown]
# In PaliGemma 3B the table has 257,216 rows of 2048 numbers; sharing it saves half a billion
# parameters.
#
# ### Check: the rows that the reference looked up
#
# `golden["decoder/embed"]` is what `transformers` got for the tokens of our prompt: rows of
# this table, times √D (notebook 05 says why; D, the width, is the length of a row). We look
# them up in the bits that we dug out ourselves. The tolerance is one rounding: the reference
# was worked out in float64 and kept as float32, which moves a number by at most 2⁻²⁴ of
# itself.

# %%
from numpy_paligemma.inputs.image import load_image

photo = load_image(bundled("sample.jpg"))
ids = processor(text=["caption en"], images=[photo])["input_ids"]  # (1, T)
is_text = ids != model.config.image_token_id  # the others hold the picture's places
print(processor.tokenizer.decode(ids[is_text].tolist(), skip_special_tokens=False))

# %%
rows = widen_bfloat16(bits_of("language_model.model.embed_tokens.weight")[ids[is_text]])
mine = rows.astype(np.float64) * rows.shape[-1] ** 0.5
np.testing.assert_allclose(mine, golden["decoder/embed"][is_text], rtol=2**-24)
print(mine.shape, "equal")

# %% [markdown]
# ### Do the numbers mean something?
#
# We have the rows, so let us compare them. The *cosine* of two vectors is 1 where they point
# the same way, 0 where they have nothing in common. PaliGemma writes places in a picture as
# tokens: `<loc0000>` is the top or left edge, `<loc1023>` the bottom or right one. Beside them we
# take ten words of which the miniature's captions are made. (`▁` is how tokenizers write a space.)

# %%
table = widen_bfloat16(bits_of("language_model.model.embed_tokens.weight"))  # (V, D)
unit = table / np.linalg.norm(table, axis=-1, keepdims=True)
first = processor.tokenizer.token_id("<loc0000>")
places = unit[first : first + 1024]
names = "red green blue yellow purple black circle square triangle star"
words = unit[[processor.tokenizer.token_id(f"▁{word}") for word in names.split()]]

# %% tags=["cover"]
figure, (left, right) = plt.subplots(1, 2, figsize=(plots.WIDTH, 3.9))
look = {"vmin": -1, "vmax": 1, "cmap": "PuOr_r"}
left.imshow(places @ places.T, **look)
left.set(xlabel="<loc> token", ylabel="<loc> token", title="places")
image = right.imshow(words @ words.T, **look)
right.set_xticks(range(10), names.split(), rotation=60, ha="right")
right.set_yticks(range(10), names.split())
right.set_title("words")
figure.colorbar(image, ax=right, label="cosine", shrink=0.75)
show(
    figure,
    "Figure 5. How alike the rows of the table are. Left: neighbouring places have nearly "
    "the same row, so the 1024 tokens form a ruler. Right: most colours are like colours "
    "(red and blue, yellow and purple are not), shapes like shapes, and a colour is not like "
    "a shape.",
    "Two heat maps of cosines. The one of the location tokens has a bright band along its "
    "diagonal; the one of the words has two bright squares, six colours and four shapes.",
)

# %%
alike = words @ words.T
other = ~np.eye(10, dtype=bool)
among = [
    alike[part, part][other[part, part]].mean() for part in (slice(6), slice(6, 10))
]
print(
    f"mean cosine among colours {among[0]:.2f}, among shapes {among[1]:.2f}, ", end=""
)
print(f"of a colour and a shape {alike[:6, 6:].mean():.2f}")
assert min(among) > alike[:6, 6:].mean()

# %% [markdown]
# Nobody told the table which words are colours. Training has mostly found out that these six stand in the
# same places of sentences, and that is what the bits we dug up have to say. (The ruler
# is another matter: it was laid into the miniature's table when training began, and training
# kept it, because it pays to have neighbouring places look alike.)
#
# ## On your own
#
# 1. **One line.** From `raw`, `length` and `small` alone: how many bytes does a parameter
#    take? It must come out as exactly 2.
# 2. **A function.** Reading bfloat16 is a shift; *writing* it must round. Write
#    `to_bfloat16(x)`, float32 to uint16 bits, to the nearest, and to the even one where two are
#    equally near. It must equal `numpy_paligemma.arrays.formats.round_to_bfloat16` on a million
#    random numbers.
# 3. **The whole format.** Write `save(tensors)`, a dictionary of float32 arrays into bytes,
#    with nothing but `json`. `safetensors.numpy.load` must give the arrays back.
#
# ## In practice
#
# - Large checkpoints come in several such files (*shards*) with an index that says which
#   tensor is in which. `list_tensors` reads both.
# - The package `ml_dtypes` adds bfloat16 to NumPy; PyTorch and JAX have their own. For
#   reading, the shift is all they do.
# - **Why is float16 slower than float32?** NumPy can keep float16 and hardly multiply it: each
#   number is widened and rounded again on its own, and no fast matrix product is used. So 16 bits
#   are a way of *keeping* here, and arithmetic is done in 32.
# - Two files of the same model may name its tensors differently: six layouts are about. One
#   table, `numpy_paligemma/checkpoints/names.py`, knows them, and loading fails loudly where a
#   tensor is missing, left over or of another shape: a model with a few random weights
#   speaks fluently, and is wrong.
#
# ## Further reading
#
# - [The safetensors format](https://huggingface.co/docs/safetensors), on one page.
# - Kalamkar et al. (2019), [A Study of BFLOAT16 for Deep Learning
#   Training](https://arxiv.org/abs/1905.12322).
# - Press and Wolf (2016), [Using the Output Embedding to Improve Language
#   Models](https://arxiv.org/abs/1608.05859): where tied heads come from.
# - Next: [03, Cut an image into patches](03_cut_an_image_into_patches.ipynb).

# %% [markdown]
# <details><summary>Solutions</summary>
#
# ```python
# # 1
# print((len(raw) - 8 - length) / sum(small.values()))
#
# # 2: add just under half of the last place kept, one more if that place is odd, and cut
# def to_bfloat16(x):
#     bits = x.view(np.uint32)
#     return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)
#
# from numpy_paligemma.arrays.formats import round_to_bfloat16
# x = np.random.default_rng(0).standard_normal(1_000_000, np.float32)
# np.testing.assert_array_equal(to_bfloat16(x), round_to_bfloat16(x))
#
# # 3
# def save(tensors):
#     header, place = {}, 0
#     for name, x in tensors.items():
#         places = [place, place := place + x.nbytes]
#         header[name] = {"dtype": "F32", "shape": x.shape, "data_offsets": places}
#     text = json.dumps(header).encode()
#     text += b" " * (-len(text) % 8)  # so that the numbers begin at a multiple of 8
#     numbers = b"".join(x.tobytes() for x in tensors.values())
#     return len(text).to_bytes(8, "little") + text + numbers
#
# from safetensors.numpy import load
# tensors = {"a": np.eye(3, dtype=np.float32), "b": np.arange(4, dtype=np.float32)}
# for name, x in load(save(tensors)).items():
#     np.testing.assert_array_equal(x, tensors[name])
# ```
#
# </details>
