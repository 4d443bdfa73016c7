"""Execute the notebooks: src/NN_title.py (jupytext, py:percent) -> NN_title.ipynb.

    python notebooks/execute.py              all of them
    python notebooks/execute.py 01 04        those
    python notebooks/execute.py --check      all, touching no committed file

The cell tagged "cover" lends its first picture to images/NN.png, for the README. What
is written depends on the source and the results alone: no times, no paths, no random
cell ids. Needs the extra `notebooks`.
"""

import argparse
import base64
import re
import time
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

HERE = Path(__file__).resolve().parent
METADATA = {
    "kernelspec": {
        "display_name": "Python 3",
        "language": "python",
        "name": "python3",
    },
    "language_info": {"name": "python"},
}


def main() -> None:
    """Execute what was asked for; the first cell that fails stops with its traceback."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("numbers", nargs="*", help="such as 01; default: all")
    parser.add_argument("--check", action="store_true", help="write nothing")
    args = parser.parse_args()
    for source in sources(args.numbers):
        began = time.perf_counter()
        notebook = execute(source)
        if not args.check:
            write(notebook, source.stem)
        print(f"{source.stem}: {time.perf_counter() - began:.1f} s", flush=True)


def sources(numbers: list[str]) -> list[Path]:
    """Find the sources by their numbers, in order; all of them for no number."""
    found = sorted((HERE / "src").glob("[0-9][0-9]_*.py"))
    unknown = set(numbers) - {path.name[:2] for path in found}
    if unknown:
        msg = f"no such notebook: {', '.join(sorted(unknown))}"
        raise SystemExit(msg)
    return [path for path in found if not numbers or path.name[:2] in numbers]


def execute(source: Path) -> NotebookNode:
    """Run one source in a fresh kernel beside the notebooks."""
    notebook = jupytext.read(source, fmt="py:percent")
    NotebookClient(
        notebook,
        timeout=300,
        kernel_name="python3",
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(HERE)}},
    ).execute()
    return settled(notebook)


def settled(notebook: NotebookNode) -> NotebookNode:
    """Take out what would differ on the next run, or names this machine."""
    notebook.metadata = nbformat.from_dict(METADATA)
    for number, cell in enumerate(notebook.cells, 1):
        cell.id = f"cell-{number:02d}"
        cell.metadata = NotebookNode(
            {key: value for key, value in cell.metadata.items() if key == "tags"}
        )
        for output in cell.get("outputs", []):
            if "text" in output:
                output.text = without_root(output.text)
            for kind, data in output.get("data", {}).items():
                if kind.startswith("text/"):
                    output.data[kind] = without_root(data)
    return notebook


def without_root(text: str) -> str:
    """Name files from the repository's root on."""
    return re.sub(re.escape(f"{HERE.parent}") + r"[/\\]?", "", text)


def write(notebook: NotebookNode, stem: str) -> None:
    """Write the notebook, and its cover."""
    nbformat.write(notebook, HERE / f"{stem}.ipynb")
    covers = [
        output.data["image/png"]
        for cell in notebook.cells
        if "cover" in cell.metadata.get("tags", [])
        for output in cell.outputs
        if "image/png" in output.get("data", {})
    ]
    for cover in covers[:1]:
        (HERE / "images").mkdir(exist_ok=True)
        (HERE / "images" / f"{stem[:2]}.png").write_bytes(base64.b64decode(cover))


if __name__ == "__main__":
    main()
