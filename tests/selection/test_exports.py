"""Selections without a copy: what LeRobot, openpi and robomimic are given to read."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import vla_data as vd
from converters.hdf5 import masks as module
from tests import hdf5_files
from tests.paths import SHARED, TESTS
from tests.selection.test_splits import Made, call
from vla_data.core import Episode, EpisodeRef, Schema
from vla_data.core.ledger import Ledger, Record, Span
from vla_data.errors import MachineError, TargetExistsError, UsageError, VerifyError
from vla_data.files import write as job_io
from vla_data.selection.exports import kept_ranges, write_episode_list, write_keep_ranges, write_masks
from vla_data.selection.subset import select
from vla_data.steps import Resample, SmallActions

ROLLOUTS = TESTS / "data/rollouts"
LIBERO = SHARED / "libero/libero_spatial0_demo.hdf5"


# -- LeRobot ----------------------------------------------------------------------------------------------


def test_episode_list_is_what_lerobot_takes(tmp_path: Path) -> None:
    facts = write_episode_list(["episode_000012", "episode_000003"], tmp_path / "list.json")
    assert json.loads((tmp_path / "list.json").read_text()) == [3, 12]
    assert facts == {"episodes": 2, "list": [3, 12], "argument": "--dataset.episodes=[3,12]"}


@pytest.mark.parametrize("ids", [["a.npz"], [], ["episode_000001x"], ["episode_1"]])
def test_episode_list_is_of_lerobot_episodes(ids: list[str], tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        write_episode_list(ids, tmp_path / "list.json")
    assert list(tmp_path.iterdir()) == []


def test_split_of_a_lerobot_dataset_as_lists(tmp_path: Path) -> None:
    vd.run(vd.open_source(ROLLOUTS), (), vd.open_sink(tmp_path / "set"), workers=1)
    shown = call(
        tmp_path / "set", "--val", "0.4", "--seed", "3", "--to", "episode-list", "-o", tmp_path / "x.json"
    )
    lists = json.loads((tmp_path / "x.json").read_text())
    assert sorted(number for numbers in lists.values() for number in numbers) == [0, 1, 2]
    for numbers in lists.values():
        assert f"--dataset.episodes=[{','.join(map(str, numbers))}]" in shown


# -- openpi -----------------------------------------------------------------------------------------------


def openpi_samples(file: Path, key: str, length: int) -> list[bool]:
    """Which steps openpi's DROID loader samples: those with "<key>--<t>" in a table, t in range(start, end)."""
    table = {
        f"{episode}--{t}"
        for episode, ranges in json.loads(file.read_text()).items()
        for start, end in ranges
        for t in range(start, end)
    }
    return [f"{key}--{t}" in table for t in range(length)]


def test_keep_ranges_of_a_curated_dataset_are_its_kept_frames(tmp_path: Path) -> None:
    vd.run(vd.open_source(ROLLOUTS), (SmallActions(),), vd.open_sink(tmp_path / "set"), workers=1)
    facts = write_keep_ranges(tmp_path / "set", tmp_path / "keep.json")
    ledger = vd.open_ledger(tmp_path / "set")
    kept = 0
    for record in ledger.records:
        sampled = openpi_samples(tmp_path / "keep.json", record.id, record.length or 0)
        want = [ledger.why(record.id, t)["bucket"] == "kept" for t in range(record.length or 0)]
        assert sampled == want
        kept += sum(want)
    assert (facts["frames"], facts["episodes"], facts["keys_from_metadata"]) == (kept, 3, 0)
    assert 0 < kept < 105
    assert facts["not_success"] == 3  # openpi's loader skips episodes without that word in their path


def test_keys_are_openpis_where_the_metadata_has_both_names(tmp_path: Path) -> None:
    def told(path: str) -> dict[str, Any]:
        return {"episode_metadata": {"recording_folderpath": "gs://r2d2/a", "file_path": path}}

    source = Made({"x": told("/b/success/c.h5"), "y": told("/b/failure/c.h5"), "z": {}, "bad": {"task": None}})
    facts = write_keep_ranges(source, tmp_path / "keep.json")
    assert json.loads((tmp_path / "keep.json").read_text()) == {
        "gs://r2d2/a--/b/success/c.h5": [[0, 2]],
        "gs://r2d2/a--/b/failure/c.h5": [[0, 2]],
        "z": [[0, 2]],
    }
    assert (facts["keys_from_metadata"], facts["not_success"], list(facts["unreadable"])) == (2, 2, ["bad"])
    with pytest.raises(UsageError, match="y and x are both gs://r2d2/a--p"):
        write_keep_ranges(Made({"x": told("p"), "y": told("p")}), tmp_path / "other.json")


