"""Checkpoints broken on purpose: what was done to each, and what must be told.

Each entry breaks a good folder and says what the one line on stderr has to match. What
no check can find is not here but in `tests/test_broken_checkpoints.py`, with the reason.
"""

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from tiny import (
    CONFIG,
    IMAGE_ID,
    Stored,
    random_tensors,
    stored,
    write_config,
    write_safetensors,
    write_shards,
)
from tiny_tokenizer import gemma_file, paligemma_file

Break = Callable[[Path], object]
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
SECOND = "model-00002-of-00003.safetensors"
EMBEDDING = "language_model.model.embed_tokens.weight"
Q = "language_model.model.layers.1.self_attn.q_proj.weight"
GAIN = "language_model.model.norm.weight"
POSITIONS = "vision_tower.vision_model.embeddings.position_embedding.weight"
EYE_Q = "vision_tower.vision_model.encoder.layers.0.self_attn.q_proj.weight"
GEMMA_2_NORM = "language_model.model.layers.{}.{}_feedforward_layernorm.weight"
NORMS = [(i, at) for i in range(3) for at in ["pre", "post"]]
GEMMA_2_TEXT = {"model_type": "gemma2", "sliding_window": 5}
LFS = b"""\
version https://git-lfs.github.com/spec/v1
oid sha256:8986bb4f423f07f8c7f70d0dbe3526fb2316056c17bae71b1ea975e77a168fc6
size 4264023
"""
HTML = b"<!DOCTYPE html>\n<html><head><title>403 Forbidden</title></head></html>\n"


def put(name: str, content: bytes | str) -> Break:
    """Make a break that overwrites a file."""
    data = content.encode() if isinstance(content, str) else content
    return lambda folder: (folder / name).write_bytes(data)


def take(name: str) -> Break:
    """Make a break that removes a file."""
    return lambda folder: (folder / name).unlink()


def cut(name: str, length: Callable[[int], int]) -> Break:
    """Make a break that keeps the first bytes of a file, as many as `length` says."""

    def run(folder: Path) -> None:
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: length(len(data))])

    return run


def append(name: str, data: bytes) -> Break:
    """Make a break that lengthens a file."""
    return lambda folder: (folder / name).write_bytes(
        (folder / name).read_bytes() + data
    )


def within_header(share: float) -> Break:
    """Make a break that ends the weights inside their header."""

    def run(folder: Path) -> None:
        data = (folder / WEIGHTS).read_bytes()
        length = int.from_bytes(data[:8], "little")
        (folder / WEIGHTS).write_bytes(data[: 8 + int(share * length)])

    return run


def rewrite(**changes: Stored | None) -> Break:
    """Make a break that writes the weights again, some replaced and some left out."""

    def run(folder: Path) -> None:
        tensors = {n: stored(x) for n, x in random_tensors().items()} | changes
        kept = {name: entry for name, entry in tensors.items() if entry is not None}
        write_safetensors(folder / WEIGHTS, kept)

    return run


