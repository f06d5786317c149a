"""SIGKILL before every step of a run, and what the next run makes of it.

`VLA_DATA_KILLS=10000 pytest -m nightly tests/test_kill_matrix.py -s` kills at random.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.faults import EPISODES, Lab, finished, fresh, leftovers, lines, tree_hash, work_of

SINKS = ("rlds", "lerobot")
TOTALS: dict[str, int] = {}


@dataclass(frozen=True)
class Kill:
    sink: str
    step: int
    warm: bool  # begins with all parts made
    over: bool  # replaces an old dataset


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    lab = Lab(tmp_path_factory.mktemp("lab"))
    yield lab
    lab.close()


def steps_of(lab: Lab, sink: str, *, warm: bool, over: bool, log: Path | None = None) -> list[str]:
    """The names of the steps of one run, in order."""
    target = prepare(lab, Kill(sink, 0, warm, over), lab.folder / "count")
    log = log or lab.folder / f"steps-{sink}-{warm}-{over}"
    assert lab.run(lab.case(sink, target, log=str(log), replace=over)).code == 0
    return [line.split("\t")[0] for line in lines(log)]


def prepare(lab: Lab, kill: Kill, folder: Path) -> Path:
    target = fresh(folder) / "out"
    if kill.over:
        shutil.copytree(lab.old(kill.sink), target)
    if kill.warm:
        shutil.copytree(warm_parts(lab, kill.sink), work_of(target))
    return target


def warm_parts(lab: Lab, sink: str) -> Path:
    """A work folder with all parts, left by a run that was killed right after it made them."""
    target = lab.folder / f"warm-{sink}" / "out"
    if not target.parent.exists():
        target.parent.mkdir()
        log = lab.folder / f"warm-{sink}.log"
        lab.run(lab.case(sink, lab.folder / f"whole-{sink}", log=str(log)))
        first = next(i for i, line in enumerate(lines(log), 1) if line.endswith(("/vla_data", "/meta/vla_data")))
        assert lab.run(lab.case(sink, target, kill=first)).code == -9
        assert len(finished(target)) == EPISODES
    return work_of(target)


def check(lab: Lab, kill: Kill, folder: Path, *, more: int = 0) -> int:
    """Kill, look, run again, compare; returns how many finished episodes were read again."""
    target = prepare(lab, kill, folder)
    before, golden = tree_hash(target), lab.golden(kill.sink)
    assert lab.run(lab.case(kill.sink, target, kill=kill.step, replace=kill.over)).code == -9, kill
    for step in range(more):
        lab.run(lab.case(kill.sink, target, kill=1 + (kill.step * (step + 7)) % 97, replace=kill.over))
    seen = tree_hash(target)
    assert seen in (before, golden), f"something half made is visible: {kill}"
    done = finished(target)
    reads = folder.with_suffix(".reads")
    reads.unlink(missing_ok=True)
    again = lab.case(kill.sink, target, replace=kill.over, workers=int(kill.step % 8 == 0), reads=str(reads))
    outcome = lab.run(again)
    if seen == golden and not kill.over:
        assert outcome.code in (0, 5), (kill, outcome)  # it was killed after it had published
        done = set()
    else:
        assert outcome.code == 0, (kill, outcome)
    assert tree_hash(target) == golden, kill
    repeated = len(done & set(lines(reads)))
    assert leftovers(target) == [], kill
    return repeated


def chosen(lab: Lab, sink: str, *, every: int) -> list[Kill]:
    """All steps but most of the writes to one Parquet file: of those every so many."""
    cold = steps_of(lab, sink, warm=False, over=False)
    warm = steps_of(lab, sink, warm=True, over=False)
    over = steps_of(lab, sink, warm=True, over=True)
    parts = len(cold) - len(warm)
    TOTALS[f"{sink}: steps"] = len(cold)
    kills = [Kill(sink, step, False, False) for step in range(1, parts + 6)]
    kills += [
        Kill(sink, step, True, False)
        for step, name in enumerate(warm, 1)
        if name != "write" or step % every == 0 or warm[step - 2] != "write"
    ]
    publishing = next(step for step, name in enumerate(over, 1) if name == "fsync")
    return kills + [Kill(sink, step, True, True) for step in range(publishing, len(over) + 1)]


@pytest.mark.parametrize("sink", SINKS)
@pytest.mark.timeout(900)
def test_kill_before_every_step(sink: str, lab: Lab) -> None:
    every = int(os.environ.get("VLA_DATA_EVERY", {"rlds": "1", "lerobot": "6"}[sink]))
    kills = chosen(lab, sink, every=every)
    lab.golden(sink), lab.old(sink), warm_parts(lab, sink)
    again = lab.each(lambda item: check(lab, item[1], lab.folder / f"{sink}-{item[0]}"), list(enumerate(kills)))
    TOTALS[f"{sink}: kills"] = len(kills)
    assert sum(again) == 0, "finished episodes were read again"
    print(
        f"\n{sink}: {TOTALS[f'{sink}: steps']} steps in a run, {len(kills)} kills, all resumed to the same bytes"
    )


def test_there_are_enough_steps() -> None:
    if len(TOTALS) == 4:  # not when the tests above were not selected
        assert sum(TOTALS[f"{sink}: kills"] for sink in SINKS) >= 500, TOTALS


@pytest.mark.parametrize("sink", SINKS)
def test_every_file_is_written_through_the_seam(sink: str, lab: Lab) -> None:
    log = lab.folder / f"seam-{sink}"
    steps_of(lab, sink, warm=False, over=False, log=log)
    opened = {Path(line.split("\t")[1]) for line in lines(log) if line.startswith("open\t")}
    plain = {path.with_name(path.name.removeprefix(".").removesuffix(".tmp")) for path in opened}
    target = lab.folder / "count/out"
    files = [path.relative_to(target) for path in target.rglob("*") if path.is_file()]
    missed = [str(path) for path in files if work_of(target) / "staging" / path not in plain]
    assert missed == []
    writes = [line for line in lines(log) if line.startswith("write\t")]
    assert len(writes) > EPISODES


@pytest.mark.nightly
@pytest.mark.timeout(0)
def test_random_kills(lab: Lab) -> None:
    count = int(os.environ.get("VLA_DATA_KILLS", "10000"))
    choose = random.Random(int(os.environ.get("VLA_DATA_SEED", "0")))
    for sink in SINKS:
        lab.golden(sink), lab.old(sink), warm_parts(lab, sink)
    totals = {
        (sink, warm): len(steps_of(lab, sink, warm=warm, over=False)) for sink in SINKS for warm in (True, False)
    }

    def one(number: int) -> int:
        sink, warm, over = choose.choice(SINKS), choose.random() < 0.5, choose.random() < 0.5
        kill = Kill(sink, choose.randint(1, totals[sink, warm]), warm, over)
        more = choose.randint(0, 3)
        check(lab, kill, lab.folder / f"random-{number % 64}", more=more)
        return 1 + more

    print(f"\n{sum(lab.each(one, list(range(count * 2 // 5))))} random kills, all resumed to the same bytes")
