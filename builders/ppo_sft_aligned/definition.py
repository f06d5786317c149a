"""The one definition of ``ppo_sft_aligned``: its names and its recipe. The folder is the dataset's name."""

from __future__ import annotations

from pathlib import Path

from builders.rollout_dataset import RolloutDataset
from vla_data.steps.recipes import ppo_sft


class Definition(RolloutDataset):
    """Solved PPO rollouts for supervised fine-tuning; the elements are those of RL4VLA's SFT datasets."""

    NAME = Path(__file__).parent.name
    VERSION = "1.0.0"
    DESCRIPTION = (
        "Solved PPO rollouts, cut after their success and without idle steps, for supervised fine-tuning. "
        "Made by vla-data; vla_data/manifest.json says from what and how, vla_data/ledger.parquet where every "
        "source frame went."
    )
    IMAGE_SIZE = (480, 640)  # RL4VLA's
    RECIPE = staticmethod(ppo_sft)


NAME = Definition.NAME
VERSION = Definition.VERSION
DESCRIPTION = Definition.DESCRIPTION
HOMEPAGE = Definition.HOMEPAGE
OPTIONS = Definition.OPTIONS
