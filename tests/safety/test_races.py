"""A file that was looked at is the file that is read, whatever becomes of the folders on the way meanwhile."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from vla_data.errors import DataError
from vla_data.safety.files import hash_regular, open_binary, opened, read_file


def _opened(path: Path, root: Path) -> bytes:
    with opened(path, root=root) as name:
        return Path(name).read_bytes()


def _binary(path: Path, root: Path) -> bytes:
    with open_binary(path, root=root) as file:
        return file.read()


def _read(path: Path, root: Path) -> bytes:
    return read_file(path, root=root)[0]


def _hashed(path: Path, root: Path) -> bytes:
    return hash_regular(path, root=root).encode()


READERS = (_opened, _binary, _read, _hashed)


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.__name__.strip("_"))
@pytest.mark.parametrize("swapped", ["a", "a/b", "a/b/file"])
@pytest.mark.parametrize("linked_root", [False, True])
def test_a_folder_that_becomes_a_link_after_it_was_looked_at_is_not_followed(
    reader: Callable[[Path, Path], bytes],
    swapped: str,
    linked_root: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    root = tmp_path / "root"
    (root / "a/b").mkdir(parents=True)
    (root / "a/b/file").write_bytes(b"given")
    (tmp_path / "private/b/b").mkdir(parents=True)
    for name in ("private/file", "private/b/file", "private/b/b/file"):
        (tmp_path / name).write_bytes(b"secret")
    if linked_root:
        (tmp_path / "named").symlink_to(root)
        root = tmp_path / "named"
    whole = Path.resolve
    done: list[bool] = []

    def late(path: Path, strict: bool = False) -> Path:
        found = whole(path, strict=strict)
        if not done and path.name == "file":
            done.append(True)
            (root / swapped).rename(tmp_path / "away")
            target = tmp_path / ("private/file" if swapped.endswith("file") else "private")
            (root / swapped).symlink_to(target)
        return found

    monkeypatch.setattr(Path, "resolve", late)
    with pytest.raises(DataError) as caught:
        reader(root / "a/b/file", root)
    assert done
    assert caught.value.code == "E131"


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.__name__.strip("_"))
def test_links_inside_of_a_folder_are_followed(reader: Callable[[Path, Path], bytes], tmp_path: Path) -> None:
    (tmp_path / "root/data").mkdir(parents=True)
    (tmp_path / "root/data/file").write_bytes(b"given")
    (tmp_path / "root/link").symlink_to("data")
    (tmp_path / "root/data/same").symlink_to("file")
    one = reader(tmp_path / "root/data/file", tmp_path / "root")
    assert reader(tmp_path / "root/link/same", tmp_path / "root") == one


def test_a_folder_that_may_be_passed_and_not_listed_is_passed(tmp_path: Path) -> None:
    (tmp_path / "root/a").mkdir(parents=True)
    (tmp_path / "root/a/file").write_bytes(b"given")
    for name in ("root/a", "root"):
        (tmp_path / name).chmod(0o111)
    try:
        pid = os.fork()
        if pid == 0:  # root may list everything
            if os.geteuid() == 0:
                for folder in tmp_path.parents:
                    if folder.stat().st_mode & 0o111 != 0o111:
                        os._exit(0)  # nobody can't get here at all on this machine
                os.setuid(65534)
            os._exit(0 if read_file(tmp_path / "root/a/file", root=tmp_path / "root")[0] == b"given" else 1)
        assert os.waitpid(pid, 0)[1] == 0
    finally:
        for name in ("root", "root/a"):
            (tmp_path / name).chmod(0o755)


def test_a_name_with_a_nul_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        read_file(tmp_path / "a\0b", root=tmp_path)
    assert caught.value.code == "E131"
