# %% [markdown]
# # Follow a picture to its caption
#
# **What happens between a photo and a sentence?**
#
# ## What you'll do
#
# You send one picture through PaliGemma, get off at every station, look at the array
# that is there, and arrive at a sentence. Then you ask where the model looked while it
# said each word, and what the journey cost.
#
# ## What you'll learn
#
# - how a picture becomes a row of vectors that a language model can read,
# - what *patch*, *feature*, *soft token*, *logits* and *cache* mean, by holding each in your hand,
# - how a sentence is written one token at a time,
# - how to watch any array inside the model without changing the model.
#
# ## What you'll need
#
# Python and a little NumPy: shapes, slices, `@`. No knowledge of transformers, no GPU, no
# account, no download. Install once, from the repository's root:
# `pip install -e ".[notebooks]"`.
#
# The model here is the *miniature*: PaliGemma's architecture to the last detail, more than
# a thousand times smaller, and really trained, on coloured shapes and numbers.

# %%
import numpy as np
import plotting as plots
from plotting import BRIDGE, LANGUAGE, VISION, plt, show
from stations import Station, pipeline

from numpy_paligemma import answer, load_hf_model
from numpy_paligemma.checkpoints.hub import bundled
from numpy_paligemma.inputs.image import load_image

model, processor = load_hf_model("miniature", dtype="float32")
w, c = model.weights, model.config  # every learned number, every size
ROUNDING = 1e-5  # float32 keeps about seven digits, and long sums lose one or two

print("picture:", c.vision.image_size, "pixels a side, patches of", c.vision.patch_size)
print("eye:    ", c.vision.depth, "blocks of width", c.vision.width)
print("language:", c.text.depth, "blocks of width", c.text.width)

# %% [markdown]
# ## The whole journey in one call
#
# Before we open the box, let us see what it does. `do_sample=False` means that the model
# always takes the word it finds likeliest, so you will read the same sentence as we do.

# %%
photo = load_image(bundled("sample.jpg"))
prompt = "caption en"
caption = answer(photo, prompt, do_sample=False)

# %%
figure, axes = plt.subplots(figsize=(3, 3))
plots.bare(axes).imshow(photo)
show(
    figure,
    f"Figure 1. The picture. Asked to `{prompt}`, the model says: “{caption}”.",
    f"The sample picture, a photo of paper cut-outs: {caption}.",
)

# %% [markdown]
# That call did nine things. The rest of this notebook does them one by one.
#
# ## The map
#
# Every intermediate array in this package has a name. A *tap* is a function that the
# model calls with each name and array as they are born; `recorder()` makes one that keeps
# them all. So one run gives us the whole line, with its real shapes. (The names will make
# sense as you pass them.) In shapes we write
#
# | letter | counts |
# |---|---|
# | B | pictures, or prompts, at once: here one |
# | P | patches of a picture |
# | T | tokens of the whole sequence, picture and prompt |
# | D | numbers in one vector |
# | V | tokens that the model knows |
# | N | heads of an attention (station 3) |
# | S | tokens that are looked at |

# %%
from numpy_paligemma.model.tap import recorder

inputs = processor(text=[prompt], images=[photo])
tap, seen = recorder()
model.logits(**inputs, tap=tap)
print(len(seen), "arrays seen, among them:")
for name in ["vision/embed", "vision/out", "projector/out", "fusion/out", "logits"]:
    print(f"  {name:14}", seen[name].shape)

# %% tags=["map"]
from numpy_paligemma.model.siglip import cut_patches

ids, pixels = inputs["input_ids"], inputs["pixel_values"]
patches = cut_patches(pixels, c.vision.patch_size)  # (1, P, 3·14·14)
first = seen["logits"][:, -1].argmax(axis=-1)  # the likeliest token, (B,)

