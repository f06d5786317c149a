"""Opens a dataset with stock ``LeRobotDataset`` and a PyTorch ``DataLoader``."""

from __future__ import annotations

import importlib
import os
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a damaged dataset must not be looked for on the network

import lerobot
import torch
from lerobot.datasets.lerobot_dataset import LeRobotDataset

from converters.lerobot.source import LerobotSource
from vla_data.core import Json
from vla_data.errors import VerifyError
from vla_data.media import video
from vla_data.safety.text import show

BATCH = 8


def _backend() -> str | None:
    """None for lerobot's own choice; PyAV where that would be a TorchCodec that can't load its libraries."""
    try:
        importlib.import_module("torchcodec")
    except (OSError, RuntimeError):
        return "pyav"
    except ImportError:
        pass  # lerobot looks for it too
    return None


def _check(folder: Path) -> None:
    """Refuse what would make lerobot read other files than the dataset's own: templates of paths, and videos that
    are lists of files in some other format.
    """
    LerobotSource(root=folder).episodes()
    for path in sorted(folder.glob("videos/**/*.mp4")):
        video.describe(path)


def read_back(folder: Path) -> dict[str, Json]:
    """Load the dataset, and a batch with a chunk of actions as policies ask for it.

    Raises:
        VerifyError: E601, lerobot can't open it or gives values that are not finite.
    """
    try:
        _check(folder)
        backend = _backend()
        plain = LeRobotDataset("vla_data/gate", root=folder, video_backend=backend)
        horizon = min(16, min(int(n) for n in plain.meta.episodes["length"]))
        times = {"action": [t / plain.fps for t in range(horizon)]} if "action" in plain.features else None
        dataset = LeRobotDataset("vla_data/gate", root=folder, delta_timestamps=times, video_backend=backend)
        size = min(BATCH, len(dataset))
        batch = next(iter(torch.utils.data.DataLoader(dataset, batch_size=size, shuffle=False)))
    except Exception as error:  # it is somebody else's, and fails in many ways
        reason = show((str(error).splitlines() or [""])[0])
        raise VerifyError("E601", f"lerobot can't read it: {type(error).__name__}: {reason}") from None
    tensors = {name: value for name, value in batch.items() if isinstance(value, torch.Tensor)}
    for name, value in tensors.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise VerifyError("E601", f"lerobot gives values of {show(name)} that are not finite")
    seen = {
        name: f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}" for name, value in tensors.items()
    }
    version = getattr(lerobot, "__version__", "")
    size_of = f"{dataset.num_episodes:,} episodes, {dataset.num_frames:,} frames, {dataset.fps:g} fps"
    lines = [
        f"  lerobot {version}: {size_of}",
        f"  a batch of {size}, with a chunk of {horizon} actions:",
        *(f"    {show(name)}: {what}" for name, what in seen.items()),
        f"    task: {show(batch['task'][0])}",
    ]
    return {"episodes": dataset.num_episodes, "frames": dataset.num_frames, "batch": seen, "lines": lines}
