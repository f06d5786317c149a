"""A policy in RDT's slots as one of an environment: its observations in, and the way back to its actions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from converters.rdt.vectors import mask_of, slotted, to_actions
from training_adapters.policies.flow import SLOTS, FlowConfig, FlowPolicy
from training_adapters.policy import Batch, Chunk
from vla_data.actions import Convention, convert
from vla_data.core import Json


@dataclass(frozen=True)
class UnifiedPlayer:
    """Plays a policy whose chunks are in physical units.

    Attributes:
        policy: what acts.
        actions: the convention of its chunks in the slots.
        target: that of the environment's actions.
        states: that of the environment's ``observation.state``.
        fps: of the environment, in Hz.
        observed: whether the policy sees all of ``observation.state`` besides.
    """

    policy: FlowPolicy
    actions: Convention
    target: Convention
    states: Convention
    fps: float
    observed: bool

    def act(self, batch: Batch, generator: torch.Generator, *, temperature: float = 1.0) -> Chunk:
        """See `training_adapters.policy.Policy`."""
        raw = batch["observation.state"].numpy().astype(np.float64)
        state, mask = self.state(raw)
        parts = [state, raw] if self.observed else [state]
        chunk = self.policy.act(
            {
                "observation.state": torch.from_numpy(np.concatenate(parts, axis=1)).float(),
                "state_mask": torch.from_numpy(mask).float().expand(len(raw), SLOTS),
                "ctrl_freq": torch.full((len(raw),), self.fps),
                "task": batch["task"],
            },
            generator,
            temperature=temperature,
        )
        back = to_actions(
            chunk.actions.numpy(), self.actions, self.target, state=state, state_convention=self.slotted_states
        )
        return replace(chunk, actions=torch.from_numpy(np.asarray(back)))

    @classmethod
    def of(cls, policy: FlowPolicy, facts: Mapping[str, Any]) -> UnifiedPlayer:
        """A policy, with what `to_json` says of the rest."""
        conventions = {name: Convention.from_json(facts[name]) for name in ("actions", "target", "states")}
        return cls(policy, **conventions, fps=float(facts["fps"]), observed=bool(facts["observed"]))

    def to_json(self) -> dict[str, Json]:
        """All but the policy."""
        conventions = {name: getattr(self, name).to_json() for name in ("actions", "target", "states")}
        return {**conventions, "fps": self.fps, "observed": self.observed}

    @property
    def config(self) -> FlowConfig:
        """Of the policy."""
        return self.policy.config

    @property
    def slotted_states(self) -> Convention:
        """The convention of states in the slots."""
        return replace(slotted(self.states, "absolute"), controller=None)

    def state(self, raw: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """``(B, 128)`` of ``(B, S)`` observations, and which slots are filled."""
        target = self.slotted_states
        return convert(raw, self.states, target), mask_of(target)
