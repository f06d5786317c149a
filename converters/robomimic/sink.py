"""Datasets in robomimic's layout: one HDF5 file, ``dataset.hdf5``, that robomimic and robosuite read.

::

    data                     total (steps), env_args (JSON: env_name, type, env_kwargs)
    data/demo_<i>            num_samples; ep_meta (JSON: lang, the instruction, and scene, seed); vla_data_id
    data/demo_<i>/actions    and the rest, by the rule of `converters.robomimic.names`
    mask/<filter key>        names of demos: of the source's masks, each split, each group that was asked for

https://robomimic.github.io/docs/datasets/overview.html. Numbers, booleans and text keep their values and types,
images are stored as pixels: JPEG and video are decoded. What follows from other features, because robomimic wants
it, carries the attribute ``derived_by`` and is no part of the content: ``dones`` (else 1 where the episode was
terminated or truncated, else where it was solved, else on the last step), and ``rewards`` (else 1 where solved;
not written where that is unknown). What is declared of a feature is in its dataset's attribute
``vla_data_feature``, what its source knew of an episode in its demo's ``vla_data_facts``: both go with the file.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np

from converters.robomimic.env import env_args
from converters.robomimic.file import LIBVER, attribute, dataset, rows_at_once, storable, writing
from converters.robomimic.names import (
    DECLARED,
    DERIVED,
    FACTS,
    ID,
    ORIGIN,
    check_paths,
    facts_of,
    mask_name,
    masks_of,
    origin_of,
    path_of,
)
from converters.robomimic.rows import Rows
from vla_data import options as checks
from vla_data.core import Array, Encoded, Episode, Feature, Json, Published, Schema
from vla_data.core.base import BaseSink
from vla_data.core.content import content_digest
from vla_data.core.notes import no_action
from vla_data.core.traits import Traits
from vla_data.errors import DataError, VerifyError
from vla_data.files.write import machine_errors
from vla_data.media.frames import Frames
from vla_data.safety.text import show

FILE: Final = "dataset.hdf5"
_DEMO: Final = "demo"
_ABOUT: Final = ("scene", "seed")
# Facts that have a place of their own in the file; the others say how the first source was read.
_FACTS: Final = (
    *("controller", "env", "env_version", "episode_metadata", "fps"),
    *("masks", "mask_names", "robot", "scene", "seed"),
)
_RUN: Final = ("declared", "solved", "source_length", "source_sha256", "split")
# HDF5 keeps what it knows of every dataset that was read until the file is closed.
_AT_ONCE: Final = 64


@dataclass(frozen=True, kw_only=True)
class RobomimicSink(BaseSink):
    """Writes ``dataset.hdf5``; the demos are numbered in the order of the source.

    Attributes:
        target: the folder that will hold the file.
        gzip: level of compression, 1 to 9, or 0 for none, which is read faster.
        next_obs: also write ``next_obs``: the observations one step later, and after the last step what was
            seen then where that is known, else the last observation again (attribute ``last_row``).
        masks_by: keys of ``Episode.meta`` or of its ``episode_metadata``; for each, every value gets a mask
            ``<key>_<value>``.
        env_args: what the file says of its environment, instead of what the source does.
    """

    target: Path = field(repr=False)
    gzip: int = 4
    next_obs: bool = False
    masks_by: tuple[str, ...] = ()
    env_args: Mapping[str, Json] | None = None

    def __post_init__(self) -> None:
        checks.whole("gzip", self.gzip, low=0, high=9)
        checks.flag("next_obs", self.next_obs)
        object.__setattr__(self, "masks_by", tuple(self.masks_by))

    @property
    def traits(self) -> Traits:
        """See `Traits`."""
        return Traits(sidecar="vla_data/robomimic", encoders=("h5py",))

    def encode(self, episode: Episode, schema: Schema) -> Encoded:
        """One demo, as an HDF5 file of its own with the group ``demo``."""
        if "action" not in episode.arrays:
            raise DataError("E206", no_action(episode.arrays))
        episode = replace(
            episode, arrays={name: array for name, array in episode.arrays.items() if name in schema.features}
        )
        arrays = {path_of(name, images=False): name for name in episode.arrays}
        frames = {path_of(name, images=True): name for name in episode.frames}
        check_paths([*arrays, *frames])
        buffer = io.BytesIO()
        with h5py.File(buffer, "w", libver=LIBVER) as file:
            demo = file.create_group(_DEMO)
            for path, name in sorted(arrays.items()):
                _declare(self._add_array(demo, path, name, episode.arrays[name]), schema.features[name])
            pictures = {}
            for path, name in sorted(frames.items()):
                table = self._add_images(demo, path, episode.frames[name])
                _declare(table, schema.features[name])
                pictures[name] = Rows(len(table), table.__getitem__)
            self._add_derived(demo, episode)
            if self.next_obs:
                self._add_next(demo, episode, {**arrays, **frames})
            demo.attrs["num_samples"] = len(episode)
            demo.attrs["ep_meta"] = attribute("the instruction", json.dumps(_about(episode), sort_keys=True))
            demo.attrs[ID] = attribute("its id", episode.id)
            demo.attrs[ORIGIN] = attribute("its origin", json.dumps(_origin(episode), sort_keys=True))
            if (facts := facts_of(episode.meta)) is not None:
                demo.attrs[FACTS] = facts
            values = {name: _plain(array) for name, array in episode.arrays.items()}
            content = content_digest(episode.task, values, pictures)
        summary = {
            "length": len(episode),
            "split": str(episode.meta.split) if episode.meta.split is not None else None,
            "masks": self._masks(episode),
            "mask_names": masks_of(episode.meta)[1],
            "env_args": env_args(episode, schema, self.env_args),
        }
        return Encoded([buffer.getbuffer()], summary, content)

    def split_of(self, episodes: Sequence[Published]) -> dict[str, str | None]:
        """Id -> the split that the source gave it, or None; ``train`` for all where it gave none to any."""
        told = {episode.id: episode.summary["split"] for episode in episodes}
        return told if any(told.values()) else dict.fromkeys(told, "train")

    def assemble(self, episodes: Sequence[Published], schema: Schema, folder: Path) -> None:
        """Write the file, episode by episode; one of them is in memory at a time."""
        facts = _facts(episodes)
        with writing(folder / FILE) as file:
            data = file.create_group("data")
            for number, episode in enumerate(episodes):
                with h5py.File(io.BytesIO(episode.read()), "r") as one:
                    one.copy(one[_DEMO], data, name=f"demo_{number}")
                if episode.summary["env_args"] != facts["env_args"]:
                    data[f"demo_{number}"].attrs["env_args"] = episode.summary["env_args"]
            data.attrs["env_args"] = facts["env_args"]
            data.attrs["total"] = facts["total"]
            for key, names in facts["masks"].items():
                text = np.asarray(names, dtype="S")
                if names:
                    dataset(file, f"mask/{key}", text.shape, text.dtype, gzip=0)[...] = text
                else:  # nothing to check, and no chunk is that small
                    file.create_dataset(f"mask/{key}", data=text, track_times=False)

    def check(self, folder: Path, episodes: Sequence[Published]) -> None:
        """Read everything back, which computes every checksum, and compare it with what was encoded."""
        problem = None
        with machine_errors("cannot read back"), (folder / FILE).open("rb") as handle:
            try:
                for start in range(0, len(episodes), _AT_ONCE):
                    with h5py.File(handle, "r") as file:
                        problem = problem or next(_differences(file, episodes, start), None)
            except Exception as error:  # h5py has no exception of its own for damage
                if isinstance(error, OSError) and error.errno is not None:
                    raise
                problem = f"can't be read back ({type(error).__name__})"
        if problem:
            raise VerifyError("E601", f"{FILE}: {problem}")

    def _add_array(self, demo: h5py.Group, path: str, name: str, array: Array) -> h5py.Dataset:
        if array.dtype == np.uint8 and array.ndim == 4 and array.shape[3] == 3 and path.startswith("obs/"):
            raise DataError("E232", f"{show(name)} would be read as images; it is declared as an array")
        values = storable(name, array)
        table = dataset(demo, path, values.shape, values.dtype, gzip=self.gzip)
        table[...] = values
        return table

    def _add_images(self, demo: h5py.Group, path: str, frames: Frames) -> h5py.Dataset:
        table = dataset(demo, path, (len(frames), frames.height, frames.width, 3), np.uint8, gzip=self.gzip)
        for i in range(len(frames)):
            pixels = frames.pixels(i)
            if pixels.shape != table.shape[1:]:  # HDF5 would broadcast it
                raise DataError("E203", f"image {i} of {show(path)} has the shape {pixels.shape}")
            table[i] = pixels
        return table

    def _add_derived(self, demo: h5py.Group, episode: Episode) -> None:
        arrays = episode.arrays
        success = arrays.get("next.success")
        if "next.reward" not in arrays and success is not None:
            self._add_array(demo, "rewards", "rewards", success.astype(np.float32)).attrs[DERIVED] = "next.success"
        if "next.done" in arrays:
            return
        ends = [name for name in ("next.terminated", "next.truncated") if name in arrays]
        ends = ends or [name for name in ("next.success",) if name in arrays]
        done = np.zeros(len(episode), dtype=bool)
        for name in ends:
            done |= arrays[name].astype(bool).reshape(len(episode), -1).any(axis=1)
        if not ends:
            done[-1] = True
        table = self._add_array(demo, "dones", "dones", done.astype(np.int64))
        table.attrs[DERIVED] = " or ".join(ends) or "last step"

    def _add_next(self, demo: h5py.Group, episode: Episode, names: Mapping[str, str]) -> None:
        tables: list[tuple[str, h5py.Dataset]] = []
        demo["obs"].visititems(lambda path, item: tables.append((path, item)) if hasattr(item, "dtype") else None)
        for path, table in tables:
            if f"next_obs/{path}" in demo:
                continue
            after = dataset(demo, f"next_obs/{path}", table.shape, table.dtype, gzip=self.gzip)
            after.attrs[DERIVED] = f"obs/{path}"
            for i in range(len(table) - 1):
                after[i] = table[i + 1]
            final = episode.final.get(names.get(f"obs/{path}", ""))
            last = np.asarray(table[-1]) if final is None else _one(final)
            if last.shape != table.shape[1:]:  # HDF5 would broadcast it
                raise DataError("E203", f"the last row of {show(path)} has the shape {last.shape}")
            after[-1] = last
            after.attrs["last_row"] = "repeated" if final is None else "seen"

    def _masks(self, episode: Episode) -> list[str]:
        masks = masks_of(episode.meta)[0]
        for key in self.masks_by:
            places = (episode.meta, episode.meta.episode_metadata or {})
            value = next((place[key] for place in places if place.get(key) is not None), None)
            if value is None:
                raise DataError("E206", f"the episode has no {show(key)} to make a mask by")
            text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
            masks.append(mask_name(f"{key}_{text}"))
        return list(dict.fromkeys(masks))


def _one(final: Frames | Array) -> Array:
    """What was seen after the last action, as one row."""
    return final.pixels(0) if isinstance(final, Frames) else storable("the last row", final)[0]


def _declare(table: h5py.Dataset, feature: Feature) -> None:
    """Say beside the numbers what they mean, so that it stays with them wherever the file goes."""
    known = feature.to_json()
    told = {key: known[key] for key in ("names", "convention") if known.get(key)}
    if told:
        table.attrs[DECLARED] = attribute("a declared convention", json.dumps(told, sort_keys=True))


def _plain(array: Array) -> Array:
    """Text in the width that it needs, which is all that a file can tell."""
    return np.char.decode(storable("text", array), "utf-8") if array.dtype.kind == "U" else array


def _about(episode: Episode) -> dict[str, Json]:
    """``ep_meta``: robomimic and RoboCasa look for ``lang``."""
    places = (episode.meta.episode_metadata or {}, episode.meta)
    known = {key: place[key] for place in places for key in _ABOUT if place.get(key) is not None}
    return {"lang": episode.task, **known}


def _origin(episode: Episode) -> dict[str, Json]:
    """The first source's id, and how it was read: what no other place of the file tells."""
    known = episode.meta.origin
    if known is None:
        rest = {key: value for key, value in episode.meta.items() if key not in (*_FACTS, *_RUN)}
        known = {"id": episode.id, **rest, "notes": list(episode.notes)}
    return origin_of(known)


