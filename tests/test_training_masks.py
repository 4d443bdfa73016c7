"""What the miniature is taught of masks: true shapes, code words, and answers."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from numpy_paligemma.answers.segmentation import decode_masks
from numpy_paligemma.checkpoints.mask_decoder import load_mask_decoder

ROOT = Path(__file__).parents[1]
TOKENIZER = ROOT / "weights" / "miniature" / "tokenizer.model"

CIRCLE, SQUARE, TRIANGLE, STAR, NUMBER = range(5)
RED, BLUE, BLACK = 0, 2, 5
CODES = tuple(range(100, 116))


def facts(training: Any, *looks: tuple[int, int]) -> list[Any]:
    """Line objects up from left to right: colour and kind each, all of one mask."""
    make = training("truth").Fact
    boxes = [(10.0 * i, 0.0, 10.0 * i + 7, 7.0) for i in range(len(looks))]
    pairs = zip(looks, boxes, strict=True)
    return [make(kind, colour, box, CODES) for (colour, kind), box in pairs]


def test_a_mask_stretched_over_its_box_is_what_was_painted(training: Any):
    shares = []
    for i in range(24):
        scene = training("painting").draw_scene(np.random.default_rng((9, i)))
        for j, thing in enumerate(scene.things):
            mask, painted = scene.masks[j], scene.covered[j] > 0.5
            assert mask.any() == (thing.kind != NUMBER)
            if thing.kind == NUMBER:
                continue
            left, top, right, bottom = (round(edge) for edge in scene.boxes[j])
            size = (right - left, bottom - top)
            small = Image.fromarray(np.where(mask, 1, -1).astype(np.float32)).resize(
                size, Image.Resampling.BILINEAR
            )
            pasted = np.zeros_like(painted)
            pasted[top:bottom, left:right] = np.asarray(small) > 0
            shares.append((pasted & painted).sum() / (pasted | painted).sum())
    assert len(shares) > 30
    assert np.mean(shares) > 0.93  # 0.955; a mirrored mask costs 0.2
    assert min(shares) > 0.75


def test_a_mask_reaches_all_four_sides_of_its_box(training: Any):
    for i in range(12):
        scene = training("painting").draw_scene(np.random.default_rng((9, i)))
        for thing, mask in zip(scene.things, scene.masks, strict=True):
            if thing.kind != NUMBER:
                rows, columns = mask.any(1).nonzero()[0], mask.any(0).nonzero()[0]
                assert min(rows[0], columns[0]) <= 2
                assert max(rows[0], columns[0]) <= 4  # a corner between two samples
                assert min(rows[-1], columns[-1]) >= 59


def test_segment_answers_with_a_box_a_mask_and_the_label(training: Any):
    there = facts(training, (RED, STAR), (BLUE, CIRCLE), (BLACK, STAR))
    mask = "".join(f"<seg{code:03d}>" for code in CODES)
    segment = training("truth").segment
    assert segment(there, (BLUE, CIRCLE)) == (
        f"<loc0000><loc0091><loc0064><loc0155>{mask} blue circle"
    )
    assert segment(there, (None, STAR)) == (
        f"<loc0000><loc0000><loc0064><loc0064>{mask} star"
        f" ; <loc0000><loc0182><loc0064><loc0246>{mask} star"
    )
    assert not segment(there, (RED, CIRCLE))


def test_masks_are_asked_of_shapes_there_or_not_and_never_of_numbers(training: Any):
    there = facts(training, (RED, STAR), (BLUE, CIRCLE), (BLACK, NUMBER))
    ask, rng = training("questions").questions_about, random.Random(0)
    asked = [q for _ in range(300) for q in ask(rng, there, "42", "masks too")]
    segments = {q.prompt: q.answer for q in asked if q.prompt.startswith("segment")}
    assert segments["segment red star"].endswith(" red star")
    assert segments["segment star"].endswith(" star")
    assert not segments["segment blue star"]
    assert not [prompt for prompt in segments if "number" in prompt]
    everything = [q for _ in range(300) for q in ask(rng, there, "42")]
    assert not [q for q in everything if q.prompt.startswith("segment")]


def test_the_vocabulary_cuts_masks_as_sentencepiece_does(training: Any):
    vocabulary = training("tokenizer").Vocabulary(TOKENIZER)
    there = facts(training, (RED, STAR), (BLUE, CIRCLE), (RED, STAR))
    text = training("truth").segment(there, (RED, STAR))
    ids = vocabulary.encode(text)
    assert ids == vocabulary.encode_stretch(text)
    assert ids[4:20] == [768 + 1024 + code for code in CODES]
    assert vocabulary.decode(ids) == text


@pytest.mark.parity
def test_every_token_of_a_mask_is_learnt_as_a_code_word(training: Any):
    pytest.importorskip("torch")
    packing = training("packing")
    vocabulary = training("tokenizer").Vocabulary(TOKENIZER)
    there = facts(training, (RED, STAR), (RED, STAR))
    make, segment = training("truth").Question, training("truth").segment
    question = make("segment", "segment red star", segment(there, (RED, STAR)))
    batch = packing.pack([[question], [question]], vocabulary, 64)
    taught = {
        name: batch["target"].flatten()[batch[f"{name}_at"]][
            batch[f"{name}_weight"] > 0
        ]
        for name in ("word", "place", "code")
    }
    assert [len(taught[name]) for name in taught] == [
        2 * 7,
        2 * 8,
        2 * 26,
    ]  # of 32: the room ends there
    assert (taught["code"] - 768 - 1024).tolist()[:16] == list(CODES)


@pytest.mark.parity
def test_near_code_words_share_targets_and_start_near(training: Any):
    torch = pytest.importorskip("torch")
    line = torch.linspace(0.5, 3, 128)[:, None] ** 3  # more and more apart
    book = line * torch.randn(512, generator=torch.manual_seed(0))
    targets = training("code_words").shared_targets(book)
    assert torch.allclose(targets.sum(1), torch.ones(128))
    assert torch.equal(targets.argmax(1), torch.arange(128))
    assert targets[127, 127] > targets[63, 63] > targets[5, 5]
    assert targets[63, 64] > 0.1 > targets[63, 80]
    rows = training("code_words").segment_rows(book, 128)
    distance = (rows - rows[63]).norm(dim=1)
    assert distance[64] < distance[66] < distance[70] < distance[90]


@pytest.mark.parity
def test_the_exported_decoder_draws_what_the_trained_one_draws(
    training: Any, tmp_path: Path
):
    torch = pytest.importorskip("torch")
    vqvae = training("vqvae")
    torch.manual_seed(0)
    vae = vqvae.VQVAE()
    vqvae.export_decoder(vae, tmp_path / "vae-oid.npz")
    codes = torch.randint(128, (3, 16))
    for tensor in (*vae.decoder.parameters(), vae.codebook):
        tensor.data = tensor.data.half().float()  # as shipped
    weights = load_mask_decoder(tmp_path / "vae-oid.npz")
    drawn = decode_masks(codes.numpy(), weights)
    expected = vae.drawn(codes).detach().numpy()
    assert np.abs(drawn - expected).max() < 1e-5 * np.abs(expected).max()


@pytest.mark.parity
def test_the_encoder_mirrors_the_published_decoder(training: Any):
    pytest.importorskip("torch")
    vae = training("vqvae").VQVAE()
    shapes = {name: tuple(p.shape) for name, p in vae.state_dict().items()}
    assert shapes["encoder.10.weight"] == (512, 128, 1, 1)
    assert shapes["decoder.0.weight"] == (128, 512, 1, 1)
    assert shapes["decoder.3.net.4.weight"] == (128, 128, 1, 1)
    assert shapes["decoder.6.weight"] == (128, 64, 4, 4)
    assert shapes["decoder.12.weight"] == (1, 16, 1, 1)
    published = sum(p.numel() for p in vae.decoder.parameters()) + 128 * 512
    assert published == 1_188_993
