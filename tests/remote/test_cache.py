"""The cache of what was fetched: what a store calls its objects, and what others put into the cache."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.faults import tree_hash
from vla_data import open_sink
from vla_data.errors import LockedError, MachineError, TargetExistsError, UsageError, VlaDataError
from vla_data.jobs.upload import Uploaded, upload_target
from vla_data.remote.cache import cache_folder, origin
from vla_data.remote.fetch import fetch
from vla_data.remote.storage import Storage


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VLA_DATA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def store(folder: Path, objects: Mapping[str, bytes]) -> Storage:
    """A store on this machine with these objects."""
    for name, data in objects.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return Storage(f"file://{folder}")


def listed(monkeypatch: pytest.MonkeyPatch, names: list[str]) -> Storage:
    """A store that lists objects of these names."""
    monkeypatch.setattr(Storage, "is_file", lambda _: False)
    monkeypatch.setattr(Storage, "states", lambda _: dict.fromkeys(names, (1, "x")))
    return Storage("s3://bucket/x")


@pytest.mark.parametrize(
    "names",
    [
        *(["a/../../evil"], ["../evil"], ["/etc/evil"], ["a//b"], ["a/"], ["."], [".."], ["a\0b"]),
        *(["x" * 256], ["é" * 128], ["a/" + "x" * 256]),
        *(["a.npz", "a.npz/b.npz"], ["a", "a/b/c/d"]),
    ],
)
def test_names_that_no_folder_can_have_are_refused_before_anything_is_fetched(
    names: list[str], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Storage, "download", lambda *_: pytest.fail("it has begun"))
    with pytest.raises(UsageError) as caught:
        fetch(listed(monkeypatch, names))
    assert caught.value.code == "E001"


def test_no_name_of_an_object_is_one_that_fetching_uses(cache: Path, tmp_path: Path) -> None:
    """``.a.part`` was where ``a`` came first: two objects of one store must not become one file."""
    objects = {
        name: name.encode() for name in ("a", ".a.part", "..a.part.part", "x" * 255, "listing.json", "address")
    }
    for _ in range(3):
        folder = fetch(store(tmp_path / "store", objects))
        assert {p.name: p.read_bytes() for p in folder.iterdir()} == objects
        (folder / "a").unlink()


def _victim(folder: Path) -> Path:
    for name in ("f", "meta/info.json"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("precious")
    return folder


def _root_link(root: Path, victim: Path) -> None:
    root.rename(root.with_name("moved"))
    root.symlink_to(victim)


def _folder_link(root: Path, victim: Path) -> None:
    (root / "meta").rename(root.with_name("moved"))
    (root / "meta").symlink_to(victim / "meta")


def _kind_link(root: Path, victim: Path) -> None:
    fetched = cache_folder() / "fetched"
    fetched.rename(fetched.with_name("moved"))
    fetched.symlink_to(victim)


def _file_link(root: Path, victim: Path) -> None:
    (root / "meta/info.json").unlink()
    (root / "meta/info.json").symlink_to(victim / "f")


def _file_fifo(root: Path, victim: Path) -> None:
    (root / "meta/info.json").unlink()
    os.mkfifo(root / "meta/info.json")


def _listing_fifo(root: Path, victim: Path) -> None:
    (root.parent / "listing.json").unlink()
    os.mkfifo(root.parent / "listing.json")


def _address_fifo(root: Path, victim: Path) -> None:
    (root.parent / "address").unlink()
    os.mkfifo(root.parent / "address")


def _listing_deep(root: Path, victim: Path) -> None:
    (root.parent / "listing.json").write_bytes(b"[" * 10**6)


def _listing_of_others(root: Path, victim: Path) -> None:
    """What is listed and no longer in the store is removed."""
    facts = json.loads((root.parent / "listing.json").read_text())
    up = "/".join([".."] * len(root.parts))
    for name in (f"{up}{victim}/f", str(victim / "f"), "../../address"):
        facts[name] = [1, "x", 1, 1]
    (root.parent / "listing.json").write_text(json.dumps(facts))


def _removed_through_a_link(root: Path, victim: Path) -> None:
    facts = json.loads((root.parent / "listing.json").read_text())
    facts["away/f"] = [1, "x", 1, 1]
    (root.parent / "listing.json").write_text(json.dumps(facts))
    (root / "away").symlink_to(victim)


PLANTED = (_root_link, _folder_link, _kind_link, _file_link, _file_fifo, _listing_fifo, _address_fifo)
PLANTED += (_listing_deep, _listing_of_others, _removed_through_a_link)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__.strip("_"))
def test_what_others_put_into_the_cache_harms_nothing(
    plant: Callable[[Path, Path], None], cache: Path, tmp_path: Path
) -> None:
    objects = {"meta/info.json": b"{}", "data": b"data"}
    there = store(tmp_path / "store", objects)
    root, victim = fetch(there), _victim(tmp_path / "victim")
    before = tree_hash(victim)
    plant(root, victim)
    try:
        folder = fetch(there)
        assert {name: (folder / name).read_bytes() for name in objects} == objects
        assert origin(folder) == there.url
    except VlaDataError as error:
        assert error.code == "E131"
    assert tree_hash(victim) == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes files of others")
def test_a_cache_of_another_user_is_refused(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.mkdir()
    os.chown(cache, 65534, 65534)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(MachineError, match="another user's"):
        fetch(store(tmp_path / "store", {"a": b""}))


def test_a_target_behind_a_link_in_the_cache_is_refused(cache: Path, tmp_path: Path) -> None:
    victim = _victim(tmp_path / "victim")
    cache.mkdir()
    (cache / "targets").symlink_to(victim)
    with pytest.raises(UsageError) as caught:
        upload_target("s3://bucket/x")
    assert caught.value.code == "E131"
    assert sorted(p.name for p in victim.iterdir()) == ["f", "meta"]


@pytest.mark.parametrize("manifest", [b"[" * 10**6, b"[]", b"\xff", b"null", b'{"format_version": 2}'])
def test_a_manifest_in_a_store_that_is_none_is_no_dataset(
    manifest: bytes, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "meta/vla_data/manifest.json"
    there = store(tmp_path / "store", {name: manifest})
    monkeypatch.setattr(Storage, "check_bucket", lambda _: None)
    uploaded = Uploaded(open_sink(tmp_path / "here", format="lerobot"), there)
    for replace in (False, True):
        with pytest.raises(TargetExistsError, match="files that vla-data did not make"):
            uploaded.check_place(replace=replace)
    assert (tmp_path / "store" / name).read_bytes() == manifest


def test_a_large_mark_of_an_upload_is_somebody_elses(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = store(tmp_path / "store", {".vla-data-upload": b"x" * 10_000})
    monkeypatch.setattr(Storage, "check_bucket", lambda _: None)
    target = upload_target("s3://bucket/x")[1]
    with pytest.raises(LockedError):
        Uploaded(open_sink(target, format="lerobot"), there).check_place(replace=True)
