"""The keys of a rollout, from the bytes of its file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from vla_data.errors import DataError
from vla_data.recording.recorded import HEADER
from vla_data.safety import npy
from vla_data.safety.archive import Archive
from vla_data.safety.files import MAX_FILE
from vla_data.safety.text import show

_SHOWN: Final = 6
_SIZES: Final = "_sizes"
_PLAIN_MEMBER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,80}\.npy")


class NotARolloutError(DataError):
    """A healthy file of another kind that lies among the rollouts: it is left alone, not quarantined."""

    ignore = True


def load_members(data: bytes, name: str) -> Mapping[str, Any]:
    """The rollout's keys from the bytes of one file; those of a recorded one are its members.

    Raises:
        DataError: for a file that is damaged, or hostile, or no rollout's.
    """
    if not name.lower().endswith(".npz"):
        return _dictionary(npy.loads(data, name="the file"))
    archive = Archive(data, name="the archive", max_bytes=MAX_FILE)
    if archive.names == ("arr_0.npy",):
        return _dictionary(npy.loads(archive.read("arr_0.npy"), name="arr_0.npy"))
    keys = [member.removesuffix(".npy") for member in archive.names]
    if HEADER in keys:
        return {key: _member(archive, key) for key in keys}
    if "image" not in keys or "action" not in keys or not all(map(_PLAIN_MEMBER.fullmatch, archive.names)):
        if archive.names and all(npy.is_plain(archive.read(member)) for member in archive.names):
            has = ", ".join(map(show, keys[:_SHOWN])) + (" and more" if keys[_SHOWN:] else "")
            raise NotARolloutError(
                "E206",
                f"an archive of plain arrays ({has}), but not a rollout's, which has action, image and info",
            )
        raise DataError("E108", "the archive has members other than arr_0.npy")
    return _unflatten({key: _member(archive, key) for key in keys})


def _member(archive: Archive, key: str) -> Any:
    return npy.loads(archive.read(f"{key}.npy"), name=f"{key}.npy")


def _dictionary(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        if isinstance(value, np.ndarray) and value.dtype != object:
            raise NotARolloutError("E206", "a plain array, not a rollout")
        raise DataError("E206", f"the file does not hold the dictionary of a rollout, but {_told(value)}")
    return value


def _told(value: Any) -> str:
    """What a file holds that is no rollout, and a way on where it is a known one."""
    items = value.reshape(-1).tolist() if isinstance(value, np.ndarray) else value
    if not isinstance(items, list | tuple) or not items or not isinstance(items[0], dict):
        return f"a {type(value).__name__}"
    found = f"a list of {len(items):,} dictionaries ({', '.join(map(show, list(items[0])[:_SHOWN]))})"
    if "info" in items[0]:
        return f"{found}: several rollouts, where each is a file of its own"
    return f"{found}: one a step, as RLDS builders take them; run that builder, and name the dataset that it makes"


def _unflatten(arrays: Mapping[str, Any]) -> Mapping[str, Any]:
    """``info.success`` and the like of a sanitized file become ``info``; sizes split its encoded images."""
    rollout: dict[str, Any] = {}
    info: dict[str, Any] = {}
    for key, value in arrays.items():
        if key.startswith("info."):
            info[key.removeprefix("info.")] = value
        else:
            rollout[key] = value.item() if isinstance(value, np.ndarray) and value.shape == () else value
    if info:
        rollout.setdefault("info", info)
    for key in [key for key in rollout if f"{key}{_SIZES}" in rollout]:
        rollout[key] = _split(rollout[key], rollout.pop(f"{key}{_SIZES}"), key)
    return rollout


def _split(image: Any, sizes: Any, key: str) -> list[Any]:
    """The encoded images of a camera, from one array of all their bytes."""
    ok = isinstance(sizes, np.ndarray) and sizes.dtype == np.int64 and sizes.ndim == 1
    ok = ok and isinstance(image, np.ndarray) and image.ndim == 1 and image.dtype == np.uint8
    if not ok or (sizes < 0).any():
        raise DataError("E203", f"{key}{_SIZES} does not fit {key}")
    total = sum(sizes.tolist())  # in Python's integers, which don't overflow
    if total != len(image):
        raise DataError("E204", f"{key}{_SIZES} add up to {total:,}, not to {len(image):,} bytes")
    ends = np.cumsum(sizes)
    return [image[end - size : end] for end, size in zip(ends, sizes, strict=True)]
