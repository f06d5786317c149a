"""Several runs at once, interrupts, murdered workers, and the many ways to get the same bytes."""

from __future__ import annotations

import contextlib
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fault_sources import NotedSource
from tests.faults import MINUTES, Lab, fresh, leftovers, make_rollouts, sizes, tree_hash, work_of
from tests.jobs.test_workers import data_of
from tests.paths import ROOT
from vla_data import Limits, open_ledger, open_sink
from vla_data.jobs.run import run

ROUNDS = [(8, 5), pytest.param(32, int(os.environ.get("VLA_DATA_ROUNDS", "200")), marks=pytest.mark.nightly)]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    lab = Lab(tmp_path_factory.mktemp("lab"))
    yield lab
    lab.close()


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rollouts that the command line's own rules keep."""
    return make_rollouts(tmp_path_factory.mktemp("rollouts") / "source", 24, steps=14)


# Several runs of one target.


@pytest.mark.parametrize(("runs", "rounds"), ROUNDS)
@pytest.mark.timeout(0)
def test_of_several_runs_at_once_one_wins(runs: int, rounds: int, lab: Lab) -> None:
    slowest = 0.0
    ends: Counter[int] = Counter()
    for number in range(rounds):
        target = fresh(lab.folder / f"race-{number % 8}") / "out"
        outcomes = lab.run_together([lab.case("rlds", target, workers=0)] * runs)
        codes = Counter(outcome.code for outcome in outcomes)
        assert codes[0] == 1, outcomes
        assert set(codes) <= {0, 5, 8}, outcomes
        assert tree_hash(target) == lab.golden("rlds")
        assert leftovers(target) == []
        slowest = max(slowest, *(outcome.seconds for outcome in outcomes if outcome.code))
        ends += codes
    assert slowest < 2.0
    print(f"\n{rounds} rounds of {runs} runs: exits {dict(ends)}, slowest loser {slowest:.2f} s")


@pytest.mark.parametrize(("runs", "rounds"), ROUNDS)
@pytest.mark.timeout(0)
def test_of_several_replacing_runs_each_publishes_whole_or_is_locked_out(runs: int, rounds: int, lab: Lab) -> None:
    ends: Counter[int] = Counter()
    for number in range(rounds):
        target = fresh(lab.folder / f"replace-{number % 8}") / "out"
        shutil.copytree(lab.old("rlds"), target)
        outcomes = lab.run_together([lab.case("rlds", target, workers=0, replace=True)] * runs)
        codes = Counter(outcome.code for outcome in outcomes)
        assert codes[0] >= 1, outcomes
        assert set(codes) <= {0, 8}, outcomes
        assert tree_hash(target) == lab.golden("rlds")
        assert leftovers(target) == []
        ends += codes
    print(f"\n{rounds} rounds of {runs} replacing runs: exits {dict(ends)}")


# Interrupts of the command line.


def start(source: Path, target: Path, workers: int = 2, **more: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "vla_data", "align", str(source), str(target), "--workers", str(workers)]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        **more,
    )


def finish(process: subprocess.Popen[str]) -> int:
    process.communicate(timeout=60)
    return process.returncode


def await_start(process: subprocess.Popen[str], target: Path) -> None:
    """Until the run has opened its work folder, or is done: before, Python itself is being interrupted."""
    while process.poll() is None:
        with contextlib.suppress(OSError):
            if any(
                os.readlink(link) == str(work_of(target)) for link in Path(f"/proc/{process.pid}/fd").iterdir()
            ):
                return
        time.sleep(0.005)


