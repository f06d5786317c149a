"""What openpi's data loader makes of a LeRobot dataset, by its documented steps.

openpi (Physical-Intelligence/openpi, ``training/data_loader.py``, ``training/config.py``, ``transforms.py``) opens
the dataset with LeRobot, takes ``action_horizon`` actions from each frame on (after the end of the episode the
last one is repeated), repacks keys by a mapping in its configuration, resizes images to 224x224 with padding, and
pads state and actions with zeros to 32. It can't be installed from PyPI, so its steps are done here.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np

from converters.lerobot.source import LerobotSource
from vla_data.core import Array, Episode, Json
from vla_data.errors import VerifyError
from vla_data.safety.text import show

HORIZON: Final = 50
MODEL_DIM: Final = 32
SIDE: Final = 224
BATCH: Final = 8
_SLOTS: Final = ("base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb")


def read_back(folder: Path) -> dict[str, Json]:
    """Make a batch, and say which configuration it needs.

    Raises:
        VerifyError: E601 for what openpi can't train on: no actions, more than 32 dimensions, an empty prompt.
    """
    source = LerobotSource(root=folder)
    refs = source.episodes()
    episode = source.read(refs[0])
    schema = source.schema(episode)
    if "action" not in episode.arrays:
        raise VerifyError("E601", "openpi: there is no feature action")
    cameras = list(episode.frames)
    if not cameras:
        raise VerifyError("E601", "openpi: there is no camera")
    state = "observation.state" if "observation.state" in episode.arrays else None
    for name in filter(None, ("action", state)):
        if episode.arrays[name].ndim != 2 or episode.arrays[name].shape[1] > MODEL_DIM:
            raise VerifyError(
                "E601", f"openpi: {name} is {episode.arrays[name].shape[1:]}, not at most {MODEL_DIM}"
            )
    batch = _batch(episode, cameras, state)
    if not episode.task.strip():
        raise VerifyError("E601", "openpi: the prompt is empty")
    warnings = list(_warnings(episode, state, cameras))
    repack = {f"observation/{slot}": camera for slot, camera in zip(_SLOTS, cameras, strict=False)}
    repack |= {"observation/state": state} if state else {}
    repack |= {"actions": "action", "prompt": "prompt"}
    facts = {name: f"{value.dtype} {value.shape}" for name, value in batch.items()}
    lines = [
        f"  openpi: {len(refs):,} episodes at {schema.fps:g} fps; a chunk of {HORIZON} actions is "
        f"{HORIZON / schema.fps:.3g} s",
        '  LeRobotDatasetConfig: prompt_from_task=True, action_sequence_keys=("action",)',
        "  RepackTransform:",
        *(f"    {show(key)!r}: {show(value)!r}" for key, value in repack.items()),
        "  a batch:",
        *(f"    {name}: {what}" for name, what in facts.items()),
        f"    prompt: {show(episode.task.strip().replace('_', ' '))}",
        *(f"  warning: {line}" for line in warnings),
    ]
    return {"episodes": len(refs), "repack": repack, "batch": facts, "warnings": warnings, "lines": lines}


def _batch(episode: Episode, cameras: list[str], state: str | None) -> dict[str, Array]:
    count = min(BATCH, len(episode))
    last = len(episode) - 1
    chunk = np.minimum(np.arange(count)[:, None] + np.arange(HORIZON), last)
    actions = episode.arrays["action"][chunk].astype(np.float32)
    batch: dict[str, Array] = {
        "actions": np.pad(actions, ((0, 0), (0, 0), (0, MODEL_DIM - actions.shape[2]))),
    }
    if state is not None:
        values = episode.arrays[state][:count].astype(np.float32)
        batch["state"] = np.pad(values, ((0, 0), (0, MODEL_DIM - values.shape[1])))
    for slot, camera in zip(_SLOTS, cameras, strict=False):
        frames = episode.frames[camera]
        batch[f"image.{slot}"] = np.stack([resize_with_pad(frames.pixels(t), SIDE) for t in range(count)])
    return batch


def resize_with_pad(pixels: Array, side: int) -> Array:
    """``(side, side, 3)`` uint8: the whole image, its shape kept, in the middle of black."""
    from PIL import Image

    height, width = pixels.shape[:2]
    ratio = max(height, width) / side
    size = (int(height / ratio), int(width / ratio))
    small = np.asarray(Image.fromarray(pixels).resize((size[1], size[0]), Image.Resampling.BILINEAR))
    out = np.zeros((side, side, 3), dtype=np.uint8)
    top, left = (side - size[0]) // 2, (side - size[1]) // 2
    out[top : top + size[0], left : left + size[1]] = small
    return out


def _warnings(episode: Episode, state: str | None, cameras: list[str]) -> Iterator[str]:
    if state is None:
        yield "there is no observation.state; openpi's policies need one"
    if len(cameras) > len(_SLOTS):
        yield f"openpi takes {len(_SLOTS)} cameras; {', '.join(map(show, cameras[3:]))} would be left out"
    if len(episode) < HORIZON:
        yield f"an episode is shorter than a chunk of {HORIZON} actions, which repeats its last one, unmasked"
    action = episode.arrays["action"]
    still = [str(d) for d in range(action.shape[1]) if np.ptp(action[:, d]) == 0]
    if still:
        yield f"action dimensions {', '.join(still)} do not change: quantile normalisation divides by 1e-6 there"
