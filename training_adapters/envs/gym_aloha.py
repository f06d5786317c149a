"""gym-aloha: two arms of 14 numbers, in MuJoCo. https://github.com/huggingface/gym-aloha."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import gymnasium

from training_adapters.envs.named import Named, cameras_of
from vla_data.errors import UsageError
from vla_data.safety.text import show

PROMPTS: Final = {
    "AlohaInsertion-v0": "insert the peg into the socket",
    "AlohaTransferCube-v0": "transfer the cube from the right arm to the left arm",
}


def make(name: str, cameras: Sequence[str]) -> gymnasium.Env[dict[str, Any], Any]:
    """An environment by its name in gym-aloha; solved where its reward is 4, its highest.

    ``agent_pos`` is the arms' alone: where the cube or the peg is, only the camera ``top`` sees.
    """
    import gym_aloha  # noqa: F401 - registers its names

    if name not in PROMPTS:
        raise UsageError("E001", f"gym_aloha has no {show(name)!r}; there are {', '.join(PROMPTS)}")
    wanted = tuple(cameras)
    return Named(
        gymnasium.make(f"gym_aloha/{name}", obs_type="pixels_agent_pos"),
        task=PROMPTS[name],
        observe=lambda seen: cameras_of(seen, wanted),
        solved=lambda info: bool(info.get("is_success", False)),
    )
