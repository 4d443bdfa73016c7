# %% [markdown]
# # Make it fast
#
# **How fast can NumPy be here, and what stops it?**
#
# ## What you'll do
#
# You measure two rates of the machine in front of you, and know from them, before anything is written,
# how long a picture and a word must take at least. Then you go there: you multiply by numbers that NumPy
# does not know, find the size of a tile, draw your measurements under the machine's roof, and see what a
# batch and eight bits cost.
#
# ## What you'll learn
#
# - why a prompt waits for arithmetic and a word waits for memory, and how to tell which it is,
# - how two numbers of 16 bits are read from one word of 32, to the bit,
# - why work is cut into tiles, and what goes wrong with too large and too small ones,
# - why eight answers at once may take eight times as long as one, and need not,
# - what it costs to keep every weight in eight bits.
#
# ## What you'll need
#
# Notebook 02 for the bits of a bfloat16, 08 for prefill and decoding. **All times are those of the
# machine that ran this page**, and they are noisy: run it on yours. What is *checked* is never a time,
# only numbers. In the shapes below, B is the number of answers at once, D the numbers in a token's
# vector, F those in the middle of an MLP, N and K the query and key-value heads, H the numbers in a head,
# V the tokens that Gemma knows.

# %%
from pathlib import Path
from timeit import repeat

import numpy as np
import plotting as plots
from plotting import BRIDGE, INK, LANGUAGE, QUIET, plt, show

from numpy_paligemma import load_hf_model
from numpy_paligemma.arrays import matrix
from numpy_paligemma.arrays.hold import hold_matrix
from numpy_paligemma.checkpoints.hub import bundled
from numpy_paligemma.inputs.image import load_image
from numpy_paligemma.model.parallel import cut, in_parallel, threads

# %%
rng = np.random.default_rng(0)
print("weights used here: a matrix in the size of PaliGemma 3B's, and the miniature")
print("cores used here:  ", threads())

# %% [markdown]
# ## Two rates
#
# A machine does two things for a layer: it fetches numbers from memory, and it multiplies and adds them.
# Each has a highest rate, and NumPy alone can measure it, from below: a product of two large matrices uses
# every number hundreds of times, so it shows the arithmetic; a matrix times one vector uses every number
# once, so it shows the memory. Whatever else runs on the machine takes its share: the best try counts.

# %%
from numpy_paligemma.arrays.limits import memory_rate, sgemm_rate

plots.source(memory_rate)

# %%
arithmetic = max(sgemm_rate() for _ in range(3))  # FLOP/s
memory = max(memory_rate() for _ in range(3))  # bytes/s
ridge = arithmetic / memory
print(f"{arithmetic / 1e9:.0f} billion floating-point operations a second (GFLOP/s)")
print(f"{memory / 1e9:.1f} GB read a second")
print(f"so {ridge:.1f} operations in the time of one byte")

# %% [markdown]
# (A multiplication and an addition are two operations. The best of three, because another program on the
# same machine can only make it look slower.)
#
# A layer takes at least as long as the slower of its two works. What counts is how many operations it has
# for each byte, its *intensity*:
#
# $$\text{seconds} \ge \max\left(\frac{\text{operations}}{\text{arithmetic}}, \frac{\text{bytes}}{\text{memory}}\right)$$
#
# $$\frac{\text{operations}}{\text{second}} \le \min\left(\text{arithmetic},\ \text{intensity} \cdot \text{memory}\right)$$
#
# The second line is the first one, turned over. Drawn on logarithmic axes this is a roof: it rises with
# the intensity, and from the ridge on it is flat. (Activations are left out: of a large layer nearly all
# bytes are weights.)


# %%
def intensity(rows, bytes_each):
    """Count operations a byte, for `rows` vectors through weights of so many bytes."""
    return 2 * rows / bytes_each


def draw_roof(axes):
    """Draw what the machine allows."""
    at = np.geomspace(0.25, 600, 200)
    axes.plot(at, np.minimum(arithmetic, at * memory) / 1e9, color=INK, lw=1.5)
    axes.set(xscale="log", yscale="log", ylabel="GFLOP/s (logarithmic)")
    axes.set(xlabel="intensity: operations for each byte of weights (logarithmic)")
    axes.set_xticks(ticks := [0.5, 1, 2, 8, 32, 130, 520], [f"{t:g}" for t in ticks])
    axes.set_yticks(ticks := [2, 8, 32, 128, 512, 2048], [str(t) for t in ticks])
    axes.set(xlim=(0.25, 600), ylim=(2, 2 * arithmetic / 1e9))
    axes.minorticks_off()