above = [
    Station("picture", np.asarray(photo), VISION),
    Station("pixels", pixels, VISION),
    Station("patches", patches, VISION),
    Station("features", seen["vision/out"], VISION),
    Station("soft tokens", seen["projector/out"], BRIDGE),
]
below = [
    Station("prompt", ids, LANGUAGE, words=prompt),
    Station("one sequence", seen["fusion/out"], BRIDGE),
    Station("after Gemma", seen["decoder/out"], LANGUAGE),
    Station("logits", seen["logits"][:, -1], LANGUAGE),
    Station("token", first, LANGUAGE, words=repr(processor.tokenizer.decode(first))),
]

# %%
show(
    pipeline(above, below),
    "Figure 2. The line from picture to token, each station drawn from its real array, "
    "with its shape below: the eye in blue, the bridge in amber, language in magenta. Long "
    "vectors are folded into rows; the prompt's 68 ids are explained at station 5.",
    "Two rows of boxes joined by arrows. Above: picture, pixels, patches, features, soft "
    "tokens. Below: prompt, one sequence, after Gemma, logits, token. The soft tokens "
    "feed the sequence; the token goes back into it.",
)

# %% [markdown]
# Wherever colours stand for a part of the model, they are these three. Blue is what belongs
# to the **eye** (a
# network called SigLIP), magenta what belongs to **language** (a network called Gemma),
# and amber the **bridge** between them. PaliGemma is those two networks and one matrix.
#
# ## Station 1: pixels
#
# The eye looks at a square of fixed size, so the picture is stretched to 112 × 112. Its
# bytes, 0 to 255, become numbers around zero, which networks like better:
#
# $$\text{pixel} = \frac{\text{byte} / 255 - 0.5}{0.5} \quad\in [-1, 1]$$

# %%
from numpy_paligemma.inputs.image import pixel_values

pixels = pixel_values([photo], processor.image_settings)  # (B, 3, height, width)

small = np.asarray(photo.resize((112, 112), resample=3))  # 3: bicubic; (112, 112, 3)
by_hand = (small / 255 - 0.5) / 0.5
np.testing.assert_allclose(pixels[0], by_hand.transpose(2, 0, 1), ROUNDING, ROUNDING)
print(pixels.shape, pixels.dtype, "from", pixels.min(), "to", pixels.max())

# %% [markdown]
# The three colour channels moved from the last axis to the second: `(B, 3, height, width)`.
#
# ## Station 2: patches
#
# Both networks to come are *transformers*, and a transformer takes a row of vectors. So
# the picture is cut into squares, read row by row from the top left, and every square is
# flattened. On a toy picture of 4 × 4 numbers:

# %%
toy = np.arange(16).reshape(1, 1, 4, 4)
print(toy[0, 0])
print("in patches of 2 × 2, one a line:")
print(cut_patches(toy, 2)[0])

# %% [markdown]
# The real one is cut into 8 × 8 patches of 14 × 14 pixels.

# %%
patches = cut_patches(pixels, c.vision.patch_size)  # (B, P, 3·14·14)
tiles = patches[0].reshape(-1, 3, 14, 14).transpose(0, 2, 3, 1)  # (P, 14, 14, 3)
print("patches:", patches.shape, " 3·14·14 =", 3 * 14 * 14)

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(8.6, 4.3))
plots.picture_with_grid(left, small, c.vision.grid)
plots.patch_wall(right, tiles / 2 + 0.5, c.vision.grid)
show(
    figure,
    "Figure 3. The 112 × 112 pixels and where they are cut (left); the 64 patches in "
    "the order in which the model reads them (right).",
    "Left: the picture with a grid of 8 by 8 lines. Right: the 64 patches apart, "
    "numbered 0 to 63 row by row from the top left.",
)

# %% [markdown]
# Nothing was computed yet, only reshaped. Now one matrix turns the 588 numbers of each
# patch into a vector of width D, and a second table, learned too, is added so that the
# vector knows where in the picture it was cut. (Elsewhere you will see this written as a
# convolution with stride 14. It is the same thing: each pixel is used exactly once.)

