"""A policy that writes chunks as FAST tokens, and can write no chunk that is malformed.

A prefix of prompt, robot and objects, which all see each other, then the tokens, which see what is before them:
the masks of Pi0-FAST. Two things make it safe for reinforcement learning: tokens that cannot end in ``H x D``
numbers have probability 0, in sampling and in scoring alike, and the position of a token says how many numbers are
complete.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from training_adapters.fast import FastTokenizer
from training_adapters.policies.blocks import Block
from training_adapters.policies.config import PolicyConfig
from training_adapters.policies.encoder import Prefix
from training_adapters.policies.scaling import Scaling
from training_adapters.policies.words import Vocabulary
from training_adapters.policy import Batch, Chunk, Scores
from vla_data.errors import DataError

_FORBIDDEN: Final = float("-inf")


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
        self._end, self.longest, width = grammar.end_token, grammar.longest, config.width
        self.scaling = Scaling(config.state, config.dim, config.slots)
        self.prefix = Prefix(config, len(self.vocabulary))
        self.token = nn.Embedding(self._end + 2, width)  # the tokens, the end, the beginning
        self.position = nn.Parameter(0.02 * torch.randn(self.longest, width))
        self.complete = nn.Parameter(0.02 * torch.randn(config.horizon * config.dim + 1, width))
        self.blocks = nn.ModuleList(Block(width, config.heads) for _ in range(config.layers))
        self.norm, self.out = nn.LayerNorm(width), nn.Linear(width, self._end + 1)
        # They follow from the tokenizer, which a checkpoint has.
        self.register_buffer("_next", torch.from_numpy(grammar.next.astype("int64")), persistent=False)
        self.register_buffer("_count", torch.from_numpy(grammar.count), persistent=False)
        self.register_buffer("_looks", _looks(self.prefix.length, self.longest), persistent=False)

    def forward(self, batch: Batch, tokens: Tensor | None = None, mask: Tensor | None = None) -> Any:
        """`loss`, or `score` where tokens are given: what a wrapper for several devices calls."""
        return self.loss(batch) if tokens is None or mask is None else self.score(batch, tokens, mask)

    def encode(self, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens ``(B, L)`` and their mask of ``(B, H, D)`` actions, each with its end token.

        Raises:
            DataError: E202, actions that the tokenizer was not fitted for.
        """
        rows = [[*ids, self._end] for ids in self.tokenizer.encode(self.scaling.scaled(actions).cpu().numpy())]
        tokens = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.int64)
        mask = torch.zeros_like(tokens, dtype=torch.bool)
        for number, row in enumerate(rows):
            tokens[number, : len(row)] = torch.tensor(row)
            mask[number, : len(row)] = True
        return tokens, mask

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
        states = self._states(tokens, mask)
        start = torch.full_like(tokens[:, :1], self._end + 1)
        told = torch.cat([start, tokens[:, :-1]], dim=1)
        length = tokens.shape[1]
        x = self.token(told) + self.position[:length] + self.complete[self._count[states]]
        x = torch.cat([self._prefix(batch), x], dim=1)
        looks = self._looks[: x.shape[1], : x.shape[1]]
        for block in self.blocks:
            x, _ = block(x, looks)
        log_probs = self._log_probs(x[:, -length:], states, temperature)
        chosen = log_probs.gather(-1, tokens[..., None])[..., 0]
        # 0 times minus infinity is no number; a token that cannot be adds nothing to the entropy.
        terms = log_probs.exp() * log_probs.masked_fill(log_probs == _FORBIDDEN, 0.0)
        return Scores(chosen.masked_fill(~mask, 0.0), -terms.sum(dim=-1).masked_fill(~mask, 0.0))

    def act(self, batch: Batch, generator: torch.Generator, *, temperature: float = 1.0) -> Chunk:
        """See `training_adapters.policy.Policy`."""
        with torch.no_grad():
            return self._act(batch, generator, temperature)

    def _act(self, batch: Batch, generator: torch.Generator, temperature: float) -> Chunk:
        x, seen = self._prefix(batch), []
        for block in self.blocks:
            x, kept = block(x)
            seen.append(kept)
        rows = len(x)
        state = torch.zeros(rows, dtype=torch.int64)
        token = torch.full((rows,), self._end + 1)
        done = torch.zeros(rows, dtype=torch.bool)
        columns = []
        for place in range(self.longest):
            x = (self.token(token) + self.position[place] + self.complete[self._count[state]])[:, None]
            for number, block in enumerate(self.blocks):
                x, seen[number] = block(x, None, seen[number])
            log_probs = self._log_probs(x, state[:, None], temperature)[:, 0]
            if temperature > 0:
                token = torch.multinomial(log_probs.exp(), 1, generator=generator)[:, 0]
            else:
                token = log_probs.argmax(dim=-1)
            columns.append((token, ~done, log_probs.gather(1, token[:, None])[:, 0]))
            state = torch.where(done, 0, self._next[state, token])
            done = done | (token == self._end)
            if done.all():
                break
            state = torch.where(done, 0, state)  # what follows a chunk's end is masked out
        tokens, mask, log_prob = (torch.stack(column, dim=1) for column in zip(*columns, strict=True))
        tokens, log_prob = tokens.masked_fill(~mask, 0), log_prob.masked_fill(~mask, 0.0)
        ids = [row[:length][:-1] for row, length in zip(tokens.tolist(), mask.sum(dim=1).tolist(), strict=True)]
        decoded = self.tokenizer.decode(ids)
        actions = self.scaling.actions(torch.from_numpy(decoded.actions))
        return Chunk(actions, tokens, mask, log_prob, torch.from_numpy(decoded.malformed))

    def _prefix(self, batch: Batch) -> Tensor:
        out: Tensor = self.prefix(
            self.scaling.state(batch["observation.state"]), self.vocabulary.encode(batch["task"])
        )
        return out

    def _log_probs(self, x: Tensor, states: Tensor, temperature: float) -> Tensor:
        """Of each token in a state; minus infinity for those that may not follow."""
        logits = self.out(self.norm(x)) / (temperature or 1.0)
        return functional.log_softmax(logits.masked_fill(self._next[states] < 0, _FORBIDDEN), dim=-1)

    def _states(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """``(B, L)``: the grammar's state before each token; 0 where the mask is False."""
        states, state = torch.zeros_like(tokens), torch.zeros_like(tokens[:, 0])
        for place in range(tokens.shape[1]):
            states[:, place] = state
            state = torch.where(mask[:, place], self._next[state, tokens[:, place]], 0)
            if (state < 0).any():
                row = int(torch.nonzero(state < 0)[0])
                raise DataError(
                    "E202", f"token {int(tokens[row, place])} of chunk {row} cannot stand at place {place}"
                )
            state = torch.where(state == len(self._next) - 1, 0, state)
        return states.masked_fill(~mask, 0)


def _looks(prefix: int, longest: int) -> Tensor:
    """Which position sees which: the prefix itself, a token the prefix and the tokens up to it."""
    looks = torch.ones(prefix + longest, prefix + longest, dtype=torch.bool).tril()
    looks[:prefix, :prefix] = True
    return looks
