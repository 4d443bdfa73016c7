"""``pytest tests/exercises --layers my_layers.py``: a reader's layers under our tests."""

import shutil
import textwrap
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from exercises.checks import Finding
from exercises.reader import UnreadableLayersError, load

LAYERS = pytest.StashKey[dict[str, Any]]()
FINDINGS = pytest.StashKey[list[Finding]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    about = "a Python file with layers of your own, to be compared with the package's"
    parser.addoption("--layers", metavar="FILE", help=about)


def pytest_configure(config: pytest.Config) -> None:
    file = config.getoption("--layers", default=None)
    if file is None:
        return
    try:
        config.stash[LAYERS] = load(config.invocation_params.dir / file)
    except UnreadableLayersError as error:
        msg = f"--layers {file} does not load: {error}"
        raise pytest.UsageError(msg) from error
    config.stash[FINDINGS] = []
    config.option.reportchars = ""  # the table below says it once
    config.option.tbstyle = "no"


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With a file, test the file; without one, test the exercises themselves."""
    if not collection_path.name.startswith("test_"):
        return None
    readers = collection_path.name == "test_my_layers.py"
    return True if readers != (LAYERS in config.stash) else None


@pytest.fixture
def layers(pytestconfig: pytest.Config) -> dict[str, Any]:
    return pytestconfig.stash[LAYERS]


@pytest.fixture
def findings(pytestconfig: pytest.Config) -> list[Finding]:
    return pytestconfig.stash[FINDINGS]


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    findings = config.stash.get(FINDINGS, [])
    fill = partial(textwrap.fill, width=shutil.get_terminal_size().columns)
    colours = {"right": "green", "wrong": "red", "float64": "yellow"}
    for finding in findings:
        if finding.verdict != "not defined":
            line = fill(
                str(finding), subsequent_indent=" " * 25, break_on_hyphens=False
            )
            colour = colours.get(finding.verdict, "light")
            terminalreporter.write_line(line, **{colour: True})
    undefined = [f.name for f in findings if f.verdict == "not defined"]
    if undefined:
        terminalreporter.write_line(fill(f"not defined: {', '.join(undefined)}"))
