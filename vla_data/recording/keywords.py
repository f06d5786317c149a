"""The keyword form of a step: one image, seven numbers, success, and what else the environment says."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from vla_data.errors import RecordError
from vla_data.media.images import Encoding
from vla_data.recording.columns import Camera, Column, Flags, Numbers, Told
from vla_data.recording.npz import ACTION_CONVENTION, ACTION_NAMES

NOT_GIVEN: Final = object()
NO_KEYWORDS: Final[dict[str, Any]] = {
    **dict.fromkeys(("image", "action", "success"), NOT_GIVEN),
    **dict.fromkeys(("reward", "state", "info")),
}
CAMERA: Final = "observation.images.primary"
STATE: Final = "observation.state"
COUNTER: Final = "info.elapsed_steps"
_INFO_KEY: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")  # what the reader keeps


@dataclass(frozen=True, slots=True)
class Given:
    """One value of a step, and how to make the column that it is the first value of."""

    label: str
    value: Any
    column: Callable[[], Column]


def given_by_keyword(
    where: str,
    encoding: Encoding,
    *,
    image: Any,
    action: Any,
    success: Any,
    reward: Any,
    state: Any,
    info: Mapping[str, Any] | None,
    needed: bool,
) -> dict[str, Given]:
    """Feature -> what a keyword gave for it; see `vla_data.recording.OpenEpisode.add`.

    Args:
        where: the step, for messages.
        encoding: of images.
        image: see there, as the others.
        action: see there.
        success: see there.
        reward: see there.
        state: see there.
        info: see there.
        needed: whether image, action and success must be given.
    """
    columns: dict[str, tuple[str, Any, Callable[[], Column]]] = {
        CAMERA: ("image", image, lambda: Camera("image", encoding)),
        "action": ("action", action, _action),
        "next.success": ("success", success, lambda: Flags("success")),
    }
    out = {}
    for name, (label, value, make) in columns.items():
        if value is not NOT_GIVEN:
            out[name] = Given(label, value, make)
        elif needed:
            raise RecordError("E206", f"{where}: {label} is not given; features by LeRobot's names come first")
    if reward is not None:
        out["next.reward"] = Given("reward", reward, lambda: Told("reward", "iuf", "a number", finite=True))
    if state is not None:
        out[STATE] = Given("state", state, lambda: Numbers("state", "float32", (None,)))
    for key, value in (info or {}).items():
        if key in ("success", "reward"):
            raise RecordError("E004", f"{where}: info has {key!r}, which is an argument of its own")
        if not isinstance(key, str) or not _INFO_KEY.fullmatch(key):
            raise RecordError("E203", f"{where}: info's key {key!r} is not a name")
        label = f"info[{key!r}]"
        out[f"info.{key}"] = Given(label, value, lambda label=label: Told(label))  # type: ignore[misc]
    return out


def _action() -> Column:
    column = Numbers("action", "float32", (len(ACTION_NAMES),))
    column.meaning = {"names": ACTION_NAMES, "convention": ACTION_CONVENTION}
    return column
