"""TFDS's door to a `RolloutDataset`: ``tfds build FOLDER --manual_dir=ROLLOUTS``.

TFDS's command line, layout, ``builder.info`` and readers are its own; reading, curating, encoding and writing
are vla-data's, so that one bad rollout costs one episode, a killed build goes on where it was, memory does not
grow with the data, and the bytes are those of ``vla-data build``.

When TFDS's command line has loaded this file, errors are one line and the exit codes are vla-data's. For any
other caller `RolloutBuilder.download_and_prepare` raises `vla_data.VlaDataError`.
"""

from __future__ import annotations

import atexit
import json
import multiprocessing
import os
import re
import signal
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Final

import tensorflow_datasets as tfds

from builders.rollout_dataset import RolloutDataset
from vla_data.core import Feature, Schema
from vla_data.errors import TargetExistsError, UsageError, VlaDataError
from vla_data.formats.sidecar import open_ledger
from vla_data.jobs.report import Report
from vla_data.safety.text import show

_COMMAND_LINE: Final = "tensorflow_datasets.scripts.cli.build" in sys.modules
_DEFAULT: Final = "default"
_RLDS: Final = "rlds"


class RolloutConfig(tfds.core.BuilderConfig):
    """Options of a dataset, for example ``--config='{"min_success_steps": 6, "pos_thresh": 0.01}'``.

    See ``vla-data build --help`` for all of them. Without a ``name`` the config is named by its options, so that
    another choice never reuses this one's data.
    """

    DATASET: ClassVar[type[RolloutDataset]]

    def __init__(self, *, name: str = "", description: str = "", **options: Any) -> None:
        self.definition = self.DATASET(options, _checked(name, self.DATASET(options).config_name))
        try:
            self.definition.source(Path())
            self.definition.steps(Path())
            self.definition.sink(Path())
        except (TypeError, ValueError) as error:
            raise UsageError("E001", show(error, escaped=True)) from None
        super().__init__(
            name=self.definition.config_name,
            version=tfds.core.Version(self.DATASET.VERSION),
            description=description or f"Options: {self.definition.to_json()}",
        )


def _checked(name: Any, by_options: str) -> str:
    """A config name that is a folder's, no version's, and not the one that other options have of their own."""
    if name == "":
        return ""
    if not isinstance(name, str) or not re.fullmatch(r"\w[\w.+-]{0,99}", name, re.ASCII):
        raise UsageError("E001", f"{show(name)!r} is not a config name; use letters, digits and _ . + -")
    if tfds.core.Version.is_valid(name):
        raise UsageError(
            "E001", f"{name!r} is not a config name, because TFDS takes it for a version; use another"
        )
    if name in (_DEFAULT, _RLDS) and name != by_options:
        raise UsageError("E001", f"config name {name!r} stands for other options; choose another, or none")
    return name


class _KeptPath(type(tfds.core.Path())):  # type: ignore[misc]
    """A dataset's folder that ``tfds build --overwrite`` does not remove before there is a new dataset."""

    def rmtree(self, missing_ok: bool = False) -> None:
        """Nothing; `RolloutBuilder.download_and_prepare` removes the old dataset when the new one is published."""


class RolloutBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Builds a `RolloutDataset`. A dataset's own ``Builder`` has its name, version and configs.

    Attributes:
        CONFIG: class of its options.
        report: what became of every episode and frame; None before `download_and_prepare`.
    """

    CONFIG: ClassVar[type[RolloutConfig]]
    MANUAL_DOWNLOAD_INSTRUCTIONS = "Give the folder of your rollouts: --manual_dir=ROLLOUTS"

    report: Report | None = None

    def __init__(
        self, *, data_dir: Any = None, config: Any = None, version: Any = None, file_format: Any = None
    ) -> None:
        if "://" in str(data_dir or ""):
            raise UsageError("E001", f"{show(data_dir)} is not a local folder; use `vla-data build` for it")
        _check_format(file_format)
        super().__init__(data_dir=data_dir, config=self._known(config), version=version)

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=self._definition.DESCRIPTION,
            homepage=self._definition.HOMEPAGE,
            features=self._features(),
            metadata=tfds.core.MetadataDict(self._definition.to_json()),
        )

    @property
    def _definition(self) -> RolloutDataset:
        found: RolloutDataset = self.builder_config.definition
        return found

    @property
    def data_path(self) -> Any:
        """The folder of the dataset."""
        path = super().data_path
        return _KeptPath(path) if _COMMAND_LINE else path

    def _features(self) -> tfds.features.FeaturesDict:
        """From the dataset if it is there, because its images have the size that its data has."""
        if (self.data_path / "features.json").exists():
            return tfds.features.FeatureConnector.from_config(self.data_dir)
        image = Feature(dtype="image", shape=(*self._definition.IMAGE_SIZE, 3))
        schema = Schema(features={"observation.images.primary": image}, fps=0)
        return tfds.features.FeatureConnector.from_json(self._definition.sink(Path()).features(schema))

    def download_and_prepare(
        self,
        *,
        download_dir: Any = None,
        download_config: Any = None,
        file_format: Any = None,
        permissions: Any = None,
    ) -> None:
        """Build the dataset, or find that it is built already from the same rollouts and options.

        Quarantined episodes do not fail the call; they are in `report`.

        Raises:
            VlaDataError: there is no such dataset now, and what was there before is as it was.
        """
        config = download_config or tfds.download.DownloadConfig()
        _check_format(file_format)
        self._check(config)
        rollouts, folder = Path(config.manual_dir).expanduser(), Path(self.data_dir)
        limit = config.max_examples_per_split
        replace = config.download_mode.overwrite_dataset
        definition = self._definition
        if not replace and definition.is_built(rollouts, folder, max_episodes=limit, num_shards=config.num_shards):
            self.report = Report(folder, open_ledger(folder))
        else:
            self.report = definition.build(
                rollouts,
                folder,
                max_episodes=limit,
                num_shards=config.num_shards,
                replace=replace,
                on_problem=_say,
                **_with_beam(config),
            )
        self.info.read_from_directory(folder)
        # The images have the size that the data has, which was not known when this object was made.
        self.info._features = tfds.features.FeatureConnector.from_config(str(folder))
        vars(self).pop("_example_specs", None)
        if _COMMAND_LINE:
            print(self.report)  # noqa: T201
            for line in self.report.warnings:
                _say(f"warning: {line}")
            if self.report.exit_code:
                atexit.register(_leave, self.report.exit_code)

    def _check(self, config: Any) -> None:
        """Refuse what was asked for and would not be done."""
        stock = tfds.download.DownloadConfig
        shard_sizes = (config.min_shard_size, config.max_shard_size)
        if shard_sizes != (stock.min_shard_size, stock.max_shard_size):
            raise UsageError("E001", "shards are not cut by a given size; use --num_shards")
        if config.download_mode == tfds.download.GenerateMode.UPDATE_DATASET_INFO:
            raise UsageError("E001", "metadata is not updated alone; --overwrite builds the dataset anew")
        if _COMMAND_LINE and any(word.startswith("--publish_dir") for word in sys.argv):
            raise UsageError("E001", "--publish_dir would leave out vla_data/; copy the dataset with cp -r")
        if config.manual_dir is None:
            raise UsageError("E001", f"there are no rollouts. {self.MANUAL_DOWNLOAD_INSTRUCTIONS}")
        if multiprocessing.current_process().daemon:
            raise UsageError("E001", "episodes are spread over all cores already; leave out --num_processes")

    @classmethod
    def _known(cls, config: Any) -> Any:
        """What TFDS wants for a config: the name of a listed one, or an object whose name no listed one has."""
        if isinstance(config, str):
            name = config.partition(":")[0]
            if name == _RLDS:
                return cls.CONFIG(step_fields="rlds")
            if name != _DEFAULT:
                raise UsageError(
                    "E001",
                    f"there is no config {show(name)!r}; known are {_DEFAULT} and {_RLDS}, and options as JSON, "
                    "for example --config='{\"min_success_steps\": 6}'",
                )
        elif config is not None and config.name == _DEFAULT:
            return _DEFAULT
        return config

    def _split_generators(self, dl_manager: Any) -> Any:
        raise AssertionError("download_and_prepare does it all")

    def _generate_examples(self) -> Any:
        raise AssertionError("download_and_prepare does it all")


def _with_beam(config: Any) -> dict[str, Any]:
    """The engine of a build on Beam, which gives the same bytes; nothing for a build without."""
    if not config.beam_runner and not config.beam_options:
        return {}
    from vla_data.jobs.beam.engine import BeamEngine, open_pipeline

    found = config.beam_options
    given = found.get_all_options(drop_default=True, retain_unknown_options=True) if found else {}
    if config.beam_runner:
        given["runner"] = str(config.beam_runner)
    options = tuple(_flag(name, value) for name, value in sorted(given.items()))
    open_pipeline(options)  # what Beam does not take is refused before any work
    return {"engine": BeamEngine(options)}


def _flag(name: str, value: Any) -> str:
    return f"--{name}" if value is True else f"--{name}={value}"


def _check_format(file_format: Any) -> None:
    if file_format is not None and str(getattr(file_format, "value", file_format)) != "tfrecord":
        raise UsageError("E001", "this dataset is written as tfrecord only; leave out --file_format")


def _say(line: str) -> None:
    print(f"vla-data: {line}", file=sys.stderr)  # noqa: T201 - as the vla-data command does


def _leave(code: int) -> None:
    """Give the process the exit code ``code``, which TFDS has no way to pass on, unless it fails anyhow."""
    if not hasattr(sys, "last_value"):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _one_line(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """An exception hook that shows expected errors as one line and exits with their code."""
    if isinstance(error, KeyboardInterrupt):
        _say("interrupted; the same command goes on where this one stopped")
        sys.exit(130)
    if isinstance(error, json.JSONDecodeError):
        error = UsageError("E001", f"--config or --download_config is not JSON: {error}")
    elif isinstance(error, RuntimeError) and str(error).startswith("The `fail_if_exists` flag was True"):
        error = TargetExistsError("E411", str(error).partition(" and ")[2])
    if not isinstance(error, VlaDataError):
        _python_hook(kind, error, trace)
        return
    _say(str(error))
    sys.exit(error.exit_code)


def _terminate(number: int, _frame: Any) -> None:
    raise SystemExit(128 + number)


_python_hook: Final = sys.excepthook
if _COMMAND_LINE:
    sys.excepthook = _one_line
    signal.signal(signal.SIGTERM, _terminate)
