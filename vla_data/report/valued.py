"""Values and advantages along a few episodes, with the pictures of their steps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from vla_data.errors import VlaDataError
from vla_data.formats import open_source
from vla_data.report.charts import Curve, curves
from vla_data.report.page import sentence
from vla_data.report.strips import Strip, strips_of
from vla_data.report.words import escaped

if TYPE_CHECKING:
    from vla_data.advantages.annotation import Annotation
    from vla_data.advantages.frame_table import FrameTable
    from vla_data.core import Episode

EPISODES: Final = 2
"""That are shown of each end."""


def valued(frames: FrameTable, made: Annotation) -> str:
    """The episodes whose mean advantage is highest, and those where it is lowest.

    Args:
        frames: of a LeRobot dataset.
        made: an annotation of it.
    """
    means = np.add.reduceat(made.advantages, frames.episodes.starts) / frames.episodes.lengths
    order = np.argsort(-means, kind="stable").tolist()
    few = order if len(order) <= 2 * EPISODES else [*order[:EPISODES], *order[-EPISODES:]]
    parts, why = [], ""
    for at in few:
        try:
            episode = _read(frames, at)
            strips = strips_of(episode)[:1]
        except VlaDataError as error:
            why = f" Some pictures are missing: {error.code} {error.message}."
            episode, strips = None, []
        parts.append(_figure(frames, made, at, episode, strips))
    head = "<h3>Along episodes</h3>" + sentence(
        "Episodes with the highest and the lowest mean advantage: values as a line, advantages as bars from zero,"
        f" a mark below each step that is labelled positive; pictures of these steps have a frame.{why}"
    )
    return head + "".join(parts) if parts else ""


def _read(frames: FrameTable, at: int) -> Episode:
    """Number ``at`` of the table; sources list episodes by their numbers."""
    source = open_source(f"lerobot:{frames.root}")
    place = int((frames.numbers < frames.numbers[at]).sum())
    return source.read(source.episodes()[place])


def _figure(frames: FrameTable, made: Annotation, at: int, episode: Episode | None, strips: list[Strip]) -> str:
    rows = slice(int(frames.episodes.starts[at]), int(frames.episodes.ends[at]))
    task = frames.tasks.get(int(frames.task[rows.start]), "")
    positive = () if made.positive is None else tuple(np.flatnonzero(made.positive[rows]).tolist())
    success = None if episode is None else episode.arrays.get("next.success")
    end = "" if success is None else ", solved" if np.any(success) else ", not solved"
    name = f"episode {int(frames.numbers[at])}"
    picture = curves(
        Curve(values=made.values[rows].tolist(), bars=made.advantages[rows].tolist(), marks=positive),
        label=f"values and advantages of {name}",
    )
    low, high = float(made.advantages[rows].min()), float(made.advantages[rows].max())
    least, most = float(made.values[rows].min()), float(made.values[rows].max())
    told = f"values {least:.4g} to {most:.4g}, advantages {low:.4g} to {high:.4g}"
    films = "".join(strip.film(frozenset(positive)) for strip in strips)
    labelled = "" if made.positive is None else f", {len(positive):,} of {rows.stop - rows.start:,} steps positive"
    caption = f"<b>{name}</b>{end} · {escaped(task)} · {told}{labelled}"
    return f"<figure class=strip><figcaption>{caption}</figcaption>{picture}{films}</figure>"
