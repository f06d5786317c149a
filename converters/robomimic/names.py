"""Where a feature lies in a demo of robomimic's layout, and back.

=========================  ====================================
feature                    dataset below ``data/demo_<i>``
=========================  ====================================
action                     actions
next.reward, next.done     rewards, dones
observation.sim_state      states
observation.images.<key>   obs/<key>, images
observation.<key>          obs/<key>
next.observation.<key>     next_obs/<key>
<other>                    <other>
=========================  ====================================

with ``.`` of a key as ``/`` of a path. Images are ``(T, height, width, 3)`` uint8 and nothing else is, so each
path has one name. A feature whose name does not come back by this rule is refused, not renamed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Final

from vla_data.core import EpisodeMeta, Json
from vla_data.errors import DataError
from vla_data.safety.text import show

DERIVED: Final = "derived_by"
"""Attribute of a dataset that is written because robomimic wants it, and that nobody recorded."""
ID: Final = "vla_data_id"
"""Attribute of a demo of ours: the id of its episode."""

DECLARED: Final = "vla_data_feature"
"""Attribute of a dataset: JSON with ``names`` and ``convention`` of its feature."""

ORIGIN: Final = "vla_data_origin"
"""Attribute of a demo: JSON of its first source's ``id``, how that was read, and what was noted on the way."""
FACTS: Final = "vla_data_facts"
"""Attribute of a demo: JSON of what its source knew of the whole episode, where that is short enough."""

# HDF5's attributes hold 64 KiB.
_LONGEST_FACTS: Final = 60_000
_OF_FILES: Final = ("demo", "file")  # what a reader of HDF5 calls the attributes that it found
_LONGEST: Final = 256
_NOTES: Final = 24

_FIXED: Final = {"action": "actions", "next.reward": "rewards", "next.done": "dones"}
_PREFIXES: Final = (
    ("observation.sim_state", "states"),
    ("next.observation.", "next_obs."),
    ("observation.", "obs."),
)
_CAMERA: Final = "observation.images."


def path_of(name: str, *, images: bool) -> str:
    """The path of a feature in its demo.

    Raises:
        DataError: E232 for a name that would not come back.
    """
    path = _path(name, images=images)
    parts = path.split("/")
    # A link is named by one part, and "." means the group itself.
    if "" in parts or "\0" in path or "/" in name or name_of(path, images=images) != name:
        kind = "images" if images else "an array"
        raise DataError("E232", f"robomimic's layout has no place for {kind} named {show(name)}")
    return path


def _path(name: str, *, images: bool) -> str:
    if images and name.startswith(_CAMERA):
        return "obs/" + name.removeprefix(_CAMERA).replace(".", "/")
    if name in _FIXED:
        return _FIXED[name]
    for prefix, start in _PREFIXES:
        if name.startswith(prefix):
            return (start + name.removeprefix(prefix)).replace(".", "/")
    return name.replace(".", "/")


def name_of(path: str, *, images: bool) -> str:
    """The feature that lies at a path of a demo."""
    for name, place in _FIXED.items():
        if path == place:
            return name
    key = path.replace("/", ".")
    if images and path.startswith("obs/"):
        return _CAMERA + key.removeprefix("obs.")
    for prefix, start in _PREFIXES:
        if key.startswith(start):
            return prefix + key.removeprefix(start)
    return key


def check_paths(paths: Iterable[str]) -> None:
    """Refuse two features at one path, and a feature at a path that must be a group.

    Raises:
        DataError: E232.
    """
    seen: set[str] = set()
    for path in paths:
        if path in seen:
            raise DataError("E232", f"two features would be {show(path)}")
        seen.add(path)
    for path in seen:
        parents = path.split("/")[:-1]
        for depth in range(1, len(parents) + 1):
            if "/".join(parents[:depth]) in seen:
                raise DataError("E232", f"{show('/'.join(parents[:depth]))} would be a group and a feature")


def mask_name(text: str) -> str:
    """A text as the name of one link: ``/``, ``%``, a first ``.`` and control characters become ``%`` and hex."""
    safe = "".join(c if c.isprintable() and c not in "/%" else _escaped(c) for c in text)
    return "%2e" + safe[1:] if safe.startswith(".") else safe or "%"


def masks_of(meta: EpisodeMeta) -> tuple[list[str], list[str]]:
    """The masks that an episode's source puts it in, and all that the source had, as `mask_name` calls them.

    Its split is one more, unless the source had a mask of that name: then that says who is in it.

    Args:
        meta: of the episode; where it went through another format, its masks are in its ``origin``.
    """
    first = EpisodeMeta(meta.origin or {})
    masks = [mask_name(str(n)) for n in (meta if "masks" in meta else first).masks]
    names = [mask_name(str(n)) for n in (meta if "mask_names" in meta else first).mask_names]
    split = [mask_name(str(meta.split))] if meta.split is not None else []
    return list(dict.fromkeys([*masks, *(key for key in split if key not in names)])), names


def origin_of(told: Mapping[str, Json]) -> dict[str, Json]:
    """What `ORIGIN` may hold of such facts: short texts, numbers and flags, and ``notes``."""
    out = {key: value for key, value in told.items() if isinstance(value, bool | int | float) or _is_short(value)}
    notes = told.get("notes")
    kept = [note for note in notes if _is_short(note)][:_NOTES] if isinstance(notes, list) else []
    return {key[:_LONGEST]: out[key] for key in sorted(out)[:_NOTES]} | ({"notes": kept} if kept else {})


def facts_of(meta: EpisodeMeta) -> str | None:
    """What `FACTS` holds for an episode with such facts; None where there are none, or none that it can hold."""
    facts = {key: value for key, value in (meta.episode_metadata or {}).items() if key not in _OF_FILES}
    try:
        text = json.dumps(facts, sort_keys=True, allow_nan=False)
    except ValueError:  # NaN, which is no JSON
        return None
    return text if facts and len(text) <= _LONGEST_FACTS else None


def _is_short(value: Json) -> bool:
    return isinstance(value, str) and len(value) <= _LONGEST


def _escaped(character: str) -> str:
    return "".join(f"%{byte:02x}" for byte in character.encode("utf-8", "backslashreplace"))
