"""gym-pusht: a disc pushes a T onto its mark, in two dimensions. https://github.com/huggingface/gym-pusht."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium

from training_adapters.envs.named import Named, cameras_of
from vla_data.errors import UsageError
from vla_data.safety.text import show


def make(name: str, cameras: Sequence[str]) -> gymnasium.Env[dict[str, Any], Any]:
    """The environment: from key points of the T, or from pixels where the camera ``top`` is asked for."""
    import gym_pusht  # noqa: F401 - registers its names

    if name != "PushT-v0":
        raise UsageError("E001", f"gym_pusht has no {show(name)!r}; there is PushT-v0")
    wanted = tuple(cameras)
    return Named(
        gymnasium.make(
            "gym_pusht/PushT-v0", obs_type="pixels_agent_pos" if wanted else "environment_state_agent_pos"
        ),
        task="push the t onto the target",
        observe=lambda seen: cameras_of(seen, wanted),
        solved=lambda info: bool(info.get("is_success", False)),
    )
