# %% [markdown]
# # Cross the bridge
#
# **How does an image become something a language model reads?**
#
# ## What you'll do
#
# You stand between the two networks, with the eye's 64 feature vectors in one hand and the
# numbers of the prompt in the other, and make one sequence of them. Then you ask what the
# picture's vectors mean to a model that was made to read words.
#
# ## What you'll learn
#
# - what the 64 equal ids at the start of every prompt are, and what every other id is,
# - that the bridge is one matrix and one bias,
# - why text is multiplied by √D and the picture is not, and what happens if you do otherwise,
# - that a *soft token* is no word, and how it becomes one on its way through Gemma.
#
# ## What you'll need
#
# Notebook 01 for the whole line, or these two sentences of it. SigLIP, the eye, turns a
# picture into P *feature* vectors, one for each square patch of it. Gemma, the language
# model, reads a row of T vectors of width D and says which token comes next. In the shapes
# below, B is the number of prompts at once, here always one, and V how many tokens Gemma knows.

# %%
import numpy as np
import plotting as plots
from plotting import BRIDGE, INK, LANGUAGE, plt, show
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
P, D = c.vision.patches, c.text.width
print("P =", P, "patches,  D =", D, "numbers in a vector")

# %% [markdown]
# `golden` holds what Hugging Face's `transformers` computed at every station, from the same
# weights, the same photo and the same prompt, in float64. We shall compare with it all the
# way, so let us say once what "equal" means. float32 keeps seven digits, and a pass through
# a network costs one of them; so two right answers agree to about 1e-6 of the largest number
# in the array. The classic mistakes (but for a misplaced ε) cost 4e-5 or more; you make two of
# them in notebook 07. So the line is drawn at 1e-5.


# %%
def check(found, name):
    """Compare with the reference: a difference of 1e-5 of the largest number passes."""
    expected = golden[name]
    np.testing.assert_allclose(
        found, expected, rtol=0, atol=1e-5 * np.abs(expected).max()
    )
    print(f"{name}: {found.shape} agree")


# %% [markdown]
# ## The prompt, number by number
#
# A language model reads numbers. Each stands for a *token*, a piece of text from a fixed
# list; the number is the token's *id*. Here is what the processor made of `caption en`:

# %%
ids = inputs["input_ids"]  # (B, T)
T = ids.shape[1]
print(ids[0])

# %% [markdown]
# **What are the 64 equal ids at the start?** They are `<image>`, sixty-four times: not a
# word, but a reserved seat. The tokenizer knows nothing of pictures. It keeps one place free
# for each patch, so that the sequence has its final length from the start, and the picture
# takes these seats later.
#
# And the others:

# %%
meaning = {
    c.image_token_id: "a seat for one patch",
    c.bos_token_id: "the beginning of the text",
    tokenizer.token_id("\n"): "the question ends here, now you speak",
}
print(f"{'id':>6}  {'piece':12} meaning")
for i in ids[0, P - 1 :]:
    piece = tokenizer.decode([i], skip_special_tokens=False)
    print(f"{i:6}  {piece!r:12} {meaning.get(i, 'a piece of your prompt')}")

# %% [markdown]
# The order is always this: seats, `<bos>`, prompt, newline. In the published models the
# newline has id 108, and people wonder about that number at the end of every input. It is
# no padding and no mistake: in training every question ended with it, so without it the
# model does not know that it is its turn. A space where none belongs, after the seats for
# instance, makes other tokens of the prompt and can cost the answer.
#
# Nothing is hidden in the processor. This is it:

# %%
by_hand = [c.image_token_id] * P + [c.bos_token_id] + tokenizer.encode("caption en\n")
np.testing.assert_array_equal(by_hand, ids[0])

# %% [markdown]
# ## From the eye's language to Gemma's
#
# On the other side stand the features, what SigLIP made of the 64 patches (notebooks 03 and
# 04 do it step by step):

