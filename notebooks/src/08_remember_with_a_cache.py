# %% [markdown]
# # Remember with a cache
#
# **Why is the second token cheap?**
#
# ## What you'll do
#
# You write a sentence twice: once as a model without a memory would, once with the cache that
# every language model in use has. You prove that the words and the numbers are the same, and take
# the time. At the end you watch a box grow out of four tokens.
#
# ## What you'll learn
#
# - what exactly is kept, and why just that is enough,
# - why the first token takes so long, and how to tell waiting from being stuck,
# - how to find out whether a cache does anything at all (the answer does not tell you),
# - which sequences may be read in pieces, and which may not.
#
# ## What you'll need
#
# From notebook 07: in attention a token's *query* meets the *keys* of the tokens it may see, and
# takes a mean of their *values*. Picture and prompt, the *prefix*, see all of themselves; the answer is
# *causal*, each of its tokens sees only what came before. In the shapes below, B is the number of prompts
# at once (here one), T the tokens of the prefix (or new ones), S all tokens so far, D the numbers in a
# token's vector, K the key-value heads (one), H the numbers in a head, V the tokens that Gemma knows.

# %%
import json
from pathlib import Path

import numpy as np
import plotting as plots
from plotting import BRIDGE, INK, LANGUAGE, VISION, plt, show
from safetensors.numpy import load_file

from numpy_paligemma import load_hf_model
from numpy_paligemma.checkpoints.hub import bundled
from numpy_paligemma.inputs.image import load_image

model, processor = load_hf_model("miniature", dtype="float32")
w, c = model.weights, model.config  # every learned number, every size
tokenizer = processor.tokenizer
golden = load_file("../tests/golden/miniature.safetensors")
photo = load_image(bundled("sample.jpg"))
inputs = processor(text=["caption en"], images=[photo])
T = inputs["input_ids"].shape[1]
print("T =", T, "tokens of picture and prompt")

# %% [markdown]
# ## Without a memory
#
# A language model gives, for each place of a sequence, the *logits* of the token that comes next. To
# write, take the last place's likeliest token, put it behind the sequence, and ask again. The plain way to
# ask again is to send everything through all blocks once more. (`encode_images` is notebook 04 and the
# projector, `embed_prompt` the look-up and `fuse` of notebook 05.)

# %%
from numpy_paligemma.model.fusion import embed_text, prefix_lm_mask
from numpy_paligemma.model.gemma import gemma_decoder, next_token_logits
from numpy_paligemma.model.pipeline import embed_prompt, encode_images
from numpy_paligemma.model.sampling import greedy_token
from numpy_paligemma.model.tap import no_tap

soft = encode_images(inputs["pixel_values"], w, c)  # the eye looks once
prefix = embed_prompt(inputs["input_ids"], soft, w, c)  # (B, T, D)


def read_all(tokens, tap=no_tap):
    """Send prefix and answer so far through all blocks: logits at every place, (S, V)."""
    answer = embed_text(np.array([tokens], int), w.decoder.embed)  # (B, n, D)
    x = np.concatenate([prefix, answer], axis=1)  # (B, S, D), S = T + n
    places = np.arange(x.shape[1])[None]
    real = np.ones_like(places)  # every token is real, none is padding
    mask = prefix_lm_mask(real, places >= T)
    x = gemma_decoder(x, 1 + places, mask, w.decoder, c.text, tap=tap)
    return next_token_logits(x[0], w.decoder)


# %%
tokens, vectors = [], 0
while not tokens or tokens[-1] not in c.eos_token_ids:
    logits = read_all(tokens)
    vectors += len(logits)
    tokens.append(greedy_token(logits[-1]))
print(tokenizer.decode(tokens))
print(f"{vectors} vectors went through the blocks, for {len(tokens)} tokens")

# %% [markdown]
# (Some implementations even let the eye look at the picture again for each token. Here at least it
# looks once.)
#
# ## What could be saved?
#
# Read the caption without its last two tokens, then with them, and compare what happened inside, at the
# places that both have.

# %%
from numpy_paligemma.model.tap import recorder

(tap_a, short), (tap_b, long) = recorder(), recorder()
read_all(tokens[:-2], tap_a)
read_all(tokens, tap_b)

