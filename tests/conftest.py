"""What several tests share: a seeded generator and one tiny checkpoint on disk."""

from pathlib import Path

import numpy as np
import pytest
from tiny import write_checkpoint


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
