"""Recorded rollouts of any features become datasets with all of them, as `verify --against` agrees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from click.testing import CliRunner

import vla_data as vd
from tests.recording.test_features import CHUNKS, FACTS, STATES, TOP, WRIST, pixels, record, step
from vla_data.cli.convert import command
from vla_data.core import Episode
from vla_data.jobs.part import examine
from vla_data.verification.check import verify

CAMERAS = ("observation.images.top", "observation.images.wrist")
SINKS: dict[str, dict[str, Any]] = {
    "lerobot": {"images": "png"},
    "rlds": {"name": "wide", "step_fields": "rlds", "images": "png"},
    "robomimic": {"next_obs": True},
}


@pytest.fixture(scope="module")
def rollouts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rollouts")
    with vd.RolloutWriter(folder, fps=50, robot="aloha") as writer:
        record(writer)
        record(writer, 3, again=True)
    return folder


def only(address: str) -> Episode:
    source = vd.open_source(address)
    return next(e for e in map(source.read, source.episodes()) if len(e) == 4)


@pytest.mark.parametrize("format", SINKS)
def test_a_dataset_has_every_feature_and_fact(format: str, rollouts: Path, tmp_path: Path) -> None:
    report = vd.run(
        vd.open_source(rollouts), (), vd.open_sink(tmp_path / "out", format=format, **SINKS[format]), workers=1
    )
    assert report.counts["published_episodes"] == 2
    verdict = verify(tmp_path / "out", against=rollouts)
    assert verdict.ok, verdict.damages
    compared = verdict.checked["against"]["features"]
    assert compared.keys() >= step(0).keys()
    assert not any(facts["differing"] for facts in compared.values())
    got = only(str(tmp_path / "out") if format != "robomimic" else str(tmp_path / "out/dataset.hdf5"))
    for name in step(0).keys() - set(CAMERAS):
        np.testing.assert_array_equal(got.arrays[name], np.asarray([step(t)[name] for t in range(4)]))
    np.testing.assert_array_equal(pixels(got.frames[CAMERAS[0]]), TOP[:4])
    np.testing.assert_array_equal(pixels(got.frames[CAMERAS[1]]), WRIST[:4])
    known = {**FACTS, "solved_at": 3}
    assert {name: got.meta["episode_metadata"].get(name, "?") for name in known} == known
    recorded = vd.open_ledger(tmp_path / "out").records[0].meta["episode_metadata"]
    assert recorded == {**FACTS, "solved_at": 3}


def test_what_was_seen_last_is_the_last_row_of_next_obs(rollouts: Path, tmp_path: Path) -> None:
    sink = vd.open_sink(tmp_path / "out", format="robomimic", next_obs=True)
    vd.run(vd.open_source(rollouts), (), sink, workers=1)
    with h5py.File(tmp_path / "out/dataset.hdf5") as file:
        after = file["data/demo_0/next_obs"]
        np.testing.assert_array_equal(after["state"][:], STATES[1:])
        np.testing.assert_array_equal(after["top"][:], TOP[1:])
        np.testing.assert_array_equal(after["wrist"][:], WRIST[1:])
        assert {after[name].attrs["last_row"] for name in ("state", "top", "wrist")} == {"seen"}


def test_align_of_other_actions_keeps_every_step_or_says_how(rollouts: Path, tmp_path: Path) -> None:
    refused = vd.recipes.ppo_sft(min_success_steps=1)
    with pytest.raises(vd.VlaDataError) as caught:
        vd.run(vd.open_source(rollouts), refused, vd.open_sink(tmp_path / "a"), workers=1)
    assert caught.value.code in ("E401", "E402")
    record = examine(vd.open_source(rollouts), refused, vd.open_source(rollouts).episodes()[0])
    assert "--pos-thresh none --rot-thresh none" in record.message
    steps = vd.recipes.ppo_sft(min_success_steps=1, pos_thresh=None, rot_thresh=None)
    report = vd.run(vd.open_source(rollouts), steps, vd.open_sink(tmp_path / "b"), workers=1)
    assert report.counts["published_episodes"] == 1  # the other one was never solved
    got = only(str(tmp_path / "b"))
    np.testing.assert_array_equal(got.arrays["action.chunk"], CHUNKS)


def test_the_command_line_writes_next_obs(rollouts: Path, tmp_path: Path) -> None:
    def convert(to: str) -> Any:
        args = [str(rollouts), str(tmp_path / to), "--to", to, "--write-next-obs", "--workers", "1"]
        return CliRunner().invoke(command, args)

    assert convert("robomimic").exit_code == 0
    with h5py.File(tmp_path / "robomimic/dataset.hdf5") as file:
        np.testing.assert_array_equal(file["data/demo_0/next_obs/state"][:], STATES[1:])
    error = convert("rlds").exception
    assert isinstance(error, vd.UsageError)
    assert str(error).startswith("E001 usage: --write-next-obs works with --to robomimic only")