for name in ["block00/attention/k", "block03/attention/v_proj", "block03/out"]:
    a, b = short[name], long[name]
    b = b[..., : a.shape[-2], :]  # the places that both have
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * np.abs(a).max())
    print(name, "the same at the first", a.shape[-2], "places")

# %% [markdown]
# **The past does not change.** No old token sees a new one: the prefix sees only the prefix, and the
# answer only looks back. So all vectors of old tokens, in all blocks, come out as before, and to
# compute them again is waste. (The tolerance is float32's rounding: a matrix product of another size
# may add in another order, which costs the last of seven digits.)
#
# What does a *new* token need of the old ones? Look for the place in a block where one token's numbers
# meet another's. There is one:

# %%
from numpy_paligemma.model.gemma import gemma_attention

plots.source(gemma_attention)

# %% [markdown]
# Norms, projections, MLP: all of them work on each token alone. Only `grouped_query_attention` mixes
# tokens, and of the old ones it wants **keys and values, nothing else**. Not the queries: an old token's
# question has been answered. So keep k and v of each block, and send only the new token through.
#
# ## The cache
#
# An array with room for all positions to come, and a number that says how many are filled:

# %%
from numpy_paligemma.model.cache import LayerCache

plots.source(LayerCache)

# %% [markdown]
# It is the one thing in `model/` that changes in place; all else is functions. On a toy, with room for
# five positions of one head of two numbers:

# %%
toy = LayerCache.empty(batch=1, kv_heads=1, room=5, head_dim=2, like=np.zeros(0))
three = np.arange(6.0).reshape(1, 1, 3, 2)  # k of three tokens, (B, K, T, H)
one = np.array([[[[8.0, 9.0]]]])  # k of the next
for k in (three, one):
    keys, values = toy.extend(k, -k)
    print("length", toy.length, " keys", keys[0, 0].tolist())

# %% [markdown]
# What comes back is a *view* of the filled part; nothing is copied. (The other way, to concatenate old
# and new at every step, copies the whole past for each token.) Ask for more than there is room for,
# and it says so:

# %%
try:
    toy.extend(three, three)
except ValueError as error:
    print("ValueError:", error)

# %% [markdown]
# Keys enter the cache already turned by their positions (notebook 06), once and for all.
#
# ## Two phases
#
# With the cache, writing falls into two phases: **prefill** reads the prefix, T vectors at once, and
# fills the caches; **decode** reads one token at a time. Both are told by the *attention mask* which
# tokens are real (1) and which padding (0); here all are real.

# %%
from numpy_paligemma.model.pipeline import decode_step, empty_caches, prefill

plots.source(prefill)
plots.source(decode_step)


# %%
def write(prompt, longest=40):
    """Write greedily with a cache: tokens, the logits behind each, and the caches."""
    inputs = processor(text=[prompt], images=[photo])
    caches = empty_caches(1, inputs["input_ids"].shape[1] + longest, w, c)
    ids, seen = inputs["input_ids"], inputs["attention_mask"]
    logits = [prefill(ids, soft, seen, w, c, caches)]
    tokens = [greedy_token(logits[0][0])]
    while tokens[-1] not in c.eos_token_ids and len(tokens) < longest:
        seen = np.pad(seen, ((0, 0), (0, 1)), constant_values=1)  # one more real token
        logits.append(decode_step(np.array(tokens[-1:]), seen, w, c, caches))
        tokens.append(greedy_token(logits[-1][0]))
    return tokens, np.concatenate(logits), caches


# %%
cached_tokens, cached_logits, caches = write("caption en")
assert cached_tokens == tokens
print(tokenizer.decode(cached_tokens))
print(f"{caches[0].length} vectors went through the blocks, instead of {vectors}")

# %% [markdown]
# (One less than prefix and answer together: the last token, `<eos>`, is written and never read.)
#
# ### Check: next-token logits against the reference
#
# `golden` is what `transformers` computed in float64 from the same weights, photo and prompt. Two right
# computations in float32 agree to about 1e-6 of the largest logit, the classic mistakes (but for a
# misplaced ε) cost 4e-5 or more; we ask for 1e-5. And its greedy answer must be ours.

