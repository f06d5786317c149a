"""What others put beside or at a target, before or during a run: nothing of theirs is lost or believed."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vla_data as vd
from tests.faults import tree_hash, work_of
from tests.rollouts import rollout, save
from vla_data.errors import MachineError, RefusedError, TargetExistsError, UsageError, VlaDataError
from vla_data.files import write
from vla_data.jobs import publish
from vla_data.jobs.part import Job, Part, make_part
from vla_data.jobs.targets import Seen
from vla_data.jobs.workspace import is_made_here, mark_made, work_folder, workspace


class Here:
    """Makes the parts in this process; before the last one comes what others do meanwhile."""

    def __init__(self, meanwhile: Callable[[], object] = lambda: None) -> None:
        self._meanwhile = meanwhile

    def make(self, job: Job, digest: str, parts: Sequence[Part], *, limits: Any) -> Iterator[Part]:
        for part in parts:
            make_part(job, digest, part)
            yield part
        self._meanwhile()


@pytest.fixture
def rollouts(tmp_path: Path) -> Path:
    folder = tmp_path / "rollouts"
    folder.mkdir()
    for number in range(2):
        save(folder, f"{number}.npz", rollout(2, seed=number, size=(8, 8)))
    return folder


def convert(
    source: Path, target: Path, meanwhile: Callable[[], object] = lambda: None, **options: Any
) -> vd.Report:
    sink = vd.open_sink(target, format="lerobot", images="jpeg")
    return vd.run(vd.open_source(source), (), sink, engine=Here(meanwhile), **options)


def write_text(path: Path, text: str = "three years of work") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


# -- the work folder --------------------------------------------------------------------------------------


def test_a_work_folder_that_is_a_link_is_left_alone(rollouts: Path, tmp_path: Path) -> None:
    write_text(tmp_path / "precious/sub/b")
    (tmp_path / ".out.vla-data").symlink_to(tmp_path / "precious")
    with pytest.raises(MachineError, match="is not a plain folder") as caught:
        convert(rollouts, tmp_path / "out")
    assert caught.value.code == "E702"
    assert [p.relative_to(tmp_path).as_posix() for p in (tmp_path / "precious").rglob("*")] == [
        "precious/sub",
        "precious/sub/b",
    ]


def _file(folder: Path) -> None:
    folder.write_text("")


def _dangling(folder: Path) -> None:
    folder.symlink_to("nowhere")


def _writable(folder: Path) -> None:
    folder.mkdir()
    folder.chmod(0o777)


def _group_writable(folder: Path) -> None:
    folder.mkdir()
    folder.chmod(0o770)


def _filled(folder: Path) -> None:
    write_text(folder / "parts/00000000.json", "{}")


def _foreign(folder: Path) -> None:
    write_text(folder / "notes.txt")


def _linked_inside(folder: Path) -> None:
    folder.mkdir()
    (folder / "parts").symlink_to(folder.parent)


def _replaced(folder: Path) -> None:
    """A dataset that would be put at the target, as if a run had moved it aside."""
    write_text(folder / "replaced/meta/info.json")
    (folder / "aside").write_text(str((folder / "replaced").stat().st_ino))


def _copied(folder: Path) -> None:
    """One that a run made, somewhere else."""
    other = folder.with_name("made-elsewhere")
    other.mkdir(0o700)
    mark_made(other)
    write_text(other / "parts/00000000.json", "{}")
    assert is_made_here(other)
    shutil.copytree(other, folder, copy_function=shutil.copy2)


PLANTED = (_file, _dangling, _writable, _group_writable, _filled, _foreign, _linked_inside, _replaced, _copied)


@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__.strip("_"))
def test_a_work_folder_that_no_run_made_here_is_refused(
    plant: Callable[[Path], None], rollouts: Path, tmp_path: Path
) -> None:
    work = tmp_path / ".out.vla-data"
    plant(work)
    before = tree_hash(tmp_path)
    with pytest.raises(MachineError) as caught:
        convert(rollouts, tmp_path / "out")
    assert caught.value.code == "E702"
    assert tree_hash(tmp_path) == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes files of others")
def test_a_work_folder_of_another_user_is_refused(rollouts: Path, tmp_path: Path) -> None:
    work = tmp_path / ".out.vla-data"
    work.mkdir(0o700)
    mark_made(work)
    os.chown(work, 65534, 65534)
    with pytest.raises(MachineError, match="another user's"):
        convert(rollouts, tmp_path / "out")


def test_a_work_folder_is_private_and_found_again(tmp_path: Path) -> None:
    with workspace(tmp_path / "out") as work:
        assert work.stat().st_mode & 0o777 == 0o700
        write_text(work / "parts/kept")
    with workspace(tmp_path / "out") as work:
        assert (work / "parts/kept").is_file()
        shutil.rmtree(work / "parts")
    assert not work.exists()


def test_what_a_kill_leaves_of_marking_is_no_hindrance(tmp_path: Path) -> None:
    work = tmp_path / ".out.vla-data"
    work.mkdir(0o700)
    write_text(work / "made", "")
    write_text(write.unforeseen(work / "stamp"), "half")
    write_text(write.unforeseen(work / "probe"), "")
    with workspace(tmp_path / "out"):
        pass
    assert not work.exists()


def test_only_what_a_run_made_is_removed_with_its_work_folder(rollouts: Path, tmp_path: Path) -> None:
    convert(rollouts, tmp_path / "out", lambda: write_text(tmp_path / ".out.vla-data/thesis.txt"))
    assert (tmp_path / "out/meta/info.json").is_file()
    assert [p.name for p in (tmp_path / ".out.vla-data").iterdir()] == ["thesis.txt"]


def test_a_work_folder_has_a_name_that_fits(tmp_path: Path) -> None:
    assert len(work_folder(tmp_path / ("x" * 250)).name) <= 255
    assert work_folder(tmp_path / ("x" * 250)) != work_folder(tmp_path / ("x" * 251))


@pytest.mark.parametrize(("name", "code"), [("x" * 255, ""), ("x" * 256, "E001"), ("é" * 128, "E001")])
def test_names_of_any_length(name: str, code: str, rollouts: Path, tmp_path: Path) -> None:
    if not code:
        assert convert(rollouts, tmp_path / name).exit_code == 0
        return
    with pytest.raises(UsageError) as caught:
        convert(rollouts, tmp_path / name)
    assert caught.value.code == code


# -- the target, meanwhile --------------------------------------------------------------------------------


def _made_folder(target: Path) -> None:
    target.mkdir()


def _made_file(target: Path) -> None:
    write_text(target)


def _made_link(target: Path) -> None:
    write_text(target.with_name("victim") / "a")
    target.symlink_to("victim")


def _made_files(target: Path) -> None:
    write_text(target / "thesis.txt")


MEANWHILE = (_made_folder, _made_file, _made_link, _made_files)


@pytest.mark.parametrize("exchange", [True, False], ids=["noreplace", "without"])
@pytest.mark.parametrize("do", MEANWHILE, ids=lambda do: do.__name__.strip("_"))
def test_what_comes_to_the_target_meanwhile_stays(
    do: Callable[[Path], None], exchange: bool, rollouts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not exchange:
        monkeypatch.setattr(publish, "_rename", lambda one, other, flag: False)
    target, seen = tmp_path / "out", []

    def meanwhile() -> None:
        do(target)
        seen.append(tree_hash(target))

    with pytest.raises(TargetExistsError, match="came into being") as caught:
        convert(rollouts, target, meanwhile)
    assert caught.value.code == "E411"
    assert tree_hash(target) == seen[0]
    # Once it is out of the way the same command goes on.
    target.rename(tmp_path / "moved")
    assert convert(rollouts, target).exit_code == 0
    assert not work_of(target).exists()


@pytest.mark.parametrize("do", MEANWHILE[1:], ids=lambda do: do.__name__.strip("_"))
def test_what_comes_into_the_place_of_an_empty_folder_stays(
    do: Callable[[Path], None], rollouts: Path, tmp_path: Path
) -> None:
    target, seen = tmp_path / "out", []
    target.mkdir()

    def meanwhile() -> None:
        target.rmdir()
        do(target)
        seen.append(tree_hash(target))

    with pytest.raises(TargetExistsError):
        convert(rollouts, target, meanwhile)
    assert tree_hash(target) == seen[0]


def _new_file(target: Path) -> None:
    write_text(target / "notes.txt")


def _changed_file(target: Path) -> None:
    write_text(target / "README.md")


def _removed_file(target: Path) -> None:
    (target / "README.md").unlink()


def _swapped(target: Path) -> None:
    target.rename(target.with_name("away"))
    shutil.copytree(target.with_name("away"), target)


def _swapped_by_link(target: Path) -> None:
    target.rename(target.with_name("away"))
    target.symlink_to("away")


def _published_below(target: Path) -> None:
    shutil.copytree(target, target / "sub")


@pytest.mark.parametrize("exchange", [True, False], ids=["exchange", "without"])
@pytest.mark.parametrize(
    "do",
    [_new_file, _changed_file, _removed_file, _swapped, _swapped_by_link, _published_below],
    ids=lambda do: do.__name__.strip("_"),
)
def test_an_old_dataset_that_changes_meanwhile_is_not_replaced(
    do: Callable[[Path], None], exchange: bool, rollouts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, seen = tmp_path / "out", []
    convert(rollouts, target)
    if not exchange:
        monkeypatch.setattr(publish, "_rename", lambda one, other, flag: False)

    def meanwhile() -> None:
        do(target)
        seen.append(tree_hash(target))

    with pytest.raises(TargetExistsError, match="meanwhile") as caught:
        convert(rollouts, target, meanwhile, replace=True)
    assert caught.value.code == "E411"
    assert tree_hash(target) == seen[0]


def test_a_change_between_the_look_and_the_exchange_is_taken_back(
    rollouts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "out"
    convert(rollouts, target)
    whole = publish._exchange

    def late(one: Path, other: Path) -> bool:
        if not (target / "late.txt").exists():
            write_text(target / "late.txt")
        return whole(one, other)

    monkeypatch.setattr(publish, "_exchange", late)
    with pytest.raises(TargetExistsError, match=r"late\.txt"):
        convert(rollouts, target, replace=True)
    assert (target / "late.txt").read_text() == "three years of work"


@pytest.mark.parametrize("comes", [False, True], ids=["fails", "comes"])
def test_where_names_are_made_in_two_steps_nothing_stays_between_them(
    comes: bool, rollouts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on NFS, FUSE and other file systems that know no rename that replaces nothing."""
    target, rename = tmp_path / "out", os.rename

    def fail(one: Path, other: Path) -> None:
        if other == target and comes:
            write_text(target / "late.txt")
        elif other == target:
            raise PermissionError(errno.EACCES, "no", str(one))
        rename(one, other)

    with monkeypatch.context() as patch:
        patch.setattr(publish, "_rename", lambda one, other, flag: False)
        patch.setattr(os, "rename", fail)
        with pytest.raises(TargetExistsError if comes else MachineError):
            convert(rollouts, target)
    assert [path.name for path in target.glob("*")] == (["late.txt"] if comes else [])
    assert target.exists() == comes


