"""gym-aloha: two arms of 14 numbers, in MuJoCo. https://github.com/huggingface/gym-aloha."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, Final

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from training_adapters.envs.named import Named, cameras_of
from vla_data.errors import UsageError
from vla_data.safety.text import show

PROMPTS: Final = {
    "AlohaInsertion-v0": "insert the peg into the socket",
    "AlohaTransferCube-v0": "transfer the cube from the right arm to the left arm",
}
_SIZE: Final = (480, 640)
_JOINTS: Final = 6  # of an arm; after them comes its gripper, which is two fingers for the simulator


def make(name: str, cameras: Sequence[str]) -> gymnasium.Env[dict[str, Any], Any]:
    """An environment by its name in gym-aloha; solved where its reward is 4, its highest.

    ``agent_pos`` is the arms' alone: where the cube or the peg is, only the camera ``top`` sees.
    """
    import gym_aloha  # noqa: F401 - registers its names

    if name not in PROMPTS:
        raise UsageError("E001", f"gym_aloha has no {show(name)!r}; there are {', '.join(PROMPTS)}")
    wanted = tuple(cameras)
    env = gymnasium.make(f"gym_aloha/{name}", obs_type="pixels_agent_pos")
    simulator = env.unwrapped._env
    # It draws three cameras in every step, of which it hands out one: 300 times the cost of the step itself.
    simulator.task.get_observation = functools.partial(_observed, simulator.task, wanted)
    # The space that it declares, from -1 to 1, is not what its joints can do.
    env.action_space = _actions(simulator.physics.model.ptr.actuator_ctrlrange)
    return Named(
        env,
        task=PROMPTS[name],
        observe=lambda seen: cameras_of(seen, wanted),
        solved=lambda info: bool(info.get("is_success", False)),
    )


def _observed(task: Any, cameras: tuple[str, ...], physics: Any) -> dict[str, Any]:
    """What gym-aloha reads of its simulator, with the wanted cameras alone; the other images are black."""
    images = {"top": _black()}
    for camera in cameras:
        images[camera] = physics.render(height=_SIZE[0], width=_SIZE[1], camera_id=camera)
    return {"qpos": task.get_qpos(physics), "images": images}


@functools.cache
def _black() -> NDArray[np.uint8]:
    return np.zeros((*_SIZE, 3), dtype=np.uint8)


def _actions(limits: NDArray[np.float64]) -> spaces.Box:
    """Both arms' joints within their limits, and grippers from 0 to 1."""
    low, high = np.zeros(14), np.ones(14)
    for arm in range(2):
        joints = limits[8 * arm : 8 * arm + _JOINTS]
        low[7 * arm : 7 * arm + _JOINTS], high[7 * arm : 7 * arm + _JOINTS] = joints.T
    return spaces.Box(low.astype(np.float32), high.astype(np.float32), dtype=np.float32)
