"""The power fails: what was not synced may be lost, cut, zeroed or whole, and names may be the old ones.

The model follows the steps of a run that was killed: a file's content lasts once it was synced after its last
write, and its name once its folder was synced after that. `scripts/nightly tests/jobs/test_power_loss.py` tries
20,000 states, of video too.
"""

from __future__ import annotations

import math
import os
import random
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.faults import JOBS, MINUTES, Lab, fresh, lines, tree_hash, work_of
from vla_data.files.write import is_unforeseen, unforeseen
from vla_data.jobs.workspace import is_made_here, mark_made

SHORT = ("rlds", "lerobot")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    lab = Lab(tmp_path_factory.mktemp("lab"), episodes=6)
    yield lab
    lab.close()


def is_half(file: Path, of: Path) -> bool:
    """Whether a file is what will be renamed to another."""
    return file.parent == of.parent and is_unforeseen(file.name, of.name)


class Disk:
    """What of a run's files would outlive a loss of power."""

    def __init__(self, target: Path, *, over: bool) -> None:
        self.target, self.staging, self.over = target, work_of(target) / "staging", over
        self.files: set[Path] = set()
        self.contents: set[Path] = set()
        self.names: set[Path] = set()
        self.placed = False  # the publishing rename was done, and may be undone
        self.settled = False  # and may not

    def do(self, name: str, path: Path) -> None:
        """One step of the run."""
        if name in ("open", "write"):
            self.files.add(path)
            self.contents.discard(path)
            if name == "open":
                self.names.discard(path)
        elif name == "fsync" and path in self.files:
            self.contents.add(path)
        elif name == "fsync":
            self.names |= {file for file in self.files if file.parent == path}
            self.settled |= self.placed and path == self.target.parent
        elif name == "rename" and path == self.target:
            self.placed = True
            for group in (self.files, self.contents, self.names):
                inside = [file for file in group if file.is_relative_to(self.staging)]
                group.difference_update(inside)
                group.update(self.target / file.relative_to(self.staging) for file in inside)
        elif name == "rename":
            opened = (file for file in self.files if is_half(file, path))
            beside = next(opened, path.with_name("nothing"))
            self.files = (self.files - {beside}) | {path}
            self.contents = (self.contents - {path, beside}) | ({path} if beside in self.contents else set())
            self.names -= {path, beside}

    def unsure(self) -> list[Path]:
        """Files that may be lost or wrong."""
        lasting = self.contents & self.names
        return sorted(file for file in self.files - lasting if file.is_file())


def lose(disk: Disk, root: Path, copy: Path, choose: random.Random) -> None:
    """Make in ``copy`` one of the states in which the disk in ``root`` might be found."""

    def there(path: Path) -> Path:
        return copy / path.relative_to(root)

    mark = there(work_of(disk.target) / "published")
    for folder in (disk.target, disk.staging):  # a copy has inodes of its own
        if mark.exists() and folder.exists():
            original = (work_of(disk.target) / "published").read_bytes()
            if original == str(folder.stat().st_ino).encode():
                mark.write_bytes(str(there(folder).stat().st_ino).encode())
    work = work_of(disk.target)
    if work.exists() and is_made_here(work):  # it is marked by inode and time too
        mark_made(there(work))
    fate = choose.choice(["all kept", "all lost", "mixed", "mixed", "mixed", "mixed"])
    for file in disk.unsure():
        how = {"all kept": "keep", "all lost": "remove"}.get(
            fate, choose.choice(["keep", "cut", "zero", "remove", "name"])
        )
        path = there(file)
        data = path.read_bytes()
        if how == "cut":
            path.write_bytes(data[: choose.randint(0, len(data))])
        elif how == "zero":
            start = choose.randint(0, len(data))
            path.write_bytes(data[:start] + bytes(len(data) - start))
        elif how == "remove":
            path.unlink()
        elif how == "name" and not path.name.endswith(".tmp"):
            path.rename(unforeseen(path))
    if disk.placed and not disk.settled and fate != "all kept" and choose.random() < 0.5:
        target, staging = there(disk.target), there(disk.staging)
        if disk.over:
            target.rename(aside := copy / "aside")
            staging.rename(target)
            aside.rename(staging)
        else:
            target.rename(staging)


