"""Which tap a name in a trace is: our own path, or a place in the published module tree.

Forward hooks of PyTorch give module paths, and a module's output or input. Whatever
stands before the tree (``model.``, ``base_model.model.``) and whichever release wrote
it, `checkpoints.taps` says which tap the place is. A name that is no tap of ours keeps
its spelling, and is compared with the other side's equal.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from numpy_paligemma.checkpoints.names import DECODER, PROJECTOR, VISION
from numpy_paligemma.checkpoints.taps import (
    BRIDGE,
    DECODER_BLOCK,
    DECODER_END,
    GEMMA_2_BLOCK,
    VISION_BLOCK,
    VISION_START,
    WINDOW,
    Place,
    published_module,
)

INPUTS = ("input_ids", "attention_mask", "token_type_ids", "pixel_values")
STEP = re.compile(r"^(?:prefill/)?(?:step_?(\d+)/)?")
# what a hook's name may say behind the module: which end of it, which of several arrays
END = re.compile(
    r"(?:[./:@](in|out)(?:puts?)?(?:[./:]?\[?\d\]?)?|\[0\])$", re.IGNORECASE
)
TREE = re.compile(
    r"(?:^|\.)((?:model\.)?(?:vision_tower|language_model|multi_modal_projector)\b"
    r"|lm_head$)"
)
# a tower or a decoder that was run alone
ALONE = (
    (re.compile(r"^(?:model\.)?vision_model(?=\.|$)"), VISION.rstrip(".")),
    (re.compile(r"^(?:model\.)?(?=layers\.|embed_tokens$|norm$)"), DECODER),
)
BLOCK = re.compile(r"layers\.(\d+)(?=\.|$)")
_EYE, _GEMMA = VISION + "encoder.layers.{}", DECODER + "layers.{}"

# the same arrays at other places than the table's: (module, end) -> tap; IN stands for
# what goes into a block, the tap before it
IN = "in"
ELSEWHERE = {
    (VISION + "embeddings", "input"): "inputs/pixel_values",
    (VISION + "embeddings.patch_embedding", "input"): "inputs/pixel_values",
    (VISION.rstrip("."), "input"): "inputs/pixel_values",
    (VISION.rstrip("."), "output"): "vision/out",
    (PROJECTOR, "input"): "vision/out",
    (PROJECTOR.removesuffix(".linear"), "input"): "vision/out",
    (PROJECTOR.removesuffix(".linear"), "output"): "projector/out",
    (DECODER.rstrip("."), "output"): "decoder/out",
    ("lm_head", "input"): "decoder/out",
    **{(_EYE + end, "input"): f"vision/{IN}" for end in ("", ".layer_norm1")},
    **{(_GEMMA + end, "input"): f"decoder/{IN}" for end in ("", ".input_layernorm")},
    **{
        (f"{block}.self_attn{end}", "input"): f"{room}/block{{:02}}/attention_norm"
        for block, room in ((_EYE, "vision"), (_GEMMA, "decoder"))
        for end in ("", ".q_proj", ".k_proj", ".v_proj")
    },
    **{
        (f"{block}.mlp{end}", "input"): f"{room}/block{{:02}}/mlp_norm"
        for block, room in ((_EYE, "vision"), (_GEMMA, "decoder"))
        for end in ("", ".fc1", ".gate_proj", ".up_proj")
    },
    (_EYE + ".self_attn", "output"): "vision/block{:02}/attention/out",
    (_GEMMA + ".self_attn", "output"): "decoder/block{:02}/attention/out",
    (_EYE + ".mlp.fc2", "output"): "vision/block{:02}/mlp/out",
    (_GEMMA + ".mlp.down_proj", "output"): "decoder/block{:02}/mlp/out",
}
# Gemma 2 has the norms' names, and a head without the cap that comes behind it
GEMMA_2_ELSEWHERE = {
    (_GEMMA + ".self_attn", "output"): "decoder/block{:02}/attention/out",
    (_GEMMA + ".post_attention_layernorm", "input"): "decoder/block{:02}/attention/out",
    (_GEMMA + ".post_feedforward_layernorm", "input"): "decoder/block{:02}/mlp/out",
}
GEMMA_2_MARKS = re.compile(r"feedforward_layernorm|_post_norm$|window_mask$")


@dataclass(frozen=True, slots=True)
class Name:
    """A name of a trace, read."""

    tap: str  # our path, or the name itself
    step: int = 0  # 0 is the pass over the whole prompt
    known: bool = True  # a tap or an input of ours
    why: str = ""  # why it is none

    @property
    def path(self) -> str:
        """The tap's path with its step in front."""
        return f"step{self.step:03}/{self.tap}" if self.step else self.tap


