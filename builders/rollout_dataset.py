"""What a dataset of curated rollouts is: a source, a recipe, a sink, and names that follow from its options.

A dataset is a folder with a ``definition.py``, whose ``Definition`` derives from `RolloutDataset`, and the door
for ``tfds build`` beside it. ``tfds build`` and ``vla-data build`` run the definition, and give the same bytes for
the same rollouts and options.
"""

from __future__ import annotations

import difflib
import hashlib
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeVar

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

if TYPE_CHECKING:
    from vla_data.remote.storage import Storage

T = TypeVar("T")

_SOURCE_OPTIONS: Final[dict[str, Any]] = {
    f.name: f.default if f.name != "allow_images" else frozenset()
    for f in fields(PpoRolloutSource)
    if f.name not in ("root", "camera", "outcomes")
}
_SINK_OPTIONS: Final = {
    f.name: f.default
    for f in fields(RldsSink)
    if f.name in ("step_fields", "metadata", "val_fraction", "jpeg_quality")
}
_DEFAULT: Final = ".config/metadata.json"
_DEFAULT_CONFIG: Final = b'{"default_config_name": "default"}'


@dataclass(frozen=True)
class RolloutDataset:
    """A dataset with one choice of options.

    Args:
        options: names and values of ``OPTIONS`` that are not the default.
        config: TFDS config name; empty: by the options.

    Attributes:
        NAME: the dataset's; a copy of a dataset's folder under another name is another dataset.
        VERSION: of what its records are.
        DESCRIPTION: for people.
        HOMEPAGE: where people find more.
        IMAGE_SIZE: height and width in the features until there is data, which has its own.
        RECIPE: gives the steps; its parameters are options of the dataset.
        OPTIONS: every option of the dataset -> its default.
    """

    NAME: ClassVar[str]
    VERSION: ClassVar[str]
    DESCRIPTION: ClassVar[str]
    HOMEPAGE: ClassVar[str] = "https://pypi.org/project/vla-data/"
    IMAGE_SIZE: ClassVar[tuple[int, int]]
    RECIPE: ClassVar[Callable[..., Sequence[Step]]]
    OPTIONS: ClassVar[Mapping[str, Any]]

    options: Mapping[str, Any]
    config: str = ""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        lacking = [
            name for name in ("NAME", "VERSION", "DESCRIPTION", "IMAGE_SIZE", "RECIPE") if not hasattr(cls, name)
        ]
        if lacking:
            raise TypeError(f"class {cls.__qualname__} must say {', '.join(lacking)}")
        cls.OPTIONS = {**_SOURCE_OPTIONS, **cls._recipe_options(), **_SINK_OPTIONS}

    @classmethod
    def _recipe_options(cls) -> dict[str, Any]:
        return {name: p.default for name, p in inspect.signature(cls.RECIPE).parameters.items()}

    def __post_init__(self) -> None:
        options = dict(self.options)
        for name, value in options.items():
            # JSON's 1 and the command line's 1.0 are one choice and must have one name.
            real = name == "fps" or isinstance(self.OPTIONS.get(name), float)
            if real and isinstance(value, int) and not isinstance(value, bool):
                options[name] = float(value)
            if name not in self.OPTIONS:
                close = difflib.get_close_matches(name, self.OPTIONS, n=1)
                hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(self.OPTIONS)}"
                raise UsageError("E001", f"{self.NAME} has no option {show(name)!r}; {hint}")
        object.__setattr__(self, "options", options)

    @property
    def config_name(self) -> str:
        """``default``, ``rlds`` for all RLDS step fields, or a hash of the options that are not default.

        Two choices of options never share a name, so that one never silently reuses the other's data.
        """
        changed = {name: _plain(v) for name, v in self.options.items() if _plain(v) != _plain(self.OPTIONS[name])}
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
        if is_lerobot(rollouts) and not self._chosen(self._recipe_options()):
            return ()
        return tuple(_valid(type(self).RECIPE, **self._chosen(self._recipe_options())))

    def folder(self, data_dir: Path) -> Path:
        """Where the dataset lies below a TFDS data dir."""
        return data_dir / self.NAME / self.config_name / self.VERSION

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
            name=self.NAME,
            config=self.config_name,
            version=self.VERSION,
            description=self.DESCRIPTION,
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
        return {name: _plain(self.options.get(name, default)) for name, default in sorted(self.OPTIONS.items())}


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