@pytest.mark.parametrize("count", sizes("INTERRUPTS", 6, 1000))
@pytest.mark.timeout(0)
def test_interrupt_at_any_moment(count: int, lab: Lab, source: Path) -> None:
    choose = random.Random(0)
    stop = time.monotonic() + 60 * (MINUTES if count > 20 else math.inf)
    golden = lab.folder / "golden-cli"
    assert finish(start(source, golden)) == 0
    target = fresh(lab.folder / "interrupted") / "out"
    times = []
    ends: Counter[int] = Counter()
    while len(times) < count and time.monotonic() < stop:
        process = start(source, target)
        await_start(process, target)
        time.sleep(choose.uniform(0, 1.0))
        number = choose.choice([signal.SIGINT, signal.SIGTERM])
        begin = time.perf_counter()
        os.killpg(process.pid, number)  # as a terminal does; workers get it too
        out, err = process.communicate(timeout=20)
        seconds = time.perf_counter() - begin
        code = process.returncode
        ends[code] += 1
        assert "Traceback" not in out + err, err[-1500:]
        if code == 128 + number:
            times.append(seconds)
            assert tree_hash(target) in (None, tree_hash(golden))
        else:  # it was done before
            assert code in (0, -number), (code, err)
        if target.exists():
            assert tree_hash(target) == tree_hash(golden)
            target = fresh(lab.folder / "interrupted") / "out"
        elif choose.random() < 0.3:
            assert finish(start(source, target)) == 0
            assert tree_hash(target) == tree_hash(golden)
            assert leftovers(target) == []
            target = fresh(lab.folder / "interrupted") / "out"
    print(f"\n{len(times)} interrupts: exits {dict(ends)}, slowest {max(times):.2f} s")


@pytest.mark.parametrize("pause", [0.0, 0.02, 0.1])
def test_second_interrupt_ends_at_once(pause: float, source: Path, tmp_path: Path) -> None:
    process = start(source, tmp_path / "out")
    await_start(process, tmp_path / "out")
    time.sleep(0.4)
    for _ in range(2):
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(pause)
    out, err = process.communicate(timeout=20)  # parts of the job wait for as long
    assert process.returncode in (130, -signal.SIGINT, 0), (process.returncode, err)
    assert "Traceback" not in out + err, err
    if not (tmp_path / "out").exists():  # else it was published before the interrupt, and whole
        assert finish(start(source, tmp_path / "out")) == 0
    assert leftovers(tmp_path / "out") == []
    assert finish(start(source, tmp_path / "golden")) == 0
    assert tree_hash(tmp_path / "out") == tree_hash(tmp_path / "golden")


def test_workers_die_with_a_killed_driver(source: Path, tmp_path: Path) -> None:
    import psutil

    process = start(source, tmp_path / "out")
    await_start(process, tmp_path / "out")
    time.sleep(0.1)
    workers = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.communicate()
    gone, alive = psutil.wait_procs(workers, timeout=3)
    assert not [worker for worker in alive if worker.status() != psutil.STATUS_ZOMBIE], (gone, alive)
    assert finish(start(source, tmp_path / "out")) == 0


# Murder.

MURDER = """
import json, multiprocessing, os, random, signal, sys, time
from pathlib import Path
import psutil
from tests.fault_sources import NotedSource
from vla_data import Limits, open_sink
from vla_data.errors import VlaDataError
from vla_data.jobs import part, pool
from vla_data.files import write as io
from vla_data.jobs.run import run
import vla_data.files.tables

folder, murders = Path(sys.argv[1]), int(sys.argv[2])
poison = tuple(tuple(row) for row in json.loads(sys.argv[3]))
part.MAX_EPISODES = 2
pool._START_SECONDS = 1.0
pool.Process = multiprocessing.get_context("fork").Process  # half a second faster than a spawned one
driver, choose, done, alone = os.getpid(), random.Random(0), {}, set()


def noted(pid):  # the episode that a worker has noted last; None when it has not begun one
    lines = (folder / "pids").read_text().splitlines() if (folder / "pids").exists() else []
    return next((line.split()[1] for line in reversed(lines) if line.split()[0] == str(pid)), None)


murderer = os.fork()
if murderer == 0:
    ways = [signal.SIGKILL] * 5 + [signal.SIGSEGV] * 4 + [signal.SIGSTOP]
    while sum(done.values()) < murders and os.getppid() == driver and not (folder / "over").exists():
        time.sleep(choose.uniform(0.0, 0.03))
        workers = [child for child in psutil.Process(driver).children() if child.pid != os.getpid()]
        if len(workers) < 2:  # episodes are tried alone now, and the machine has got better
            time.sleep(0.4)
            workers = [child for child in psutil.Process(driver).children() if child.pid != os.getpid()]
        if workers:
            way, victim = choose.choice(ways), choose.choice(workers).pid
            try:
                os.kill(victim, signal.SIGSTOP)  # it stays at the episode that it has noted
                at = noted(victim) if len(workers) < 2 else ""
                if at is None or (at and at in alone):  # of three tries alone one at least is left in peace
                    os.kill(victim, signal.SIGCONT)
                    continue
                alone.add(at)
                os.kill(victim, way)
                done[way.name] = done.get(way.name, 0) + 1
                if way != signal.SIGSTOP:
                    os.kill(victim, signal.SIGCONT)
            except ProcessLookupError:
                continue
    (folder / "murders").write_text(json.dumps(done))
    os._exit(0)
source = NotedSource(poison=poison, count=int(sys.argv[4]), pids=folder / "pids", pause=0.005)
run(source, (), __import__("vla_data").open_sink(folder / "out", images="png"), workers=4,
    limits=Limits(seconds=float(sys.argv[5])), max_bad=1.0)
(folder / "over").touch()
os.waitpid(murderer, 0)
"""


