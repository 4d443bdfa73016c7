"""The tower: imports point down, each library has its file, `model/` stays small."""

import ast
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import numpy_paligemma

PACKAGE = Path(numpy_paligemma.__file__).parent
NAME = PACKAGE.name
FILES = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts): path
    for path in sorted(PACKAGE.rglob("*.py"))
    if "bundled" not in path.parts
}
FLOORS = {
    "model": 0,
    **dict.fromkeys(["arrays", "inputs", "answers"], 1),
    "checkpoints": 2,
    "decoding": 3,
    "paligemma": 4,
    "loading": 5,
    **dict.fromkeys(["traces", "__init__"], 6),
    "commands": 7,
    "__main__": 8,
}
# what else than NumPy a file may import; anywhere but here it is one library too many
LIBRARIES = {
    "arrays.device": {"cupy"},
    "arrays.memory": {"psutil"},
    "arrays.threads": {"threadpoolctl"},
    "answers.drawing": {"PIL"},
    "answers.paste": {"PIL"},
    "answers.tags": {"PIL"},
    "inputs.image": {"PIL"},
    "inputs.tokenizer_json": {"tokenizers"},
    "inputs.tokenizer_model": {"sentencepiece"},
    "checkpoints.safetensors": {"safetensors"},
    "checkpoints.hub.client": {"huggingface_hub"},
    "commands.progress": {"tqdm"},
}
LINES_OF_THE_MODEL = 1200
LINES_OF_A_BODY = 25  # without its docstring


def room(module: str) -> str:
    """Name the folder, or the file, that lies directly in the package."""
    return module.split(".")[1]


def imports(module: str) -> set[str]:
    """List what a file imports, anywhere in it; our own files by their full names."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(FILES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module}: relative import"
            base = str(node.module)
            for alias in node.names:
                full = f"{base}.{alias.name}"
                known = full in FILES or f"{full}.__init__" in FILES
                found.add(full if known else base)
    return {
        f"{name}.__init__" if f"{name}.__init__" in FILES else name for name in found
    }


def ours(module: str) -> set[str]:
    return {name for name in imports(module) if name.split(".")[0] == NAME}


def in_model() -> list[str]:
    return [module for module in FILES if room(module) == "model"]


@pytest.mark.parametrize("module", FILES)
def test_imports_point_down(module: str) -> None:
    here = FLOORS[room(module)]
    for name in ours(module):
        assert name in FILES, f"{module} imports {name}, which is no file"
        same_room = room(name) == room(module)
        assert same_room or FLOORS[room(name)] < here, f"{module} looks up at {name}"


def test_no_file_leads_back_to_itself() -> None:
    order = TopologicalSorter({module: ours(module) for module in FILES})
    assert len(list(order.static_order())) == len(FILES)  # CycleError names the circle


@pytest.mark.parametrize("module", FILES)
def test_every_library_has_its_file(module: str) -> None:
    foreign = {name.split(".")[0] for name in imports(module)} - {NAME}
    foreign -= {"numpy", *sys.stdlib_module_names}
    assert foreign == LIBRARIES.get(module.removeprefix(f"{NAME}."), set())


def test_the_model_is_an_afternoons_reading() -> None:
    lines = sum(
        len(FILES[module].read_text(encoding="utf-8").splitlines())
        for module in in_model()
    )
    assert lines <= LINES_OF_THE_MODEL


@pytest.mark.parametrize("module", in_model())
def test_every_function_of_the_model_is_seen_at_a_glance(module: str) -> None:
    for node in ast.walk(ast.parse(FILES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            lines = (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0
            assert lines <= LINES_OF_A_BODY, f"{node.name} has {lines} lines"


@pytest.mark.parametrize("module", in_model())
def test_only_the_cache_changes_itself(module: str) -> None:
    """Everywhere else in the model no attribute is ever assigned to."""
    if module.endswith(".cache"):
        return
    for node in ast.walk(ast.parse(FILES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute):
            assert isinstance(node.ctx, ast.Load), f"line {node.lineno}"
        assert not isinstance(node, ast.Global | ast.Nonlocal)


@pytest.mark.parametrize("module", in_model())
def test_classes_of_the_model_hold_and_do_not_act(module: str) -> None:
    """They are frozen dataclasses, named tuples or protocols; the cache alone acts."""
    for node in ast.walk(ast.parse(FILES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.ClassDef) and node.name != "LayerCache":
            marks = {ast.unparse(part) for part in [*node.bases, *node.decorator_list]}
            allowed = {"Protocol", "NamedTuple", "dataclass(frozen=True, slots=True)"}
            assert marks & allowed, node.name


@pytest.mark.parametrize("module", FILES)
def test_printing_is_for_the_commands(module: str) -> None:
    names = {
        node.id
        for node in ast.walk(ast.parse(FILES[module].read_text(encoding="utf-8")))
        if isinstance(node, ast.Name)
    }
    assert room(module) == "commands" or "print" not in names
