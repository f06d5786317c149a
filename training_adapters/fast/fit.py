"""FAST tokens for any dataset: its action chunks, normalised as a trainer does, and the tokenizer of these."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from training_adapters.fast.tokenizer import FILES, FastTokenizer
from training_adapters.openpi.stats import Openpi
from vla_data import options as checks
from vla_data.core import Array, Json, Source
from vla_data.core.findings import Finding
from vla_data.errors import DataError, RefusedError, TargetExistsError, UsageError
from vla_data.files.write import machine_errors, remove_tree
from vla_data.jobs.publish import publish
from vla_data.jobs.targets import Seen
from vla_data.jobs.workspace import workspace
from vla_data.safety.text import show
from vla_data.statistics.blocks import as_vectors
from vla_data.statistics.chunks import action_chunks
from vla_data.statistics.collect import LeftOut, summarize
from vla_data.statistics.columns import Columns, read_columns
from vla_data.statistics.health import findings
from vla_data.statistics.meanings import check as check_meanings
from vla_data.statistics.meanings import schemas_of
from vla_data.statistics.rules import TOKEN_RULES, normalize

FACTS: Final = "fit.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class FastFit:
    """How FAST tokens are fitted.

    Attributes:
        horizon: steps of a chunk, H.
        rule: of `vla_data.statistics.rules.TOKEN_RULES`. openpi's statistics are of chunks, LeRobot's of steps, as
            theirs are.
        clip: whether what lies outside of [-1, 1] then is made so, as LeRobot does.
        scale: coefficients are rounded to whole multiples of 1 / scale.
        vocab_size: tokens.
        action: array of actions.
        state: array of states, for ``delta``.
        delta: for the first elements, whether the state of the chunk's first step is subtracted.
        limit: the most chunks that tokens are fitted on; of more, so many are drawn. Statistics are of all.
    """

    horizon: int
    rule: str = "openpi.quantile"
    clip: bool = False
    scale: float = 10.0
    vocab_size: int = 1024
    action: str = "action"
    state: str = "observation.state"
    delta: tuple[bool, ...] = ()
    limit: int = 100_000

    def __post_init__(self) -> None:
        checks.whole("horizon", self.horizon, low=1, high=4096)
        checks.whole("vocab_size", self.vocab_size, low=1, high=2**20)
        checks.whole("limit", self.limit, low=1)
        checks.one_of("rule", self.rule, TOKEN_RULES)
        object.__setattr__(self, "scale", checks.number("scale", self.scale, low=1e-6, high=1e6))
        if any(self.delta) and self.rule.startswith("lerobot"):
            raise UsageError(
                "E001", "LeRobot's statistics are of actions as they are; --delta-actions is for openpi's"
            )

    def chunks(self, arrays: Columns) -> Array:
        """``(T, H, D)``: the chunk of every step, the last action again beyond the episode's end."""
        states = as_vectors(arrays[self.state], self.state) if any(self.delta) else None
        actions = as_vectors(arrays[self.action], self.action)
        return action_chunks(actions, self.horizon, states=states, delta=self.delta if any(self.delta) else ())

    def fit(self, sources: Mapping[str, Source]) -> Fitted:
        """Tokens of what these sources hold, all taken together; two passes, in which no image is decoded.

        Args:
            sources: by name.

        Raises:
            RefusedError: E402, no episode can be used.
            UsageError: E001, the coefficients need a larger vocabulary; the message says from where to where.
                E232, what is declared contradicts ``delta``.
        """
        openpi = Openpi(
            action_horizon=self.horizon, action=self.action, state=self.state, delta_actions=self.delta
        )
        meanings = check_meanings(schemas_of(sources), openpi, pooled=True)
        ids: list[str] = []

        def rows(arrays: Columns) -> Columns:
            chunks = self.chunks(arrays)
            each_step = self.rule.startswith("lerobot")
            return {"actions": chunks[:, 0] if each_step else chunks.reshape(-1, chunks.shape[-1])}

        def told() -> Iterator[tuple[str, Columns | DataError]]:
            for number, (name, arrays) in enumerate(self._read(sources)):
                ids.append(name)
                yield str(number), arrays  # names of episodes may be in two sources

        summary = summarize(told(), rows=rows)
        statistics = summary.exact("actions").to_json()
        chunks = self._drawn(sources, {int(left.id) for left in summary.left_out}, summary.steps)
        made = chunks.astype(np.float64) if self.rule == "none" else normalize(chunks, statistics, self.rule)
        outside = float((np.abs(made) > 1).mean())
        made = np.clip(made, -1.0, 1.0) if self.clip else made
        tokenizer = FastTokenizer.fit(made, scale=self.scale, vocab_size=self.vocab_size)
        encoded = tokenizer.encode(made)
        lengths = np.array([len(row) for row in encoded])
        return Fitted(
            options=self,
            tokenizer=tokenizer,
            statistics=statistics,
            episodes=summary.episodes,
            steps=summary.steps,
            chunks=len(made),
            left_out=tuple(replace(left, id=ids[int(left.id)]) for left in summary.left_out),
            findings=(*meanings, *findings("actions", summary.features["actions"])),
            outside=outside,
            tokens=(float(lengths.mean()), int(lengths.max())),
            error=float(np.abs(tokenizer.decode(encoded).actions - made).max()),
        )

    def _read(self, sources: Mapping[str, Source]) -> Iterator[tuple[str, Columns | DataError]]:
        names = [self.action, *([self.state] if any(self.delta) else [])]
        return itertools.chain.from_iterable(read_columns(source, names) for source in sources.values())

    def _drawn(self, sources: Mapping[str, Source], left_out: set[int], steps: int) -> Array:
        """The chunks of all steps, or of `limit` of them, in their order."""
        count = min(steps, self.limit)
        wanted = np.sort(np.random.default_rng(0).choice(steps, count, replace=False))
        found, before = [], 0
        for number, (_, arrays) in enumerate(self._read(sources)):
            if number in left_out or isinstance(arrays, DataError):
                continue
            chunks = self.chunks(arrays)
            here = wanted[(wanted >= before) & (wanted < before + len(chunks))]
            found.append(chunks[here - before])
            before += len(chunks)
        if before != steps:
            raise RefusedError("E403", "the episodes changed while they were read")
        return np.concatenate(found)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fitted:
    """A tokenizer and what it was fitted on.

    Attributes:
        options: how.
        tokenizer: of normalised chunks.
        statistics: of actions, by which they were normalised.
        episodes: that were read.
        steps: of these.
        chunks: that tokens were fitted on.
        left_out: episodes that could not be used.
        findings: what will hurt; see `vla_data.statistics.health`.
        outside: share of the numbers that lie outside of [-1, 1] after normalising, before clipping.
        tokens: of a chunk: mean, and most.
        error: the largest, of normalised numbers that were encoded and decoded.
    """

    options: FastFit
    tokenizer: FastTokenizer
    statistics: dict[str, Json]
    episodes: int
    steps: int
    chunks: int
    left_out: tuple[LeftOut, ...]
    findings: tuple[Finding, ...]
    outside: float
    tokens: tuple[float, int]
    error: float

    def to_json(self) -> dict[str, Any]:
        """What is kept beside the tokenizer: without these numbers its tokens mean nothing."""
        options, tokenizer = self.options, self.tokenizer
        return {
            "action": options.action,
            "action_dim": tokenizer.dim,
            "action_horizon": tokenizer.horizon,
            "chunks": self.chunks,
            "clip": options.clip,
            "delta_actions": list(options.delta),
            "episodes": self.episodes,
            "left_out": [left.id for left in self.left_out],
            "max_error": self.error,
            "outside": self.outside,
            "rule": options.rule,
            "scale": tokenizer.scale,
            "statistics": None if options.rule == "none" else self.statistics,
            "steps": self.steps,
            "tokens_max": self.tokens[1],
            "tokens_mean": self.tokens[0],
            "vocab_size": len(tokenizer.tokens),
        }

    def lines(self) -> list[str]:
        """For a person."""
        mean, most = self.tokens
        tokenizer = self.tokenizer
        return [
            f"{self.chunks:,} chunks of {tokenizer.horizon} x {tokenizer.dim} from {self.episodes:,} episodes,"
            f" {self.outside:.2%} of the numbers outside of [-1, 1] after {self.options.rule}"
            f"{', clipped' if self.options.clip else ''}",
            f"{len(tokenizer.tokens):,} tokens; a chunk has {mean:.1f} of them, at most {most}; error at most"
            f" {self.error:.3g}",
        ]

    def save(self, folder: Path, *, replace: bool = False) -> None:
        """Write the processor's files and `FACTS`, all at once.

        Args:
            folder: a new one.
            replace: put it in the place of a tokenizer that is there.

        Raises:
            TargetExistsError: E411, something is there; with ``replace``, something that is no tokenizer.
        """
        with machine_errors("cannot write the tokenizer"):
            if os.path.lexists(folder) and not replace:
                raise TargetExistsError("E411", f"{show(folder)} is there already (--replace)")
            _check_replaced(folder)
            with workspace(folder) as work:
                seen, beside = Seen.at(folder), work / "staging"
                remove_tree(beside)
                self.tokenizer.save(beside)
                (beside / FACTS).write_text(json.dumps(self.to_json(), indent=2, sort_keys=True) + "\n")
                _check_replaced(folder)
                publish(beside, folder, seen)


def _check_replaced(folder: Path) -> None:
    """Raises TargetExistsError, E411, where a folder has more in it than a tokenizer that was fitted here."""
    if not os.path.lexists(folder):
        return
    if folder.is_symlink() or not folder.is_dir():
        raise TargetExistsError("E411", f"{show(folder)} exists and is not a folder")
    more = sorted(set(os.listdir(folder)) - {FACTS, *FILES})
    if more or not (folder / FACTS).is_file():
        odd = f"it has {show(more[0])}" if more else f"it has no {FACTS}"
        raise TargetExistsError("E411", f"{show(folder)} is no tokenizer of vla-data: {odd}; it is not replaced")
