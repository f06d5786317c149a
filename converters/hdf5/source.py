"""Reads demonstrations from HDF5: LIBERO, robomimic, ManiSkill, ALOHA and AgileX.

Each layout has a file of its own, ``hdf5_<layout>.py``, whose docstring says what is read and by which rules its
conventions are told. A convention that no rule tells must be declared; what was taken, and why, is in each
episode's ``meta``.
"""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Collection, Container, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal

from numpy.typing import NDArray

from converters.hdf5 import files as hdf5_files
from converters.hdf5.absolute import NOTE as POSES
from converters.hdf5.conventions import action_convention, state_convention
from converters.hdf5.dialects import aloha as hdf5_aloha
from converters.hdf5.dialects import maniskill as hdf5_maniskill
from converters.hdf5.dialects.base import Layout
from converters.hdf5.episode import build
from converters.hdf5.evidence import evidence
from converters.hdf5.hidden import hidden
from converters.hdf5.listing import DIALECTS, Listing, NotADemoFileError, layout_of, list_files
from vla_data import options as checks
from vla_data.core import Episode, EpisodeMeta, EpisodeRef, Feature, Json, Schema
from vla_data.core.base import RootedSource
from vla_data.errors import DataError, UsageError
from vla_data.files.folders import LINKED_FOLDER, is_apple_double, is_litter
from vla_data.files.sums import SEAL, read_seal
from vla_data.names import natural
from vla_data.safety import text
from vla_data.safety.files import Facts, open_regular, state_of
from vla_data.safety.hdf5 import File, Group

_SPLITS: Final = ("train", "valid", "val", "test")
_MAX_MASKS: Final = 64
_STATE: Final = "observation.state"
_DIALECTS: Final[Mapping[str, Layout]] = {layout.name: layout for layout in sorted(DIALECTS, key=lambda a: a.name)}
_SIDECARS: Final = (hdf5_aloha.sidecar, hdf5_maniskill.sidecar)
_UPRIGHT: Final = {"none": "as_recorded", "vflip": "vflip", "rot180": "rot180"}


