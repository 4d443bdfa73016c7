"""``numpy-paligemma info``: what a checkpoint is, and what it costs to run."""

import argparse
import dataclasses
import json
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from numpy_paligemma.arrays.memory import Memory, memory_here
from numpy_paligemma.checkpoints.about.bill import (
    ANSWER_TOKENS,
    Bill,
    Stored,
    memory_bills,
    usual_tokens,
)
from numpy_paligemma.checkpoints.about.describe import Description, describe
from numpy_paligemma.checkpoints.about.outline import is_here, outline_folder
from numpy_paligemma.checkpoints.about.prompts import MIX, Prompt, prompts_of
from numpy_paligemma.checkpoints.about.room import fit_of
from numpy_paligemma.checkpoints.safetensors import PLAIN_NAMES
from numpy_paligemma.checkpoints.units import size_text
from numpy_paligemma.commands.options import positive

WIDTH = 79
LABEL = 13  # letters of the left column
TASKS = (
    "a pt checkpoint expects a task, such as caption en, answer en what is this?, "
    "detect cat; free questions get a caption or nothing (see --prompts)"
)

MAIN = (
    "main; generate takes the branch bfloat16 where there is one, unless --revision "
    "or --dtype asks for another"
)
SLOW = "  slow: swapped, or read from the disk again for every token"
OWN_TASK = (
    "this is a fine-tune: it answers only the prompts of the task that its name tells; "
    "those above are what its relatives understand"
)


def run(argv: Sequence[str]) -> None:
    """Say what a checkpoint is."""
    args = parser().parse_args(argv)
    folder = outline_folder(args.model, revision=args.revision, token=args.token)
    about = describe(folder, args.model)
    prompts = prompts_of(folder, about.kind)
    costs = _costs(about, args.tokens)
    if args.json:
        print(json.dumps(_object(about, prompts, costs), indent=2))
    elif args.prompts:
        print("\n".join(_prompt_lines(prompts)))
        if about.kind == "ft" and prompts == MIX:
            print("\n".join(textwrap.wrap(f"note: {OWN_TASK}", WIDTH)))
    else:
        print("\n".join(_lines(about, args.revision, costs)))


class _Costs(NamedTuple):
    """What a checkpoint takes of memory, and what there is of it."""

    tokens: int
    stored: str  # the dtype of the file that loading is counted from
    bills: dict[str, Bill]
    here: Memory


def _costs(about: Description, tokens: int | None) -> _Costs:
    """Count memory for one row, from the commonest dtype of the files."""
    tokens = tokens or usual_tokens(about.config)
    dtypes = about.files.dtypes if about.files else ()
    stored = next((dtype for dtype in dtypes if dtype in PLAIN_NAMES), "BF16")
    bills = memory_bills(about.config, tokens, stored=lambda _: Stored(stored))
    return _Costs(tokens, PLAIN_NAMES[stored], bills, memory_here())


def parser() -> argparse.ArgumentParser:
    """Make the parser."""
    p = argparse.ArgumentParser(
        "numpy-paligemma info",
        description="Say what a checkpoint is and what it costs; no weights are read.",
        allow_abbrev=False,
    )
    p.add_argument("model", help='hub name, folder, or "miniature"')
    p.add_argument(
        "--tokens",
        type=positive,
        metavar="N",
        help="positions to count memory for: picture, prompt and answer "
        f"(default: the picture's and {ANSWER_TOKENS} more)",
    )
    p.add_argument(
        "--prompts", action="store_true", help="the prompts that it understands"
    )
    p.add_argument("--json", action="store_true", help="all of it, for programs")
    p.add_argument("--revision", help="a branch, tag or commit on the hub")
    p.add_argument("--token", metavar="HF_…", help="access token, as for generate")
    return p


def _lines(about: Description, revision: str | None, costs: _Costs) -> Iterable[str]:
    """Write it all as text."""
    c, n = about.config, about.parameters
    yield about.model
    yield from _row("family", f"{about.family}, {about.size}")
    yield from _row("kind", f"{about.kind} ({about.because})")
    side = c.vision.image_size
    yield from _row(
        "pictures", f"{side} × {side} pixels, {c.vision.patches} soft tokens each"
    )
    if not is_here(about.model):
        yield from _row("revision", revision or MAIN)
    yield from _file_lines(about)
    yield ""
    yield "parameters"
    for part in ["vision", "projector", "embedding", "decoder", "total"]:
        yield f"  {part:{LABEL}} {getattr(n, part):>15,}"
    yield ""
    yield from _memory_lines(costs)
    yield from _notes(about)


