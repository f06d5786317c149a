"""The range of states and actions that a policy was fitted on, as a part of its parameters."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from vla_data.errors import DataError

_FARTHEST = 5.0  # deviations
_FIXED = 1e-6  # what changes by less does not change


class Scaling(nn.Module):
    """States to mean 0 and deviation 1, at most 5 of them; actions to [-1, 1] between their bounds, and back.

    An element of actions that never changes keeps its value, whatever a policy says: nobody showed what else it
    does. One of states that hardly changes would be hundreds of deviations off once a policy moves it, hence the
    bound.

    Args:
        state: numbers of a state.
        dim: numbers of an action.
        slots: as of `PolicyConfig`: the same number of different objects is scaled alike.
    """

    def __init__(self, state: int, dim: int, slots: Sequence[int] = ()) -> None:
        super().__init__()
        self._slots = tuple(slots)
        self.register_buffer("state_mean", torch.zeros(state))
        self.register_buffer("state_scale", torch.ones(state))
        self.register_buffer("action_mean", torch.zeros(dim, dtype=torch.float64))
        self.register_buffer("action_scale", torch.ones(dim, dtype=torch.float64))

    def fit(self, states: ArrayLike, actions: ArrayLike) -> None:
        """Take the scales of ``(N, S)`` states and the bounds of ``(M, D)`` actions."""
        seen = np.asarray(states, dtype=np.float64)
        mean, spread = seen.mean(axis=0), seen.std(axis=0)
        if self._slots:
            first, objects, width = self._slots
            end = first + objects * width
            pooled = seen[:, first:end].reshape(-1, width)
            mean[first:end] = np.tile(pooled.mean(axis=0), objects)
            spread[first:end] = np.tile(pooled.std(axis=0), objects)
        self.state_mean.copy_(torch.from_numpy(mean))
        self.state_scale.copy_(torch.from_numpy(np.where(spread > _FIXED, spread, 1.0)))
        done = np.asarray(actions, dtype=np.float64)
        low, high = done.min(axis=0), done.max(axis=0)
        self.action_mean.copy_(torch.from_numpy((low + high) / 2))
        self.action_scale.copy_(torch.from_numpy(np.where(high - low > _FIXED, (high - low) / 2, 0.0)))

    def state(self, values: Tensor) -> Tensor:
        """``(B, S)`` scaled states."""
        out: Tensor = ((values - self.state_mean) / self.state_scale).clamp(-_FARTHEST, _FARTHEST)
        return out

    def scaled(self, actions: Tensor) -> Tensor:
        """``(..., D)`` float64 actions of about [-1, 1].

        Raises:
            DataError: E202, an element moves that never did when the scales were fitted.
        """
        moved, away = self.action_scale > 0, actions.to(torch.float64) - self.action_mean
        new = ~moved & (away.abs() > _FIXED)
        if new.any():
            element = int(torch.nonzero(new)[0, -1])
            raise DataError(
                "E202",
                f"element {element} of an action moves, but did not in the data that the policy was "
                "fitted on; fit a new policy",
            )
        out: Tensor = away / torch.where(moved, self.action_scale, 1.0)
        return out

    def actions(self, scaled: Tensor) -> Tensor:
        """``(..., D)`` float64: the way back, for values between the bounds; beyond, the bound."""
        out: Tensor = scaled.clamp(-1.0, 1.0) * self.action_scale + self.action_mean
        return out
