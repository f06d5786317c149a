"""The options of supervised fine-tuning and their presets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from training_adapters import checked
from training_adapters.cloning import SCALE, VOCABULARY
from training_adapters.loop import PRECISIONS

OBSERVATIONS: Final = ("state", "pixels")


@dataclass(frozen=True, kw_only=True)
class SFTConfig:
    """How a policy is trained on a dataset.

    Attributes:
        dataset: a path or FORMAT:PATH, of any format that vla-data reads.
        env: the environment that it is evaluated in, which also says where objects are in its state.
        obs: what a new policy observes: ``state``, or ``pixels``: the cameras of the environment's policies, the
            prompt, and of the state the robot's own numbers alone.
        auxiliary: of a policy that sees, the feature with the place of what the prompt names, ``(3,)`` in metres,
            which a second loss teaches it to point at; "": none. It is what a simulator knows, in training alone.
        start: a checkpoint to go on from; "": a new policy, whose tokens and scales are fitted on the dataset.
        updates: of the optimiser; 0: a new policy stays random, to compare with.
        batch_size: frames of an update.
        accumulate: parts that such a batch is computed in.
        learning_rate: at its highest; it rises, and falls along a cosine.
        max_grad_norm: bound of the gradient's norm.
        horizon: steps of a chunk; None: the environment's.
        token_scale: of the FAST tokens.
        vocab_size: of the FAST tokens.
        eval_episodes: held-out episodes in the end; 0: none.
        save_every: updates between checkpoints; 0: at the end alone.
        log_every: updates between lines of metrics.
        precision: ``no``, ``bf16`` or ``fp16``.
        seed: of parameters and draws.
    """

    dataset: str
    env: str = "tabletop"
    obs: str = "state"
    auxiliary: str = ""
    start: str = ""
    updates: int = 1_500
    batch_size: int = 64
    accumulate: int = 1
    learning_rate: float = 2e-3
    max_grad_norm: float = 1.0
    horizon: int | None = None
    token_scale: float = SCALE
    vocab_size: int = VOCABULARY
    eval_episodes: int = 240
    save_every: int = 0
    log_every: int = 100
    precision: str = "no"
    seed: int = 0

    def __post_init__(self) -> None:
        checked.texts(self, "dataset", "env", "start", "auxiliary")
        checked.wholes(self, 1, "batch_size", "accumulate", "vocab_size", "log_every")
        checked.wholes(self, 1, "horizon", high=4096)
        checked.wholes(self, 0, "updates", "eval_episodes", "save_every", "seed")
        checked.numbers(self, checked.LEAST, 1e6, "learning_rate", "max_grad_norm", "token_scale")
        checked.words(self, {"precision": PRECISIONS, "obs": OBSERVATIONS})
        if self.auxiliary and self.obs != "pixels":
            raise ValueError("auxiliary is for policies that see: obs = pixels")
        checked.shared(self, "accumulate", "batch_size", "frames")


PRESETS: Final[Mapping[str, Mapping[str, int]]] = MappingProxyType(
    {
        "debug": MappingProxyType({"updates": 60, "eval_episodes": 18, "log_every": 20}),
        "full": MappingProxyType({"updates": 20_000, "save_every": 2_000}),
        "laptop": MappingProxyType({}),
    }
)
"""What differs from the defaults."""
