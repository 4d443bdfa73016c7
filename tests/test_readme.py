"""The README says what the code says: its tree, its options, its shapes."""

import argparse
import ast
import re
from pathlib import Path

import numpy as np
import pytest

from numpy_paligemma import load_hf_model
from numpy_paligemma.commands.options import parser
from numpy_paligemma.model.tap import recorder

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def first_line(path: Path) -> str:
    doc = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    assert doc, f"{path} has no docstring"
    return doc.split("\n")[0]


def modules() -> list[Path]:
    package = ROOT / "numpy_paligemma"
    return [p for p in sorted(package.rglob("*.py")) if p.name != "__main__.py"]


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(ROOT)))
def test_the_tree_gives_every_file_its_own_first_line(path):
    name = path.parent.name + "/" if path.name == "__init__.py" else path.name
    line = rf"^[│├└─ ]*{re.escape(name)} +{re.escape(first_line(path))}$"
    assert re.search(line, README, re.MULTILINE), (
        f"README's tree: {name}  {first_line(path)}"
    )


def options() -> list[argparse.Action]:
    return [a for a in parser()._actions if a.dest != "help"]


@pytest.mark.parametrize("option", options(), ids=lambda a: a.option_strings[0])
def test_the_table_of_options_repeats_the_help(option):
    default = "required" if option.required else f"`{option.default}`"
    if option.default in {None, False} and not option.required:
        default = ""
    text = option.help.removesuffix(" (default %(default)s)")
    row = f"| `{option.option_strings[0]}` | {default} | {text} |"
    assert row in README, row


def test_the_table_of_shapes_is_what_the_miniature_shows():
    model, processor = load_hf_model("miniature")
    inputs = processor(["caption en"], [np.zeros((112, 112, 3), np.uint8)])
    tap, seen = recorder()
    model.logits(**inputs, tap=tap)
    for name, x in seen.items():
        if "block" in name and "block00" not in name:
            continue
        row = f"| `{name}` | {' × '.join(map(str, x.shape))} |"
        assert row in README, row


def test_quick_start_is_two_lines_near_the_top():
    blocks = re.findall(r"^```sh\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    assert len(blocks[0].strip().split("\n")) == 2
    assert README[: README.index(blocks[0])].count("\n") <= 20


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        if not target.startswith("http"):
            assert (ROOT / target).exists(), target
