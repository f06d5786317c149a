"""``tfds build builders/ppo_sft_aligned --manual_dir=ROLLOUTS``: TFDS's door to the definition beside it."""

from __future__ import annotations

from typing import ClassVar

import tensorflow_datasets as tfds

from builders.tfds_door import RolloutBuilder, RolloutConfig

from .definition import Definition  # relative, so that a copy of this folder has its own


class PpoSftAlignedConfig(RolloutConfig):
    """Options of the dataset; see `RolloutConfig`."""

    DATASET = Definition


class Builder(RolloutBuilder):
    """Solved PPO rollouts for supervised fine-tuning."""

    CONFIG = PpoSftAlignedConfig
    name = Definition.NAME
    VERSION = tfds.core.Version(Definition.VERSION)
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First release."}
    # TFDS builds every config of this list when none is asked for. ``rlds`` is known by name all the same.
    BUILDER_CONFIGS: ClassVar[list[PpoSftAlignedConfig]] = [PpoSftAlignedConfig()]
