"""What a rollout holds beside the keys that every collector writes: more cameras, more numbers a step."""

from __future__ import annotations

import re
from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from converters.rollouts.images import Allowed, read_images
from vla_data.core.notes import LEFT_OUT
from vla_data.errors import DataError
from vla_data.media.frames import Frames
from vla_data.safety.stand_ins import Image
from vla_data.safety.text import show

KNOWN: Final = frozenset({"action", "fps", "image", "info", "instruction", "is_image_encode", "state"})
"""Keys that have rules of their own."""

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")
_MAGIC: Final = (b"\xff\xd8\xff", b"\x89PNG")


@dataclass(slots=True)
class Extra:
    """Features of other keys.

    Attributes:
        arrays: name -> numbers, one row a step.
        frames: name -> images, one a step.
        final: name -> what was there after the last action.
        notes: what was kept or left out, as codes.
    """

    arrays: dict[str, NDArray[Any]] = field(default_factory=dict)
    frames: dict[str, Frames] = field(default_factory=dict)
    final: dict[str, Frames | NDArray[Any]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def read_extra(
    rollout: Mapping[str, Any],
    steps: int,
    *,
    allowed: frozenset[Allowed],
    size: tuple[int, int] | None,
    unwanted: Container[str],
) -> Extra:
    """The features of the keys that are not in `KNOWN`, in their order.

    - ``T`` or ``T+1`` images are ``observation.images.<key>``
    - ``T+1`` rows of numbers are ``observation.<key>``: before each action, and after the last
    - ``T`` rows of numbers are ``<key>``, with the note ``taken_as_of_the_action``
    - anything else is left out, with the note ``left_out_as_unknown``

    Args:
        rollout: key -> value.
        steps: ``T``.
        allowed: fixes of images; see `read_images`.
        size: of images; see `read_images`.
        unwanted: features that are not looked at.

    Raises:
        DataError: what `read_images` raises, with the key and the option that does without it.
    """
    out = Extra()
    for key, value in rollout.items():
        if key in KNOWN:
            continue
        name = f"observation.images.{key}" if _is_images(value) else ""
        rows = None if name else _rows(value)
        count = len(value) if name else len(rows) if rows is not None else -1
        if not isinstance(key, str) or not _NAME.fullmatch(key) or count not in (steps, steps + 1):
            out.notes.append(f"left_out_as_unknown:{show(key)}")
            continue
        name = name or (f"observation.{key}" if count > steps else key)
        if name in unwanted:
            out.notes.append(f"{LEFT_OUT}:{name}")
        elif rows is None:
            frames = _frames(key, name, value, allowed, size, out.notes)
            out.frames[name] = frames.take(range(steps))
            if count > steps:
                out.final[name] = frames.take([steps])
        else:
            out.arrays[name] = rows[:steps]
            if count > steps:
                out.final[name] = rows[steps:]
            else:
                out.notes.append(f"taken_as_of_the_action:{name}")
    return out


def _frames(
    key: str,
    name: str,
    value: Any,
    allowed: frozenset[Allowed],
    size: tuple[int, int] | None,
    notes: list[str],
) -> Frames:
    found: list[str] = []
    try:
        frames = read_images(value, encoded=False, allowed=allowed, size=size, notes=found)
    except DataError as error:
        raise DataError(error.code, f"{key}: {error.message}; --drop {name} leaves it out") from None
    notes += [f"{note}:{name}" for note in found]
    return frames


def _is_images(value: Any) -> bool:
    """Whether a value is a list of images, by its first one."""
    if not isinstance(value, list | tuple | np.ndarray) or (isinstance(value, np.ndarray) and value.ndim == 0):
        return False
    first = value[0] if len(value) else None
    if isinstance(first, np.ndarray) and first.dtype == np.uint8 and first.ndim == 3:
        return first.shape[2] in (3, 4) or first.shape[0] == 3
    if isinstance(first, np.ndarray) and first.dtype == np.uint8 and first.ndim == 1:
        first = first.tobytes()
    return isinstance(first, Image) or (
        isinstance(first, bytes | memoryview) and bytes(first[:4]).startswith(_MAGIC)
    )


def _rows(value: Any) -> NDArray[Any] | None:
    """A value as numbers with a row a step, or None."""
    if not isinstance(value, list | tuple | np.ndarray):
        return None
    try:
        rows = np.asarray(value)
    except (ValueError, TypeError):  # ragged
        return None
    return rows if rows.ndim >= 1 and rows.dtype.kind in "biuf" and 0 not in rows.shape[1:] else None
