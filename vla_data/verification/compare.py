"""A dataset beside its sources: every number, text and image is read from both and compared.

The dataset is read by the source class of its format, which shares no code with the sink that wrote it beyond the
format's constants. What the sources must give is computed again with the recipe of the manifest.

Numbers must be equal, after the cast to the type that the dataset declares. Images of a lossless encoding must be
equal too, as must encoded bytes that were handed on, which are counted. Where images are lossy, the source's are
encoded again: the result must be the same, or, where other versions of the encoder made the dataset, lose as much;
the rule is that of `vla_data.verification.lossy`. Encoding videos again takes as long as making them did; a sample
of the episodes takes its share of that.

Where the source's format can say what it has without its reader (see `vla_data.verification.evidence`), the
dataset is compared with that too, so that what the reader passes over is no less a loss.

Episodes are told by their ids. Those that the source does not list are told by their digests, so that files may
have been renamed.
"""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vla_data.core import Array, Episode, EpisodeRef, Json, Source
from vla_data.core.base import narrowed, whole
from vla_data.core.curate import Step, curate, describe
from vla_data.core.ledger import Ledger, Record
from vla_data.errors import DataError
from vla_data.formats import open_source
from vla_data.jobs.part import all_steps, fingerprint
from vla_data.media.frames import Frames
from vla_data.safety.text import show
from vla_data.verification.evidence import Evidence
from vla_data.verification.lossy import Encoder, is_plausible, psnr
from vla_data.verification.provenance import Address, open_provenance

Blame = Callable[..., None]

_NEIGHBOURS: Final = 16
_MARGIN: Final = 1.0


@dataclass
class Agreement:
    """How one feature agrees.

    Attributes:
        episodes: compared.
        values: compared: numbers, texts or images.
        differing: of those, beyond what the encoding explains.
        largest: difference of two numbers.
        dtype: "from -> to" where the dataset has another type.
        same_bytes: images whose encoded bytes were handed on.
        psnrs: in dB, of every image that differs.
    """

    episodes: int = 0
    values: int = 0
    differing: int = 0
    largest: float = 0.0
    dtype: str = ""
    same_bytes: int = 0
    psnrs: list[float] = field(default_factory=list, repr=False)

    def to_json(self) -> dict[str, Json]:
        """JSON-ready."""
        facts: dict[str, Json] = {"episodes": self.episodes, "values": self.values, "differing": self.differing}
        if self.largest:
            facts["largest_difference"] = self.largest
        if self.dtype:
            facts["dtype"] = self.dtype
        if self.same_bytes:
            facts["same_bytes"] = self.same_bytes
        if self.psnrs:
            facts["psnr_min"] = round(min(self.psnrs), 2)
            facts["psnr_mean"] = round(float(np.mean(self.psnrs)), 2)
        return facts


def compare(
    root: Path,
    manifest: dict[str, Any],
    ledger: Ledger,
    sources: Sequence[Address],
    blame: Blame,
    note: Callable[[str], None],
    *,
    sample: float | None = None,
    seed: int = 0,
) -> dict[str, Json]:
    """Compare the dataset at ``root`` with the sources that it was made from.

    Args:
        root: the dataset.
        manifest: its manifest, as `vla_data.core.manifest.read_manifest` gives it; its recipe is repeated.
        ledger: its ledger, which says what episode is where.
        sources: addresses; several for a merged dataset.
        blame: called with (".", what is wrong, episode id) for everything that is not as it must be.
        note: called with what a user may want to know.
        sample: share of the episodes that are compared, at least one; None: all.
        seed: which ones.

    Returns:
        "compared": how many episodes were. "features": name -> `Agreement`; "not_stored": features that the source
        has or declares and the dataset lacks, without those that the recipe drops; "added": what the dataset has
        beyond them.

    Raises:
        UsageError, VerifyError: as `vla_data.verification.provenance.open_provenance`.
    """
    reader, steps, sink = open_provenance(manifest, sources, root)
    reader = narrowed(reader, steps)
    encoder = Encoder(sink, manifest.get("versions") or {})
    refs = _own_refs(reader, ledger, note)
    published = [record for record in ledger.records if record.status == "published"]
    agreements: dict[str, Agreement] = {}
    lost: dict[str, None] = {}
    added: dict[str, None] = {}
    seen = set()
    dataset = open_source(root)  # of another distribution too: its manifest names the sink
    listed = dataset.episodes()
    chosen = set(range(len(listed)))
    if sample is not None:
        chosen = set(random.Random(seed).sample(range(len(listed)), math.ceil(sample * len(listed))))
    for record, found in _paired(dataset, listed, chosen, published, blame):
        if record.id in seen:
            blame(".", "is there twice", record.id)
            continue
        seen.add(record.id)
        if record.id not in refs:
            blame(".", "is not in the source", record.id)
            continue
        want = _wanted(reader, refs[record.id], steps, blame)
        if want is None:
            continue
        pair = _Episode(want.episode, found, agreements)
        try:
            for problem in pair.compare(encoder, want.fps):
                blame(".", problem, record.id)
        except DataError as error:  # an image can't be decoded
            blame(".", f"can't be compared: {error}", record.id)
        wanted, stored = ({*episode.arrays, *episode.frames} for episode in (want.episode, found))
        lost |= dict.fromkeys(sorted(wanted - stored))
        check = Evidence(whole(reader).evidence(refs[record.id]), all_steps(reader, steps, refs[record.id]))
        for problem in check.problems(found, record.notes, pair.differing):
            blame(".", problem, record.id)
        lost |= dict.fromkeys(check.lost(found))
        added |= dict.fromkeys(sorted(stored - wanted))
    if sample is None:
        for record in published:
            if record.id not in seen:
                blame(".", "is published in the ledger, but not in the dataset", record.id)
    else:
        if len(listed) != len(published):
            blame(".", f"has {len(listed):,} episodes, but the ledger {len(published):,}")
        note(f"{len(chosen):,} of {len(listed):,} episodes were compared with their sources")
    return {
        "compared": len(seen),
        "features": {name: agreements[name].to_json() for name in sorted(agreements)},
        "not_stored": sorted(lost),
        "added": sorted(added),
    }


