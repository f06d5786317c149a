"""Chunks as bins of their low frequencies: what policies share that choose each of them by itself.

A chunk ``(H, D)``, scaled to [-1, 1], goes through the orthonormal cosine transform over time. Of its
coefficients, divided by ``sqrt(H)``, the lowest few are kept for each element that moves, and each has ``count``
bins on [-1, 1]. Given the observation they are independent of each other: a network says all of them at once.
What is lost is what changes fast within a chunk.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from training_adapters.fast.cosine import matrix
from training_adapters.policies.config import PolicyConfig
from training_adapters.policies.scaling import Scaling
from training_adapters.policies.words import Vocabulary
from training_adapters.policy import Batch, Chunk, Scores
from vla_data import options as checks

TEXT = 32  # width of the prompt's vector
Facts = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class BinConfig(PolicyConfig):
    """The form of a policy of bins; of `PolicyConfig`'s transformer only ``width`` counts, the perceptron's.

    Attributes:
        moves: elements of an action that move; the others keep their value.
        coefficients: of each of them that are kept, the lowest first.
        count: bins of each.
    """

    moves: tuple[int, ...]
    coefficients: int = 3
    count: int = 21
    width: int = 192

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "moves", tuple(self.moves))
        if not self.moves or not all(0 <= element < self.dim for element in self.moves):
            raise ValueError(f"moves {self.moves} are not elements of an action of {self.dim}")
        checks.whole("coefficients", self.coefficients, low=1, high=self.horizon)
        checks.whole("count", self.count, low=2, high=4096)

    @property
    def tokens(self) -> int:
        """L, of every chunk."""
        return len(self.moves) * self.coefficients


class Binned(nn.Module):
    """See the module and `training_adapters.policy`; ``tokens`` ``(B, L)`` are bins, by frequency, then element.

    Args:
        config: its form.
    """

    def __init__(self, config: BinConfig) -> None:
        super().__init__()
        self.config, self.longest = config, config.tokens
        self.vocabulary = Vocabulary(config.words)
        self.scaling = Scaling(config.state, config.dim, config.slots)
        lowest = torch.from_numpy(matrix(config.horizon)[: config.coefficients].copy())
        self.register_buffer("_lowest", lowest, persistent=False)
        self.register_buffer("_moves", torch.tensor(config.moves), persistent=False)

    @abstractmethod
    def log_probs(self, batch: Batch) -> Tensor:
        """``(B, L, count)`` log-probabilities of every bin."""

    def forward(self, batch: Batch) -> Tensor:
        """`loss`: what a wrapper for several devices calls."""
        return self.loss(batch)

    def encode(self, actions: Tensor) -> Tensor:
        """Tokens ``(B, L)`` of ``(B, H, D)`` actions; the nearest bin, and the last one beyond it.

        Raises:
            DataError: E202, an element moves that never did when the scales were fitted.
        """
        scaled = self.scaling.scaled(actions)[..., self._moves]
        spectrum = torch.einsum("kh,bhd->bkd", self._lowest, scaled) / math.sqrt(self.config.horizon)
        bins = torch.round((spectrum + 1) / 2 * (self.config.count - 1)).clamp(0, self.config.count - 1)
        return bins.to(torch.int64).flatten(1)

    def decode(self, tokens: Tensor) -> Tensor:
        """``(B, H, D)`` float64 actions in the environment's units."""
        config = self.config
        spectrum = (2 * tokens.to(torch.float64) / (config.count - 1) - 1) * math.sqrt(config.horizon)
        moving = torch.einsum("kh,bkd->bhd", self._lowest, spectrum.unflatten(1, (config.coefficients, -1)))
        scaled = torch.zeros(len(tokens), config.horizon, config.dim, dtype=torch.float64)
        scaled[..., self._moves] = moving
        return self.scaling.actions(scaled)

    def loss(self, batch: Batch) -> Tensor:
        """``(B,)``: the mean negative log-probability of the tokens of ``action``; they may be in it already."""
        return self.missed(self.log_probs(batch), batch)

    def missed(self, log_probs: Tensor, batch: Batch) -> Tensor:
        """The `loss` of log-probabilities that are there already."""
        tokens = batch["tokens"] if "tokens" in batch else self.encode(batch["action"])
        return -log_probs.gather(-1, tokens[..., None])[..., 0].mean(dim=1)

    def score(self, batch: Batch, tokens: Tensor, mask: Tensor, *, temperature: float = 1.0) -> Scores:
        """See `training_adapters.policy.Policy`."""
        return scores(self.log_probs(batch), tokens, mask, temperature)

    def act(self, batch: Batch, generator: torch.Generator, *, temperature: float = 1.0) -> Chunk:
        """See `training_adapters.policy.Policy`."""
        with torch.no_grad():
            return self.draw(self.log_probs(batch), generator, temperature)

    def draw(self, log_probs: Tensor, generator: torch.Generator, temperature: float) -> Chunk:
        """A chunk for each row of ``(B, L, count)`` log-probabilities, which may be another policy's mixture."""
        if temperature > 0:
            log_probs = functional.log_softmax(log_probs / temperature, dim=-1)
            tokens = torch.multinomial(log_probs.exp().flatten(0, 1), 1, generator=generator)
            tokens = tokens.view(log_probs.shape[:2])
        else:
            tokens = log_probs.argmax(dim=-1)
        mask = torch.ones_like(tokens, dtype=torch.bool)
        log_prob = log_probs.gather(-1, tokens[..., None])[..., 0]
        return Chunk(self.decode(tokens), tokens, mask, log_prob, torch.zeros(len(tokens), dtype=torch.bool))


def scores(log_probs: Tensor, tokens: Tensor, mask: Tensor, temperature: float) -> Scores:
    """Of ``(B, L)`` tokens under ``(B, L, count)`` log-probabilities."""
    tempered = functional.log_softmax(log_probs / (temperature or 1.0), dim=-1)
    chosen = tempered.gather(-1, tokens[..., None])[..., 0]
    entropy = -(tempered.exp() * tempered).sum(dim=-1)
    return Scores(chosen.masked_fill(~mask, 0.0), entropy.masked_fill(~mask, 0.0))


def fitted(states: Any, actions: Any, words: tuple[str, ...], slots: tuple[int, ...]) -> tuple[Facts, Scaling]:
    """The options of a `BinConfig` that data say, and their scales.

    Args:
        states: ``(N, S)``.
        actions: ``(N, H, D)`` in the environment's units.
        words: that prompts may have.
        slots: see `PolicyConfig`.
    """
    _, horizon, dim = actions.shape
    scaling = Scaling(states.shape[1], dim, slots)
    scaling.fit(states, actions.reshape(-1, dim))
    moves = tuple(torch.nonzero(scaling.action_scale)[:, 0].tolist())
    form = {"state": states.shape[1], "horizon": horizon, "dim": dim, "words": words, "slots": slots}
    return {**form, "moves": moves}, scaling


def perceptron(inputs: int, config: BinConfig) -> nn.Sequential:
    """From an observation's numbers to ``L x count`` logits."""
    width = config.width
    return nn.Sequential(
        *(nn.Linear(inputs, width), nn.GELU()),
        *(nn.Linear(width, width), nn.GELU(), nn.Linear(width, width), nn.GELU()),
        nn.Linear(width, config.tokens * config.count),
    )


def distributions(logits: Tensor, config: BinConfig) -> Tensor:
    """``(B, L, count)`` log-probabilities of the logits of a `perceptron`."""
    return functional.log_softmax(logits.unflatten(1, (config.tokens, -1)), dim=-1)
