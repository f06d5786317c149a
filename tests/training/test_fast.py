"""FAST tokens against the published algorithm's numbers, scipy, and what can never happen."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

tokenizers = pytest.importorskip("tokenizers")

from tokenizers import Tokenizer  # noqa: E402
from tokenizers.models import BPE  # noqa: E402
from tokenizers.pre_tokenizers import ByteLevel  # noqa: E402
from tokenizers.trainers import BpeTrainer  # noqa: E402

from training_adapters.fast import FastTokenizer, Grammar, cosine  # noqa: E402
from training_adapters.fast.grammar import FORBIDDEN  # noqa: E402
from vla_data.errors import DataError, UsageError  # noqa: E402

EXAMPLE = np.array([[[0, 1], [0.1, 1], [0.2, -1], [0.35, -1]]])  # the example of H = 4, D = 2
WHOLE = [3, 0, -3, 18, 0, 0, 0, -8]


def smooth(count: int = 200, horizon: int = 8, dim: int = 3, seed: int = 0) -> np.ndarray:
    walk = np.cumsum(np.random.default_rng(seed).normal(size=(count, horizon, dim)) * 0.2, axis=1)
    return walk.clip(-1, 1)


def test_coefficients_of_the_published_example() -> None:
    assert cosine.coefficients(EXAMPLE, 10.0)[0].tolist() == WHOLE


def test_code_points_of_the_published_example_start_at_minus_354() -> None:
    assert [value + 354 for value in WHOLE] == [357, 354, 351, 372, 354, 354, 354, 346]


def test_reconstruction_of_the_published_example() -> None:
    back = cosine.actions(np.array([WHOLE]), 10.0, 4)[0]
    wanted = [[-0.045984, 0.959428], [0.068821, 1.009702], [0.231179, -1.009702], [0.345984, -0.959428]]
    np.testing.assert_allclose(back, wanted, atol=5e-7)
    assert abs(np.abs(back - EXAMPLE[0]).max() - 0.045984) < 5e-7


def test_halves_are_rounded_to_even() -> None:
    assert cosine.coefficients(np.array([[[0.25], [0.25]]]) / np.sqrt(2), 10.0)[0, 0] == 2


@pytest.mark.parametrize("horizon", [1, 2, 5, 8, 16])
def test_transform_is_scipys(horizon: int) -> None:
    fft = pytest.importorskip("scipy.fft")
    values = np.random.default_rng(0).normal(size=(horizon, 3))
    np.testing.assert_allclose(cosine.matrix(horizon) @ values, fft.dct(values, axis=0, norm="ortho"), atol=1e-12)


@pytest.mark.parametrize(("scale", "vocabulary"), [(6.0, 160), (10.0, 1024), (120.0, 2048)])
def test_every_chunk_comes_back_within_the_bound(scale: float, vocabulary: int) -> None:
    chunks = smooth()
    tokenizer = FastTokenizer.fit(chunks, scale=scale, vocab_size=vocabulary)
    back = tokenizer.decode(tokenizer.encode(chunks))
    assert not back.malformed.any()
    assert np.linalg.norm(back.actions - chunks, axis=1).max() <= 0.5 / scale * np.sqrt(8)


def test_merges_make_chunks_short() -> None:
    chunks = smooth()
    ids = FastTokenizer.fit(chunks, scale=6.0, vocab_size=256).encode(chunks)
    assert max(map(len, ids)) < 24  # numbers of a chunk: tokens without merges


def test_files_give_the_same_tokenizer(tmp_path: Path) -> None:
    chunks = smooth()
    tokenizer = FastTokenizer.fit(chunks, scale=10.0, vocab_size=300)
    tokenizer.save(tmp_path)
    again = FastTokenizer.load(tmp_path)
    assert again.encode(chunks) == tokenizer.encode(chunks)
    facts = json.loads((tmp_path / "processor_config.json").read_text())
    assert (facts["time_horizon"], facts["action_dim"], facts["min_token"]) == (8, 3, tokenizer.min_token)


def test_files_that_leave_the_horizon_open_need_it(tmp_path: Path) -> None:
    """The universal tokenizer's do; the processor keeps the last call's instead, which another chunk then gets."""
    FastTokenizer.fit(smooth(), vocab_size=300).save(tmp_path)
    path = tmp_path / "processor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"time_horizon": None}))
    with pytest.raises(UsageError, match="do not say the horizon"):
        FastTokenizer.load(tmp_path)
    assert FastTokenizer.load(tmp_path, horizon=8).horizon == 8


def test_another_horizon_than_the_files_is_refused(tmp_path: Path) -> None:
    FastTokenizer.fit(smooth(), vocab_size=300).save(tmp_path)
    with pytest.raises(UsageError, match="has horizon 8, but 10 is asked for"):
        FastTokenizer.load(tmp_path, horizon=10)


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"E003 .*processor_config.json can't be read"):
        FastTokenizer.load(tmp_path)


def test_values_below_the_fitted_range_are_refused_and_not_clipped() -> None:
    tokenizer = FastTokenizer.fit(smooth() * 0.1, vocab_size=300)
    with pytest.raises(DataError, match="E202"):
        tokenizer.encode(np.full((1, 8, 3), -5.0))


def test_values_above_the_fitted_range_are_refused_and_not_dropped() -> None:
    """An encoder without a token for a byte leaves it out: the chunk would be short, and decode to zeros."""
    tokenizer = FastTokenizer.fit(smooth() * 0.1, vocab_size=300)
    with pytest.raises(DataError, match="E202"):
        tokenizer.encode(np.full((1, 8, 3), 5.0))


def test_surrogates_are_refused() -> None:
    """Code points D800 to DFFF are no text (openpi#333)."""
    tokenizer = FastTokenizer.fit(smooth(), vocab_size=300)
    values = np.zeros((1, 8, 3))
    values[0, :, 0] = (0xD800 + tokenizer.min_token + 1) / tokenizer.scale / np.sqrt(8)
    with pytest.raises(DataError, match="E202"):
        tokenizer.encode(values)


def test_a_range_wider_than_the_vocabulary_is_refused() -> None:
    with pytest.raises(UsageError, match="which 20 tokens cannot tell apart"):
        FastTokenizer.fit(smooth(), scale=100.0, vocab_size=20)


def test_a_vocabulary_as_wide_as_the_range_is_enough() -> None:
    """Upstream's check is off by one."""
    chunks = smooth(5)
    whole = cosine.coefficients(chunks, 6.0)
    size = int(whole.max() - whole.min()) + 1
    assert len(FastTokenizer.fit(chunks, scale=6.0, vocab_size=size).tokens) == size


@pytest.mark.parametrize(
    ("chunks", "code"),
    [
        (np.zeros((2, 8)), "E203"),
        (np.zeros((0, 8, 3)), "E207"),
        (np.full((1, 8, 3), np.nan), "E201"),
    ],
)
def test_what_is_no_chunk_is_refused(chunks: np.ndarray, code: str) -> None:
    with pytest.raises(DataError, match=code):
        FastTokenizer.fit(chunks)


@pytest.mark.parametrize(
    "cut", [lambda ids: ids[:-1], lambda ids: [*ids, ids[0]], lambda ids: [], lambda ids: [99999]]
)
def test_malformed_chunks_are_told_and_are_no_motion(cut: object) -> None:
    chunks = smooth()
    tokenizer = FastTokenizer.fit(chunks, vocab_size=300)
    good = tokenizer.encode(chunks[:1])[0]
    decoded = tokenizer.decode([good, cut(good)])  # type: ignore[operator]
    assert decoded.malformed.tolist() == [False, True]
    assert np.isfinite(decoded.actions[0]).all()
    assert np.isnan(decoded.actions[1]).all()


def walk(grammar: Grammar, random: np.random.Generator) -> list[int]:
    """Any allowed token after any, until the end."""
    state, out = 0, []
    while state != len(grammar.next) - 1:
        token = int(random.choice(np.flatnonzero(grammar.next[state] != FORBIDDEN)))
        out.append(token)
        state = int(grammar.next[state, token])
    return out


@given(seed=st.integers(0, 2**32 - 1), scale=st.sampled_from([3.0, 40.0, 200.0]))
@settings(max_examples=60, deadline=None)
def test_allowed_tokens_always_make_a_whole_chunk(seed: int, scale: float) -> None:
    """From one byte a number to two: whatever is allowed, the chunk ends with H x D numbers, and decodes."""
    tokenizer = TOKENIZERS[scale]
    ids = walk(tokenizer.grammar, np.random.default_rng(seed))
    assert ids[-1] == tokenizer.grammar.end_token
    assert len(ids) <= tokenizer.grammar.longest
    assert not tokenizer.decode([ids[:-1]]).malformed[0]


TOKENIZERS = {scale: FastTokenizer.fit(smooth(), scale=scale, vocab_size=1500) for scale in (3.0, 40.0, 200.0)}


@pytest.mark.parametrize("scale", TOKENIZERS)
def test_every_encoded_chunk_is_allowed(scale: float) -> None:
    tokenizer = TOKENIZERS[scale]
    grammar = tokenizer.grammar
    assert all(grammar.whole([*ids, grammar.end_token]) for ids in tokenizer.encode(smooth()))


def test_tokens_may_end_within_a_number() -> None:
    """Two bytes in two tokens; neither the end nor a fourth number fits in between."""
    grammar = Grammar([b"\xc3", b"\xa9", b"a", b"ab"], numbers=2)
    assert grammar.whole([0, 1, 2, 4])
    assert not grammar.whole([0, 2, 2, 4])
    assert not grammar.whole([2, 3, 4])
    assert not grammar.whole([2, 4])
    assert not grammar.whole([2, 0, 1])


def test_a_token_that_leads_nowhere_is_forbidden() -> None:
    """Of three numbers, two at a time leave one that no token makes."""
    grammar = Grammar([b"ab", b"abc"], numbers=3)
    assert grammar.next[0].tolist() == [FORBIDDEN, 1, FORBIDDEN]


def test_tokens_that_cannot_make_the_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="no sequence of these tokens makes 3 numbers"):
        Grammar([b"ab"], numbers=3)


def test_a_processor_with_raw_letters_in_its_alphabet_reads() -> None:
    """The published fit puts unencoded letters into the alphabet: tokens that no text has."""
    whole = cosine.coefficients(smooth(), 10.0)
    low = int(whole.min())
    bpe = Tokenizer(BPE())
    bpe.pre_tokenizer = ByteLevel(add_prefix_space=False)
    alphabet = [chr(number) for number in range(int(whole.max()) - low + 1)]
    trainer = BpeTrainer(vocab_size=400, min_frequency=2, show_progress=False, initial_alphabet=alphabet)
    bpe.train_from_iterator(["".join(chr(value - low) for value in row) for row in whole], trainer=trainer)
    tokenizer = FastTokenizer(bpe, horizon=8, dim=3, scale=10.0, min_token=low)
    ids = tokenizer.encode(smooth())
    assert None in tokenizer.tokens
    assert not tokenizer.decode(ids).malformed.any()
    assert all(tokenizer.grammar.whole([*row, tokenizer.grammar.end_token]) for row in ids)