# %%
from numpy_paligemma.model.layers import linear

embedded = linear(patches, *w.vision.patch_embed)  # patches @ W.T + b: (B, P, D)
embedded = embedded + w.vision.position_embed

np.testing.assert_allclose(embedded, seen["vision/embed"], ROUNDING, ROUNDING)
print(patches.shape, "->", embedded.shape)

# %% [markdown]
# `seen` holds what the tap recorded while the whole model ran. So the line with `assert`
# is a proof: what we did by hand is what the model did. Every station below has one.
#
# ## Station 3: features
#
# So far each patch knows only itself. SigLIP is a stack of blocks, and a block does two
# things. In *attention* every patch asks a question (its *query*), holds it against what
# every patch says it has to offer (their *keys*), and takes in contents (*values*) from
# those that match. (All of it several times side by side, in *heads*: notebook 04.)
# In the *MLP* it digests alone what it took in. After four blocks a
# patch's vector speaks of the thing it is part of. It is then called a *feature*.

# %%
from numpy_paligemma.model.siglip import siglip_encoder

features = siglip_encoder(pixels, w.vision, c.vision)  # (B, P, D)

np.testing.assert_allclose(features, seen["vision/out"], ROUNDING, ROUNDING)
print(pixels.shape, "->", features.shape)

# %% [markdown]
# What does "speaks of the thing" look like? Take one patch and ask which others have a
# vector that points the same way (cosine similarity, the mean vector taken off), before
# the blocks and after.

# %%
PATCH = 17  # its number in Figure 3


def alike(x):
    """Similarity of every patch's vector (P, D) to that of one: (8, 8), not below 0."""
    x = x - x.mean(axis=0)
    x = x / np.linalg.norm(x, axis=-1, keepdims=True)
    return np.maximum(x @ x[PATCH], 0).reshape(c.vision.grid, -1)


# %%
figure, axes = plt.subplots(1, 3, figsize=(8.6, 3.2))
y, x = np.array(divmod(PATCH, c.vision.grid)) * c.vision.patch_size
plots.bare(axes[0], f"patch {PATCH}").imshow(small)
axes[0].add_patch(plt.Rectangle((x, y), 14, 14, fill=False, edgecolor="black", lw=2))
plots.attention_over_picture(
    axes[1], small / 255, alike(embedded[0]), "alike before the blocks"
)
plots.attention_over_picture(
    axes[2], small / 255, alike(features[0]), "alike after the blocks"
)
show(
    figure,
    f"Figure 4. Patches whose vectors resemble that of patch {PATCH}, bright: before the "
    "blocks a few that look like it, after them the whole thing that it belongs to.",
    "The picture three times: with one patch framed; lit where patches are alike before "
    "the blocks, which is patchy; lit after them, which is the whole shape.",
)

# %% [markdown]
# Nothing in the code says "circle". In training the eye was first asked what lies on each
# patch, and for that its blocks had to learn what belongs together.
#
# ## Station 4: soft tokens
#
# The language model's vectors mean other things than the eye's. One matrix and a bias,
# the *projector*, translate: `features @ W.T + b`. What comes out is called *soft tokens*:
# vectors that stand in the sequence where words could stand, but that no word has.

# %%
from numpy_paligemma.model.fusion import project

soft = project(features, w.projector)  # (B, P, D)

np.testing.assert_allclose(soft, seen["projector/out"], ROUNDING, ROUNDING)
print(features.shape, "->", soft.shape)

# %% [markdown]
# ## Station 5: one sequence
#
# Meanwhile the prompt was cut into *tokens*, pieces of text with a number each.

# %%
ids = inputs["input_ids"]  # (B, T)
P, T = c.vision.patches, ids.shape[1]
tokenizer = processor.tokenizer

print(ids[0, :3], "…", ids[0, P - 2 :])
for i in ids[0, P - 2 :]:
    print(f"{i:6}", repr(tokenizer.decode([i], skip_special_tokens=False)))

