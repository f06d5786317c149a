"""What GR00T's data loader makes of a LeRobot v2.1 dataset, by its documented steps.

GR00T (NVIDIA/Isaac-GR00T, ``gr00t/data/dataset``, ``getting_started/data_preparation.md``) reads
``meta/modality.json`` for the parts of states and actions, frames from an mp4 file of each episode and camera, and
the instruction by the number in a column. It can't be installed from PyPI, so its steps are done here.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from converters.lerobot.source import LerobotSource
from vla_data.core import Array, Episode, Json
from vla_data.errors import DataError, VerifyError
from vla_data.safety import strict_json
from vla_data.safety.text import show
from vla_data.statistics.modality import COLUMNS, FILE

HORIZON: Final = 16
BATCH: Final = 8


def read_back(folder: Path) -> dict[str, Json]:
    """Make a batch of the parts that ``meta/modality.json`` names.

    Raises:
        VerifyError: E601 for what GR00T can't train on: another version, no such file, parts that no column has,
            cameras that are no video.
    """
    try:
        info = strict_json.read(folder / "meta/info.json", root=folder)
        if info.get("codebase_version") not in ("v2.0", "v2.1"):
            found = show(info.get("codebase_version"))
            raise VerifyError("E601", f"gr00t reads LeRobot v2, not {found}; write it with --version v2.1")
        parts = strict_json.read(folder / FILE, root=folder)
    except DataError as error:
        raise VerifyError("E601", f"gr00t: meta/info.json or {FILE}: {error.message}") from None
    source = LerobotSource(root=folder)
    refs = source.episodes()
    episode = source.read(refs[0])
    batch: dict[str, Array] = {}
    for kind, column in COLUMNS.items():
        if not isinstance(parts.get(kind), Mapping) or not parts[kind]:
            raise VerifyError("E601", f"gr00t: {FILE} has no parts of {kind}")
        for name, facts in parts[kind].items():
            batch[f"{kind}.{name}"] = _part(f"{kind}.{name}", facts, column, episode)
    for name, facts in (parts.get("video") or {}).items():
        batch[f"video.{name}"] = _video(name, facts, episode, info)
    if not parts.get("video"):
        raise VerifyError("E601", f"gr00t: {FILE} has no video")
    if not episode.task.strip():
        raise VerifyError("E601", "gr00t: the instruction is empty")
    facts = {name: f"{value.dtype} {value.shape}" for name, value in batch.items()}
    short = len(episode) < HORIZON
    warnings = [f"an episode is shorter than a chunk of {HORIZON} actions"] if short else []
    lines = [
        f"  gr00t: {len(refs):,} episodes at {info['fps']:g} fps; a chunk of {HORIZON} actions",
        "  a batch:",
        *(f"    {show(name)}: {what}" for name, what in facts.items()),
        f"    annotation.human.task_description: {show(episode.task)}",
        *(f"  warning: {line}" for line in warnings),
    ]
    return {"episodes": len(refs), "batch": facts, "warnings": warnings, "lines": lines}


def _part(name: str, facts: Any, column: str, episode: Episode) -> Array:
    """The numbers of a part: of states a step each, of actions the chunk that begins there."""
    key = facts.get("original_key") or column
    array = episode.arrays.get(key)
    start, end = facts.get("start"), facts.get("end")
    if array is None or array.ndim > 2:
        raise VerifyError("E601", f"gr00t: {show(name)} is of {show(key)}, which the dataset does not have")
    table = array.reshape(len(array), -1)
    if not isinstance(start, int) or not isinstance(end, int) or not 0 <= start < end <= table.shape[1]:
        raise VerifyError(
            "E601", f"gr00t: {show(name)} is {start}:{end} of the {table.shape[1]} numbers of {show(key)}"
        )
    count = min(BATCH, len(episode))
    if column != "action":
        return np.asarray(table[:count, None, start:end], dtype=np.float32)
    chunk = np.minimum(np.arange(count)[:, None] + np.arange(HORIZON), len(episode) - 1)
    return np.asarray(table[chunk][..., start:end], dtype=np.float32)


def _video(name: str, facts: Any, episode: Episode, info: Mapping[str, Any]) -> Array:
    key = facts.get("original_key") or f"observation.images.{name}"
    if info["features"].get(key, {}).get("dtype") != "video" or key not in episode.frames:
        raise VerifyError("E601", f"gr00t: video.{show(name)} is of {show(key)}, which is no video of the dataset")
    frames = episode.frames[key]
    return np.stack([frames.pixels(t) for t in range(min(BATCH, len(episode)))])[:, None]
