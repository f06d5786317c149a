"""ALOHA and AgileX episodes: one file each, as ACT records them and RDT reads them.

::

    action                            (N, 14)
    observations/qpos, qvel, effort   (N, 14) before each action
    observations/images/<camera>      (N, height, width, 3) uint8, or JPEG files: as |S<n>, as rows of unequal
                                      length, or as (N, n) uint8 padded with zeros
    base_action, instruction          where there are any
    attributes sim, compress

**Channels** of JPEG files must be declared: ``cv2.imencode`` of an RGB array swaps red and blue, and no file says
whether it was used. Arrays of a simulator (``sim`` is true) are RGB; those of cameras must be declared.
Files that ``vla-data convert --to rdt`` made say it: attribute ``channel_order``.
**Control rate.** Not recorded, but in attribute ``control_freq`` of files of ours, of which ``rdt.json`` says what
states and actions mean. **Language.** ``instruction`` in the file, else key ``instruction`` of
``expanded_instruction_gpt-4-turbo.json`` beside it (RDT's).
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Final

import numpy as np

from converters.hdf5.dialects.actions import actions_of
from converters.hdf5.dialects.base import (
    RGB,
    Demo,
    Found,
    collect,
    file_of,
    instructions,
    is_images,
    metadata,
    observation,
    one_text,
    written,
)
from converters.hdf5.dialects.odd import Odd, beside
from vla_data.core import Json
from vla_data.errors import DataError
from vla_data.safety import strict_json
from vla_data.safety.files import read_file
from vla_data.safety.hdf5 import Group, Table

_INSTRUCTIONS: Final = "expanded_instruction_gpt-4-turbo.json"
_FACTS: Final = "rdt.json"
_NAMES: Final = {"qpos": "state", "qvel": "velocity"}


class Aloha:
    """See this module. ``observation.state`` is qpos, ``observation.velocity`` qvel: left arm and gripper, right
    arm and gripper.
    """

    name: ClassVar[str] = "aloha"
    state: ClassVar[tuple[str, ...]] = ()

    def fits(self, top: Group) -> bool:
        """By ``action`` and ``observations``."""
        return "action" in top and "observations" in top

    def demos(self, top: Group) -> list[str]:
        """The file is one."""
        return [""]

    def read(self, top: Group, name: str, path: Path, root: Path) -> Demo:
        """The episode. See `converters.hdf5.dialects.base.Layout`."""
        about = top.attributes()
        odd: list[Odd] = []
        obs, notes = collect(top.group("observations"), odd=odd)
        extra, more = collect(top, odd=odd, skip=("action", "observations", "compress_len"))
        with beside(odd):
            actions = actions_of(top, "action", odd)
        seen: dict[str, Table] = {}
        encoded = set()
        for key, table in obs.items():
            camera = key.removeprefix("images.")
            if camera == key or _is_depth(table) or file_of(table) not in (None, RGB):
                seen[observation(_NAMES.get(key, key), table)] = table
                continue
            seen[f"observation.images.{camera}"] = table
            if not is_images(table):
                encoded.add(f"observation.images.{camera}")
        languages = {**written(extra), **instructions(about)}
        if not languages and (path.parent / _INSTRUCTIONS).exists():
            told = _beside(path.parent / _INSTRUCTIONS, root)
            languages |= {"instruction_file": told} if told is not None else {}
        ours = isinstance(about.get("vla_data_id"), str)
        order, rate = about.get("channel_order"), about.get("control_freq")
        sim = about.get("sim")
        simulated = isinstance(sim, bool | np.bool_) and bool(sim)
        return Demo(
            actions=actions,
            results={},
            before={},
            extra=extra,
            seen=seen,
            encoded=frozenset(encoded),
            time=Found("before", "aloha_layout"),
            orientation=Found("none", "aloha_layout"),
            channels=Found("rgb", "simulated") if simulated and not encoded else None,
            file_channels=Found(order, "channel_order") if ours and order in ("rgb", "bgr") else None,
            languages=languages,
            fps=float(rate) if ours and isinstance(rate, float | np.floating) else None,
            facts={
                "declared": _declared(path, root) if ours else None,
                "episode_metadata": metadata(file=about),
            },
            notes=(*notes, *more),
            odd=tuple(odd),
        )


def _declared(path: Path, root: Path) -> dict[str, Json] | None:
    """What ``rdt.json`` two folders up says of the vectors, where they are in RDT's slots."""
    place = path.parent.parent / _FACTS
    if not place.is_file():
        return None
    try:
        facts = strict_json.loads(read_file(place, root=root)[0], name=_FACTS)
        if facts["layout"] == "agilex":  # whose numbers are in units of that robot
            return None
        told = facts["conventions"]
        return {
            "action": {"convention": dict(told["action"])},
            "observation.state": {"convention": dict(told["state"])},
        }
    except (DataError, KeyError, TypeError, ValueError):
        return None  # an examiner tells what is wrong with it; here it says nothing


def _is_depth(table: Table) -> bool:
    """Whether a camera's table is numbers but no picture: depth, or a mask."""
    flat = table.kind == "number" and table.dtype == np.uint8 and len(table.shape) == 2
    return table.kind == "number" and not flat and not is_images(table)


def _beside(path: Path, root: Path) -> str | None:
    value = strict_json.loads(read_file(path, root=root)[0], name=path.name, not_finite=True)
    return one_text(value.get("instruction")) if isinstance(value, dict) else None


def sidecar(path: Path) -> Path:
    """The instructions beside an episode."""
    return path.parent / _INSTRUCTIONS