def test_keep_ranges_are_of_the_chosen_episodes(tmp_path: Path) -> None:
    write_keep_ranges(Made({"x": {}, "y": {}}), tmp_path / "keep.json", only={"y"})
    assert json.loads((tmp_path / "keep.json").read_text()) == {"y": [[0, 2]]}
    with pytest.raises(TargetExistsError):
        write_keep_ranges(Made({"x": {}}), tmp_path / "keep.json")
    with pytest.raises(UsageError, match="no frame is left"):
        write_keep_ranges(Made({"x": {}}), tmp_path / "none.json", only=())
    with pytest.raises(UsageError, match="no ledger"):
        write_keep_ranges(tmp_path, tmp_path / "none.json")


@given(st.lists(st.tuples(st.integers(1, 5), st.sampled_from(["kept", "pruned", "truncated"])), max_size=12))
def test_ranges_hold_the_kept_frames_and_no_others(pieces: list[tuple[int, str]]) -> None:
    spans, at = [], 0
    for size, bucket in pieces:
        spans.append(Span(at, at + size, bucket, ""))
        at += size
    ranges = kept_ranges(Record(id="a", status="published", length=at, spans=tuple(spans)))
    frames = [t for start, stop in ranges for t in range(start, stop)]
    assert frames == [t for span in spans if span.bucket == "kept" for t in range(span.start, span.stop)]
    assert all(a[1] < b[0] for a, b in pairwise(ranges))


def curated(tmp_path: Path, steps: tuple[Any, ...], **options: Any) -> Path:
    """A dataset made of an RLDS set whose metadata has openpi's names."""
    source = Renamed(vd.open_source(ROLLOUTS))
    vd.run(source, steps, vd.open_sink(tmp_path, **options), workers=1)
    return tmp_path


def test_keep_ranges_of_a_copy_of_a_copy_are_refused(tmp_path: Path) -> None:
    """The ledger of the second knows positions in the first, whose key names neither."""
    first = curated(tmp_path / "first", (SmallActions(),), images="png")
    vd.run(vd.open_source(first), (), vd.open_sink(tmp_path / "second", images="png"), workers=1)
    direct = write_keep_ranges(first, tmp_path / "first.json")
    assert (direct["keys_from_metadata"], direct["frames"] < 105) == (3, True)
    for of in (tmp_path / "second", vd.open_source(tmp_path / "second")):
        with pytest.raises(UsageError, match="select from a dataset that was made directly") as caught:
            write_keep_ranges(of, tmp_path / "second.json")
        assert caught.value.code == "E232"
    assert not (tmp_path / "second.json").exists()


@pytest.mark.parametrize("fps", [2.5, 10])
def test_keep_ranges_of_resampled_frames_are_refused(fps: float, tmp_path: Path) -> None:
    source = vd.open_source(ROLLOUTS)
    features = source.schema(source.read(source.episodes()[0])).features
    known = {name: feature.convention for name, feature in features.items()}
    known["action"] = {**known["action"], "rotation": "rotvec"}
    step = Resample(conventions=known, source_fps=5, fps=fps)
    vd.run(source, (step,), vd.open_sink(tmp_path / "set"), workers=1)
    with pytest.raises(UsageError, match="was resampled, so its steps are not frames of its source") as caught:
        write_keep_ranges(tmp_path / "set", tmp_path / "keep.json")
    assert caught.value.code == "E232"
    with pytest.raises(UsageError, match="was resampled"):
        call(tmp_path / "set", "--val", "0", "--to", "keep-ranges", "-o", tmp_path / "keep.json")


