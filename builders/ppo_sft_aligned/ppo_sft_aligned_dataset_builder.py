"""``tfds build builders/ppo_sft_aligned --manual_dir=ROLLOUTS``: TFDS's door to the definition.

TFDS's command line, layout, ``builder.info`` and readers are its own; reading, curating, encoding and writing
are vla-data's, so that one bad rollout costs one episode, a killed build goes on where it was, memory does not
grow with the data, and the bytes are those of ``vla-data build``.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from builders.ppo_sft_aligned.definition import (
    DESCRIPTION,
    HOMEPAGE,
    IMAGE_SIZE,
    NAME,
    VERSION,
    Definition,
)
from vla_data.errors import UsageError, VlaDataError


class PpoSftAlignedConfig(tfds.core.BuilderConfig):
    """Options of the dataset, for example ``--config='{"min_success_steps": 6, "pos_thresh": 0.01}'``.

    See ``vla-data build ppo_sft_aligned --help`` for all of them. Without a ``name`` the config is named by its
    options, so that another choice never reuses this one's data.
    """

    def __init__(self, *, name: str = "", description: str = "", **options: Any) -> None:
        self.definition = Definition(options, name)
        super().__init__(
            name=self.definition.config_name,
            version=tfds.core.Version(VERSION),
            description=description or f"Options: {self.definition.to_json()}",
        )


class Builder(tfds.core.GeneratorBasedBuilder):
    """Solved PPO rollouts for supervised fine-tuning."""

    name = NAME
    VERSION = tfds.core.Version(VERSION)
    RELEASE_NOTES = {VERSION: "First release."}
    BUILDER_CONFIGS = [PpoSftAlignedConfig(name="default")]
    MANUAL_DOWNLOAD_INSTRUCTIONS = "Give the folder of your rollouts: --manual_dir=ROLLOUTS"

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=DESCRIPTION,
            homepage=HOMEPAGE,
            features=self._features(),
            metadata=tfds.core.MetadataDict(self._definition.to_json()),
        )

    @property
    def _definition(self) -> Definition:
        return self.builder_config.definition

    def _features(self) -> tfds.features.FeaturesDict:
        """From the dataset if it is there, because its images have the size that its data has."""
        if (self.data_path / "features.json").exists():
            return tfds.features.FeatureConnector.from_config(str(self.data_path))
        options = self._definition.options
        image = tfds.features.Image(shape=(*IMAGE_SIZE, 3), dtype=np.uint8, encoding_format="jpeg")
        step: dict[str, Any] = {
            "observation": {"image": image},
            "action": tfds.features.Tensor(shape=(7,), dtype=np.float32),
            "language_instruction": tfds.features.Text(),
        }
        if options.get("step_fields") == "rlds":
            for flag in ("is_first", "is_last", "is_terminal"):
                step[flag] = tfds.features.Scalar(dtype=np.bool_)
            for number in ("reward", "discount"):
                step[number] = tfds.features.Scalar(dtype=np.float32)
        metadata: dict[str, Any] = {"file_path": tfds.features.Text()}
        if options.get("metadata") != "rl4vla":
            metadata["source"] = tfds.features.Text()
            metadata["original_length"] = tfds.features.Scalar(dtype=np.int32)
            metadata["filtered_length"] = tfds.features.Scalar(dtype=np.int32)
        return tfds.features.FeaturesDict({"steps": tfds.features.Dataset(step), "episode_metadata": metadata})

    def download_and_prepare(
        self,
        *,
        download_dir: Any = None,
        download_config: Any = None,
        file_format: Any = None,
        permissions: Any = None,
    ) -> None:
        """Build the dataset, or find that it is built already from the same rollouts and options.

        Exits with vla-data's exit code and one line when it can't.
        """
        config = download_config or tfds.download.DownloadConfig()
        try:
            self._prepare(config, file_format)
        except VlaDataError as error:
            print(f"vla-data: {error}", file=sys.stderr)  # noqa: T201 - a command line's last word
            raise SystemExit(error.exit_code) from None

    def _prepare(self, config: Any, file_format: Any) -> None:
        if config.beam_runner or config.beam_options:
            raise UsageError("E001", "this dataset is not built with Beam; leave out --beam_pipeline_options")
        if file_format is not None and str(getattr(file_format, "value", file_format)) != "tfrecord":
            raise UsageError("E001", "this dataset is written as tfrecord only")
        if config.manual_dir is None:
            raise UsageError("E001", f"there are no rollouts. {self.MANUAL_DOWNLOAD_INSTRUCTIONS}")
        rollouts, folder = Path(config.manual_dir), Path(self.data_path)
        limit = config.max_examples_per_split
        replace = config.download_mode.overwrite_dataset
        definition = self._definition
        if replace or not definition.is_built(rollouts, folder, max_episodes=limit):
            report = definition.build(
                rollouts,
                folder,
                max_episodes=limit,
                num_shards=config.num_shards,
                replace=replace,
                on_problem=lambda line: print(f"vla-data: {line}", file=sys.stderr),  # noqa: T201
            )
            print(report)  # noqa: T201
        self.info.read_from_directory(self.data_path)
        # The images have the size that the data has, which was not known when this object was made.
        self.info._features = tfds.features.FeatureConnector.from_config(str(folder))

    def _split_generators(self, dl_manager: Any) -> Any:
        raise AssertionError("download_and_prepare does it all")

    def _generate_examples(self) -> Any:
        raise AssertionError("download_and_prepare does it all")
