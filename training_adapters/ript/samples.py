"""Rollouts and datasets sample by sample, in openpi's layout, with advantages and hashes where there are any.

    samples = Samples("OUT", horizon=8, cameras={"base_0_rgb": "observation.images.primary"}, run="runs/ript")
    samples[0]  # {"image", "state", "action_chunk", "action_is_pad", "prompt", "advantages", "init_hash"}

It is a ``Dataset`` of openpi: ``__len__`` and ``__getitem__``. openpi calls the chunk ``actions``; its
``RepackTransform`` with `REPACK` renames it. A dataset without hashes and advantages gives
samples without them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from training_adapters.ript.groups import compare
from training_adapters.ript.ledger import NAME, Ledger
from vla_data.errors import DataError, UsageError
from vla_data.formats import open_source
from vla_data.mixtures import Contract, open_mixture
from vla_data.mixtures.config import Config, Entry
from vla_data.safety.text import show

Sample = dict[str, Any]

REPACK: Final = {"state": "state", "actions": "action_chunk", "prompt": "prompt"}
"""For openpi's ``RepackTransform``, besides ``image/<camera>: image/<camera>``."""

_IDENTITY: Final = ("policy_version", "wave", "group", "member")


class Samples:
    """See the module.

    Args:
        dataset: a path or FORMAT:PATH of anything that vla-data reads: a folder of rollouts, or what ``align`` or
            ``convert`` made of them.
        horizon: H, actions of a sample.
        cameras: openpi's name -> feature, for example ``{"base_0_rgb": "observation.images.primary"}``.
        run: folder of the RIPT run whose rollouts they are: each frame gets its rollout's advantage.
        annotation: or tag of the dataset's annotation: each frame gets its own.

    Raises:
        UsageError: E001, ``run`` and ``annotation``; E003, there is no such run; see `vla_data.mixtures` for the
            rest.
        DataError: E302, an episode is none of the run's.
    """

    def __init__(
        self,
        dataset: str | Path,
        *,
        horizon: int,
        cameras: Mapping[str, str] | None = None,
        run: str | Path | None = None,
        annotation: str = "",
    ) -> None:
        if run is not None and annotation:
            raise UsageError("E001", "advantages are of a run or of an annotation, not of both")
        self._cameras = dict(cameras or {})
        entry = Entry(root=str(dataset), cameras=self._cameras, annotation=annotation)
        looked = open_mixture(Config(contract=Contract(), datasets=(Entry(root=str(dataset)),)))
        contract = Contract(chunk=horizon, state_dim=looked.members[0].widths[0], cameras=tuple(self._cameras))
        self._mixture = open_mixture(Config(contract=contract, datasets=(entry,)))
        self._facts = _facts(str(dataset), [ref.id for ref in self._mixture.members[0].refs])
        self._worth = None if run is None else _worth(Path(run), self._facts)
        self._annotated = bool(annotation)

    def __len__(self) -> int:
        """Frames of all episodes."""
        return len(self._mixture)

    def __getitem__(self, index: int) -> Sample:
        """The sample of a frame.

        - ``image``: camera -> (height, width, 3) uint8
        - ``state``: (S,) float32; ``prompt``: text
        - ``action_chunk``: (H, D) float32, from this frame on; ``action_is_pad``: (H,) bool, after the end, where
          the last action is repeated
        - ``advantages``: (H,) float32, one number for the whole chunk, where there are any
        - ``init_hash``: text, where the episode has one
        """
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        batch = self._mixture.gather([0], [index % len(self)])
        episode = int(batch["episode_position"][0])
        sample: Sample = {
            "image": {name: batch[f"observation.images.{name}"][0] for name in self._cameras},
            "action_chunk": batch["action"][0],
            "action_is_pad": batch["action_is_pad"][0],
            "prompt": batch["task"][0],
        }
        if "observation.state" in batch:
            sample["state"] = batch["observation.state"][0]
        worth = self._advantage(batch, episode)
        if worth is not None:
            sample["advantages"] = np.full(len(sample["action_chunk"]), worth, dtype=np.float32)
        if "init_hash" in self._facts[episode]:
            sample["init_hash"] = str(self._facts[episode]["init_hash"])
        return sample

    def _advantage(self, batch: Mapping[str, Any], episode: int) -> float | None:
        if self._annotated:
            return float(batch["advantage"][0])
        return None if self._worth is None else self._worth[episode]


def collate(samples: Sequence[Sample]) -> dict[str, Any]:
    """Samples as a batch of this library's names, for its transforms: see `vla_data.mixtures.Mixture.gather`."""
    batch: dict[str, Any] = {
        "action": np.stack([sample["action_chunk"] for sample in samples]),
        "action_is_pad": np.stack([sample["action_is_pad"] for sample in samples]),
        "task": [sample["prompt"] for sample in samples],
    }
    if "state" in samples[0]:
        batch["observation.state"] = np.stack([sample["state"] for sample in samples])
    for camera in samples[0]["image"]:
        batch[f"observation.images.{camera}"] = np.stack([sample["image"][camera] for sample in samples])
    if "advantages" in samples[0]:
        batch["advantage"] = np.stack([sample["advantages"] for sample in samples])[:, 0]
    return batch


def _facts(dataset: str, ids: Iterable[str]) -> list[Mapping[str, Any]]:
    """What was recorded of each episode, by the ids of those that can be used."""
    source = open_source(dataset)
    refs = {ref.id: ref for ref in source.episodes()}
    return [dict(source.read(refs[name]).meta.episode_metadata or {}) for name in ids]


def _worth(run: Path, facts: Sequence[Mapping[str, Any]]) -> list[float]:
    """The advantage of each episode, which is a rollout of the run."""
    if not (run / NAME).is_file():
        raise UsageError("E003", f"{show(run)} is no run of RIPT: {NAME} is missing")
    compared = compare(outcome for wave in Ledger(run) for outcome in wave.outcomes(dropped=True))
    known = {
        (outcome.init_hash, *outcome.identity): float(advantage)
        for outcome, advantage in zip(compared.outcomes, compared.advantages, strict=True)
    }
    out = []
    for number, told in enumerate(facts):
        key = (told.get("init_hash"), *(told.get(name) for name in _IDENTITY))
        if key not in known:
            raise DataError("E302", f"episode {number} is none of the rollouts of {show(run)}")
        out.append(known[key])
    return out
