"""The options of RIPT and their presets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from training_adapters import checked
from training_adapters.loop import PRECISIONS, SCHEDULES
from training_adapters.ppo.loss import RATIOS
from training_adapters.ript.collect import REWARDS, Plan
from training_adapters.ript.credit import CREDITS
from training_adapters.ript.processor import AdvantageProcessor
from vla_data import options as checks

OPTIMISATIONS: Final = ("ppo", "cfg")
CHUNKS: Final = ("begun", "every_step")
SHUFFLES: Final = ("", "advantages", "groups")


@dataclass(frozen=True, kw_only=True)
class RIPTConfig:
    """How a policy is trained on groups of rollouts; names are the published OpenPI-RIPT's where it has them.

    Attributes:
        env: name of the environment; see `training_adapters.envs.table`.
        start: the policy to begin with: ``demos`` (cloned from ``demos`` episodes of the environment's scripted
            expert), or a checkpoint's folder. A random one has to be asked for: ``scratch``.
        optimisation: ``ppo``: the clipped loss, of a policy of tokens. ``cfg``: the guided loss, of a policy of a
            flow.
        num_train_steps: updates in all; each has a policy version, and collects once.
        demo_batch_size: starts, and so groups, of a wave.
        rloo_batch_size: rollouts from each start, K.
        rollout_goal_per_step: rollouts of groups that teach, for which waves are played; 0: one wave.
        max_waves: waves of an update at most.
        start_pool: recorded starts that groups are drawn from; 0: each group has a new one.
        enable_dynamic_sampling: groups of equal rewards are left out.
        enable_state_skipping: starts that are solved are skipped.
        rollout_skip_threshold: how often, before they are played again.
        reward: ``success``, 1 or 0; or ``return``, the sum of rewards.
        advantage_normalization: see `training_adapters.ript.processor.AdvantageProcessor`, as for what follows.
        advantage_clipping: likewise.
        advantage_clip_value: likewise.
        advantage_clip_value_negative: likewise.
        advantage_negative_handling: likewise.
        advantage_scope: likewise.
        credit: of ``ppo``: every chunk has the advantage of its ``rollout``, or is compared with those of the
            group that were still ``running``; see `training_adapters.ript.credit`.
        num_ppo_epochs: times that each chunk is learnt from.
        batch_size: chunks of a step of the optimiser.
        gradient_accumulation_steps: parts that such a batch is computed in.
        learning_rate: of the policy, at the schedule's 1.
        schedule: ``constant``; ``linear``: it falls to a tenth; ``warm_linear``, ``cosine``: after a rise.
        weight_decay: of AdamW.
        gradient_clip_norm: bound of the gradient's norm.
        clip_coef: of ``ppo``: how far the ratio of probabilities counts.
        ratio: of ``ppo``: ``chunk`` or ``token``; see `training_adapters.ppo.loss.clipped`.
        ent_coef: of ``ppo``: of the mean entropy of the tokens.
        target_kl: of ``ppo``: the divergence after which an update is over; None: no bound.
        cfg_alpha: of ``cfg``: weight of the branch without the indicator.
        cfg_scale: of ``cfg``: of guidance when the policy acts; 1 is the branch with the indicator.
        cfg_chunks: of ``cfg``: ``every_step`` of an episode begins a chunk to learn, or only those that the policy
            had ``begun``.
        horizon: steps of a chunk; None: the environment's. A checkpoint has its own.
        lanes: environments side by side.
        temperature: of sampling.
        images: rollouts are recorded with the camera, which the policies here do not see.
        shuffle: a control, which is not to be learnt from: ``groups``: each rollout is compared with those of a
            group that is drawn by lot; ``advantages``: advantages are dealt out by lot. "": neither.
        demos: episodes to clone for ``start = "demos"``.
        demo_updates: of the optimiser, to clone them.
        eval_episodes: held-out episodes before and after; 0: none.
        eval_interval: updates between evaluations on other starts; 0: none.
        save_interval: updates between checkpoints; 0: at the end alone.
        log_interval: updates between lines for a person; each has a line in ``metrics.jsonl``.
        precision: ``no``, ``bf16`` or ``fp16``.
        seed: of everything that is drawn.
    """

    env: str = "tabletop"
    start: str = "demos"
    optimisation: str = "ppo"
    num_train_steps: int = 1_000
    demo_batch_size: int = 4
    rloo_batch_size: int = 8
    rollout_goal_per_step: int = 100
    max_waves: int = 8
    start_pool: int = 0
    enable_dynamic_sampling: bool = True
    enable_state_skipping: bool = True
    rollout_skip_threshold: int = 3
    reward: str = "success"
    advantage_normalization: str = "none"
    advantage_clipping: str = "symmetric"
    advantage_clip_value: float = 3.0
    advantage_clip_value_negative: float | None = None
    advantage_negative_handling: str = "keep"
    advantage_scope: str = "batch"
    credit: str = "rollout"
    num_ppo_epochs: int = 2
    batch_size: int = 128
    gradient_accumulation_steps: int = 4
    learning_rate: float = 5e-5
    schedule: str = "constant"
    weight_decay: float = 1e-2
    gradient_clip_norm: float = 1.0
    clip_coef: float = 0.2
    ratio: str = "chunk"
    ent_coef: float = 0.0
    target_kl: float | None = 0.15
    cfg_alpha: float = 0.1
    cfg_scale: float = 1.0
    cfg_chunks: str = "every_step"
    horizon: int | None = None
    lanes: int = 96
    temperature: float = 1.0
    images: bool = False
    shuffle: str = ""
    demos: int = 120
    demo_updates: int = 900
    eval_episodes: int = 240
    eval_interval: int = 0
    save_interval: int = 10
    log_interval: int = 1
    precision: str = "no"
    seed: int = 42

    def __post_init__(self) -> None:
        checked.texts(self, "env", "start", filled=True)
        checked.wholes(
            *(self, 1, "num_train_steps", "demo_batch_size", "max_waves", "num_ppo_epochs", "batch_size"),
            *("log_interval", "gradient_accumulation_steps", "lanes", "demos", "demo_updates"),
        )
        checked.wholes(self, 1, "horizon", high=4096)
        checked.wholes(self, 2, "rloo_batch_size")
        checked.wholes(
            *(self, 0, "rollout_goal_per_step", "start_pool", "rollout_skip_threshold", "eval_episodes"),
            *("eval_interval", "save_interval", "seed"),
        )
        for name in ("enable_dynamic_sampling", "enable_state_skipping", "images"):
            checks.flag(name, getattr(self, name))
        positive = ("learning_rate", "clip_coef", "gradient_clip_norm", "temperature", "target_kl")
        checked.numbers(self, checked.LEAST, checked.MOST, *positive)
        checked.numbers(self, 0.0, checked.MOST, "weight_decay", "ent_coef", "cfg_alpha", "cfg_scale")
        words = {"optimisation": OPTIMISATIONS, "reward": REWARDS, "ratio": RATIOS, "cfg_chunks": CHUNKS}
        checked.words(self, {**words, "credit": CREDITS, "precision": PRECISIONS})
        checked.words(self, {"schedule": tuple(SCHEDULES), "shuffle": SHUFFLES})
        checked.shared(self, "gradient_accumulation_steps", "batch_size", "chunks")
        if self.start_pool and self.start_pool < self.demo_batch_size:
            raise ValueError(f"start_pool is {self.start_pool}, and a wave has {self.demo_batch_size} starts")
        if self.optimisation == "cfg" and not self.processor.keeps_signs:
            raise ValueError(
                "cfg reads the sign of an advantage alone, and with advantage_normalization"
                f" {self.advantage_normalization} and advantage_negative_handling"
                f" {self.advantage_negative_handling} what was worse than its group is above 0 too: take keep,"
                " relu or clamp, and no min_max"
            )

    @property
    def processor(self) -> AdvantageProcessor:
        """What advantages go through."""
        return AdvantageProcessor(
            normalization=self.advantage_normalization,
            clipping=self.advantage_clipping,
            clip_value=self.advantage_clip_value,
            clip_value_negative=self.advantage_clip_value_negative,
            negative_handling=self.advantage_negative_handling,
            scope=self.advantage_scope,
        )

    @property
    def plan(self) -> Plan:
        """How groups are collected."""
        return Plan(
            starts=self.demo_batch_size,
            size=self.rloo_batch_size,
            goal=self.rollout_goal_per_step,
            waves=self.max_waves,
            pool=self.start_pool,
            drop_uniform=self.enable_dynamic_sampling,
            skip=self.enable_state_skipping,
            threshold=self.rollout_skip_threshold,
            reward=self.reward,
            lanes=self.lanes,
            temperature=self.temperature,
            images=self.images,
            seed=self.seed,
        )


_SMALL: Final = RIPTConfig(
    demo_batch_size=12,
    rollout_goal_per_step=0,
    gradient_accumulation_steps=1,
    learning_rate=3e-4,
    weight_decay=0.0,
    gradient_clip_norm=0.5,
    ratio="token",
    target_kl=None,
)

PRESETS: Final[Mapping[str, RIPTConfig]] = MappingProxyType(
    {
        "debug": replace(
            _SMALL,
            num_train_steps=2,
            demo_batch_size=3,
            rloo_batch_size=4,
            start_pool=6,
            save_interval=1,
            demo_updates=600,
            eval_episodes=36,
        ),
        "full": RIPTConfig(),
        "laptop": replace(
            _SMALL,
            num_train_steps=160,
            credit="running",
            num_ppo_epochs=3,
            learning_rate=2e-4,
            schedule="warm_linear",
        ),
    }
)
"""``full`` has the numbers of the published OpenPI-RIPT as far as it has them, ``laptop`` ours, for two cores: see
`docs/ript.md` for what it was measured to do."""

_NO_PART: Final = (
    "the policies here have no such part; of a model of yours, freeze it where you make its optimiser"
)

ELSEWHERE: Final[Mapping[str, str]] = MappingProxyType(
    {
        "action_chunk_size": "it is horizon",
        "advantage_negative": "it is advantage_negative_handling",
        "checkpoint_path": "it is start, or --start",
        "dataset_id": "a start from a dataset: vla-train sft --dataset, then --start",
        "device": "the policies here run on the CPU",
        "device_id": "the policies here run on the CPU",
        "enable_amp": "it is precision: no, bf16 or fp16",
        "enable_cfg_safe_copy": "branches are always deep copies, and that is checked",
        "enable_wandb": "it is --wandb",
        "experiment_name": "it is --exp-name",
        "freeze_vision_encoder": _NO_PART,
        "image_size": "images are recorded as the environment renders them; a loader's transform resizes them",
        "output_dir": "it is --runs",
        "target_state_dim": "it is the transform StateDim of a loader: vla_data.mixtures.transforms",
        "train_expert_only": _NO_PART,
        "train_state_proj": _NO_PART,
        "verbose": "it is log_interval",
    }
)
"""Options of the published `TrainingConfig` that are not options here -> where they are."""