def _facts(episodes: Sequence[Published]) -> dict[str, Any]:
    """What the file says of all demos. ``env_args`` is the first demo's; each that differs carries its own."""
    masks: dict[str, list[str]] = defaultdict(list)
    for number, episode in enumerate(episodes):
        for key in episode.summary["mask_names"]:
            masks[key]  # a mask that lists nobody is one, too
        for key in episode.summary["masks"]:
            masks[key].append(f"demo_{number}")
    return {
        "total": sum(int(episode.summary["length"]) for episode in episodes),
        "env_args": episodes[0].summary["env_args"] if episodes else "{}",
        "masks": dict(sorted(masks.items())),
    }


def _differences(file: h5py.File, episodes: Sequence[Published], start: int) -> Iterator[str]:
    """What is not as it was encoded: of all demos together for the first ``start``, then of those from it on."""
    facts = _facts(episodes)
    if start == 0:
        yield from _wrong_facts(file, facts, len(episodes))
    for number, episode in list(enumerate(episodes))[start : start + _AT_ONCE]:
        blob = episode.read()
        if hashlib.sha256(blob).hexdigest() != episode.blob_sha256:
            yield f"what was encoded of {show(episode.id)} has changed"
        own = {"env_args": episode.summary["env_args"]}
        if own["env_args"] == facts["env_args"]:
            own = {}
        with h5py.File(io.BytesIO(blob), "r") as one:
            for path in _unlike(one[_DEMO], file[f"data/demo_{number}"], own, ""):
                yield f"{path or 'an attribute'} of demo_{number} is not what was written ({show(episode.id)})"