# %% [markdown]
# What are the 64 equal numbers in front? They are `<image>`, a token that keeps places
# free for the picture. Then comes `<bos>` (beginning of sequence), then the prompt, then a
# newline, which says: *the question ends here, now you speak*.
#
# Each token has a vector of its own, a row of the embedding table. Looking it up is
# indexing. Gemma multiplies the row by √D. (The same table will judge the answers at the
# other end, where small rows are better; here the sequence wants larger ones.
# Notebook 05 measures it.) The soft
# tokens come out of the projector in the right size, so they stay as they are.

# %%
from numpy_paligemma.model.fusion import embed_text, fuse

text = embed_text(ids, w.decoder.embed)  # (B, T, D)
sequence = fuse(soft, text, ids == c.image_token_id)  # (B, T, D)

np.testing.assert_array_equal(sequence[0, :P], soft[0])  # the picture,
np.testing.assert_array_equal(sequence[0, P:], text[0, P:])  # then the prompt
np.testing.assert_allclose(sequence, seen["fusion/out"], ROUNDING, ROUNDING)
print(soft.shape, "and", text.shape, "->", sequence.shape)

# %% [markdown]
# From here on the model no longer distinguishes: a vector is a vector.
#
# Who may look at whom? Picture and prompt are there from the start, so they all see each
# other, forwards and backwards: the patches are read *in the light of the question*. The
# answer is written word by word, and a word cannot see what is not written yet. This is
# a *prefix mask*; here it is for a picture of only four patches.

# %%
from numpy_paligemma.model.fusion import prefix_lm_mask

picture = [f"patch {i}" for i in range(4)]
names = [*picture, "<bos>", "caption", " en", "\\n", "a", " red", " …"]
is_answer = np.array([[0] * 8 + [1] * 3])
mask = prefix_lm_mask(np.ones_like(is_answer), is_answer)[0, 0]  # (T, T)

# %%
figure, axes = plt.subplots(figsize=(4.6, 4.3))
plots.prefix_mask(axes, mask, names, soft=4)
show(
    figure,
    "Figure 5. Row by row, what a token may look at: picture and prompt see each other "
    "wholly, an answer sees all of them and what was written before it.",
    "A square of cells. The first eight rows reach the first eight columns; the three "
    "rows of the answer reach one more column each.",
)

# %% [markdown]
# ## Station 6: through Gemma, to logits
#
# Gemma is a stack of blocks too, attention and MLP, with some ways of its own
# ([`gemma.py`](../numpy_paligemma/model/gemma.py)). It keeps one vector a token: `(B, T, D)`
# goes in and comes out. What has changed is what the vectors say. At the last place, the
# newline's, now stands all that the model has to say about *what comes next*.
#
# To read it, compare that vector with the embedding of every token there is. The V
# products are the *logits*: large means "this one fits".
#
# (Attention alone would not notice if the tokens were shuffled. `positions` tells Gemma
# their order.)

# %%
from numpy_paligemma.model.fusion import positions_of
from numpy_paligemma.model.gemma import gemma_decoder, next_token_logits

positions = positions_of(inputs["attention_mask"])  # (B, T): 1, 2, 3 …
hidden = gemma_decoder(sequence, positions, None, w.decoder, c.text)  # (B, T, D)
logits = next_token_logits(hidden[:, -1], w.decoder)  # (B, V), of the last place

np.testing.assert_allclose(logits, seen["logits"][:, -1], ROUNDING, ROUNDING)
print(sequence.shape, "->", hidden.shape, "->", logits.shape)

# %% [markdown]
# (`None` is the mask: while everything is prefix, everybody sees everybody.)
#
# ## Station 7: a token
#
# `softmax` turns logits into probabilities that sum to one:
#
# $$p_i = \frac{e^{l_i}}{\sum_j e^{l_j}}$$
#
# We take the likeliest, which is called *greedy*.