def _memory_lines(costs: _Costs) -> Iterable[str]:
    """Write the table of memory."""
    here = costs.here
    yield f"memory for 1 row of {costs.tokens:,} positions, by --dtype"
    heads = ["weights", "KV cache", "activations", "total", "load peak"]
    yield f"  {'':9}" + "".join(f"{head:>12}" for head in heads) + "  fits"
    fits = {dtype: fit_of(bill, here) for dtype, bill in costs.bills.items()}
    for dtype, bill in costs.bills.items():
        parts = [bill.weights, bill.cache, bill.activations, bill.total, bill.load_peak]
        sizes = "".join(f"{size_text(part):>12}" for part in parts)
        yield f"  {dtype:9}{sizes}  {fits[dtype]}"
    swap = here.most - here.free
    room = f"{size_text(here.free)}{f' and {size_text(swap)} of swap' * (swap > 0)}"
    yield f"  fits: {here.whose} has {room} free"
    if "slow" in fits.values():
        yield SLOW


def _notes(about: Description) -> Iterable[str]:
    """Write what should be known before this checkpoint is asked."""
    stored = about.files.dtypes[:1] if about.files else ()
    for dtype in stored:
        yield f"  {PLAIN_NAMES.get(dtype, dtype)} is what the files hold: mapped, and not converted"
    if not stored:
        yield "  load peak: from a bfloat16 file"
    if about.kind == "pt":
        yield ""
        yield from textwrap.wrap(f"note: {TASKS}", WIDTH)


def _file_lines(about: Description) -> Iterable[str]:
    """Write what lies on the disk."""
    files = about.files
    if files is None:
        yield from _row("files", "no list of them here; sizes are those of config.json")
        return
    many = "1 file" if len(files.names) == 1 else f"{len(files.names)} files"
    absent = f", {files.absent} of them not here" if files.absent else ""
    yield from _row("weights", f"{files.tensors} tensors in {many}{absent}")
    dtypes = f", {' and '.join(files.dtypes)}" if files.dtypes else ""
    if files.bytes is not None:
        size = f"{files.bytes:,} bytes ({size_text(files.bytes)}){dtypes}"
        yield from _row("size", size)
    yield from _row("names", files.layout)
    if files.numbers not in {None, about.parameters.total}:
        yield from _row(
            "note",
            f"the files hold {files.numbers:,} numbers, "
            f"config.json asks for {about.parameters.total:,}",
        )


def _row(label: str, text: str) -> list[str]:
    """Write a label and what belongs to it, wrapped beside it."""
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=f"  {label:{LABEL}} ",
        subsequent_indent=" " * (LABEL + 3),
    )


def _prompt_lines(prompts: Sequence[Prompt]) -> Iterable[str]:
    """Write the prompts, each with what comes of it."""
    wide = max(len(p.prompt) for p in prompts)
    for p in prompts:
        yield from textwrap.wrap(
            p.answer,
            WIDTH,
            initial_indent=f"{p.prompt:{wide}}  ",
            subsequent_indent=" " * (wide + 2),
            break_on_hyphens=False,
        )


def _object(
    about: Description,
    prompts: Sequence[Prompt],
    costs: _Costs,
) -> dict[str, Any]:
    """Write all of it as one object."""
    fields = dataclasses.asdict(about)
    fields["parameters"]["total"] = about.parameters.total
    text = fields["config"]["text"]
    text["sliding_blocks"] = sorted(text["sliding_blocks"])
    bills = {
        dtype: dataclasses.asdict(bill)
        | {"total": bill.total, "fits": fit_of(bill, costs.here)}
        for dtype, bill in costs.bills.items()
    }
    memory = {
        "tokens": costs.tokens,
        "rows": 1,
        "stored": costs.stored,
        "bytes": bills,
        "here": dataclasses.asdict(costs.here),
    }
    return fields | {
        "soft_tokens": about.config.vision.patches,
        "memory": memory,
        "prompts": [dataclasses.asdict(p) for p in prompts],
    }
