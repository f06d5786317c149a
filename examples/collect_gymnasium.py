"""Collect episodes from vector environments of gymnasium, ready for ``vla-data align``.

    pip install gymnasium .
    python examples/collect_gymnasium.py rollouts --env Pendulum-v1 --environments 4 --steps 500
    vla-data inspect rollouts
    vla-data align rollouts dataset --min-success-steps 0 --pos-thresh none --rot-thresh none

Any environment goes whose observations are an array or LeRobot's dictionary (``pixels``: an image, or a dictionary
of cameras; ``agent_pos``: the state). The policy here acts at random; put yours in its place.
"""

from __future__ import annotations

import argparse
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import vla_data as vd


def features(observation: Any) -> dict[str, Any]:
    """Observations under LeRobot's names, of one environment or of all."""
    if not isinstance(observation, dict):
        return {"observation.state": observation}
    pixels = observation.get("pixels", {})
    cameras = pixels if isinstance(pixels, dict) else {"top": pixels}
    named = {f"observation.images.{camera}": image for camera, image in cameras.items()}
    return named | ({"observation.state": observation["agent_pos"]} if "agent_pos" in observation else {})


def collect(
    folder: str, *, env: str, environments: int, steps: int, seed: int, fps: float, autoreset: str, task: str
) -> None:
    """Record so many steps of so many environments; episodes that are not over by then are left out."""
    mode = AutoresetMode[autoreset.upper()]
    envs = SyncVectorEnv([lambda: gymnasium.make(env)] * environments, autoreset_mode=mode)
    envs.action_space.seed(seed)
    with vd.RolloutWriter(folder, fps=fps) as writer:
        recorder = vd.VectorRecorder(
            lambda i: writer.episode(task=task, facts={"env": env, "environment": i, "seed": seed + i}),
            environments,
            autoreset=autoreset,  # type: ignore[arg-type]  # argparse knows the choices
        )
        before, _ = envs.reset(seed=seed)
        for _ in range(steps):
            # A copy: these environments write the next observations into the same arrays.
            seen = {name: np.copy(value) for name, value in features(before).items()}
            actions = envs.action_space.sample()
            after, rewards, terminated, truncated, infos = envs.step(actions)
            step = {
                **seen,
                "action": actions,
                "next.reward": rewards,
                "next.terminated": terminated,
                "next.truncated": truncated,
                "next.success": infos.get("is_success", np.zeros(environments, dtype=bool)),
            }
            if mode == AutoresetMode.SAME_STEP:
                last = infos.get("final_obs", [None] * environments)
                recorder.add(step, final=[None if one is None else features(one) for one in last])
            else:
                recorder.add(step, features(after))
            ended = terminated | truncated
            if mode == AutoresetMode.DISABLED and ended.any():
                after, _ = envs.reset(options={"reset_mask": ended})
            before = after
        recorder.discard()
    envs.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Collect episodes from gymnasium's environments.")
    parser.add_argument("folder")
    parser.add_argument("--env", default="Pendulum-v1")
    parser.add_argument("--environments", type=int, default=4)
    parser.add_argument("--steps", type=int, default=500, help="of each environment")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fps", type=float, default=20, help="control rate, steps per second")
    parser.add_argument("--autoreset", choices=["next_step", "same_step", "disabled"], default="next_step")
    parser.add_argument("--task", default="swing the pendulum up", help="the instruction")
    collect(**vars(parser.parse_args()))
