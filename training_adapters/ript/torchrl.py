"""The same rollouts for TorchRL, whose `MCAdvantage` compares groups as they are written into a replay buffer.

    transform = MCAdvantage(8, prompt_key=GROUP, trajectory_return="sum", keep_return_bounds=(0, 1))
    buffer = ReplayBuffer(storage=LazyTensorStorage(10_000), transform=transform)
    for trajectory in trajectories(outcomes, rollouts):
        buffer.extend(trajectory)

Its advantage is ``(R - mean) / std`` of a group with the unbiased deviation, ours ``K / (K - 1) (R - mean)``: that
is the same times ``K / (K - 1) std``. Groups of equal rewards are dropped by both; one that is not whole waits in
its queue for ever, and is used by ours as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

import torch

from training_adapters.ript.groups import Outcome
from training_adapters.ript.rollouts import Rollout
from vla_data.errors import MissingExtraError

if TYPE_CHECKING:
    from tensordict import TensorDict

GROUP: Final = "group"
"""Key of the group's number, the same in all steps of its rollouts."""


def trajectories(outcomes: Sequence[Outcome], rollouts: Sequence[Rollout]) -> Iterator[TensorDict]:
    """A TensorDict ``(T,)`` of each rollout, step by step, with its group's number.

    - ``group`` (T,) int64; ``observation`` (T, S) float32; ``action`` (T, D) float32
    - ``next``: ``reward`` (T, 1) float32, whose sum is the rollout's reward; ``done`` (T, 1), at the last step

    Args:
        outcomes: which say what group each rollout is of.
        rollouts: the same, in the same order.

    Raises:
        MissingExtraError: E006, tensordict is not installed.
    """
    try:
        from tensordict import TensorDict
    except ModuleNotFoundError:
        raise MissingExtraError("E006", "tensordict is not installed: pip install torchrl") from None
    numbers: dict[str, int] = {}
    for outcome, rollout in zip(outcomes, rollouts, strict=True):
        steps = len(rollout.action)
        number = numbers.setdefault(outcome.label, len(numbers))
        reward, done = torch.zeros(steps, 1), torch.zeros(steps, 1, dtype=torch.bool)
        reward[-1], done[-1] = outcome.reward, True
        facts: dict[str, Any] = {
            GROUP: torch.full((steps,), number),
            "observation": torch.from_numpy(rollout.state),
            "action": torch.from_numpy(rollout.action),
            "next": TensorDict({"reward": reward, "done": done}, batch_size=[steps]),
        }
        yield TensorDict(facts, batch_size=[steps])
