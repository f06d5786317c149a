"""The table-top scene, chunks as actions, and lanes of episodes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

gymnasium = pytest.importorskip("gymnasium")
pytest.importorskip("mujoco")
torch = pytest.importorskip("torch")

from training_adapters.demonstrations import chunks_of  # noqa: E402
from training_adapters.envs.chunks import ChunkEnv  # noqa: E402
from training_adapters.envs.expert import expert  # noqa: E402
from training_adapters.envs.lanes import Lanes  # noqa: E402
from training_adapters.envs.starts import TASKS, Start, draw_start, starts  # noqa: E402
from training_adapters.envs.table import ENVS, Begin, Place  # noqa: E402
from training_adapters.envs.tabletop import LIMITS, STATE, Tabletop  # noqa: E402
from vla_data.errors import UsageError  # noqa: E402

RANDOM = np.random.default_rng(0)
ACTIONS = (RANDOM.uniform(-1, 1, (48, 7)) * LIMITS).astype(np.float32)


def played(start: Any, actions: np.ndarray) -> np.ndarray:
    env = Tabletop()
    env.reset(options={"initial_state": start})
    return np.stack([env.step(action)[0]["agent_pos"] for action in actions])


def test_a_recorded_start_replays_bit_by_bit() -> None:
    start = starts(5)[4]
    again = Start.of(start.to_json())
    assert again.init_hash == start.init_hash
    assert np.array_equal(played(start, ACTIONS), played(again, ACTIONS))


def test_starts_with_another_task_or_place_have_another_hash() -> None:
    first = starts(2)
    assert len({start.init_hash for start in (*first, Start(8, first[0].state))}) == 3


def test_more_starts_of_a_seed_begin_with_the_fewer() -> None:
    assert [start.init_hash for start in starts(30)][:9] == [start.init_hash for start in starts(9)]
    assert [start.prompt for start in starts(9)] == list(TASKS)


def test_training_starts_are_never_held_out() -> None:
    place, random = Place.of("tabletop"), np.random.default_rng(1)
    drawn = {place.draw(random).init_hash for _ in range(300)}
    assert not drawn & {begin.init_hash for begin in place.held_out(600)}


@pytest.mark.parametrize("bad", [{}, {"task": 9, "state": [0.0] * 12}, {"task": 0, "state": [0.0] * 11}, 3])
def test_what_is_no_start_is_refused(bad: Any) -> None:
    with pytest.raises(UsageError, match="E001"):
        Start.of(bad)


def test_it_is_an_environment_of_gymnasium() -> None:
    env = Tabletop()
    seen, info = env.reset(seed=3)
    assert env.observation_space.contains(seen)
    assert seen["agent_pos"].shape == (STATE,)
    assert info["task"] in TASKS
    _, reward, terminated, truncated, info = env.step(env.action_space.sample())
    assert (reward, terminated, truncated, info["is_success"]) == (0.0, False, False, False)


def test_the_expert_solves_every_task() -> None:
    env, solved = Tabletop(), []
    for start in starts(18, seed=4):
        env.reset(options={"initial_state": start})
        ended = False
        while not ended:
            _, _, terminated, truncated, _ = env.step(expert(env))
            ended = terminated or truncated
        solved.append(terminated)
    assert solved == [True] * 18


def test_an_action_that_is_no_number_is_refused() -> None:
    env = Tabletop()
    env.reset(seed=0)
    with pytest.raises(ValueError, match="not finite"):
        env.step(np.full(7, np.nan, dtype=np.float32))


def test_an_unknown_camera_is_refused() -> None:
    with pytest.raises(UsageError, match="top and side, not wrist"):
        Tabletop(cameras=("wrist",))


class Counting(gymnasium.Env[dict[str, Any], np.ndarray]):
    """Ends after ``length`` steps, and rewards each with its number."""

    observation_space = gymnasium.spaces.Dict({"agent_pos": gymnasium.spaces.Box(0, 99, (1,), np.float32)})
    action_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)

    def __init__(self, length: int = 5, *, limit: bool = False) -> None:
        self.length, self.limit, self.count = length, limit, 0

    def _see(self) -> dict[str, Any]:
        return {"agent_pos": np.array([self.count], dtype=np.float32)}

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        self.count = 0
        return self._see(), {}

    def step(self, action: np.ndarray) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        self.count += 1
        over = self.count >= self.length
        return self._see(), float(self.count), over and not self.limit, over and self.limit, {"is_success": over}


def test_a_chunk_is_executed_whole_and_its_rewards_are_added() -> None:
    env = ChunkEnv(Counting(), 3)
    env.reset()
    seen, reward, terminated, truncated, info = env.step(np.zeros((3, 2), dtype=np.float32))
    assert (seen["agent_pos"].tolist(), reward, terminated, truncated) == ([3.0], 6.0, False, False)
    assert (info["steps"], info["rewards"].tolist()) == (3, [1.0, 2.0, 3.0])
    assert [step.observation["agent_pos"][0] for step in env.taken] == [0.0, 1.0, 2.0]


@pytest.mark.parametrize("limit", [False, True])
def test_a_chunk_stops_where_the_episode_ends(limit: bool) -> None:
    env = ChunkEnv(Counting(4, limit=limit), 3)
    env.reset()
    env.step(np.zeros((3, 2), dtype=np.float32))
    seen, reward, terminated, truncated, info = env.step(np.zeros((3, 2), dtype=np.float32))
    assert (seen["agent_pos"].tolist(), reward, info["steps"]) == ([4.0], 4.0, 1)
    assert (terminated, truncated) == (not limit, limit)


def test_a_chunk_of_another_shape_is_refused() -> None:
    env = ChunkEnv(Counting(), 3)
    env.reset()
    with pytest.raises(ValueError, match=r"shape \(2, 2\), not \(3, 2\)"):
        env.step(np.zeros((2, 2), dtype=np.float32))


def test_chunks_go_into_gymnasiums_vector_environments() -> None:
    made = gymnasium.vector.SyncVectorEnv([lambda: ChunkEnv(Counting(), 3)] * 2)
    made.reset()
    seen, reward, *_ = made.step(np.zeros((2, 3, 2), dtype=np.float32))
    assert (seen["agent_pos"].ravel().tolist(), reward.tolist()) == ([3.0, 3.0], [6.0, 6.0])


def lanes(count: int = 3, seed: int = 0) -> Lanes:
    place, random = Place.of("tabletop"), np.random.default_rng(seed)
    return Lanes(place, count=count, horizon=8, begins=lambda: place.draw(random))


def chunks(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, (count, 8, 7)) * LIMITS


def test_lanes_go_on_with_the_next_episode() -> None:
    side = lanes()
    side.begin()
    moves = [side.step(chunks(3, seed)) for seed in range(6)]
    assert [moved.truncated for moved in moves[-1]] == [True] * 3
    assert len(side) == 3
    assert side.observations()["observation.state"].shape == (3, STATE)
    # What was seen last is of the episode that was cut, not of the next one's beginning.
    state = side.observations()["observation.state"][0].numpy()
    assert not np.array_equal(moves[-1][0].last["agent_pos"], state)


def test_lanes_are_restored_in_the_middle_of_episodes() -> None:
    side, other = lanes(), lanes(seed=9)
    side.begin()
    for seed in range(3):
        side.step(chunks(3, seed))
    other.restore(side.state())
    assert torch.equal(side.observations()["observation.state"], other.observations()["observation.state"])
    first, second = side.step(chunks(3, 7)), other.step(chunks(3, 7))
    assert all(
        np.array_equal(a.last["agent_pos"], b.last["agent_pos"]) for a, b in zip(first, second, strict=True)
    )


def test_a_malformed_chunk_ends_its_episode_unsolved_and_nothing_moves() -> None:
    side = lanes()
    side.begin()
    moves = side.step(bad(), malformed=[True, False, False])
    assert (moves[0].steps, moves[0].terminated, moves[0].success) == ([], True, False)
    assert len(moves[1].steps) == 8


def bad() -> np.ndarray:
    made = chunks(3, 0)
    made[0] = np.nan
    return made


def test_a_fixed_number_of_episodes_ends() -> None:
    todo = Place.of("tabletop").held_out(4)
    side = Lanes(Place.of("tabletop"), count=3, horizon=8, begins=lambda: todo.pop() if todo else None)
    side.begin()
    ended = 0
    while len(side):
        ended += sum(moved.truncated or moved.terminated for moved in side.step(chunks(len(side), 1)))
    assert ended == 4


def test_names_that_are_no_environment_are_refused() -> None:
    with pytest.raises(UsageError, match=r"E001 .*known are gym_aloha"):
        Place.of("gym_aloa/AlohaTransferCube-v0")
    with pytest.raises(UsageError, match="tabletop has no 'other'"):
        Place.of("tabletop/other").make()
    assert list(ENVS) == sorted(ENVS)


def test_seeds_of_training_and_of_evaluation_are_apart() -> None:
    place = Place("metaworld/reach-v3", ENVS["metaworld"])
    drawn = [place.draw(np.random.default_rng(n)) for n in range(50)]
    held = place.held_out(240)
    assert min(begin.seed for begin in drawn if begin.seed) > max(begin.seed for begin in held if begin.seed)
    assert len({begin.init_hash for begin in held}) == 240


def test_a_begin_is_json() -> None:
    begin = Place.of("tabletop").held_out(1)[0]
    assert Begin(**begin.to_json()) == begin


def test_chunks_of_an_episode_hold_still_after_its_end() -> None:
    made = chunks_of(np.array([[1.0, 1.0], [2.0, -1.0]], dtype=np.float32), 3, still=[0])
    assert made.tolist() == [[[1, 1], [2, -1], [0, -1]], [[2, -1], [0, -1], [0, -1]]]


def test_drawn_blocks_have_room() -> None:
    random = np.random.default_rng(0)
    for _ in range(50):
        blocks = draw_start(random).state[:6].reshape(3, 2)
        assert min(np.linalg.norm(blocks[i] - blocks[j]) for i in range(3) for j in range(i)) > 0.084
