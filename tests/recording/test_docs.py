"""The Python of docs/recording.md does what its text says."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vla_data as vd
from tests.paths import ROOT
from tests.recording.test_features import STATES, TOP, WRIST, check_same, pixels, read
from tests.recording.test_writer import ACTION, CAMERA, IMAGES
from vla_data.core import Episode

CODE = re.findall(r"```python\n(.*?)```", (ROOT / "docs/recording.md").read_text(), re.DOTALL)
KEYWORDS, FEATURES, DECLARED, VECTOR, NUMPY = CODE


def recorded(code: str, folder: Path, monkeypatch: pytest.MonkeyPatch, **names: Any) -> list[Episode]:
    """What a piece of Python records; ``names`` are its variables, before and after."""
    monkeypatch.chdir(folder)
    exec(code, {"vd": vd, **names})
    return read(folder / "rollouts")


class OneCamera:
    """One environment whose episode has 4 steps."""

    def observe(self) -> dict[str, Any]:
        return {"image": IMAGES[self.t]}

    def reset(self) -> dict[str, Any]:
        self.t = 0
        return self.observe()

    def step(self, _: Any) -> tuple[dict[str, Any], float, bool, dict[str, Any]]:
        self.t += 1
        return self.observe(), 1.0, self.t == 4, {"success": self.t > 2}


def test_the_loop_with_keywords_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    got = recorded(KEYWORDS, tmp_path, monkeypatch, env=OneCamera(), policy=lambda _: ACTION)
    assert [len(episode) for episode in got] == [4] * 100
    assert got[0].arrays["next.success"].tolist() == [False, False, True, True]
    np.testing.assert_array_equal(pixels(got[0].frames[CAMERA]), IMAGES[:4])
    np.testing.assert_array_equal(pixels(got[0].final[CAMERA]), IMAGES[4:5])


class TwoCameras:
    """One environment with two cameras and a state, whose episode has 4 steps."""

    hash = "9f3a"

    def observe(self) -> dict[str, Any]:
        return {"top": TOP[self.t], "wrist": WRIST[self.t], "state": STATES[self.t]}

    def reset(self, _: int) -> dict[str, Any]:
        self.t = 0
        return self.observe()

    def step(self, _: Any) -> tuple[dict[str, Any], float, bool, bool, bool]:
        self.t += 1
        return self.observe(), 1.0, self.t == 4, False, self.t == 4


def act(seen: dict[str, Any]) -> tuple[Any, Any, float, float]:
    return np.stack([seen["state"]] * 8), np.arange(5, dtype=np.int32), -1.5, 0.25


def test_the_loop_with_features_records_all_of_them_and_numpy_reads_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    got = recorded(FEATURES, tmp_path, monkeypatch, env=TwoCameras(), policy=act)
    assert [episode.meta["episode_metadata"]["seed"] for episode in got] == list(range(10))
    facts = {"seed": 0, "init_hash": "9f3a", "policy_version": 3, "solved": True}
    assert (got[0].meta["episode_metadata"], got[0].meta["robot"], len(got[0])) == (facts, "aloha", 4)
    check_same(got[0].arrays["action.chunk"], np.stack([[row] * 8 for row in STATES[:4]]))
    check_same(got[0].arrays["action.tokens"], np.stack([np.arange(5, dtype=np.int32)] * 4))
    np.testing.assert_array_equal(pixels(got[0].final["observation.images.wrist"]), WRIST[4:])
    names: dict[str, Any] = {"np": np, "json": json}
    exec(NUMPY, names)
    assert names["facts"] == facts
    check_same(names["states"], STATES)


def test_what_is_declared_is_what_a_dataset_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"vd": vd}
    exec(DECLARED, names)
    with names["writer"] as writer:
        episode = writer.episode(task="fold")
        episode.add({"action": [0.5] * 14, "observation.state": STATES[0]})
        episode.end()
    vd.run(vd.open_source("rollouts"), (), vd.open_sink("dataset"), workers=1)
    source = vd.open_source("dataset")
    schema = source.schema(source.read(source.episodes()[0]))
    for name in ("action", "observation.state"):
        assert (schema.features[name].names or ())[7] == "right_0"
        assert schema.features[name].convention["joint_unit"] == "rad"


class Environments:
    """Three that reset themselves in the step after the one that ends an episode, of 3, 4 and 5 steps."""

    tasks = ("environment 0", "environment 1", "environment 2")

    def reset(self) -> dict[str, Any]:
        self.t = [0, 0, 0]
        return {"top": np.stack([IMAGES[0]] * 3)}

    def step(self, _: Any) -> tuple[dict[str, Any], Any, Any, Any, dict[str, Any]]:
        self.t = [0 if t == 3 + i else t + 1 for i, t in enumerate(self.t)]
        over = np.array([t == 3 + i for i, t in enumerate(self.t)])
        seen = {"top": np.stack([IMAGES[t] for t in self.t])}
        return seen, np.zeros(3), over, np.zeros(3, bool), {"success": over}


def test_the_loop_of_vector_environments_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = {"envs": Environments(), "policy": lambda _: np.stack([ACTION] * 3), "steps": 14}
    got = recorded(VECTOR, tmp_path, monkeypatch, **names)
    assert sorted(len(episode) for episode in got) == [3] * 3 + [4] * 3 + [5] * 2
    for episode in got:
        steps = len(episode)
        assert episode.task == f"environment {steps - 3}"
        np.testing.assert_array_equal(pixels(episode.frames["observation.images.top"]), IMAGES[:steps])
        np.testing.assert_array_equal(pixels(episode.final["observation.images.top"]), IMAGES[steps : steps + 1])
