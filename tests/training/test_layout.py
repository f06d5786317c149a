"""openpi's token layout for Pi0-FAST: bins, ids, masks, losses."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
tokenizers = pytest.importorskip("tokenizers")

from training_adapters.fast import layout  # noqa: E402
from vla_data.errors import DataError  # noqa: E402

PALIGEMMA = 257_152


class Text:
    """A byte-level BPE of the texts in here, with PaliGemma's size and special tokens."""

    bos, eos, size = 2, 1, PALIGEMMA

    def __init__(self) -> None:
        self._bpe = tokenizers.Tokenizer(tokenizers.models.BPE())
        self._bpe.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
        alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
        trainer = tokenizers.trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False)
        self._bpe.train_from_iterator(["Task: pick up, State: 128;\nAction: |"], trainer=trainer)

    def encode(self, text: str) -> list[int]:
        return [token + 10 for token in self._bpe.encode(text).ids]

    def decode(self, ids: list[int]) -> str:
        self._bpe.decoder = tokenizers.decoders.ByteLevel()
        return str(self._bpe.decode([token - 10 for token in ids]))


TEXT = Text()


@pytest.mark.parametrize(
    ("value", "bin_"), [(-1.5, -1), (-1.0, 0), (0.0, 128), (0.5, 192), (0.9922, 255), (1.0, 255), (3.0, 255)]
)
def test_state_bins(value: float, bin_: int) -> None:
    assert layout.state_bins([value]).tolist() == [bin_]


def test_text_of_the_prefix() -> None:
    assert layout.prefix_text(" Pick_up The Cup\n", [0.0, -1.0]) == "Task: pick up the cup, State: 128 0;\n"


@pytest.mark.parametrize(("fast", "text"), [(0, 257_023), (2047, 254_976)])
def test_fast_tokens_are_at_the_end_of_the_vocabulary(fast: int, text: int) -> None:
    assert layout.text_ids([fast], PALIGEMMA).tolist() == [text]
    assert layout.text_ids([text], PALIGEMMA).tolist() == [fast]


def sample(length: int = 60) -> layout.Sequences:
    return layout.sequences("pick up", [0.0], [5, 7], TEXT, length=length)


def test_order_of_a_sample() -> None:
    made = sample()
    used = made.tokens[made.there].tolist()
    at = used.index(257_018)
    assert used[0] == TEXT.bos
    assert used[at : at + 2] == [257_018, 257_016]
    assert TEXT.decode(used[1:at]) == "Task: pick up, State: 128;\nAction: "
    assert TEXT.decode(used[at + 2 : -1]) == "|"
    assert used[-1] == TEXT.eos


def test_masks_of_a_sample() -> None:
    """The prefix is bidirectional and not learnt; from "Action: " to the end all is causal and learnt."""
    made = sample()
    postfix = len(TEXT.encode("Action: ")) + 2 + len(TEXT.encode("|")) + 1
    assert made.causal.sum() == made.learnt.sum() == postfix
    last = int(made.there.sum())
    assert made.learnt[last - postfix : last].all()
    assert not made.learnt[last:].any()
    assert np.flatnonzero(made.fast).tolist() == np.flatnonzero(made.tokens > 250_000).tolist()


def test_a_prefix_alone_has_nothing_to_learn() -> None:
    made = layout.sequences("pick up", [0.0], None, TEXT, length=60)
    assert not made.learnt.any()


def test_a_sample_that_is_too_long_says_so() -> None:
    assert not sample().truncated
    assert sample(12).truncated


def batch(made: layout.Sequences) -> SimpleNamespace:
    rows = {name: torch.from_numpy(getattr(made, name))[None] for name in ("tokens", "learnt", "fast")}
    # A vocabulary of the ids that occur keeps the logits small.
    ids = torch.unique(rows["tokens"])
    rows["tokens"] = torch.searchsorted(ids, rows["tokens"])
    return SimpleNamespace(**rows, truncated=made.truncated, size=len(ids))


def test_log_prob_is_the_sum_over_the_learnt_tokens() -> None:
    one = batch(sample())
    logits = torch.randn(1, 60, one.size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    log_probs = logits.log_softmax(-1)
    wanted = sum(float(log_probs[0, t, one.tokens[0, t + 1]]) for t in range(59) if one.learnt[0, t + 1])
    assert float(layout.chunk_log_prob(logits, one, xp=torch)) == pytest.approx(wanted, abs=1e-12)
    loss = layout.per_sample_loss(logits, one, xp=torch)
    assert float(loss) == pytest.approx(-wanted / int(one.learnt.sum()), abs=1e-12)


def test_fast_only_leaves_out_the_fixed_text() -> None:
    one = batch(sample())
    logits = torch.zeros(1, 60, one.size, dtype=torch.float64)
    each = float(np.log(1 / one.size))
    assert float(layout.chunk_log_prob(logits, one, xp=torch, count="fast_only")) == pytest.approx(2 * each)


def test_log_prob_of_a_truncated_sample_is_refused() -> None:
    """Upstream cuts with a warning: the tokens of the end are gone, and the ratio is of something else."""
    one = batch(replace(sample(), truncated=True))
    with pytest.raises(DataError, match="E204"):
        layout.chunk_log_prob(torch.zeros(1, 60, one.size), one, xp=torch)


@pytest.mark.parametrize("name", ["numpy", "jax.numpy"])
def test_frameworks_agree(name: str) -> None:
    xp = pytest.importorskip(name)
    one = batch(sample())
    logits = torch.randn(1, 60, one.size, generator=torch.Generator().manual_seed(1))
    own = SimpleNamespace(
        **{field: xp.asarray(getattr(one, field).numpy()) for field in ("tokens", "learnt", "fast")},
        truncated=one.truncated,
    )
    found = layout.chunk_log_prob(xp.asarray(logits.numpy()), own, xp=xp)
    assert float(found[0]) == pytest.approx(float(layout.chunk_log_prob(logits, one, xp=torch)[0]), rel=1e-5)
