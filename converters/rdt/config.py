"""The configuration files that RDT needs for a dataset, as snippets for its ``configs`` folder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from converters.rdt import cameras as rdt_cameras
from converters.rdt.stats import rdt_std
from vla_data.core import Json
from vla_data.statistics import VectorStats

FOLDER: Final = "configs"
STAT: Final = "dataset_stat.json"
"""Dataset -> mean, deviation and range of its states and actions."""
FREQUENCY: Final = "dataset_control_freq.json"
"""Dataset -> steps a second."""
DATASETS: Final = "finetune_datasets.json"
WEIGHTS: Final = "finetune_sample_weights.json"
"""Dataset -> how often it is drawn."""
CAMERAS: Final = "dataset_img_keys.json"
"""Dataset -> its cameras in the places of RDT's four, and which of these are masked."""

WEIGHT: Final = 100
Pair = tuple[NDArray[np.float64], NDArray[np.float64]]


def configs(name: str, *, fps: float, cameras: Iterable[str], stat: Mapping[str, Json]) -> dict[str, Json]:
    """File name -> content. Where RDT has such a file already, the entry belongs into it.

    Args:
        name: of the dataset.
        fps: control rate in Hz.
        cameras: of `rdt_cameras.SLOTS`, those that there are.
        stat: from `statistics`.
    """
    there = list(cameras)
    # RDT wants four, of which its dataset of TFRecords uses three; an absent one repeats another and is masked.
    keys = [slot if slot in there else there[0] for slot in (*rdt_cameras.SLOTS, there[0])]
    mask = [int(slot in there) for slot in rdt_cameras.SLOTS] + [0]
    return {
        FREQUENCY: {name: int(fps) if float(fps).is_integer() else fps},
        DATASETS: [name],
        WEIGHTS: {name: WEIGHT},
        CAMERAS: {name: {"image_keys": keys, "image_mask": mask}},
        STAT: {name: dict(stat)},
    }


def statistics(name: str, pairs: Iterable[Pair]) -> dict[str, Json]:
    """The entry of ``dataset_stat.json``.

    RDT's training reads ``state_mean`` alone, as the state of a sample whose state is hidden. ``state_std`` is
    what RDT's script calls so, see `converters.rdt.stats.rdt_std`; ``state_true_std`` is the standard
    deviation. ``action_*`` (the deviation a true one) is added for people.

    Args:
        name: of the dataset.
        pairs: states and actions ``(T, 128)`` of each episode, of the steps that are trained on.
    """
    state: VectorStats | None = None
    action: VectorStats | None = None
    for states, actions in pairs:
        state = VectorStats.of(states) if state is None else state.update(states)
        action = VectorStats.of(actions) if action is None else action.update(actions)
    if state is None or action is None:
        raise ValueError("there is no episode")
    rows = {
        "state_mean": state.mean,
        "state_std": rdt_std(state),
        "state_min": state.min,
        "state_max": state.max,
        "state_true_std": state.std,
        "action_mean": action.mean,
        "action_std": action.std,
        "action_min": action.min,
        "action_max": action.max,
    }
    return {"dataset_name": name, **{key: np.asarray(row).tolist() for key, row in rows.items()}}
