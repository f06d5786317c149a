"""Chunk PPO where what is right is known: it follows a number that it sees."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
gymnasium = pytest.importorskip("gymnasium")

from training_adapters.cloning import new_policy  # noqa: E402
from training_adapters.demonstrations import Demonstrations  # noqa: E402
from training_adapters.envs.lanes import Lanes  # noqa: E402
from training_adapters.envs.table import Begin, Place  # noqa: E402
from training_adapters.loop import Group, Optimisation, accelerator  # noqa: E402
from training_adapters.policies.value import ActorCritic  # noqa: E402
from training_adapters.ppo.collect import Collector, Watcher  # noqa: E402
from training_adapters.ppo.config import PPOConfig  # noqa: E402
from training_adapters.ppo.update import update  # noqa: E402

CONFIG = PPOConfig(num_chunks_per_update=256, lanes=32, batch_size=64, num_epochs_per_update=3, ent_coef=0.0)


class Follow(gymnasium.Env):  # type: ignore[misc]
    """The reward is how near the action is to the number that is seen; an episode is cut after 6 steps."""

    observation_space = gymnasium.spaces.Dict({"agent_pos": gymnasium.spaces.Box(-1, 1, (1,), np.float32)})
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
    task = "follow"

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        super().reset(seed=seed)
        self.count, self.wanted = 0, float(self.np_random.choice([-0.8, 0.8]))
        return self._see(), {"is_success": False}

    def step(self, action: np.ndarray) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        self.count += 1
        return self._see(), -abs(float(action[0]) - self.wanted), False, self.count >= 6, {"is_success": False}

    def _see(self) -> dict[str, Any]:
        return {"agent_pos": np.array([self.wanted], dtype=np.float32)}


class Following(Place):
    def make(self, cameras: Any = ()) -> Any:
        return Follow()


def follower(
    time_limit: str = "cut", watch: Watcher | None = None
) -> tuple[ActorCritic, Collector, torch.Generator]:
    """A model that knows nothing, and what collects its chunks of two steps in 32 lanes."""
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    states = random.choice([-0.8, 0.8], (300, 1)).astype(np.float32)
    actions = random.uniform(-1, 1, (300, 2, 1)).astype(np.float32)
    model = ActorCritic(new_policy(Demonstrations(states, ["follow"] * 300, actions, 1), slots=(), vocab_size=40))
    place = Following("follow", Place.of("tabletop").row)
    lanes = Lanes(place, count=32, horizon=2, begins=lambda: Begin(seed=int(random.integers(2**31))))
    lanes.begin()
    generator = torch.Generator().manual_seed(0)
    options = {"count": 32, "gamma": 0.9, "discount": "step", "lam": 0.9, "time_limit": time_limit, "watch": watch}
    collector = Collector(model, lanes, generator, **options)
    return model, collector, generator


def test_a_time_limit_is_a_cut_or_an_end() -> None:
    """Every third chunk is the last: as an end it is worth its reward, as a cut also what would have come."""
    seen = {}
    for time_limit in ("cut", "end"):
        rewards: list[float] = []
        model, collector, _ = follower(
            time_limit,
            lambda chunk, moves, told=rewards: told.extend(m.rewards[0] + 0.9 * m.rewards[1] for m in moves),
        )
        rollout = collector.collect(3).rollout
        value = model.value(rollout.observations).detach().numpy()
        seen[time_limit] = rollout.value_target.numpy()[-32:], np.array(rewards)[-32:], value[-32:]
    target, reward, _ = seen["end"]
    np.testing.assert_allclose(target, reward, rtol=1e-5)
    target, reward, value = seen["cut"]
    # The number that is seen stays the same within an episode, and so does its value.
    np.testing.assert_allclose(target, reward + 0.9**2 * value, rtol=1e-5)


def test_reward_rises_where_the_right_action_is_seen() -> None:
    model, collector, generator = follower()
    optimisation = Optimisation(
        model,
        [Group(module=part, learning_rate=1e-3, clip=0.5) for part in (model.actor_backbone, model.value_head)],
        accelerator=accelerator(),
        schedule=lambda share: 1.0,
    )
    rewards = []
    for _ in range(14):
        got = collector.collect(8)
        rewards.append(got.chunk_reward)
        update(optimisation, got.rollout, CONFIG, generator, share=0.0)
    # At random a step is 0.9 off on average; half of it is gone after 14 updates.
    assert rewards[0] < -1.4
    assert np.mean(rewards[-3:]) > 0.55 * rewards[0]