def test_a_dataset_inside_of_another_is_never_replaced_with_it(rollouts: Path, tmp_path: Path) -> None:
    convert(rollouts, tmp_path / "out")
    convert(rollouts, tmp_path / "out/sub")
    before = tree_hash(tmp_path / "out")
    with pytest.raises(TargetExistsError, match=r"another dataset inside \(sub\)"):
        convert(rollouts, tmp_path / "out", replace=True)
    assert tree_hash(tmp_path / "out") == before


@pytest.mark.parametrize("number", [errno.EXDEV, errno.EBUSY, errno.EPERM])
def test_a_target_that_can_not_be_renamed_is_told_before_the_work(
    number: int, rollouts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "out"
    convert(rollouts, target)
    before, real = tree_hash(target), os.rename

    def rename(one: Any, other: Any, **options: Any) -> None:
        if Path(one) == target:
            raise OSError(number, os.strerror(number))
        real(one, other, **options)

    monkeypatch.setattr(os, "rename", rename)
    with pytest.raises(MachineError) as caught:
        convert(rollouts, target, lambda: pytest.fail("it has begun"), replace=True)
    assert caught.value.code == ("E702" if number == errno.EPERM else "E703")
    assert tree_hash(target) == before
    assert not work_of(target).exists()


def test_seen_is_of_a_folder_and_all_that_is_below(tmp_path: Path) -> None:
    assert Seen.at(tmp_path / "out").difference(tmp_path / "out") is None
    write_text(tmp_path / "out/a/b")
    (tmp_path / "out/link").symlink_to("a")
    seen = Seen.at(tmp_path / "out")
    assert seen.difference(tmp_path / "out") is None
    (tmp_path / "out/link").unlink()
    (tmp_path / "out/link").symlink_to("b")
    assert seen.difference(tmp_path / "out") == "link in it has changed"


# -- temporary names --------------------------------------------------------------------------------------


def test_a_temporary_name_is_new_each_time_and_fits(tmp_path: Path) -> None:
    names = {write.unforeseen(tmp_path / "a").name for _ in range(100)}
    assert len(names) == 100
    assert all(write.is_unforeseen(name, "a") for name in names)
    assert not any(write.is_unforeseen(name, "b") for name in names)
    assert len(write.unforeseen(tmp_path / ("x" * 255)).name) <= 255


@pytest.mark.parametrize("name", ["f", "x" * 255])
def test_writing_replaces_a_link_and_does_not_follow_it(name: str, tmp_path: Path) -> None:
    write_text(tmp_path / "victim", "precious")
    (tmp_path / name).symlink_to("victim")
    write.write_file(tmp_path / name, b"new")
    assert (tmp_path / "victim").read_text() == "precious"
    assert (tmp_path / name).read_bytes() == b"new"
    assert not (tmp_path / name).is_symlink()


@pytest.mark.parametrize("new", [False, True])
def test_a_device_is_not_replaced(new: bool, tmp_path: Path) -> None:
    path = tmp_path / "device"
    path.symlink_to("/dev/full")
    with pytest.raises(UsageError, match=r"E131 .*device"):
        write.write_file(path, b"data", new=new)
    assert os.readlink(path) == "/dev/full"
    if os.geteuid() == 0:
        path.unlink()
        try:
            os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 7))
        except PermissionError:  # root of a container that may not
            return
        with pytest.raises(UsageError, match=r"E131 .*device"):
            write.write_file(path, b"data", new=new)
        assert stat.S_ISCHR(path.lstat().st_mode)


