"""Recorded rollouts of any features as plain ``.npz`` files, one an episode, under LeRobot's names.

rollout          text: JSON with ``version``, ``steps``, ``task``, ``schema``, ``facts`` and ``final``
<feature>        (T or T+1, ...) numbers, flags or texts, with their own type
<camera>         encoded images (PNG, JPEG) one after the other
sizes.<camera>   (T or T+1,) int64, bytes of each encoded image

A feature has T+1 rows where it is named in ``final``: the last one was seen after the last action. What is called
``next.*`` or ``info.*`` is of after the action of its row, everything else of before it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from vla_data.core.episode import Feature, Json, Schema
from vla_data.errors import DataError
from vla_data.recording.npz import Member
from vla_data.safety import strict_json
from vla_data.safety.text import show

HEADER: Final = "rollout"
SIZES: Final = "sizes."
VERSION: Final = 1
NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,119}")
"""What a feature may be called: names become members of an archive and, later, paths."""
MAX_FEATURES: Final = 256
MAX_HEADER: Final = 4 << 20

IMAGE_CONVENTION: Final[dict[str, Json]] = {"colour": "rgb", "orientation": "as_recorded", "time": "before_action"}
"""What every recorded image means, unless something else is declared."""

_KEYS: Final = {"version", "steps", "task", "schema", "facts", "final"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What a recorded rollout says of itself.

    Attributes:
        schema: its features, rate and robot.
        steps: T.
        task: the instruction.
        facts: of the whole episode, JSON-ready.
        final: features with one more row, seen after the last action.
    """

    schema: Schema
    steps: int
    task: str
    facts: Mapping[str, Json] = field(default_factory=dict)
    final: Sequence[str] = ()

    def to_text(self) -> str:
        """One line of ASCII JSON, equal for equal headers."""
        facts = {
            "version": VERSION,
            "steps": self.steps,
            "task": self.task,
            "schema": self.schema.to_json(),
            "facts": dict(self.facts),
            "final": sorted(self.final),
        }
        return json.dumps(facts, sort_keys=True, allow_nan=False)

    @classmethod
    def from_text(cls, text: str) -> Header:
        """What `to_text` was made from, from a stranger's file.

        Raises:
            DataError: E141 for what is no such text, E203 for names or a version that this layout has not.
        """
        if len(text) > MAX_HEADER:
            raise DataError("E141", f"{HEADER} has {len(text):,} characters")
        known = strict_json.loads(text.encode("utf-8", "replace"), name=HEADER)
        if not isinstance(known, dict) or not known.keys() >= _KEYS:
            raise DataError("E141", f"{HEADER} must have the keys {', '.join(sorted(_KEYS))}")
        if known["version"] != VERSION:
            raise DataError(
                "E203", f"{HEADER} has version {show(known['version'])[:40]}; this program reads {VERSION}"
            )
        try:
            json.dumps(known, ensure_ascii=False).encode("utf-8")
            schema = Schema.from_text(json.dumps(known["schema"]))
        except UnicodeEncodeError:
            raise DataError("E212", f"{HEADER} has a lone surrogate (half a character)") from None
        except (KeyError, TypeError, ValueError, AttributeError):
            raise DataError("E141", f"the schema in {HEADER} can't be read") from None
        final, steps, facts, task = known["final"], known["steps"], known["facts"], known["task"]
        good = isinstance(facts, dict) and isinstance(task, str) and type(steps) is int and isinstance(final, list)
        good = good and isinstance(schema.robot, str | None) and type(schema.fps) in (int, float)
        good = good and 1e-3 <= schema.fps <= 1e6 and 0 < len(schema.features) <= MAX_FEATURES
        if not good or not all(map(_is_sound, schema.features.values())):
            raise DataError("E141", f"{HEADER} is not what a recorder writes")
        for name in schema.features:
            check_name(name)
        if not set(map(str, final)) <= schema.features.keys():
            raise DataError("E206", f"{HEADER} names features with a last row that the file does not have")
        return cls(schema=schema, steps=steps, task=task, facts=facts, final=tuple(map(str, final)))


def check_name(name: object) -> str:
    """A name that a feature may have.

    Raises:
        DataError: E203.
    """
    if not isinstance(name, str) or not NAME.fullmatch(name) or name == HEADER or name.startswith(SIZES):
        what = f"{show(repr(name))[:80]} is not a name for a feature"
        raise DataError(
            "E203", f"{what}; use LeRobot's, such as observation.images.top, or letters, digits and _.-"
        )
    return name


def image_members(name: str, encoded: Sequence[bytes]) -> dict[str, Member]:
    """The two members that hold the encoded images of a camera."""
    sizes = np.asarray([len(item) for item in encoded], dtype=np.int64)
    return {name: encoded, f"{SIZES}{name}": sizes}


def members(header: Header, columns: Mapping[str, Member]) -> dict[str, Member]:
    """All members of a file: the header, and those of every feature by its name."""
    out: dict[str, Member] = {HEADER: np.asarray(header.to_text())}
    for name, column in columns.items():
        is_camera = header.schema.features[name].dtype == "image"
        out |= image_members(name, column) if is_camera else {name: column}  # type: ignore[arg-type]
    return out


def _is_sound(feature: Feature) -> bool:
    """Whether the parts of a feature, which a stranger wrote, have the types that they should have."""
    return (
        isinstance(feature.dtype, str)
        and all(type(n) is int and n > 0 for n in feature.shape)
        and all(isinstance(name, str) for name in feature.names or ())
        and isinstance(feature.convention, dict)
    )
