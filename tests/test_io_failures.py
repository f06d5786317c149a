"""Every step of a run fails once, as by a full, broken or forbidden disk: one line, exit 7, nothing published."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.faults import Lab, fresh, leftovers, lines, tree_hash, work_of
from vla_data.errors import MachineError
from vla_data.jobs import io

ERRORS = {errno.ENOSPC: "E701", errno.EIO: "E703", errno.EACCES: "E702", errno.EDQUOT: "E701"}
SINKS = ("rlds", "lerobot")


@dataclass(frozen=True)
class Failure:
    sink: str
    step: int
    errno: int
    over: bool
    sticky: bool  # a full disk stays full
    harmless: bool  # it is published already


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    lab = Lab(tmp_path_factory.mktemp("lab"))
    yield lab
    lab.close()


def check(lab: Lab, failure: Failure, folder: Path) -> None:
    target = fresh(folder) / "out"
    if failure.over:
        shutil.copytree(lab.old(failure.sink), target)
    before, golden = tree_hash(target), lab.golden(failure.sink)
    case = lab.case(failure.sink, target, replace=failure.over)
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


def failures(lab: Lab, sink: str, *, over: bool) -> list[Failure]:
    """Each step with one of the errors in turn, of a Parquet file's writes every ninth.

    With VLA_DATA_EVERY=1 each step with each error.
    """
    target = fresh(lab.folder / "count") / "out"
    if over:
        shutil.copytree(lab.old(sink), target)
    log = lab.folder / f"{sink}-{over}.log"
    assert lab.run(lab.case(sink, target, log=str(log), replace=over)).code == 0
    steps = [(name, Path(path)) for name, path in (line.split("\t") for line in lines(log))]
    every = bool(os.environ.get("VLA_DATA_EVERY"))
    published = max(i for i, (name, _) in enumerate(steps, 1) if name == "rename")
    out = []
    for step, (name, path) in enumerate(steps, 1):
        if name == "write" and steps[step - 2][0] == "write" and not every and step % 9:
            continue
        for number, code in enumerate(ERRORS):
            if every or (number == (step // 2) % 4 and over == bool(step % 2)):
                harmless = step > published and (
                    name == "remove" or (code == errno.EACCES and path in target.parent.parents)
                )
                out.append(Failure(sink, step, code, over, code == errno.ENOSPC and not harmless, harmless))
    return out


@pytest.mark.parametrize("sink", SINKS)
@pytest.mark.timeout(0)
def test_step_that_fails(sink: str, lab: Lab) -> None:
    lab.golden(sink)
    every = failures(lab, sink, over=False) + failures(lab, sink, over=True)
    lab.each(lambda item: check(lab, item[1], lab.folder / f"{sink}-{item[0]}"), list(enumerate(every)))
    print(f"\n{sink}: {len(every)} failures: exit 7, the old dataset intact, the next run whole")


def big(folder: Path) -> Path:
    """Rollouts of some 4 MB, which JPEG can't make smaller."""
    from tests.rollouts import rollout, save

    for i in range(24):
        save(folder, f"e{i:03d}.npz", rollout(20, images="jpeg", size=(64, 64), seed=i))
    return folder


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
@pytest.mark.parametrize("sink", SINKS)
@pytest.mark.parametrize("size", ["300k", "1m", "2m", "4m"])
def test_disk_that_is_full(sink: str, size: str, lab: Lab, tmp_path: Path) -> None:
    source = big(tmp_path / "big")
    disk = tmp_path / "disk"
    disk.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(disk)], check=False)
    if made.returncode:
        pytest.skip("may not mount here")
    try:
        shutil.copytree(lab.old(sink), disk / "out")
        before = tree_hash(disk / "out")
        case = lab.case(sink, disk / "out", source=str(source), replace=True)
        outcome = lab.run(case)
        assert (outcome.code, outcome.error) == (7, "E701"), outcome
        assert tree_hash(disk / "out") == before
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        assert lab.run(case).code == 0
        whole = tmp_path / "whole"
        assert lab.run(lab.case(sink, whole, source=str(source))).code == 0
        assert tree_hash(disk / "out") == tree_hash(whole)
        assert leftovers(disk / "out") == []
    finally:
        subprocess.run(["umount", str(disk)], check=True)


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


@pytest.mark.parametrize("sink", SINKS)
def test_file_size_limit(sink: str, lab: Lab, tmp_path: Path) -> None:
    source = big(tmp_path / "big")
    outcome = lab.run(lab.case(sink, tmp_path / "out", source=str(source), max_file=100_000))
    assert (outcome.code, outcome.error) == (7, "E701"), outcome
    assert not (tmp_path / "out").exists()
    assert lab.run(lab.case(sink, tmp_path / "out", source=str(source))).code == 0


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
    work_of(target).mkdir()
    target.rename(work_of(target) / "replaced")
    with workspace.workspace(target):
        assert tree_hash(target) == tree_hash(lab.old("rlds"))


@pytest.mark.parametrize("fails", ["", "rename", "fsync"])
def test_publishing_without_exchange(fails: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vla_data.jobs import workspace

    monkeypatch.setattr(workspace, "_exchange", lambda one, other: False)
    target, work = tmp_path / "out", tmp_path / ".out.vla-data"
    for folder, text in ((target, "old"), (work / "staging", "new")):
        folder.mkdir(parents=True)
        (folder / "file").write_text(text)

    def hook(name: str, path: Path) -> None:
        # The second of the two renames, or the sync after them.
        if (name == fails and not target.exists()) or (name == fails == "fsync" and path == tmp_path):
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(io, "hook", hook)
    if fails:
        with pytest.raises(MachineError):
            workspace.publish(work / "staging", target)
        assert (target / "file").read_text() == "old"
    else:
        workspace.publish(work / "staging", target)
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