# %%
expected = golden["logits"][0, -1]  # (V,)
atol = 1e-5 * np.abs(expected).max()
np.testing.assert_allclose(cached_logits[0], expected, rtol=0, atol=atol)
assert tokens == golden["greedy"][0].tolist()

error = np.abs(cached_logits[0] - expected).max()
print(f"largest logit {expected.max():.1f}, off by {error:.0e}")

# %% [markdown]
# ### Check: cached is uncached
#
# **Does the cache change anything?** All logits of all steps, against one pass over everything:

# %%
uncached = read_all(tokens[:-1])  # (S, V)
uncached = uncached[T - 1 :]  # (new, V): the places that say what comes next
np.testing.assert_allclose(cached_logits, uncached, rtol=0, atol=atol)
print(cached_logits.shape, f"off by {np.abs(cached_logits - uncached).max():.0e}")

# %% [markdown]
# ## The cache, filling up

# %%
ROOM = T + len(tokens) + 4
moments = {"empty": None, "after prefill": [], "four tokens later": tokens[:4]}
moments["at the end"] = tokens[:-1]
figure, axes = plt.subplots(4, 1, figsize=(plots.WIDTH, 4.4), sharex=True)
for axis, (name, read) in zip(axes, moments.items(), strict=True):
    sheet = np.full((c.text.head_dim, ROOM), np.nan)
    filled = 0 if read is None else T + len(read)
    sheet[:, :filled] = caches[2].keys[0, 0, :filled].T  # block 2, its one key head
    axis.imshow(sheet, cmap="PuOr_r", aspect="auto", vmin=-5, vmax=5)
    axis.axvspan(filled - 0.5, ROOM - 0.5, color="#eeeeee")
    for place in (63.5, T - 0.5):
        axis.axvline(place, color=INK, lw=0.8)
    axis.set(yticks=[], ylabel="H", title=f"{name}: length {filled}")
axes[-1].set_xticks([32, 65.5, T + 6], ["64 patches", "prompt", "answer"])
show(
    figure,
    "Figure 1. The keys of one block, a column a token; grey is room not yet used. Prefill writes "
    "picture and prompt at once, then each token adds a column, and no column changes any more.",
    "Four strips. The first is all grey; the second is filled up to the prompt's end; in the third "
    "and fourth a few more columns are filled, one for each token of the answer.",
)

# %% [markdown]
# ## Does the cache do anything?
#
# A cache that is built, passed around and never used gives the same answer. That has happened, in
# teaching material too. The text cannot show it, the logits cannot; only *work* can. So count the
# vectors that enter each block (the tap hears everything), or take the time.

# %%
entered = []


def listen(name, x):
    """Note how many vectors pass through the first block."""
    if name == "decoder/block00/out":
        entered.append(x.shape[1])
    return x


model.generate(**inputs, do_sample=False, tap=listen)
print(entered)

# %% [markdown]
# T, then one, one, one: it does. Now the time, for sequences of several lengths. (What the vectors say
# does not matter for that, so we repeat ours.)

# %%
from timeit import repeat


def milliseconds(work):
    """Time a function of no arguments, the best of fifteen."""
    return 1000 * min(repeat(work, number=1, repeat=15))


def one_more(S):
    """Make functions that work out place S without and with a cache of the others."""
    x, places = np.resize(prefix, (1, S, prefix.shape[-1])), 1 + np.arange(S)[None]
    caches = empty_caches(1, S, w, c)
    gemma_decoder(x[:, :-1], places[:, :-1], None, w.decoder, c.text, caches)

    def cached():
        for cache in caches:
            cache.length = S - 1  # forget the last run
        gemma_decoder(x[:, -1:], places[:, -1:], None, w.decoder, c.text, caches)

    return lambda: gemma_decoder(x, places, None, w.decoder, c.text), cached