@dataclass(frozen=True, kw_only=True)
class Hdf5Source(RootedSource):
    """Reads a folder (with its subfolders) of HDF5 files, or one file. See this module and ``docs/hdf5.md``.

    Attributes:
        root: the folder or file.
        layout: "aloha", "libero", "maniskill", "robomimic", or "auto": told by each file's groups.
        observation_time: whether observation ``j`` was taken "before" or "after" action ``j``; "auto": by the
            layout's rules.
        image_orientation: what makes the images upright, "none", "vflip" or "rot180"; "auto": by the rules.
        channel_order: in which images have their channels once decoded, "rgb" or "bgr"; "auto": by the rules.
        task: the instruction of all episodes; None: what the files say.
        instruction: the attribute of the demo or of its file, or the path of the dataset below the demo, that
            holds the instruction; None: by names that are known.
        language: where an instruction is taken from, "file_name" or "attributes"; "auto": by the rules.
        mask: only the demos that ``mask/<this>`` lists.
        leave_out: paths of datasets or groups below a demo that are not read, such as ``obs/depth``; each is in
            the notes.
        next_obs: also read ``next_obs`` of robomimic's layout, as ``next.observation.*``, without its images.
        fps: control rate in steps per second; None: what the files say.
        action_limit: largest absolute action value that a robot can mean.
        allow_empty_instruction: keep demos without a text.
        unwanted: features that nobody will look at; see `without`.
        unneeded: facts that nobody will look at; see `not_asking`.
    """

    root: Path = field(repr=False)
    layout: Literal["auto", "aloha", "libero", "maniskill", "robomimic"] = "auto"
    observation_time: Literal["auto", "before", "after"] = "auto"
    image_orientation: Literal["auto", "none", "vflip", "rot180"] = "auto"
    channel_order: Literal["auto", "rgb", "bgr"] = "auto"
    task: str | None = None
    instruction: str | None = None
    language: Literal["auto", "file_name", "attributes"] = "auto"
    mask: str | None = None
    leave_out: tuple[str, ...] = ()
    next_obs: bool = False
    fps: float | None = None
    action_limit: float = 100.0
    allow_empty_instruction: bool = False
    unwanted: Container[str] = field(default=(), repr=False, compare=False)
    unneeded: Collection[str] = field(default=(), repr=False, compare=False)

    def __post_init__(self) -> None:
        checks.one_of("layout", self.layout, ("auto", *_DIALECTS))
        checks.one_of("observation_time", self.observation_time, ("auto", "before", "after"))
        checks.one_of("image_orientation", self.image_orientation, ("auto", "none", "vflip", "rot180"))
        checks.one_of("channel_order", self.channel_order, ("auto", "rgb", "bgr"))
        checks.one_of("language", self.language, ("auto", "file_name", "attributes"))
        for name in ("task", "instruction", "mask"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, str) or not value):
                raise ValueError(f"{name} is {value!r}, not a text")
        object.__setattr__(self, "leave_out", tuple(path.strip("/") for path in self.leave_out))
        for name in ("next_obs", "allow_empty_instruction"):
            checks.flag(name, getattr(self, name))
        if self.fps is not None:
            object.__setattr__(self, "fps", checks.number("fps", self.fps, low=1e-3, high=1e6))
        object.__setattr__(self, "action_limit", checks.number("action_limit", self.action_limit, low=0))
        object.__setattr__(self, "root", Path(self.root))

    @property
    def folder(self) -> Path:
        """The folder that ids are relative to."""
        return self.root if self.root.is_dir() else self.root.parent

    def without(self, unwanted: Container[str]) -> Hdf5Source:
        """The same source, which does not look at these observations and notes them as ``left_out:<name>``."""
        return replace(self, unwanted=unwanted)

    def not_asking(self, facts: Collection[str]) -> Hdf5Source:
        """See `vla_data.core.base.BaseSource`."""
        return replace(self, unneeded=frozenset(facts))

    def episodes(self) -> Sequence[EpisodeRef]:
        """Every demonstration, by natural order of file and name; and one for each file that can't be listed.

        Files are looked into by a process of its own, so that none of them can hurt this one. An id is the file's
        relative path, a slash and the demo's name, or the path alone where a file is one episode.
        """
        if not self.root.exists():
            raise UsageError("E003", f"{text.show(self.root)} is not there")
        whole = self.root.is_dir()
        sizes = hdf5_files.sizes(self.root) if whole else {self.root.name: self.root.stat().st_size}
        for name in (read_seal(self.root) or ()) if whole else ():
            if name.lower().endswith(hdf5_files.SUFFIXES):
                sizes.setdefault(name, 0)  # sealed and gone: reading it says so
        if not sizes:
            raise UsageError("E003", f"{text.show(self.root)} has no HDF5 files")
        refs: list[EpisodeRef] = []
        for name, listing in self._listings(sorted(sizes, key=natural)):
            demos = listing.demos if listing.error is None else ("",)
            size = sizes[name] // max(1, len(demos))
            refs.extend(hdf5_files.make_ref(name, demo, size) for demo in demos)
        return refs

    def states(self, refs: Sequence[EpisodeRef]) -> Mapping[str, object]:
        """See `vla_data.core.base.BaseSource`: of the file and of those beside it that are read with it."""
        names = {hdf5_files.place(ref)[0] for ref in refs}
        found = {
            name: tuple(state_of(self.folder / each) for each in (name, *self._beside(name))) for name in names
        }
        return {ref.id: found[hdf5_files.place(ref)[0]] for ref in refs}

    def fingerprint(self, ref: EpisodeRef) -> str:
        """SHA-256 over the digests of the file and of what lies beside it, and the demo's name."""
        name, demo = hdf5_files.place(ref)
        return hdf5_files.combined(self._digest(name), [self._digest(side) for side in self._beside(name)], demo)

    def read(self, ref: EpisodeRef) -> Episode:
        """Read one demonstration. See `vla_data.core.Source`.

        Images are read from the file when they are looked at, so the file stays open as long as they are in use.
        """
        name, demo = hdf5_files.place(ref)
        path = self.folder / name
        _check_kind(path)
        digest, facts = hdf5_files.digest(path, root=self._limit)
        sha256 = hdf5_files.combined(digest, [self._digest(side) for side in self._beside(name)], demo)
        try:
            seal = read_seal(self.folder)
            if seal is not None and seal.get(name, digest) != digest:
                raise DataError(
                    "E132",
                    f"its SHA-256 is not the one in {SEAL}; get the file back, or remove {SEAL} and seal again",
                )
            layout, keys, left_out = _described(path, self._limit, facts, self.layout)
            top = _opened(path, self._limit, facts)
            if self.leave_out or self.unwanted:
                hide = functools.partial(hidden, demo, layout.state, self.leave_out, self.unwanted)
                top.file.hide(hide)
            if not demo and layout.demos(top) != [""]:
                raise self._unlisted(path)
            made = layout.read(top, demo, path, self._limit)
            made = replace(made, notes=(*made.notes, *left_out, *self._left_out(top.file.left_out, layout.state)))
            masks = [key for key, names in keys.items() if demo in names]
            meta = EpisodeMeta(source_sha256=sha256)
            splits = [split for split in _SPLITS if split in masks]
            if len(splits) == 1:
                meta = EpisodeMeta(meta, split=splits[0])
            if masks:
                meta = EpisodeMeta(meta, masks=masks)
            if keys:  # also of those that list nobody, which a selection of demos may make of any
                meta = EpisodeMeta(meta, mask_names=list(keys))
            return build(made, layout, self, name=ref.id, file=path.name, meta=meta)
        except DataError as error:
            error.source_sha256 = sha256
            raise

    def evidence(self, ref: EpisodeRef) -> Mapping[str, Sequence[Any] | None] | None:
        """See `vla_data.core.base.BaseSource`. Which moment observations are of is what the episode says."""
        name, demo = hdf5_files.place(ref)
        episode = self.read(ref)
        first = int(episode.meta.observation_time == "after")
        return evidence(
            self.folder / name,
            demo,
            layout=episode.meta.layout,
            first=first,
            steps=len(episode),
            left_out=self.leave_out,
        )

    def files_of(self, ref: EpisodeRef) -> Sequence[str]:
        """See `vla_data.core.base.BaseSource`."""
        return [hdf5_files.place(ref)[0]]

    def schema(self, episode: Episode) -> Schema:
        """What the arrays and frames of ``episode`` mean."""
        features: dict[str, Feature] = {}
        meta = episode.meta
        # The rules end in upright images; a declared "none" may mean anything.
        told = meta.image_orientation_rule != "declared"
        orientation = "upright" if told else _UPRIGHT[str(meta.image_orientation)] if episode.frames else ""
        about = {
            "colour": "rgb" if meta.channel_order is not None else "",
            "orientation": orientation if meta.image_orientation is not None else "",
            "time": "before_action" if meta.observation_time is not None else "",
        }
        about = {key: value for key, value in about.items() if value}  # what nobody says and nobody needs
        for name, frames in episode.frames.items():
            features[name] = Feature(
                dtype="image",
                shape=(frames.height, frames.width, 3),
                names=("height", "width", "channels"),
                convention=about,
            )
        for name, array in episode.arrays.items():
            if name == "task":
                continue
            features[name] = Feature(
                dtype="string" if array.dtype.kind == "U" else str(array.dtype),
                shape=array.shape[1:] or (1,),
                names=_state_names(episode) if name == _STATE else None,
                convention=_convention(episode, name, array),
            )
        for name, told in meta.declared.items():
            if name in features and not (name in episode.frames and orientation != "upright"):
                features[name] = _declared(features[name], told)
        return Schema(features=features, fps=float(meta.fps or 0), robot=meta.robot)

    def _left_out(self, seen: Set[str], state: Sequence[str]) -> Iterable[str]:
        """Notes on what was asked to be left out: that it was, or is not there; a ``state`` with its parts."""
        if _STATE in self.unwanted and not seen.isdisjoint(state):
            seen = seen | {_STATE}
        yield from (f"left_out:{name}" for name in sorted(seen))
        yield from (f"leave_out_names_nothing:{part}" for part in self.leave_out if part not in seen)

    # -- files --------------------------------------------------------------------------------------

    @property
    def _limit(self) -> Path:
        """The folder that no link may lead out of. A link that the user named as the root is meant."""
        return self.root if self.root.is_dir() else self.root.resolve().parent

    def _listings(self, names: Sequence[str]) -> Iterable[tuple[str, Listing]]:
        known: dict[str, Listing] = {}
        keys: dict[str, tuple[object, ...]] = {}
        unknown = []
        for name in names:
            try:
                handle, facts = open_regular(self.folder / name, root=self._limit)
                os.close(handle)
            except DataError as error:
                known[name] = Listing(error=error)
                continue
            keys[name] = (str(self.folder / name), facts, self.layout, self.mask)
            if keys[name] in _listed:
                known[name] = _listed[keys[name]]
            else:
                unknown.append(name)
        paths = [self.folder / name for name in unknown]
        found = list_files(paths, root=self._limit, layout=self.layout, mask=self.mask) if paths else []
        for name, listing in zip(unknown, found, strict=True):
            known[name] = listing
            if len(_listed) >= _MAX_LISTED:
                _listed.clear()
            _listed[keys[name]] = listing
        return [(name, known[name]) for name in names]

    def _digest(self, name: str) -> str:
        return hdf5_files.digest(self.folder / name, root=self._limit)[0]

    def _beside(self, name: str) -> list[str]:
        """Files beside one that are read with it."""
        path = self.folder / name
        sides = [side(path) for side in _SIDECARS]
        return [os.path.relpath(side, self.folder) for side in sides if side.is_file()]

    def _unlisted(self, path: Path) -> DataError:
        """Why a file has one reference for all of its demos."""
        found = list_files([path], root=self._limit, layout=self.layout, mask=self.mask)[0].error
        return found or DataError("E502", "listing its demonstrations failed at first and works now; run it again")


