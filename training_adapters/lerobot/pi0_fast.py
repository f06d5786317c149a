"""LeRobot's Pi0-FAST as a policy that reinforcement learning can trust: `training_adapters.policy.Policy`.

Its tokens are laid out as LeRobot trains it: prompt and state, a beginning, "Action: ", the FAST tokens, "|". Two
things are not LeRobot's:

- Tokens that cannot end in ``H x D`` numbers have probability 0, in sampling and in scoring alike.
- LeRobot samples after a beginning that the prompt sees, and trains one that it does not see, so that what it
  samples from is not what it trains. Here both are as in training.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import torch
from lerobot.policies.pi0_fast.modeling_pi0_fast import PI0FastPytorch, pad_vector, resize_with_pad_torch
from torch import Tensor, nn

from training_adapters.fast import FastTokenizer
from training_adapters.fast.layout import TextTokenizer, state_bins, text_ids
from training_adapters.policies.grammar_table import GrammarTable
from training_adapters.policies.scaling import Scaling
from training_adapters.policy import Batch, Chunk, Scores

IMAGES: Final = "observation.images."


class Pi0Fast(nn.Module):
    """Plays, scores and learns with LeRobot's network; everything that surrounds the network is given.

    Batches are those of `training_adapters.policy`, with images.

    Args:
        core: the network, in float32: in bfloat16 what was played and what is scored differ by more than an update
            moves.
        tokenizer: of actions scaled to [-1, 1], with the chunk that the network was made for.
        text: of prompts; PaliGemma's for PaliGemma's parameters.
        scaling: of states and actions.
        cameras: names behind ``observation.images.``, in the network's order.
    """

    def __init__(
        self,
        core: PI0FastPytorch,
        tokenizer: FastTokenizer,
        *,
        text: TextTokenizer,
        scaling: Scaling,
        cameras: Sequence[str],
    ) -> None:
        super().__init__()
        if core.config.chunk_size != tokenizer.horizon:
            raise ValueError(
                f"the network makes chunks of {core.config.chunk_size} actions, the tokenizer of"
                f" {tokenizer.horizon}"
            )
        self.core, self.tokenizer, self.scaling = core, tokenizer, scaling
        self.cameras, self._text = tuple(cameras), text
        self.grammar = GrammarTable(tokenizer.grammar)
        self.longest = self.grammar.longest
        self._before = [text.bos, *text.encode("Action: ")]
        bar = list(text.encode("|"))
        if len(bar) != 1:
            raise ValueError(
                f"the text tokenizer makes {len(bar)} tokens of '|', which ends a chunk; it must be 1"
            )
        ids = text_ids(range(self.grammar.end), text.size).tolist()
        self.register_buffer("_ids", torch.tensor([*ids, *bar]), persistent=False)

    def loss(self, batch: Batch) -> Tensor:
        """``(B,)``: the mean negative log-probability of the tokens of ``action``, among those that may follow."""
        tokens, mask = self.grammar.encoded(self.tokenizer, self.scaling.scaled(batch["action"]))
        return -self.score(batch, tokens, mask).log_prob.sum(dim=1) / mask.sum(dim=1).clamp(min=1)

    def score(self, batch: Batch, tokens: Tensor, mask: Tensor, *, temperature: float = 1.0) -> Scores:
        """See `training_adapters.policy.Policy`.

        Raises:
            DataError: E202, tokens that `act` could not have written.
        """
        states = self.grammar.states(tokens, mask)
        told = torch.cat([self._beginning(len(tokens)), self._ids[tokens]], dim=1)
        there = torch.cat([torch.ones(len(tokens), len(self._before), dtype=torch.bool), mask], dim=1)
        hidden, _ = self._read(batch, told, there)
        # What stands before a token predicts it.
        hidden = hidden[:, -tokens.shape[1] - 1 : -1]
        return self.grammar.scores(self._logits(hidden), states, tokens, mask, temperature)

    def act(self, batch: Batch, generator: torch.Generator, *, temperature: float = 1.0) -> Chunk:
        """See `training_adapters.policy.Policy`."""
        with torch.no_grad():
            return self._act(batch, generator, temperature)

    def _act(self, batch: Batch, generator: torch.Generator, temperature: float) -> Chunk:
        rows = len(batch["task"])
        begin = self._beginning(rows)
        hidden, seen = self._read(batch, begin, torch.ones_like(begin, dtype=torch.bool), keep=True)
        writer = self.grammar.writer(rows)
        while True:
            token = writer.write(self._logits(hidden[:, -1]), generator, temperature)
            if writer.done.all():
                break
            hidden, seen = self._step(self._ids[token], seen)
        return writer.chunk(self.tokenizer, self.scaling)

    def _beginning(self, rows: int) -> Tensor:
        return torch.tensor(self._before).expand(rows, -1)

    def _logits(self, hidden: Tensor) -> Tensor:
        """Of FAST tokens and the end, in their order."""
        out: Tensor = self.core.paligemma_with_expert.paligemma.lm_head(hidden)[..., self._ids]
        return out

    def _read(self, batch: Batch, told: Tensor, there: Tensor, *, keep: bool = False) -> tuple[Tensor, Any]:
        """What the network thinks at every place, and what it keeps to go on from, with the mask of places."""
        images = [self._image(batch[IMAGES + name]) for name in self.cameras]
        shown = [torch.ones(len(told), dtype=torch.bool)] * len(images)
        prompt, asked = self._prompts(batch)
        places, pads, looks, _, _ = self.core.embed_prefix_fast(images, shown, prompt, asked, told, there)
        at = torch.cumsum(pads, dim=1) - 1
        masks = self.core._prepare_attention_masks_4d(looks, dtype=places.dtype)
        (hidden, _), seen = self.core.paligemma_with_expert.forward(
            attention_mask=masks, position_ids=at, inputs_embeds=[places, None], use_cache=keep
        )
        return hidden, (seen, pads)

    def _step(self, token: Tensor, kept: Any) -> tuple[Tensor, Any]:
        """One more token ``(B,)``."""
        seen, pads = kept
        place = self.core.paligemma_with_expert.embed_language_tokens(token[:, None])
        place = place * math.sqrt(place.shape[-1])
        pads = torch.cat([pads, torch.ones(len(token), 1, dtype=torch.bool)], dim=1)
        (hidden, _), seen = self.core.paligemma_with_expert.forward(
            attention_mask=self.core._prepare_attention_masks_4d(pads[:, None], dtype=place.dtype),
            position_ids=pads.sum(dim=1, keepdim=True) - 1,
            past_key_values=seen,
            inputs_embeds=[place, None],
            use_cache=True,
        )
        return hidden, (seen, pads)

    def _prompts(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """``(B, L)`` ids and which of them are there; LeRobot's words, with the state in 256 bins."""
        states = pad_vector(self.scaling.state(batch["observation.state"]), self.core.config.max_state_dim)
        rows = [
            [self._text.bos, *self._text.encode(_words(task, state))]
            for task, state in zip(batch["task"], states.tolist(), strict=True)
        ]
        longest = max(map(len, rows))
        ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
        return ids, torch.arange(longest)[None] < torch.tensor([len(row) for row in rows])[:, None]

    def _image(self, pixels: Tensor) -> Tensor:
        """``(B, 3, height, width)`` in [-1, 1], of the network's size, with borders as LeRobot makes them."""
        wanted = tuple(self.core.config.image_resolution)
        image = pixels.to(torch.float32) / 255
        if tuple(image.shape[1:3]) != wanted:
            image = resize_with_pad_torch(image, *wanted)
        return image.permute(0, 3, 1, 2) * 2.0 - 1.0


def _words(task: str, state: Sequence[float]) -> str:
    asked = task.strip().replace("_", " ").replace("\n", " ")
    return f"Task: {asked}, State: {' '.join(map(str, state_bins(state).tolist()))};\n"