# %%
STAGES = {  # rows of x, bytes a weight, colour
    "a word,\nfloat32": (1, 4, LANGUAGE),
    "a word,\nbfloat16": (1, 2, LANGUAGE),
    "a word,\nint8": (1, 1, LANGUAGE),
    "8 words,\nbfloat16": (8, 2, LANGUAGE),
    "picture and prompt,\n260 rows, float32": (260, 4, BRIDGE),
}

# %%
figure, axes = plt.subplots(figsize=(plots.WIDTH, 3.3))
draw_roof(axes)
for name, (rows, size, colour) in STAGES.items():
    x = intensity(rows, size)
    y = min(arithmetic, x * memory) / 1e9
    axes.plot([x, x], [2, y], color=colour, lw=1, ls=":")
    axes.plot(x, y, "o", color=colour)
    axes.text(x * 1.07, 2.3, name, color=colour, size=8.5)
axes.axvline(ridge, color=QUIET, lw=1)
axes.text(ridge * 1.07, arithmetic / 1e9 * 1.25, "the ridge", color=QUIET, size=8.5)
show(
    figure,
    "Figure 1. The roof of the machine that ran this page. Left of the ridge a layer waits for "
    "memory, right of it for arithmetic. A word is one row through every matrix (magenta), far on "
    "the left; picture and prompt are hundreds (amber).",
    "A line on logarithmic axes that rises and then is flat. Words in three dtypes stand under "
    "the rising part, picture and prompt under the flat one.",
)

# %% [markdown]
# ### What must a real model take?
#
# PaliGemma 3B has 18 blocks. A word passes all of them and the head; picture and prompt pass the blocks
# with some 260 rows, and the picture passed the eye before (0.41 billion weights, 256 rows).

# %%
D, N, K, H, F, V = 2048, 8, 1, 256, 16_384, 257_216
block = 2 * D * N * H + 2 * D * K * H + 3 * D * F  # q, o; k, v; the MLP
eye, blocks, head = 0.41e9, 18 * block, V * D
prefill = 2 * (256 * eye + 260 * blocks + head)  # operations to the first token
print(f"a word: {(blocks + head) / 1e9:.2f} billion weights, each used once")
print(f"the first one: {prefill / 1e12:.2f} · 10¹² operations")

# %%
print(f"first token, at least {prefill / arithmetic:.1f} s")
for name, size in {"float32": 4, "bfloat16": 2, "int8": 1}.items():
    print(f"each further, {name:8} {(blocks + head) * size / memory:.3f} s")

# %% [markdown]
# So for words, the way to be fast is not to compute less. It is to have fewer bytes: **half the bytes,
# half the time**, if only one could multiply by numbers of two bytes. NumPy has no bfloat16. Its own
# 16-bit numbers, float16, it converts one at a time in the builds that we have measured.
#
# ## Two numbers in one word
#
# Notebook 02 read a bfloat16 in two steps: put its 16 bits into 32, shift them up by 16; it is then the
# float32 that it was cut from. The first step is the slow one: 16-bit numbers go to places twice as far
# apart. Can we do without?
#
# In the file two neighbours lie side by side, so memory can be *read* as words of 32 bits, at no cost. On
# a little-endian machine (nearly all are) the left neighbour is the lower half of the word.

# %%
from numpy_paligemma.arrays.formats import (
    even_bfloat16,
    odd_bfloat16,
    round_to_bfloat16,
    widen_bfloat16,
)

pair = round_to_bfloat16(np.array([1.5, -3.140625], np.float32))
word = pair.view("<u4")
print("two numbers:", [f"{n:04x}" for n in pair], " one word:", f"{word[0]:08x}")
print("even, shifted:", (word << np.uint32(16)).view(np.float32))
print("odd, masked:  ", (word & np.uint32(0xFFFF0000)).view(np.float32))

# %%
BITS = {
    "one word": word[0],
    "even column: word << 16": word[0] << np.uint32(16),
    "odd column: word & 0xffff0000": word[0] & np.uint32(0xFFFF0000),
}
HALVES = [LANGUAGE, BRIDGE]  # of the odd column, of the even one

