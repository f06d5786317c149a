"""Rollouts as plain ``.npz`` files, one an episode: arrays that ``np.load`` reads with ``allow_pickle=False``.

image             (T or T+1, H, W, 3) uint8; or encoded images one after the other, with image_sizes
image_sizes       (T or T+1,) int64, bytes of each encoded image
action            (T, 7) float32
instruction       text
info.<key>        (T,) what the environment said, as recorded; info.success is always there
state             (T or T+1, D) float32, where the rollout has it
fps               () float64, control rate in steps per second, where the rollout has it
is_image_encode   only where the rollout has the mark of RL4VLA's motion planner

Rollouts of any other features have the layout of `vla_data.recording.recorded`.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from vla_data.core.episode import Json

ACTION_NAMES: Final = ("x", "y", "z", "rot_1", "rot_2", "rot_3", "gripper")
ACTION_CONVENTION: Final[dict[str, Json]] = {
    "layout": {"translation": [0, 1, 2], "rotation": [3, 4, 5], "gripper": [6]},
    "kind": "delta",
    "reference": "previous_target",
    "frame": "robot_base",
    "translation_unit": "m",
    "rotation_unit": "rad",
    "rotation": "undeclared",  # the three collectors write three dialects without a tag
    "gripper_control": "position",
    "gripper_open": 1.0,
    "gripper_closed": -1.0,
}
"""What the seven numbers of ``action`` mean, by the words of ``docs/conventions.md``."""


@dataclass(frozen=True, slots=True)
class Rows:
    """An array by its rows, of one shape and type, which are written without being put together in memory.

    Attributes:
        rows: along the first axis; at least one.
    """

    rows: Sequence[NDArray[Any]]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the whole array."""
        return len(self.rows), *self.rows[0].shape


Member = NDArray[Any] | Rows | Sequence[bytes]
"""An array; or encoded images, which become one array of their bytes without being joined in memory."""


def image_members(encoded: Sequence[bytes], key: str = "image") -> dict[str, Member]:
    """The two members that hold the encoded images of a camera."""
    sizes = np.asarray([len(item) for item in encoded], dtype=np.int64)
    return {key: encoded, f"{key}_sizes": sizes}


def as_array(member: Member) -> NDArray[Any]:
    """The array that is read back for a member."""
    if isinstance(member, Rows):
        return np.stack(member.rows)
    return member if isinstance(member, np.ndarray) else np.frombuffer(b"".join(member), dtype=np.uint8)


def npz_pieces(members: Mapping[str, Member]) -> Iterator[bytes]:
    """An npz file, piece by piece: the same bytes for the same members, without the time of day.

    Arrays are deflated; encoded images are stored as they are, since nothing can be squeezed out of them.
    """
    out = _Pieces()
    with zipfile.ZipFile(out, "w") as archive:
        for name in sorted(members):
            member = members[name]
            info = zipfile.ZipInfo(f"{name}.npy")  # dated 1980
            is_array = isinstance(member, np.ndarray | Rows)
            info.compress_type = zipfile.ZIP_DEFLATED if is_array else zipfile.ZIP_STORED
            info._compresslevel = 1  # type: ignore[attr-defined]  # public from Python 3.13 on only
            with archive.open(info, "w") as file:
                if isinstance(member, np.ndarray):
                    np.lib.format.write_array(file, np.asarray(member, order="C"), allow_pickle=False)
                    yield from out.take()
                    continue
                shape, descr = _declared(member)
                header = {"descr": descr, "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(file, header)
                for item in member.rows if isinstance(member, Rows) else member:
                    file.write(item.tobytes() if isinstance(item, np.ndarray) else item)
                    yield from out.take()
    yield from out.take()


def _declared(member: Rows | Sequence[bytes]) -> tuple[tuple[int, ...], Any]:
    """Shape and type of the array that a member becomes."""
    if isinstance(member, Rows):
        return member.shape, np.lib.format.dtype_to_descr(member.rows[0].dtype)
    return (sum(map(len, member)),), "|u1"


class _Pieces:
    """A file that can't seek, for `zipfile` to write to; what was written is taken away from its start."""

    def __init__(self) -> None:
        self._written: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._written.append(bytes(data))
        return len(data)

    def take(self) -> list[bytes]:
        written, self._written = self._written, []
        return written

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        """Nothing to close."""
