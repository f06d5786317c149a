"""Actions of another convention: other units, another frame, another rotation, another trainer's vector."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Final

from vla_data.actions import Convention, convert, preset, resolve
from vla_data.actions.base import base_pose
from vla_data.actions.convention import QUANTITIES, quantity
from vla_data.actions.plausible import implausible
from vla_data.core import Episode, Json, Schema
from vla_data.core.notes import NOT_AS_DECLARED, no_action
from vla_data.errors import DataError, UsageError
from vla_data.safety.text import show

STATE: Final = "observation.state"
_UNITS: Final = {"physical": ("m", "rad"), "controller": ("controller", "controller")}


def reads_actions(name: str) -> bool:
    """Whether a conversion of actions looks at a feature."""
    return name in ("action", STATE)


@dataclass(frozen=True, kw_only=True)
class ConvertActions:
    """Converts ``action``, which becomes float64: only so is the way back exact. See `vla_data.actions.convert`.

    Attributes:
        source: the convention that the actions have, as in the schema.
        target: the convention that they get; what it leaves undeclared stays.
        state: the convention of ``observation.state``, for conversions that need it; None: it has none.
        base: pose of the robot's base in the world, 16 numbers row by row, for conversions between these frames.
    """

    source: Mapping[str, Json]
    target: Mapping[str, Json]
    state: Mapping[str, Json] | None = None
    base: tuple[float, ...] | None = None
    bucket: ClassVar[str] = "pruned"
    reason: ClassVar[str] = "no_frame_is_dropped"

    def __post_init__(self) -> None:
        for name in ("source", "target", "state"):
            facts = getattr(self, name)
            if facts is not None:
                Convention.from_json(facts)
                object.__setattr__(self, name, json.loads(json.dumps(dict(facts), sort_keys=True)))
        if self.base is not None:
            object.__setattr__(self, "base", tuple(map(float, base_pose(self.base).reshape(-1))))
        resolve(self._source, self._target)

    @classmethod
    def to(cls, schema: Schema, target: str, *, base: Sequence[float] | None = None) -> ConvertActions:
        """The step for episodes of ``schema``.

        Args:
            schema: of the source.
            target: "physical" (metres and radians), "controller" (input of the controller), or the name of a
                preset of `vla_data.actions.PRESETS`.
            base: pose of the robot's base in the world; see `vla_data.actions.base.base_pose`.

        Raises:
            UsageError: E206 without actions, E231 or E232 when the conventions do not determine each other.
        """
        if "action" not in schema.features:
            raise UsageError("E206", no_action(schema.features))
        facts = schema.features["action"].convention
        if not facts:
            raise UsageError("E231", "what the actions mean is not known; say it with --declare action:KEY=VALUE")
        source = Convention.from_json(facts)
        if source.layout and not any(quantity(name) in QUANTITIES for name in source.layout):
            named = ", ".join(map(show, source.layout))
            raise UsageError(
                "E232", f"no part of the action is {', '.join(QUANTITIES[:-1])} or {QUANTITIES[-1]}, but {named}"
            )
        wanted = source.with_units(*_UNITS[target]) if target in _UNITS else preset(target)
        known = schema.features[STATE].convention if STATE in schema.features else {}
        return cls(
            source=facts,
            target=wanted.to_json(),
            state=dict(known) or None,
            base=None if base is None else tuple(base),
        )

    def needs(self, name: str) -> bool:
        """Actions, and the state that some conversions need."""
        return reads_actions(name)

    def becomes(self, name: str) -> str:
        """The same name."""
        return name

    def apply(self, episode: Episode) -> Episode:
        """See `vla_data.Transform`.

        Raises:
            DataError: E201, E202 for actions that the target can't express, E206 without any.
        """
        if "action" not in episode.arrays:
            raise DataError("E206", no_action(episode.arrays))
        known = self.state is not None and STATE in episode.arrays
        converted = convert(
            episode.arrays["action"],
            self._source,
            self._target,
            state=episode.arrays[STATE] if known else None,
            state_convention=Convention.from_json(self.state) if known and self.state is not None else None,
            base=None if self.base is None else base_pose(self.base),
        )
        doubts = implausible(episode.arrays["action"], self._source)
        notes = (f"{NOT_AS_DECLARED}:action {said}" for said in doubts)
        return replace(episode, arrays={**episode.arrays, "action": converted}, notes=(*episode.notes, *notes))

    def describe(self, schema: Schema) -> Schema:
        """The schema of the results."""
        result = resolve(self._source, self._target)
        before = schema.features["action"]
        same = before.shape == (result.width,)
        after = replace(
            before,
            dtype="float64",
            shape=(result.width,),
            names=before.names if same else None,
            convention=result.to_json(),
        )
        return replace(schema, features={**schema.features, "action": after})

    @property
    def _source(self) -> Convention:
        return Convention.from_json(self.source)

    @property
    def _target(self) -> Convention:
        return Convention.from_json(self.target)
