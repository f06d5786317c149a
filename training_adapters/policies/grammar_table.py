"""A grammar of FAST tokens as tensors: which token may come next, in sampling and in scoring alike."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from training_adapters.fast import FastTokenizer
from training_adapters.fast.grammar import Grammar
from training_adapters.policies.scaling import Scaling
from training_adapters.policy import Chunk, Scores
from vla_data.errors import DataError

_FORBIDDEN: Final = float("-inf")


class GrammarTable(nn.Module):
    """Distributions over the tokens of a grammar, token `end` being the end of a chunk.

    Args:
        grammar: see `training_adapters.fast.grammar.Grammar`.

    Attributes:
        end: the id of the end token; logits have ``end + 1`` columns.
        longest: the most tokens of a chunk, with its end.
    """

    def __init__(self, grammar: Grammar) -> None:
        super().__init__()
        self.end, self.longest = grammar.end_token, grammar.longest
        # They follow from the tokenizer, which a checkpoint has.
        self.register_buffer("next", torch.from_numpy(grammar.next.astype("int64")), persistent=False)
        self.register_buffer("count", torch.from_numpy(grammar.count), persistent=False)

    def encoded(self, tokenizer: FastTokenizer, scaled: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens ``(B, L)`` and their mask of ``(B, H, D)`` actions of about [-1, 1], each with its end token.

        Raises:
            DataError: E202, actions that the tokenizer was not fitted for.
        """
        rows = [[*ids, self.end] for ids in tokenizer.encode(scaled.cpu().numpy())]
        tokens = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.int64)
        mask = torch.zeros_like(tokens, dtype=torch.bool)
        for number, row in enumerate(rows):
            tokens[number, : len(row)] = torch.tensor(row)
            mask[number, : len(row)] = True
        return tokens, mask

    def states(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """``(B, L)``: the grammar's state before each token; 0 where the mask is False.

        Raises:
            DataError: E202, a token that cannot stand where it does.
        """
        states, state = torch.zeros_like(tokens), torch.zeros_like(tokens[:, 0])
        for place in range(tokens.shape[1]):
            states[:, place] = state
            state = torch.where(mask[:, place], self.next[state, tokens[:, place]], 0)
            if (state < 0).any():
                row = int(torch.nonzero(state < 0)[0])
                raise DataError(
                    "E202", f"token {int(tokens[row, place])} of chunk {row} cannot stand at place {place}"
                )
            state = torch.where(state == len(self.next) - 1, 0, state)
        return states.masked_fill(~mask, 0)

    def log_probs(self, logits: Tensor, states: Tensor, temperature: float) -> Tensor:
        """Of each token in a state; minus infinity for those that may not follow."""
        allowed = (logits / (temperature or 1.0)).masked_fill(self.next[states] < 0, _FORBIDDEN)
        return functional.log_softmax(allowed, dim=-1)

    def scores(self, logits: Tensor, states: Tensor, tokens: Tensor, mask: Tensor, temperature: float) -> Scores:
        """Of stored tokens, by the logits ``(B, L, end + 1)`` of their places."""
        log_probs = self.log_probs(logits, states, temperature)
        chosen = log_probs.gather(-1, tokens[..., None])[..., 0]
        # 0 times minus infinity is no number; a token that cannot be adds nothing to the entropy.
        terms = log_probs.exp() * log_probs.masked_fill(log_probs == _FORBIDDEN, 0.0)
        return Scores(chosen.masked_fill(~mask, 0.0), -terms.sum(dim=-1).masked_fill(~mask, 0.0))

    def writer(self, rows: int) -> Writer:
        """Of so many chunks at once."""
        return Writer(self, rows)


class Writer:
    """Writes chunks token by token, until all are whole, which takes at most `GrammarTable.longest` tokens.

    Attributes:
        state: ``(B,)`` of the grammar, before the next token.
        done: ``(B,)`` bool, the chunks that have their end.
    """

    def __init__(self, table: GrammarTable, rows: int) -> None:
        self._table = table
        self.state = torch.zeros(rows, dtype=torch.int64)
        self.done = torch.zeros(rows, dtype=torch.bool)
        self._columns: list[tuple[Tensor, Tensor, Tensor]] = []

    def write(self, logits: Tensor, generator: torch.Generator, temperature: float) -> Tensor:
        """One more token ``(B,)`` of each chunk, by logits ``(B, end + 1)``; what follows an end is masked out."""
        log_probs = self._table.log_probs(logits, self.state, temperature)
        if temperature > 0:
            token = torch.multinomial(log_probs.exp(), 1, generator=generator)[:, 0]
        else:
            token = log_probs.argmax(dim=-1)
        self._columns.append((token, ~self.done, log_probs.gather(1, token[:, None])[:, 0]))
        state = torch.where(self.done, 0, self._table.next[self.state, token])
        self.done = self.done | (token == self._table.end)
        self.state = torch.where(self.done, 0, state)
        return token

    def chunk(self, tokenizer: FastTokenizer, scaling: Scaling) -> Chunk:
        """What was written, and the actions that it says."""
        tokens, mask, log_prob = (torch.stack(column, dim=1) for column in zip(*self._columns, strict=True))
        tokens, log_prob = tokens.masked_fill(~mask, 0), log_prob.masked_fill(~mask, 0.0)
        lengths = mask.sum(dim=1).tolist()
        ids = [row[:length][:-1] for row, length in zip(tokens.tolist(), lengths, strict=True)]
        decoded = tokenizer.decode(ids)
        actions = scaling.actions(torch.from_numpy(decoded.actions))
        return Chunk(actions, tokens, mask, log_prob, torch.from_numpy(decoded.malformed))