def is_gemma_2(names: Iterable[str]) -> bool:
    """Tell by the names of a trace whether its decoder is a Gemma 2."""
    return any(GEMMA_2_MARKS.search(name) for name in names)


def read_name(name: str, *, gemma_2: bool) -> Name:
    """Say which tap a name is, ours or a module's."""
    found = STEP.match(name)
    step = int(found[1] or 0) if found else 0
    rest = name[found.end() :] if found else name
    bare = rest.removeprefix("inputs/")
    if bare in INPUTS or bare == "pixels":
        return Name("inputs/" + ("pixel_values" if bare == "pixels" else bare), step)
    if rank(rest) is not None:
        return Name(rest, step)
    tap, why = _module_tap(rest, gemma_2=gemma_2)
    return Name(tap or rest, step, known=bool(tap), why=why)


def _module_tap(name: str, *, gemma_2: bool) -> tuple[str, str]:
    """Find the tap at an end of a module: its path, or why there is none."""
    ending = END.search(name)
    end = "input" if ending and (ending[1] or "").lower() == "in" else "output"
    module = name[: ending.start()] if ending else name
    module = module.replace("/", ".")
    if tree := TREE.search(module):
        module = module[tree.start(1) :]
    for pattern, front in ALONE:
        module = pattern.sub(front, module, count=1)
    module = published_module(module)
    number = BLOCK.search(module)
    template = BLOCK.sub("layers.{}", module, count=1)
    if gemma_2 and (template, end) == ("lm_head", "output"):
        return "", "what Gemma 2's head says before its cap, which is no tap"
    tap = table(gemma_2=gemma_2).get((template, end), "")
    i = int(number[1]) if number else 0
    if tap.endswith(f"/{IN}"):
        return _before_block(tap.split("/")[0], i), ""
    return tap.format(i), "" if tap else "no tap is at this place"


def _before_block(room: str, i: int) -> str:
    """Name what goes into a block."""
    if i:
        return f"{room}/block{i - 1:02}/out"
    return "vision/embed" if room == "vision" else "fusion/out"


def table(*, gemma_2: bool) -> dict[tuple[str, str], str]:
    """List every end of a module that is a tap: (module, end) -> tap, {} for numbers."""
    block = DECODER_BLOCK | (GEMMA_2_BLOCK if gemma_2 else {})
    taps: dict[str, Place] = VISION_START | VISION_BLOCK | BRIDGE | block | DECODER_END
    listed: dict[tuple[str, str], str] = {}
    listed |= {(place.module, place.end): tap for tap, place in taps.items()}
    listed[DECODER + "layers.0", "input"] = "fusion/out"
    if gemma_2:
        listed |= GEMMA_2_ELSEWHERE
    return ELSEWHERE | {key: tap for key, tap in listed.items() if key[1] != "inside"}


def _order() -> dict[str, tuple[int, int]]:
    """Rank every tap by the model's order: where its room stands, and it in the block."""
    norms = [
        "decoder/block{:02}/attention_post_norm",
        "decoder/block{:02}/mlp_post_norm",
    ]
    block = list(DECODER_BLOCK)
    block.insert(block.index("decoder/block{:02}/mid"), norms[0])
    block.insert(block.index("decoder/block{:02}/out"), norms[1])
    rooms = [
        [f"inputs/{name}" for name in INPUTS],
        list(VISION_START),
        list(VISION_BLOCK),
        [*BRIDGE, *WINDOW],
        block,
        list(DECODER_END),
    ]
    return {tap: (i, j) for i, taps in enumerate(rooms) for j, tap in enumerate(taps)}


ORDER = _order()
NUMBER = re.compile(r"(?<=block)\d+")


def rank(tap: str) -> tuple[int, int, int] | None:
    """Say where a tap stands in the model: its room, its block, its place in there."""
    number = NUMBER.search(tap)
    template = NUMBER.sub("{:02}", tap, count=1)
    if template not in ORDER:
        return None
    room, place = ORDER[template]
    return room, int(number[0]) if number else 0, place


def in_block(tap: str) -> str:
    """Take the room's and the block's name off: ``attention/q``; others stay whole."""
    return re.sub(r"^(?:vision|decoder)/block\d+/", "", tap)


def sort_key(name: Name, place: int) -> tuple[int, ...]:
    """Order by the model: passes, rooms, blocks; unknown names last, as in the file."""
    at = rank(name.tap)
    return (0, name.step, *at) if at is not None else (1, name.step, place)
