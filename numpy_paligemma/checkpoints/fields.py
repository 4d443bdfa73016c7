"""JSON files, and the fields of their objects: read, checked, told in one line."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy_paligemma.checkpoints.mistaken import what_is_wrong

TOO_LARGE = 2**31  # no size, id or base of a model comes near
SHOWN = 80  # letters of a value in a message


@dataclass(frozen=True, slots=True)
class Section:
    """One object of the file, that knows its name for the messages."""

    where: str
    values: Mapping[str, Any]

    def expect(self, name: str, *allowed: object) -> None:
        """Refuse a field that is given and is none of `allowed`."""
        value = self.values.get(name)
        if value is not None and value not in allowed:
            wanted = " or ".join(json.dumps(a) for a in allowed)
            msg = f"{self.where}{name}: expected {wanted}, found {shorten(value)}"
            raise ValueError(msg)

    def count(self, name: str) -> int:
        """Read a whole number above nought."""
        value: Any = self.values.get(name)
        if type(value) is int and 0 < value < TOO_LARGE:
            return value
        raise self.refusal(name, "a whole number above 0", value)

    def number(self, name: str, above: float = 0, below: float = TOO_LARGE) -> float:
        """Read a number between two others."""
        value: Any = self.values.get(name)
        if type(value) in {int, float} and above < value < below:
            return float(value)
        wanted = f"a number above {above:g}"
        wanted += f" and below {below:g}" if below < TOO_LARGE else ""
        raise self.refusal(name, wanted, value)

    def number_or_off(self, name: str) -> float | None:
        """Read a number above nought; null switches it off."""
        return None if self.values.get(name) is None else self.number(name)

    def token_id(self, name: str, default: int) -> int:
        """Read a token id."""
        value: Any = self.values.get(name)
        if value is None:
            return default
        if type(value) is int and 0 <= value < TOO_LARGE:
            return value
        raise self.refusal(name, "a token id", value)

    def divides(self, name: str, whole: str) -> None:
        """Refuse a number that does not divide another one."""
        part, total = self.count(name), self.count(whole)
        if total % part:
            msg = f"{self.where}{name}: {part} does not divide {total}"
            raise ValueError(msg)

    def section(
        self,
        name: str,
        given: Mapping[str, Any],
        absent: Mapping[str, Any],
        *,
        may_be_off: Collection[str] = (),
    ) -> "Section":
        """Read an object, its fields filled from `given`, or from both if absent.

        null is the same as leaving a field out, unless the field `may_be_off`.
        """
        value = self.values.get(name)
        if value is None:
            return Section(f"{self.where}{name}.", {**given, **absent})
        if not isinstance(value, dict):
            raise self.refusal(name, "an object", value)
        there = {
            key: field
            for key, field in value.items()
            if field is not None or key in may_be_off
        }
        return Section(f"{self.where}{name}.", {**given, **there})

    def refusal(self, name: str, wanted: str, value: object) -> ValueError:
        """Say what was expected of a field and what was found."""
        found = "nothing" if value is None else shorten(value)
        return ValueError(f"{self.where}{name}: expected {wanted}, found {found}")


def shorten(value: object) -> str:
    """Write a value as JSON for a message, its beginning alone if it is long."""
    text = json.dumps(value)
    return text if len(text) <= SHOWN else text[:SHOWN] + "..."


def without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object of a JSON file's pairs; ValueError if a name is there twice."""
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        msg = f"{shorten(twice)} is there twice"
        raise ValueError(msg)
    return fields


def read_json(path: Path, whose: str = "a checkpoint's") -> dict[str, Any]:
    """Read a JSON object; ValueError in one line where there is none."""
    try:
        value = json.loads(path.read_bytes(), object_pairs_hook=without_repeats)
    except FileNotFoundError:
        msg = f"{path}: no such file; expected {whose} folder to hold one"
        raise ValueError(msg) from None
    except (OSError, ValueError, RecursionError) as error:
        msg = f"{path}: expected JSON, but {what_is_wrong(path, error)}"
        raise ValueError(msg) from error
    if not isinstance(value, dict):
        msg = f"{path}: expected a JSON object, found {type(value).__name__}"
        raise ValueError(msg)  # noqa: TRY004  the file is wrong, not the caller
    return value
