"""Why the hub's files cannot be had, each reason in one line with the way out."""

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager

LOGIN = "log in with `hf auth login` or HF_TOKEN"
AWAY = {  # how each library spells it, from the failed connection up
    "gaierror": "its name is not known to this network",
    "TimeoutException": "it did not answer in time",
    "Timeout": "it did not answer in time",
    "ConnectError": "no connection",
    "ConnectionError": "no connection",
}
OFFLINE = "HF_HUB_OFFLINE is set"
BROKEN = {  # in the middle of a file
    "RemoteProtocolError",
    "ReadError",
    "ChunkedEncodingError",
    "ProtocolError",
}
FULL = {errno.ENOSPC, errno.EDQUOT}
UNWRITABLE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.ENOENT}


class HubError(OSError):
    """A checkpoint that cannot be had; the message is one line with the way out."""


class HubUnreachableError(HubError):
    """The hub did not answer, or not now: what is on this disk may do.

    Parameters
    ----------
    message : str
    why : str
        In a few words: `OFFLINE`, "no connection".
    """

    def __init__(self, message: str, why: str) -> None:
        super().__init__(message)
        self.why = why


@contextmanager
def told(name: str, revision: str | None, instead: str) -> Iterator[None]:
    """Turn whatever goes wrong inside into a `HubError`.

    Parameters
    ----------
    name : str
        The repository.
    revision : str or None
    instead : str
        What else the user may do, such as "give a folder".
    """
    try:
        yield
    except HubError:
        raise
    except Exception as error:  # its HTTP library, and so its errors, vary by version
        causes = _causes(error)
        # by name: what raises them is slow to import, and is not the same in all versions
        kinds = [kind.__name__ for cause in causes for kind in type(cause).__mro__]
        answer = _answer(causes)
        reason = (
            _of_this_disk(name, causes)
            or _of_the_answer(name, revision, kinds, answer, instead)
            or _of_the_network(name, kinds, answer[0], said(error), instead)
            or f"{name}: the download failed ({said(error)}); {instead}"
        )
        if why := _why_away(kinds, answer[0]):
            raise HubUnreachableError(reason, why) from error
        raise HubError(reason) from error


def said(error: BaseException) -> str:
    """Say an error's own words: the first line, without a link's secrets."""
    line = str(error).strip().split("\n")[0] or type(error).__name__
    return re.sub(r"\?[^\s'\"]*", "", line)


def _causes(error: BaseException) -> list[BaseException]:
    """List an error and what led to it, the first last."""
    found: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in found:
        found.append(cause)
        cause = cause.__cause__ or cause.__context__
    return found


def _answer(causes: list[BaseException]) -> tuple[int, str]:
    """Find the status and the hub's own words in what was raised; 0 if it said nothing."""
    for cause in causes:
        response = getattr(cause, "response", None)
        if response is not None:
            words = response.headers.get("X-Error-Message") or ""
            return response.status_code, " ".join(words.split()).rstrip(".")
    return 0, ""


def _why_away(kinds: list[str], status: int) -> str | None:
    """Say what may only be a matter of waiting, or of a network; nothing if none is."""
    if status:
        return f"it answered {status}" if status >= 500 or status == 429 else None
    if "OfflineModeIsEnabled" in kinds:
        return OFFLINE
    return next((why for kind, why in AWAY.items() if kind in kinds), None)


def _of_this_disk(name: str, causes: list[BaseException]) -> str | None:
    for cause in causes:
        if not isinstance(cause, OSError):
            continue
        if cause.errno in FULL:
            kept = "the disk is full; what has come is kept: free some, or set HF_HOME "
            return f"{name}: {kept}to a place that has it, and run it again"
        if cause.errno in UNWRITABLE and cause.filename:
            why = f"{cause.filename} cannot be written ({cause.strerror})"
            return f"{name}: {why}; set HF_HOME to a folder of yours"
    return None


def _of_the_answer(
    name: str, revision: str | None, kinds: list[str], answer: tuple[int, str], way: str
) -> str | None:
    page = f"https://huggingface.co/{name}"
    status, words = answer
    known = "" if status == 401 else "as the account of your token, or "
    why = words or status
    rights = "https://huggingface.co/settings/tokens"
    reasons = {  # the narrower first
        "GatedRepoError": (
            f"{name} is gated: accept its licence at {page}, {known}{LOGIN}; or {way}"
        ),
        "RevisionNotFoundError": (
            f"{name} has no revision {revision!r}; see the branches at {page}"
        ),
        "RepositoryNotFoundError": (
            f"{name}: the hub has no such repository for you; {LOGIN}; or {way}"
        ),
        "HFValidationError": (
            f"{name}: expected a folder or a hub name (owner/name), found neither"
        ),
        401: f"{name}: the hub does not know this token ({why}); {LOGIN}",
        403: f"{name}: the token may not read it ({why}); see {rights}",
        429: f"{name}: too many requests (429); wait a little and run it again",
    }
    other = (
        f"{name}: the hub answered {status}; try again, or {way}" if status else None
    )
    return next((reasons[k] for k in reasons if k in {*kinds, status}), other)


def _of_the_network(
    name: str, kinds: list[str], status: int, words: str, way: str
) -> str | None:
    if status or "ProxyError" in kinds:
        return None
    if "Consistency check failed" in words:
        odd = "a file is not as long as the hub says"
        return f"{name}: {odd} ({words}); run it again, or {way}"
    if BROKEN & {*kinds}:
        kept = "the connection broke; what has come is kept: run it again"
        return f"{name}: {kept}, and it goes on from there"
    here = f"{name} is not on this disk, or not all of it, and the hub "
    if "OfflineModeIsEnabled" in kinds:
        return f"{here}is not asked: {OFFLINE}; unset it, or {way}"
    why = _why_away(kinds, status)
    return f"{here}cannot be reached ({why}); try again, or {way}" if why else None
