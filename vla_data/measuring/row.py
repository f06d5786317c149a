"""A row of the table, and what each of its columns means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from vla_data.core import Json
from vla_data.measuring import actions, likeness, motion, pictures

Kind = Literal["int64", "double", "bool", "string"]
_THREE: Final = "first, middle and last picture"
_ACTION: Final = "Takes a declared layout of action."
_VIDEO: Final = "Pictures inside of videos are looked at with --decode-video alone."


@dataclass(frozen=True, slots=True)
class Column:
    """What a column is.

    Attributes:
        kind: of its values.
        meaning: its definition, in a sentence or a few.
        unit: of its numbers, or empty.
    """

    kind: Kind
    meaning: str
    unit: str = ""

    @property
    def is_number(self) -> bool:
        """Whether it can be compared with a number."""
        return self.kind != "string"


COLUMNS: Final[Mapping[str, Column]] = {
    "position": Column("int64", "Where the episode is in the source, as --episodes counts.", "episodes"),
    "episode": Column("string", "Its id."),
    "task": Column("string", "Its instruction."),
    "steps": Column("int64", "Its length.", "steps"),
    "seconds": Column("double", "Its length at the declared rate; unknown without one, as jerk is.", "s"),
    "length_ratio": Column("double", "Its steps by the median of all episodes that were read.", "medians"),
    "success": Column(
        "bool",
        "Whether next.success is true at any step; without it, what the source says of the whole.",
    ),
    "idle": Column(
        "double",
        "Share of idle steps: every number of the action but the gripper's asks for almost no motion. Of deltas "
        f"and velocities that is at most {actions.STILL:.0%} of the number's range q01..q99 (0 included) away "
        f"from 0; of absolute targets, away from the step before. Rotations that are no angles are left out. "
        f"{_ACTION}",
        "share",
    ),
    "still": Column(
        "double",
        "Share of steps, from the second on, at which every number of observation.state changes by at most "
        f"{motion.STILL:.0%} of the 99th percentile of such changes in all episodes that were read.",
        "share",
    ),
    "jerk": Column(
        "double",
        "Root mean square of the third differences of observation.state, times the rate cubed. Each number counts "
        "in its range q01..q99. Where a layout is declared, translations and joints alone.",
        "ranges/s³",
    ),
    "path": Column(
        "double",
        "Sum of the distances from step to step of the first arm's translation in observation.state. Takes its "
        "layout, kind absolute and a unit of length.",
        "m",
    ),
    "asked_path": Column(
        "double",
        "Sum of the distances that the first arm's translation in action asks for, with a controller's scale. "
        "Takes its layout, kind delta or velocity and a unit.",
        "m",
    ),
    "outside": Column(
        "int64",
        "Steps whose action has an input beyond -1..1 of a declared controller, or a gripper position beyond the "
        "two values declared as open and closed.",
        "steps",
    ),
    "switches": Column(
        "int64",
        "Gripper switches: the first gripper's command passes from one quarter of its way between open and closed "
        "to the other end's quarter (without declared values: of its range in the episodes that were read). "
        f"{_ACTION}",
        "switches",
    ),
    "frozen": Column(
        "int64",
        f"Cameras whose {_THREE} are the same bytes, in an episode of three steps or more. {_VIDEO}",
        "cameras",
    ),
    "black": Column(
        "int64",
        f"Cameras whose {_THREE} are darker than {pictures.DARK} of 255 everywhere, by the means of a grid of 8 "
        f"by 9 cells. {_VIDEO}",
        "cameras",
    ),
    "damaged": Column("int64", f"Cameras of whose {_THREE} one can't be decoded. {_VIDEO}", "cameras"),
    "copies": Column(
        "int64",
        "Earlier episodes with the same SHA-256 of the instruction, of every number of every step (apart from "
        f"counters and times) and of each camera's {_THREE} as stored, but those inside of videos.",
        "episodes",
    ),
    "near_copies": Column(
        "int64",
        "Earlier episodes with other content and the same instruction, at most 10 % longer or shorter, whose "
        f"actions and states differ by at most {likeness.NEAR:.0%} of each number's range q01..q99 at "
        f"{likeness.MOMENTS} moments spread evenly, and whose cameras' {_THREE} differ in at most {likeness.BITS} "
        f"of 64 bits of a difference hash. {_VIDEO} Unknown without actions and states.",
        "episodes",
    ),
    "copy_of": Column("string", "The first episode of copies."),
    "near_copy_of": Column("string", "The first episode of near_copies."),
    "cameras": Column("string", "Names of the frozen, black and damaged cameras."),
    "error": Column("string", "Code and message of an episode that can't be read; all measures are unknown then."),
}
"""Column -> its definition. A value that can't be told is unknown (null)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One episode; None and empty texts are unknown. `COLUMNS` has the definitions.

    Attributes:
        switched: the steps of the gripper switches.
        digest: of its content, see `vla_data.measuring.likeness.digest`.
    """

    position: int
    episode: str
    task: str = ""
    steps: int | None = None
    seconds: float | None = None
    length_ratio: float | None = None
    success: bool | None = None
    idle: float | None = None
    still: float | None = None
    jerk: float | None = None
    path: float | None = None
    asked_path: float | None = None
    outside: int | None = None
    frozen: int | None = None
    black: int | None = None
    damaged: int | None = None
    copies: int | None = None
    near_copies: int | None = None
    copy_of: str = ""
    near_copy_of: str = ""
    cameras: str = ""
    error: str = ""
    switched: tuple[int, ...] | None = None
    digest: str = ""

    @property
    def switches(self) -> int | None:
        """How many gripper switches."""
        return None if self.switched is None else len(self.switched)

    def to_json(self) -> dict[str, Json]:
        """Column -> value, in the order of `COLUMNS`."""
        return {name: getattr(self, name) for name in COLUMNS}

    def number(self, column: str) -> float | None:
        """The value of a column that holds numbers; a truth is 1 or 0."""
        value = getattr(self, column)
        return None if value is None else float(value)