# %%
from numpy_paligemma.model.layers import softmax
from numpy_paligemma.model.sampling import greedy_token

probs = softmax(logits[0])  # (V,)
for i in np.argsort(-probs)[:3]:
    print(f"{probs[i]:8.2g}", repr(tokenizer.decode([i])))

token = greedy_token(logits[0])
print("taken:", token, repr(tokenizer.decode([token])))

# %% [markdown]
# ## Station 8: again, and again
#
# One token is no sentence. So the token goes back in: its embedding is the next input,
# and Gemma says what follows it, until the answer is `<eos>`, the end.
#
# Must Gemma read the picture again for every word? No. The only thing a new token needs
# from the old ones is what they offer to attention, their *keys* and *values*, and these
# do not change any more. They are kept in a *cache*. So the first pass carries T vectors
# through the blocks, and each later pass carries one.

# %%
from numpy_paligemma.model.pipeline import empty_caches


def write(sequence, longest=40):
    """Write greedily: the tokens, and what a tap saw at each step."""
    T = sequence.shape[1]
    caches = empty_caches(1, T + longest, w, c)  # keys and values, one cache a block
    tokens, steps, x, positions = [], [], sequence, np.arange(1, T + 1)[None]
    while len(tokens) < longest:
        tap, step = recorder()
        hidden = gemma_decoder(x, positions, None, w.decoder, c.text, caches, tap=tap)
        step["logits"] = next_token_logits(hidden[0, -1], w.decoder)  # (V,)
        tokens.append(greedy_token(step["logits"]))
        steps.append(step)
        if tokens[-1] in c.eos_token_ids:
            break
        x = embed_text(np.array([tokens[-1:]]), w.decoder.embed)  # (1, 1, D)
        positions = positions[:, -1:] + 1
    return tokens, steps


# %% [markdown]
# The eye is not in that function at all. It looked once.

# %%
tokens, steps = write(sequence)
pieces = [tokenizer.decode([i], skip_special_tokens=False) for i in tokens]
for i, piece, step in zip(tokens, pieces, steps, strict=True):
    print(f"{step['block00/out'].shape!s:12} -> {i:5}  {piece!r}")

# %% [markdown]
# ## Station 9: text
#
# Join the pieces, and that is the sentence. It is the very one that `answer` gave.

# %%
ours = tokenizer.decode(tokens)
assert ours == caption
print(ours)

# %% [markdown]
# You have arrived. Two things are worth a second look before you leave: how the model
# chose, and where it looked.
#
# ## How sure was it?
#
# At every step the model gives *all* tokens a probability. What it nearly said tells you
# what it thinks it is doing. (Note the logarithmic axis. The miniature was also taught
# captions in German, French and Spanish: do you find a trace of them?)

# %%
names = [
    tokenizer.decode([i], skip_special_tokens=False) for i in range(c.text.vocab_size)
]
figure, axes = plt.subplots(1, 2)
for axis, k in zip(axes, [1, 2], strict=True):
    said = tokenizer.decode(tokens[:k])
    title = f"after “{said}”"
    plots.distribution(axis, names, softmax(steps[k]["logits"]), title=title)
show(
    figure,
    "Figure 6. The eight likeliest tokens at the second and the third step. The taken "
    "one is far ahead. Behind it stand other colours first (left), other shapes (right), and some "
    "strays.",
    "Two bar charts of probabilities on a logarithmic axis, one for each step.",
)

# %% [markdown]
# ## Where did it look?
#
# In each block of Gemma, the newest token spreads its attention over everything before
# it: weights that sum to one. The first 64 of them lie on the picture. Laid out as 8 × 8
# they say where the model looked when it chose the word. Our recorder kept them, so here
# is one late block, the third of four, the mean over its heads.


# %%
def looks(step, block):
    """Attention of the newest token over the patches, mean over heads: (8, 8)."""
    probs = step[f"block{block:02d}/attention/probs"]  # (B, N, T, S)
    return probs[0, :, -1, :P].mean(axis=0).reshape(c.vision.grid, -1)


