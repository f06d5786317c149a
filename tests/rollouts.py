"""Small rollouts and episodes for tests, from few words.

path = save(tmp_path, "a.npz", rollout(T=8, success=[0, 0, 1, 1, 1, 1, 1, 1]))   # a file as collectors write it
whole = episode([STILL, MOVE, MOVE], [0, 1, 1])                                  # no file involved
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from vla_data.core import Episode
from vla_data.media.frames import Frames

Images = Literal["arrays", "pil", "jpeg", "png"]

CAMERA = "observation.images.primary"
STILL = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0)
"""An action that RL4VLA's filter drops."""
MOVE = (0.05, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0)
"""An action that it keeps."""


def rollout(
    T: int = 8,  # noqa: N803 - the name that every format description has for it
    *,
    actions: Any = None,
    success: Sequence[object] | None = None,
    images: Images = "arrays",
    size: tuple[int, int] = (24, 32),
    extra_image: bool = True,
    instruction: Any = "put carrot on plate",
    seed: int = 0,
) -> dict[str, Any]:
    """A PPO rollout as its collector holds it: ``image``, ``action``, ``info``, ``instruction``.

    Args:
        T: steps; not used where ``actions`` or ``success`` says how many there are.
        actions: stored as it is; None: a (T, 7) float32 array of moves of 0.02 to 0.05 m, gripper open.
        success: of each step, stored as it is; None: True in all but the first two.
        images: "arrays": one (T, H, W, 3) array; "pil", "jpeg", "png": a list of such images.
        size: height and width.
        extra_image: whether there is an image after the last action, T+1 in all.
        instruction: stored as it is.
        seed: of the pixels and of the default actions.
    """
    if actions is not None:
        T = len(actions)  # noqa: N806
    elif success is not None:
        T = len(success)  # noqa: N806
    random = np.random.default_rng(seed)
    if actions is None:
        actions = np.zeros((T, 7), dtype=np.float32)
        actions[:, 0] = random.uniform(0.02, 0.05, T)
        actions[:, 6] = 1.0
    if success is None:
        success = [t >= 2 for t in range(T)]
    pixels = random.integers(0, 256, (T + extra_image, *size, 3), dtype=np.uint8)
    return {
        "image": pixels if images == "arrays" else [_image(item, images) for item in pixels],
        "action": actions,
        "info": [{"success": flag} for flag in success],
        "instruction": instruction,
    }


def save(folder: Path, name: str, data: object) -> Path:
    """Write ``data`` pickled, as collectors do: ``.npz`` (member ``arr_0``) or ``.npy`` by the name's suffix."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    boxed = np.empty((), dtype=object)
    boxed[()] = data
    if path.suffix == ".npz":
        np.savez(path, boxed)
    else:
        np.save(path, boxed, allow_pickle=True)
    return path


def episode(
    actions: Any,
    success: Sequence[object],
    *,
    info_success: Sequence[object] | None = None,
    size: tuple[int, int] = (4, 6),
) -> Episode:
    """An episode without a file: the images of step ``t`` have all pixels ``t % 256``.

    Args:
        actions: (T, 7); float32 unless it is an array already.
        success: of each step, aligned: right after the action.
        info_success: as the collector recorded it; None: as ``success``.
        size: height and width of the images.
    """
    action = actions if isinstance(actions, np.ndarray) else np.array(actions, np.float32).reshape(-1, 7)
    steps = len(action)
    aligned = np.asarray(success, dtype=np.bool_)
    recorded = aligned if info_success is None else np.asarray(info_success, dtype=np.bool_)
    return Episode(
        id="episode",
        arrays={"action": action, "next.success": aligned, "info.success": recorded},
        frames={CAMERA: Frames(tuple(np.full((*size, 3), t % 256, np.uint8) for t in range(steps)), *size)},
        task="put carrot on plate",
        index=np.arange(steps),
        meta={"source": "test", "source_length": steps, "source_sha256": "0" * 64},
    )


def _image(pixels: np.ndarray[Any, np.dtype[np.uint8]], kind: Images) -> Any:
    image = Image.fromarray(pixels)
    if kind == "pil":
        return image
    buffer = io.BytesIO()
    image.save(buffer, format=kind.upper(), quality=95)
    return np.frombuffer(buffer.getvalue(), dtype=np.uint8) if kind == "jpeg" else buffer.getvalue()
