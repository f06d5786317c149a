"""``meta/modality.json`` of GR00T's datasets: which numbers of which column are an arm, a hand.

The keys are those of `gr00t/data/schema.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from vla_data import options
from vla_data.errors import DataError, UsageError
from vla_data.safety import strict_json
from vla_data.safety.files import read_file
from vla_data.safety.text import show

FILE: Final = "meta/modality.json"
COLUMNS: Final = {"state": "observation.state", "action": "action"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A group in one of the two vectors.

    Attributes:
        column: that it is in: ``original_key``.
        start: its first number.
        end: one after the last.
        rotation: ``rotation_type``: its numbers are a rotation of this form; None: they are none.
        absolute: whether they are positions; else they are motions already.
    """

    column: str
    start: int
    end: int
    rotation: str | None = None
    absolute: bool = True

    @property
    def range(self) -> tuple[int, int]:
        """``(start, end)``."""
        return self.start, self.end


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """A group that both vectors have.

    Attributes:
        state: in the state.
        action: in the action.
    """

    state: Part
    action: Part

    def refuse_relative(self, name: str) -> None:
        """That its actions less its state are what GR00T calls relative actions.

        Raises:
            UsageError: E232, they aren't.
        """
        for which, part in (("state", self.state), ("action", self.action)):
            if part.rotation is not None:
                raise UsageError(
                    "E232",
                    f"group {show(name)} is a rotation ({show(part.rotation)}) in the {which}, and rotations are "
                    "not subtracted number by number; leave it out of --relative",
                )
        if not self.state.absolute:
            raise UsageError(
                "E232",
                f"group {show(name)} of the state is not a position (absolute is false), so nothing can "
                "be relative to it",
            )
        if not self.action.absolute:
            raise UsageError(
                "E232",
                f"group {show(name)} of the action is relative already (absolute is false); leave it out of "
                "--relative",
            )


def groups(root: Path) -> dict[str, Group]:
    """The groups that a dataset's file has for both state and action.

    Raises:
        UsageError: E003 without such a file, E002 for one that is none.
    """
    try:
        facts = strict_json.loads(read_file(root / FILE, root=root)[0], name=FILE)
    except DataError as error:
        raise UsageError("E003", f"{FILE}: {error.message}") from None
    parts: dict[str, dict[str, Part]] = {}
    for which, column in COLUMNS.items():
        found = facts.get(which) if isinstance(facts, Mapping) else None
        if not isinstance(found, Mapping):
            raise UsageError("E002", f"{FILE} has no groups of state and action")
        parts[which] = {name: _part(f"{which}.{name}", fact, column) for name, fact in found.items()}
    return {
        name: Group(state=state, action=parts["action"][name])
        for name, state in parts["state"].items()
        if name in parts["action"]
    }


def _part(where: str, facts: Any, column: str) -> Part:
    given = dict(facts) if isinstance(facts, Mapping) else {}
    try:
        start = options.whole("start", given.get("start"), low=0)
        end = options.whole("end", given.get("end"), low=start + 1)
    except ValueError as error:
        raise UsageError("E002", f"{FILE}: {show(where)}: {show(error)}") from None
    key, rotation = given.get("original_key"), given.get("rotation_type")
    absolute = True if given.get("absolute") is None else given["absolute"]
    if not isinstance(key, str | None) or not isinstance(rotation, str | None) or not isinstance(absolute, bool):
        raise UsageError(
            "E002",
            f"{FILE}: {show(where)} needs texts as original_key and rotation_type, and true or false as absolute",
        )
    return Part(column=key or column, start=start, end=end, rotation=rotation, absolute=absolute)