@pytest.mark.parametrize("linked", ["a", "a/b"])
def test_no_link_below_a_root_is_written_through(linked: str, tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    (outside / "b").mkdir(parents=True)
    (root / linked).parent.mkdir(parents=True, exist_ok=True)
    (root / linked).symlink_to(outside)
    for act in (
        lambda: write.write_file(root / "a/b/f", b"x", root=root),
        lambda: write.make_folder(root / "a/b/c", root=root),
    ):
        with pytest.raises(UsageError, match="is a link") as caught:
            act()
        assert caught.value.code == "E131"
    assert [p.name for p in outside.rglob("*")] == ["b"]


def test_a_root_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "root").symlink_to("real")
    write.make_folder(tmp_path / "root/a", root=tmp_path / "root")
    write.write_file(tmp_path / "root/a/f", b"x", root=tmp_path / "root")
    assert (tmp_path / "real/a/f").read_bytes() == b"x"


def test_removing_a_link_removes_the_link(tmp_path: Path) -> None:
    write_text(tmp_path / "victim/a")
    (tmp_path / "link").symlink_to("victim")
    write.remove_tree(tmp_path / "link")
    assert (tmp_path / "victim/a").is_file()
    assert not os.path.lexists(tmp_path / "link")


# -- a source that changes --------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["replaced", "appended", "gone", "swapped"])
def test_a_source_that_changes_meanwhile_is_noticed(what: str, rollouts: Path, tmp_path: Path) -> None:
    def meanwhile() -> None:
        file = rollouts / "1.npz"
        if what == "replaced":
            save(rollouts, "1.npz", rollout(3, seed=7, size=(8, 8)))
        elif what == "appended":
            with file.open("ab") as out:
                out.write(b"x")
        elif what == "gone":
            file.unlink()
        else:
            copy = rollouts.with_name("copy")
            shutil.copytree(rollouts, copy)
            rollouts.rename(rollouts.with_name("away"))
            copy.rename(rollouts)

    with pytest.raises(RefusedError, match=r"1\.npz|0\.npz and 1 more") as caught:
        convert(rollouts, tmp_path / "out", meanwhile)
    assert caught.value.code == "E403"
    assert not (tmp_path / "out").exists()