@pytest.mark.parametrize(
    ("format", "options"),
    [("lerobot", {}), ("rlds", {"name": "kept", "step_fields": "rlds"}), ("robomimic", {})],
)
def test_a_split_has_the_same_ranges_as_the_whole(format: str, options: dict[str, Any], tmp_path: Path) -> None:
    curated(tmp_path / "set", (SmallActions(),), format=format, **options)
    write_keep_ranges(tmp_path / "set", tmp_path / "whole.json")
    whole = json.loads((tmp_path / "whole.json").read_text())
    reading = ("--fps", "5") if format == "rlds" else ()
    parts = {}
    for part in ("train", "val"):
        out = tmp_path / f"{part}.json"
        try:
            call(
                f"{'hdf5' if format == 'robomimic' else format}:{tmp_path / 'set'}",
                *(*reading, "--val", "0.5", "--seed", "2", "--to", "keep-ranges", "--part", part, "-o", out),
            )
        except UsageError as error:
            assert error.code == "E402"
            continue
        found = json.loads(out.read_text())
        assert not parts.keys() & found.keys()
        parts |= found
    assert parts == whole
    assert len(whole) == 3
    opened = vd.open_source(tmp_path / "set", **({"fps": 5} if format == "rlds" else {}))
    write_keep_ranges(select(opened, "1"), tmp_path / "one.json")
    ((key, ranges),) = json.loads((tmp_path / "one.json").read_text()).items()
    assert whole[key] == ranges


@dataclass(frozen=True)
class Renamed:
    """A source whose metadata has openpi's names, as that of DROID."""

    source: vd.Source

    def episodes(self) -> Sequence[EpisodeRef]:
        return self.source.episodes()

    def fingerprint(self, ref: EpisodeRef) -> str:
        return self.source.fingerprint(ref)

    def read(self, ref: EpisodeRef) -> Episode:
        episode = self.source.read(ref)
        told = {"recording_folderpath": "/r", "file_path": f"success/{ref.id}"}
        return replace(episode, meta={**episode.meta, "episode_metadata": told})

    def schema(self, episode: Episode) -> Schema:
        return self.source.schema(episode)


# -- masks ------------------------------------------------------------------------------------------------


@pytest.fixture(params=[hdf5_files.ROBOMIMIC, hdf5_files.LIBERO], ids=["robomimic", "libero"])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "demos.hdf5"
    path.write_bytes(request.param.read_bytes())
    return path


def content(path: Path) -> dict[str, Any]:
    """Everything in a file but its masks."""
    out: dict[str, Any] = {}

    def visit(name: str, item: Any) -> None:
        if not name.startswith("mask"):
            attributes = {key: np.asarray(value).tolist() for key, value in item.attrs.items()}
            out[name] = (attributes, item[()].tobytes() if isinstance(item, h5py.Dataset) else None)

    with h5py.File(path) as opened:
        opened.visititems(visit)
    return out


def demos_of(path: Path) -> list[str]:
    with h5py.File(path) as opened:
        return sorted(opened["data"])


def masks_of(path: Path) -> dict[str, list[str]]:
    """As robomimic reads filter keys (``robomimic/utils/file_utils.py``)."""
    with h5py.File(path) as opened:
        group = opened.get("mask", {})
        return {key: [name.decode("utf-8") for name in np.array(group[key][:])] for key in group}


def test_masks_into_the_file_itself(file: Path) -> None:
    before, (first, *rest) = content(file), demos_of(file)
    os.chmod(file, 0o640)
    facts = write_masks(file, {"mine": rest[::-1], "none": []}, file)
    assert facts["masks"] == {"mine": len(rest), "none": 0}
    assert content(file) == before
    assert {key: masks_of(file)[key] for key in ("mine", "none")} == {"mine": rest, "none": []}
    assert facts["compared"] > 10_000
    assert file.stat().st_mode & 0o777 == 0o640
    assert [path.name for path in file.parent.iterdir()] == [file.name]
    assert [
        ref.id.split("/")[-1] for ref in vd.open_source(f"hdf5:{file}", mask="mine", task="x").episodes()
    ] == rest
    assert first not in masks_of(file)["mine"]


def test_masks_into_a_copy_leave_the_original(file: Path) -> None:
    bytes_before, there = file.read_bytes(), masks_of(file)
    copy = file.with_name("copy.hdf5")
    write_masks(file, {"mine": demos_of(file)}, copy)
    assert file.read_bytes() == bytes_before
    assert content(copy) == content(file)
    assert masks_of(copy) == there | {"mine": demos_of(file)}
    with pytest.raises(TargetExistsError, match=r"copy\.hdf5 exists"):
        write_masks(file, {"mine": []}, copy)


