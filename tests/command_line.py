"""The command line, run in this process: what is left of it."""

from collections.abc import Callable
from typing import NamedTuple


class Ran(NamedTuple):
    """What is left of a command."""

    status: int
    out: str
    err: str


Command = Callable[..., Ran]


def assert_one_line(ran: Ran, status: int) -> None:
    assert ran.status == status, ran
    assert not ran.out
    assert ran.err.count("\n") == 1, ran.err
    assert ran.err.endswith("\n")
