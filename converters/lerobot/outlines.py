"""What the metadata of a LeRobot dataset say of episodes that nobody has read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from converters.lerobot.layout import Layout
from vla_data.core import EpisodeRef, Json
from vla_data.core.ends import Outline


def outlines(layout: Layout, refs: Sequence[EpisodeRef]) -> Mapping[str, Outline]:
    """Id -> length and first instruction, of the episodes whose ``tasks`` are texts."""
    told = layout.told_tasks
    out = {}
    for ref in refs:
        at = layout.position(int(ref.id.removeprefix("episode_")))
        if (task := _first(told[at])) is not None:
            out[ref.id] = Outline(layout.lengths[at], task)
    return out


def _first(tasks: Json) -> str | None:
    first = tasks[0] if isinstance(tasks, list) and tasks else tasks
    return first if isinstance(first, str) else None