# %%
figure, axes = plt.subplots(figsize=(plots.WIDTH, 2.2))
for row, (name, bits) in enumerate(BITS.items()):
    for place, bit in enumerate(f"{bits:032b}"):
        kept = [place // 16, 1, 0][row]  # whose bits stand here
        filled = not (row and place >= 16)
        colour = plots.to_rgba(HALVES[kept], 0.45 if filled else 0.06)
        box = plots.Rectangle((place, 1.6 * row), 0.9, 0.9, color=colour, lw=0)
        axes.add_patch(box)
        axes.text(place + 0.45, 1.6 * row + 0.47, bit, ha="center", va="center", size=8)
    axes.text(0, 1.6 * row - 0.15, name, size=8.5)
plots.bare(axes).set(xlim=(-0.2, 32.2), ylim=(4.3, -0.7))
show(
    figure,
    "Figure 2. Two bfloat16 in one word. A shift leaves the even column's number (amber) as a "
    "float32, a mask the odd one's (magenta); behind both are zeros.",
    "Three rows of 32 bits. The first has two halves; below, the right half moved to the left, "
    "and the left half left alone, each followed by sixteen zeros.",
)

# %% [markdown]
# One instruction a number in place of two, and none that moves 16 bits into 32. The package has these two
# as functions that write into memory lent to them:

# %%
plots.source(even_bfloat16)
plots.source(odd_bfloat16)

# %% [markdown]
# ### Check: every bfloat16 there is
#
# There are only 65,536. Compare bits and not values, so that the NaNs count too.

# %%
every = np.arange(1 << 16, dtype=np.uint16)
as_words = every.view("<u4").astype(np.uint32)
shifted = even_bfloat16(as_words, np.empty(1 << 15, np.float32))
masked = odd_bfloat16(as_words, np.empty(1 << 15, np.float32))
expected = widen_bfloat16(every).view(np.uint32)
np.testing.assert_array_equal(shifted.view(np.uint32), expected[0::2])
np.testing.assert_array_equal(masked.view(np.uint32), expected[1::2])

# %% [markdown]
# The columns now come in two heaps, even and odd. A product does not mind, for a sum may be taken in any
# order:
#
# $$W x = W_\text{even}\, x_\text{even} + W_\text{odd}\, x_\text{odd}$$
#
# ## Three ways to one product
#
# Now a matrix of real size, two of the MLP's in one block of PaliGemma 3B, one upon the other: 32,768
# rows of 2,048 numbers. Ours are whole numbers from -8 to 8. Time does not depend on them, and with whole
# numbers this small every sum is exact in float32, whatever the order: so all ways must agree *to the
# bit*.

# %%
w = rng.integers(-8, 9, (2 * F, D), np.int8).astype(np.float32)
x = rng.integers(-8, 9, D).astype(np.float32)
exact = w @ x
np.testing.assert_array_equal(exact[:64], w[:64].astype(int) @ x.astype(int))
bits = hold_matrix(w, "bfloat16").numbers  # (2 F, D), uint16
del w
words = bits.view(np.uint32)  # (2 F, D / 2)


# %%
def at_once(x):
    """Widen the whole matrix, then multiply."""
    wide = bits.astype(np.uint32) << np.uint32(16)
    return wide.view(np.float32) @ x


# %%
def by_tiles(x, tile=256):
    """Widen some rows into a small buffer and multiply, then the next ones."""
    out = np.empty(len(bits), np.float32)
    buffer = np.empty((tile, D), np.float32)
    for rows in cut(len(bits), tile):
        np.dot(widen_bfloat16(bits[rows], buffer), x, out[rows])
    return out


# %%
def by_lanes(x, tile=256, share=lambda work, parts: work(parts)):
    """Read each tile twice: its even columns, its odd ones."""
    out = np.empty((2, len(words)), np.float32)
    even, odd = x[0::2].copy(), x[1::2].copy()

    def work(parts):
        buffer = scratch(tile * D // 2).reshape(tile, D // 2)
        for rows in parts:
            np.dot(even_bfloat16(words[rows], buffer), even, out[0, rows])
            np.dot(odd_bfloat16(words[rows], buffer), odd, out[1, rows])

    share(work, cut(len(words), tile))
    return out.sum(axis=0)


# %% [markdown]
# `scratch` lends the same memory each time, because fresh pages cost as much as what is done there.
# `share` hands tiles to threads: NumPy lets go of Python's lock while it computes, so threads of Python
# can really compute side by side. BLAS, which multiplies, has threads too, and is held to one here; else
# the two kinds would wait for each other.

# %%
from numpy_paligemma.arrays.threads import one_blas_thread, scratch

plots.source(in_parallel)


# %%
def best(work, tries=4):
    """Time a function of no arguments, the best of some, in seconds."""
    work()
    return min(repeat(work, number=1, repeat=tries))


# %%
held = hold_matrix(bits, "bfloat16")  # not copied: the package's own way
ways = {
    "widened whole, one core": lambda: at_once(x),
    "tile by tile, one core": lambda: by_tiles(x),
    "two lanes, one core": lambda: by_lanes(x),
    "two lanes, all cores": lambda: by_lanes(x, share=in_parallel),
    "the package": lambda: x @ held.T,
}
took = {}
with one_blas_thread():
    for name, way in ways.items():
        np.testing.assert_array_equal(way(), exact)
        took[name] = best(way, tries=8)

# %%
figure, axes = plt.subplots(figsize=(plots.WIDTH, 2.2))
shades = [QUIET, *[plots.to_rgba(LANGUAGE, a) for a in (0.4, 0.6, 0.8, 1)]]
times = [1000 * seconds for seconds in took.values()]
plots.bars(axes, list(took), times, shades, [f"{ms:.1f}" for ms in times])
least = 1000 * bits.nbytes / memory
axes.axvline(least, color=INK, lw=1, ls="--")
axes.text(least, -0.62, f" its bytes alone: {least:.1f}", size=8.5)
axes.set(xlabel="milliseconds for 67 million weights", xlim=(0, 1.12 * max(times)))
show(
    figure,
    "Figure 3. One vector through one bfloat16 matrix of 134 MB, five ways, all equal to the bit; "
    "dashed: the time that memory needs to bring it. Widened whole, it is written to memory and "
    "read again at twice the size.",
    "Five bars. The matrix widened whole takes many times as long as the package, which comes "
    "near the dashed line.",
)

# %% [markdown]
# The first way is the one that everybody writes first. It moves nine times the bytes: of every weight two
# are read and four written, those four are read and four written again by the shift, and four read by the
# product. And the two arrays between lie in memory that the system must first find and clear. What tiles
# save is nothing but this.
#
# ## How large is a tile?
#
# A processor has small memories of its own, *caches*, each larger and slower than the one before. A tile
# should still be in one when the product comes for it. But a tile costs four calls of NumPy, of a
# microsecond or so each, and Python's lock is taken and let go each time. So there are two ways to be
# slow. Try all sizes:

# %%
tiles = 2 ** np.arange(16)  # rows: 1 … 32,768
rates = {"one core": [], "all cores": []}
shares = [lambda work, parts: work(parts), in_parallel]
with one_blas_thread():
    for found, share in zip(rates.values(), shares, strict=True):
        for tile in tiles:
            seconds = best(lambda t=tile, s=share: by_lanes(x, t, s), tries=3)
            found.append(bits.size / seconds / 1e9)

# %%
levels = sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index[023]/size"))
sizes = [int(level.read_text()[:-2]) for level in levels]  # KiB, where Linux tells

# %%
kib = 4 * tiles * (D // 2) / 1024  # of float32 in the buffer
ours = 4 * matrix.FEW_NUMBERS / 2 / 1024
top = 1.25 * max(map(max, rates.values()))

# %%
figure, axes = plt.subplots(figsize=(plots.WIDTH, 3))
for (name, found), alpha in zip(rates.items(), (0.45, 1), strict=True):
    colour = plots.to_rgba(LANGUAGE, alpha)
    axes.plot(kib, found, "o-", color=colour, ms=4, label=name)
for level, size in enumerate(sizes, 1):
    axes.axvline(size, color=QUIET, lw=1, ls=":")
    axes.text(size * 1.06, 0.94 * top, f"cache {level}", color=QUIET, size=8.5)
axes.plot([ours], [0], "^", color=INK, clip_on=False, ms=8)
axes.set(xscale="log", ylim=(0, top), ylabel="billion weights a second")
axes.set_xticks(kib[::3], [f"{k:,.0f}" for k in kib[::3]])
axes.minorticks_off()
axes.set(
    xlabel="KiB of float32 in a tile's buffer (logarithmic; ▲ the package's choice)"
)
axes.legend(frameon=False, loc="upper left")
show(
    figure,
    "Figure 4. Tiles too small drown in calls, and more so where threads pass Python's lock to "
    "and fro; tiles too large have left the near caches before they are multiplied. Between lies a "
    "broad hill.",
    "Two curves, low at the left, high in the middle and lower at the right; the one for all "
    "cores is steeper on the left.",
)

# %% [markdown]
# The hill is broad, so one number will do for many machines. (A row of the matrix has 2,048 numbers here;
# where rows are longer the package takes fewer of them.) The package's function is ours with one thing
# more, several rows of x, and any number of lanes:

# %%
plots.source(matrix._few_rows)

# %% [markdown]
# ### The third limit
#
# The dashed line of Figure 3 is not reached. Is it the memory, or our instructions? Do the steps on a
# tile that stays in the cache, so that no memory is waited for, and count the time of each weight:

# %%
tile, lane, sums = (
    words[:64],
    np.empty((64, D // 2), np.float32),
    np.empty(64, np.float32),
)
codes = np.ones((64, D // 2), np.int8)
steps = {
    "shift": lambda: even_bfloat16(tile, lane),
    "mask": lambda: odd_bfloat16(tile, lane),
    "int8 to float32": lambda: np.copyto(lane, codes),
    "product": lambda: np.dot(lane, x[: D // 2], sums),
}
# %%
with one_blas_thread():
    cost = {name: best(step, tries=200) / tile.size for name, step in steps.items()}
for name, seconds in cost.items():
    print(f"{name:16} {1e9 * seconds:.3f} ns a weight and core")

# %%
ceilings = {  # seconds a weight, every core on tiles of its own
    "bfloat16": ((cost["shift"] + cost["mask"]) / 2 + cost["product"]) / threads(),
    "int8": (cost["int8 to float32"] + cost["product"]) / threads(),
}
print("picoseconds a weight, by instructions, by memory")
for name, size in {"bfloat16": 2, "int8": 1}.items():
    print(f"{name:8} {1e12 * ceilings[name]:25.0f} {1e12 * size / memory:10.0f}")
print(f"bfloat16 as measured above: {1e12 * took['the package'] / bits.size:.0f}")

# %% [markdown]
# At best the larger of the two counts, if a core shifts one tile while it fetches the next. At worst it
# is their sum, if it waits first and works then. NumPy's calls come one after the other, so we are nearer
# to the sum.
#
# In int8 there is less to wait for, and as much to do. Fewer bytes pay only as long as making float32 of
# them is cheap: that is why four bits would not be four times as fast as sixteen.
#
# ## Under the roof
#
# Now measure the package's own product in three dtypes, from one row to a whole prompt, and put each
# measurement where it belongs. (The two rates first, once more: what disturbed them at the beginning may
# be gone.)

# %%
arithmetic = max(arithmetic, *(sgemm_rate() for _ in range(3)))
memory = max(memory, *(memory_rate() for _ in range(3)))

# %%
held = {dtype: hold_matrix(bits, dtype) for dtype in ("float32", "bfloat16", "int8")}
np.testing.assert_array_equal(x @ held["float32"].T, exact)
ROWS = (1, 2, 4, 8, 16, 24, 64, 260)
many = rng.integers(-8, 9, (260, D)).astype(np.float32)

# %%
cases = [(dtype, rows) for dtype in held for rows in ROWS]
seconds = dict.fromkeys(cases, np.inf)
with one_blas_thread():  # as around a whole answer
    for dtype, rows in 6 * cases:  # a disturbance lasts, so come back to each
        x_now, m = many[:rows], held[dtype]
        took_now = best(lambda x=x_now, m=m: x @ m.T, tries=1)
        seconds[dtype, rows] = min(seconds[dtype, rows], took_now)

# %%
SIZE = {"float32": 4, "bfloat16": 2, "int8": 1}  # bytes a weight
SHADE = {"float32": plots.to_rgba(LANGUAGE, 0.45), "bfloat16": LANGUAGE, "int8": INK}
MARK = {"float32": "o", "bfloat16": "s", "int8": "D"}
flops = {(d, r): 2 * r * bits.size / s / 1e9 for (d, r), s in seconds.items()}

# %% tags=["cover"]
figure, axes = plt.subplots(figsize=(plots.WIDTH, 3.8))
draw_roof(axes)
for dtype, size in SIZE.items():
    xs = [intensity(rows, size) for rows in ROWS]
    ys = [flops[dtype, rows] for rows in ROWS]
    style = {"color": SHADE[dtype], "ms": 5, "lw": 0.8}
    axes.plot(xs, ys, MARK[dtype] + "-", label=dtype, **style)
    below = {"xytext": (4, -12), "textcoords": "offset points", "size": 8.5}
    axes.annotate("1 row", (xs[0], ys[0]), color=SHADE[dtype], **below)
for dtype, each in ceilings.items():  # a weight, used once: 2 operations
    at = np.array([intensity(1, SIZE[dtype]), intensity(4, SIZE[dtype])])
    axes.plot(at, at * SIZE[dtype] / each / 1e9, "--", color=SHADE[dtype], lw=0.8)
axes.legend(frameon=False, loc="lower right")
show(
    figure,
    "Figure 5. The roof and what was measured under it, for 1, 2, 4, 8, 16, 24, 64 and 260 rows from "
    "left to right. Dashed: what the instructions of one row allow in bfloat16 and int8, a roof "
    "that memory knows nothing of.",
    "A roofline with three rows of points. Float32 follows the rising roof; bfloat16 and int8 "
    "start farther right and lower under it, and all three meet at the flat part.",
)

# %%
print("           of the memory's rate      of the arithmetic's")
for dtype, size in SIZE.items():
    read = size * bits.size / seconds[dtype, 1] / memory
    done = flops[dtype, 260] * 1e9 / arithmetic
    print(f"{dtype:8} {read:14.0%}, 1 row {done:20.0%}, 260 rows")

# %% [markdown]
# With many rows the dtypes are nearly one: widening is shared by all of them, and the product is the
# same. The package takes the other way then, whole tiles and one large product, and changes ways above
# `FEW` rows:

# %%
print("FEW =", matrix.FEW)
plots.source(matrix._many_rows)

# %% [markdown]
# ## What a batch costs
#
# While a word is written, memory brings each weight for one use. If B answers are written at once, each
# weight could be used B times; on the left of the ridge that would be free. But this is not what NumPy
# does with the array that comes naturally, `(B, 1, D)`: it is a *stack* of B products with one row each,
# and the matrix is read B times. Flattened to `(B, D)` it is one product. Same numbers:

# %%
wide = held["float32"].numbers
stack = many[:4, None]  # (B, 1, D)
np.testing.assert_array_equal((stack @ wide.T)[:, 0], many[:4] @ wide.T)
np.testing.assert_array_equal(stack @ held["bfloat16"].T, stack @ wide.T)

# %%
B = np.array([1, 2, 4, 8, 16, 24, 32])
batch = {
    "NumPy, (B, 1, D)": [best(lambda b=b: many[:b, None] @ wide.T, 3) for b in B],
    "NumPy, (B, D)": [best(lambda b=b: many[:b] @ wide.T, 5) for b in B],
}
with one_blas_thread():
    for dtype, m in held.items():
        name = f"the package, {dtype}"
        batch[name] = [best(lambda m=m, b=b: many[:b, None] @ m.T, 8) for b in B]

# %%
styles = [":", "--", "-", "-", "-"]
shades = [QUIET, QUIET, *SHADE.values()]
top = max(max(B * times[0] / times) for times in batch.values())

# %%
figure, axes = plt.subplots(1, 2, figsize=(plots.WIDTH, 3.4))
for (name, spent), style, shade in zip(batch.items(), styles, shades, strict=True):
    times = np.array(spent)
    axes[0].plot(B, 1000 * times, style, color=shade, marker="o", ms=4, label=name)
    axes[1].plot(B, B * times[0] / times, style, color=shade, marker="o", ms=4)
axes[0].set(yscale="log", ylabel="milliseconds (logarithmic)")
axes[1].plot(B, B, color=INK, lw=0.8)
axes[1].text(0.9 * top, top, "if it were free ", size=8.5, ha="right")
axes[1].set(ylabel="answers a second, against B = 1", ylim=(0, 1.1 * top))
for axis in axes:
    axis.set(xlabel="B, answers at once", xticks=[1, *B[2:]])
figure.legend(
    *axes[0].get_legend_handles_labels(),
    loc="outside lower center",
    ncols=3,
    frameon=False,
)
show(
    figure,
    "Figure 6. A product for B answers: the time (left), and what a batch gains (right). A stack of B "
    "products gains nothing, it reads the weights B times. Where the package's lines bend at the right, it "
    "changed from lanes to whole tiles.",
    "Two line charts. The stack's time grows in proportion to B and its gain stays near one; the "
    "others' time grows slowly, and their gain rises.",
)

# %% [markdown]
# Flattening alone is not all. BLAS is built for large products: before it multiplies, it copies both
# matrices into an order that suits it, *packs* them. With thousands of rows this pays; with two, the copy
# of the weights costs more than the product, so the dashed line may jump at B = 2. Some builds of BLAS
# have kernels for small products that leave out the packing. So the package offers the tile in pieces
# small enough for these, where it knows that they are there:

# %%
plots.source(matrix._thin_product)

# %% [markdown]
# A batch does not make one answer come sooner. It also does nothing for the prefill, which is under the
# flat part of the roof: eight pictures take about eight times as long as one.
#
# ## Eight bits
#
# The slope can be climbed once more: one byte a weight. An int8 holds whole numbers up to 127; so each
# row gets a scale, which makes its largest number 127.

# %%
row = np.array([[0.31, -1.27, 0.004, 0.9]], np.float32)
scale = np.abs(row).max() / 127
codes = np.rint(row / scale).astype(np.int8)
print("codes:", codes[0], " times", scale, "=", (codes * scale)[0])

# %%
eight = hold_matrix(row, "int8")
np.testing.assert_array_equal(eight.numbers, codes)
assert (np.abs(codes * scale - row) <= scale / 2).all()

# %% [markdown]
# Every number is off by half a scale at the most, small ones relatively more: 0.004 became nothing at
# all. The scale of a row waits until the row's sum is there, so it costs one multiplication a row. What
# does it do to a model? The miniature's own answer, in all three:

# %%
photo = load_image(bundled("sample.jpg"))
logits, answers = {}, {}
for dtype in SIZE:
    model, processor = load_hf_model("miniature", dtype=dtype)
    inputs = processor(text=["caption en"], images=[photo])
    logits[dtype] = model.logits(**inputs)[0]  # (T, V)
    ids = model.generate(**inputs, do_sample=False)
    answers[dtype] = processor.tokenizer.decode(ids[0])

# %%
right = logits["float32"]
for dtype, found in logits.items():
    off = np.abs(found - right).max() / np.abs(right).max()
    first = (found.argmax(-1) == right.argmax(-1)).mean()
    print(f"{dtype:8} off by {off:.0e}, same likeliest token at {first:.0%} of places")
    print("        ", answers[dtype])

# %%
assert answers["bfloat16"] == answers["float32"]

# %% [markdown]
# bfloat16 costs nothing, for the file holds bfloat16: the same numbers are multiplied, only summed in
# another order. int8 changes them. One caption proves little: count right answers, over many pictures,
# before you believe in it.
#
# ## The whole line
#
# How near does a whole answer come? `--profile` holds a stop-watch to every tap and compares with the two
# rates. The miniature, in bfloat16:

# %%
from numpy_paligemma.traces.profile import LOAD, Profile
from numpy_paligemma.traces.profile_table import Limits, profile_table

profile = Profile()
with profile.timed(LOAD):
    model, processor = load_hf_model("miniature", dtype="bfloat16")
model.generate(**inputs, tap=profile.tap(model), do_sample=False)
print(profile_table(profile, Limits(arithmetic, memory)))

# %% [markdown]
# Far below every limit, and no wonder: its matrices are so small that a call of NumPy takes longer than
# its arithmetic. That is the fourth limit, and one that a large model does not feel. What do the
# measurements above promise for PaliGemma 3B?

# %%
print("          first token (at least)   each further (at least)")
for dtype, size in SIZE.items():
    first = prefill / (1e9 * flops[dtype, 260])
    each = (blocks + head) * seconds[dtype, 1] / bits.size
    least = prefill / arithmetic, (blocks + head) * size / memory
    print(f"{dtype:8} {first:7.1f} s ({least[0]:.1f}) {each:17.3f} s ({least[1]:.3f})")

# %% [markdown]
# These are products alone; norms, GELU, softmax and attention come on top. What a whole 3B really takes
# on one named machine, and on the same day `transformers` beside it, stands in a table of the
# [README](../README.md), with the command that makes it again. (`transformers` can use bfloat16
# instructions that some processors have and NumPy does not reach: another roof, higher on the flat part.)
#
# ## On your own
#
# 1. **The ridge in rows.** From how many rows on does a product wait for arithmetic? Write
#    `ridge_rows(size)` for weights of `size` bytes. On any machine `intensity(ridge_rows(size), size)`
#    must be `ridge`.
# 2. **The other 16 bits.** float16 has 5 bits of exponent and 10 of fraction. Shift all but the sign up
#    by 13, see the result as float32, multiply by 2¹¹², put the sign back. Write `widen(halves)`; it must
#    equal NumPy's `astype(np.float32)` for all finite float16, the subnormal ones too.
# 3. **Four bits.** Two codes from -7 to 7 in one byte: write `pack(codes)`, `(64, D)` to `(64, D / 2)`
#    uint8, and `lanes(packed)`, which gives even and odd columns as float32. For `codes =
#    rng.integers(-7, 8, (64, D))` the product by lanes must equal `codes @ x` exactly.
#
# ## In practice
#
# - Draw the roof first. It tells what is worth trying, and when to stop.
# - `--dtype int8` for the fastest words and the smallest memory, `bfloat16` (the default) for the file's
#   own numbers, `float32` where there is memory for it and prompts are long.
# - `--threads N`, or `OMP_NUM_THREADS`, leaves cores to others. More threads than cores make it slower.
# - `--profile` prints the table above for any checkpoint and picture.
# - A graphics card has the same roof with other numbers; there, too, a word waits for memory.
#
# ## Further reading
#
# - Williams, Waterman and Patterson, *Roofline: an insightful visual performance model for multicore
#   architectures* (2009), [doi:10.1145/1498765.1498785](https://doi.org/10.1145/1498765.1498785).
# - Goto and van de Geijn, *Anatomy of high-performance matrix multiplication* (2008),
#   [doi:10.1145/1356052.1356053](https://doi.org/10.1145/1356052.1356053): tiles and packing inside BLAS.
# - Dettmers et al., *LLM.int8()*, [arXiv:2208.07339](https://arxiv.org/abs/2208.07339): what eight bits
#   do to large models.
# - Pope et al., *Efficiently scaling transformer inference*,
#   [arXiv:2211.05102](https://arxiv.org/abs/2211.05102).
# - [`arrays/formats.py`](../numpy_paligemma/arrays/formats.py),
#   [`arrays/matrix.py`](../numpy_paligemma/arrays/matrix.py) and
#   [`arrays/threads.py`](../numpy_paligemma/arrays/threads.py).
# - Next: [12, The real thing](12_the_real_thing.ipynb).

# %% [markdown]
# <details>
# <summary><b>Solutions</b></summary>
#
# **1.** 2 · rows / size = ridge:
#
# ```python
# def ridge_rows(size):
#     return ridge * size / 2
#
#
# for size in SIZE.values():
#     np.testing.assert_allclose(intensity(ridge_rows(size), size), ridge)
#     print(size, "bytes:", round(ridge_rows(size)), "rows")
# ```
#
# **2.** The offsets of the two exponents are 127 and 15; 2 to their difference mends it, and makes
# subnormal numbers normal on the way:
#
# ```python
# def widen(halves):
#     found = halves.view(np.uint16).astype(np.uint32)
#     size = ((found & 0x7FFF) << 13).view(np.float32) * np.float32(2.0**112)
#     return (size.view(np.uint32) | (found & 0x8000) << 16).view(np.float32)
#
#
# halves = every.view(np.float16)
# halves = halves[np.isfinite(halves)]
# wide = halves.astype(np.float32)
# np.testing.assert_array_equal(widen(halves).view(np.uint32), wide.view(np.uint32))
# ```
#
# **3.** Eight is added, so that no code is negative:
#
# ```python
# def pack(codes):
#     shifted = (codes + 8).astype(np.uint8)
#     return shifted[:, 0::2] | shifted[:, 1::2] << 4
#
#
# def lanes(packed):
#     low, high = packed & 15, packed >> 4
#     return low.astype(np.float32) - 8, high.astype(np.float32) - 8
#
#
# codes = rng.integers(-7, 8, (64, D))
# even, odd = lanes(pack(codes))
# np.testing.assert_array_equal(even @ x[0::2] + odd @ x[1::2], codes @ x)
# ```
#
# </details>
