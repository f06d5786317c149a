"""The pose of the robot's base reaches every conversion between its frame and the world's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from scipy.spatial.transform import Rotation

import vla_data as vd
from tests.rollouts import rollout, save
from vla_data.actions import Convention, preset
from vla_data.actions.base import base_pose
from vla_data.cli import cli
from vla_data.errors import UsageError
from vla_data.mixtures import open_mixture
from vla_data.steps.actions import ConvertActions

TURN = Rotation.from_euler("z", 90, degrees=True)
SEVEN = [0.5, 0.0, 0.8, *TURN.as_quat()]


def test_a_pose_is_given_in_three_ways() -> None:
    pose = base_pose(SEVEN)
    assert pose[:3, 3].tolist() == [0.5, 0.0, 0.8]
    assert np.allclose(pose[:3, :3], TURN.as_matrix())
    assert np.array_equal(base_pose(pose.reshape(-1)), pose)
    assert np.array_equal(base_pose(pose), pose)
    assert base_pose([1, 2, 3]).tolist() == [[1, 0, 0, 1], [0, 1, 0, 2], [0, 0, 1, 3], [0, 0, 0, 1]]


@pytest.mark.parametrize(
    "wrong",
    [
        [],
        [1],
        [1, 2],
        [1, 2, 3, 4],
        [0, 0, 0, 0, 0, 0, 0],
        [0, 0, 0, 1, 1, 0, 0],
        [np.nan, 0, 0],
        np.ones(16),
        "x",
        [0, 0, np.inf],
        np.diag([1, 1, -1, 1]),
        np.diag([2, 1, 1, 1]),
    ],
)
def test_what_is_no_pose_is_refused(wrong: Any) -> None:
    with pytest.raises(UsageError, match=r"E232.*base is not a pose"):
        base_pose(wrong)


def test_a_step_turns_actions_into_the_frame_that_is_wanted() -> None:
    source = preset("rl4vla_ppo")
    schema = vd.Schema(
        features={"action": vd.Feature(dtype="float64", shape=(7,), convention=source.to_json())}, fps=5.0
    )
    world = replace(source, frame="world")
    episode = vd.Episode(
        id="a",
        arrays={"action": np.asarray([[1.0, 0, 0, 0, 0, 0, 1]] * 3)},
        frames={},
        task="",
        index=np.arange(3),
    )
    step = ConvertActions(source=source.to_json(), target=world.to_json(), base=tuple(SEVEN))
    assert np.allclose(step.apply(episode).arrays["action"][:, :3], [0, 1, 0])
    assert eval(repr(step)) == step
    with pytest.raises(UsageError, match=r"E232.*pose of the robot's base.*--base"):
        ConvertActions(source=source.to_json(), target=world.to_json()).apply(episode)
    assert ConvertActions.to(schema, "rl4vla_ppo", base=SEVEN).base == tuple(base_pose(SEVEN).reshape(-1))


def test_commands_and_mixtures_take_the_base(tmp_path: Path) -> None:
    save(tmp_path / "in", "a.npz", rollout(T=8, extra_image=False))
    made = tmp_path / "set"
    declare = ["--declare", "action:frame=world", "--declare", "action:rotation=euler_intrinsic_xyz"]

    def run(*words: object, code: int) -> str:
        done = CliRunner().invoke(cli, [*map(str, words)])
        error = done.exception if isinstance(done.exception, UsageError) else None
        assert (error.exit_code if error else done.exit_code) == code, (done.output, done.exception)
        return str(error)

    to_base = ["--actions", "rl4vla_ppo", "--workers", 1]
    run("convert", tmp_path / "in", tmp_path / "no", *declare, "--base", "1,2", *to_base, code=2)
    run("convert", tmp_path / "in", tmp_path / "no", *declare, "--base", "a,b,c", *to_base, code=2)
    run("convert", tmp_path / "in", tmp_path / "no", "--base", "1,2,3", "--workers", 1, code=2)
    run("convert", tmp_path / "in", made, *declare, "--base", ",".join(map(str, SEVEN)), *to_base, code=0)
    before = vd.open_source(tmp_path / "in")
    first = before.read(before.episodes()[0]).arrays["action"]
    source = vd.open_source(made)
    episode = source.read(source.episodes()[0])
    assert np.allclose(episode.arrays["action"][:, :3], TURN.inv().apply(first[:, :3]))
    world = {**Convention.from_json(preset("rl4vla_ppo").to_json()).to_json(), "frame": "world"}
    entry: dict[str, Any] = {"root": str(made), "state": []}
    contract = {"cameras": [], "convention": world}
    with pytest.raises(UsageError, match="pose of the robot's base"):
        open_mixture({"contract": contract, "datasets": [entry]}).gather([0], [0])
    batch = open_mixture({"contract": contract, "datasets": [{**entry, "base": SEVEN}]}).gather([0], [0])
    assert np.allclose(batch["action"][0, 0, :3], first[0, :3], atol=1e-6)


def test_check_dynamics_takes_what_a_source_does_not_say(tmp_path: Path) -> None:
    save(tmp_path / "in", "a.npz", rollout(T=40, extra_image=False))
    arguments = ["check-dynamics", str(tmp_path / "in"), "--state", "action"]
    done = CliRunner().invoke(cli, arguments)
    assert "absolute" in str(done.exception)
    told = ["--declare", "action:kind=absolute", "--declare", "action:rotation=rotvec", "--base", "0,0,0"]
    done = CliRunner().invoke(cli, [*arguments, *told])
    assert not isinstance(done.exception, UsageError), done.exception
