"""A policy that writes chunks as FAST tokens, and can write no chunk that is malformed.

A prefix of prompt, robot and objects, which all see each other, then the tokens, which see what is before them:
the masks of Pi0-FAST. Two things make it safe for reinforcement learning: tokens that cannot end in ``H x D``
numbers have probability 0, in sampling and in scoring alike, and the position of a token says how many numbers are
complete.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from training_adapters.fast import FastTokenizer
from training_adapters.policies.blocks import Block
from training_adapters.policies.config import PolicyConfig
from training_adapters.policies.encoder import Prefix
from training_adapters.policies.grammar_table import GrammarTable
from training_adapters.policies.scaling import Scaling
from training_adapters.policies.words import Vocabulary
from training_adapters.policy import Batch, Chunk, Scores


class TokenPolicy(nn.Module):
    """A small Pi0-FAST, of about 0.1 M parameters by default. See `training_adapters.policy`.

    Args:
        config: its form.
        tokenizer: of actions scaled to [-1, 1]; of the same horizon and dimension.
    """

    def __init__(self, config: PolicyConfig, tokenizer: FastTokenizer) -> None:
        super().__init__()
        if (tokenizer.horizon, tokenizer.dim) != (config.horizon, config.dim):
            raise ValueError(
                f"the tokenizer makes chunks of {tokenizer.horizon}x{tokenizer.dim}, the policy of"
                f" {config.horizon}x{config.dim}"
            )
        self.config, self.tokenizer = config, tokenizer
        self.vocabulary = Vocabulary(config.words)
        grammar = tokenizer.grammar
        self.longest, width, end = grammar.longest, config.width, grammar.end_token
        self.scaling = Scaling(config.state, config.dim, config.slots)
        self.prefix = Prefix(config, len(self.vocabulary))
        self.token = nn.Embedding(end + 2, width)  # the tokens, the end, the beginning
        self.position = nn.Parameter(0.02 * torch.randn(self.longest, width))
        self.complete = nn.Parameter(0.02 * torch.randn(config.horizon * config.dim + 1, width))
        self.blocks = nn.ModuleList(Block(width, config.heads) for _ in range(config.layers))
        self.norm, self.out = nn.LayerNorm(width), nn.Linear(width, end + 1)
        self.grammar = GrammarTable(grammar)
        self.register_buffer("_looks", _looks(self.prefix.length, self.longest), persistent=False)

    def forward(
        self, batch: Batch, tokens: Tensor | None = None, mask: Tensor | None = None, *, temperature: float = 1.0
    ) -> Any:
        """`loss`, or `score` where tokens are given: what a wrapper for several devices calls."""
        if tokens is None or mask is None:
            return self.loss(batch)
        return self.score(batch, tokens, mask, temperature=temperature)

    def encode(self, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens ``(B, L)`` and their mask of ``(B, H, D)`` actions, each with its end token.

        Raises:
            DataError: E202, actions that the tokenizer was not fitted for.
        """
        return self.grammar.encoded(self.tokenizer, self.scaling.scaled(actions))

    def loss(self, batch: Batch) -> Tensor:
        """``(B,)``: the mean negative log-probability of the tokens of ``action``; they may be in it already."""
        tokens, mask = (
            (batch["tokens"], batch["tokens_mask"]) if "tokens" in batch else self.encode(batch["action"])
        )
        scores = self.score(batch, tokens, mask)
        return -scores.log_prob.sum(dim=1) / mask.sum(dim=1).clamp(min=1)

    def score(self, batch: Batch, tokens: Tensor, mask: Tensor, *, temperature: float = 1.0) -> Scores:
        """See `training_adapters.policy.Policy`.

        Raises:
            DataError: E202, tokens that `act` could not have written.
        """
        states = self.grammar.states(tokens, mask)
        start = torch.full_like(tokens[:, :1], self.grammar.end + 1)
        told = torch.cat([start, tokens[:, :-1]], dim=1)
        length = tokens.shape[1]
        x = self.token(told) + self.position[:length] + self.complete[self.grammar.count[states]]
        x = torch.cat([self._prefix(batch), x], dim=1)
        looks = self._looks[: x.shape[1], : x.shape[1]]
        for block in self.blocks:
            x, _ = block(x, looks)
        return self.grammar.scores(self._logits(x[:, -length:]), states, tokens, mask, temperature)

    def act(self, batch: Batch, generator: torch.Generator, *, temperature: float = 1.0) -> Chunk:
        """See `training_adapters.policy.Policy`."""
        with torch.no_grad():
            return self._act(batch, generator, temperature)

    def _act(self, batch: Batch, generator: torch.Generator, temperature: float) -> Chunk:
        x, seen = self._prefix(batch), []
        for block in self.blocks:
            x, kept = block(x)
            seen.append(kept)
        writer = self.grammar.writer(len(x))
        token = torch.full((len(x),), self.grammar.end + 1)
        for place in range(self.longest):
            x = (self.token(token) + self.position[place] + self.complete[self.grammar.count[writer.state]])[
                :, None
            ]
            for number, block in enumerate(self.blocks):
                x, seen[number] = block(x, None, seen[number])
            token = writer.write(self._logits(x)[:, 0], generator, temperature)
            if writer.done.all():
                break
        return writer.chunk(self.tokenizer, self.scaling)

    def _prefix(self, batch: Batch) -> Tensor:
        out: Tensor = self.prefix(
            self.scaling.state(batch["observation.state"]), self.vocabulary.encode(batch["task"])
        )
        return out

    def _logits(self, x: Tensor) -> Tensor:
        """Of each token and the end."""
        out: Tensor = self.out(self.norm(x))
        return out


def _looks(prefix: int, longest: int) -> Tensor:
    """Which position sees which: the prefix itself, a token the prefix and the tokens up to it."""
    looks = torch.ones(prefix + longest, prefix + longest, dtype=torch.bool).tril()
    looks[:prefix, :prefix] = True
    return looks