# %%
from numpy_paligemma.model.siglip import siglip_encoder

features = siglip_encoder(inputs["pixel_values"], w.vision, c.vision)  # (B, P, D)
check(features, "vision/out")

# %% [markdown]
# They are vectors, and Gemma reads vectors. But SigLIP and Gemma were trained apart from each
# other. What direction number 17 means in one says nothing about direction 17 in the
# other; in the large model even their widths differ, 1,152 and 2,048. Something must
# translate. The simplest thing that can is one matrix $W$ and one bias $b$, the *projector*:
#
# $$\text{soft} = \text{feature} \cdot W^{\mathsf T} + b$$
#
# On a toy with two patches, features of width 3 and a language of width 4:

# %%
feature = np.array([[1.0, 0.0, 2.0], [0.0, 1.0, 0.0]])  # (P, 3)
W = np.arange(12.0).reshape(4, 3)  # (4, 3): out, in
b = np.array([0.0, 0.0, 0.0, 100.0])  # (4,)
print(feature @ W.T + b)  # (P, 4)

# %% [markdown]
# Every output is a weighted sum of the feature's numbers; each patch is translated alone. And
# this is what the package runs (`w` is the pair of matrix and bias, and `linear(x, W, b)` is
# `x @ W.T + b`):

# %%
from numpy_paligemma.model.fusion import project

plots.source(project)

# %%
soft = project(features, w.projector)  # (B, P, D)
check(soft, "projector/out")

# %% [markdown]
# That is the bridge. The 64 vectors that come out are called *soft tokens*: "tokens" because
# they stand where tokens stand, "soft" because they are not on the list; each can lie
# anywhere in space. No bend (no nonlinearity), no pooling, no cross attention. The authors
# of PaliGemma tried an MLP here and found that it helped no further.
#
# ## The text side: looking up, and × √D
#
# A token's vector is a row of a table, the *embedding*, with a row for each of the V tokens.
# You may read "embedding layer" elsewhere and think of multiplication. It is the same thing:

# %%
table = np.array([[0, 1], [2, 3], [4, 5], [6, 7]])  # V = 4 tokens, width 2
one_hot = np.array([[0, 0, 1, 0], [1, 0, 0, 0]])  # token 2, then token 0
print((one_hot @ table).tolist(), "=", table[[2, 0]].tolist())

# %%
from numpy_paligemma.model.fusion import embed_text

plots.source(embed_text)

# %% [markdown]
# There is a factor in it: $\sqrt D$. Why? Look at how long the vectors are, with and without.

# %%
text = embed_text(ids, w.decoder.embed)  # (B, T, D)
check(text, "decoder/embed")

lengths = {
    "the rows as stored": np.linalg.norm(text[0, P:], axis=-1) / D**0.5,
    "the rows × √D": np.linalg.norm(text[0, P:], axis=-1),
    "the soft tokens": np.linalg.norm(soft[0], axis=-1),
}
for name, length in lengths.items():
    print(f"{name:20} {length.min():5.1f} … {length.max():5.1f}")

# %%
figure, (left, right) = plt.subplots(1, 2, width_ratios=[2.4, 1])
stored, scaled, picture = lengths.values()
left.bar(range(P), picture, color=BRIDGE, label="soft tokens")
left.bar(range(P, T), scaled, color=LANGUAGE, label="text × √D")
left.bar(range(P, T), stored, color=INK, label="text as stored")
left.set(xlabel="place in the sequence (0 … T - 1)", ylabel="length of the vector")
left.legend(frameon=False, ncols=3, loc="lower left", bbox_to_anchor=(0, 1))
right.imshow(photo, extent=(0, 8, 8, 0))
shade = right.imshow(picture.reshape(8, 8), extent=(0, 8, 8, 0), alpha=0.75)
figure.colorbar(shade, ax=right, label="length of the soft token", shrink=0.8)
plots.bare(right, "the same, laid over the photo")
show(
    figure,
    "Figure 1. How long each vector of the sequence is: the soft tokens (amber) and the "
    "text times √D (magenta) are of one order of magnitude; the rows as stored (black) are "
    "not. On the photo the soft tokens of things differ in length from those of paper.",
    "Left: a bar for each place of the sequence; amber and magenta bars are tall, black "
    "ones tiny. Right: the photo shaded by the length of each patch's soft token.",
)