_MAX_LISTED: Final = 100_000
_listed: dict[tuple[object, ...], Listing] = {}
"""What files hold, by place, state and options: `Hdf5Source.episodes` is called more than once in a run."""


def _check_kind(path: Path) -> None:
    """Raise for what is left alone: a link to a folder, and what macOS leaves beside files."""
    if path.is_symlink() and path.is_dir():
        is_named = path.name.lower().endswith(hdf5_files.SUFFIXES)  # as if it were a file that is meant
        raise (DataError if is_named else NotADemoFileError)("E131", LINKED_FOLDER)
    if is_litter(path.name) and is_apple_double(path):
        raise NotADemoFileError("E206", "a file of macOS with attributes of another file; it can be removed")


def _opened(path: Path, limit: Path, facts: Facts) -> Group:
    """The root group of a file in the state in which it was hashed."""
    file = File(path, root=limit)
    if file.facts != facts:
        raise DataError("E105", "the file changed while it was read")
    return file.top


@functools.lru_cache(maxsize=8)
def _described(
    path: Path, limit: Path, facts: Facts, wanted: str
) -> tuple[Layout, Mapping[str, frozenset[str]], tuple[str, ...]]:
    """A file's layout, the demos that each of its masks lists, and notes on masks that can't be read.

    Found once for all demos of a file: a mask may list as many as there are.
    """
    top = _opened(path, limit, facts)
    layout = layout_of(top, wanted)
    masks: dict[str, frozenset[str]] = {}
    notes = []
    try:
        group = top.group("mask") if "mask" in top else None
        names = sorted(group.names(), key=natural) if group is not None else []
        if group is None or len(names) > _MAX_MASKS:
            return layout, {}, ("masks_left_out",) if names else ()
    except DataError:
        return layout, {}, ("masks_left_out",)
    for name in names:
        try:
            table = group.table(name)
            # robomimic writes an empty mask as numbers.
            masks[text.show(name)] = frozenset(table.texts() if len(table) else ())
        except DataError:
            notes.append(f"mask_left_out:{text.show(name)}")
    return layout, masks, tuple(notes)


