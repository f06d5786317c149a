"""Collect Lift episodes from robosuite with a noisy scripted policy, ready for ``vla-data align``.

Needs robosuite 1.4.1, which needs an old MuJoCo and NumPy (and that an old PyArrow), so an environment of its own:

    python3.11 -m venv lift
    lift/bin/pip install robosuite==1.4.1 mujoco==2.3.7 'numpy<2' 'pyarrow<22' .
    MUJOCO_GL=egl lift/bin/python examples/collect_robosuite.py rollouts     # or MUJOCO_GL=osmesa
    lift/bin/vla-data inspect rollouts
    lift/bin/vla-data align rollouts lift_lerobot --fps 20 --min-success-steps 3

Three things of robosuite are put right on the way in, because nothing in a file could tell later:

- Its images are upside down (OpenGL's rows go up): ``[::-1]`` turns them upright.
- Its actions are shares of the controller's largest step: they become metres and radians.
- Its gripper is -1 open, +1 closed; rollouts have +1 open. If you record robosuite's own sign instead, tell align
  ``--initial-gripper -1``, or its default of +1 takes the first action of every episode for a gripper switch.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import robosuite
from numpy.typing import NDArray
from robosuite.controllers import load_controller_config

import vla_data as vd

FPS = 20
TO_UNITS = np.array([0.05, 0.05, 0.05, 0.5, 0.5, 0.5, -1.0])
"""OSC_POSE's largest step is 0.05 m and 0.5 rad (``output_max``); the last turns the gripper's sign."""
OPEN, CLOSED = -1.0, 1.0  # robosuite's


class LiftPolicy:
    """Over the cube, down, grasp, up; ``noise`` is the standard deviation of each action, in shares of 1."""

    def __init__(self, noise: float, random: np.random.Generator) -> None:
        self.noise = noise
        self.random = random
        self.grasping = 0

    def __call__(self, observation: dict[str, Any]) -> NDArray[np.float64]:
        """An action of robosuite's, ``(7,)`` from -1 to 1."""
        reach = observation["cube_pos"] - observation["robot0_eef_pos"]
        if self.grasping or np.linalg.norm(reach) < 0.015:
            self.grasping += 1
        move = np.zeros(3)
        if self.grasping > 8:
            move[2] = 0.4
        elif not self.grasping:
            above = np.linalg.norm(reach[:2]) > 0.02
            move = 8 * (reach + np.array([0, 0, 0.06 if above else 0]))
        action = np.array([*move, 0, 0, 0, CLOSED if self.grasping else OPEN])
        action[:6] += self.random.normal(0, self.noise, 6)
        return np.clip(action, -1, 1)


def collect(folder: str, *, episodes: int, steps: int, size: int, seed: int) -> None:
    """Record some episodes, the even ones with little noise and the odd ones with much."""
    env = robosuite.make(
        "Lift",
        robots="Panda",
        controller_configs=load_controller_config(default_controller="OSC_POSE"),
        has_renderer=False,
        camera_names="agentview",
        camera_heights=size,
        camera_widths=size,
        control_freq=FPS,
        horizon=steps,
    )
    random = np.random.default_rng(seed)
    np.random.seed(seed)  # where robosuite puts the cube
    with vd.RolloutWriter(folder, fps=FPS) as writer:
        for number in range(episodes):
            policy = LiftPolicy(0.05 if number % 2 == 0 else 0.6, random)
            episode = writer.episode(task="lift the cube")
            observation, done, solved = env.reset(), False, 0
            while not done and solved < 10:
                image, state, action = upright(observation), proprioception(observation), policy(observation)
                observation, reward, done, _ = env.step(action)
                success = env._check_success()
                episode.add(image=image, state=state, action=action * TO_UNITS, success=success, reward=reward)
                solved = solved + 1 if success else 0
            path = episode.end(image=upright(observation))
            print(f"{path}: {len(episode)} steps, {'solved' if solved else 'not solved'}")
    env.close()


def upright(observation: dict[str, Any]) -> NDArray[np.uint8]:
    """The camera's image with the first row at the top."""
    image: NDArray[np.uint8] = observation["agentview_image"][::-1]
    return image


def proprioception(observation: dict[str, Any]) -> NDArray[np.float64]:
    """Position (m), quaternion (x, y, z, w) and the two fingers (m), ``(9,)``."""
    return np.concatenate([observation[f"robot0_{name}"] for name in ("eef_pos", "eef_quat", "gripper_qpos")])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Collect Lift episodes from robosuite.")
    parser.add_argument("folder")
    parser.add_argument("--episodes", type=int, default=6)
    parser.add_argument("--steps", type=int, default=150, help="at most, in an episode")
    parser.add_argument("--size", type=int, default=256, help="of the images, in pixels")
    parser.add_argument("--seed", type=int, default=0)
    collect(**vars(parser.parse_args()))