def test_new_files_beside_a_source_are_no_change(rollouts: Path, tmp_path: Path) -> None:
    report = convert(rollouts, tmp_path / "out", lambda: save(rollouts, "2.npz", rollout(2, size=(8, 8))))
    assert report.counts["published_episodes"] == 2


@pytest.mark.parametrize("format", ["lerobot", "rlds", "hdf5", "merged"])
def test_every_format_notices_a_change(format: str, rollouts: Path, tmp_path: Path) -> None:
    made = tmp_path / "made"
    sinks = {"lerobot": {"images": "jpeg"}, "rlds": {"name": "x"}, "hdf5": {}, "merged": {"images": "jpeg"}}
    name = {"hdf5": "robomimic", "merged": "lerobot"}.get(format, format)
    vd.run(vd.open_source(rollouts), (), vd.open_sink(made, format=name, **sinks[format]), engine=Here())
    source: Any = vd.open_source(made)
    if format == "merged":
        from vla_data.selection.merged import Member, MergedSource

        source = MergedSource((Member("a", source), Member("b", vd.open_source(rollouts))))
    refs = source.episodes()
    before = source.states(refs)
    assert before.keys() == {ref.id for ref in refs}
    assert source.states(refs) == before
    data = max((p for p in made.rglob("*") if p.is_file() and "vla_data" not in p.parts), key=_size)
    copy = data.with_name("copy")
    shutil.copy2(data, copy)
    copy.replace(data)  # the same bytes, name, size and time
    after = source.states(refs)
    assert any(after[name] != before[name] for name in before)


