"""``pytest -m weights --model NAME``: the pair of models, and the report at the end."""

import pytest
from report import REPORT


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what was found, to be pasted into an issue."""
    report = terminalreporter.config.stash.get(REPORT, None)
    if report is not None and report.answers:
        terminalreporter.section("to paste into an issue")
        terminalreporter.write_line(report.text())
