"""A RECAP (OpenTau) training configuration, read as it is.

Read as OpenTau reads them: ``dataset_mixture`` with ``datasets`` (``root``, ``episodes``, ``repo_id``,
``data_features_name_mapping``, ``state_index``, ``action_index``), ``weights``, ``action_freq``,
``image_resample_strategy``, ``vector_resample_strategy``, ``n_obs_history``, ``history_interval``; and ``seed``
(1000), ``resolution`` (224 x 224), ``num_cams`` (2), ``max_state_dim`` (32), ``max_action_dim`` (32) and
``action_chunk`` (50). (`configs/default.py`, `configs/train.py`.)

What can't be read without guessing is refused:

- ``root`` must be there: nothing is looked up on the Hub
- ``data_features_name_mapping`` must be there: OpenTau's own table of datasets is not ours
- ``action_freq`` must be there: left out, it is 30 Hz in some versions and each dataset's own in others. ``null``
  is each dataset's own
- ``use_delta_joint_actions`` and question-answering datasets (``vqa``) have no counterpart here

Other keys of ``dataset_mixture`` that OpenTau knows have no effect here, and are named in `Config.notes`; unknown
ones are refused. Beside ``dataset_mixture`` there is the configuration of a whole training, which is left alone.
``[contract]`` may add to what OpenTau has no key for, such as a convention, and ``annotation`` to a dataset.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from vla_data.errors import UsageError
from vla_data.mixtures.config import Config, Entry, table
from vla_data.mixtures.contract import Contract, convention_of
from vla_data.safety.text import show

_USED: Final = (
    "datasets",
    "weights",
    "action_freq",
    "image_resample_strategy",
    "vector_resample_strategy",
    "n_obs_history",
    "history_interval",
)
_NO_EFFECT: Final = (
    "delta_stats_max_rows",
    "emit_fps",
    "history_state_drop_prob",
    "metadata_drop_all_prob",
    "response_drop_prob",
    "skip_timestamp_check",
    "subgoal_drop_prob",
    "tolerance_s",
    "val_split_ratio",
)
_DATASET: Final = (
    "root",
    "repo_id",
    "episodes",
    "data_features_name_mapping",
    "state_index",
    "action_index",
    "annotation",
)
_DATASET_REFUSED: Final = ("delta_action_state_map", "grounding", "use_delta_joint_actions", "vqa")
_DATASET_NO_EFFECT: Final = (
    "control_mode",
    "image_transforms",
    "revision",
    "robot_type",
    "skip_timestamp_check",
    "stats",
    "tolerance_s",
    "use_imagenet_stats",
    "val_split_ratio",
    "video_backend",
)
_PIPELINE: Final = ("resolution", "num_cams", "max_state_dim", "max_action_dim", "action_chunk", "seed")
_CONTRACT: Final = ("convention", "extras", "resize", "resample")


def parse(facts: Mapping[str, Any]) -> Config:
    """The configuration.

    Raises:
        UsageError: E001 for unknown keys and wrong values, E231 for what is left open.
        ValueError: a value is wrong.
    """
    mixture = table(facts["dataset_mixture"], "dataset_mixture", (*_USED, *_NO_EFFECT, *_drops(facts)))
    given = {key: facts[key] for key in _PIPELINE if facts.get(key) is not None}
    if "action_freq" not in mixture:
        raise UsageError("E231", "action_freq (OpenTau's own default differs from version to version)")
    more = table(facts.get("contract", {}), "[contract]", _CONTRACT)
    more["convention"] = convention_of(more.get("convention"))
    cameras = tuple(f"camera{number}" for number in range(given.get("num_cams", 2)))
    contract = Contract(
        cameras=cameras,
        image_size=tuple(given.get("resolution", (224, 224))),
        state_dim=given.get("max_state_dim", 32),
        action_dim=given.get("max_action_dim", 32),
        chunk=given.get("action_chunk", 50),
        history=mixture.get("n_obs_history"),
        history_interval=mixture.get("history_interval", 1),
        action_freq=mixture["action_freq"],
        image_resample_strategy=mixture.get("image_resample_strategy", "nearest"),
        vector_resample_strategy=mixture.get("vector_resample_strategy", "nearest"),
        **{"resample": "rows", **more},
    )
    if not isinstance(mixture.get("datasets"), list):
        raise UsageError("E001", "dataset_mixture has no list of datasets")
    weights = mixture.get("weights")
    entries = tuple(_entry(one, cameras) for one in mixture["datasets"])
    ignored = {key for key in mixture if key not in _USED}
    ignored |= {f"datasets.{key}" for one in mixture["datasets"] for key in one if key in _DATASET_NO_EFFECT}
    return Config(
        contract=contract,
        datasets=entries,
        weights=None if weights is None else tuple(weights),
        seed=given.get("seed", 1000),
        notes=tuple(sorted(ignored)),
    )


def _entry(facts: Any, cameras: tuple[str, ...]) -> Entry:
    given = table(facts, "a dataset of dataset_mixture", (*_DATASET, *_DATASET_REFUSED, *_DATASET_NO_EFFECT))
    name = str(given.get("repo_id") or "")
    for key in _DATASET_REFUSED:
        if given.get(key):
            raise UsageError("E001", f"dataset {show(name)} has {key}, which has no counterpart here")
    for key in ("root", "data_features_name_mapping"):
        if not given.get(key):
            raise UsageError("E231", f"{key} of dataset {show(name)}")
    names = table(given["data_features_name_mapping"], "data_features_name_mapping", None)
    if "actions" not in names:
        raise UsageError("E231", f"actions in data_features_name_mapping of dataset {show(name)}")
    extra: dict[str, Any] = {} if given.get("episodes") is None else {"episodes": tuple(given["episodes"])}
    for key in ("state_index", "action_index"):
        if given.get(key) is not None:
            extra[key] = tuple(given[key])
    return Entry(
        root=given["root"],
        name=name,
        cameras={camera: names.get(camera, "") for camera in cameras},
        state=(names["state"],) if names.get("state") else (),
        action=names["actions"],
        annotation=given.get("annotation") or "",
        task="" if names.get("prompt") in (None, "task") else names["prompt"],
        **extra,
    )


def _drops(facts: Mapping[str, Any]) -> list[str]:
    """Keys of metadata that OpenTau drops from prompts by chance: ``<field>_drop_prob``."""
    mixture = facts["dataset_mixture"]
    return [key for key in mixture if str(key).endswith("_drop_prob")] if isinstance(mixture, Mapping) else []