def _own_refs(reader: Source, ledger: Ledger, note: Callable[[str], None]) -> Mapping[str, EpisodeRef]:
    """Id in the ledger -> the source's episode: that of this id, or else the one with the recorded digest."""
    listed = reader.episodes()
    refs = {ref.id: ref for ref in listed}
    known = {record.id for record in ledger.records}
    missing: dict[str, list[str]] = defaultdict(list)
    for record in ledger.records:
        if record.id not in refs and record.source_sha256 is not None:
            missing[record.source_sha256].append(record.id)
    if not missing:
        return refs
    others: dict[str, list[EpisodeRef]] = defaultdict(list)
    for ref in listed:
        if ref.id not in known and (digest := fingerprint(reader, ref)) is not None:
            others[digest].append(ref)
    # Both lists are in the source's order, which tells equal episodes apart.
    found = {
        name: ref
        for digest, names in missing.items()
        if len(names) == len(others.get(digest, ()))
        for name, ref in zip(names, others[digest], strict=True)
    }
    if found:
        name, ref = next(iter(found.items()))
        note(
            f"files of the source were renamed: {len(found):,} episodes were told by their digests, "
            f"as {show(name)}, which is {show(ref.id)} now"
        )
    return refs | found


def _paired(
    source: Source, listed: Sequence[EpisodeRef], chosen: set[int], published: Sequence[Record], blame: Blame
) -> Iterator[tuple[Record, Episode]]:
    """Each chosen episode of the dataset with its record: by its place, or in RLDS, which shuffles, by its id.

    The source of RLDS has proved that the record carries this id. In other formats an id says no more than the
    place, and that of another episode where the source was of the same format.
    """
    by_id = {record.id: record for record in published}
    by_place = {record.output_index: record for record in published}
    for number, ref in enumerate(listed):
        if number not in chosen:
            continue
        try:
            episode = source.read(ref)
        except DataError as error:
            blame(".", f"can't be read: {error}", ref.id)
            continue
        record = by_id.get(ref.id) if episode.meta.source == "rlds" else by_place.get(number)
        if record is None:
            blame(".", "is not in the ledger", ref.id)
        else:
            yield record, episode


class _Wanted(NamedTuple):
    """What the source gives by the recipe, and at which rate."""

    episode: Episode
    fps: float


def _wanted(reader: Source, ref: EpisodeRef, steps: Sequence[Step], blame: Blame) -> _Wanted | None:
    every = all_steps(reader, steps, ref)
    try:
        source = reader.read(ref)
        episode = curate(source, every).episode
        fps = describe(reader.schema(source), every).fps
    except DataError as error:
        blame(".", f"its source can't be read: {error}", ref.id)
        return None
    if episode is None:
        blame(".", "is rejected by the recipe now", ref.id)
        return None
    return _Wanted(episode, fps)