# %% [markdown]
# **Why multiply text by √D?** Because the table has two jobs that want two sizes. At the exit
# it judges: the *logit* of a token is the product of Gemma's last vector with the token's row.
# Gemma's last vector has numbers of size about one, that is, length √D; rows of length one or
# two then give logits up to some tens (24 here), and rows √D times as long would give logits
# in the hundreds, and no doubt could ever be expressed. At the entrance the same row becomes
# an input, and inputs should have numbers of size one too, hence length √D. So the rows are
# stored for the exit and scaled at the entrance.
#
# **Why not the picture?** Because it has no second job. Nobody compares an answer with
# soft tokens, so the projector is free to learn the right size by itself, and as you see it did.
# In the large model the factor is √2048 = 45.25.
#
# You may meet code that *divides* the soft tokens by √D. It multiplies the whole sequence by
# √D a few lines later; the two cancel.
#
# ### What if you get it wrong?
#
# Ports of this model have been released with the picture scaled twice, or divided once too
# often, or with the text not scaled at all. They load, they run, they write English. Let us
# measure it in two ways while we stretch the picture, or the text, by a factor. First: hold
# the right caption under the model's nose and ask how likely it finds each next token of it.

# %%
answer = model.generate(**inputs, do_sample=False)  # (B, new), the last is <eos>
whole = np.concatenate([ids, answer[:, :-1]], axis=1)  # what Gemma reads, (B, S)
print(tokenizer.decode(answer[0]))

# %% [markdown]
# (`prefix_lm_mask` says who may see whom, `positions_of` counts the places. Notebooks 07 and
# 06 are about them. Both want the *attention mask*, 1 for a real token and 0 for padding; here
# all are real, so it is `ones`.)

# %%
from numpy_paligemma.model.fusion import fuse, positions_of, prefix_lm_mask
from numpy_paligemma.model.gemma import gemma_decoder, next_token_logits
from numpy_paligemma.model.layers import softmax

ones = np.ones_like(whole)
mask = prefix_lm_mask(ones, np.arange(whole.shape[1])[None] >= T)


def stretched(picture=1.0, words=1.0):
    """Logits of the caption's tokens, (new, V), with the two stretched by factors."""
    x = words * embed_text(whole, w.decoder.embed)
    x = fuse(picture * soft, x, whole == c.image_token_id)
    x = gemma_decoder(x, positions_of(ones), mask, w.decoder, c.text)
    return next_token_logits(x[0, T - 1 :], w.decoder)


# %% [markdown]
# Second: compare the very first logits with the reference.

# %%
reference = golden["logits"][0, -1]  # (V,)


def likely(logits):
    """Probability of the right token, the geometric mean over the caption."""
    return np.exp(np.log(softmax(logits))[range(len(logits)), answer[0]].mean())


def off(logits):
    """Largest difference of the first logits, measured against the largest of them."""
    return np.abs(logits[0] - reference).max() / np.abs(reference).max()


# %%
factors = (D ** np.linspace(-0.5, 0.5, 13)).tolist()  # floats: float32 stays so
curves = {
    ("picture", BRIDGE): [stretched(picture=f) for f in factors],
    ("words", LANGUAGE): [stretched(words=f) for f in factors],
}

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(plots.WIDTH, 3))
for (name, colour), runs in curves.items():
    style = {"color": colour, "marker": "o", "label": name}
    left.plot(factors, [likely(logits) for logits in runs], **style)
    right.plot(factors, [off(logits) for logits in runs], **style)