# %% tags=["cover"]
LATE, columns = 2, 6
rows = -(-len(pieces) // columns)
figure, axes = plt.subplots(rows, columns, figsize=(8.6, 1.65 * rows))
for axis in axes.flat:
    plots.bare(axis)
for axis, piece, step in zip(axes.flat, pieces, steps, strict=False):
    light = looks(step, LATE)
    title = f"{piece!r}  {light.sum():.0%}"
    plots.attention_over_picture(axis, small / 255, light, title)
show(
    figure,
    "Figure 7. The picture lit by the attention of the word being said, in one late block "
    "of Gemma; the number is the share that lies on the picture and not on words. The light "
    "walks from thing to thing as the sentence names them. In each panel the brightest "
    "patch is at full brightness.",
    "The picture once for each token of the caption, dark where the model does not look "
    "and bright where it does; the bright patches lie on the shape being named.",
)

# %% [markdown]
# Nobody told Gemma where to look. Training rewarded the right words, and looking there is
# how it gets them right. But pictures persuade easily, so let us count. `answers.json`
# knows the box of each thing; how much of the light falls into it, and how much would if
# the light were spread evenly?

# %%
import json

truth = json.loads(bundled("sample.jpg").with_name("answers.json").read_text())
truth = truth["paper.jpg"]
assert caption == truth["texts"][prompt]


# %%
def inside(box):
    """Mark the patches whose centre lies in a box of the photo: (8, 8)."""
    left, top, right, bottom = np.array(box) * c.vision.grid / photo.width
    centres = np.arange(c.vision.grid) + 0.5
    rows = (top < centres) & (centres < bottom)
    return rows[:, None] & (left < centres) & (centres < right)


for question, boxes in truth["boxes"].items():
    thing = inside(boxes[0])  # such as "detect red circle"
    word = " " + question.split()[1]
    light = looks(steps[pieces.index(word)], LATE)
    share = light[thing].sum() / light.sum()
    assert share > 2 * thing.mean()
    print(
        f"saying {word!r:9} {share:4.0%} of the light on it, {thing.mean():3.0%} by chance"
    )

# %% [markdown]
# ## What did it cost?
#
# Count the learned numbers of each part, and time each stage (the best of a hundred runs).

# %%
from dataclasses import fields


def parameters(part):
    """Count the learned numbers in a weight, or in anything that holds weights."""
    if part is None:  # what only PaliGemma 2 has
        return 0
    if isinstance(part, np.ndarray):
        return part.size
    if not isinstance(part, tuple):
        part = [getattr(part, field.name) for field in fields(part)]
    return sum(map(parameters, part))


# %%
counts = {
    "SigLIP": parameters(w.vision),
    "projector": parameters(w.projector),
    "embedding": parameters(w.decoder.embed),
    "Gemma's blocks": parameters((w.decoder.blocks, w.decoder.final_norm)),
}
print(f"{sum(counts.values()):,} learned numbers")

# %%
from timeit import repeat


def milliseconds(work):
    """Time a function of no arguments."""
    return 1000 * min(repeat(work, number=1, repeat=100))


def read():
    hidden = gemma_decoder(sequence, positions, None, w.decoder, c.text)
    return next_token_logits(hidden[:, -1], w.decoder)


works = {
    "picture to pixels": lambda: pixel_values([photo], processor.image_settings),
    "SigLIP": lambda: siglip_encoder(pixels, w.vision, c.vision),
    "projector": lambda: project(features, w.projector),
    "embedding": lambda: embed_text(ids, w.decoder.embed),
    f"Gemma reads {T}": read,
    f"{len(tokens) - 1} more tokens": lambda: write(sequence),
}
times = {name: milliseconds(work) for name, work in works.items()}
times[f"{len(tokens) - 1} more tokens"] -= times[f"Gemma reads {T}"]  # it reads first

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(8.6, 2.6))
colours = [VISION, BRIDGE, LANGUAGE, LANGUAGE]
values = np.array(list(counts.values())) / 1000
plots.bars(left, list(counts), values, colours, [f"{n:.0f}" for n in values])
left.set(xlabel="learned numbers, thousands", xlim=(0, 1.25 * max(values)))

