"""How far long work is, for a person: done, frames a second, time left, bad episodes."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol, TextIO, runtime_checkable

Told = Callable[[int, int], None]
"""Called with how many are done, and how many there are."""

_WINDOW: Final = 30.0
"""Seconds that a rate is taken over: what was there already when work began again is soon forgotten."""
_QUIET: Final = 30.0
_DRAWN: Final = 0.2
_WIDTH: Final = 79


@dataclass(frozen=True, slots=True, kw_only=True)
class Advance:
    """How far a run is.

    Attributes:
        episodes: done, whatever became of them.
        total: episodes in all.
        frames: source frames of those that are done, as far as it is known.
        bad: episodes that were quarantined.
    """

    episodes: int
    total: int
    frames: int
    bad: int


@runtime_checkable
class Watches(Protocol):
    """What is called with progress has this besides, if it wants to know more than two numbers."""

    def advance(self, now: Advance) -> None:
        """Called instead of the object itself."""
        ...


class Progress:
    """Shows how far work is: one line that changes on a terminal and in notebooks, else a line every half minute.

    Give it to anything that has ``on_progress``: ``vd.run(source, steps, sink, on_progress=vd.Progress())``.

    Args:
        unit: of what is counted.
        stream: None: standard error, as it is when something is said.
        clock: seconds, for the rates.
    """

    def __init__(
        self,
        unit: str = "episodes",
        *,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._unit, self._stream, self._clock = unit, stream, clock
        self._seen: deque[tuple[float, int, int]] = deque([(clock(), 0, 0)])
        self._said = clock()
        self._width = 0

    def __call__(self, done: int, total: int) -> None:
        """So many are done."""
        self._see(done, total, 0)

    def advance(self, now: Advance) -> None:
        """So far is a run."""
        self._see(now.episodes, now.total, now.frames, bad=now.bad)

    def _see(self, done: int, total: int, frames: int, *, bad: int = 0) -> None:
        at = self._clock()
        self._seen.append((at, done, frames))
        while len(self._seen) > 2 and at - self._seen[0][0] > _WINDOW:
            self._seen.popleft()
        stream = sys.stderr if self._stream is None else self._stream
        if stream is None:
            return
        alive = stream.isatty() or "ipykernel" in sys.modules
        if at - self._said < (_DRAWN if alive else _QUIET) and not (alive and done == total):
            return
        self._said = at
        line = self._line(done, total, frames, bad)
        try:
            if alive:
                stream.write(f"\r{line.ljust(self._width)}" + ("\n" if done == total else ""))
                self._width = len(line)
            else:
                stream.write(f"vla-data: {line}\n")
            stream.flush()
        except OSError:  # nobody looks any more; the work goes on
            self._said = float("inf")

    def _line(self, done: int, total: int, frames: int, bad: int) -> str:
        (before, was, had), (now, _, _) = self._seen[0], self._seen[-1]
        seconds = max(now - before, 1e-9)
        told = [f"{done:,} of {total:,} {self._unit}"]
        if frames > had:
            told.append(f"{(frames - had) / seconds:,.0f} frames/s")
        if done > was and done < total:
            told.append(f"{_clock((total - done) * seconds / (done - was))} left")
        if bad:
            told.append(f"{bad:,} bad")
        return "  ".join(told)[:_WIDTH]


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