for axes in (left, right):
    axes.set(xscale="log", xlabel="stretched by the factor")
    axes.set_xticks([D**-0.5, 1, D**0.5], ["1/√D", "1", "√D"], minor=False)
    axes.minorticks_off()
left.set(ylabel="probability of the right token", ylim=(0, 1.05))
right.set(ylabel="logits off by", yscale="log")
left.legend(frameon=False, loc="lower center")
show(
    figure,
    "Figure 2. What the caption shows of a wrong scale (left) and what the numbers show "
    "(right): at factor 1 they agree with the reference but for rounding, anywhere else "
    "they are off by a hundred thousand times as much or more.",
    "Left: probability of the right token over a factor from one over root D to root D. "
    "Right, logarithmic: the error of the logits, with a deep notch at factor one.",
)

# %% [markdown]
# Forgetting the words' factor is the left end of the magenta curve, scaling the picture like
# the words is the right end of the amber one. Look how much the caption forgives, of the picture
# most of all: every block of Gemma begins by bringing its input to unit size (notebook 07), so
# lengths matter only where vectors are *added*. That is what makes such a mistake dangerous. On an
# easy photo the model may still say the right thing. Only a comparison number by number finds the
# mistake, and finds it at once.
#
# ## One sequence
#
# Both sides have vectors of the same width now. Joining them is an assignment: where the id
# says `<image>`, the soft tokens take their seats, in order. On a toy:

# %%
toy_text = np.zeros((1, 5, 2))  # five tokens of width 2
seats = np.array([[True, True, False, False, False]])
toy_soft = np.array([[[1, 2], [3, 4]]])  # one picture, two soft tokens
print(fuse(toy_soft, toy_text, seats)[0].tolist())

# %%
plots.source(fuse)

# %% [markdown]
# What stood in the seats before does not matter: it was one and the same row of the table,
# sixty-four times.

# %%
sequence = fuse(soft, text, ids == c.image_token_id)  # (B, T, D)
check(sequence, "fusion/out")

# %%
figure, axes = plt.subplots(1, 3, figsize=(plots.WIDTH, 3.4), sharey=True)
high = 2 * sequence.std()
sheets = {"text, with 64 free seats": text[0], "soft tokens": soft[0]}
sheets["one sequence"] = sequence[0]
for axis, (name, x) in zip(axes, sheets.items(), strict=True):
    axis.imshow(x, cmap="PuOr_r", vmin=-high, vmax=high, aspect="auto")
    axis.set(xlabel="D", title=f"{name} {x.shape}", ylim=(T, 0))
axes[0].axhline(P, color=INK, linewidth=0.8)
axes[2].axhline(P, color=INK, linewidth=0.8)
axes[0].set(ylabel="place in the sequence")
show(
    figure,
    "Figure 3. Every row is a vector. The text comes with equal rows where the seats are "
    "(left), the soft tokens (middle) sit down in them, and the words keep their places "
    "below the line (right).",
    "Three heat maps of 68 or 64 rows by 128 columns; the third has the rows of the second "
    "above the line and those of the first below it.",
)

# %% [markdown]
# From here on Gemma does not distinguish. A vector is a vector.
#
# ## What does Gemma read?
#
# If the picture arrives as if it were words: which words? Take each soft token and look for
# the row of the table that points the same way (the largest *cosine*: 1 for the same
# direction, 0 for nothing in common). We look among the words that captions are made of:
# the colours in English, and the shapes in the four languages that the miniature speaks.

# %%
COLOURS = "red green blue yellow purple black"
SHAPES = "circle square triangle star Kreis Quadrat Dreieck Stern cercle carré étoile"
names = f"{COLOURS} {SHAPES} círculo cuadrado triángulo estrella".split()
words = [tokenizer.encode(f" {name}")[0] for name in names]  # their ids
rows = w.decoder.embed[words]  # (W, D)


