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
from vla_data.formats import parse_address
from vla_data.mixtures import common, pictures, track
from vla_data.mixtures import config as configuration
from vla_data.mixtures.annotations import common_columns
from vla_data.mixtures.config import Config, Entry
from vla_data.mixtures.contract import Contract
from vla_data.mixtures.effective import Effective, describe
from vla_data.mixtures.member import Cache, Member
from vla_data.mixtures.numbers import Window
from vla_data.mixtures.sampling import Positions, Sampling, shares
from vla_data.mixtures.times import At
from vla_data.mixtures.track import CAMERA, Track
from vla_data.mixtures.transforms.base import Form
from vla_data.safety.text import show

Batch = dict[str, Any]
"""Name -> array with ``B`` rows; ``task`` is a list of ``B`` texts."""

IS_PAD = "{}_is_pad"
MASK = "{}_mask"
COUNTERS = ("dataset_index", "episode_index", "episode_position", "frame_index", "frame_position")


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


def _member(entry: Entry, contract: Contract, **how: Any) -> Member:
    """A dataset of a mixture; what is refused of it has its name."""
    try:
        return Member(entry, contract, **how)
    except UsageError as error:
        name = entry.name or parse_address(entry.root)[1].name
        raise UsageError(error.code, f"{show(name)}: {error.message}") from None


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
            _member(
                entry,
                contract,
                number=number,
                cache=cache,
                packs=config.cache,
                fitted=config.cache_images == "fitted",
            )
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
        common.check_widths(self.members, contract, self.action_dim)
        self._doubts = common.check_delta(self.members, contract)
        self._sizes = {camera: common.image_size(camera, self.members, contract) for camera in contract.cameras}
        self._extras = common.extra_forms(self.members, contract)
        by_name = {member.name: member.annotations for member in self.members if member.frames}
        annotated = common_columns(by_name, contract.extras)
        self._extras |= {name: (dtype, ()) for name, dtype in annotated.items()}

    def __len__(self) -> int:
        """Frames of all datasets."""
        return sum(self.sampling.frames)

    @property
    def effective(self) -> Effective:
        """What is drawn how often, and what is odd about it."""
        return describe(self.config, self.members, self.sampling, self._doubts)

    @property
    def form(self) -> Form:
        """What transforms can know of its batches."""
        has_state = self.config.contract.state_dim > 0
        return Form(
            names=tuple(member.name for member in self.members),
            states=tuple(member.widths[0] if has_state else 0 for member in self.members),
            actions=tuple(member.widths[1] for member in self.members),
            columns=frozenset(self._extras),
        )

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
        - ``task``: B texts; ``timestamp``: (B,) float64, seconds; ``dataset_index``: (B,) int64; the extras
        - ``episode_index``, ``frame_index``: (B,) int64, the dataset's own numbers, by which other tables of it
          are joined; ``episode_position``, ``frame_position``: (B,) int64, among the usable episodes here, and
          among the rows of the episode, which are others than its frames where commands are resampled
        - with annotations ``advantage``, ``value``: (B,) float64; ``return``: (B,) int64, steps; ``positive``:
          (B,) bool, where they have labels

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
            member = self.members[number]
            made = member.track(episode)
            out["episode_index"][into] = member.numbers[episode]
            out["episode_position"][into] = episode
            out["frame_index"][into] = made.arrays[track.INDEX][rows]
            out["frame_position"][into] = rows
            groups.append(_Group(member, made, into, rows))
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
        for name in COUNTERS:
            out[name] = np.zeros(count, dtype=np.int64)
        for name, (dtype, shape) in self._extras.items():
            out[name] = np.zeros((count, *shape), dtype=dtype)
        return out

    def _fill(self, group: _Group, out: Batch) -> None:
        contract, made, into = self.config.contract, group.track, group.into
        window = Window.of(contract, made, group.rows, group.member.fps)
        out["timestamp"][into] = made.arrays[track.TIME][group.rows]
        for place, row in zip(into.tolist(), group.rows.tolist(), strict=True):
            out["task"][place] = made.task_at(row)
        for name in contract.extras:
            out[name][into] = made.arrays[track.EXTRA.format(name)][group.rows]
        if group.member.annotations is not None:
            number, frames = int(out["episode_index"][into[0]]), out["frame_index"][into]
            for name, values in group.member.annotations.at(number, frames).items():
                if name in self._extras:
                    out[name][into] = values
        actions = window.actions(contract, made, group.member.turns)
        out["action"][into, :, : actions.shape[-1]] = actions
        out["action_is_pad"][into] = window.ahead.is_pad
        out["action_mask"][into, : actions.shape[-1]] = True
        if contract.state_dim:
            state = window.states(contract, made)
            out["observation.state"][into, ..., : state.shape[-1]] = self._one(state)
            out["observation.state_is_pad"][into] = self._one(window.behind.is_pad)
            out["observation.state_mask"][into, : state.shape[-1]] = True
        for camera in made.frames:
            name = CAMERA.format(camera)
            out[IS_PAD.format(name)][into] = self._one(window.behind.is_pad)
            self._images(camera, group, window.behind, out[name])

    def _one(self, values: Array) -> Array:
        """Without the axis of time where the contract has no history."""
        return values if self.config.contract.history is not None else values[:, 0]

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
            for h in range(at.low.shape[1]):
                target = out[group.into[k]] if contract.history is None else out[group.into[k], h]
                share, low = float(at.share[k, h]), int(at.low[k, h])
                if mixes and share > 0:
                    mixed = (1 - share) * picture(low) + share * picture(low + 1)
                    target[...] = np.rint(mixed).astype(np.uint8)
                else:
                    target[...] = picture(int(at.nearest[k, h]))
