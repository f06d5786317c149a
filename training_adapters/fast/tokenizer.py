"""FAST tokens, fitted on one's own chunks or loaded from the files of a Hugging Face processor."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer

from training_adapters.fast import cosine
from training_adapters.fast.grammar import Grammar
from training_adapters.stored import read_json
from vla_data import options as checks
from vla_data.errors import DataError, UsageError
from vla_data.safety import strict_json
from vla_data.safety.files import read_file
from vla_data.safety.text import show

FILES: Final = ("processor_config.json", "special_tokens_map.json", "tokenizer.json", "tokenizer_config.json")
"""What `FastTokenizer.save` writes."""
_PROCESSOR: Final = "physical-intelligence/fast--processing_action_tokenizer.UniversalActionProcessor"
_MAX_TOKENS: Final = 64 << 20
_SURROGATES: Final = range(0xD800, 0xE000)  # code points that UTF-8 has not: openpi#333


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """Chunks of tokens as actions.

    Attributes:
        actions: ``(N, H, D)`` float64; NaN where a chunk is malformed, which no environment takes for a motion.
        malformed: ``(N,)``: its tokens do not make ``H * D`` numbers.
    """

    actions: NDArray[np.float64]
    malformed: NDArray[np.bool_]


class FastTokenizer:
    """Actions of about [-1, 1] to token ids and back.

    Args:
        bpe: the byte-level byte-pair encoding of code points.
        horizon: steps of a chunk, H.
        dim: numbers of an action, D.
        scale: coefficients are rounded to whole multiples of 1 / scale.
        min_token: the coefficient of code point 0.

    Attributes:
        tokens: the bytes of each token; None for one that no text has.
        grammar: which token may follow; its end token is ``len(tokens)``.
    """

    def __init__(self, bpe: Tokenizer, *, horizon: int, dim: int, scale: float, min_token: int) -> None:
        self.horizon = checks.whole("horizon", horizon, low=1, high=4096)
        self.dim = checks.whole("dim", dim, low=1, high=4096)
        self.scale = checks.number("scale", scale, low=1e-6, high=1e6)
        self.min_token = checks.whole("min_token", min_token, low=-(2**20), high=2**20)
        self._bpe = bpe
        texts = [bpe.id_to_token(number) for number in range(bpe.get_vocab_size())]
        self.tokens: tuple[bytes | None, ...] = tuple(_bytes_of(text) for text in texts)

    @functools.cached_property
    def grammar(self) -> Grammar:
        """See `Grammar`."""
        return Grammar(self.tokens, self.horizon * self.dim)

    @classmethod
    def fit(cls, chunks: ArrayLike, *, scale: float = 10.0, vocab_size: int = 1024) -> FastTokenizer:
        """A tokenizer for chunks like these.

        Args:
            chunks: ``(N, H, D)`` actions of about [-1, 1].
            scale: see the class; more is finer and longer.
            vocab_size: tokens; every coefficient between the smallest and the largest has one of its own.

        Raises:
            UsageError: E001, an option makes no sense, or the range of coefficients needs more tokens.
            DataError: E203 for another shape, E201 for numbers that are not finite, E207 for no chunks.
        """
        checked = _checked(chunks, None, None)
        whole = cosine.coefficients(checked, scale)
        low, high = int(whole.min()), int(whole.max())
        points = _texts(np.arange(low, high + 1)[:, None], low)
        alphabet = sorted({_CHARACTERS[byte] for text in points for byte in text.encode()})
        if high - low + 1 > vocab_size or len(alphabet) > vocab_size:
            raise UsageError(
                "E001",
                f"coefficients go from {low} to {high}, which {vocab_size} tokens cannot tell apart; give a larger"
                " vocabulary or a smaller scale, and check that actions are of about [-1, 1]",
            )
        bpe = Tokenizer(BPE())
        # One word a chunk: the usual split at spaces and digits would cut at coefficients that look like them.
        bpe.pre_tokenizer = ByteLevel(add_prefix_space=False, use_regex=False)
        bpe.decoder = ByteLevelDecoder()
        trainer = BpeTrainer(
            vocab_size=vocab_size,
            min_frequency=2,
            show_progress=False,
            initial_alphabet=alphabet,
            special_tokens=[],
        )
        bpe.train_from_iterator(_texts(whole, low), trainer=trainer)
        return cls(bpe, horizon=checked.shape[1], dim=checked.shape[2], scale=scale, min_token=low)

    def encode(self, chunks: ArrayLike) -> list[list[int]]:
        """The ids of each chunk, without an end token.

        Raises:
            DataError: E202 for a chunk that the tokens cannot say; E203 and E201 as for `fit`.
        """
        whole = cosine.coefficients(_checked(chunks, self.horizon, self.dim), self.scale)
        high = self.min_token + 0x10FFFF
        bad = (whole < self.min_token) | (whole > high) | np.isin(whole - self.min_token, _SURROGATES)
        if bad.any():
            self._refuse(whole, int(np.flatnonzero(bad.any(axis=1))[0]))
        texts = _texts(whole, self.min_token)
        out = [list(encoding.ids) for encoding in self._bpe.encode_batch(texts, add_special_tokens=False)]
        for number, (text, ids) in enumerate(zip(texts, out, strict=True)):
            # Bytes that the vocabulary lacks are dropped by the encoder without a word.
            if b"".join(self.tokens[token] or b"" for token in ids) != text.encode():
                self._refuse(whole, number)
        return out

    def decode(self, ids: Sequence[Sequence[int]]) -> Decoded:
        """What chunks of ids, without their end token, mean."""
        size = self.horizon * self.dim
        whole, malformed = np.zeros((len(ids), size), dtype=np.int64), np.ones(len(ids), dtype=np.bool_)
        for number, row in enumerate(ids):
            pieces = [self.tokens[token] if 0 <= token < len(self.tokens) else None for token in row]
            try:
                text = b"".join(piece for piece in pieces if piece is not None).decode()
            except UnicodeDecodeError:
                continue
            if None not in pieces and len(text) == size:
                whole[number] = [ord(letter) + self.min_token for letter in text]
                malformed[number] = False
        out = cosine.actions(whole, self.scale, self.horizon)
        out[malformed] = np.nan
        return Decoded(out, malformed)

    def save(self, folder: str | Path) -> None:
        """Write the files that ``AutoProcessor.from_pretrained(folder, trust_remote_code=True)`` reads."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self._bpe.save(str(folder / "tokenizer.json"))
        processor = {
            "action_dim": self.dim,
            "auto_map": {"AutoProcessor": _PROCESSOR},
            "min_token": self.min_token,
            "processor_class": "UniversalActionProcessor",
            "scale": self.scale,
            "time_horizon": self.horizon,
            "vocab_size": len(self.tokens),
        }
        _write_json(folder / "processor_config.json", processor)
        _write_json(
            folder / "tokenizer_config.json",
            {"clean_up_tokenization_spaces": False, "tokenizer_class": "PreTrainedTokenizerFast"},
        )
        _write_json(folder / "special_tokens_map.json", {})

    @classmethod
    def load(cls, folder: str | Path, *, horizon: int | None = None, dim: int | None = None) -> FastTokenizer:
        """The tokenizer of a folder; ``horizon`` and ``dim`` where its files leave them open, as FAST+ does.

        Raises:
            UsageError: E003, a file is missing; E001, the horizon or dimension is neither there nor given, or
                both and not the same.
            DataError: E141, a file is no sound JSON.
        """
        folder = Path(folder)
        try:
            facts = read_json(folder / "processor_config.json", root=folder)
            data, _ = read_file(folder / "tokenizer.json", root=folder, max_bytes=_MAX_TOKENS)
        except (DataError, UsageError) as error:
            if error.code not in ("E003", "E133"):
                raise
            name = "tokenizer.json" if error.code == "E133" else "processor_config.json"
            raise UsageError("E003", f"{show(folder)} is not a FAST tokenizer: {name} can't be read") from None
        strict_json.loads(data, name="tokenizer.json")
        try:
            bpe = Tokenizer.from_str(data.decode())
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # the library raises nothing narrower; a panic of Rust is no Exception
            raise DataError("E141", f"tokenizer.json is not a tokenizer ({show(error)})") from None
        shape = {
            "horizon": _one("horizon", facts.get("time_horizon"), horizon),
            "dim": _one("dim", facts.get("action_dim"), dim),
        }
        try:
            return cls(bpe, **shape, scale=facts["scale"], min_token=facts["min_token"])
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError("E001", f"processor_config.json of {show(folder)}: {show(error)}") from None

    def _refuse(self, whole: NDArray[np.int64], number: int) -> None:
        row = whole[number]
        raise DataError(
            "E202",
            f"chunk {number} has coefficients from {row.min()} to {row.max()}, which the tokenizer has no "
            f"tokens for (its smallest is {self.min_token}); fit a tokenizer on this data",
        )