def _wrong_facts(file: h5py.File, facts: Mapping[str, Any], count: int) -> Iterator[str]:
    if set(file) != {"data"} | ({"mask"} if facts["masks"] else set()):
        yield "has other groups than were written"
    data = file["data"]
    if set(data) != {f"demo_{number}" for number in range(count)}:
        yield f"has {len(data):,} demos, not {count:,}"
    if dict(data.attrs) != {key: facts[key] for key in ("total", "env_args")}:
        yield "total or env_args is not what was written"
    found = {key: [name.decode() for name in file["mask"][key][:]] for key in file.get("mask", ())}
    if found != facts["masks"]:
        yield "the masks are not what was written"


def _unlike(one: h5py.Group, other: h5py.Group, more: Mapping[str, Json], path: str) -> Iterator[str]:
    """Paths of what differs between a group and its copy, which may have ``more`` attributes."""
    if {**dict(one.attrs), **more} != dict(other.attrs) or set(one) != set(other):
        yield path
        return
    for name in one:
        a, b = one[name], other[name]
        below = f"{path}/{name}" if path else name
        if isinstance(a, h5py.Group):
            yield from _unlike(a, b, {}, below)
        elif (a.dtype, a.shape, dict(a.attrs)) != (b.dtype, b.shape, dict(b.attrs)):
            yield below
        else:
            step = rows_at_once(a)
            for at in range(0, len(a), step):  # bytes, since NaN is not equal to itself
                if a[at : at + step].tobytes() != b[at : at + step].tobytes():
                    yield below
                    break
