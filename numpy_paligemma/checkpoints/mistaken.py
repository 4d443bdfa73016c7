"""What a damaged file really is: a pointer, a web page, half a download.

Most files that do not open are not damaged at random: something else was saved under
their name. Its first bytes tell, and each has another way out.
"""

from pathlib import Path

AGAIN = "download it again"
HEAD = 64  # bytes that are looked at
TEXT = 1 << 16  # a file of tensors that is shorter than this may be a server's answer
BEGINNINGS = (
    (
        b"version https://git-lfs.github.com/spec",
        "it is a Git LFS pointer; run `git lfs pull` in its folder",
    ),
    (b"<!DOCTYPE", f"it is a web page; {AGAIN}"),
    (b"<!doctype", f"it is a web page; {AGAIN}"),
    (b"<html", f"it is a web page; {AGAIN}"),
    (b"<?xml", f"it is a web page; {AGAIN}"),
    (b"PK\3\4", "it is a zip archive, as PyTorch writes; save it as safetensors"),
    (b"GGUF", "it is a GGUF file; take the safetensors of the checkpoint"),
    (bytes(16), f"it begins with zeros, as an unfinished download does; {AGAIN}"),
)


def what_is_wrong(path: Path, error: Exception) -> str:
    """Say what lies where a file was expected, and what to do: the end of a message.

    Parameters
    ----------
    path : Path
    error : Exception
        What opening it said; used where the first bytes say nothing.
    """
    if isinstance(error, OSError) and error.strerror:
        return f"it cannot be read: {error.strerror}"
    return what_it_is(path) or f"{error}; {AGAIN}"


def what_it_is(path: Path) -> str:
    """Say what a file is by its first bytes; nothing where they do not tell."""
    try:
        with path.open("rb") as file:
            head = file.read(HEAD)
        size = path.stat().st_size
    except OSError as error:
        return f"it cannot be read: {error.strerror}"
    if not head:
        return f"it is empty; {AGAIN}"
    for beginning, told in BEGINNINGS:
        if head.startswith(beginning):
            return told
    if path.suffix != ".json" and size < TEXT and head.isascii():
        words = " ".join(head.decode().split())
        if words.isprintable():
            return f"it is text: {words!r}; {AGAIN}"
    return ""
