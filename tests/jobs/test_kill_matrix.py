"""SIGKILL before every step of a run, and what the next run makes of it.

`scripts/nightly tests/jobs/test_kill_matrix.py` leaves out no step and no job, and kills 10,000 times at random.
"""

from __future__ import annotations

import itertools
import os
import random
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.faults import (
    EPISODES,
    JOBS,
    MINUTES,
    Lab,
    finished,
    fresh,
    leftovers,
    lines,
    tree_hash,
    work_of,
)
from vla_data.jobs.workspace import mark_made

SHORT = ("rlds", "lerobot", "h264")
"""The jobs of each push."""
RANDOM = 12
"""Kills of each of them at steps drawn by chance, beside one at each kind of step of any of them."""
KILLS = int(os.environ.get("VLA_DATA_KILLS", "10000"))
TOTALS: dict[str, int] = {}


@dataclass(frozen=True, kw_only=True)
class Kill:
    job: str
    step: int
    warm: bool = False  # begins with all parts made
    over: bool = False  # replaces an old dataset
    alone: bool = False  # only the process that is at this step, the driver or its worker
    more: int = 0  # kills of the runs after it


@dataclass(frozen=True, kw_only=True)
class Kept:
    """Finished episodes that a kill found, and how many of them were read again."""

    episodes: int
    again: int


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    lab = Lab(tmp_path_factory.mktemp("lab"))
    yield lab
    lab.close()


def steps_of(lab: Lab, job: str, *, warm: bool = False, over: bool = False, log: Path | None = None) -> list[str]:
    """The names of the steps of one run, in order."""
    target = prepare(lab, Kill(job=job, step=0, warm=warm, over=over), lab.folder / "count")
    log = log or lab.folder / f"steps-{job}-{warm}-{over}"
    log.unlink(missing_ok=True)
    assert lab.run(lab.case(job, target, log=str(log), replace=over)).code == 0
    return [kind_of(line, target) for line in lines(log)]


def kind_of(line: str, target: Path) -> str:
    """A step's name, the area of the run in which its file lies, and the kind of file: its ending, or its name."""
    name, _, path = line.partition("\t")
    file, work = Path(path.split("\t")[0]), work_of(target)
    area = "beside"
    if file.is_relative_to(work):
        area = "/".join(("work", *file.relative_to(work).parts[:-1][:1]))
    plain = re.sub(r"\.[0-9a-f]{32}\.tmp$", "", file.name)  # a file that is not whole yet has a random name
    kind = file.suffix or (file.name if file.name.startswith(".") else "") or plain
    if plain != file.name:
        kind = f"half {Path(plain).suffix}"
    return f"{name} {area} {re.sub(r'[0-9a-f]{8,}|[0-9]+', '#', kind)}"


def prepare(lab: Lab, kill: Kill, folder: Path) -> Path:
    target = fresh(folder) / "out"
    if kill.over:
        shutil.copytree(lab.old(kill.job), target)
    if kill.warm:
        shutil.copytree(warm_parts(lab, kill.job), work_of(target))
        mark_made(work_of(target))  # which a copy is not
    return target


def warm_parts(lab: Lab, job: str) -> Path:
    """A work folder with all parts, left by a run that was killed right after it made them."""
    target = lab.folder / f"warm-{job}" / "out"
    if not target.parent.exists():
        target.parent.mkdir()
        log = lab.folder / f"warm-{job}.log"
        lab.run(lab.case(job, lab.folder / f"whole-{job}", log=str(log)))
        first = next(i for i, line in enumerate(lines(log), 1) if line.endswith(("/vla_data", "/meta/vla_data")))
        assert lab.run(lab.case(job, target, kill=first)).code == -9
        assert len(finished(target)) == EPISODES
    return work_of(target)


def check(lab: Lab, kill: Kill, folder: Path) -> Kept:
    """Kill, look, run again, compare."""
    target = prepare(lab, kill, folder)
    before, golden = tree_hash(target), lab.golden(kill.job)
    killed = lab.run(lab.case(kill.job, target, kill=kill.step, alone=kill.alone, replace=kill.over))
    # A run whose worker is killed goes on.
    assert killed.code == -9 or (kill.alone and killed.code == 0), (kill, killed)
    for step in range(kill.more):
        lab.run(lab.case(kill.job, target, kill=1 + (kill.step * (step + 7)) % 97, replace=kill.over))
    seen = tree_hash(target)
    assert seen in (before, golden), f"something half made is visible: {kill}"
    done = finished(target)
    reads = folder.with_suffix(".reads")
    reads.unlink(missing_ok=True)
    again = lab.case(kill.job, target, replace=kill.over, workers=int(kill.step % 8 == 0), reads=str(reads))
    outcome = lab.run(again)
    if seen == golden and not kill.over:
        assert outcome.code in (0, 5), (kill, outcome)  # it was killed after it had published
        done = set()
    else:
        assert outcome.code == 0, (kill, outcome)
    assert tree_hash(target) == golden, kill
    assert leftovers(target) == [], kill
    return Kept(episodes=len(done), again=len(done & set(lines(reads))))