def cosines(x, rows):
    """Compare directions: x (…, D), rows (W, D) -> (…, W)."""
    x = x / np.linalg.norm(x, axis=-1, keepdims=True)
    return x @ (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).T


# %%
best = cosines(soft[0], rows).max(axis=-1)  # (P,)
print(f"nearest word of a soft token: {best.min():.2f} to {best.max():.2f}")

anything = np.random.default_rng(0).standard_normal((10_000, D))
chance = cosines(anything, rows).max(axis=-1).mean()
print(f"nearest word of an arrow shot at random: {chance:.2f}")

# %% [markdown]
# A soft token is no word in disguise: the nearest row is not much nearer than if one had aimed
# anywhere. The reason is in the name: these vectors are free, and there is far more room in
# 128 dimensions than words to fill it. Nobody asked the projector to write words. It was asked to
# write something from which Gemma can *make* words.
#
# But look closer. All patches have a lot in common ("I am a patch"), which says nothing about
# any of them. Take it off, that is, the mean of the 64, and compare what is left.

# %%
own = soft[0] - soft[0].mean(axis=0)  # (P, D)
before = cosines(own, rows)  # (P, W)
print(f"nearest word: {before.max(-1).min():.2f} to {before.max():.2f}")

# %% [markdown]
# No nearer than before. But *which* word is nearest now depends more on the patch (before, it was
# `Stern` for most of them), as Figure 4 will show.
#
# Now let Gemma make its words. Its blocks change every vector step by step, the picture's too. After
# the last block each vector is turned into probabilities anyway: what comes next? At the
# picture's places that is never used; but we can look at it.

# %%
positions = positions_of(inputs["attention_mask"])  # 1 … T
hidden = gemma_decoder(sequence, positions, None, w.decoder, c.text)
check(hidden, "decoder/out")

probs = softmax(next_token_logits(hidden[0, :P], w.decoder))  # (P, V)
after = probs[:, words]  # (P, W)

# %% [markdown]
# On the left the nearest word, where it is nearer than chance; on the right the likeliest of our
# words, where it is at least ten times as likely as by chance, which would be 1/V. Else a dot.


# %%
def best_words(scores, floor):
    """Name each patch's best word by scores (P, W), or a dot below the floor; how good."""
    best = scores.max(axis=-1)
    said = [names[i] for i in scores.argmax(axis=-1)]
    return [s if b > floor else "·" for s, b in zip(said, best, strict=True)], best


# %% tags=["cover"]
figure, axes = plt.subplots(1, 2, figsize=(plots.WIDTH, 4.7))
picture = np.asarray(photo)
plots.words_on_patches(axes[0], picture, *best_words(before, chance))
plots.words_on_patches(axes[1], picture, *best_words(after, 10 / c.text.vocab_size))
axes[0].set_title("before Gemma: nearest to the soft token")
axes[1].set_title("after Gemma: likeliest at this place")
show(
    figure,
    "Figure 4. Words on the patches, the bolder the nearer (left) or the likelier (right). What "
    "enters as hardly a hint comes out, read in the light of `caption en`, as words of the answer: "
    "shape or colour on the triangle and the star, *red* on the circle, with a wrong *red* or "
    "*purple* among them. On bare paper the left's *Stern* means nothing.",
    "The photo twice with a word or a dot on each of its 64 patches. Left: faint words, circle on "
    "the circle, star on the star, Stern on paper. Right: triangle and yellow on the triangle, "
    "blue and Stern on the star, red on the circle.",
)

