"""A reader's layers, one test each; collected where ``--layers`` names a file."""

from typing import Any

import pytest

from exercises.checks import Finding, examine
from exercises.ladder import LADDER


@pytest.mark.parametrize("layer", LADDER)
def test_layer_is_right(
    layer: str, layers: dict[str, Any], findings: list[Finding]
) -> None:
    finding = examine(layer, layers)
    findings.append(finding)
    if finding.open:
        pytest.skip(str(finding))
    if finding.verdict != "right":
        pytest.fail(str(finding), pytrace=False)
