"""A small environment with recorded starts: an action is right that is near the number that is seen."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch

from training_adapters import checkpoints
from training_adapters.cloning import clone, new_flow_policy, new_policy
from training_adapters.demonstrations import Demonstrations
from training_adapters.envs import table
from training_adapters.envs.table import Begin, Place, Row
from training_adapters.policies.asked import AskedFlow

STEPS = 4
NEAR = 0.6
"""An episode is solved whose actions are on average nearer than that."""


class Follow(gymnasium.Env):  # type: ignore[misc]
    """The reward is how near the action is; an episode has four steps."""

    observation_space = gymnasium.spaces.Dict({"agent_pos": gymnasium.spaces.Box(-1, 1, (1,), np.float32)})
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
    task = "follow"

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        super().reset(seed=seed)
        self.wanted = float(options["initial_state"]["wanted"])
        self.away: list[float] = []
        return self._see(), {"is_success": False}

    def step(self, action: np.ndarray) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        self.away.append(abs(float(action[0]) - self.wanted))
        over = len(self.away) == STEPS
        solved = over and float(np.mean(self.away)) < NEAR
        return self._see(), -self.away[-1], solved, over, {"is_success": solved}

    def _see(self) -> dict[str, Any]:
        return {"agent_pos": np.array([self.wanted], dtype=np.float32)}


def make(name: str, cameras: Any) -> Follow:
    return Follow()


class FollowPlace(Place):
    """Starts are one number each."""

    def draw(self, random: np.random.Generator) -> Begin:
        wanted = float(random.choice([-0.8, 0.8])) + float(random.uniform(-0.05, 0.05))
        init_hash = hashlib.sha256(np.float32(wanted).tobytes()).hexdigest()
        return Begin(initial_state={"wanted": wanted}, init_hash=init_hash)

    def held_out(self, count: int, *, seed: int = 0) -> list[Begin]:
        random = np.random.default_rng((seed, 99))
        return [self.draw(random) for _ in range(count)]


PLACE = FollowPlace("follow", Row(module="tests.training.follow", horizon=2))


def install(patch: pytest.MonkeyPatch) -> None:
    """Let programs find it as ``follow``."""
    patch.setattr(table.Place, "of", classmethod(lambda cls, name: PLACE))


def start(folder: Path, *, flow: bool = False) -> Path:
    """A checkpoint of a policy that acts at random; one of a flow has to learn even that."""
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    states = random.choice([-0.8, 0.8], (300, 1)).astype(np.float32)
    actions = random.uniform(-1, 1, (300, 2, 1)).astype(np.float32)
    data = Demonstrations(states, ["follow"] * 300, actions, 1)
    policy = new_flow_policy(data, slots=()) if flow else new_policy(data, slots=(), vocab_size=40)
    if isinstance(policy, AskedFlow):
        clone(policy, data, updates=150, seed=0)
    checkpoints.save(folder, policy, {"env": "follow", "update_step": 0})
    return folder