# %% [markdown]
# No one trained the model to say anything at these places, or to choose a language there. It
# is a by-product: the vectors on the way to an answer are often already made of what the
# answer needs. (Reading inner vectors by the exit's table is called the *logit lens*.)
#
# ## On your own
#
# Three steps, each with something to match. Solutions are folded away below.
#
# 1. **One line.** Make `text` without indexing: from `np.eye(len(w.decoder.embed))` and one
#    matrix product. At the places of the words it must equal `text` to 1e-6.
# 2. **A function.** Write `my_fuse(soft, text, is_image)` without `np.nonzero`: with boolean
#    indexing. It must equal `fuse` on our photo, and on
#    `processor(text=["caption en"], images=[[photo, photo]])`, which has 128 seats.
# 3. **The whole bridge.** Write `bridge(features, ids)` in NumPy alone, with the weights
#    `w.projector` and `w.decoder.embed`, and nothing imported from the package. It must pass
#    `check(bridge(features, ids), "fusion/out")`.
#
# ## In practice
#
# - The published PaliGemma 3B has P = 256 seats at 224 pixels, 1,024 at 448 and 4,096 at 896,
#   and its `<image>` has id 257,152: the first behind all tokens for text, places and masks
#   (ids count from 0). In some checkpoints the table ends there, and the id has no row; that is
#   what `embed_text` guards against.
# - Several pictures for one question are nothing new: more seats, filled in order.
# - Some models put more onto the bridge: an MLP (LLaVA 1.5), a small transformer that reads
#   the picture into fewer tokens (BLIP-2), attention into the picture from every block
#   (Flamingo). PaliGemma shows how far one matrix goes.
#
# ## Further reading
#
# - Beyer et al., *PaliGemma*, [arXiv:2407.07726](https://arxiv.org/abs/2407.07726): section 3.1
#   for the architecture, section 5 for what was tried and not taken, the MLP among it.
# - Vaswani et al., *Attention is all you need*, [arXiv:1706.03762](https://arxiv.org/abs/1706.03762),
#   section 3.4: one table for both ends, and the factor √D.
# - nostalgebraist, [*interpreting GPT: the logit lens*](https://www.lesswrong.com/posts/AcKRB8wDpdaN6v6ru/interpreting-gpt-the-logit-lens):
#   reading a vector by the words that it is nearest to.
# - [`model/fusion.py`](../numpy_paligemma/model/fusion.py): all of the bridge on one page.
# - Next: [06, Write position as rotation](06_write_position_as_rotation.ipynb): how does Gemma know
#   which vector came first?

# %% [markdown]
# <details>
# <summary><b>Solutions</b></summary>
#
# **1.** A one-hot row times the table picks a row of it. (The `<image>` id picks one too; in
# this table it has a row, which `fuse` overwrites anyway.)
#
# ```python
# mine = np.eye(len(w.decoder.embed))[ids] @ w.decoder.embed * D**0.5
# np.testing.assert_allclose(mine[:, P:], text[:, P:], atol=1e-6 * np.abs(text).max())
# ```
#
# **2.** Boolean indexing walks through the places row by row, which is the pictures' order:
#
# ```python
# def my_fuse(soft, text, is_image):
#     fused = text.copy()
#     fused[is_image] = soft.reshape(-1, soft.shape[-1])
#     return fused
#
#
# np.testing.assert_array_equal(my_fuse(soft, text, ids == c.image_token_id), sequence)
#
# ids_2 = processor(text=["caption en"], images=[[photo, photo]])["input_ids"]
# soft_2, text_2 = np.repeat(soft, 2, axis=0), embed_text(ids_2, w.decoder.embed)
# is_image = ids_2 == c.image_token_id
# np.testing.assert_array_equal(
#     my_fuse(soft_2, text_2, is_image), fuse(soft_2, text_2, is_image)
# )
# ```
#
# **3.** Nothing else was in it:
#
# ```python
# def bridge(features, ids):
#     weight, bias = w.projector
#     fused = w.decoder.embed[ids] * D**0.5
#     fused[ids == c.image_token_id] = (features @ weight.T + bias)[0]
#     return fused
#
#
# check(bridge(features, ids), "fusion/out")
# ```
#
# </details>
