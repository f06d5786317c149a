"""Episodes that take a known time to read, one a part, for `benchmarks.scale_simulation`."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vla_data.core import Episode, EpisodeRef, Feature, Schema


@dataclass(frozen=True, kw_only=True)
class SlowSource:
    count: int
    seconds: float

    def episodes(self) -> Sequence[EpisodeRef]:
        # As large as a part may be, so that each is a part of its own.
        return [EpisodeRef(f"{i:06d}", 64 << 20) for i in range(self.count)]

    def fingerprint(self, ref: EpisodeRef) -> str:
        return hashlib.sha256(ref.id.encode()).hexdigest()

    def read(self, ref: EpisodeRef) -> Episode:
        time.sleep(self.seconds)
        return Episode(
            id=ref.id,
            arrays={"action": np.full((5, 7), int(ref.id), dtype=np.float32)},
            frames={},
            task="wait",
            index=np.arange(5),
            meta={"source": "slow", "source_length": 5, "source_sha256": self.fingerprint(ref)},
        )

    def schema(self, episode: Episode) -> Schema:
        return Schema(features={"action": Feature(dtype="float32", shape=(7,))}, fps=5)