def _size(path: Path) -> int:
    return path.stat().st_size


def test_metadata_that_changed_since_a_source_was_opened_is_read_anew(rollouts: Path, tmp_path: Path) -> None:
    made = tmp_path / "made"
    convert(rollouts, made)
    source = vd.open_source(made)
    assert len(source.episodes()) == 2
    save(rollouts, "2.npz", rollout(2, seed=5, size=(8, 8)))
    convert(rollouts, made, replace=True)
    assert len(source.episodes()) == 3


# -- bad luck ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["moved", "deleted", "parent moved", "emptied"])
def test_a_work_folder_that_goes_is_said_to_have(what: str, rollouts: Path, tmp_path: Path) -> None:
    parent = tmp_path / "parent"
    parent.mkdir()
    work = parent / ".out.vla-data"

    def meanwhile() -> None:
        if what == "moved":
            work.rename(parent / "elsewhere")
        elif what == "deleted":
            shutil.rmtree(work)
        elif what == "emptied":
            shutil.rmtree(work / "parts")
        else:
            parent.rename(tmp_path / "elsewhere")

    with pytest.raises(MachineError, match=r"moved or (deleted|emptied)|a finished part is gone") as caught:
        convert(rollouts, parent / "out", meanwhile)
    assert caught.value.code == "E703"
    assert not (parent / "out").exists()


def test_another_current_folder_changes_nothing(
    rollouts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    report = convert(Path("rollouts"), Path("out"), lambda: os.chdir("elsewhere"))
    assert report.target == Path("out")
    assert (tmp_path / "out/meta/info.json").is_file()
    assert not list((tmp_path / "elsewhere").iterdir())


def test_what_the_disk_says_is_never_called_a_defect(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from vla_data import cli

    for error, code in (
        (OSError(errno.EIO, "Input/output error"), "E703"),
        (OSError(errno.ENAMETOOLONG, ""), "E001"),
    ):
        with pytest.raises(VlaDataError) as caught, cli._machine_said():
            raise error
        assert caught.value.code == code


def test_parts_of_the_numbers_are_what_numpy_reads(rollouts: Path, tmp_path: Path) -> None:
    """The bytes are those of a run in workers, whatever makes the parts."""
    convert(rollouts, tmp_path / "a")
    sink = vd.open_sink(tmp_path / "b", format="lerobot", images="jpeg")
    vd.run(vd.open_source(rollouts), (), sink, workers=1)
    assert tree_hash(tmp_path / "a") == tree_hash(tmp_path / "b")
    with np.load(rollouts / "0.npz", allow_pickle=True) as found:
        assert found is not None
