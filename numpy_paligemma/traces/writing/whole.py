"""A file that is there whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self


class WholeFile:
    """A file that is written beside its place, and takes it when it is complete.

    Where something goes wrong on the way, a full disk or Ctrl-C, or nothing is written,
    there stays what was there before. A symbolic link stays one.

    Parameters
    ----------
    path : Path

    Raises
    ------
    OSError
        From every method, in one line that names the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        mine = f".numpy-paligemma-{os.getpid()}-{id(self)}"
        self._beside = self.path.with_name(mine)
        self._file: BinaryIO
        self._touched = False

    def __enter__(self) -> Self:
        """Open the file beside."""
        with self._telling():
            with suppress(FileNotFoundError):
                self.path.lstat()  # raises where the name is too long
            self._file = self._beside.open("wb")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Put the file in its place, or take it away where there was an error."""
        try:
            if kind is not None:
                with suppress(OSError):  # what is raised already says it
                    self._file.close()
                return
            with self._telling():
                self._file.close()
                if self._touched:
                    self._beside.replace(self.path)
        finally:
            self._beside.unlink(missing_ok=True)

    def write(self, data: bytes | memoryview, at: int | None = None) -> None:
        """Write behind what was written last, or from byte `at` on."""
        self._touched = True
        with self._telling():
            if at is not None:
                self._file.seek(at)
            self._file.write(data)

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """Say in an error which file it is about, and what to do."""
        try:
            yield
        except OSError as error:
            msg = f"{self.path}: cannot be written ({error.strerror}); "
            raise OSError(msg + "choose another place") from error


def check_place(path: Path) -> None:
    """Refuse a place where no file can be written; OSError in one line."""
    with WholeFile(path):
        pass