def _state_names(episode: Episode) -> tuple[str, ...] | None:
    """Names for an ``observation.state`` that was put together here: ``<observation>_<i>`` for each number."""
    keys = _DIALECTS[episode.meta.layout].state
    if not keys or not all(key in episode.arrays for key in keys):
        return None
    names = []
    for key in keys:
        count = episode.arrays[key].reshape(len(episode), -1).shape[1]
        names += [f"{key.removeprefix('observation.')}_{i}" for i in range(count)]
    return tuple(names) if len(names) == episode.arrays[_STATE].shape[1] else None


def _declared(feature: Feature, told: Mapping[str, Json]) -> Feature:
    """``feature`` with the names and the convention that the file gives it, where they fit."""
    names, convention = told.get("names"), told.get("convention")
    if isinstance(convention, Mapping):
        feature = replace(feature, convention=convention)
    count = 3 if feature.dtype == "image" else math.prod(feature.shape)
    if isinstance(names, list) and len(names) == count and all(isinstance(name, str) for name in names):
        feature = replace(feature, names=tuple(names))
    return feature


def _convention(episode: Episode, name: str, array: NDArray[Any]) -> Mapping[str, Json]:
    if array.ndim != 2:
        return {}
    if name == "action":
        told = action_convention(episode.meta, array.shape[1])
        return {} if f"{POSES}:action" in episode.notes else told
    return state_convention(episode.meta, name, array.shape[1])
