"""A policy that sees: cameras, its prompt and the robot's own numbers, and none of the objects'.

Its chunks are bins, as `training_adapters.policies.binned` says. In training a batch may have ``target``, where
the block is that the prompt names: what a simulator knows and a robot does not. A second loss then teaches the
pointer of `training_adapters.policies.sight` to say it. Nothing reads it when the policy acts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional

from training_adapters.policies.binned import TEXT, BinConfig, Binned, distributions, fitted, perceptron
from training_adapters.policies.sight import Sight
from training_adapters.policy import Batch
from vla_data import options as checks

TARGET: Final = "target"
"""``(B, 3)`` of a batch, in metres: the label of the second loss."""
_WEIGHT: Final = 3.0  # of the second loss
_NEAR: Final = 0.1  # of a decimetre: below it an error counts by its square
_AWAY, _PLACE = 5.0, 10.0  # factors of what the pointer says, as the perceptron reads it


@dataclass(frozen=True, kw_only=True)
class PixelConfig(BinConfig):
    """The form of a `PixelPolicy`.

    Attributes:
        cameras: names, as in ``observation.images.<name>``.
        size: height and width of their images.
        own: elements of the state that are the robot's own: it reads these and no others.
        hand: which of them are its hand's x, y, z in metres.
        origin: where the hand is in the world where these are 0, in metres.
    """

    cameras: tuple[str, ...]
    size: int
    own: tuple[int, ...]
    hand: tuple[int, int, int]
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("cameras", "own", "hand", "origin"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        checks.whole("size", self.size, low=8, high=1024)
        if not self.cameras or not all(isinstance(camera, str) for camera in self.cameras):
            raise ValueError(f"cameras {self.cameras} are not names")
        if not {*self.own, *self.hand} <= set(range(self.state)) or len(self.hand) != 3 or len(self.origin) != 3:
            raise ValueError(f"own {self.own} and hand {self.hand} are not elements of a state of {self.state}")


class PixelPolicy(Binned):
    """See the module; of about 0.15 M parameters by default.

    Args:
        config: its form.
    """

    def __init__(self, config: PixelConfig) -> None:
        super().__init__(config)
        self.config: PixelConfig = config
        self.sight = Sight(len(config.cameras), config.size, len(self.vocabulary), TEXT)
        self.layers = perceptron(len(config.own) + self.sight.width + 6, config)
        self.register_buffer("_own", torch.tensor(config.own), persistent=False)
        self.register_buffer("_hand", torch.tensor(config.hand), persistent=False)
        self.register_buffer("_origin", torch.tensor(config.origin), persistent=False)

    @property
    def cameras(self) -> tuple[str, ...]:
        """See `training_adapters.policy.cameras_of`."""
        return self.config.cameras

    def log_probs(self, batch: Batch) -> Tensor:
        """See `Binned`."""
        return self._seen(batch)[0]

    def point(self, batch: Batch) -> Tensor:
        """``(B, 3)`` metres: where it takes the block to be that the prompt names."""
        return self._seen(batch)[1]

    def loss(self, batch: Batch) -> Tensor:
        """``(B,)``: as of `Binned`, and where a batch has ``target`` the pointer's error besides."""
        log_probs, point = self._seen(batch)
        loss = self.missed(log_probs, batch)
        if TARGET not in batch:
            return loss
        target = batch[TARGET].to(point.dtype)
        away = functional.smooth_l1_loss(_PLACE * point, _PLACE * target, beta=_NEAR, reduction="none")
        out: Tensor = loss + _WEIGHT * away.mean(dim=1)
        return out

    def _seen(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Log-probabilities of the bins, and the pointer."""
        state = batch["observation.state"]
        images = torch.stack([batch[f"observation.images.{camera}"] for camera in self.config.cameras], dim=1)
        seen, point = self.sight(images, self.vocabulary.encode(batch["task"]))
        away = point - state[:, self._hand] - self._origin
        own = self.scaling.state(state)[:, self._own]
        told = torch.cat([own, seen, _AWAY * away, _PLACE * point], dim=1)
        return distributions(self.layers(told), self.config), point


def new_pixel_policy(
    states: Any, actions: Any, words: tuple[str, ...], *, slots: tuple[int, ...], pixels: Mapping[str, Any]
) -> PixelPolicy:
    """A policy with random parameters that knows the scales of its data.

    Args:
        states: ``(N, S)``.
        actions: ``(N, H, D)`` in the environment's units.
        words: that prompts may have.
        slots: where objects are in the state: the policy does not read them, a critic beside it may.
        pixels: the options of `PixelConfig` that an environment says; see `training_adapters.envs.table.Row`.
    """
    form, scaling = fitted(states, actions, words, slots)
    policy = PixelPolicy(PixelConfig(**form, **pixels))
    policy.scaling.load_state_dict(scaling.state_dict())
    return policy
