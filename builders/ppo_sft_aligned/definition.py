"""The one definition of ``ppo_sft_aligned``: its source, recipe, features and names.

``tfds build builders/ppo_sft_aligned`` and ``vla-data build ppo_sft_aligned`` both run it, and give the same
bytes for the same rollouts and options.
"""

from __future__ import annotations

import difflib
import hashlib
import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from converters.rlds.sink import RldsSink
from converters.rollouts.source import PpoRolloutSource
from vla_data.core import Elsewhere, Json, Sink, Source
from vla_data.core.curate import Step
from vla_data.core.manifest import is_made_by, read_manifest
from vla_data.errors import DataError, TargetExistsError, UsageError
from vla_data.files.write import make_folder, write_file
from vla_data.formats import open_source, place_sink
from vla_data.formats.sidecar import open_ledger
from vla_data.jobs.job import provenance
from vla_data.jobs.part import fingerprint
from vla_data.jobs.report import Report
from vla_data.jobs.run import run
from vla_data.safety.text import show
from vla_data.selection.subset import Selection
from vla_data.steps.recipes import ppo_sft

if TYPE_CHECKING:
    from vla_data.remote.storage import Storage

T = TypeVar("T")

NAME: Final = "ppo_sft_aligned"
VERSION: Final = "1.0.0"
DESCRIPTION: Final = (
    "Solved PPO rollouts, cut after their success and without idle steps, for supervised fine-tuning. "
    "Made by vla-data; vla_data/manifest.json says from what and how, vla_data/ledger.parquet where every "
    "source frame went."
)
HOMEPAGE: Final = "https://pypi.org/project/vla-data/"
IMAGE_SIZE: Final = (480, 640)
"""RL4VLA's; used in the features only until there is data, which has its own size."""

_SOURCE_OPTIONS: Final[dict[str, Any]] = {
    f.name: f.default if f.name != "allow_images" else frozenset()
    for f in fields(PpoRolloutSource)
    if f.name not in ("root", "camera", "outcomes")
}
_RECIPE_OPTIONS: Final = {name: p.default for name, p in inspect.signature(ppo_sft).parameters.items()}
_SINK_OPTIONS: Final = {
    f.name: f.default
    for f in fields(RldsSink)
    if f.name in ("step_fields", "metadata", "val_fraction", "jpeg_quality")
}
OPTIONS: Final[Mapping[str, Any]] = {**_SOURCE_OPTIONS, **_RECIPE_OPTIONS, **_SINK_OPTIONS}
"""Every option of the dataset -> its default."""

_DEFAULT: Final = ".config/metadata.json"
_DEFAULT_CONFIG: Final = b'{"default_config_name": "default"}'


