"""What Isaac Lab's recorder says of a whole demo: whether it was solved, and its seed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import vla_data as vd
from tests.hdf5_files import read, robomimic_file, source
from vla_data.errors import DataError
from vla_data.report.inspect import survey
from vla_data.steps import CutAfterSuccess, RequireSuccess

SAID: dict[str, tuple[Any, bool | None]] = {
    "true": (True, True),
    "false": (False, False),
    "numpy": (np.bool_(True), True),
    "one": (np.int64(1), True),
    "zero": (0.0, False),
    "a row of one": (np.array([True]), True),
    "a score": (0.7, None),
    "a text": ("yes", None),
    "one a step": (np.array([False, True]), None),
    "nothing": (None, None),
}


def _recorded(path: Path, *said: Any, layout: str = "robomimic", **changed: Any) -> Path:
    """As `HDF5DatasetFileHandler.write_episode` leaves it: ``num_samples``, ``seed``, ``success`` of a demo."""
    robomimic_file(path, demos=tuple(f"demo_{n}" for n in range(len(said))), **changed)
    with h5py.File(path, "r+") as file:
        file["data"].attrs["env_args"] = json.dumps({"env_name": "Isaac-Stack", "type": 2, "control_freq": 10})
        if layout == "libero":
            file["data"].attrs["macros_image_convention"] = "opencv"
        for number, success in enumerate(said):
            demo = file[f"data/demo_{number}"]
            demo.attrs["num_samples"], demo.attrs["seed"] = 5, np.int64(40 + number)
            if success is not None:
                demo.attrs["success"] = success
    return path


@pytest.mark.parametrize("layout", ["robomimic", "libero"])
@pytest.mark.parametrize("said", SAID)
def test_an_outcome_is_a_fact_of_the_episode(tmp_path: Path, said: str, layout: str) -> None:
    value, expected = SAID[said]
    path = _recorded(tmp_path / "a.h5", value, layout=layout)
    episode = read(path, task="stack", observation_time="before")
    assert episode.meta.success is expected
    assert episode.succeeded is expected
    if layout == "robomimic":
        assert episode.meta.seed == 40


def test_flags_of_steps_say_more_than_the_outcome(tmp_path: Path) -> None:
    path = _recorded(tmp_path / "a.h5", True, success=np.zeros(5, dtype=bool))
    episode = read(path, task="stack")
    assert (episode.meta.success, episode.succeeded) == (True, False)
    assert RequireSuccess().reject(episode) == "no_success"


def test_curation_chooses_by_the_outcome_and_cuts_nothing(tmp_path: Path) -> None:
    path = _recorded(tmp_path / "a.h5", True, False, None)
    opened = source(path, task="stack")
    steps = (RequireSuccess(), CutAfterSuccess())
    solved, failed, silent = (opened.read(ref) for ref in opened.episodes())
    assert [step.reject(solved) for step in steps[:1]] == [None]
    assert len(steps[1].apply(solved)) == 5
    assert steps[0].reject(failed) == "no_success"
    with pytest.raises(DataError, match="--min-success-steps 0"):
        steps[0].reject(silent)
    report = vd.run(opened, steps, vd.open_sink(tmp_path / "out"), max_bad=2)
    counts = report.counts
    assert (counts["successful_episodes"], counts["failed_episodes"], counts["error_episodes"]) == (1, 1, 1)
    out = vd.open_source(tmp_path / "out")
    assert [out.read(ref).meta.success for ref in out.episodes()] == [True]


def test_the_number_of_steps_that_a_demo_declares_is_that_of_its_actions(tmp_path: Path) -> None:
    path = _recorded(tmp_path / "a.h5", True)
    with h5py.File(path, "r+") as file:
        file["data/demo_0"].attrs["num_samples"] = 4
    with pytest.raises(DataError, match="5 actions, where num_samples is 4"):
        read(path, task="stack")


def test_inspect_counts_outcomes(tmp_path: Path) -> None:
    found = survey(str(_recorded(tmp_path / "a.h5", True, False, True)), task="stack")
    assert found["with_success"] == 2
