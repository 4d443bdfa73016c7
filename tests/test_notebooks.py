"""The notebooks as committed: same code as their sources, clean outputs, real pictures.

Read with `json` alone, so that this runs without Jupyter; executing them is the marked
test at the end (extra `notebooks`).
"""

import importlib.util
import json
import re
import statistics
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

FOLDER = Path(__file__).parents[1] / "notebooks"
SOURCES = sorted((FOLDER / "src").glob("*.py"))
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
MACHINE = re.compile(r"/(home|root|work|tmp|usr|Users)/|[A-Z]:\\")
CHECK = re.compile(r"np\.testing\.assert_|^\s*assert ", re.MULTILINE)
LINK = re.compile(r"\]\((?!https?://|#)([^)\s]+)\)")
SOLUTION = re.compile(r"```python\n(.*?)```", re.DOTALL)
KIB = 1024

each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem[:2])


def cells(path: Path, kind: str | None = None) -> list[dict[str, Any]]:
    """Read a notebook's cells, of one kind or all."""
    found = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in found if kind in {None, cell["cell_type"]}]


def outputs(path: Path) -> list[dict[str, Any]]:
    return [output for cell in cells(path, "code") for output in cell["outputs"]]


def text(lines: str | list[str]) -> str:
    """Join what nbformat has as one string or as a list of lines."""
    return lines if isinstance(lines, str) else "".join(lines)


def parse_percent(source: str) -> list[tuple[str, str]]:
    """Cut a py:percent file into cells: kind and text, comment signs taken off."""
    found = []
    for block in re.split(r"^# %%", source, flags=re.MULTILINE)[1:]:
        head, _, body = block.partition("\n")
        kind = "markdown" if "[markdown]" in head else "code"
        if kind == "markdown":
            body = re.sub(r"^# ?", "", body, flags=re.MULTILINE)
        found.append((kind, body.strip("\n")))
    return found


def words_of(output: dict[str, Any]) -> list[str]:
    """Collect all the text of one output; a picture's bytes are none."""
    data = output.get("data", {})
    spoken = [text(data[kind]) for kind in data if kind.startswith("text/")]
    return [text(output.get("text", "")), *spoken]


def test_every_source_has_its_notebook() -> None:
    assert NOTEBOOKS
    assert [path.stem for path in SOURCES] == [path.stem for path in NOTEBOOKS]


@each
def test_cells_are_those_of_the_source(path: Path) -> None:
    source = (FOLDER / "src" / f"{path.stem}.py").read_text(encoding="utf-8")
    notebook = [(cell["cell_type"], text(cell["source"])) for cell in cells(path)]
    assert notebook == parse_percent(source)


@each
def test_it_was_run_once_from_top_to_bottom(path: Path) -> None:
    counts = [cell["execution_count"] for cell in cells(path, "code")]
    assert counts == list(range(1, len(counts) + 1))


@each
def test_nothing_went_wrong_and_nothing_complained(path: Path) -> None:
    kinds = {(o["output_type"], o.get("name", "")) for o in outputs(path)}
    assert not {k for k in kinds if k[0] == "error" or k[1] == "stderr"}


@each
def test_outputs_name_no_place_on_the_machine(path: Path) -> None:
    said = [words for output in outputs(path) for words in words_of(output)]
    assert not [words for words in said if MACHINE.search(words)]


@each
def test_metadata_hold_no_times_and_no_versions(path: Path) -> None:
    notebook = json.loads(path.read_text(encoding="utf-8"))
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    assert notebook["metadata"]["language_info"] == {"name": "python"}
    assert not [c for c in notebook["cells"] if set(c["metadata"]) - {"tags"}]


@each
def test_it_is_light(path: Path) -> None:
    assert path.stat().st_size <= 500 * KIB


def test_all_together_are_light() -> None:
    assert sum(path.stat().st_size for path in NOTEBOOKS) <= 5 * KIB * KIB


@each
def test_every_picture_has_words_and_a_caption(path: Path) -> None:
    pictures = 0
    for cell in cells(path, "code"):
        for output, below in pairwise([*cell["outputs"], {}]):
            if "image/png" not in output.get("data", {}):
                continue
            pictures += 1
            alt = output["metadata"]["image/png"]["alt"]
            caption = text(below["data"]["text/markdown"]).strip("*")
            assert len(alt.split()) >= 5
            assert text(output["data"]["text/plain"]) == alt
            assert caption.startswith(f"Figure {pictures}. ")
            assert caption.endswith(".")
    assert pictures >= 2


@each
def test_it_checks_a_number_before_the_readers_eyes(path: Path) -> None:
    assert [cell for cell in cells(path, "code") if CHECK.search(text(cell["source"]))]


def test_cells_that_need_weights_say_what_they_skip() -> None:
    tagged = [
        cell
        for path in NOTEBOOKS
        for cell in cells(path, "code")
        if "needs-weights" in cell["metadata"].get("tags", [])
    ]
    assert tagged
    for cell in tagged:
        said = "".join(words for o in cell["outputs"] for words in words_of(o))
        assert re.match(r"skipped\b.*[:,] .{20,}", said), text(cell["source"])


@each
def test_cells_are_short(path: Path) -> None:
    sources = [text(cell["source"]) for cell in cells(path, "code")]
    lengths = [len([li for li in s.splitlines() if li.strip()]) for s in sources]
    assert statistics.median(lengths) <= 7
    assert max(lengths) <= 25


@each
def test_it_opens_and_closes_as_all_do(path: Path) -> None:
    prose = "\n".join(text(cell["source"]) for cell in cells(path, "markdown"))
    heads = re.findall(r"^## (.+)$", prose, re.MULTILINE)
    assert prose.startswith("# ")
    assert heads[:3] == ["What you'll do", "What you'll learn", "What you'll need"]
    assert heads[-3:] == ["On your own", "In practice", "Further reading"]
    assert "<details>" in text(cells(path)[-1]["source"])


@pytest.mark.parametrize(
    "path", [*NOTEBOOKS, FOLDER / "README.md"], ids=lambda path: path.stem[:6]
)
def test_relative_links_lead_somewhere(path: Path) -> None:
    prose = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        prose = "\n".join(text(cell["source"]) for cell in cells(path, "markdown"))
    targets = [FOLDER / target.partition("#")[0] for target in LINK.findall(prose)]
    assert not [target for target in targets if not target.exists()]


def test_the_map_lists_every_notebook_with_its_picture() -> None:
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    for path in NOTEBOOKS:
        assert f"]({path.name})" in readme
        assert f"images/{path.stem[:2]}.png" in readme
        assert (FOLDER / "images" / f"{path.stem[:2]}.png").exists()


def executor() -> ModuleType:
    """Import `notebooks/execute.py`, which is no package's."""
    pytest.importorskip("jupytext")
    spec = importlib.util.spec_from_file_location("execute", FOLDER / "execute.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.notebook
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem[:2])
def test_it_runs_and_so_do_its_solutions(source: Path, tmp_path: Path) -> None:
    solutions = SOLUTION.findall(
        parse_percent(source.read_text(encoding="utf-8"))[-1][1]
    )
    assert solutions
    longer = tmp_path / source.name
    body = "".join(f"\n# %%\n{solution}" for solution in solutions)
    longer.write_text(source.read_text(encoding="utf-8") + body, encoding="utf-8")
    executor().execute(longer)
