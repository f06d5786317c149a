"""LeRobot's diffusion policy under the guided loss: a small network around it that hands the indicator on."""

from __future__ import annotations

import torch
from lerobot.configs.types import FeatureType, PolicyFeature
from lerobot.policies.diffusion.configuration_diffusion import DiffusionConfig
from lerobot.policies.diffusion.modeling_diffusion import DiffusionModel
from torch import Tensor, nn
from torch.nn import functional

from training_adapters.policies.asked import INDICATOR
from training_adapters.policy import Batch

_STATE, _ASKED = "observation.state", "observation.environment_state"


def small_config(*, state: int, dim: int, horizon: int) -> DiffusionConfig:
    """A small configuration without cameras, whose environment state is the indicator.

    Args:
        state: numbers of ``observation.state``.
        dim: numbers of an action.
        horizon: actions of a chunk, a multiple of 4.
    """
    return DiffusionConfig(
        n_obs_steps=1,
        horizon=horizon,
        n_action_steps=horizon,
        drop_n_last_frames=0,
        down_dims=(32, 64),
        diffusion_step_embed_dim=32,
        input_features={
            _STATE: PolicyFeature(FeatureType.STATE, (state,)),
            _ASKED: PolicyFeature(FeatureType.ENV, (1,)),
        },
        output_features={"action": PolicyFeature(FeatureType.ACTION, (dim,))},
        device="cpu",
    )


class GuidedDiffusion(nn.Module):
    """`training_adapters.ript.branches.Guided`, by a ``DiffusionModel`` of LeRobot's.

    Batches have normalised ``observation.state`` ``(B, S)`` and ``action`` ``(B, H, D)``.

    Args:
        config: with the indicator as its environment state; see `small_config`.
    """

    def __init__(self, config: DiffusionConfig) -> None:
        super().__init__()
        self.config = config
        self.diffusion = DiffusionModel(config)

    def noise(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Normal noise ``(B, H, D)``, and diffusion steps ``(B,)``."""
        steps = self.diffusion.noise_scheduler.config.num_train_timesteps
        rows = len(batch["task"])
        return (
            torch.randn(batch["action"].shape, generator=generator),
            torch.randint(steps, (rows,), generator=generator),
        )

    def loss(self, batch: Batch, noise: Tensor | None = None, time: Tensor | None = None) -> Tensor:
        """``(B,)``: the mean squared error of LeRobot's own prediction, over steps before the end."""
        if noise is None or time is None:
            noise, time = self.noise(batch, torch.default_generator)
        seen = {_STATE: batch[_STATE][:, None], _ASKED: batch[INDICATOR].float()[:, None, None]}
        wanted = batch["action"].float()
        mixed = self.diffusion.noise_scheduler.add_noise(wanted, noise, time)
        found = self.diffusion.unet(mixed, time, global_cond=self.diffusion._prepare_global_conditioning(seen))
        target = noise if self.config.prediction_type == "epsilon" else wanted
        error = functional.mse_loss(found, target, reduction="none").mean(dim=-1)
        counts = ~batch["action_is_pad"] if "action_is_pad" in batch else torch.ones_like(error, dtype=torch.bool)
        out: Tensor = error.masked_fill(~counts, 0.0).sum(dim=1) / counts.sum(dim=1).clamp(min=1)
        return out
