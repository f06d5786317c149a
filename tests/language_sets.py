"""A LeRobot dataset with everything of 0.6.1: both columns of language, depth as images, tools, subtasks."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from tests.lerobot_sets import FPS, TOP, camera, numbers, picture, png, records, vector, write

STEPS = 6
PERSISTENT, EVENTS = "language_persistent", "language_events"
MM, METRES = "observation.images.depth", "observation.images.metres"
TOOLS = [{"type": "function", "function": {"name": "say", "parameters": {"type": "object"}}}]
LANGUAGE = {"dtype": "language", "shape": [1], "names": None}


def say(text: str) -> list[dict[str, Any]]:
    """A call of the tool."""
    return [{"type": "function", "function": {"name": "say", "arguments": {"text": text}}}]


def row(content: str | None, style: str | None, step: float | None = None, **more: Any) -> dict[str, Any]:
    """A row of language, as lerobot's annotation writes it; ``step`` is when a persistent one begins to hold."""
    own = {"role": more.pop("role", "assistant"), "content": content, "style": style}
    if step is not None:
        own["timestamp"] = float(np.float32(step / FPS))
    return {**own, "camera": more.pop("camera", None), "tool_calls": more.pop("tool_calls", None)}


def holding(episode: int) -> list[dict[str, Any]]:
    """What holds: a plan that is made anew, two wordings of the task, subtasks of which one comes twice."""
    return [
        row(f"plan {episode}", "plan", 0),
        row("do it", "task_aug", 0, role="user"),
        row("do it, please", "task_aug", 0, role="user"),
        row("reach", "subtask", 0),
        row("grasp", "subtask", 2),
        row("grasp", "subtask", 3),
        row("plan anew", "plan", 4),
        row("lift", "subtask", 4),
    ]


def happening(episode: int) -> list[list[dict[str, Any]]]:
    """What happens at each step."""
    steps: list[list[dict[str, Any]]] = [[] for _ in range(STEPS)]
    steps[1] = [row(None, None, tool_calls=say(f"hé {episode}"))]
    steps[3] = [row("what is it?", "vqa", role="user", camera=TOP), row('{"label": "cup"}', "vqa", camera=TOP)]
    return steps


def tiff(values: np.ndarray[Any, Any]) -> bytes:
    """A depth map as lerobot's image writer saves it."""
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "TIFF", compression="raw")
    return buffer.getvalue()


def maps(episode: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """``(T, 6, 8)`` uint16 millimetres and float32 metres."""
    pick = np.random.default_rng(episode)
    return pick.integers(0, 2**16, (STEPS, 6, 8), dtype=np.uint16), pick.random((STEPS, 6, 8)).astype(np.float32)


def annotated(
    root: Path, *, language: bool = True, depth: bool = True, subtasks: bool = False, **more: Any
) -> Path:
    """Two episodes of six steps."""
    features: dict[str, Any] = {"action": vector(), TOP: camera()}
    episodes: list[dict[str, Any]] = []
    for e in range(2):
        own: dict[str, Any] = {"action": numbers(STEPS, episode=e).tolist()}
        own[TOP] = records([png(picture(t, e)) for t in range(STEPS)])
        if language:
            own |= {PERSISTENT: pa.array([holding(e)] * STEPS), EVENTS: pa.array(happening(e))}
        if depth:
            own |= {name: records([tiff(m) for m in one]) for name, one in zip((MM, METRES), maps(e), strict=True)}
        if subtasks:
            own["subtask_index"] = pa.array([1, 1, 1, 0, 0, 2])
        episodes.append(own)
    if language:
        features |= {PERSISTENT: LANGUAGE, EVENTS: LANGUAGE}
    if depth:
        for name, unit in ((MM, "mm"), (METRES, "m")):
            features[name] = camera(shape=(6, 8, 1), is_depth_map=True, depth_unit=unit)
    if subtasks:
        features["subtask_index"] = {"dtype": "int64", "shape": [1], "names": None}
    write(root, episodes, features, info={"tools": TOOLS, **more.pop("info", {})}, **more)
    if subtasks:
        table = pa.table({"subtask_index": [0, 1, 2], "subtask": ["grasp", "reach", "lift"]})
        pq.write_table(table, root / "meta/subtasks.parquet")
    return root
