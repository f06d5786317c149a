"""Datasets in memory, whose numbers say where they come from; annotations of datasets on disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vla_data import advantages as adv
from vla_data.core import Episode, EpisodeRef, Feature, Schema
from vla_data.errors import DataError
from vla_data.media import images
from vla_data.media.frames import Frames


@dataclass(frozen=True, kw_only=True)
class Numbered:
    """Episodes of given lengths: action and state ``[number, episode, row]``, images of one colour each.

    The colour of an image is ``(number, episode, row)``.
    """

    number: int = 0
    lengths: tuple[int, ...] = (5, 3)
    fps: float = 10.0
    cameras: tuple[str, ...] = ("front",)
    size: tuple[int, int] = (8, 8)
    convention: Mapping[str, Any] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)
    bad: tuple[int, ...] = ()
    encoded: bool = False

    def episodes(self) -> Sequence[EpisodeRef]:
        return [EpisodeRef(f"episode_{i:06d}", 1) for i in range(len(self.lengths))]

    def fingerprint(self, ref: EpisodeRef) -> str:
        return f"{self.number}-{ref.id}-{self.lengths}"

    def read(self, ref: EpisodeRef) -> Episode:
        episode = int(ref.id[-6:])
        if episode in self.bad:
            raise DataError("E105", "it is cut")
        length = self.lengths[episode]
        rows = np.stack(
            [np.full(length, self.number), np.full(length, episode), np.arange(length)], axis=1
        ).astype(np.float64)
        frames = {
            f"observation.images.{camera}": Frames(
                tuple(self.image(episode, row) for row in range(length)), *self.size
            )
            for camera in self.cameras
        }
        arrays: dict[str, Any] = {"action": rows, "observation.state": rows.copy()}
        arrays |= {name: make(length) for name, make in self.extra.items()}
        return Episode(
            id=ref.id,
            arrays=arrays,
            frames=frames,
            task=f"task {self.number} {episode}",
            index=np.arange(length),
            meta={"source": "numbered", "source_length": length, "source_sha256": "0" * 64},
        )

    def image(self, episode: int, row: int) -> Any:
        pixels = np.empty((*self.size, 3), dtype=np.uint8)
        pixels[...] = (self.number, episode, row)
        return images.encode(pixels, "png") if self.encoded else pixels

    def schema(self, episode: Episode) -> Schema:
        features = {
            name: Feature(dtype=str(array.dtype), shape=array.shape[1:] or (1,))
            for name, array in episode.arrays.items()
        }
        features["action"] = Feature(dtype="float64", shape=(3,), convention=self.convention)
        for name in episode.frames:
            features[name] = Feature(dtype="image", shape=(*self.size, 3))
        return Schema(features=features, fps=self.fps)


@dataclass(frozen=True, kw_only=True)
class Noisy(Numbered):
    """Actions and states of ``width`` elements that are drawn by the dataset's number; the last is constant."""

    width: int = 4

    def read(self, ref: Any) -> Any:
        episode = super().read(ref)
        random = np.random.default_rng([self.number, int(ref.id[-6:])])
        rows = random.normal(self.number, 1 + self.number, (len(episode), self.width)).astype(np.float32)
        rows[:, -1] = 0.5
        object.__setattr__(episode, "arrays", {"action": rows, "observation.state": rows[:, ::-1] * 3})
        return episode


def annotate(root: Path, tag: str, *, share: float | None = 0.3, **rest: Any) -> None:
    """Values drawn at random, and what follows from them, for a LeRobot dataset of one data file."""
    rows = pq.read_table(sorted(root.glob("data/*/*.parquet"))[0], columns=["episode_index", "frame_index"])
    value = np.random.default_rng(len(tag)).uniform(-0.7, 0, len(rows))
    pq.write_table(rows.append_column("value", pa.array(value)), root.parent / "values.parquet")
    adv.annotate(root, tag=tag, values=root.parent / "values.parquet", labels=adv.Labels(share=share), **rest)