def chosen(lab: Lab, job: str, kinds: set[tuple[int, str]], *, every_one: bool) -> list[Kill]:
    """All steps, or the first of each kind that is not among ``kinds`` yet and some drawn by chance."""
    cold = steps_of(lab, job)
    warm = steps_of(lab, job, warm=True)
    over = steps_of(lab, job, warm=True, over=True)
    parts = len(cold) - len(warm)
    TOTALS[f"{job}: steps"] = len(cold)
    publishing = next(step for step, kind in enumerate(over, 1) if kind.startswith("fsync "))
    runs = (
        (cold[: parts + 5], 1, {}),
        (warm, 1, {"warm": True}),
        (over[publishing - 1 :], publishing, {"warm": True, "over": True}),
    )
    first, others = [], []
    for number, (steps, begin, how) in enumerate(runs):
        for step, kind in enumerate(steps, begin):
            (others if (number, kind) in kinds else first).append(Kill(job=job, step=step, **how))
            kinds.add((number, kind))
    if every_one:
        return [*first, *others]
    return [*first, *random.Random(0).sample(others, min(RANDOM, len(others)))]


def kill_at_steps(lab: Lab, job: str, kinds: set[tuple[int, str]], *, every_one: bool) -> None:
    kills = chosen(lab, job, kinds, every_one=every_one)
    lab.golden(job), lab.old(job), warm_parts(lab, job)
    kept = lab.each(lambda item: check(lab, item[1], lab.folder / f"{job}-{item[0]}"), list(enumerate(kills)))
    TOTALS[f"{job}: kills"] = len(kills)
    assert sum(one.again for one in kept) == 0, "finished episodes were read again"
    print(
        f"\n{job}: {TOTALS[f'{job}: steps']:,} steps in a run, {len(kills):,} kills, all resumed to the same "
        f"bytes; 0 of {sum(one.episodes for one in kept):,} finished episodes read again"
    )


@pytest.mark.timeout(900)
def test_kill_before_a_step_of_each_kind(lab: Lab) -> None:
    kinds: set[tuple[int, str]] = set()
    for job in SHORT:
        known = len(kinds)
        kill_at_steps(lab, job, kinds, every_one=False)
        assert TOTALS[f"{job}: kills"] == len(kinds) - known + RANDOM
        assert len(kinds) > known, "each job has a kind of step of its own"


@pytest.mark.nightly
@pytest.mark.parametrize("job", JOBS)
@pytest.mark.timeout(0)
def test_kill_before_every_step(job: str, lab: Lab) -> None:
    kill_at_steps(lab, job, set(), every_one=True)


@pytest.mark.parametrize("job", JOBS)
def test_every_file_is_written_through_the_seam(job: str, lab: Lab) -> None:
    log = lab.folder / f"seam-{job}"
    steps_of(lab, job, log=log)
    opened = {Path(line.split("\t")[1]) for line in lines(log) if line.startswith("open\t")}
    plain = {path.with_name(re.sub(r"\.(.+)\.[0-9a-f]{32}\.tmp", r"\1", path.name)) for path in opened}
    target = lab.folder / "count/out"
    files = [path.relative_to(target) for path in target.rglob("*") if path.is_file()]
    missed = [str(path) for path in files if work_of(target) / "staging" / path not in plain]
    assert missed == []
    writes = [line for line in lines(log) if line.startswith("write\t")]
    assert len(writes) > EPISODES


@pytest.mark.nightly
@pytest.mark.timeout(0)
def test_random_kills(lab: Lab) -> None:
    choose = random.Random(int(os.environ.get("VLA_DATA_SEED", "0")))
    for job in JOBS:
        lab.golden(job), lab.old(job), warm_parts(lab, job)
    totals = {(job, warm): len(steps_of(lab, job, warm=warm)) for job in JOBS for warm in (True, False)}
    kills: list[Kill] = []
    while sum(1 + kill.more for kill in kills) < KILLS:
        job, warm = choose.choice(JOBS), choose.random() < 0.5
        kills.append(
            Kill(
                job=job,
                step=choose.randint(1, totals[job, warm]),
                warm=warm,
                over=choose.random() < 0.5,
                alone=choose.random() < 0.3,
                more=choose.randint(0, 3),
            )
        )
    folders = itertools.cycle(range(64))  # far more than are in use at a time

    def one(kill: Kill) -> tuple[Kill, Kept]:
        return kill, check(lab, kill, lab.folder / f"random-{next(folders)}")

    done = lab.each(one, kills, minutes=MINUTES)
    assert sum(kept.again for _, kept in done) == 0, "finished episodes were read again"
    killed = {job: sum(1 + kill.more for kill, _ in done if kill.job == job) for job in JOBS}
    print(
        f"\n{sum(killed.values()):,} random kills {killed}, all resumed to the same bytes; "
        f"0 of {sum(kept.episodes for _, kept in done):,} finished episodes read again"
    )
