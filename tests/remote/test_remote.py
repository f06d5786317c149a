"""Rollouts and datasets on object stores: the same bytes as on a disk, and never half a dataset."""

from __future__ import annotations

import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import vla_data as vd
from tests.paths import TESTS
from tests.stores import get_tree, local_tree, put_tree
from vla_data.cli import cli
from vla_data.errors import LockedError, MachineError, TargetExistsError, UsageError, VerifyError
from vla_data.files import write as io
from vla_data.remote.address import is_url, parse_url

pytest.importorskip("fsspec")
from vla_data.remote.storage import Storage

DATA = TESTS / "data"
ROLLOUTS = DATA / "rollouts"
MANIFEST = "meta/vla_data/manifest.json"
AT_NIGHT = functools.partial(pytest.param, marks=pytest.mark.nightly)

pytestmark = [
    pytest.mark.timeout(200),
    # s3fs closes its connections when the interpreter ends, and not before.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture
def place(s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty folder of a store."""
    monkeypatch.setenv("VLA_DATA_CACHE", str(tmp_path / "cache"))
    return f"{s3}/{uuid.uuid4().hex}"


@pytest.fixture
def local(tmp_path: Path) -> Path:
    """What every run here must give."""
    align(ROLLOUTS, tmp_path / "local")
    return tmp_path / "local"


def align(source: str | Path, target: str | Path, **settings: Any) -> vd.Report:
    return vd.run(vd.open_source(source), vd.recipes.ppo_sft(), vd.open_sink(target), workers=1, **settings)


def sink(target: str | Path, kind: str) -> Any:
    return vd.open_sink(target, format=kind, **({"name": "rollouts"} if kind == "rlds" else {}))


class Stop(BaseException):
    """What no code of ours catches, as a kill would be."""


def stop_at(monkeypatch: pytest.MonkeyPatch, number: int) -> list[str]:
    """Stop before the step of that number of those that change the store; the names of the steps that were."""
    steps: list[str] = []

    def hook(name: str, path: Path) -> None:
        if name in ("upload", "remove") and not path.is_absolute():  # not of this machine's disk
            steps.append(f"{name} {path}")
            if len(steps) == number:
                raise Stop

    monkeypatch.setattr(io, "hook", hook)
    return steps


def test_from_a_store_to_a_store_gives_the_bytes_of_a_disk(place: str, local: Path) -> None:
    put_tree(ROLLOUTS, f"{place}/in")
    report = align(f"{place}/in", f"{place}/out")
    assert get_tree(f"{place}/out") == local_tree(local)
    assert str(report.target) == f"{place}/out"
    assert report.ledger == vd.open_ledger(local)


def test_one_rollout_at_a_url_is_read(place: str, tmp_path: Path) -> None:
    file = sorted(ROLLOUTS.glob("*.npz"))[0]
    Storage(f"{place}/in").upload(file, file.name)
    vd.run(vd.open_source(f"{place}/in/{file.name}"), (), vd.open_sink(tmp_path / "there"))
    vd.run(vd.open_source(file), (), vd.open_sink(tmp_path / "here"))
    assert local_tree(tmp_path / "there") == local_tree(tmp_path / "here")


def test_a_seal_at_a_url_is_believed(place: str, tmp_path: Path) -> None:
    shutil.copytree(ROLLOUTS, tmp_path / "sealed")
    assert CliRunner().invoke(cli, ["seal", str(tmp_path / "sealed")]).exit_code == 0
    put_tree(tmp_path / "sealed", f"{place}/in")
    storage = Storage(f"{place}/in")
    one, two = [name for name in storage.files() if name.endswith(".npz")][:2]
    storage.write(one, storage.read(two))
    report = vd.run(vd.open_source(f"{place}/in"), (), vd.open_sink(tmp_path / "out"))
    assert [(r.id, r.reason) for r in report.ledger.records if r.status == "failed"] == [(one, "E132")]


@pytest.mark.parametrize("kind", ["lerobot", "rlds", "hdf5"])
def test_other_formats_are_read_through_a_copy_in_the_cache(kind: str, place: str, tmp_path: Path) -> None:
    here = tmp_path / "here"
    if kind != "hdf5":
        vd.run(vd.open_source(ROLLOUTS), (), sink(here, kind))
        put_tree(here, f"{place}/here")
    else:
        here = DATA / "hdf5" / "libero_spatial0_demo.hdf5"
        Storage(f"{place}/here").upload(here, here.name)
    vd.run(vd.open_source(here), (), vd.open_sink(tmp_path / "a"))
    vd.run(vd.open_source(f"{place}/here"), (), vd.open_sink(tmp_path / "b"))
    assert local_tree(tmp_path / "a") == local_tree(tmp_path / "b")


def test_folders_of_a_console_are_no_files(s3: str, place: str, local: Path) -> None:
    """The web console of S3 makes an object of no bytes whose name ends in a slash."""
    import boto3

    put_tree(local, place)
    client = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"])
    below = place.removeprefix(f"{s3}/")
    for name in ("", "meta/", "mine/"):
        client.put_object(Bucket="bucket", Key=f"{below}/{name}", Body=b"")
    assert Storage(place).files().keys() == local_tree(local).keys()
    assert vd.open_source(place).episodes()


def test_what_did_not_change_is_not_fetched_again(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_tree(ROLLOUTS, f"{place}/in")
    from vla_data.remote.fetch import fetch

    storage = Storage(f"{place}/in")
    fetched: list[str] = []
    real = Storage.download

    def download(self: Storage, name: str, file: Path) -> None:
        fetched.append(name)
        real(self, name, file)

    monkeypatch.setattr(Storage, "download", download)
    first = fetch(storage)
    names = list(storage.files())
    assert sorted(fetched) == names
    assert fetch(storage) == first
    assert sorted(fetched) == names
    storage.write(names[0], b"other")
    storage.remove(names[1])
    fetch(storage)
    assert sorted(fetched) == sorted([*names, names[0]])
    assert (first / names[0]).read_bytes() == b"other"
    assert not (first / names[1]).exists()
    (first / names[2]).unlink()
    fetch(storage)
    assert sorted(fetched) == sorted([*names, names[0], names[2]])


def test_names_that_would_leave_the_cache_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vla_data.remote.fetch import fetch

    monkeypatch.setenv("VLA_DATA_CACHE", str(tmp_path / "cache"))
    for name in ("../../evil", "/etc/evil", "a//b", "a/./b"):
        monkeypatch.setattr(Storage, "is_file", lambda _: False)
        monkeypatch.setattr(Storage, "states", lambda _, name=name: {name: (1, "x")})
        with pytest.raises(UsageError, match="can't be the name of a file here"):
            fetch(Storage("s3://bucket/x"))
    assert not list(tmp_path.rglob("evil"))


def test_a_run_that_stops_at_any_upload_leaves_no_dataset_and_the_next_one_ends_it(
    place: str, local: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    number, done = 1, False
    while not done:
        target = f"{place}/out{number}"
        with monkeypatch.context() as patch:
            steps = stop_at(patch, number)
            try:
                align(ROLLOUTS, target)
                done = True
            except Stop:
                there = Storage(target).files()
                said = steps[-1] == "remove .vla-data-upload"  # all is there; only the mark was left to remove
                assert (MANIFEST in there) == said
        if not done:
            try:
                align(ROLLOUTS, target)
            except TargetExistsError:
                assert said
            assert get_tree(target) == local_tree(local)
        number += 3  # the others are like their neighbours
    assert number > 10


def test_replacing_never_shows_a_mixture_and_leaves_nothing_of_the_old(
    place: str, tmp_path: Path, local: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = tmp_path / "new"
    vd.run(vd.open_source(ROLLOUTS), (), sink(new, "rlds"))
    number, done = 1, False
    while not done:
        target = f"{place}/out{number}"
        align(ROLLOUTS, target)
        with pytest.raises(TargetExistsError, match="--replace"):
            vd.run(vd.open_source(ROLLOUTS), (), sink(target, "rlds"))
        assert get_tree(target) == local_tree(local)

        def renew(target: str = target) -> None:
            vd.run(vd.open_source(ROLLOUTS), (), sink(target, "rlds"), replace=True, workers=1)

        with monkeypatch.context() as patch:
            stop_at(patch, number)
            try:
                renew()
                done = True
            except Stop:
                there = get_tree(target)
                whole = [
                    want
                    for want in (local_tree(local), local_tree(new))
                    if {n: there.get(n) for n in want} == want
                ]
                assert whole or not any(name.endswith("manifest.json") for name in there)
        renew()
        assert get_tree(target) == local_tree(new)
        number += 8  # each step would take minutes
    assert number > 6


@pytest.mark.parametrize("after", [AT_NIGHT(1), 4, AT_NIGHT(7)])
def test_a_killed_process_is_gone_on_with(after: int, s3: str, tmp_path: Path, local: Path) -> None:
    put_tree(ROLLOUTS, f"{s3}/{(job := uuid.uuid4().hex)}/in")
    code = f"""
import os, signal, sys
import vla_data as vd
from vla_data.files import write as io
steps = 0
def hook(name, path):
    global steps
    steps += name == "upload"
    if steps == {after}:
        os.kill(os.getpid(), signal.SIGKILL)
io.hook = hook if sys.argv[1] == "kill" else None
source = vd.open_source("{s3}/{job}/in")
vd.run(source, vd.recipes.ppo_sft(), vd.open_sink("{s3}/{job}/out"))
"""
    env = {**os.environ, "VLA_DATA_CACHE": str(tmp_path / "cache")}
    command = [sys.executable, "-c", code]
    assert subprocess.run([*command, "kill"], env=env, check=False).returncode == -signal.SIGKILL
    assert MANIFEST not in Storage(f"{s3}/{job}/out").files()
    subprocess.run([*command, "live"], env=env, check=True)
    assert get_tree(f"{s3}/{job}/out") == local_tree(local)
    assert not list((tmp_path / "cache").rglob("*.blob"))


def test_targets_that_are_somebody_elses_are_refused(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Storage(f"{place}/out").write("thesis.tex", b"years")
    for replace in (False, True):
        with pytest.raises(TargetExistsError, match="files that vla-data did not make"):
            align(ROLLOUTS, f"{place}/out", replace=replace)
    assert get_tree(f"{place}/out") == {"thesis.tex": b"years"}
    with monkeypatch.context() as patch:
        stop_at(patch, 3)
        with pytest.raises(Stop):
            align(ROLLOUTS, f"{place}/two")
    monkeypatch.setenv("VLA_DATA_CACHE", str(tmp_path / "another machine"))
    with pytest.raises(LockedError, match="has died there"):
        align(ROLLOUTS, f"{place}/two")


def test_source_and_target_at_a_url_may_not_overlap(place: str, tmp_path: Path) -> None:
    put_tree(ROLLOUTS, f"{place}/in")
    align(ROLLOUTS, f"{place}/set")  # this is fetched, rollouts are not
    for name in ("in", "set"):
        for target in (f"{place}/{name}", f"{place}/{name}/out", place, f"{place}/{name}".replace("s3:", "s3a:")):
            with pytest.raises(UsageError, match="inside one another"):
                vd.run(vd.open_source(f"{place}/{name}"), (), sink(target, "rlds"), replace=True)
    with pytest.raises(UsageError, match="inside one another"):
        vd.run(vd.open_source(ROLLOUTS), (), vd.open_sink(f"file://{ROLLOUTS}/out"))


def test_a_file_address_is_a_path(tmp_path: Path, local: Path) -> None:
    align(f"file://{ROLLOUTS}", f"file://{tmp_path}/out")
    assert local_tree(tmp_path / "out") == local_tree(local)
    with pytest.raises(UsageError, match="three slashes"):
        vd.open_source("file://rollouts")


def test_what_another_machine_published_meanwhile_is_not_replaced(
    place: str, tmp_path: Path, local: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = f"{place}/out"

    def meanwhile(*_: int) -> None:
        with monkeypatch.context() as patch:
            patch.setenv("VLA_DATA_CACHE", str(tmp_path / "another machine"))
            align(ROLLOUTS, target)

    with pytest.raises(TargetExistsError):
        vd.run(vd.open_source(ROLLOUTS), (), vd.open_sink(target), on_progress=meanwhile)
    assert get_tree(target) == local_tree(local)


@pytest.mark.parametrize("number", [AT_NIGHT(2), 4, AT_NIGHT(6)])
def test_of_two_machines_that_upload_one_stops_and_the_other_is_whole(
    number: int, place: str, tmp_path: Path, local: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first stalls, its mark is removed by hand, a second run publishes; then the first goes on."""
    target = f"{place}/out"
    steps = 0

    def hook(name: str, path: Path) -> None:
        nonlocal steps
        if name == "upload" and not path.is_absolute():
            steps += 1
            if steps == number:
                with monkeypatch.context() as patch:
                    patch.setattr(io, "hook", None)
                    patch.setenv("VLA_DATA_CACHE", str(tmp_path / "another machine"))
                    with pytest.raises(LockedError):
                        align(ROLLOUTS, target)
                    Storage(target).remove(".vla-data-upload")
                    for name_ in Storage(target).files():
                        Storage(target).remove(name_)
                    align(ROLLOUTS, target)

    monkeypatch.setattr(io, "hook", hook)
    with pytest.raises((LockedError, VerifyError)):
        vd.run(vd.open_source(ROLLOUTS), (), sink(target, "rlds"), workers=1)
    found = get_tree(target)
    assert {name: found[name] for name in local_tree(local)} == local_tree(local)
    assert len(found) <= len(local_tree(local)) + 1  # the one object that was on its way


def test_a_copy_that_was_changed_here_is_fetched_again(place: str, tmp_path: Path) -> None:
    from vla_data.remote.fetch import fetch

    align(ROLLOUTS, f"{place}/set")
    folder = fetch(Storage(f"{place}/set"))
    whole = local_tree(folder)
    victim = next(folder.rglob("data/**/*.parquet"))
    for damage in (victim.read_bytes()[:-1], bytes(victim.stat().st_size)):
        victim.write_bytes(damage)
        fetch(Storage(f"{place}/set"))
        assert local_tree(folder) == whole


def test_a_store_that_gives_back_other_bytes_is_noticed(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Storage.upload

    def upload(self: Storage, file: Path, name: str) -> None:
        real(self, file, name)
        if name.endswith(".parquet"):
            self.write(name, file.read_bytes()[:-1] + b"?")

    monkeypatch.setattr(Storage, "upload", upload)
    with pytest.raises(VerifyError, match="other bytes than were sent"):
        align(ROLLOUTS, f"{place}/out")
    assert MANIFEST not in Storage(f"{place}/out").files()


def test_commands_take_urls(s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, local: Path) -> None:
    monkeypatch.setenv("VLA_DATA_CACHE", str(tmp_path / "cache"))
    base = f"{s3}/{uuid.uuid4().hex}"
    put_tree(ROLLOUTS, f"{base}/in")

    def call(*words: str) -> Any:
        done = CliRunner().invoke(cli, words)
        assert done.exit_code == 0, (words, done.output, done.exception)
        return done.output

    assert f"{base}/out" in call("align", f"{base}/in", f"{base}/out")
    assert get_tree(f"{base}/out") == local_tree(local)
    assert json.loads(call("verify", f"{base}/out", "--deep", "--json"))["damages"] == []
    call("inspect", f"{base}/in")
    call("why", f"{base}/out", "noise_ep1", "3")
    call("convert", f"{base}/out", f"{base}/rlds", "--to", "rlds")
    call("verify", f"{base}/rlds", "--against", f"{base}/out")
    call("build", "ppo_sft_aligned", "--input", f"{base}/in", "--data-dir", f"{base}/data")
    assert "ppo_sft_aligned/.config/metadata.json" in Storage(f"{base}/data").files()
    call("stats", f"{base}/out", "--format", "openvla")
    storage = Storage(f"{base}/out")
    victim = next(name for name in storage.files() if name.endswith(".parquet"))
    storage.write(victim, storage.read(victim)[:-1] + b"?")
    done = CliRunner().invoke(cli, ["verify", f"{base}/out"])
    assert done.exit_code != 0
    assert victim in done.output


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("convert", "s3://", "out"), "E001"),
        (("convert", "s3://user:secret@bucket/x", "out"), "E001"),
        (("convert", "nosuch://bucket/x", "out"), "E001"),
        (("convert", "s3::file://x", "out"), "E001"),
        (("convert", "simplecache::s3://bucket/x", "out"), "E001"),
        (("convert", "s3://bucket/nothing-here", "out"), "E003"),
        (("convert", "s3://bucket//x", "out"), "E001"),
        (("convert", "s3://bucket/x?versionId=1", "out"), "E001"),
        (("convert", "memory://x", "out"), "E001"),
        (("convert", "file://x", "out"), "E001"),
        (("convert", str(ROLLOUTS), "s3://nosuchbucket/x"), "E003"),
        (("convert", "s3://nosuchbucket/x", "out"), "E003"),
        (("annotate", "s3://bucket/x", "--values", "v.parquet", "--tag", "t"), "E001"),
        (("repair", "s3://bucket/x"), "E001"),
        (("seal", "s3://bucket/x"), "E001"),
        (("sanitize", "s3://bucket/x", "out"), "E001"),
        (("convert", str(ROLLOUTS), "hf://datasets/me/x"), "E001"),
        (("convert", str(ROLLOUTS), "s3://bucket/x.json", "--to", "keep-ranges"), "E001"),
    ],
)
def test_bad_addresses_are_one_line(
    words: tuple[str, ...], code: str, s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VLA_DATA_CACHE", str(tmp_path / "cache"))
    env = {**os.environ, "COLUMNS": "80"}
    command = [str(Path(sys.executable).with_name("vla-data")), *words]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.stderr.startswith(f"vla-data: {code} "), done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "secret" not in done.stderr
    assert done.returncode == 2


def test_a_store_that_does_not_answer_is_the_machines_fault(
    s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLA_DATA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    try:
        with pytest.raises(MachineError) as caught:
            align("s3://bucket/x", tmp_path / "out")
        assert caught.value.code == "E703"
    finally:
        s3fs.S3FileSystem.clear_instance_cache()


def test_addresses() -> None:
    assert is_url("s3://bucket/x")
    assert not is_url("lerobot:folder")
    assert not is_url("folder/s3://x")
    assert not is_url(Path("x"))
    assert parse_url("gs://bucket/a/b/") == ("gs", "bucket/a/b")
    assert parse_url("hf://datasets/me/set@main") == ("hf", "datasets/me/set@main")
