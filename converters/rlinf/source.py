"""RLinf's collected episodes: ``rank_R_env_E_episode_N_step_S_success.pkl``, read without running anything.

A file is a pickled dictionary of ``CollectEpisode(export_format="pickle")``: ``actions`` of T steps;
``observations``, ``rewards``, ``terminated``, ``truncated`` and ``infos`` of T+1, the first of them from before
any action; and the ``success`` of the episode. Observations are dictionaries of arrays or tensors:
``main_images`` (or ``image``, ``full_image``), ``wrist_images``, ``extra_view_images``, ``states`` and
``task_descriptions``.

The files do not say what actions and states mean, and at which rate: it has to be declared.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from converters.rollouts.images import read_images
from converters.rollouts.pickled import (
    SUFFIXES,
    Pickles,
    array_of,
    check_finite,
    column,
    described,
    flag,
    narrow,
    rows,
    steps_of,
)
from vla_data import options as checks
from vla_data.core import Episode, EpisodeMeta, EpisodeRef, Schema
from vla_data.errors import DataError, UsageError
from vla_data.media.frames import Frames
from vla_data.names import natural
from vla_data.safety import text, unpickle

DEFAULT_FPS: Final = 10.0
_NAME: Final = re.compile(r"rank_\d+_env_\d+_episode_\d+(?:_step_\d+)?_(?:success|fail)\.pkl")
_CAMERAS: Final = {
    "primary": ("main_images", "image", "full_image"),
    "wrist": ("wrist_images", "wrist_image"),
    "extra": ("extra_view_images", "extra_view_image"),
}
_STATES: Final = ("states", "state")
_SUCCESS: Final = ("success_once", "success_at_end", "success")


@dataclass(frozen=True, kw_only=True)
class RlinfSource(Pickles):
    """Reads a folder (with its subfolders) of RLinf's pickles, or one file.

    Attributes:
        root: the folder or file.
        fps: steps per second, which the files do not say; RLinf's own exporter takes 10.
        interventions: where a person took over, ``action`` is what that one did, as RLinf's own exporter has it;
            False: what the policy said.
        max_episodes: read only the first so many files.
    """

    root: Path = field(repr=False)
    fps: float = DEFAULT_FPS
    interventions: bool = True
    max_episodes: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "fps", checks.number("fps", self.fps, low=1e-3, high=1e6))
        checks.flag("interventions", self.interventions)
        if self.max_episodes is not None:
            checks.whole("max_episodes", self.max_episodes, low=1)

    def episodes(self) -> Sequence[EpisodeRef]:
        """Every pickle of such a name below the root, by natural order of its relative path."""
        found = self._files.sizes(SUFFIXES)
        if found is None:
            raise UsageError("E003", f"{text.show(self.root)} is not there")
        refs = [EpisodeRef(name, size) for name, size in found.items() if _NAME.fullmatch(name.rpartition("/")[2])]
        if not refs:
            raise UsageError("E003", f"{text.show(self.root)} has no rank_R_env_E_episode_N_success.pkl of RLinf")
        return sorted(refs, key=lambda ref: natural(ref.id))[: self.max_episodes]

    def states(self, refs: Sequence[EpisodeRef]) -> Mapping[str, object]:
        """See `vla_data.core.base.BaseSource`."""
        return self._files.states([ref.id for ref in refs])

    def fingerprint(self, ref: EpisodeRef) -> str:
        """SHA-256 of the file. See `vla_data.core.Source`."""
        return self._files.read(ref.id)[1]

    def read(self, ref: EpisodeRef) -> Episode:
        """Read one episode. See `vla_data.core.Source`."""
        data, sha256 = self._files.read(ref.id)
        try:
            return self._episode(ref.id, unpickle.loads(data, tensors=True), sha256)
        except DataError as error:
            error.source_sha256 = sha256
            raise

    def schema(self, episode: Episode) -> Schema:
        """What the arrays and frames of ``episode`` are; what they mean is not in the files."""
        return described(episode, self.fps)

    def _episode(self, name: str, told: Any, sha256: str) -> Episode:
        if not isinstance(told, dict) or not {"observations", "actions", "success"} <= told.keys():
            raise DataError("E206", "it is no episode of RLinf: observations, actions or success is missing")
        steps = len(steps_of("actions", told["actions"]))
        if not steps:
            raise DataError("E207", "the episode has no steps")
        for key in ("observations", "rewards", "terminated", "truncated", "infos"):
            if (count := len(steps_of(key, told.get(key, ())))) != steps + 1:
                raise DataError("E204", f"{count:,} {key} for {steps:,} actions, not one more")
        seen, infos = told["observations"], told["infos"][1:]
        if not all(isinstance(each, dict) for each in (*seen, *infos)):
            raise DataError("E203", "an observation or info is no dictionary")
        notes: list[str] = []
        arrays: dict[str, NDArray[Any]] = {"action": self._actions(told["actions"], infos, notes)}
        arrays["next.reward"] = narrow(column("reward", told["rewards"][1:]))
        for key in ("terminated", "truncated"):
            arrays[f"next.{key}"] = column(key, told[key][1:]).astype(np.bool_)
        arrays["next.done"] = arrays["next.terminated"] | arrays["next.truncated"]
        arrays["next.success"] = _success(infos, solved=flag(told["success"]))
        final: dict[str, Frames | NDArray[Any]] = {}
        state = _first(seen, _STATES)
        if state is not None:
            seen_states = narrow(rows("state", state))
            arrays["observation.state"], final["observation.state"] = seen_states[:steps], seen_states[steps:]
        frames: dict[str, Frames] = {}
        for camera, pictures in _pictures(seen).items():
            feature = f"observation.images.{camera}"
            found = read_images(pictures, encoded=False, allowed=frozenset(), size=None, notes=notes)
            frames[feature], final[feature] = found.take(range(steps)), found.take([steps])
        if final:
            notes.append("last_observation_dropped")
        check_finite(arrays)
        facts = {key: told[key] for key in ("rank", "env_idx", "episode_id", "step") if type(told.get(key)) is int}
        return Episode(
            id=name,
            arrays=arrays,
            frames=frames,
            final=final,
            task=text.instruction(_task(seen), lines=True),
            index=np.arange(steps),
            meta=EpisodeMeta(source="rlinf", source_length=steps, source_sha256=sha256, episode_metadata=facts),
            notes=tuple(notes),
        )

    def _actions(self, actions: Any, infos: Sequence[Mapping[str, Any]], notes: list[str]) -> NDArray[np.float32]:
        taken = narrow(rows("action", [array_of("action", action).reshape(-1) for action in actions]))
        for t, info in enumerate(infos):
            flags = info.get("intervene_flag")
            if self.interventions and flags is not None and array_of("intervene_flag", flags).all():
                by_hand = array_of("intervene_action", info.get("intervene_action"))
                if by_hand.size != taken.shape[1]:
                    raise DataError("E203", f"the intervention of step {t} has {by_hand.size} numbers")
                taken[t] = by_hand.reshape(-1)
                if "intervention_taken" not in notes:
                    notes.append("intervention_taken")
        return taken


def _success(infos: Sequence[Mapping[str, Any]], *, solved: bool) -> NDArray[np.bool_]:
    """Whether the task is solved after each step, as far as the environment said; in the end as the file says."""
    out = np.zeros(len(infos), dtype=np.bool_)
    for t, info in enumerate(infos):
        episode = info.get("episode")
        told = episode if isinstance(episode, dict) else info
        known = next((told[key] for key in _SUCCESS if key in told), None)
        if known is not None and (flags := array_of("success", known)).size == 1:
            out[t] = bool(flags.reshape(-1)[0])
    out[-1] = solved or out[-1]
    return out if solved else np.zeros_like(out)


def _first(seen: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[Any] | None:
    """What each observation has under the first of these names that all have."""
    for name in names:
        values = [one.get(name) for one in seen]
        if all(value is not None for value in values):
            return values
    return None


def _pictures(seen: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Camera -> its picture in each observation; one name for each of several pictures of a key."""
    out: dict[str, list[Any]] = {}
    for camera, names in _CAMERAS.items():
        values = _first(seen, names)
        if values is None:
            continue
        arrays = [array_of(names[0], value) for value in values]
        if len({array.shape[0] if array.ndim == 4 else 1 for array in arrays}) > 1:
            raise DataError("E203", f"{names[0]} has another number of pictures from step to step")
        if arrays[0].ndim == 4 and arrays[0].shape[0] > 1:
            for number in range(arrays[0].shape[0]):
                out[f"{camera}_{number}"] = [array[number] for array in arrays]
        else:
            out[camera] = [array[0] if array.ndim == 4 else array for array in arrays]
    return out


def _task(seen: Sequence[Mapping[str, Any]]) -> str:
    for one in reversed(seen):
        told = one.get("task_descriptions")
        if isinstance(told, list | tuple) and len(told) == 1:
            told = told[0]
        if isinstance(told, str):
            return told
        if told is not None:
            raise DataError("E212", "task_descriptions is not one text")
    raise DataError("E211", "no observation has task_descriptions")
