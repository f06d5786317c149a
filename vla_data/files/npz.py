"""Rollouts as plain ``.npz`` files, one an episode: arrays that ``np.load`` reads with ``allow_pickle=False``.

image             (T or T+1, H, W, 3) uint8; or encoded images one after the other, with image_sizes
image_sizes       (T or T+1,) int64, bytes of each encoded image
action            (T, 7) float32
instruction       text
info.<key>        (T,) what the environment said, as recorded; info.success is always there
state             (T or T+1, D) float32, where the rollout has it
fps               () float64, control rate in steps per second, where the rollout has it
is_image_encode   only where the rollout has the mark of RL4VLA's motion planner
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Member = NDArray[Any] | Sequence[bytes]
"""An array; or encoded images, which become one array of their bytes without being joined in memory."""


def image_members(encoded: Sequence[bytes]) -> dict[str, Member]:
    """The two members that hold encoded images."""
    sizes = np.asarray([len(item) for item in encoded], dtype=np.int64)
    return {"image": encoded, "image_sizes": sizes}


def as_array(member: Member) -> NDArray[Any]:
    """The array that is read back for a member."""
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
            info.compress_type = zipfile.ZIP_DEFLATED if isinstance(member, np.ndarray) else zipfile.ZIP_STORED
            info._compresslevel = 1  # type: ignore[attr-defined]  # public from Python 3.13 on only
            with archive.open(info, "w") as file:
                if isinstance(member, np.ndarray):
                    np.lib.format.write_array(file, np.asarray(member, order="C"), allow_pickle=False)
                    yield from out.take()
                    continue
                shape = (sum(map(len, member)),)
                header = {"descr": "|u1", "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(file, header)
                for item in member:
                    file.write(item)
                    yield from out.take()
    yield from out.take()


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
