"""How long a run of many parts takes on many workers of which some are slow and some die; and whether that is so.

    python -m benchmarks.scale_simulation            # the figures of docs/scale.md
    python -m benchmarks.scale_simulation --check    # the model beside real runs on this machine, workers killed

The model knows what a part costs, how much that varies, how often a worker dies and how long another takes to be
there. A part whose worker dies is lost as a whole and is made again, which is what a receipt that is written last
means. It knows nothing of networks: a part's cost has to include them.
"""

from __future__ import annotations

import argparse
import heapq
import math
import os
import random
import signal
import statistics
import tempfile
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from benchmarks import harness


@dataclass(frozen=True)
class Fleet:
    """What runs the parts.

    Attributes:
        workers: how many at a time.
        deaths: of one worker, an hour.
        restart: seconds until a dead worker has a successor.
        slow: share of parts on a slow disk or a busy machine.
        slowness: how many times as long those take.
        spread: standard deviation of the logarithm of a part's time.
    """

    workers: int
    deaths: float = 0.0
    restart: float = 60.0
    slow: float = 0.0
    slowness: float = 1.0
    spread: float = 0.0


@dataclass(frozen=True)
class Outcome:
    """What a simulated run came to; times in seconds."""

    wall: float
    busy: float
    useful: float
    deaths: int
    tail: float

    @property
    def redone(self) -> float:
        """Share of the work that was done in vain."""
        return 1 - self.useful / self.busy


def simulate(parts: int, seconds: float, fleet: Fleet, *, seed: int) -> Outcome:
    """One run: each worker takes the next part as soon as it is free."""
    rng = random.Random(seed)
    mean = -(fleet.spread**2) / 2  # so that the mean of the times is ``seconds``
    free = [(0.0, n) for n in range(fleet.workers)]
    heapq.heapify(free)
    waiting, again = parts, 0
    busy = useful = last = first_idle = 0.0
    deaths = 0
    lost: list[float] = []  # when a part came back
    while waiting or again or lost:
        now, worker = heapq.heappop(free)
        while lost and lost[0] <= now:
            heapq.heappop(lost)
            again += 1
        if not (waiting or again):
            first_idle = first_idle or now
            heapq.heappush(free, (lost[0], worker))
            continue
        if again:
            again -= 1
        else:
            waiting -= 1
        takes = seconds * rng.lognormvariate(mean, fleet.spread) if fleet.spread else seconds
        if rng.random() < fleet.slow:
            takes *= fleet.slowness
        dies = rng.expovariate(fleet.deaths / 3600) if fleet.deaths else math.inf
        if dies < takes:
            deaths += 1
            busy += dies
            heapq.heappush(lost, now + dies)
            heapq.heappush(free, (now + dies + fleet.restart, worker))
        else:
            busy += takes
            useful += takes
            last = max(last, now + takes)
            heapq.heappush(free, (now + takes, worker))
    first_idle = first_idle or min(time for time, _ in free)
    return Outcome(last, busy, useful, deaths, last - min(first_idle, last))


def paper() -> list[dict[str, object]]:
    """10 million episodes of 10 MB: 1,666,667 parts of six."""
    episodes, size, rate = 10_000_000, 10e6, 50e6
    parts = math.ceil(episodes / 6)
    seconds = 6 * size / rate
    usual = Fleet(1000, deaths=0.01, restart=120, slow=0.01, slowness=10, spread=0.3)
    rows: list[dict[str, object]] = []
    for name, fleet in {
        "no faults": Fleet(1000),
        "1 death an hour for 100 workers, 1 % of parts 10 x slower": usual,
        "the same, preemptible: 1 death an hour for 10 workers": replace(usual, deaths=0.1),
        "the same, 1 death an hour for each worker": replace(usual, deaths=1.0),
        "usual faults, 100 workers": replace(usual, workers=100),
    }.items():
        runs = [simulate(parts, seconds, fleet, seed=seed) for seed in range(3)]
        rows.append(
            {
                "fleet": name,
                "hours": statistics.mean(run.wall for run in runs) / 3600,
                "deaths": round(statistics.mean(run.deaths for run in runs)),
                "work redone %": 100 * statistics.mean(run.redone for run in runs),
                "tail s": statistics.mean(run.tail for run in runs),
            }
        )
    return rows


def check(part_seconds: float = 1.0, parts: int = 60, every: float = 5.0) -> list[dict[str, object]]:
    """Real runs of parts that take a known time, with and without a killer, beside the model."""
    rows: list[dict[str, object]] = []
    for workers, kills in ((1, False), (2, False), (2, True)):
        real, died, restart = _real(parts, part_seconds, workers, every if kills else None)
        deaths = 3600 * died / (real * workers)
        fleet = Fleet(workers, deaths=deaths, restart=restart)
        runs = [simulate(parts, part_seconds, fleet, seed=seed) for seed in range(200)]
        said = statistics.mean(run.wall for run in runs)
        rows.append(
            {
                "workers": workers,
                "killed": died,
                "real s": real,
                "model s": said,
                "model deaths": statistics.mean(run.deaths for run in runs),
                "real / model": real / said,
            }
        )
    return rows


def _real(parts: int, seconds: float, workers: int, every: float | None) -> tuple[float, int, float]:
    """(time from the first part's start to the last's end, workers killed, seconds that a new worker takes)."""
    import vla_data as vd
    from benchmarks.slow_source import SlowSource

    died = 0
    done = threading.Event()

    def killer() -> None:
        nonlocal died
        rng = random.Random(5)
        while every is not None and not done.wait(rng.expovariate(1 / every)):
            servers = [one for one in psutil.Process().children() if "fork_server" in " ".join(one.cmdline())]
            mine = [child for server in servers for child in server.children()]
            if mine:
                os.kill(rng.choice(mine).pid, signal.SIGKILL)
                died += 1

    with tempfile.TemporaryDirectory() as folder:

        def timed(count: int, name: str) -> float:
            begin = time.monotonic()
            source = SlowSource(count=count, seconds=seconds)
            sink = vd.open_sink(Path(folder, name))
            vd.run(source, (), sink, workers=workers, max_bad=1.0)
            return time.monotonic() - begin

        # What is not parts: starting workers, assembling, publishing.
        fixed = timed(workers, "few") - seconds
        thread = threading.Thread(target=killer)
        thread.start()
        try:
            real = timed(parts, "all") - fixed
        finally:
            done.set()
            thread.join()
    return real, died, _start_seconds()


def _start_seconds() -> float:
    """What a new worker process takes until it is ready: an interpreter and our imports."""
    import subprocess
    import sys

    times = []
    for _ in range(3):
        begin = time.monotonic()
        subprocess.run([sys.executable, "-c", "import vla_data, converters.lerobot.sink"], check=True)
        times.append(time.monotonic() - begin)
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="run real jobs, and compare")
    arguments = parser.parse_args()
    print(harness.table(check() if arguments.check else paper()))


if __name__ == "__main__":
    main()
