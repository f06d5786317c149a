"""What is told of long work: counts, frames a second, time left, bad episodes."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

import vla_data as vd
from tests.rollouts import rollout, save
from vla_data.jobs.progress import Advance, Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def advance(progress: Progress, clock: Clock, seconds: float, episodes: int, frames: int, bad: int = 0) -> None:
    clock.now += seconds
    progress.advance(Advance(episodes=episodes, total=1000, frames=frames, bad=bad))


def test_a_terminal_has_one_line_that_changes() -> None:
    stream, clock = Terminal(), Clock()
    progress = Progress(stream=stream, clock=clock)
    advance(progress, clock, 2, 100, 8_000)
    advance(progress, clock, 0.1, 101, 8_080)  # too soon to be drawn again
    advance(progress, clock, 7.9, 200, 16_000, 3)
    advance(progress, clock, 10, 1000, 80_000, 3)
    assert stream.getvalue().split("\r") == [
        "",
        "100 of 1,000 episodes  4,000 frames/s  0:18 left",
        "200 of 1,000 episodes  1,600 frames/s  0:40 left  3 bad",
        "1,000 of 1,000 episodes  4,000 frames/s  3 bad         \n",
    ]


def test_rates_are_of_the_last_half_minute() -> None:
    stream, clock = Terminal(), Clock()
    progress = Progress(stream=stream, clock=clock)
    advance(progress, clock, 1, 900, 90_000)  # was there from an earlier run
    for n in range(1, 5):
        advance(progress, clock, 10, 900 + n, 90_000 + 100 * n)
    assert stream.getvalue().split("\r")[-1].strip() == "904 of 1,000 episodes  10 frames/s  16:00 left"


def test_without_a_terminal_there_is_a_line_every_half_minute() -> None:
    stream, clock = io.StringIO(), Clock()
    progress = Progress("frames", stream=stream, clock=clock)
    for n in range(1, 80):
        clock.now += 1
        progress(n, 8000)
    progress(8000, 8000)
    lines = stream.getvalue().splitlines()
    assert lines == ["vla-data: 30 of 8,000 frames  2:12:50 left", "vla-data: 60 of 8,000 frames  2:12:20 left"]


def test_short_work_says_nothing_without_a_terminal() -> None:
    stream = io.StringIO()
    Progress(stream=stream)(1, 1)
    assert stream.getvalue() == ""


def test_who_looks_away_stops_nothing() -> None:
    class Gone(Terminal):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    clock = Clock()
    progress = Progress(stream=Gone(), clock=clock)
    for _ in range(3):
        advance(progress, clock, 1, 5, 5)


def test_a_run_tells_frames_and_bad_episodes_and_still_two_numbers_to_who_wants_two(tmp_path: Path) -> None:
    for n in range(3):
        save(tmp_path / "in", f"{n}.npz", rollout(4 + n))
    (tmp_path / "in/3.npz").write_bytes(b"PK\x03\x04")
    told: list[Advance] = []
    counts: list[tuple[int, int]] = []

    class Watcher:
        def __call__(self, done: int, total: int) -> None:
            raise AssertionError

        def advance(self, now: Advance) -> None:
            told.append(now)

    source = vd.open_source(tmp_path / "in")
    vd.run(source, (), vd.open_sink(tmp_path / "a"), workers=1, on_progress=Watcher())
    vd.run(source, (), vd.open_sink(tmp_path / "b"), workers=1, on_progress=lambda *now: counts.append(now))
    assert told[-1] == Advance(episodes=4, total=4, frames=15, bad=1)
    assert counts[-1] == (4, 4)


@pytest.mark.parametrize(("seconds", "text"), [(3599, "59:59 left"), (3600, "1:00:00 left")])
def test_time_left_has_hours_where_it_takes_them(seconds: int, text: str) -> None:
    stream, clock = Terminal(), Clock()
    progress = Progress(stream=stream, clock=clock)
    clock.now += 1
    progress(1, seconds + 1)
    assert stream.getvalue().endswith(text)
