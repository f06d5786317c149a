"""What is known of an episode as a whole: ``Episode.meta``, and ``Record.meta`` of a ledger."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Generic, Self, TypeVar, overload

T = TypeVar("T")
_NEEDED: Final = object()


class Fact(Generic[T]):
    """A declared key of `EpisodeMeta`, read as an attribute.

    Args:
        default: what is read where the fact is not told; without one, reading it raises KeyError.
        kind: type of a container; a value of another type counts as not told.
    """

    def __init__(self, default: T | Any = _NEEDED, *, kind: type = object) -> None:
        self._default, self._kind = default, kind

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, meta: None, owner: type) -> Self: ...
    @overload
    def __get__(self, meta: EpisodeMeta, owner: type) -> T: ...
    def __get__(self, meta: EpisodeMeta | None, owner: type) -> T | Self:
        if meta is None:
            return self
        value: Any = meta.get(self._name, self._default)
        if not isinstance(value, self._kind):
            value = self._default
        if value is _NEEDED:
            raise KeyError(f"meta has no {self._name}, which the episode's source must tell")
        found: T = value
        return found


class EpisodeMeta(dict[str, Any]):
    """Facts of a whole episode: a dictionary of JSON values whose usual keys are attributes, too.

    ``meta.split`` reads ``meta["split"]``, or its default where that is not told. Other keys are kept as they are:
    a source or step of yours may tell facts of its own. ``EpisodeMeta(meta, solved=True)`` is ``meta`` with one
    fact more; a keyword must be a declared name (TypeError).
    """

    __slots__ = ()

    def __init__(self, told: Mapping[str, Any] | Iterable[tuple[str, Any]] = (), /, **declared: Any) -> None:
        if unknown := sorted(declared.keys() - DECLARED):
            raise TypeError(f"no declared fact of an episode is called {', '.join(unknown)}")
        super().__init__(told, **declared)

    # -- of every episode -----------------------------------------------------------------------------

    source = Fact[str | None](None)
    """Name of the format it was read from."""
    source_length = Fact[int]()
    """Steps in the source."""
    source_sha256 = Fact[str | None](None)
    """SHA-256 of the source's bytes, as `vla_data.BaseSource.fingerprint` gives it."""

    # -- of any, where known --------------------------------------------------------------------------

    split = Fact[str | None](None)
    """The split that the source has it in."""
    fps = Fact[float | None](None)
    """Control rate, steps per second."""
    robot = Fact[str | None](None)
    """Type of the robot."""
    env = Fact[str | None](None)
    """Name of the environment or task."""
    scene = Fact[str | None](None)
    """Name of the scene."""
    seed = Fact[int | None](None)
    """Seed of the environment."""
    success = Fact[bool | None](None)
    """Whether the source calls the whole episode a success."""
    solved = Fact[bool | None](None)
    """Whether a success rule found it solved, before anything was pruned."""
    episode_metadata = Fact[Mapping[str, Any] | None](None, kind=Mapping)
    """What the source says of the episode in words of its own."""
    origin = Fact[Mapping[str, Any] | None](None, kind=Mapping)
    """Of an episode that was converted before: ``id`` in the first source, and how that was read."""
    member = Fact[str | None](None)
    """Of a merged source: name of the source it is from."""
    resampled = Fact[Mapping[str, Any] | None](None, kind=Mapping)
    """``from`` and ``to``, steps per second, where its rate was changed."""
    declared = Fact[Mapping[str, Any]]({}, kind=Mapping)
    """Feature -> ``names`` and ``convention``, where an HDF5 file has them."""
    declared_features = Fact[Mapping[str, Any]]({}, kind=Mapping)
    """Feature -> ``names`` and ``convention``, where the recorder of a rollout was told."""

    # -- how it was read; ``<fact>_rule`` says why ----------------------------------------------------

    info_timing = Fact[str | None](None)
    """Rollouts: whether ``info[t]`` is of ``before`` or ``after`` action ``t``."""
    info_timing_rule = Fact[str | None](None)
    motion_planner = Fact[bool | None](None)
    """Rollouts: whether a motion planner made it."""
    layout = Fact[str]()
    """HDF5: the kind of file; other formats have none."""
    observation_time = Fact[str | None](None)
    """HDF5: whether observation ``t`` was seen ``before`` or ``after`` action ``t``."""
    observation_time_rule = Fact[str | None](None)
    language_rule = Fact[str | None](None)
    """HDF5: where the instruction is from."""
    image_orientation = Fact[str | None](None)
    """HDF5: what made the images upright: ``none``, ``vflip`` or ``rot180``."""
    image_orientation_rule = Fact[str | None](None)
    channel_order = Fact[str | None](None)
    """HDF5: order of the colours of the images: ``rgb`` or ``bgr``."""
    channel_order_rule = Fact[str | None](None)
    file_channel_order = Fact[str | None](None)
    """HDF5: the same of images that are stored as PNG or JPEG, where a file has both kinds."""
    controller = Fact[Mapping[str, Any] | None](None, kind=Mapping)
    """HDF5: options of the simulator's controller."""
    env_args = Fact[str | Mapping[str, Any] | None](None)
    """robomimic's description of the environment, as JSON or its text."""
    env_version = Fact[str | None](None)
    """HDF5: version of the simulator."""
    masks = Fact[Sequence[str]]((), kind=list)
    """HDF5: the masks that the file has it in."""
    mask_names = Fact[Sequence[str]]((), kind=list)
    """HDF5: all masks of the file."""
    instruction_feature = Fact[str | None](None)
    """RLDS: path of the feature with the instruction."""
    episode_metadata_types = Fact[Mapping[str, str]]({}, kind=Mapping)
    """RLDS: key of `episode_metadata` -> declared type."""
    recorded_positions = Fact[Mapping[str, Any]]({}, kind=Mapping)
    """RLDS: ``is_first`` and ``is_last`` as recorded, where they contradict the positions."""
    task_table = Fact[str | None](None)
    """LeRobot: name of the table of instructions."""
    task_columns = Fact[Sequence[str]]((), kind=list)
    """LeRobot: columns of numbers of that table."""
    tools = Fact[Sequence[Any]]((), kind=list)
    """LeRobot: what its `info.json` says of tools that the instructions may call."""


DECLARED: Final = frozenset(name for name, fact in vars(EpisodeMeta).items() if isinstance(fact, Fact))
"""Names of the declared facts."""