colours = [VISION, VISION, BRIDGE, LANGUAGE, LANGUAGE, LANGUAGE]
values = list(times.values())
plots.bars(right, list(times), values, colours, [f"{t:.2g} ms" for t in values])
right.set(xlabel="time, ms", xlim=(0, 1.25 * max(values)))
show(
    figure,
    "Figure 8. Where the learned numbers are (left) and where the time goes (right): "
    "the eye looks once, Gemma reads once, and then every token is one more pass.",
    "Two bar charts: learned numbers of each stage, and milliseconds of each stage.",
)
# %% [markdown]
# A pass with one token is cheaper than one with all of them, but not that many times
# cheaper: each pass has to fetch all of Gemma's weights and walk through every function.
# So what takes longest is neither looking nor reading, it is writing.
#
# ## Does it hold?
#
# Every station was compared with the whole model as you passed it. Two comparisons are
# left. The first answers a question that people ask: *does the cache change anything?*
# Give the model picture, prompt and the finished answer at once, without a cache, and
# compare the logits of every step. (The third argument, the attention mask, is 1 for real
# tokens and 0 for padding; here all are real. The fourth marks the answer by 1.)

# %%
answered = np.concatenate([ids, [tokens[:-1]]], axis=1)  # (B, T + new - 1)
is_answer = np.arange(answered.shape[1]) >= T
kinds = is_answer[None].astype(int)  # 0: prefix, 1: answer
whole = model.logits(answered, pixels, np.ones_like(answered), kinds)[
    0, T - 1 :
]  # (new, V)
cached = np.array([step["logits"] for step in steps])  # (new, V)

largest, difference = np.abs(whole).max(), np.abs(cached - whole).max()
np.testing.assert_allclose(cached, whole, rtol=0, atol=ROUNDING * largest)
print(f"largest logit {largest:.1f}, largest difference {difference:.1e}")

# %% [markdown]
# The same, up to the rounding of float32. The cache saves work and changes nothing.
#
# The second: so far we compared this package with itself, which proves that you saw all
# of it, not that it is right. The reference is Hugging Face's `transformers`. A file in
# `tests/golden` holds what it got in float64, for the same weights, picture and prompt.

# %%
from safetensors.numpy import load_file

golden = load_file("../tests/golden/miniature.safetensors")
errors = []  # of each array, against its largest number
for name in [name for name in seen if name in golden]:
    found, expected = seen[name] * 1.0, golden[name]  # · 1.0: the mask is of bools
    scale = np.abs(expected).max()
    np.testing.assert_allclose(found, expected, rtol=0, atol=ROUNDING * scale)
    errors.append(np.abs(found - expected).max() / scale)

np.testing.assert_array_equal(tokens, golden["greedy"].ravel())
print(len(errors), f"arrays compared, the farthest is off by {max(errors):.1e}")

# %% [markdown]
# Equal at every station, to the last digits that float32 has. Is 1e-5 strict enough? A mild
# one of the field's classic mistakes, the wrong formula for GELU, would move an array
# by 2e-4, twenty times that ([`tests/tolerances.py`](../tests/tolerances.py)).
#
# And here is the table of all arrays that the tap saw, one block of each kind. Any of
# them you can look at, by its name.

# %%
for name, x in seen.items():
    if "block" not in name or "block00" in name:
        print(f"{name:36}{x.shape}")