def _checked(chunks: ArrayLike, horizon: int | None, dim: int | None) -> NDArray[np.float64]:
    out = np.asarray(chunks, dtype=np.float64)
    wanted = ("H" if horizon is None else horizon, "D" if dim is None else dim)
    fits = out.ndim == 3 and horizon in (None, out.shape[1]) and dim in (None, out.shape[2])
    if not fits:
        raise DataError("E203", f"chunks have shape {out.shape}, not (N, {wanted[0]}, {wanted[1]})")
    if out.size == 0:
        raise DataError("E207", "there are no chunks")
    if not np.isfinite(out).all():
        number = int(np.flatnonzero(~np.isfinite(out).all(axis=(1, 2)))[0])
        raise DataError("E201", f"chunk {number} has a number that is not finite")
    return out


def _texts(whole: NDArray[np.int64], low: int) -> list[str]:
    """Rows of coefficients as texts of code points from 0 on."""
    return ["".join(map(chr, row)) for row in (whole - low).tolist()]


def _letters() -> dict[int, str]:
    """The letter that byte-level encodings write for a byte: itself if it can be printed, else from U+0100 on."""
    printed = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printed]
    return {byte: chr(byte) for byte in printed} | {byte: chr(256 + n) for n, byte in enumerate(others)}


_CHARACTERS: Final = _letters()
_BYTES: Final = {letter: byte for byte, letter in _CHARACTERS.items()}


def _bytes_of(text: str | None) -> bytes | None:
    """The bytes that a token stands for; None where its letters are none of the encoding's."""
    if not text or any(letter not in _BYTES for letter in text):
        return None
    return bytes(_BYTES[letter] for letter in text)


def _one(name: str, stored: Any, given: int | None) -> int:
    if stored is None and given is None:
        raise UsageError("E001", f"the tokenizer's files do not say the {name}; give it")
    if stored is not None and given is not None and stored != given:
        raise UsageError("E001", f"the tokenizer has {name} {show(stored)}, but {given} is asked for")
    out: int = stored if given is None else given
    return out


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n")
