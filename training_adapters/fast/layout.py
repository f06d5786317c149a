r"""The token sequence of Pi0-FAST, as openpi lays it out: prompt and state, then the action's tokens.

    prefix    "Task: {prompt}, State: {bins};\n"           bidirectional, not learnt
    postfix   "Action: " FAST tokens "|" end of sentence   causal, learnt, all of it

openpi, ``src/openpi/models/tokenizer.py`` and ``pi0_fast.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vla_data import options as checks
from vla_data.errors import DataError

SKIPPED: Final = 128
"""Tokens at the end of the text vocabulary that FAST leaves alone: PaliGemma's special ones."""

COUNTS: Final = ("postfix", "fast_only")


class TextTokenizer(Protocol):
    """What the text is encoded with: PaliGemma's SentencePiece model, or another."""

    bos: int
    eos: int
    size: int

    def encode(self, text: str) -> Sequence[int]:
        """Ids without beginning and end of sentence."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Sequences:
    """One sample's tokens, ``(L,)`` each.

    Attributes:
        tokens: int64; 0 where there is none.
        there: bool, whether there is one.
        causal: bool: False where all see each other, True where one sees what is before it.
        learnt: bool: what the loss is of.
        fast: bool: the FAST tokens themselves.
        truncated: the sample was longer than L: its action is not whole, and its log-probability not the chunk's.
    """

    tokens: NDArray[np.int64]
    there: NDArray[np.bool_]
    causal: NDArray[np.bool_]
    learnt: NDArray[np.bool_]
    fast: NDArray[np.bool_]
    truncated: bool


def state_bins(state: ArrayLike) -> NDArray[np.int64]:
    """256 bins of [-1, 1]: bin 0 begins at -1, bin 128 at 0; below -1 it is -1, from 0.9921875 on 255."""
    edges = np.linspace(-1, 1, 257)[:-1]
    out: NDArray[np.int64] = np.digitize(np.asarray(state, dtype=np.float64), edges) - 1
    return out


def prefix_text(prompt: str, state: ArrayLike) -> str:
    """The prefix of a prompt, in lower case and with spaces for ``_``, and a state of about [-1, 1]."""
    text = prompt.lower().strip().replace("_", " ")
    return f"Task: {text}, State: {' '.join(map(str, state_bins(state).tolist()))};\n"


def text_ids(fast: ArrayLike, size: int) -> NDArray[np.int64]:
    """FAST tokens as ids at the end of a text vocabulary of ``size``; the same function is the way back."""
    return size - 1 - SKIPPED - np.asarray(fast, dtype=np.int64)


def sequences(
    prompt: str, state: ArrayLike, fast: Sequence[int] | None, text: TextTokenizer, *, length: int
) -> Sequences:
    """A sample as Pi0-FAST learns it; without ``fast`` its prefix alone, to sample from.

    Args:
        prompt: what is asked for.
        state: ``(S,)`` of about [-1, 1].
        fast: the chunk's tokens.
        text: the tokenizer of texts.
        length: L.
    """
    before = [text.bos, *text.encode(prefix_text(prompt, state))]
    parts: list[tuple[Sequence[int], bool, bool]] = [(before, False, False)]
    if fast is not None:
        parts.append((text.encode("Action: "), True, False))
        parts.append((text_ids(fast, text.size).tolist(), True, True))
        parts.append(([*text.encode("|"), text.eos], True, False))
    tokens = [token for ids, _, _ in parts for token in ids]
    after = [learnt for ids, learnt, _ in parts for _ in ids]
    own = [action for ids, _, action in parts for _ in ids]
    causal = _filled(after, length, bool)
    return Sequences(
        tokens=_filled(tokens, length, np.int64),
        there=_filled([True] * len(tokens), length, bool),
        causal=causal,
        learnt=causal.copy(),
        fast=_filled(own, length, bool),
        truncated=len(tokens) > length,
    )


def chunk_log_prob(logits: Any, sample: Any, *, xp: Any, count: str = "postfix") -> Any:
    """``(B,)`` log-probability of stored chunks: ``sum_t learnt[t + 1] log softmax(logits_t)[tokens[t + 1]]``.

    Args:
        logits: ``(B, L, V)``, teacher-forced on ``sample.tokens``.
        sample: `Sequences` whose arrays are ``(B, L)`` of the framework.
        xp: module of the arrays: ``torch``, ``jax.numpy`` or ``numpy``.
        count: ``postfix``: all that the loss is of, the fixed "Action: " and "|" too, as openpi's mask has it.
            ``fast_only``: the FAST tokens and nothing else.

    Raises:
        DataError: E204, a sample is truncated.
    """
    checks.one_of("count", count, COUNTS)
    if np.any(np.asarray(sample.truncated)):
        raise DataError(
            "E204",
            "a sample was longer than the model's sequence, so its log-probability is not that of its chunk",
        )
    mask = (sample.learnt if count == "postfix" else sample.fast)[:, 1:]
    here = logits[:, :-1]
    most = xp.amax(here, -1)[..., None]
    log_probs = here - most - xp.log(xp.exp(here - most).sum(-1))[..., None]
    rows, places = xp.arange(log_probs.shape[0])[:, None], xp.arange(log_probs.shape[1])[None]
    return (log_probs[rows, places, sample.tokens[:, 1:]] * mask).sum(-1)


def per_sample_loss(logits: Any, sample: Any, *, xp: Any) -> Any:
    """``(B,)``: openpi's loss, the mean over each sample's learnt tokens."""
    return -chunk_log_prob(logits, sample, xp=xp) / xp.clip(sample.learnt[:, 1:].sum(-1), 1, None)


def _filled(values: Sequence[Any], length: int, dtype: Any) -> NDArray[Any]:
    out = np.zeros(length, dtype=dtype)
    out[: len(values)] = values[:length]
    return out