@dataclass(frozen=True)
class Definition:
    """The dataset with one choice of options.

    Args:
        options: names and values of `OPTIONS` that are not the default.
        config: TFDS config name; empty: by the options.
    """

    options: Mapping[str, Any]
    config: str = ""

    def __post_init__(self) -> None:
        options = dict(self.options)
        for name, value in options.items():
            # JSON's 1 and the command line's 1.0 are one choice and must have one name.
            real = name == "fps" or isinstance(OPTIONS.get(name), float)
            if real and isinstance(value, int) and not isinstance(value, bool):
                options[name] = float(value)
            if name not in OPTIONS:
                close = difflib.get_close_matches(name, OPTIONS, n=1)
                hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(OPTIONS)}"
                raise UsageError("E001", f"{NAME} has no option {show(name)!r}; {hint}")
        object.__setattr__(self, "options", options)

    @property
    def config_name(self) -> str:
        """``default``, ``rlds`` for all RLDS step fields, or a hash of the options that are not default.

        Two choices of options never share a name, so that one never silently reuses the other's data.
        """
        changed = {name: _plain(v) for name, v in self.options.items() if _plain(v) != _plain(OPTIONS[name])}
        if self.config:
            return self.config
        if not changed:
            return "default"
        if changed == {"step_fields": "rlds"}:
            return "rlds"
        return "p" + hashlib.sha256(json.dumps(changed, sort_keys=True).encode()).hexdigest()[:10]

    def source(
        self, rollouts: Path | Storage, *, max_episodes: int | None = None, outcomes: bool | None = None
    ) -> Source:
        """The reader of a folder of rollouts, or of a LeRobot dataset, such as ``vla-data align`` writes.

        Args:
            rollouts: the folder.
            max_episodes: only the first so many.
            outcomes: whether rewards and the like are read; None: where ``step_fields`` has a place for them.
            Without,
                rollouts with and without any may be mixed.
        """
        chosen = self._chosen(_SOURCE_OPTIONS)
        if is_lerobot(rollouts):
            if chosen:
                raise UsageError("E001", f"{', '.join(chosen)} can't be chosen for a LeRobot dataset")
            source: Source = open_source(f"lerobot:{rollouts}")
            limited = max_episodes is not None and max_episodes < len(source.episodes())
            return Selection(source, tuple(range(max_episodes or 0))) if limited else source
        if max_episodes is not None:
            chosen["max_episodes"] = max_episodes
        chosen["outcomes"] = self.options.get("step_fields") == "rlds" if outcomes is None else outcomes
        return _valid(PpoRolloutSource, root=rollouts, **chosen)

    def steps(self, rollouts: Path | Storage | None) -> tuple[Step, ...]:
        """The recipe. A LeRobot dataset is taken as it is, unless an option of the recipe is given: one of ours
        has been through it, and its streaks are pruned ones.
        """
        if is_lerobot(rollouts) and not self._chosen(_RECIPE_OPTIONS):
            return ()
        return _valid(ppo_sft, **self._chosen(_RECIPE_OPTIONS))

    def folder(self, data_dir: Path) -> Path:
        """Where the dataset lies below a TFDS data dir."""
        return data_dir / NAME / self.config_name / VERSION

    def place(self, data_dir: Path | str) -> Path | str:
        """The same, where the data dir may be a URL."""
        if isinstance(data_dir, Path):
            return self.folder(data_dir)
        return f"{data_dir.rstrip('/')}/{self.folder(Path()).as_posix()}"

    def sink(self, folder: Path, *, num_shards: int | None = None) -> RldsSink:
        """What writes it."""
        return _valid(
            RldsSink,
            target=folder,
            name=NAME,
            config=self.config_name,
            version=VERSION,
            description=DESCRIPTION,
            num_shards=num_shards,
            **self._chosen(_SINK_OPTIONS),
        )

    def sink_at(self, folder: Path | str, *, num_shards: int | None = None) -> Sink:
        """`sink`, where ``folder`` may be a URL."""
        return place_sink(folder, lambda path: self.sink(path, num_shards=num_shards))

    def build(
        self,
        rollouts: Path | Storage,
        folder: Path | str,
        *,
        max_episodes: int | None = None,
        num_shards: int | None = None,
        curated: tuple[Source, tuple[Step, ...]] | None = None,
        **settings: Any,
    ) -> Report:
        """Make the dataset in ``folder``, which may be a URL; ``settings`` are those of `vla_data.run`.

        ``curated`` is another source, with its steps, than `source` and `steps` give.

        Raises:
            UsageError: an option has no such value.
            VlaDataError: see `vla_data.run`.
        """
        source, steps = curated or (self.source(rollouts, max_episodes=max_episodes), self.steps(rollouts))
        sink = self.sink_at(folder, num_shards=num_shards)
        report = run(source, steps, sink, **settings)
        if isinstance(folder, Path) and folder.parts[-3:] == self.folder(Path()).parts:
            # What `tfds.builder` looks up for a name without a config; stock TFDS writes it too.
            default = folder.parents[1] / _DEFAULT
            make_folder(default.parent)
            write_file(default, _DEFAULT_CONFIG, sync=False)
        elif isinstance(sink, Elsewhere):
            sink.place.above(2).write(_DEFAULT, _DEFAULT_CONFIG)
        return report

    def is_built(
        self, rollouts: Path, folder: Path, *, max_episodes: int | None = None, num_shards: int | None = None
    ) -> bool:
        """Whether ``folder`` holds this dataset, made of exactly these rollouts.

        Raises:
            TargetExistsError: E412 when it holds something else.
        """
        if not folder.exists():
            return False
        source = self.source(rollouts, max_episodes=max_episodes)
        wanted = provenance(source, self.steps(rollouts), self.sink(folder, num_shards=num_shards))
        try:
            is_same = is_made_by(read_manifest(folder / "vla_data"), wanted)
        except DataError:  # not ours, or damaged
            is_same = False
        if is_same:
            known = {record.id: record.source_sha256 for record in open_ledger(folder).records}
            if known == {ref.id: fingerprint(source, ref) for ref in source.episodes()}:
                return True
        raise TargetExistsError(
            "E412", f"{show(folder)} was built from other rollouts or options; --overwrite builds it anew"
        )

    def _chosen(self, group: Mapping[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in self.options.items() if name in group}

    def to_json(self) -> dict[str, Json]:
        """All options with their values."""
        return {name: _plain(self.options.get(name, default)) for name, default in sorted(OPTIONS.items())}


def is_lerobot(path: Path | Storage | None) -> bool:
    """Whether a folder is a LeRobot dataset."""
    return isinstance(path, Path) and (path / "meta/info.json").is_file()


def _valid(make: Callable[..., T], **options: Any) -> T:
    """What ``make`` makes of options that a user gave."""
    try:
        return make(**options)
    except (TypeError, ValueError) as error:
        raise UsageError("E001", show(error, escaped=True)) from None


def _plain(value: Any) -> Json:
    """JSON has no tuples and sets; equal options must look alike."""
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return sorted(value) if isinstance(value, frozenset | set) else value