def other(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Break:
    """Make a break that changes one tensor."""
    return rewrite(**{name: stored(change(random_tensors()[name]))})


def filled(name: str, value: float) -> Break:
    """Make a break that puts one wrong number into a tensor."""

    def change(x: np.ndarray) -> np.ndarray:
        x.flat[x.size // 2] = value
        return x

    return other(name, change)


def renamed(name: str, to: str) -> Break:
    """Make a break that writes a tensor under another name."""
    return rewrite(**{name: None, to: stored(random_tensors()[name])})


def typed(name: str, dtype: str, width: int) -> Break:
    """Make a break that says a tensor is of another dtype."""
    x = random_tensors()[name]
    return rewrite(**{name: (dtype, x.shape, bytes(width * x.size))})


def config(**changes: Any) -> Break:
    """Make a break that changes fields of `config.json`."""
    return lambda folder: write_config(folder, **changes)


def text(**fields: Any) -> Break:
    """Make a break that changes fields of `text_config`."""
    return config(text_config=fields)


def vision(**fields: Any) -> Break:
    """Make a break that changes fields of `vision_config`."""
    return config(vision_config=fields)


def pictures(**fields: Any) -> Break:
    """Make a break that changes fields of `preprocessor_config.json`."""
    whole = {"size": {"height": 14, "width": 14}} | fields
    return put("preprocessor_config.json", json.dumps(whole))


def told_again(**fields: Any) -> Break:
    """Make a break that says it again, in the file where transformers 5 puts it."""
    whole = {"size": {"height": 14, "width": 14}} | fields
    return put("processor_config.json", json.dumps({"image_processor": whole}))


def sharded(then: Break) -> Break:
    """Make a break of a checkpoint in three shards."""

    def run(folder: Path) -> None:
        (folder / WEIGHTS).unlink()
        write_shards(folder)
        then(folder)

    return run


def index(change: Callable[[dict[str, str]], object]) -> Break:
    """Make a break that changes the index of a sharded checkpoint."""

    def run(folder: Path) -> None:
        listed = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        change(listed["weight_map"])
        (folder / INDEX).write_text(json.dumps(listed))

    return sharded(run)


def linked(name: str, to: str) -> Break:
    """Make a break that replaces a file by a symbolic link."""

    def run(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(to)

    return run


def moved(name: str, to: str) -> Break:
    """Make a break that gives a file another name."""
    return lambda folder: (folder / name).rename(folder / to)


def a_zip() -> bytes:
    """Write what PyTorch's own files look like."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        file.writestr("archive/data.pkl", b"\x80\x02}q\x00.")
    return out.getvalue()


def twice_in_the_header(folder: Path) -> None:
    """Name one tensor twice: JSON allows it, and readers take the last."""
    data = (folder / WEIGHTS).read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = data[8 : 8 + length].replace(b".layers.1.", b".layers.0.", 1)
    (folder / WEIGHTS).write_bytes(data[:8] + header + data[8 + length :])


def second_family(folder: Path) -> Path:
    """Make a good PaliGemma 2 of the folder: four norms a block, caps, a window."""
    gains = {GEMMA_2_NORM.format(i, at): random_tensors()[GAIN] for i, at in NORMS}
    rewrite(**{name: stored(x) for name, x in gains.items()})(folder)
    write_config(folder, text_config=GEMMA_2_TEXT)
    return folder


def second(**changes: Stored | None) -> Break:
    """Make a break of a PaliGemma 2's tensors."""

    def run(folder: Path) -> None:
        gains = {GEMMA_2_NORM.format(i, at): random_tensors()[GAIN] for i, at in NORMS}
        tensors = {name: stored(x) for name, x in gains.items()}
        rewrite(**tensors | changes)(second_family(folder))

    return run


def second_text(**fields: Any) -> Break:
    """Make a break of a PaliGemma 2's `text_config`."""
    return lambda folder: write_config(
        second_family(folder), text_config=GEMMA_2_TEXT | fields
    )


def both_kinds(folder: Path) -> None:
    """Leave one file and shards in a folder: either may be meant."""
    single = (folder / WEIGHTS).read_bytes()
    write_shards(folder)
    (folder / WEIGHTS).write_bytes(single)


def hollow(folder: Path) -> None:
    """Leave zeros where a download that had taken all its room had not come yet."""
    data = (folder / WEIGHTS).read_bytes()
    half = len(data) // 2
    (folder / WEIGHTS).write_bytes(data[:half] + bytes(len(data) - half))


def duplicated(folder: Path) -> None:
    """Put a tensor of the first shard into the second too."""
    of = json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"]
    tensors = random_tensors()
    part = {
        name: stored(tensors[name]) for name, shard in of.items() if shard == SECOND
    }
    first = next(name for name, shard in of.items() if shard != SECOND)
    write_safetensors(folder / SECOND, part | {first: stored(tensors[first])})


def repeated_key(folder: Path) -> None:
    """Say a field twice."""
    path = folder / "config.json"
    whole = path.read_text(encoding="utf-8")
    path.write_text(whole.replace("{", '{"pad_token_id": 5, ', 1))


def default_normaliser() -> bytes:
    """Cut the tokenizer's file before its last section: sentencepiece fills in its own.

    Written pieces first, as published files are, so that all of them are still there.
    """
    whole, at = paligemma_file(), 0
    pieces, sections = b"", []
    while at < len(whole):
        length, shift, end = 0, 0, at + 1
        while shift == 0 or whole[end - 1] & 0x80:
            length |= (whole[end] & 0x7F) << shift
            shift, end = shift + 7, end + 1
        field, at = whole[at : end + length], end + length
        if field[0] == 0x0A:
            pieces += field
        else:
            sections.append(field)
    return pieces + b"".join(sections[:-1])


whole = r"model\.safetensors: expected a whole safetensors file, but "
tensors = r"the tensors are not those that config\.json asks for: "
again = "download it again"

WEIGHT_FILES: dict[str, tuple[Break, str]] = {
    "an empty file": (put(WEIGHTS, b""), whole + f"it is empty; {again}"),
    "three bytes": (cut(WEIGHTS, lambda _: 3), whole + f".*; {again}"),
    "the length alone": (cut(WEIGHTS, lambda _: 8), whole + f".*; {again}"),
    "cut in the header": (within_header(0.5), whole + f".*; {again}"),
    "cut behind the header": (within_header(1), whole + f".*; {again}"),
    "cut in a tensor": (cut(WEIGHTS, lambda n: n * 2 // 3), whole + f".*; {again}"),
    "without its last byte": (cut(WEIGHTS, lambda n: n - 1), whole + f".*; {again}"),
    "a byte too long": (append(WEIGHTS, b"\0"), whole + f".*; {again}"),
    "twice in one file": (
        lambda f: append(WEIGHTS, (f / WEIGHTS).read_bytes())(f),
        whole + f".*; {again}",
    ),
    "zeros from the middle on": (
        hollow,
        r"model\.safetensors: .* is all zeros, as in an unfinished download",
    ),
    "zeros alone": (
        put(WEIGHTS, bytes(5000)),
        whole + f"it begins with zeros.*{again}",
    ),
    "a header too large": (
        put(WEIGHTS, b"\xff" * 6 + b"\0\0{}"),
        whole + f".*; {again}",
    ),
    "a Git LFS pointer": (
        put(WEIGHTS, LFS),
        whole + "it is a Git LFS pointer; run `git lfs pull` in its folder",
    ),
    "a web page": (put(WEIGHTS, HTML), whole + f"it is a web page; {again}"),
    "a server's answer": (
        put(WEIGHTS, "Access to model google/paligemma-3b-pt-224 is restricted."),
        whole + f"it is text: 'Access to model google/paligemma-3.*; {again}",
    ),
    "PyTorch's own format": (put(WEIGHTS, a_zip()), whole + "it is a zip archive"),
    "unfinished, .part": (
        moved(WEIGHTS, WEIGHTS + ".part"),
        rf"expected model\.safetensors or .*, found model\.safetensors\.part; .*{again}",
    ),
    "unfinished, .incomplete": (
        moved(WEIGHTS, "8a3f.incomplete"),
        rf"expected model\.safetensors or .*, found 8a3f\.incomplete; .*{again}",
    ),
    "PyTorch's file alone": (
        moved(WEIGHTS, "pytorch_model.bin"),
        r"expected model\.safetensors or .*, found pytorch_model\.bin; ",
    ),
    "nothing": (take(WEIGHTS), r"expected model\.safetensors or .*, found neither; "),
    "a folder": (
        lambda f: [(f / WEIGHTS).unlink(), (f / WEIGHTS).mkdir()],
        whole,
    ),
    "a link to itself": (linked(WEIGHTS, WEIGHTS), whole + ".*symbolic links"),
    "a link to nowhere": (
        linked(WEIGHTS, "../blobs/8a3f"),
        whole + "it cannot be read: No such file",
    ),
    "both kinds at once": (
        both_kinds,
        r"model\.safetensors and model\.safetensors\.index\.json are both there",
    ),
}

TENSORS: dict[str, tuple[Break, str]] = {
    "a tensor less": (rewrite(**{Q: None}), rf"{tensors}1 missing \({Q}\)"),
    "a tensor more": (
        rewrite(odd=stored(np.ones(3))),
        rf"{tensors}1 unexpected \(odd\)",
    ),
    "a tensor renamed": (
        renamed(Q, Q.replace("q_proj", "query")),
        rf"1 missing \({Q}\); 1 unexpected \(.*query",
    ),
    "a layer renamed": (
        renamed(Q, Q.replace(".1.", ".9.")),
        rf"1 missing \({Q}\); 1 unexpected \(.*\.9\.",
    ),
    "a tensor transposed": (
        other(Q, np.transpose),
        rf"1 of another shape \({Q} expected \(24, 10\), found \(10, 24\)",
    ),
    "a tensor flattened": (
        other(EYE_Q, np.ravel),
        r"1 of another shape \(.*expected \(15, 15\), found \(225,\)",
    ),
    "a scalar": (other(GAIN, lambda x: x[0]), r"expected \(10,\), found \(\)"),
    "a tensor of nothing": (
        other(GAIN, lambda x: x[:0]),
        r"expected \(10,\), found \(0,\)",
    ),
    "two names of one meaning": (
        rewrite(**{f"model.{EMBEDDING}": stored(random_tensors()[EMBEDDING])}),
        f"{EMBEDDING} there more than once, under names that mean the same",
    ),
    "one name twice": (twice_in_the_header, rf"model\.safetensors: .*{again}"),
    "8 bits, quantized": (
        rewrite(
            **{
                Q: ("I8", (24, 10), bytes(240)),
                Q + "_scale": stored(np.ones(24)),
            }
        ),
        rf"1 unexpected \({Q}_scale\); 1 of another dtype .*\({Q} is I8\)",
    ),
    **{
        f"dtype {dtype}": (
            typed(GAIN, dtype, width),
            rf"1 of another dtype than BF16, F16, F32 \({GAIN} is {dtype}\)",
        )
        for dtype, width in [
            *[("I64", 8), ("F64", 8), ("I32", 4), ("U16", 2), ("BOOL", 1)],
            *[("F8_E4M3", 1), ("F8_E5M2", 1), ("U8", 1)],
        ]
    },
    **{
        f"{value} in {where}": (
            filled(name, value),
            rf"model\.safetensors: {name} holds "
            + ("NaN" if np.isnan(value) else "infinity"),
        )
        for where, name in [("the embedding", EMBEDDING), ("a gain", GAIN), ("q", Q)]
        for value in [np.nan, np.inf, -np.inf]
    },
    "NaN in the eye": (
        filled(EYE_Q, np.nan),
        rf"model\.safetensors: {EYE_Q} holds NaN",
    ),
    "numbers near the end of float32": (
        other(EMBEDDING, lambda x: np.full_like(x, 3e38)),
        "the logits are not finite, and no tensor of the checkpoint's own files is to .*float64",
    ),
    "an embedding of zeros": (
        other(EMBEDDING, np.zeros_like),
        rf"model\.safetensors: {EMBEDDING} is all zeros",
    ),
    "a position table of zeros": (
        other(POSITIONS, np.zeros_like),
        rf"model\.safetensors: {POSITIONS} is all zeros",
    ),
    "a matrix of zeros": (
        other(Q, np.zeros_like),
        rf"model\.safetensors: {Q} is all zeros, as in an unfinished download",
    ),
}

SHARDS: dict[str, tuple[Break, str]] = {
    "a shard cut": (
        sharded(cut(SECOND, lambda n: n - 7)),
        r"model-00002-of-00003\.safetensors: expected a whole safetensors file, but ",
    ),
    "a shard missing": (
        sharded(take(SECOND)),
        r"the index names model-00002-of-00003\.safetensors, not there; download again",
    ),
    "a shard that is a pointer": (
        sharded(put(SECOND, LFS)),
        r"00002-of-00003\.safetensors: .* it is a Git LFS pointer; run `git lfs pull`",
    ),
    "the same tensor in two shards": (
        sharded(duplicated),
        "index and shards disagree on 1 tensors: ",
    ),
    "shards exchanged": (
        sharded(
            lambda f: [
                (f / SECOND).rename(f / "x"),
                (f / SECOND.replace("2-", "3-")).rename(f / SECOND),
                (f / "x").rename(f / SECOND.replace("2-", "3-")),
            ]
        ),
        r"index and shards disagree on \d+ tensors: ",
    ),
    "no index": (
        sharded(take(INDEX)),
        r"expected model\.safetensors or .*, found model-00001-of-00003\.safetensors",
    ),
    "an index that is no JSON": (
        sharded(put(INDEX, "{")),
        r"index\.json: expected JSON",
    ),
    "an index that is a pointer": (
        sharded(put(INDEX, LFS)),
        r"index\.json: expected JSON.*Git LFS pointer",
    ),
    "an index without a map": (sharded(put(INDEX, "{}")), r"index\.json: .*weight_map"),
    "an index that is a link to itself": (
        sharded(linked(INDEX, INDEX)),
        r"index\.json: .*symbolic links",
    ),
    "an index that names a tensor more": (
        index(lambda of: of.update(odd=SECOND)),
        "disagree on 1 tensors: odd in model-00002",
    ),
    "an index that names a tensor less": (
        index(lambda of: of.pop(Q)),
        f"disagree on 1 tensors: {Q} in model-0000",
    ),
    **{
        f"an index that names {shard!r}": (
            index(lambda of, shard=shard: of.update({Q: shard})),  # type: ignore[misc]
            r"index\.json: weight_map: expected names of \.safetensors files beside it",
        )
        for shard in [
            "../escape/model.safetensors",
            "/etc/passwd",
            "deep/" + SECOND,
            "config.json",
            "..",
            "",
            None,
            7,
        ]
    },
    "an index that names an unknown file": (
        index(lambda of: of.update({Q: "model-00004-of-00003.safetensors"})),
        r"the index names model-00004-of-00003\.safetensors, not there",
    ),
}

found = ", found "
CONFIGS: dict[str, tuple[Break, str]] = {
    "no config": (take("config.json"), r"config\.json: no such file"),
    "an empty config": (put("config.json", ""), "it is empty"),
    "a config that is a pointer": (put("config.json", LFS), "it is a Git LFS pointer"),
    "a config that is a web page": (put("config.json", HTML), "it is a web page"),
    "a config that is a link to itself": (
        linked("config.json", "config.json"),
        "config.json: .*symbolic links",
    ),
    "a config in Latin-1": (
        put("config.json", '{"model_type": "paligémma"}'.encode("latin-1")),
        r"config\.json: expected JSON, but 'utf-8'",
    ),
    "a config of one list": (put("config.json", "[1]"), "a JSON object, found list"),
    "a config that nests without end": (
        put("config.json", "[" * 200_000),
        r"config\.json: expected JSON, but .*recursion",
    ),
    "a config with a number of 5,000 digits": (
        put("config.json", '{"model_type": ' + "9" * 5000 + "}"),
        r"config\.json: expected JSON, but ",
    ),
    "a config that says a field twice": (
        repeated_key,
        r'config\.json: .*"pad_token_id" is there twice',
    ),
    "a config cut": (
        cut("config.json", lambda n: n // 2),
        r"config\.json: expected JSON",
    ),
    "no model type": (config(model_type=None), '"paligemma", found null'),
    "a tokenizer's model": (config(model_type="gemma"), '"paligemma", found "gemma"'),
    "a model type that is a list": (
        config(model_type=[1]),
        r'"paligemma", found \[1\]',
    ),
    "a model type of a million letters": (
        config(model_type="x" * 10**6),
        r'"paligemma", found "x{10,90}\.\.\.',
    ),
    "another decoder": (text(model_type="llama"), 'found "llama"'),
    "another eye": (vision(model_type="clip_vision_model"), 'found "clip_vision'),
    "a quantized model": (
        put("config.json", json.dumps(CONFIG | {"quantization_config": {"bits": 4}})),
        r'quantization_config: expected null, found {"bits": 4}',
    ),
    "another bend": (text(hidden_act="silu"), 'text_config.hidden_act: .*found "silu"'),
    "another bend in the eye": (
        vision(hidden_act="gelu"),
        "vision_config.hidden_act: ",
    ),
    "biases": (text(attention_bias=True), "text_config.attention_bias: expected false"),
    "a scaled rope": (text(rope_scaling={"factor": 2}), "text_config.rope_scaling: "),
    "a rope of another kind": (
        text(rope_parameters={"rope_type": "yarn", "rope_theta": 1e4}),
        'rope_parameters.rope_type: expected "default", found "yarn"',
    ),
    "a rope that turns the wrong way": (
        text(rope_theta=0.5),
        "text_config.rope_theta: expected a number above 1, found 0.5",
    ),
    "an eps that drowns the numbers": (
        text(rms_norm_eps=1),
        "text_config.rms_norm_eps: expected a number above 0 and below 0.01, found 1",
    ),
    "an eps that drowns the eye": (
        vision(layer_norm_eps=0.5),
        "vision_config.layer_norm_eps: expected a number above 0 and below 0.01",
    ),
    "a projector of another width": (config(projection_dim=11), "projection_dim: "),
    "a projector's width in words": (config(projection_dim="10"), "projection_dim: "),
    "tied in words": (config(tie_word_embeddings="yes"), "tie_word_embeddings: "),
    "untied without a head": (
        config(tie_word_embeddings=False),
        r"1 missing \(lm_head\.weight\)",
    ),
    "<image> is <loc0000>": (
        config(image_token_index=IMAGE_ID - 1152),
        "<image> cannot have id .*'<loc0000>'; config.json should say",
    ),
    "<image> is a word": (config(image_token_index=700), "<image> cannot have id 700"),
    "<image> has two ids": (
        config(image_token_id=IMAGE_ID + 1),
        f"image_token_index: expected {IMAGE_ID + 1}{found}{IMAGE_ID}",
    ),
    "<bos> is another": (
        config(bos_token_id=1),
        "<bos> 2, but by config.json bos is 1; ",
    ),
    "<pad> is another": (
        config(pad_token_id=3),
        "<pad> 0, but by config.json pad is 3",
    ),
    "<eos> is another": (config(eos_token_id=5), r"<eos> 1, but by .*config\.json .*5"),
    "an end behind the vocabulary": (
        config(eos_token_id=[1, 99_999]),
        "eos_token_id: expected ids below 2059, found 99999",
    ),
    "no end": (
        config(eos_token_id=[]),
        r"eos_token_id: expected a token id, found \[\]",
    ),
    "PaliGemma's sections left out": (
        put("config.json", json.dumps({**CONFIG, "text_config": {}})),
        "projection_dim: expected 3072, found 10",
    ),
    **{
        f"{section} is {value!r}": (
            put("config.json", json.dumps(CONFIG | {section: value})),
            f"{section}: expected an object{found}",
        )
        for section in ["text_config", "vision_config"]
        for value in [[], "gemma", 3, False]
    },
}

# every size that is read: one more, one less, and what is no size
SIZES = {
    "text_config": {
        "vocab_size": 2059,
        "hidden_size": 10,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 6,
        "intermediate_size": 22,
    },
    "vision_config": {
        "image_size": 14,
        "patch_size": 4,
        "num_channels": 3,
        "hidden_size": 15,
        "num_hidden_layers": 2,
        "num_attention_heads": 5,
        "intermediate_size": 21,
    },
}
# where a wrong size shows, if not in its own name or in the tensors
ELSEWHERE = "projection_dim: |does not divide|preprocessor_config\\.json: size 14, but"
NO_SIZES: list[Any] = [0, -1, 2**31, 10**40, 2.5, float("nan"), "4", True, [], {}]
for section, sizes in SIZES.items():
    for name, right in sizes.items():
        for size in [right + 1, right - 1]:
            CONFIGS[f"{section}.{name} {size}"] = (
                config(**{section: {name: size}}),
                rf"{section}\.{name}: |{tensors}|{ELSEWHERE}",
            )
        for size in NO_SIZES:
            CONFIGS[f"{section}.{name} {size!r}"] = (
                config(**{section: {name: size}}),
                rf"config\.json: {section}\.{name}: expected a whole number above 0",
            )
        CONFIGS[f"{section}.{name} 10,000,000"] = (
            config(**{section: {name: 10_000_000}}),
            r"config\.json",
        )
        if name != "num_channels":  # null is the default, and 3 is right
            CONFIGS[f"{section}.{name} null"] = (
                config(**{section: {name: None}}),
                r"config\.json|preprocessor_config\.json: size 14, but",
            )
for section, name in [
    ("text_config", "rms_norm_eps"),
    ("text_config", "rope_theta"),
    ("vision_config", "layer_norm_eps"),
]:
    for value in [0, -1e-6, float("inf"), float("nan"), "1e-6", True, [1]]:
        CONFIGS[f"{section}.{name} {value!r}"] = (
            config(**{section: {name: value}}),
            rf"config\.json: {section}\.{name}: expected a number above",
        )
for name in ["image_token_index", "bos_token_id", "eos_token_id", "pad_token_id"]:
    for value in [-1, 1.5, "<eos>", True, {}, 2**31]:
        CONFIGS[f"{name} {value!r}"] = (
            put("config.json", json.dumps(CONFIG | {name: value})),
            rf"config\.json: {name}: expected a ",
        )

INPUTS: dict[str, tuple[Break, str]] = {
    "no tokenizer": (take("tokenizer.model"), r"no tokenizer: expected .*tokenizer\."),
    "an empty tokenizer": (
        put("tokenizer.model", b""),
        r"tokenizer\.model: .*is empty",
    ),
    "a tokenizer that is a pointer": (
        put("tokenizer.model", LFS),
        r"tokenizer\.model: .*it is a Git LFS pointer; run `git lfs pull`",
    ),
    "a tokenizer that is a web page": (
        put("tokenizer.model", HTML),
        r"tokenizer\.model: .*it is a web page",
    ),
    "a tokenizer cut": (
        cut("tokenizer.model", lambda n: n - 40),
        r"tokenizer\.model.*",
    ),
    "a tokenizer cut to half": (
        cut("tokenizer.model", lambda n: n // 2),
        r"tokenizer\.model.*",
    ),
    "a tokenizer without its last section": (
        put("tokenizer.model", default_normaliser()),
        r"tokenizer\.model: .*comes back as.*",
    ),
    "plain Gemma's tokenizer": (
        put("tokenizer.model", gemma_file()),
        "expected PaliGemma's tokenizer, came one of .* without <loc0000>",
    ),
    "a tokenizer that lacks one place": (
        put("tokenizer.model", paligemma_file().replace(b"<loc0517>", b"<loc!517>")),
        r"tokenizer\.model: expected <loc0517> to have id 1417, which is '<loc!517>'",
    ),
    "a tokenizer with two places exchanged": (
        put(
            "tokenizer.model",
            paligemma_file()
            .replace(b"<loc0517>", b"<loc?517>")
            .replace(b"<loc0518>", b"<loc0517>")
            .replace(b"<loc?517>", b"<loc0518>"),
        ),
        r"tokenizer\.model: expected <loc0517> .*, which is '<loc0518>'",
    ),
    "a tokenizer with more pieces than rows": (
        text(vocab_size=IMAGE_ID - 1),
        "tokenizer.model: 2052 pieces, but by config.json",
    ),
    "a tokenizer that is a link to itself": (
        linked("tokenizer.model", "tokenizer.model"),
        r"tokenizer\.model: .*symbolic links",
    ),
    "no image settings": (take("preprocessor_config.json"), "no such file"),
    "image settings that are a pointer": (
        put("preprocessor_config.json", LFS),
        r"preprocessor_config\.json: .* Git LFS pointer",
    ),
    "image settings cut": (
        cut("preprocessor_config.json", lambda n: n - 2),
        r"preprocessor_config\.json: expected JSON",
    ),
    "pictures of another size": (
        pictures(size={"height": 28, "width": 28}),
        "size 28, but by config.json image_size is 14",
    ),
    "pictures that are not square": (
        pictures(size={"height": 14, "width": 28}),
        "size: expected ",
    ),
    "pictures by the shortest edge": (pictures(size={"shortest_edge": 14}), "size: "),
    "another number of soft tokens": (
        pictures(image_seq_length=10),
        "image_seq_length 10, but by config.json patches a picture is 9",
    ),
    "no normalising": (pictures(do_normalize=False), "do_normalize: expected true"),
    "a crop": (pictures(do_center_crop=True), "do_center_crop: expected false"),
    "a filter that is none": (pictures(resample=9), "resample: expected a number from"),
    "means of one number": (pictures(image_mean=[0.5]), "image_mean: expected three"),
    "a deviation of nought": (pictures(image_std=[0.5, 0, 0.5]), "image_std: expected"),
    "bytes that are not scaled": (
        pictures(rescale_factor=1),
        r"expected numbers near -1 to 1, came \(-1\.0, 509\.0\)",
    ),
    "a deviation of nearly nought": (
        pictures(image_std=[0.5, 1e-9, 0.5]),
        r"expected numbers near -1 to 1, came ",
    ),
    "image settings that are a link to itself": (
        linked("preprocessor_config.json", "preprocessor_config.json"),
        r"preprocessor_config\.json: .*symbolic links",
    ),
    **{
        f"two files that disagree on the pictures' {field}": (
            told_again(**{field: value}),
            rf"preprocessor_config\.json and .*\.json disagree on {field}: .*; remove ",
        )
        for field, value in {
            "size": {"height": 28, "width": 28},
            "image_mean": [0.48, 0.46, 0.41],
            "image_std": [0.27, 0.26, 0.28],
            "rescale_factor": 1 / 128,
            "resample": 2,
            "image_seq_length": 10,
        }.items()
    },
    "a second file on pictures cut": (
        put("processor_config.json", "{"),
        r"processor_config\.json: expected JSON",
    ),
    "a generation config cut": (
        put("generation_config.json", '{"eos_token_id": '),
        r"generation_config\.json: expected JSON",
    ),
    "a generation config that is a list": (
        put("generation_config.json", "[]"),
        r"generation_config\.json: expected a JSON object, found list",
    ),
    "a generation config that is a link to itself": (
        linked("generation_config.json", "generation_config.json"),
        r"generation_config\.json: .*symbolic links",
    ),
    **{
        f"a generation config that ends at {end!r}": (
            put("generation_config.json", json.dumps({"eos_token_id": end})),
            r"generation_config\.json: (eos_token_id|<eos>)|<eos> 1, but by generation",
        )
        for end in ["</s>", -1, [], [1, None], [[1]], {"a": 1}, 1.0, 2**40, 700, True]
    },
}

FAMILIES: dict[str, tuple[Break, str]] = {
    "PaliGemma 1's config on PaliGemma 2's tensors": (
        lambda f: write_config(second_family(f)),
        "config.json is of a PaliGemma 1, the tensors are of a PaliGemma 2",
    ),
    "PaliGemma 2's config on PaliGemma 1's tensors": (
        text(model_type="gemma2"),
        "config.json is of a PaliGemma 2, the tensors are of a PaliGemma 1",
    ),
    "a norm less": (
        second(**{GEMMA_2_NORM.format(1, "post"): None}),
        r"1 missing \(.*layers\.1\.post_feedforward_layernorm",
    ),
    "the norms of one block less": (
        second(**{GEMMA_2_NORM.format(2, at): None for at in ["pre", "post"]}),
        r"2 missing \(.*layers\.2\.pre_feedforward_layernorm",
    ),
    "the first family's bend": (
        second_text(hidden_activation="relu"),
        "hidden_activation: expected",
    ),
    "the first family's word for its bend, which here is the exact one": (
        second_text(hidden_activation="gelu"),
        r'hidden_activation: expected "gelu_pytorch_tanh", found "gelu"',
    ),
    "a window in words": (
        second_text(sliding_window="all"),
        "sliding_window: expected",
    ),
    "kinds of one layer": (
        second_text(layer_types=["full_attention"]),
        "layer_types: expected 3 of",
    ),
    "an unknown kind of layer": (
        second_text(layer_types=["full_attention", "mamba", "full_attention"]),
        "layer_types: expected 3 of",
    ),
    **{
        f"{name} {value!r}": (
            second_text(**{name: value}),
            f"text_config.{name}: expected a number above 0",
        )
        for name in [
            *["query_pre_attn_scalar", "attn_logit_softcapping"],
            *["final_logit_softcapping", "sliding_window"],
        ]
        for value in [0, -1, "50", True, [], 2**31, float("nan"), 10**400]
    },
    **{
        f"{value} in a norm": (
            second(**{GEMMA_2_NORM.format(1, "post"): stored(np.full(10, value))}),
            r"layers\.1\.post_feedforward_layernorm\.weight holds ",
        )
        for value in [np.nan, np.inf]
    },
}

BROKEN = {
    f"{kind}: {case}": broken
    for kind, cases in {
        "file": WEIGHT_FILES,
        "tensors": TENSORS,
        "shards": SHARDS,
        "config": CONFIGS,
        "inputs": INPUTS,
        "families": FAMILIES,
    }.items()
    for case, broken in cases.items()
}
