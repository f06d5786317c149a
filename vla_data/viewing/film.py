"""Pictures of the episode that somebody looks at, decoded ahead.

A picture inside of a video costs all pictures since the key frame before it, which may be hundreds. So, while
nobody waits, a thread decodes on from the step that was asked for last, to the end and then from the beginning,
and keeps what it made as it is sent.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Final

from vla_data.core import Episode
from vla_data.errors import DataError
from vla_data.viewing.shelf import Shelf
from vla_data.viewing.told import is_stored, picture

_MOST: Final = 192 << 20
"""Bytes of pictures that are kept."""
_RUN: Final = 32
"""Steps of one camera before the next one's: decoders read on."""

Picture = tuple[str, bytes]


class Film:
    """Pictures of one episode at a time.

    Args:
        shelf: says whose turn it is to read.
    """

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self._lock, self._wanted = threading.Lock(), threading.Event()
        self._position = -1
        self._episode: Episode | None = None
        self._kept: dict[tuple[str, int], Picture | None] = {}  # None: it can't be decoded
        self._bytes = 0
        self._ahead: Iterator[tuple[str, int]] = iter(())

    def start(self) -> threading.Thread:
        """Begin to decode ahead."""
        thread = threading.Thread(target=self._fill, daemon=True, name="vla-data view: pictures")
        thread.start()
        return thread

    def stop(self) -> None:
        """End the thread; the shelf is stopped, too."""
        self._wanted.set()

    def show(self, position: int, episode: Episode) -> None:
        """Somebody looks at another episode, or at the same one."""
        with self._lock:
            if position != self._position:
                self._position, self._episode = position, episode
                self._kept, self._bytes, self._ahead = {}, 0, _ahead(episode, 0)
        self._wanted.set()

    def picture(self, position: int, episode: Episode, camera: str, step: int) -> Picture:
        """A picture, as told by `vla_data.viewing.told.picture`; decoded now where it was not before.

        Raises:
            DataError: it can't be decoded.
        """
        frames = episode.frames[camera]
        if is_stored(frames, step):
            return picture(frames, step)
        with self._lock:
            here = position == self._position
            found = self._kept.get((camera, step)) if here else None
            if here and found is None:
                self._ahead = _ahead(episode, step)
        if found is None:
            with self._shelf.turn():
                found = picture(frames, step)
            self._keep(position, camera, step, found)
            self._wanted.set()
        return found

    def _keep(self, position: int, camera: str, step: int, made: Picture | None) -> None:
        with self._lock:
            if position == self._position and (camera, step) not in self._kept:
                self._kept[camera, step] = made
                self._bytes += len(made[1]) if made is not None else 0

    def _next(self) -> tuple[int, Episode, str, int] | None:
        """What is decoded next; None: nothing."""
        with self._lock:
            episode = self._episode
            if episode is None or self._bytes >= _MOST:
                return None
            for camera, step in self._ahead:
                if (camera, step) not in self._kept and not is_stored(episode.frames[camera], step):
                    return self._position, episode, camera, step
        return None

    def _fill(self) -> None:
        while True:
            wanted = self._next()
            if wanted is None:
                self._wanted.wait()
                self._wanted.clear()
            with self._shelf.aside() as goes_on:
                if not goes_on:
                    return
                if wanted is None:
                    continue
                position, episode, camera, step = wanted
                made = None
                with contextlib.suppress(DataError):  # which is told to who asks for it
                    made = picture(episode.frames[camera], step)
            self._keep(position, camera, step, made)


def _ahead(episode: Episode, begin: int) -> Iterator[tuple[str, int]]:
    """Cameras and steps from ``begin`` to the end, then from the beginning, a few steps of each camera in turn."""
    for low, high in ((begin, len(episode)), (0, begin)):
        for first in range(low, high, _RUN):
            for camera in sorted(episode.frames):
                yield from ((camera, step) for step in range(first, min(first + _RUN, high)))