# %%
lengths = [32, 64, 96, 128, 192, 256, 320, 384]
times = np.array([[milliseconds(f) for f in one_more(S)] for S in lengths])  # (n, 2)
figure, axes = plt.subplots(figsize=(6.5, 3))
axes.plot(lengths, times[:, 0], "o-", color=INK, label="everything again")
axes.plot(lengths, times[:, 1], "o-", color=LANGUAGE, label="one token, with the cache")
axes.set(xlabel="S, tokens so far", ylabel="milliseconds a token", ylim=(0, None))
axes.legend(frameon=False)
show(
    figure,
    "Figure 2. Time for one more token, on the machine that made this page: without the cache it "
    "grows with all that was said before, with the cache it hardly grows. Small bumps may be "
    "other work of the machine.",
    "Two curves over the number of tokens. One climbs steeply, the other stays close to the floor.",
)

# %% [markdown]
# "Hardly": each new token still compares itself with all keys. That part grows, but it is small next
# to the matrices that every token must pass.
#
# ## Is it stuck?
#
# The first token makes you wait and the others come quickly. On a laptop with the published model
# that first wait is long enough to make people press Ctrl-C. It is the prefill, and before it the eye.
# Count the multiplications of PaliGemma 3B for a 224-pixel picture: nearly all are *vectors times
# parameters they pass*.

# %%
BLOCK = 2 * 2048 * 2048 + 2 * 2048 * 256 + 3 * 2048 * 16_384  # q and o; k and v; MLP
VISION_BLOCK = 4 * 1152**2 + 2 * 1152 * 4304
HEAD = 257_152 * 2048  # needed for the last place alone
work = {
    "the eye, 256 patches": 256 * 27 * VISION_BLOCK,
    "prefill, 260 vectors": 260 * 18 * BLOCK + HEAD,
    "decode, one token": 18 * BLOCK + HEAD,
}
figure, axes = plt.subplots(figsize=(plots.WIDTH, 1.7))
billions = np.array(list(work.values())) / 1e9
labels = [f"{b:.1f}" for b in billions]
plots.bars(axes, list(work), billions, [VISION, BRIDGE, LANGUAGE], labels, start=1)
axes.set(xscale="log", xlim=(1, 2000), xlabel="billion multiplications (logarithmic)")
show(
    figure,
    "Figure 3. The work in PaliGemma 3B. Before the first word stand the eye and the prefill; every "
    "further word costs about a 250th of that.",
    "Three bars on a logarithmic axis: the eye about 100 billion, prefill about 500, one token "
    "about 2.5.",
)

# %% [markdown]
# In *time* the ratio is smaller: for a single vector the processor waits for memory, because it must
# fetch every parameter of the model to multiply it once. In a prefill each fetched number serves all
# 260 vectors. So: the first token is bound by arithmetic, the others by memory.
#
# The cache itself is cheap here, thanks to the one key-value head of notebook 07:

# %%
held = sum(cache.keys.nbytes + cache.values.nbytes for cache in caches)
print(f"the miniature, {T + 40} positions: {held / 1024:.0f} KiB")
print(
    f"PaliGemma 3B, 360 positions: {360 * 18 * 2 * 256 * 4 / 2**20:.0f} MiB in float32"
)

# %% [markdown]
# ## In pieces
#
# A cache also lets you read a *long* sequence in pieces, to save memory. When is that the same as reading
# it at once? Take the answer, which is known now, and read it in different portions. Several new
# tokens at a time need a causal mask among themselves; a token alone needs none.


# %%
def read_in_portions(portions):
    """Read prefix and answer, the latter in portions: logits of its places, (n, V)."""
    x = embed_text(np.array([tokens[:-1]]), w.decoder.embed)  # (B, n, D)
    caches = empty_caches(1, T + x.shape[1], w, c)
    gemma_decoder(prefix, 1 + np.arange(T)[None], None, w.decoder, c.text, caches)
    found, start = [], 0
    for size in portions:
        old = T + start
        places = old + 1 + np.arange(size)[None]
        # row i sees the old ones and the new up to i
        mask = np.tri(size, old + size, old, dtype=bool)[None, None]  # (1, 1, size, S)
        part = x[:, start : start + size]
        found.append(gemma_decoder(part, places, mask, w.decoder, c.text, caches)[0])
        start += size
    return next_token_logits(np.concatenate(found), w.decoder)


# %%
n = len(tokens) - 1
for portions in [[n], [1] * n, [3, n - 3], [n - 2, 1, 1]]:
    found = read_in_portions(portions)
    np.testing.assert_allclose(found, uncached[1:], rtol=0, atol=atol)
    print(portions, "the same")

