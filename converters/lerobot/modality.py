"""``meta/modality.json``, by which GR00T finds the parts of states and actions, the cameras and the instruction.

The parts are those of a feature's convention (its ``layout``), in GR00T's words: half-open ranges of one vector. A
part that is not a range, as one whose numbers are not in a row, and a feature whose layout nobody declared, can't
be told apart: the whole vector is one part then, named as the feature. Written with v2.1; GR00T's ``schema.py``
has the keys. `vla_data.statistics.modality` reads it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from vla_data.core import Feature, Json, Schema
from vla_data.statistics.modality import COLUMNS, FILE

__all__ = ["FILE", "to_json"]

_ROTATIONS: Final[Mapping[str, str]] = {
    "6d_rows": "rotation_6d",
    "euler_intrinsic_xyz": "euler_angles_rpy",
    "matrix": "matrix",
    "quaternion_wxyz": "quaternion",
    "rotvec": "axis_angle",
}
"""Our word -> GR00T's ``rotation_type``, which are those of pytorch3d; other forms have none there."""

_CAMERA: Final = "observation.images."


def to_json(schema: Schema) -> dict[str, Json]:
    """The content of the file."""
    out: dict[str, Json] = {"state": {}, "action": {}, "video": {}, "annotation": {}}
    for kind, column in COLUMNS.items():
        for name in sorted(schema.features):
            feature = schema.features[name]
            number = feature.dtype not in ("image", "string") and len(feature.shape) == 1
            if number and (name == column or name.startswith(f"{column}.")):
                out[kind] |= _parts(name, feature, kind, is_main=name == column)
    for name, feature in sorted(schema.features.items()):
        if feature.dtype == "image":
            out["video"][name.removeprefix(_CAMERA)] = {"original_key": name}
    out["annotation"]["human.task_description"] = {"original_key": "task_index"}
    return out


def _parts(name: str, feature: Feature, kind: str, *, is_main: bool) -> dict[str, Json]:
    convention = feature.convention
    size = feature.shape[0]
    layout = convention.get("layout")
    declared = dict(layout) if isinstance(layout, Mapping) else {}
    ranges = [(where, part) for part, places in declared.items() if (where := _range(places)) is not None]
    if not ranges or len(ranges) != len(declared):
        return {kind if is_main else name.rpartition(".")[2]: {"start": 0, "end": size, "original_key": name}}
    found: dict[str, Json] = {}
    for (start, end), part in sorted(ranges):
        key = part if is_main else f"{name.rpartition('.')[2]}.{part}"
        found[key] = {"start": start, "end": end, "original_key": name}
        if (absolute := _is_absolute(part, convention)) is not None:
            found[key]["absolute"] = absolute
        form = _ROTATIONS.get(str(convention.get("rotation")))
        if part.endswith("rotation") and form is not None:
            found[key]["rotation_type"] = form
    return found


def _range(places: Sequence[int]) -> tuple[int, int] | None:
    listed = list(places)
    if not listed or listed != list(range(listed[0], listed[0] + len(listed))):
        return None
    return listed[0], listed[-1] + 1


def _is_absolute(part: str, convention: Mapping[str, Json]) -> bool | None:
    """Whether numbers are positions; None where nobody declared it. Grippers are commanded to one, whatever the
    arm's numbers are.
    """
    kind = convention.get("kind")
    return part.endswith("gripper") or (None if kind in (None, "undeclared") else kind == "absolute")