@pytest.mark.parametrize("count", sizes("MURDERS", 200, 5000))
@pytest.mark.timeout(0)
def test_murdered_workers_cost_nothing_and_poison_itself_alone(count: int, tmp_path: Path) -> None:
    episodes = 9 * count // 2
    poison = ((7, "kill"), (100, "segfault"), (333, "sleep"), (612, "exit"))
    command = [sys.executable, "-c", MURDER, str(tmp_path), str(count), json.dumps(poison), str(episodes)]
    # Seconds for an episode: a machine that does other work may stall for one.
    command.append("1.5")
    done = subprocess.run(command, capture_output=True, text=True, timeout=max(280, count), check=False)
    assert done.returncode == 0, done.stderr
    murders = json.loads((tmp_path / "murders").read_text())
    ledger = open_ledger(tmp_path / "out")
    failed = {record.id: record.reason for record in ledger.records if record.status == "failed"}
    assert failed == {"7": "E501", "100": "E502", "333": "E503", "612": "E502"}
    gone = tuple(number for number, _ in poison)
    without = NotedSource(count=episodes, without=gone, pids=tmp_path / "pids")
    golden = run(without, (), open_sink(tmp_path / "golden", images="png"), workers=1, limits=Limits())
    assert data_of(tmp_path / "out") == data_of(golden.target)
    assert count // 2 < sum(murders.values()) <= count  # the run may end first
    print(f"\n{murders} of workers: the result is whole but for 4 poisoned episodes")


# One result.


@pytest.mark.parametrize("count", sizes("SETTINGS", 4, 100))
@pytest.mark.timeout(0)
def test_one_result_whatever_the_circumstances(count: int, source: Path, tmp_path: Path) -> None:
    choose = random.Random(0)
    hashes = set()
    for number in range(count):
        folder = fresh(tmp_path / ("x" * (number % 20) + str(number)))
        names = sorted(path.name for path in source.iterdir())
        choose.shuffle(names)
        shuffled = fresh(folder / choose.choice(["in", "a b", "ünï"]))
        for name in names:  # a listing has them in another order
            shutil.copyfile(source / name, shuffled / name)
        target = folder / choose.choice(["out", "d/e/out", "o ü t"])
        environment = dict(
            os.environ,
            TZ=choose.choice(["UTC", "Asia/Tokyo", "America/New_York"]),
            LANG=choose.choice(["C", "C.UTF-8", "de_DE.UTF-8"]),
            LC_ALL=choose.choice(["C", "C.UTF-8", "tr_TR.UTF-8"]),
            PYTHONHASHSEED=str(number),
            PYTHONPATH=os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        )
        workers = (1, 2, 4)[number % 3]
        if number % 2:
            killed = start(shuffled, target, workers, env=environment, cwd=folder)
            await_start(killed, target)
            time.sleep(choose.uniform(0.3, 0.8))
            killed.kill()
            killed.communicate()
            shutil.rmtree(target, ignore_errors=True)  # it may have been done
        process = start(shuffled, target, workers, env=environment, cwd=folder)
        _, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        hashes.add(tree_hash(target))
        shutil.rmtree(folder)
    assert len(hashes) == 1
    print(f"\n{count} settings of workers, listing, path, time zone, locale, hash seed and kills: one result")