def states(lab: Lab, job: str, step: int, seed: int, count: int) -> int:
    """Kill a run before a step, lose power in several ways, and run again after each."""
    choose = random.Random(seed)
    over = step % 2 == 1
    root = fresh(lab.folder / f"{job}-{seed}")
    target, log, golden = root / "out", lab.folder / f"{job}-{seed}.log", lab.golden(job)
    log.unlink(missing_ok=True)
    if over:
        shutil.copytree(lab.old(job), target)
    before = tree_hash(target)
    # Near the end there are fewer steps than there were without an old dataset, or more.
    outcome = lab.run(lab.case(job, target, kill=step, log=str(log), replace=over, part=2))
    disk = Disk(target, over=over)
    steps = [line.split("\t") for line in lines(log)]
    for name, path in steps if outcome.code == 0 else steps[:-1]:
        disk.do(name, Path(path))
    if outcome.code == 0:
        assert disk.settled
    if disk.placed:
        assert not [file for file in disk.unsure() if file.is_relative_to(target)], (
            "published before it was synced"
        )
    for number in range(count):
        copy = fresh(lab.folder / f"{job}-{seed}-{number}")
        shutil.copytree(root, copy, dirs_exist_ok=True)
        lose(disk, root, copy, choose)
        seen = tree_hash(copy / "out")
        assert seen in (before, golden), (job, step, number)
        if outcome.code == 0:
            assert seen == golden
        again = lab.run(lab.case(job, copy / "out", replace=over, workers=0, part=2))
        assert again.code == 0 or (again.code == 5 and seen == golden and not over), (job, step, number, again)
        assert tree_hash(copy / "out") == golden, (job, step, number)
        shutil.rmtree(copy)
    shutil.rmtree(root)
    return count


def lose_power(
    lab: Lab, jobs: Sequence[str], total: int, seed: int, minutes: float = math.inf, *, every: int = 1
) -> int:
    """Try about so many states in all, of each step or every so many; returns how many."""
    choose = random.Random(seed)
    todo = []
    for job in jobs:
        lab.golden(job), lab.old(job)
        log = lab.folder / f"{job}.log"
        log.unlink(missing_ok=True)
        lab.run(lab.case(job, fresh(lab.folder / "count") / "out", log=str(log), part=2))
        names = [line.split("\t")[0] for line in lines(log)]
        # Writes into one file differ little; what comes between them is what matters.
        steps = [i for i, name in enumerate(names, 1) if name != "write" or names[i - 2] != "write"]
        steps = [*steps[seed % every :: every], len(names) + 1]
        while len(steps) * 8 < total // len(jobs):
            steps += choose.sample(range(1, len(names) + 1), min(len(names), 50))
        each = max(1, round(total / len(jobs) / len(steps)))
        todo += [(job, step, seed * 1_000_000 + i, each) for i, step in enumerate(steps)]
    if minutes < math.inf:
        choose.shuffle(todo)  # so that a part is one of everything
    return sum(lab.each(lambda one: states(lab, *one), todo, minutes=minutes))


@pytest.mark.timeout(0)
def test_power_loss(lab: Lab) -> None:
    count = lose_power(lab, SHORT, 90, 0, every=3)
    assert count >= 60
    print(f"\n{count} states after a loss of power: all recovered to the same bytes")


@pytest.mark.nightly
@pytest.mark.timeout(0)
def test_power_loss_long(lab: Lab) -> None:
    count = lose_power(lab, JOBS, int(os.environ.get("VLA_DATA_STATES", "20000")), 1, MINUTES)
    print(f"\n{count:,} states after a loss of power, of {len(JOBS)} jobs: all recovered to the same bytes")
