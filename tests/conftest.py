"""What several tests share: a seeded generator and one tiny checkpoint on disk."""

from pathlib import Path

import numpy as np
import pytest
from tiny import write_checkpoint


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One float32 checkpoint for all; nobody writes into it."""
    return write_checkpoint(tmp_path_factory.mktemp("tiny") / "checkpoint")
