"""Values and advantages along a few episodes, with the pictures of their steps."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from vla_data.errors import DataError, VlaDataError
from vla_data.formats import open_source
from vla_data.report.charts import curves
from vla_data.report.page import sentence
from vla_data.report.strips import Strip, strips_of
from vla_data.report.words import escaped

if TYPE_CHECKING:
    from vla_data.advantages.annotation import Annotation
    from vla_data.advantages.frame_table import FrameTable
    from vla_data.core import Episode, EpisodeRef, Source

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
    parts, why, reader = [], "", _Reader(frames)
    for at in few:
        try:
            episode = reader.read(at)
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


class _Reader:
    """Reads episodes by their number in a table; sources list them by their ``episode_index``."""

    def __init__(self, frames: FrameTable) -> None:
        self._frames = frames

    @functools.cached_property
    def _opened(self) -> tuple[Source, Sequence[EpisodeRef]]:
        source = open_source(f"lerobot:{self._frames.root}")
        return source, source.episodes()

    def read(self, at: int) -> Episode:
        """Number ``at`` of the table."""
        source, refs = self._opened
        if len(refs) != len(self._frames.numbers):
            raise DataError(
                "E204", f"the metadata list {len(refs):,} episodes, the data have {len(self._frames.numbers):,}"
            )
        return source.read(refs[int((self._frames.numbers < self._frames.numbers[at]).sum())])


def _figure(frames: FrameTable, made: Annotation, at: int, episode: Episode | None, strips: list[Strip]) -> str:
    rows = slice(int(frames.episodes.starts[at]), int(frames.episodes.ends[at]))
    task = frames.tasks.get(int(frames.task[rows.start]), "")
    positive = () if made.positive is None else tuple(np.flatnonzero(made.positive[rows]).tolist())
    success = None if episode is None else episode.arrays.get("next.success")
    end = "" if success is None else ", solved" if np.any(success) else ", not solved"
    name = f"episode {int(frames.numbers[at])}"
    numbers = made.values[rows].tolist(), made.advantages[rows].tolist()
    picture = curves(*numbers, positive, label=f"values and advantages of {name}")
    low, high = float(made.advantages[rows].min()), float(made.advantages[rows].max())
    least, most = float(made.values[rows].min()), float(made.values[rows].max())
    told = f"values {least:.4g} to {most:.4g}, advantages {low:.4g} to {high:.4g}"
    films = "".join(strip.film(frozenset(positive)) for strip in strips)
    labelled = "" if made.positive is None else f", {len(positive):,} of {rows.stop - rows.start:,} steps positive"
    caption = f"<b>{name}</b>{end} · {escaped(task)} · {told}{labelled}"
    return f"<figure class=strip><figcaption>{caption}</figcaption>{picture}{films}</figure>"
