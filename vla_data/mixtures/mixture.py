"""Datasets of unlike schemas as one: any frame of any of them, in the form of the contract."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_data.core import Array, Json
from vla_data.errors import DataError, UsageError
from vla_data.mixtures import config as configuration
from vla_data.mixtures import pictures, times, track
from vla_data.mixtures.config import Config
from vla_data.mixtures.effective import Effective, describe
from vla_data.mixtures.member import Cache, Member
from vla_data.mixtures.sampling import Positions, Sampling, shares
from vla_data.mixtures.times import At
from vla_data.mixtures.track import CAMERA, Track
from vla_data.safety.text import show

Batch = dict[str, Any]
"""Name -> array with ``B`` rows; ``task`` is a list of ``B`` texts."""

IS_PAD = "{}_is_pad"
MASK = "{}_mask"


def open_mixture(config: Config | str | Path | Mapping[str, Any]) -> Mixture:
    """The mixture of a configuration: a file, a table, or a `Config`.

    Every episode is read once, so that those that can't be used are known before the first batch; with ``cache``
    that is done once for all times, as long as the sources and the contract stay.

    Raises:
        UsageError: what is configured can't be; see `vla_data.mixtures.config`.
    """
    if isinstance(config, str | Path):
        config = configuration.load(config)
    elif not isinstance(config, Config):
        config = configuration.parse(config)
    return Mixture(config)


@dataclass(frozen=True, slots=True, eq=False)
class _Group:
    """The rows of one episode that a batch wants: places in the batch, and rows."""

    member: Member
    track: Track
    into: Positions
    rows: Positions


class Mixture:
    """Any frame of several datasets.

    Attributes:
        config: as given.
        members: the datasets, in order.
        sampling: which frame is at which position of the stream.
        action_dim: numbers of an action in a batch.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        contract = config.contract
        cache = Cache(config.memory_mb * 1_000_000)
        self.members = tuple(
            Member(entry, contract, number=number, cache=cache, packs=config.cache)
            for number, entry in enumerate(config.datasets)
        )
        frames = tuple(member.frames for member in self.members)
        lost = [(member.name, one) for member in self.members for one in member.left_out]
        if lost and not sum(frames):
            name, one = lost[0]
            raise UsageError("E003", f"no episode can be used; {name}, {show(one.id)}: {one.code} {one.message}")
        names = [member.name for member in self.members]
        if len(set(names)) != len(names):
            raise UsageError("E001", f"two datasets have one name; give each its own: {', '.join(names)}")
        wanted = shares(frames, weights=config.weights, weighting=config.weighting, temperature=config.temperature)
        try:
            self.sampling = Sampling(
                frames=frames,
                shares=wanted,
                seed=config.seed,
                order=config.order,
                epoch_frames=config.epoch_frames,
            )
        except ValueError as error:
            raise UsageError("E001", f"the mixture: {error}") from None
        self.action_dim = contract.action_dim or max(member.widths[1] for member in self.members)
        self._check_widths()
        self._sizes = {camera: self._size(camera) for camera in contract.cameras}
        self._extras = self._extra_forms()
        self._ahead = np.arange(contract.chunk, dtype=np.int64)
        history = contract.history or 1
        self._behind = (np.arange(history, dtype=np.int64) - history + 1) * contract.history_interval

    def __len__(self) -> int:
        """Frames of all datasets."""
        return sum(self.sampling.frames)

    @property
    def effective(self) -> Effective:
        """What is drawn how often, and what is odd about it."""
        return describe(self.config, self.members, self.sampling)

    @property
    def identity(self) -> Json:
        """What the stream depends on, but for seed and weights: datasets, episodes, lengths."""
        return [member.identity() for member in self.members]

    def batch(self, epoch: int, positions: Positions) -> Batch:
        """The frames at these positions of an epoch's stream, as `gather`."""
        dataset, frame = self.sampling.at(epoch, positions)
        return self.gather(dataset, frame)

    def gather(self, dataset: Sequence[int] | Positions, frame: Sequence[int] | Positions) -> Batch:
        """These frames, each counted within its dataset, as a batch of ``B`` rows.

        Where the contract has a history of ``H``, observations have an axis ``H`` after the first.

        - ``observation.images.<camera>``: (B, height, width, 3) uint8; ``..._is_pad``: (B,), where there is none
        - ``observation.state``: (B, state_dim) float32; ``..._is_pad``: (B,), before the episode's start;
          ``..._mask``: (B, state_dim), which elements its dataset has
        - ``action``: (B, chunk, action_dim) float32; ``action_is_pad``: (B, chunk), beyond the episode;
          ``action_mask``: (B, action_dim)
        - ``task``: B texts; ``timestamp``: (B,) float64, seconds; ``dataset_index``, ``episode_index`` (position
          among the usable episodes of the dataset), ``frame_index`` (row in the episode): (B,) int64; the extras

        What is padding repeats the first or last row of the episode, or is 0.

        Raises:
            DataError: a frame can't be read any more; it is named, and no other takes its place.
        """
        datasets, frames = np.asarray(dataset, dtype=np.int64), np.asarray(frame, dtype=np.int64)
        if datasets.shape != frames.shape or datasets.ndim != 1:
            raise UsageError("E001", "gather needs a dataset and a frame for each row of the batch")
        out = self._empty(len(datasets))
        for group in self._groups(datasets, frames, out):
            try:
                self._fill(group, out)
            except DataError as error:
                where = f"{group.member.name}, episode {group.track.id}"
                raise DataError(error.code, f"{where}: {error.message}") from error
        return out

    # -- a batch ------------------------------------------------------------------------------------

    def _groups(self, datasets: Positions, frames: Positions, out: Batch) -> list[_Group]:
        """Rows by episode, so that an episode is looked up once and a video read forwards."""
        wanted: dict[tuple[int, int], list[tuple[int, int]]] = {}
        for place, (number, frame) in enumerate(zip(datasets.tolist(), frames.tolist(), strict=True)):
            if not (0 <= number < len(self.members) and 0 <= frame < self.members[number].frames):
                raise UsageError("E001", f"there is no frame {frame:,} of dataset {number}")
            episode, row = self.members[number].locate(frame)
            wanted.setdefault((number, episode), []).append((row, place))
        groups = []
        for (number, episode), pairs in sorted(wanted.items()):
            pairs.sort()
            rows, into = (np.asarray(column, dtype=np.int64) for column in zip(*pairs, strict=True))
            out["dataset_index"][into] = number
            out["episode_index"][into] = episode
            out["frame_index"][into] = rows
            member = self.members[number]
            groups.append(_Group(member, member.track(episode), into, rows))
        return groups

    def _empty(self, count: int) -> Batch:
        contract = self.config.contract
        lead = (count,) if contract.history is None else (count, contract.history)
        out: Batch = {}
        for camera in contract.cameras:
            name = CAMERA.format(camera)
            out[name] = np.zeros((*lead, *self._sizes[camera], 3), dtype=np.uint8)
            out[IS_PAD.format(name)] = np.ones(lead, dtype=np.bool_)
        if contract.state_dim:
            out["observation.state"] = np.zeros((*lead, contract.state_dim), dtype=np.float32)
            out["observation.state_is_pad"] = np.zeros(lead, dtype=np.bool_)
            out["observation.state_mask"] = np.zeros((count, contract.state_dim), dtype=np.bool_)
        out["action"] = np.zeros((count, contract.chunk, self.action_dim), dtype=np.float32)
        out["action_is_pad"] = np.zeros((count, contract.chunk), dtype=np.bool_)
        out["action_mask"] = np.zeros((count, self.action_dim), dtype=np.bool_)
        out["task"] = [""] * count
        out["timestamp"] = np.zeros(count, dtype=np.float64)
        for name in ("dataset_index", "episode_index", "frame_index"):
            out[name] = np.zeros(count, dtype=np.int64)
        for name, (dtype, shape) in self._extras.items():
            out[name] = np.zeros((count, *shape), dtype=dtype)
        return out

    def _fill(self, group: _Group, out: Batch) -> None:
        contract, made, into = self.config.contract, group.track, group.into
        target = contract.action_freq if contract.resample == "rows" else None
        ratio = times.ratio_of(group.member.fps, target)
        behind = times.places(group.rows, self._behind, length=made.length, ratio=ratio)
        ahead = times.places(group.rows, self._ahead, length=made.length, ratio=ratio)
        out["timestamp"][into] = made.arrays[track.TIME][group.rows]
        for place, row in zip(into.tolist(), group.rows.tolist(), strict=True):
            out["task"][place] = made.task_at(row)
        for name in contract.extras:
            out[name][into] = made.arrays[track.EXTRA.format(name)][group.rows]
        self._actions(group, ahead, out)
        if contract.state_dim:
            state = behind.take(made.arrays[track.STATE], contract.vector_resample_strategy)
            out["observation.state"][into, ..., : state.shape[-1]] = self._one(state)
            out["observation.state_is_pad"][into] = self._one(behind.is_pad)
            out["observation.state_mask"][into, : state.shape[-1]] = True
        for camera in made.frames:
            name = CAMERA.format(camera)
            out[IS_PAD.format(name)][into] = self._one(behind.is_pad)
            self._images(camera, group, behind, out[name])

    def _one(self, values: Array) -> Array:
        """Without the axis of time where the contract has no history."""
        return values if self.config.contract.history is not None else values[:, 0]

    def _actions(self, group: _Group, ahead: At, out: Batch) -> None:
        contract, made = self.config.contract, group.track
        actions = ahead.take(made.arrays[track.ACTION], contract.vector_resample_strategy)
        width = actions.shape[-1]
        if contract.delta != "none":
            mask = np.ones(width, dtype=np.bool_)
            if contract.delta_mask:
                mask = np.zeros(width, dtype=np.bool_)
                mask[: len(contract.delta_mask)] = contract.delta_mask
            places = np.arange(width)
            if contract.delta_state:
                places[: len(contract.delta_state)] = contract.delta_state
            now = np.zeros((len(group.rows), 1, width))
            now[:, 0, mask] = made.arrays[track.STATE][group.rows][:, places[mask]]
            if contract.delta == "previous":
                now = np.concatenate((now, actions[:, :-1]), axis=1)
            actions = np.where(mask, actions - now, actions)
        out["action"][group.into, :, :width] = actions
        out["action_is_pad"][group.into] = ahead.is_pad
        out["action_mask"][group.into, :width] = True

    def _images(self, camera: str, group: _Group, at: At, out: NDArray[np.uint8]) -> None:
        contract = self.config.contract
        frames = group.track.frames[camera]
        mixes = contract.image_resample_strategy == "linear"
        kept: dict[int, NDArray[np.uint8]] = {}

        def picture(row: int) -> NDArray[np.uint8]:
            if row not in kept:
                kept[row] = pictures.fitted(frames, row, contract.image_size, contract.resize)
            return kept[row]

        for k in range(len(group.rows)):
            for h in range(len(self._behind)):
                target = out[group.into[k]] if contract.history is None else out[group.into[k], h]
                share, low = float(at.share[k, h]), int(at.low[k, h])
                if mixes and share > 0:
                    mixed = (1 - share) * picture(low) + share * picture(low + 1)
                    target[...] = np.rint(mixed).astype(np.uint8)
                else:
                    target[...] = picture(int(at.nearest[k, h]))

    # -- what all datasets have in common -----------------------------------------------------------

    def _check_widths(self) -> None:
        contract = self.config.contract
        for member in self.members:
            state, action = member.widths
            if not member.lengths:
                continue
            for name, width, dim in (("state", state, contract.state_dim), ("action", action, self.action_dim)):
                if width > dim and (dim or name == "action"):
                    raise UsageError("E232", f"{member.name} has {name}s of {width} numbers, {name}_dim is {dim}")
            mask = contract.delta_mask or (True,) * action
            places = contract.delta_state or tuple(range(len(mask)))
            if contract.delta != "none" and (
                len(mask) > action
                or max((p for p, on in zip(places, mask, strict=True) if on), default=-1) >= state
            ):
                raise UsageError(
                    "E232",
                    f"{member.name} has {action} numbers of an action and {state} of a state; delta asks for more "
                    "(delta_mask, delta_state)",
                )

    def _size(self, camera: str) -> tuple[int, int]:
        size = self.config.contract.image_size
        if size is not None:
            return size
        sizes = {member.sizes[camera] for member in self.members if camera in member.sizes}
        if len(sizes) != 1 or None in sizes:
            raise UsageError("E231", f"image_size (camera {camera} has {len(sizes) or 'no'} sizes)")
        found = sizes.pop()
        return found if found is not None else (0, 0)

    def _extra_forms(self) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
        forms: dict[str, tuple[np.dtype[Any], tuple[int, ...]]] = {}
        for name in self.config.contract.extras:
            found = [member.extras[name] for member in self.members if name in member.extras]
            if len({shape for _, shape in found}) > 1:
                raise UsageError("E232", f"{name} has another shape in another dataset")
            dtypes = [np.dtype(dtype) for dtype, _ in found]
            dtype = np.dtype(object) if any(d.kind == "U" for d in dtypes) else np.result_type(*dtypes)
            forms[name] = (dtype, found[0][1])
        return forms
