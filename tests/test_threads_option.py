"""`--threads`: how many cores a command takes."""

from pathlib import Path

import pytest
from command_line import Command

from numpy_paligemma.arrays.threads import available_threads
from numpy_paligemma.checkpoints.hub import MINIATURE
from numpy_paligemma.model import parallel


@pytest.mark.usefixtures("take_threads")
def test_a_command_takes_as_many_threads_as_it_is_told(
    command: Command, picture: Path
) -> None:
    asked = ["--model", MINIATURE, "--image", picture, "--prompt", "caption en"]
    answers = set()
    for words, threads in [
        (["--threads", "3"], 3),
        (["--threads=1"], 1),
        ([], available_threads()),
    ]:
        ran = command(*asked, "--no-sample", "--max-new-tokens", "3", *words)
        assert ran.status == 0
        assert parallel.threads() == threads
        answers.add(ran.out)
    assert len(answers) == 1


@pytest.mark.parametrize("many", ["0", "-1", "two", "1.5", "", "²", "1" * 20])
def test_threads_that_are_none_are_a_usage_error(command: Command, many: str) -> None:
    asked = ["--image", "x.png", "--prompt", "caption en"]
    ran = command(*asked, f"--threads={many}")
    assert ran.status == 2
    said = f"argument --threads: expected a whole number above 0, found {many!r}\n"
    assert ran.err.endswith(said)


def test_more_threads_than_any_machine_has_are_a_usage_error(command: Command) -> None:
    ran = command("--image", "x.png", "--prompt", "caption en", "--threads=1025")
    assert ran.status == 2
    said = "argument --threads: expected at most 1024, found '1025'\n"
    assert ran.err.endswith(said)
