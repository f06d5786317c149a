"""What the file of a rollout has, key by key, for whoever judges what came of it.

Only the opening of the file is shared with the reader, because nothing else may unpickle it; how keys become
features is written down here once more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

_NO_FEATURES: Final = ("fps", "info", "instruction", "is_image_encode")
_CALLED: Final = {"action": "action", "state": "observation.state"}


def evidence(rollout: Mapping[str, Any], camera: str) -> Mapping[str, Sequence[Any] | None]:
    """Feature -> its cells, one a step, or None for images and for what has no row a step.

    Args:
        rollout: key -> value.
        camera: name of the images in ``image``.
    """
    steps = len(rollout["action"])
    out: dict[str, Sequence[Any] | None] = {}
    for key, value in rollout.items():
        if key in _NO_FEATURES or isinstance(value, str | bytes):
            continue
        if key == "image":
            out[f"observation.images.{camera}"] = None
            continue
        rows = None if _shows(value) else _numbers(value)
        count = len(rows) if rows is not None else len(value) if _shows(value) else -1
        name = _CALLED.get(key, key)
        if key not in _CALLED and count in (steps, steps + 1) and rows is None:
            name = f"observation.images.{key}"
        elif key not in _CALLED and count == steps + 1:
            name = f"observation.{key}"
        out[name] = rows[:steps].tolist() if rows is not None and count >= steps and rows.ndim <= 2 else None
    return out


def _numbers(value: Any) -> NDArray[Any] | None:
    try:
        array = np.asarray(value)
    except (ValueError, TypeError):
        return None
    return array if array.dtype.kind in "biuf" and array.ndim >= 1 else None


def _shows(value: Any) -> bool:
    """Whether the first thing in a list is a picture: one of a library, pixels, or a file."""
    if not isinstance(value, list | tuple | np.ndarray) or (isinstance(value, np.ndarray) and value.ndim == 0):
        return False
    first = value[0] if len(value) else None
    if isinstance(first, np.ndarray) and first.dtype == np.uint8:
        return 3 in first.shape if first.ndim == 3 else first[:4].tobytes()[:2] in (b"\xff\xd8", b"\x89P")
    is_file = isinstance(first, bytes) and first[:2] in (b"\xff\xd8", b"\x89P")
    return is_file or hasattr(first, "mode")
