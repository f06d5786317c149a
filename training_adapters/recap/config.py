"""The options of RECAP's stages: the documented configuration, ours beside it, and presets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from training_adapters import checked
from training_adapters.envs.starts import HELD_OUT_SEED
from training_adapters.recap.indicator import MODES, Mode
from training_adapters.settings import read_settings
from vla_data import options as checks
from vla_data.advantages import Recap
from vla_data.advantages.labels import Labels
from vla_data.errors import UsageError
from vla_data.mixtures.config import table

TABLES: Final[Mapping[str, Mapping[str, str]]] = MappingProxyType(
    {
        "policy": {"advantage": "advantage", "advantage_threshold": "advantage_threshold"},
        "reward_config": {
            "number_of_bins": "number_of_bins",
            "C_neg": "c_neg",
            "reward_normalizer": "reward_normalizer",
            "N_steps_look_ahead": "look_ahead",
        },
    }
)
"""Documented table -> its keys -> our options."""
PIPELINE: Final = ("resolution", "num_cams", "max_state_dim", "max_action_dim", "action_chunk")
"""Keys that RECAP's own configuration has beside ``dataset_mixture`` and that say what batches look like; policies
of states read none of it, so they are checked with the mixture and have no effect."""


@dataclass(frozen=True, kw_only=True)
class RecapConfig:
    """How RECAP's stages are run. Steps are those of the environment.

    Attributes:
        env: where the policy acts; see `training_adapters.envs.table`.
        seed: of everything that is drawn.
        dataset_mixture: the demonstrations, as RECAP's configuration has them; see
            `training_adapters.opentau.mixture`. None: ``demos`` episodes of the environment's scripted expert.
        demos: how many.
        least_start: success on 90 starts of `SELECTION_SEED` that the cloned policy must have; with less, another
            20 demonstrations are collected and it is cloned anew, up to four times ``demos``. 0: whatever it has.
        sft_updates: of the policy that is cloned.
        value_updates: of the critic on demonstrations.
        value_finetune_updates: of each fold's critic on rollouts.
        policy_updates: of the policy on rollouts and demonstrations.
        sft_batch: frames of an update.
        value_batch: likewise.
        policy_batch: likewise.
        sft_learning_rate: at its highest.
        value_learning_rate: likewise.
        policy_learning_rate: likewise.
        rollouts: episodes of a round.
        folds: of the cross-fitting: a frame's value is of a critic that saw nothing of its episode.
        curve: numbers of episodes for a learning curve of the critic; empty: none.
        number_of_bins: of the value.
        c_neg: what a failure costs, in steps.
        reward_normalizer: what returns are divided by, in steps, or ``per-task``.
        look_ahead: steps of advantages; None: to the end of the episode (Monte-Carlo).
        advantage: ``use``: prompts say which frames are positive; ``on``: all are; ``ignore``: none is said.
        advantage_threshold: what is positive, in the unit of advantages; None: the best ``positive_share``.
        positive_share: of each task's frames.
        force_positive: a feature of flags, frames that are positive in any case: corrections by people. "": none.
        dropout: share of frames whose prompt does not say it.
        beta: of guidance when the policy is played; 1: none.
        demo_share: of a batch that are demonstrations, which are positive.
        eval_episodes: held-out episodes; 0: none.
        eval_seed: of the held-out starts.
        save_every: updates between checkpoints, from which a stage goes on; 0: at its end alone.
        accept_weak_critic: train a policy on advantages of a critic that cannot be told from chance.
    """

    env: str = "tabletop"
    seed: int = 0
    dataset_mixture: Mapping[str, Any] | None = None
    demos: int = 80
    least_start: float = 0.5
    sft_updates: int = 1_500
    value_updates: int = 300
    value_finetune_updates: int = 1_200
    policy_updates: int = 2_500
    sft_batch: int = 64
    value_batch: int = 256
    policy_batch: int = 256
    sft_learning_rate: float = 2e-3
    value_learning_rate: float = 2e-3
    policy_learning_rate: float = 1e-3
    rollouts: int = 2_000
    folds: int = 3
    curve: tuple[int, ...] = ()
    number_of_bins: int = 201
    c_neg: int = -48
    reward_normalizer: int | str = 96
    look_ahead: int | None = None
    advantage: Mode = "use"
    advantage_threshold: float | None = None
    positive_share: float = 0.3
    force_positive: str = ""
    dropout: float = 0.3
    beta: float = 3.0
    demo_share: float = 0.1
    eval_episodes: int = 240
    eval_seed: int = HELD_OUT_SEED
    save_every: int = 500
    accept_weak_critic: bool = False

    def __post_init__(self) -> None:
        checked.wholes(self, 1, "demos", "sft_batch", "value_batch", "policy_batch", "rollouts")
        checked.wholes(self, 1, "sft_updates", "value_updates", "value_finetune_updates", "policy_updates")
        checked.wholes(self, 0, "seed", "eval_episodes", "eval_seed", "save_every")
        rates = ("sft_learning_rate", "value_learning_rate", "policy_learning_rate")
        checked.numbers(self, checked.LEAST, checked.MOST, *rates)
        checked.numbers(self, 0, 1, "least_start", "positive_share", "dropout", "demo_share")
        checked.numbers(self, 0, 100, "beta")
        checked.texts(self, "env", "force_positive")
        checked.words(self, {"advantage": MODES})
        checks.whole("folds", self.folds, low=2, high=100)
        checks.whole("number_of_bins", self.number_of_bins, low=2, high=1 << 16)
        checks.flag("accept_weak_critic", self.accept_weak_critic)
        object.__setattr__(self, "curve", tuple(checks.whole("curve", size, low=1) for size in self.curve))
        if self.demo_share == 1:
            raise ValueError("demo_share is 1: no frame of a rollout would be learnt")
        self.rules()
        self.labels()

    def rules(self, look_ahead: int | None = None) -> Recap:
        """How rewards become advantages; ``look_ahead`` replaces the configured one."""
        normalizer: Any = self.reward_normalizer
        return Recap(c_neg=self.c_neg, normalizer=normalizer, n=look_ahead or self.look_ahead)

    def labels(self) -> Labels:
        """What is positive."""
        if self.advantage_threshold is not None:
            return Labels(epsilon=self.advantage_threshold)
        return Labels(share=self.positive_share, per_task=True)


PRESETS: Final[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
    {
        "debug": MappingProxyType(
            {
                "demos": 18,
                "least_start": 0.0,
                "sft_updates": 60,
                "value_updates": 20,
                "value_finetune_updates": 40,
                "policy_updates": 40,
                "rollouts": 27,
                "eval_episodes": 18,
                "save_every": 20,
                "accept_weak_critic": True,
            }
        ),
        "full": MappingProxyType(
            {"rollouts": 300, "c_neg": -1000, "reward_normalizer": 1600, "look_ahead": 50, "beta": 1.0}
        ),
        "laptop": MappingProxyType({}),
    }
)
"""What differs from the defaults. ``full`` has the published numbers, ``debug`` is too small to learn anything:
its critic cannot be told from chance, and is accepted."""


def presets_and(config: str) -> Mapping[str, Mapping[str, Any]]:
    """The presets, and the file that ``config`` names, where it is none of them, with its tables taken apart.

    Raises:
        UsageError: E001, an unknown key, with the nearest that is known; E003, there is no such file.
    """
    if config in PRESETS:
        return PRESETS
    return {**PRESETS, config: flat(read_settings(config, PRESETS))}


def flat(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a configuration as it is documented.

    Raises:
        UsageError: E001, an unknown key, with the nearest that is known.
    """
    own = {field.name for field in fields(RecapConfig)}
    given = table(facts, "the configuration", (*own, *TABLES, *PIPELINE))
    for name, options in TABLES.items():
        one = table(given.pop(name, {}), name, options)
        given |= {options[key]: value for key, value in one.items()}
    given = {name: value for name, value in given.items() if name not in PIPELINE}
    if given.get("dataset_mixture") is not None:
        mixture = given["dataset_mixture"]
        if not isinstance(mixture, Mapping):
            raise UsageError("E001", "dataset_mixture is not a table")
        given["dataset_mixture"] = _rooted(mixture)
    return given


def _rooted(mixture: Mapping[str, Any]) -> dict[str, Any]:
    """With whole paths: a run is gone on with from any folder."""
    out = dict(mixture)
    if isinstance(mixture.get("datasets"), list):
        out["datasets"] = [
            {**one, "root": str(Path(one["root"]).absolute())}
            if isinstance(one, Mapping) and isinstance(one.get("root"), str) and ":" not in one["root"]
            else one
            for one in mixture["datasets"]
        ]
    return out
