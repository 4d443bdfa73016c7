"""What several tests share: a generator, a picture, a tiny checkpoint, a command."""

import importlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from command_line import Command, Ran
from hypothesis import settings
from PIL import Image
from tiny import write_checkpoint

from numpy_paligemma.arrays.threads import use_threads
from numpy_paligemma.commands import main

# how long an example takes says more of the machine's other work than of the code
settings.register_profile("no clock", deadline=None)
settings.load_profile("no clock")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Say which checkpoint the tests marked `weights` are about."""
    group = parser.getgroup("weights", "a real checkpoint, with -m weights")
    about = "a hub name, a folder, or miniature"
    group.addoption("--model", metavar="NAME", help=about)
    about = "what transformers computes in; bfloat16 takes half the memory"
    dtypes = ("float32", "bfloat16")
    group.addoption("--model-dtype", choices=dtypes, default="float32", help=about)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One float32 checkpoint for all; nobody writes into it."""
    return write_checkpoint(tmp_path_factory.mktemp("tiny") / "checkpoint")


@pytest.fixture
def take_threads() -> Iterator[Callable[[int | None], None]]:
    """Take so many threads, and in the end as many as before."""
    yield use_threads
    use_threads()


@pytest.fixture
def training(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Import a file of the training code, which is no part of the package."""
    pytest.importorskip("matplotlib")
    monkeypatch.syspath_prepend(Path(__file__).parents[1])
    return lambda name: importlib.import_module(f"weights.training.{name}")


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    """Run the command line in this process."""

    def run(*argv: str | Path) -> Ran:
        capsys.readouterr()
        try:
            status = main([str(word) for word in argv])
        except SystemExit as left:  # argparse's way
            status = int(left.code or 0)
        return Ran(status, *capsys.readouterr())

    return run


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "picture.png"
    levels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    Image.fromarray(levels).save(path)
    return path