# %% [markdown]
# ## On your own
#
# Three steps, each with something to match. Solutions are folded away at the very end. (To
# write the layers themselves, go to [`tests/exercises`](../tests/exercises/README.md).)
#
# 1. **One line.** Patch 27 lies in row 3, column 3 of the grid. Cut it out of `pixels`
#    with a slice and flatten it. It must equal `patches[0, 27]` to the last bit.
# 2. **Ask something else, without a second look.** Ask `answer en how many shapes are
#    there?` about the same picture, using `soft` again: prompt to ids, ids to vectors,
#    `fuse`, `write`. (`processor(text=[question], images=[photo])["input_ids"]` gives the
#    ids; or build them: `<image>` × 64, `c.bos_token_id`, and what `tokenizer.encode` makes
#    of the question and a newline.) It must say what `answer(photo, question, do_sample=False)` says.
# 3. **Throw the cache away.** Write the caption with `model.logits` alone, giving it the
#    whole sequence, one token longer each time. The tokens must be the same. Then
#    count the vectors that went through the blocks in both ways: with the cache they
#    are T + new - 1.
#
# ## In practice
#
# The published models are this very line with other numbers, and this package runs them
# with these very functions: `load_hf_model("google/paligemma-3b-mix-224")`.
#
# | | miniature | PaliGemma 3B, 224 pixels |
# |---|---|---|
# | picture, patches | 112 × 112, 64 | 224 × 224, 256 |
# | SigLIP | 4 blocks of width 128 | 27 blocks of width 1,152 |
# | Gemma | 4 blocks of width 128 | 18 blocks of width 2,048 |
# | tokens it knows | about 2,000 | 257,152 |
# | learned numbers | 2 million | 2.9 billion |
#
# There, 256 equal ids stand in front of the prompt, the newline is token 108, and the
# embedding is multiplied by √2048 = 45.25. Instead of the likeliest token one often draws
# from the distribution, which makes texts livelier and not reproducible without a seed.
#
# ## Further reading
#
# - Beyer et al., *PaliGemma: A versatile 3B VLM for transfer*, [arXiv:2407.07726](https://arxiv.org/abs/2407.07726). Figure 2 is our Figure 5.
# - Zhai et al., *Sigmoid loss for language image pre-training* (SigLIP), [arXiv:2303.15343](https://arxiv.org/abs/2303.15343).
# - Gemma Team, *Gemma*, [arXiv:2403.08295](https://arxiv.org/abs/2403.08295).
# - [`model/pipeline.py`](../numpy_paligemma/model/pipeline.py): the line of this notebook on one page, as the package runs it. The other files beside it are the stations.

# %% [markdown]
# <details>
# <summary><b>Solutions</b></summary>
#
# **1.** Rows 3·14 to 4·14, columns likewise, all three channels:
#
# ```python
# mine = pixels[0, :, 42:56, 42:56].ravel()
# np.testing.assert_array_equal(mine, patches[0, 27])
# ```
#
# **2.** The prompt's template is `<image>` × 64, `<bos>`, the question, a newline:
#
# ```python
# question = "answer en how many shapes are there?"
# front = [c.image_token_id] * P + [c.bos_token_id]
# question_ids = np.array([front + tokenizer.encode(question + "\n")])
# embedded_text = embed_text(question_ids, w.decoder.embed)
# said, _ = write(fuse(soft, embedded_text, question_ids == c.image_token_id))
# print(tokenizer.decode(said))
# assert tokenizer.decode(said) == answer(photo, question, do_sample=False)
# ```
#
# **3.** The answer's tokens are marked by 1, so that they stay causal:
#
# ```python
# slow, vectors = [], 0
# while not slow or slow[-1] not in c.eos_token_ids:
#     sofar = np.array([[*ids[0], *slow]])
#     kinds = (np.arange(sofar.shape[1]) >= T)[None].astype(int)
#     last = model.logits(sofar, pixels, np.ones_like(sofar), kinds)[0, -1]
#     slow.append(greedy_token(last))
#     vectors += sofar.shape[1]
# assert slow == tokens
# print(vectors, "vectors without a cache,", T + len(tokens) - 1, "with it")
# ```
#
# </details>
