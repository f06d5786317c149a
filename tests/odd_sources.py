"""A source whose reader does what no reader should, for chosen episodes. Importable by spawned workers."""

from __future__ import annotations

import ctypes
import hashlib
import multiprocessing
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.rollouts import CAMERA
from vla_data.core import Episode, EpisodeRef, Feature, Schema
from vla_data.media.frames import Frames


@dataclass(frozen=True, kw_only=True)
class OddSource:
    """Episodes ``0`` to ``count - 1``; ``poison`` says what the reader does instead of reading one.

    Attributes:
        poison: pairs of an episode's number and one of the keys of `DEEDS`.
        count: episodes in all.
        without: numbers that are not listed.
        once: folder in which a deed leaves a mark, and is not done again where it finds one; None: always done.
        size: in bytes, of each episode, as listed: decides how many go into one part.
    """

    poison: tuple[tuple[int, str], ...] = ()
    count: int = 6
    without: tuple[int, ...] = ()
    once: Path | None = None
    size: int = 1

    def episodes(self) -> Sequence[EpisodeRef]:
        return [EpisodeRef(str(i), self.size) for i in range(self.count) if i not in self.without]

    def fingerprint(self, ref: EpisodeRef) -> str:
        return hashlib.sha256(ref.id.encode()).hexdigest()

    def read(self, ref: EpisodeRef) -> Episode:
        deed = dict(self.poison).get(int(ref.id))
        if deed is not None and self._may(deed, ref):
            DEEDS[deed]()
        number, steps = int(ref.id), 5 + int(ref.id)
        action = np.full((steps, 7), 0.1 + number, dtype=np.float32)
        pixels = tuple(np.full((8, 16, 3), (number * 40 + t) % 256, dtype=np.uint8) for t in range(steps))
        return Episode(
            id=ref.id,
            arrays={"action": action, "next.success": np.arange(steps) >= 2},
            frames={CAMERA: Frames(pixels, 8, 16)},
            task="pick",
            index=np.arange(steps),
            meta={"source": "odd", "source_length": steps, "source_sha256": self.fingerprint(ref)},
        )

    def schema(self, episode: Episode) -> Schema:
        return Schema(
            features={
                CAMERA: Feature(dtype="image", shape=(8, 16, 3)),
                "action": Feature(dtype="float32", shape=(7,)),
                "next.success": Feature(dtype="bool", shape=(1,)),
            },
            fps=5.0,
        )

    def _may(self, deed: str, ref: EpisodeRef) -> bool:
        if self.once is None:
            return True
        mark = self.once / f"{deed}-{ref.id}"
        if mark.exists():
            return False
        mark.touch()
        return True


def _allocate() -> None:
    held = []
    while True:
        held.append(bytearray(64 << 20))


def _overflow() -> None:
    raise ZeroDivisionError("a defect of the reader")


def _ignore_terminate() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(600)


def _kill_parent() -> None:
    """The process that a worker works for; on Beam that is the runner's own worker."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    os.kill(int(parent.pid or 0), signal.SIGKILL)


DEEDS = {
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "segfault": lambda: ctypes.string_at(8),
    "abort": os.abort,
    "exit": lambda: os._exit(3),
    "sleep": lambda: time.sleep(600),
    "sleep_stubbornly": _ignore_terminate,
    "allocate": _allocate,
    "bug": _overflow,
    "kill_parent": _kill_parent,
    "nap": lambda: time.sleep(0.5),
}