# %% [markdown]
# And the prefix? Read the picture first and the prompt after it, both without a mask:

# %%
caches = empty_caches(1, T, w, c)
for part in (slice(0, 64), slice(64, T)):
    places = 1 + np.arange(T)[None, part]
    halved = gemma_decoder(prefix[:, part], places, None, w.decoder, c.text, caches)
halved = next_token_logits(halved[0, -1], w.decoder)
print(f"off by {np.abs(halved - expected).max():.2f}, where {atol:.0e} is rounding")

# %% [markdown]
# Not the same. The patches were read before the question was there, and their keys and values stayed as
# they were. **What may look ahead must be read in one go; what is causal may be cut anywhere.** That is
# why engines made for causal models, which cut prompts into pieces freely, got PaliGemma subtly wrong.
#
# ## A box grows out of four tokens
#
# With the decode loop in hand, something to look at. PaliGemma points at things by *writing*. Its
# vocabulary has 1,024 tokens `<loc0000>` … `<loc1023>`, places along an edge of the picture in
# 1024ths; four of them, top, left, bottom, right, make a box.

# %%
boxed, box_logits, _ = write("detect red circle")
print(tokenizer.decode(boxed, skip_special_tokens=False))

# %%
from numpy_paligemma.model.layers import softmax

first = tokenizer.token_id("<loc0000>")
places = softmax(box_logits[:4])[:, first : first + 1024]  # (4, 1024)
edges = [token - first for token in boxed[:4]]  # top, left, bottom, right
print("on a <loc> token:", [f"{p:.1%}" for p in places.sum(axis=-1)])


# %%
def lit(known):
    """Light what the box can still be, given its first edges: (1024, 1024, 1)."""
    top, left, bottom, right = [*edges[:known], *[0, 0, 1023, 1023][known:]]
    light = np.full((1024, 1024, 1), 0.25)
    light[top : bottom + 1, left : right + 1] = 1
    return light


# %% tags=["cover"]
large = np.asarray(photo.resize((1024, 1024))) / 255
figure, axes = plt.subplots(1, 4, figsize=(plots.WIDTH, 2.7))
for i, (axis, name) in enumerate(
    zip(axes, ["top", "left", "bottom", "right"], strict=True)
):
    axis.imshow(large * lit(i + 1), extent=(0, 1024, 1024, 0))
    curve = 300 * places[i] / places[i].max()  # what the model thought of each place
    along = np.arange(1024)
    if i % 2:
        axis.fill_between(along, 1024, 1024 - curve, color=LANGUAGE)
        axis.axvline(edges[i], color=LANGUAGE, lw=1)
    else:
        axis.fill_betweenx(along, 0, curve, color=LANGUAGE)
        axis.axhline(edges[i], color=LANGUAGE, lw=1)
    plots.bare(axis, f"{name}: <loc{edges[i]:04d}>").set(xlim=(0, 1024), ylim=(1024, 0))
show(
    figure,
    "Figure 4. `detect red circle`, token by token. Magenta hills: how likely each height (drawn at "
    "the left) or column (at the bottom) was; the line: the one taken. Lit: where the box can still "
    "be. After four tokens it is the box.",
    "The photo four times. A line cuts off what is above the circle, the next what is left of it, "
    "then below, then right; in the end only the box around the red circle is lit.",
)

# %% [markdown]
# Nothing about boxes was added to the model: they are words, written one after the other, with the
# cache. Each edge is chosen knowing those before it. (The hills have the width that they have because
# the miniature was trained to take neighbouring places for nearly right.)
#
# How good is the box? The sample pictures come with their true boxes, in pixels. *IoU* (intersection
# over union) is 1 where two boxes coincide and 0 where they do not meet.

# %%
answers = json.loads(Path("../weights/samples/answers.json").read_text("utf-8"))
[truth] = answers["paper.jpg"]["boxes"]["detect red circle"]  # left, top, right, bottom
top, left, bottom, right = np.array(edges) / 1024 * photo.width
low, high = np.maximum(truth[:2], [left, top]), np.minimum(truth[2:], [right, bottom])
overlap = np.prod(np.maximum(high - low, 0))
both = (right - left) * (bottom - top) + np.prod(np.subtract(truth[2:], truth[:2]))
print("IoU", (overlap / (both - overlap)).round(2))

