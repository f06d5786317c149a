"""What the numbers of an action or a pose mean, as data: compared by code, stored with the dataset.

The words are explained in ``docs/conventions.md``. A fact that is not known is ``undeclared`` (None for
numbers); conversions that need it refuse.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final

from vla_data import options as checks
from vla_data.actions.rotations import WIDTHS, is_angles
from vla_data.errors import UsageError
from vla_data.safety.text import show

UNDECLARED: Final = "undeclared"
DECLARE: Final = "declare it (--declare FEATURE:KEY=VALUE, or convention in a mixture)"
"""What a user does where a fact is not declared."""
MAX_SIZE: Final = 4096

CHOICES: Final[dict[str, tuple[str, ...]]] = {
    "kind": ("delta", "absolute", "velocity"),
    "reference": ("previous_target", "current_state", "chunk_start"),
    "frame": ("robot_base", "world", "end_effector"),
    "rotation_frame": ("robot_base", "world", "end_effector"),
    "translation_unit": ("m", "cm", "mm", "controller"),
    "rotation_unit": ("rad", "deg", "controller"),
    "joint_unit": ("rad", "deg"),
    "rotation": tuple(WIDTHS),
    "rotation_delta": ("rotation", "angle_difference"),
    "gripper_control": ("position", "direction"),
}
"""Field -> its words, apart from ``undeclared``."""

QUANTITIES: Final = ("translation", "rotation", "gripper", "joints")
_CLIPS: Final = ("none", "box", "norm")
# The seven-vector of vla-data 0.1, whose conventions had no layout.
_FIRST_LAYOUT: Final = {"translation": (0, 1, 2), "rotation": (3, 4, 5), "gripper": (6,)}
_FIRST_KEYS: Final = {"kind", "translation_unit", "rotation_unit", "gripper_open", "gripper_closed"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Controller:
    """How a controller turns its unit-less input into motion: clip to 1, then scale.

    Attributes:
        translation_scale: metres an input of 1 commands.
        rotation_scale: radians an input of 1 commands; negative where the controller turns the other way.
        translation_clip: ``box`` clips each number to [-1, 1], ``norm`` shortens the vector to length 1.
        rotation_clip: the same for the rotation.
        zero_rotation: what a rotation input of exactly 0 does: ``applies`` (the goal is the reference pose's
            orientation), or ``holds`` (the goal of the step before stays).
        translation_gain: the share of a commanded step that the arm moves in a step, once it moves steadily;
            measured, where known; see `vla_data.dynamics.check_dynamics`.
        rotation_gain: the same for the rotation.
    """

    translation_scale: float
    rotation_scale: float
    translation_clip: str = "box"
    rotation_clip: str = "box"
    zero_rotation: str = "applies"
    translation_gain: float | None = None
    rotation_gain: float | None = None

    def __post_init__(self) -> None:
        for name in ("translation_scale", "rotation_scale"):
            value = checks.number(name, getattr(self, name))
            if value == 0:
                raise ValueError(f"{name} is 0; a scale must be another number")
            object.__setattr__(self, name, value)
        for name in ("translation_clip", "rotation_clip"):
            checks.one_of(name, getattr(self, name), _CLIPS)
        checks.one_of("zero_rotation", self.zero_rotation, ("applies", "holds"))
        for name in ("translation_gain", "rotation_gain"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, checks.number(name, getattr(self, name), low=1e-6))

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary; `from_json` is the way back."""
        return {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Convention:
    """The meaning of a vector, the same at every step.

    Attributes:
        layout: name of a part -> its positions in the vector, for example ``{"translation": (0, 1, 2)}``. The
            last word of a name says what it is: translation, rotation, gripper or joints; what is before it
            names the arm (``left_gripper``). A part of another name is carried along as it is.
        size: length of the vector; None: one more than the last position. Positions of no part are 0.
        kind: ``delta`` (motion in one step), ``absolute`` (a pose), ``velocity`` (motion per second). It
            concerns translation, rotation and joints; grippers have `gripper_control`.
        reference: what a delta is added to: ``previous_target`` (the target before; the first one is the
            pose before the first action), ``current_state`` (the measured pose) or ``chunk_start`` (the
            measured pose at the start of the chunk).
        chunk: steps of a chunk, where actions of an episode come in one row; chunks start at step 0.
        frame: the axes of translations, and of rotations: ``robot_base``, ``world``, or ``end_effector``
            (of the reference pose). Rotations about fixed axes are products from the left, R' = dR R, those about
            the end effector's own axes from the right, R' = R dR.
        rotation_frame: of rotations, where it is another one.
        translation_unit: ``m``, ``cm``, ``mm``, or ``controller``: input of `controller`.
        rotation_unit: ``rad``, ``deg``, or ``controller``; for rotations that are angles.
        joint_unit: ``rad`` or ``deg``.
        rotation: representation; see `vla_data.actions.rotations`.
        rotation_delta: ``rotation`` (also where undeclared): a rotation that is applied. ``angle_difference``: the
            difference of the angles of two orientations, which is no rotation.
        gripper_control: ``position`` (how far open, between the two values below), or ``direction`` (towards
            the value's sign, whatever its size; 0 holds the last one).
        gripper_open: the value that means open.
        gripper_closed: the value that means closed.
        controller: how controller input becomes motion.
        control_rate: steps per second.
        other: keys of a stored convention that this version doesn't know; kept as they are.
    """

    layout: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    size: int | None = None
    kind: str = UNDECLARED
    reference: str = UNDECLARED
    chunk: int | None = None
    frame: str = UNDECLARED
    rotation_frame: str | None = None
    translation_unit: str = UNDECLARED
    rotation_unit: str = UNDECLARED
    joint_unit: str = UNDECLARED
    rotation: str = UNDECLARED
    rotation_delta: str = UNDECLARED
    gripper_control: str = UNDECLARED
    gripper_open: float | None = None
    gripper_closed: float | None = None
    controller: Controller | None = None
    control_rate: float | None = None
    other: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, choices in CHOICES.items():
            value = getattr(self, name)
            if value is not None or name != "rotation_frame":
                checks.one_of(name, value, (*choices, UNDECLARED))
        if self.rotation_frame == self.frame:
            object.__setattr__(self, "rotation_frame", None)
        for name in ("gripper_open", "gripper_closed"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, checks.number(name, getattr(self, name)))
        if (self.gripper_open is None) != (self.gripper_closed is None) or (
            self.gripper_open is not None and self.gripper_open == self.gripper_closed
        ):
            raise ValueError(
                f"gripper_open is {self.gripper_open} and gripper_closed {self.gripper_closed}; "
                "give two different values, or leave out both"
            )
        if self.control_rate is not None:
            rate = checks.number("control_rate", self.control_rate, low=1e-3, high=1e6)
            object.__setattr__(self, "control_rate", rate)
        if self.chunk is not None:
            checks.whole("chunk", self.chunk, low=1)
        self._set_layout()
        self._check_units()

    def _set_layout(self) -> None:
        taken: set[int] = set()
        layout: dict[str, tuple[int, ...]] = {}
        for name, positions in self.layout.items():
            if not isinstance(name, str) or not name:
                raise ValueError(f"layout has a part named {name!r}; a name is a text of one character or more")
            if not isinstance(positions, tuple | list) or not positions:
                raise ValueError(f"layout: {name} has no positions")
            layout[name] = tuple(checks.whole(name, i, low=0, high=MAX_SIZE - 1) for i in positions)
            if len(set(positions)) < len(positions) or taken & set(positions):
                listed = ", ".join(map(str, positions))
                raise ValueError(f"layout: {name} takes positions that are taken: {listed}")
            taken |= set(positions)
        object.__setattr__(self, "layout", dict(sorted(layout.items(), key=lambda part: part[1])))
        needed = max(taken, default=-1) + 1
        if self.size is not None:
            checks.whole("size", self.size, low=needed, high=MAX_SIZE)
        for name, positions in self.layout.items():
            width = {"translation": 3, "rotation": WIDTHS.get(self.rotation)}.get(quantity(name))
            if width is not None and len(positions) != width:
                what = f" as {self.rotation}" if quantity(name) == "rotation" else ""
                raise ValueError(f"layout: {name}{what} takes {width} positions, not {len(positions)}")

    def _check_units(self) -> None:
        if self.controller is None and "controller" in (self.translation_unit, self.rotation_unit):
            raise ValueError("a unit is 'controller'; controller must say how large its input of 1 is")
        if self.rotation == UNDECLARED or is_angles(self.rotation):
            return
        if self.rotation_unit not in (UNDECLARED, "rad"):
            raise ValueError(f"{self.rotation} has no unit, so it can't be in {self.rotation_unit}")
        if self.kind == "velocity" or self.rotation_delta == "angle_difference":
            raise ValueError(f"{self.rotation} has no angles, so it can't be a velocity or a difference of angles")

    @property
    def width(self) -> int:
        """Length of the vector."""
        if self.size is not None:
            return self.size
        return max((i for positions in self.layout.values() for i in positions), default=-1) + 1

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary, for `vla_data.Feature.convention`; `from_json` is the way back."""
        out: dict[str, Any] = dict(self.other)
        open_facts = self._open_facts()
        for f in fields(self):
            value = getattr(self, f.name)
            if f.name in ("other", "layout") or value is None:
                continue
            # What is open is written where it matters, and left out where it says nothing.
            if value == f.default and f.name not in open_facts:
                continue
            out[f.name] = value.to_json() if isinstance(value, Controller) else value
        if self.layout or set(out) >= _FIRST_KEYS:
            out["layout"] = {name: list(positions) for name, positions in self.layout.items()}
        return out

    def _open_facts(self) -> set[str]:
        """The facts that a reader would miss if they were not said."""
        has = {quantity(name) for name in self.layout}
        motion = {"kind"} if self.kind == "absolute" else {"kind", "reference"}
        about = {
            "translation": motion | {"frame", "translation_unit"},
            "rotation": motion | {"frame", "rotation", "rotation_unit"},
            "joints": motion | {"joint_unit"},
            "gripper": {"gripper_control"},
        }
        return set().union(*(facts for part, facts in about.items() if part in has))

    @classmethod
    def from_json(cls, facts: Mapping[str, Any]) -> Convention:
        """What `to_json` made, or a dictionary of the same keys written by hand.

        A dictionary of vla-data 0.1 (its keys, and no layout) is of ``translation rotation gripper``, seven
        numbers, which is all that version wrote.

        Raises:
            UsageError: E232 for a value that no convention has.
        """
        known = {f.name for f in fields(cls)} - {"other"}
        mine = {key: value for key, value in facts.items() if key in known}
        other = {key: value for key, value in facts.items() if key not in known}
        if "layout" not in mine and set(mine) >= _FIRST_KEYS:
            mine["layout"] = _FIRST_LAYOUT
        try:
            if isinstance(mine.get("controller"), Mapping):
                mine["controller"] = Controller(**mine["controller"])
            elif mine.get("controller") is not None and not isinstance(mine["controller"], Controller):
                raise ValueError("controller must be a table: translation_scale, rotation_scale, ...")
            if not isinstance(mine.get("layout", {}), Mapping):
                raise ValueError("layout must be a table: part -> positions")
            return cls(**mine, other=other)
        except (ValueError, TypeError) as error:
            raise UsageError("E232", f"not a convention: {show(error, escaped=True)}") from None

    def with_units(self, translation: str, rotation: str) -> Convention:
        """The same with other units: ``("m", "rad")`` is physical, ``("controller", "controller")`` input.

        Raises:
            UsageError: E231 when there is no controller to give input to.
        """
        if "controller" in (translation, rotation) and self.controller is None:
            raise UsageError("E231", "controller (how large its input of 1 is)")
        joints = any(quantity(name) == "joints" for name in self.layout)
        angles = "rad" if rotation == "rad" and joints else self.joint_unit
        return replace(self, translation_unit=translation, rotation_unit=rotation, joint_unit=angles)

    def at_rate(self, fps: float) -> Convention:
        """The convention of the same commands resampled to ``fps`` steps a second.

        Motions in a controller's own units become metres and radians: its inputs reach what it can do in a step of
        its own rate, and not what another rate asks for in one.
        """
        if self.kind == "absolute":
            return replace(self, control_rate=fps)
        return replace(
            self,
            control_rate=fps,
            translation_unit="m" if self.translation_unit == "controller" else self.translation_unit,
            rotation_unit="rad" if self.rotation_unit == "controller" else self.rotation_unit,
        )


def quantity(part: str) -> str:
    """``translation``, ``rotation``, ``gripper``, ``joints``, or ``other``, from the name of a part."""
    last = part.rpartition("_")[2]
    return last if last in QUANTITIES else "other"


_MEANT: Final[Mapping[str, str]] = {
    **dict.fromkeys(("pos", "position", "xyz", "trans", "place"), "translation"),
    **dict.fromkeys(("rot", "ori", "orientation", "rpy", "euler", "quat", "quaternion", "axisangle"), "rotation"),
    **dict.fromkeys(("joint", "qpos", "joints_pos"), "joints"),
    **dict.fromkeys(("grip", "grippers", "claw"), "gripper"),
}


def check_parts(names: Iterable[str]) -> None:
    """That parts which somebody declares are called what they are; others would be carried along in silence.

    Raises:
        UsageError: E232, with the name that was meant.
    """
    for name in names:
        last = name.rpartition("_")[2]
        first = next((word for word in name.split("_") if word in QUANTITIES), None)
        meant = None if last in QUANTITIES else first or _MEANT.get(last)
        if meant is not None:
            arms = "_".join(word for word in name.split("_") if word in ("left", "right"))
            raise UsageError(
                "E232",
                f"layout: of {show(name)} nobody knows what it is, as the last word of a part says so: "
                f"{', '.join(QUANTITIES)}; call it {show(f'{arms}_{meant}' if arms else meant)}",
            )


def arm(part: str) -> str:
    """What is before the quantity in a part's name: ``left``, or empty where there is one arm."""
    return part.rpartition("_")[0] if quantity(part) != "other" else part


def resolve(source: Convention, target: Convention) -> Convention:
    """``target``, with every fact that it leaves open taken from ``source``: what a conversion results in."""
    fill: dict[str, Any] = {}
    for f in fields(Convention):
        value = getattr(target, f.name)
        of_vector = f.name in ("layout", "size")
        if (not target.layout) if of_vector else (value is None or value == UNDECLARED):
            fill[f.name] = getattr(source, f.name)
    if target.frame != UNDECLARED and target.rotation_frame is None:
        fill["rotation_frame"] = None
    if target.rotation != UNDECLARED and not is_angles(target.rotation):
        fill["rotation_unit"] = "rad"
    if fill.get("kind", target.kind) == "absolute":  # what a delta counts from means nothing to a pose
        fill |= {"reference": UNDECLARED, "rotation_delta": UNDECLARED}
    if fill.get("reference", target.reference) != "chunk_start":
        fill["chunk"] = None
    try:
        return replace(target, **fill)
    except ValueError as error:
        raise UsageError("E232", f"the two conventions don't go together: {show(error, escaped=True)}") from None


def missing(*facts: str) -> UsageError:
    """The refusal for facts that were not declared."""
    return UsageError("E231", f"{', '.join(facts)}; {DECLARE}")  # the code's own name says "undeclared"
