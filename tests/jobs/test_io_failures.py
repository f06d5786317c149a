"""Every step of a run fails once, as by a full, broken or forbidden disk: one line, exit 7, nothing published."""

from __future__ import annotations

import errno
import os
import random
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.faults import JOBS, MINUTES, Lab, fresh, leftovers, lines, size_of, tree_hash, work_of
from tests.rollouts import rollout, save
from vla_data.errors import MachineError
from vla_data.files import write as io

ERRORS = {
    errno.ENOSPC: "E701",
    errno.EIO: "E703",
    errno.EACCES: "E702",
    errno.EDQUOT: "E701",
    errno.EINTR: "E703",  # Python tries again by itself; this is a library that does not
}
SHORT = ("rlds", "lerobot")
DISKS = int(os.environ.get("VLA_DATA_DISKS", "50"))


@dataclass(frozen=True, kw_only=True)
class Failure:
    job: str
    step: int
    errno: int
    over: bool  # replaces an old dataset
    sticky: bool  # a full disk stays full, what can't be removed stays
    harmless: bool  # it is published already


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    lab = Lab(tmp_path_factory.mktemp("lab"))
    yield lab
    lab.close()


def check(lab: Lab, failure: Failure, folder: Path) -> Failure:
    target = fresh(folder) / "out"
    if failure.over:
        shutil.copytree(lab.old(failure.job), target)
    before, golden = tree_hash(target), lab.golden(failure.job)
    case = lab.case(failure.job, target, replace=failure.over)
    outcome = lab.run(replace(case, fail=failure.step, errno=failure.errno, sticky=failure.sticky))
    if failure.harmless:
        # It is published; what could not be removed is removed by the next run.
        assert (outcome.code, tree_hash(target)) == (0, golden), (failure, outcome)
        assert lab.run(replace(case, replace=False)).code == 5
    else:
        assert (outcome.code, outcome.error) == (7, ERRORS[failure.errno]), (failure, outcome)
        assert outcome.message.isprintable()
        assert tree_hash(target) == before, failure
        assert lab.run(case).code == 0, failure
    assert tree_hash(target) == golden, failure
    assert leftovers(target) == []
    shutil.rmtree(folder)
    return failure


@dataclass(frozen=True, kw_only=True)
class Steps:
    """The steps of one run: names and paths, from 1 on."""

    rows: list[tuple[str, Path]]

    def alike(self, step: int) -> bool:
        """Whether it is one more write into the same file."""
        return step > 1 and self.rows[step - 1] == self.rows[step - 2] and self.rows[step - 1][0] == "write"

    def first(self, step: int) -> bool:
        """Whether no step before was of this kind: by its name, and what kind of file in which folder."""
        kinds = [(name, path.suffix, path.parent.name) for name, path in self.rows[:step]]
        return kinds[-1] not in kinds[:-1]

    @property
    def published(self) -> int:
        """The step that publishes."""
        return max(i for i, (name, _) in enumerate(self.rows, 1) if name == "rename")

    def harmless(self, step: int, code: int, target: Path) -> bool:
        name, path = self.rows[step - 1]
        return step > self.published and (
            name == "remove" or (code == errno.EACCES and path in target.parent.parents)
        )


def steps_of(lab: Lab, job: str, *, over: bool) -> Steps:
    target = fresh(lab.folder / "count") / "out"
    if over:
        shutil.copytree(lab.old(job), target)
    log = lab.folder / f"{job}-{over}.log"
    assert lab.run(lab.case(job, target, log=str(log), replace=over)).code == 0
    return Steps(rows=[(name, Path(path)) for name, path in (line.split("\t") for line in lines(log))])


