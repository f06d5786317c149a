"""Other people's environments, each where it is installed: LeRobot's keys, starts by seed, lanes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

import vla_data as vd
from training_adapters.collect_expert import collect_expert
from training_adapters.envs.lanes import Lanes
from training_adapters.envs.table import Place
from vla_data.errors import UsageError

NAMES = {
    "gym_aloha/AlohaTransferCube-v0": (14, 14),
    "gym_pusht/PushT-v0": (18, 2),
    "metaworld/push-v3": (39, 4),
    "metaworld/reach-v3": (39, 4),
}


def place(name: str) -> Place:
    pytest.importorskip(name.partition("/")[0])
    return Place.of(name)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_chunks_are_executed_and_starts_repeat(name: str) -> None:
    where, (state, action) = place(name), NAMES[name]
    begins = where.held_out(2)
    seen = []
    for order in (begins, begins):
        todo = list(order)
        side = Lanes(where, count=2, horizon=3, begins=lambda todo=todo: todo.pop(0) if todo else None)  # type: ignore[misc]
        side.begin()
        first = side.observations()
        moves = side.step(np.zeros((2, 3, action)))
        seen.append((first["observation.state"], [moved.last for moved in moves]))
        assert first["observation.state"].shape == (2, state)
        assert all(first["task"])
        assert [len(moved.steps) for moved in moves] == [3, 3]
        side.close()
    assert np.array_equal(seen[0][0], seen[1][0])
    if not name.startswith("gym_aloha"):  # its state is the arms' alone, and they begin alike
        assert not np.array_equal(seen[0][0][0], seen[0][0][1])


@pytest.mark.parametrize("name", ["gym_aloha/Nothing-v0", "gym_pusht/Nothing-v0", "metaworld/nothing-v3"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_a_name_that_it_does_not_have_is_one_line(name: str) -> None:
    with pytest.raises(UsageError, match="E001"):
        place(name).make()


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_several_tasks_of_metaworld_come_in_turn_with_their_prompts() -> None:
    where = place("metaworld/reach-v3+push-v3+drawer-open-v3")
    env, prompts = where.make(), ["reach", "push", "drawer open"]
    random = np.random.default_rng(0)
    held_out = where.held_out(6, seed=9_999)  # a multiple of 3
    for begins in (held_out, [where.draw(random, turn=turn) for turn in range(3)]):
        seen = []
        for begin in begins:
            _, info = begin.reset(env)
            seen.append(info["task"])
            assert env.get_wrapper_attr("task") == info["task"]
        assert seen == prompts * (len(begins) // 3)
    with pytest.raises(UsageError, match=r"E001 .*Meta-World has no 'nothing-v3'"):
        place("metaworld/reach-v3+nothing-v3").make()


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize(
    ("name", "width", "unit"),
    [
        ("gym_aloha/AlohaTransferCube-v0", 14, ("joint_unit", "rad")),
        ("metaworld/reach-v3+push-v3+drawer-open-v3", 4, ("translation_unit", "controller")),
    ],
)
def test_the_experts_recordings_declare_what_they_mean(
    tmp_path: Path, name: str, width: int, unit: tuple[str, str]
) -> None:
    """A few episodes, some of them solved, become a dataset."""
    done = collect_expert(place(name), tmp_path / "rollouts", episodes=3, seed=0, images=False)
    assert done.success.count >= 1
    source = vd.open_source(tmp_path / "rollouts")
    for ref in source.episodes():
        episode = source.read(ref)
        feature = source.schema(episode).features["action"]
        assert episode.arrays["action"].shape[1] == len(feature.names or ()) == width
        assert feature.convention[unit[0]] == unit[1]
    steps = vd.recipes.ppo_sft(min_success_steps=1, pos_thresh=None, rot_thresh=None)
    report = vd.run(source, steps, vd.open_sink(tmp_path / "aligned", format="lerobot"))
    assert report.counts["successful_episodes"] == done.success.count