class _Episode:
    """One episode, as it must be and as it was found.

    Attributes:
        differing: arrays that were told to differ.
    """

    def __init__(self, want: Episode, found: Episode, agreements: dict[str, Agreement]) -> None:
        self._want, self._found, self._agreements = want, found, agreements
        self.differing: set[str] = set()

    def compare(self, encoder: Encoder, fps: float) -> Iterator[str]:
        """What is wrong, a sentence each."""
        want, found = self._want, self._found
        if len(want) != len(found):
            self.differing |= found.arrays.keys()
            yield f"has {len(found):,} steps, its source {len(want):,}"
            return
        yield from self._texts()
        for name in sorted(want.arrays.keys() & found.arrays.keys() - {"task"}):
            for problem in self._array(name, want.arrays[name], found.arrays[name]):
                self.differing.add(name)
                yield problem
        for name in sorted(want.frames.keys() & found.frames.keys()):
            yield from self._frames(name, want.frames[name], found.frames[name], encoder, fps)

    def _agreement(self, name: str) -> Agreement:
        agreement = self._agreements.setdefault(name, Agreement())
        agreement.episodes += 1
        return agreement

    def _texts(self) -> Iterator[str]:
        texts = [
            [str(text) for text in episode.arrays.get("task", [episode.task] * len(episode))]
            for episode in (self._want, self._found)
        ]
        agreement = self._agreement("task")
        agreement.values += len(texts[0])
        if texts[0] != texts[1]:
            agreement.differing += sum(a != b for a, b in zip(*texts, strict=True))
            yield "has another instruction than its source"

    def _array(self, name: str, want: Array, found: Array) -> Iterator[str]:
        agreement = self._agreement(name)
        agreement.values += want.size
        if want.dtype.kind == "U" or found.dtype.kind == "U":
            differs: Array = np.asarray(want.astype(str) != found.astype(str))
        else:
            if want.dtype != found.dtype:
                agreement.dtype = f"{want.dtype} -> {found.dtype}"
            if want.reshape(len(want), -1).shape != found.reshape(len(found), -1).shape:
                agreement.differing += want.size
                yield f"{name} is {found.shape}, in its source {want.shape}"
                return
            cast = want.reshape(found.shape).astype(found.dtype)
            differs = ~_equal(cast, found)
            if differs.any() and found.dtype.kind in "fiu":
                gap = np.abs(cast[differs].astype(np.float64) - found[differs].astype(np.float64))
                agreement.largest = max(agreement.largest, float(np.nanmax(gap)) if gap.size else 0.0)
        if differs.any():
            agreement.differing += int(differs.sum())
            first = int(np.argwhere(differs)[0][0])
            yield f"{name} differs from its source at frame {first} and {int(differs.sum()) - 1:,} other values"

    def _frames(self, name: str, want: Frames, found: Frames, encoder: Encoder, fps: float) -> Iterator[str]:
        agreement = self._agreement(name)
        agreement.values += len(want)
        if (want.height, want.width) != (found.height, found.width):
            agreement.differing += len(want)
            yield f"{name} is {found.height}x{found.width}, in its source {want.height}x{want.width}"
            return
        again = None if encoder.is_lossless else encoder.again(want, name, fps=fps)
        exact = encoder.is_exact(want)
        lossy, wrong = [], []
        for t in range(len(want)):
            if self._same(agreement, want, found, t):
                continue
            made = again.pixels(t) if again is not None and not encoder.hands_on(want, t) else None
            source, image = want.pixels(t), found.pixels(t)
            agreement.psnrs.append(psnr(source, image))
            lossy.append(t)
            if made is None or not (
                np.array_equal(made, image) or (not exact and is_plausible(source, made, image))
            ):
                wrong.append((t, agreement.psnrs[-1]))
        agreement.differing += len(wrong)
        if lossy and self._is_shifted(want, found, lossy):
            agreement.differing += len(lossy) - len(wrong)
            yield f"{name}: images resemble those one frame away more than their own"
        elif wrong:
            where = f"at frame {wrong[0][0]} (PSNR {wrong[0][1]:.1f} dB) and {len(wrong) - 1:,} others"
            yield f"{name} differs from its source {where}"

    def _same(self, agreement: Agreement, want: Frames, found: Frames, t: int) -> bool:
        mine, theirs = want.items[t], found.items[t]
        if isinstance(mine, bytes | memoryview) and isinstance(theirs, bytes | memoryview) and mine == theirs:
            agreement.same_bytes += 1
            return True
        return bool(np.array_equal(want.pixels(t), found.pixels(t)))

    def _is_shifted(self, want: Frames, found: Frames, lossy: Sequence[int]) -> bool:
        """Whether lossy images are out of their place: most resemble a neighbour's source clearly more."""
        chosen = lossy[:: max(1, len(lossy) // _NEIGHBOURS)]
        shifted = 0
        for t in chosen:
            image = found.pixels(t)
            own = psnr(want.pixels(t), image)
            beside = [psnr(want.pixels(n), image) for n in (t - 1, t + 1) if 0 <= n < len(want)]
            shifted += any(value > own + _MARGIN for value in beside)
        return shifted * 2 > len(chosen)


def _equal(a: Array, b: Array) -> NDArray[np.bool_]:
    equal: NDArray[np.bool_] = np.asarray(a == b)
    if a.dtype.kind == "f":
        equal |= np.isnan(a) & np.isnan(b)
    return equal