def failures(lab: Lab, job: str, *, all_errors: bool) -> list[Failure]:
    """The first step of each kind and a seventh of the others, each with one of the errors in turn, of the writes
    into a Parquet file one in 21; or all with all.

    All: of a run that replaces a dataset from where it publishes on, as it is the same before.
    """
    out = []
    target = lab.folder / "count/out"
    for over in (False, True):
        steps = steps_of(lab, job, over=over)
        first = next(i for i, (name, _) in enumerate(steps.rows, 1) if name == "fsync")
        for step in range(1, len(steps.rows) + 1):
            for number, code in enumerate(ERRORS):
                if all_errors:
                    take = not over or step >= first
                else:
                    in_turn = number == (step // 2) % len(ERRORS) and over == bool(step % 2)
                    take = (
                        in_turn and not (steps.alike(step) and step % 21) and (steps.first(step) or not step % 7)
                    )
                if take:
                    harmless = steps.harmless(step, code, target)
                    sticky = code == errno.ENOSPC if not harmless else steps.rows[step - 1][0] == "remove"
                    failure = Failure(job=job, step=step, errno=code, over=over, sticky=sticky, harmless=harmless)
                    out.append((steps.alike(step), (number - step) % len(ERRORS), len(out), failure))
    # Time may run out: first each step with one of the errors, and last the many writes into one file.
    return [failure for *_, failure in sorted(out, key=lambda row: row[:3])]


@pytest.mark.parametrize("job", SHORT)
@pytest.mark.timeout(0)
def test_step_that_fails(job: str, lab: Lab) -> None:
    every = failures(lab, job, all_errors=False)
    lab.golden(job)
    lab.each(lambda item: check(lab, item[1], lab.folder / f"{job}-{item[0]}"), list(enumerate(every)))
    print(f"\n{job}: {len(every)} failures: exit 7, the old dataset intact, the next run whole")


@pytest.mark.nightly
@pytest.mark.parametrize("job", JOBS)
@pytest.mark.timeout(0)
def test_every_step_fails_with_every_error(job: str, lab: Lab) -> None:
    every = failures(lab, job, all_errors=True)
    lab.golden(job)
    items = list(enumerate(every))
    done = lab.each(
        lambda item: check(lab, item[1], lab.folder / f"{job}-{item[0]}"), items, minutes=MINUTES / len(JOBS)
    )
    counts = Counter(errno.errorcode[failure.errno] for failure in done)
    print(
        f"\n{job}: {len(done):,} of {len(every):,} failures {dict(counts)}: exit 7, the old dataset intact, "
        "the next run whole"
    )


def big(folder: Path) -> Path:
    """Rollouts of some 4 MB, which JPEG can't make smaller."""
    for i in range(24):
        save(folder, f"e{i:03d}.npz", rollout(20, images="jpeg", size=(64, 64), seed=i))
    return folder


def fill(lab: Lab, job: str, disk: Path, source: Path, kib: int) -> bool:
    """Replace a dataset on a disk of this size, and again when it has grown; returns whether it was too small."""
    disk.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", str(disk)], check=False)
    if made.returncode:
        pytest.skip("may not mount here")
    try:
        shutil.copytree(lab.old(job), disk / "out")
        before = tree_hash(disk / "out")
        whole = lab.golden_of(job, source)
        case = lab.case(job, disk / "out", source=str(source), replace=True)
        outcome = lab.run(case)
        if outcome.code:
            assert (outcome.code, outcome.error) == (7, "E701"), outcome
            assert tree_hash(disk / "out") == before
            subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
            assert lab.run(case).code == 0
        assert tree_hash(disk / "out") == whole
        assert leftovers(disk / "out") == []
    finally:
        subprocess.run(["umount", str(disk)], check=True)
    return outcome.code != 0


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
@pytest.mark.parametrize("job", SHORT)
@pytest.mark.parametrize("kib", [300, 1024, 2048, 4096])
def test_disk_that_is_full(job: str, kib: int, lab: Lab, tmp_path: Path) -> None:
    assert fill(lab, job, tmp_path / "disk", big(tmp_path / "big"), kib)


@pytest.mark.nightly
@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
@pytest.mark.parametrize("job", ["rlds", "lerobot", "h264"])
@pytest.mark.timeout(0)
def test_disks_of_many_sizes(job: str, lab: Lab, tmp_path: Path) -> None:
    """From one that holds little more than the old dataset to one that holds all."""
    source = big(tmp_path / "big")
    lab.golden_of(job, source)
    old, new = size_of(lab.old(job)), size_of(lab.folder / f"golden-{job}-big")
    sizes = [(old + 80_000 + 3 * new * i // DISKS) >> 10 for i in range(DISKS)]
    items = list(enumerate(sizes))
    random.Random(0).shuffle(items)
    full = lab.each(
        lambda item: fill(lab, job, tmp_path / f"disk-{item[0]}", source, item[1]), items, minutes=MINUTES / 3
    )
    assert sum(full) > len(full) // 2
    print(
        f"\n{job}: {len(full)} disks of {sizes[0]:,} to {sizes[-1]:,} KiB, {sum(full)} too small: "
        "exit 7, the old dataset intact, whole when there was room"
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_read_only_disk_is_found_before_any_work(lab: Lab, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(disk)], check=False).returncode:
        pytest.skip("may not mount here")
    try:
        work_of(disk / "out").mkdir()  # from an earlier run
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        reads = tmp_path / "reads"
        outcome = lab.run(lab.case("rlds", disk / "out", reads=str(reads)))
        assert (outcome.code, outcome.error) == (7, "E702"), outcome
        assert lines(reads) == []
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_mount_point_as_target_is_found_before_any_work(lab: Lab, tmp_path: Path) -> None:
    disk = tmp_path / "out"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(disk)], check=False).returncode:
        pytest.skip("may not mount here")
    try:
        reads = tmp_path / "reads"
        outcome = lab.run(lab.case("rlds", disk, reads=str(reads)))
        assert (outcome.code, outcome.error) == (7, "E703"), outcome
        assert "mount point" in outcome.message
        assert lines(reads) == []
        assert leftovers(disk) == ["reads"] or leftovers(disk) == []
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("job", SHORT)
def test_file_size_limit(job: str, lab: Lab, tmp_path: Path) -> None:
    source = big(tmp_path / "big")
    outcome = lab.run(lab.case(job, tmp_path / "out", source=str(source), max_file=100_000))
    assert (outcome.code, outcome.error) == (7, "E701"), outcome
    assert not (tmp_path / "out").exists()
    assert lab.run(lab.case(job, tmp_path / "out", source=str(source))).code == 0


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.EBADF])
def test_file_system_without_locks_is_named(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vla_data.jobs import workspace

    def refuse(handle: int, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(workspace.fcntl, "flock", refuse)
    with pytest.raises(MachineError, match="network file system"), workspace.workspace(tmp_path / "out"):
        pass


def test_old_target_is_put_back_where_names_cant_be_exchanged(lab: Lab, tmp_path: Path) -> None:
    """Two renames take the place of the exchange; a run that died between them is put right by the next."""
    from vla_data.jobs import workspace

    target = tmp_path / "out"
    shutil.copytree(lab.old("rlds"), target)
    with workspace.workspace(target) as work:
        (work / "aside").write_text(str(target.stat().st_ino))
        target.rename(work / "replaced")
    with workspace.workspace(target):
        assert tree_hash(target) == tree_hash(lab.old("rlds"))


@pytest.mark.parametrize("fails", ["", "rename", "fsync"])
def test_publishing_without_exchange(fails: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vla_data.jobs import publish
    from vla_data.jobs.targets import Seen

    monkeypatch.setattr(publish, "_exchange", lambda one, other: False)
    target, work = tmp_path / "out", tmp_path / ".out.vla-data"
    for folder, text in ((target, "old"), (work / "staging", "new")):
        folder.mkdir(parents=True)
        (folder / "file").write_text(text)

    seen = Seen.at(target)

    def hook(name: str, path: Path) -> None:
        # The second of the two renames, or the sync after them.
        if (name == fails and not target.exists()) or (name == fails == "fsync" and path == tmp_path):
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(io, "hook", hook)
    if fails:
        with pytest.raises(MachineError):
            publish.publish(work / "staging", target, seen)
        assert (target / "file").read_text() == "old"
    else:
        publish.publish(work / "staging", target, seen)
        assert (target / "file").read_text() == "new"
        assert not work.exists()


def test_space_is_asked_for(tmp_path: Path) -> None:
    io.check_space(tmp_path, 1)
    with pytest.raises(MachineError, match="are free"):
        io.check_space(tmp_path, 1 << 60)


def test_file_for_libraries_is_written_whole(tmp_path: Path) -> None:
    """A raw write may take less than it is given, here what the pipe has room for."""
    import threading

    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    with io.open_file(pipe) as file:
        os.set_blocking(file.fileno(), True)
        assert file.write(memoryview(bytes(1_000_000))) == 1_000_000
    reader.join()
    assert read == [bytes(1_000_000)]