# %% [markdown]
# ## On your own
#
# 1. **One line.** How many vectors go through the blocks for an answer of n tokens, without a cache and
#    with it? Give both as formulas in T and n; for our caption they must give `vectors` and `T + n - 1`.
# 2. **Another cache.** Write a class `Growing` with the method `extend(k, v)` that begins empty and
#    concatenates. Give `prefill` a list of them in place of the caches. The logits must equal
#    `cached_logits[0]` to the last bit. (Then write the preallocated one, `LayerCache`, and let the
#    package's tests try it: [tests/exercises](../tests/exercises/README.md).)
# 3. **Two questions, one look.** The cache knows the picture after a prefill, but in the light of the
#    question. Write `ask(prompts)`, which answers several prompts about the photo and runs the
#    eye once for all (`encode_images`, `embed_prompt`, then decode). For `["caption en", "detect red
#    circle"]` it must give `tokens` and `boxed`.
#
# ## In practice
#
# - The published models at 896 pixels have 4,096 patches in the prefix: 144 MiB of cache in float32.
# - Prompts of unequal length in one batch are padded on the left, so that all their newlines stand in one
#   column; the padding's keys are masked at every step.
# - Engines that serve many users at once cut the cache into pages (vLLM), share the pages of equal beginnings,
#   or store keys and values in 8 bits.
#
# ## Further reading
#
# - Shazeer, [arXiv:1911.02150](https://arxiv.org/abs/1911.02150), section 2.4: incremental inference, and why
#   memory is what it waits for.
# - Pope et al., *Efficiently scaling transformer inference*, [arXiv:2211.05102](https://arxiv.org/abs/2211.05102).
# - Kwon et al. (vLLM), [arXiv:2309.06180](https://arxiv.org/abs/2309.06180): caches in pages.
# - [`model/cache.py`](../numpy_paligemma/model/cache.py) and
#   [`model/pipeline.py`](../numpy_paligemma/model/pipeline.py).
# - Next: [09, Choose a word, point at a thing](09_choose_a_word_point_at_a_thing.ipynb).

# %% [markdown]
# <details>
# <summary><b>Solutions</b></summary>
#
# **1.** T + (T + 1) + … + (T + n - 1), and T + (n - 1):
#
# ```python
# n = len(tokens)
# assert n * T + n * (n - 1) // 2 == vectors
# ```
#
# **2.** It copies the past at every step, and is otherwise as good:
#
# ```python
# class Growing:
#     def __init__(self):
#         self.k = self.v = None
#
#     def extend(self, k, v):
#         self.k = k if self.k is None else np.concatenate([self.k, k], axis=2)
#         self.v = v if self.v is None else np.concatenate([self.v, v], axis=2)
#         return self.k, self.v
#
#
# growing = [Growing() for _ in w.decoder.blocks]
# ids, seen = inputs["input_ids"], inputs["attention_mask"]
# found = prefill(ids, soft, seen, w, c, growing)
# np.testing.assert_array_equal(found[0], cached_logits[0])
# ```
#
# **3.** `soft` is at hand, so the prefix of a new question costs a look-up:
#
# ```python
# def ask(prompts):
#     answers = []
#     for prompt in prompts:
#         ids = processor(text=[prompt], images=[photo])["input_ids"]
#         seen, caches = np.ones_like(ids), empty_caches(1, ids.shape[1] + 40, w, c)
#         x, places = embed_prompt(ids, soft, w, c), 1 + np.arange(ids.shape[1])[None]
#         hidden = gemma_decoder(x, places, None, w.decoder, c.text, caches)
#         said = [greedy_token(next_token_logits(hidden[0, -1], w.decoder))]
#         while said[-1] not in c.eos_token_ids:
#             seen = np.pad(seen, ((0, 0), (0, 1)), constant_values=1)
#             logits = decode_step(np.array(said[-1:]), seen, w, c, caches)
#             said.append(greedy_token(logits[0]))
#         answers.append(said)
#     return answers
#
#
# assert ask(["caption en", "detect red circle"]) == [tokens, boxed]
# ```
#
# </details>