def test_mask_that_is_there_is_replaced_only_when_asked(file: Path) -> None:
    demos = demos_of(file)
    write_masks(file, {"mine": demos}, file)
    with pytest.raises(TargetExistsError, match="has a mask mine"):
        write_masks(file, {"mine": demos[:1]}, file)
    assert masks_of(file)["mine"] == demos
    write_masks(file, {"mine": demos[:1]}, file, replace=True)
    assert masks_of(file)["mine"] == demos[:1]


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        ({"a/b": []}, "can't be the name"),
        ({"": []}, "can't be the name"),
        ({"a": ["demo_77"]}, "names demo_77, which"),
        ({"a": ["demo_0", "demo_0"]}, "names a demo twice"),
    ],
)
def test_masks_that_can_not_be(masks: dict[str, list[str]], message: str, file: Path) -> None:
    before = file.read_bytes()
    with pytest.raises(UsageError, match=message):
        write_masks(file, masks, file)
    assert file.read_bytes() == before


@pytest.mark.parametrize("step", ["open", "write", "fsync", "rename"])
def test_failing_machine_leaves_the_file_as_it_was(step: str, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = file.read_bytes()

    def fail(name: str, path: Path) -> None:
        if name == step:
            raise OSError(errno.EIO, "Input/output error", str(path))

    monkeypatch.setattr(job_io, "hook", fail)
    with pytest.raises(MachineError):
        write_masks(file, {"mine": []}, file)
    assert file.read_bytes() == before
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_copy_that_is_not_the_original_is_never_put_in_its_place(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, honest = file.read_bytes(), module._change

    def damaged(path: Path, masks: Any) -> None:
        honest(path, masks)
        with h5py.File(path, "r+") as opened:
            name = sorted(opened["data"])[0]
            opened[f"data/{name}/actions"][1, 1] += 0.5

    monkeypatch.setattr(module, "_change", damaged)
    with pytest.raises(VerifyError):
        write_masks(file, {"mine": []}, file)
    assert file.read_bytes() == before


def test_files_of_another_kind_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not a robomimic or LIBERO file"):
        write_masks(hdf5_files.MANISKILL, {"a": []}, tmp_path / "x.h5")
    with h5py.File(tmp_path / "linked.hdf5", "w") as made:
        made.create_group("data/demo_0")
        made["mask"] = h5py.ExternalLink("other.hdf5", "/mask")
    with pytest.raises(UsageError, match="link to another file"):
        write_masks(tmp_path / "linked.hdf5", {"a": ["demo_0"]}, tmp_path / "linked.hdf5")
    (tmp_path / "text.hdf5").write_text("no")
    with pytest.raises(UsageError):
        write_masks(tmp_path / "text.hdf5", {"a": []}, tmp_path / "y.hdf5")
    assert not (tmp_path / "other.hdf5").exists()


def test_split_as_masks_has_robomimics_names(file: Path) -> None:
    with h5py.File(file, "r+") as opened:
        if "mask" in opened:
            del opened["mask"]
    call(f"hdf5:{file}", "--val", "0.5", "--test", "0.2", "--to", "masks", "-o", file)
    masks = masks_of(file)
    assert set(masks) == {"train", "valid", "test"}
    assert sorted(name for names in masks.values() for name in names) == demos_of(file)
    with pytest.raises(UsageError, match="an HDF5 file"):
        call(ROLLOUTS, "--to", "masks", "-o", file)


@pytest.mark.skipif(not LIBERO.exists(), reason="the company's data are not here")
def test_masks_of_a_whole_libero_file(tmp_path: Path) -> None:
    write_masks(LIBERO, {"train": ["demo_0", "demo_2"]}, tmp_path / "libero.hdf5")
    assert content(tmp_path / "libero.hdf5") == content(LIBERO)
    assert masks_of(tmp_path / "libero.hdf5") == {"train": ["demo_0", "demo_2"]}


def test_split_as_keep_ranges_is_of_train(tmp_path: Path) -> None:
    call(ROLLOUTS, "--val", "0.4", "--seed", "3", "--to", "keep-ranges", "-o", tmp_path / "keep.json")
    found = json.loads(call(ROLLOUTS, "--val", "0.4", "--seed", "3", "--json"))
    assert sorted(json.loads((tmp_path / "keep.json").read_text())) == sorted(found["splits"]["train"]["episodes"])


def test_ledgers_rejected_episodes_are_in_no_range(tmp_path: Path) -> None:
    vd.run(vd.open_source(ROLLOUTS), (), vd.open_sink(tmp_path / "set"), workers=1)
    path = tmp_path / "set/meta/vla_data/ledger.parquet"
    first, *rest = Ledger.read(path).records
    Ledger((replace(first, status="rejected", output_index=None), *rest)).write(path)
    write_keep_ranges(tmp_path / "set", tmp_path / "keep.json")
    assert first.id not in json.loads((tmp_path / "keep.json").read_text())
