"""Which camera is which of RDT's three: one that looks at the robot, and one on each wrist."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from vla_data.errors import DataError
from vla_data.safety.text import show

SLOTS: Final = ("cam_high", "cam_right_wrist", "cam_left_wrist")
"""In the order in which RDT's model gets them. One wrist camera alone is the right one."""

_WRIST: Final = ("wrist", "eye_in_hand", "hand_camera", "gripper")
_PREFIX: Final = "observation.images."


def choose(cameras: Sequence[str], declared: Mapping[str, str | None]) -> dict[str, str]:
    """Slot -> feature name of the camera.

    What is not declared is told by names: cameras of RDT's own names are themselves; of the others, one whose
    name has ``wrist``, ``eye_in_hand``, ``hand_camera`` or ``gripper`` is on a wrist, the left one where it also
    has ``left``, and one other camera is ``cam_high``.

    Args:
        cameras: feature names.
        declared: slot -> camera, with or without ``observation.images.``; "none" for no camera; None: by name.

    Raises:
        DataError: E206 for a camera that is not there, and where there is none at all unless that was declared;
            E231 where names don't tell.
    """
    out: dict[str, str] = {}
    for slot, name in declared.items():
        if name not in (None, "none"):
            full = name if name in cameras else f"{_PREFIX}{name}"
            if full not in cameras:
                raise DataError("E206", f"there is no camera {show(name)}; known are {_listed(cameras)}")
            out[slot] = full
    open_slots = [slot for slot in SLOTS if declared.get(slot) is None]
    rest = [name for name in cameras if name not in out.values()]
    for slot in open_slots:
        if f"{_PREFIX}{slot}" in rest:
            out[slot] = f"{_PREFIX}{slot}"
            rest.remove(out[slot])
    wrists = [name for name in rest if any(word in name for word in _WRIST)]
    found = {
        "cam_left_wrist": [name for name in wrists if "left" in name],
        "cam_right_wrist": [name for name in wrists if "left" not in name],
        "cam_high": [name for name in rest if name not in wrists],
    }
    for slot in open_slots:
        if slot in out or not found[slot]:
            continue
        if len(found[slot]) > 1:
            option = slot.replace("_", "-")
            raise DataError("E231", f"several cameras fit ({_listed(found[slot])}); choose one with --{option}")
        out[slot] = found[slot][0]
    if not out and any(declared.get(slot) != "none" for slot in SLOTS):
        raise DataError("E206", "there is no camera, and RDT needs one")
    return {slot: out[slot] for slot in SLOTS if slot in out}


def _listed(names: Sequence[str]) -> str:
    return ", ".join(show(name.removeprefix(_PREFIX)) for name in names) or "none"
