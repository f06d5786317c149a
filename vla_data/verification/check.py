"""Whether a dataset of ours still holds what was published, file by file and, when asked, frame by frame.

Three depths:

- **all** (the default): every file is there, has the SHA-256 of ``SHA256SUMS``, and none was added where readers
  look for data.
- **sample**: names and sizes of all files, the SHA-256 of some of them.
- **deep**: all, and then everything that can be computed again is: see `vla_data.verification.audit.Audit`. It
  also finds a dataset that was changed and summed up anew, as far as ledger, manifest, metadata and data then
  contradict each other. Whoever rewrites all of them consistently is not found; only comparing with a copy of the
  sums that is kept elsewhere does that.

**Every byte is covered**, that of ``SHA256SUMS`` too: each line is compared with a file, and all lines together
must be in the one form that we write. A line whose digest is almost that of its file is a damaged line, since two
different contents never have almost the same SHA-256, and a name that the manifest does not know is a damaged
name. So the file that is blamed is the one that is damaged.
"""

from __future__ import annotations

import hashlib
import math
import os
import random
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Final, TypeVar

from vla_data import options as checks
from vla_data.core import Json, Schema
from vla_data.core.ledger import FILE, Ledger
from vla_data.core.manifest import MANIFEST, read_manifest, recipe_sha256
from vla_data.errors import DataError, UsageError, VerifyError
from vla_data.files.sums import SEAL, format_sums, parse_sums
from vla_data.formats import load_trainer
from vla_data.formats.audits import audit_of
from vla_data.jobs.manifest import sources_sha256
from vla_data.safety import strict_json
from vla_data.safety.files import hash_regular, machine_said, read_file
from vla_data.safety.text import show
from vla_data.verification.dataset import SCHEMA, find_dataset, is_inside, join, walk
from vla_data.verification.report import Damage, Kind, Verdict

T = TypeVar("T")

# What readers pick up by its name; anything else that lies about is somebody's note.
_DATA: Final = re.compile(
    r".*\.(parquet|arrow|npz|npy|mp4|hdf5|h5)|.*\.(tfrecord|array_record).*", re.IGNORECASE | re.DOTALL
)
# Of 64 digits. Digests of different contents share 4 on average, and 32 about once in 10^20.
_ALMOST: Final = 32


def verify(
    path: str | Path,
    *,
    sample: float | None = None,
    deep: bool = False,
    seed: int | None = None,
    reader: str | None = None,
    against: str | Path | Sequence[str | Path] = (),
) -> Verdict:
    """Compare a dataset with its ``SHA256SUMS``, and with itself.

    Args:
        path: the dataset, a TFDS data dir with one dataset of ours, or a sealed folder of rollouts.
        sample: share of the files whose SHA-256 is computed, above 0 and up to 1, at least one file; the files of
            our sidecar always are. None: all of them. With ``against`` also the share of the episodes that are
            compared.
        deep: also read everything and compute again what can be.
        seed: which files are sampled; None: others each time. It is in ``checked``.
        reader: a trainer of `vla_data.formats.TRAINERS`; also open the dataset with that.
        against: what it was made from, as `vla_data.open_source` takes it, several for a merged dataset; also
            compare everything with that, see `vla_data.verification.compare`. The facts are in
            ``checked["against"]``.

    Raises:
        UsageError: E001 for options that can't be, E003 when there is nothing of ours, E006 for a reader that is
            not installed.
    """
    if sample is not None:
        try:
            sample = checks.number("sample", sample, low=0, high=1)
        except ValueError as error:
            raise UsageError("E001", str(error)) from None
        if deep or not sample:
            raise UsageError("E001", "a deep check is of everything" if deep else "a sample of 0 checks nothing")
    root, side = find_dataset(Path(path))
    check = _Check(root, side)
    seed = random.randrange(2**32) if seed is None else seed
    check.run(sample, seed)
    if deep:
        check.examine()
    sources = (against,) if isinstance(against, str | Path) else tuple(against)
    if sources:
        check.compare(sources, sample, seed)
    if reader is not None:
        try:
            load_trainer(reader, "gate").read_back(root)
        except VerifyError as error:
            check.blame(".", f"{reader}: {error.message}")
        except UsageError:  # it is not installed
            raise
        except Exception as error:  # it is somebody else's, and what it can't open is damage too
            check.blame(".", f"{reader} can't read it: {_why(error)}")
    return check.verdict()


class _Check:
    """One dataset under examination."""

    def __init__(self, root: Path, side: str) -> None:
        self._root, self._side = root, side
        self._own = join(side, SEAL)
        self._damages: list[Damage] = []
        self._notes: list[str] = []
        self._checked: dict[str, Json] = {}
        self._listed: dict[str, str] = {}
        self._hashes: dict[str, str] = {}
        self._others: list[str] = []

    def verdict(self) -> Verdict:
        unique = dict.fromkeys(sorted(self._damages, key=lambda d: (d.file, d.kind == "content")))
        return Verdict(
            self._root,
            self._side,
            tuple(unique),
            tuple(self._notes),
            self._checked,
            self._hashes,
            self._listed,
            tuple(self._others),
        )

    def blame(self, file: str, problem: str, *episodes: str) -> None:
        self._damages.append(Damage(file, problem, "content", episodes))

    def compare(self, sources: Sequence[str | Path], sample: float | None, seed: int) -> None:
        """With what it was made from."""
        from vla_data.verification.compare import (
            compare,  # the readers of all formats, which most checks do not need
        )

        folder = self._root / self._side
        try:
            manifest = read_manifest(folder)
            ledger = Ledger.read(folder / FILE)
        except Exception as error:  # Parquet fails in many ways
            self.blame(join(self._side, MANIFEST), f"does not say what it was made from: {_why(error)}")
            return
        self._checked["against"] = compare(
            self._root, manifest, ledger, sources, self.blame, self._notes.append, sample=sample, seed=seed
        )

    def run(self, sample: float | None, seed: int) -> None:
        """Names, sizes and hashes."""
        found = dict(walk(self._root))
        found.pop(self._own, None)
        healthy = self._read_sums()
        known = self._sizes()
        self._take_annotations(found)
        self._compare_names(found, known, healthy)
        there = sorted(name for name in self._listed if name in found)
        chosen = set(there) if sample is None else self._sample(there, sample, seed)
        wrong_size = {
            name: f"has {found[name]:,} bytes, not {known[name]:,}"
            for name in there
            if known is not None and known.get(name, found[name]) != found[name]
        }
        for name in wrong_size.keys() - chosen:
            self._add(name, wrong_size[name], "differs")
        self._compare_hashes(sorted(chosen), wrong_size)
        hashed = [name for name in self._hashes if name in found]
        self._checked |= {
            "files": len(there),
            "bytes": sum(found[name] for name in there),
            "hashed": len(hashed),
            "hashed_bytes": sum(found[name] for name in hashed),
        }
        if sample is not None:
            self._checked["seed"] = seed
            self._notes.append(
                f"{len(there) - len(hashed):,} of {len(there):,} files were checked by name "
                + ("and size alone" if known is not None else "alone, their sizes are not in the manifest")
                + f"; --seed {seed} takes the same sample"
            )

    def _take_annotations(self, found: dict[str, int]) -> None:
        """Check what ``vla-data annotate`` added, which has sums of its own, and take it out of ``found``."""
        folder = join(self._side, "advantages")
        own = join(folder, SEAL)
        for name in [name for name in found if name.startswith(f"{folder}/.")]:  # of an interrupted annotation
            del found[name]
        if found.pop(own, None) is None:
            return
        try:
            listed = dict(parse_sums(read_file(self._root / own, root=self._root)[0]))
        except (OSError, DataError, UsageError, ValueError) as error:
            self._add(own, f"can't be read ({_why(error)})", "differs")
            return
        for name, digest in listed.items():
            if not is_inside(name) or name in self._listed:
                self._add(own, f"names {show(name)}, which is no annotation", "differs")
            elif found.pop(name, None) is None:
                self._add(name, "is missing", "missing")
            elif self._hash(name) != digest:
                self._add(name, "SHA-256 differs", "differs")
        self._notes.append(f"annotations, {len(listed):,} in all, are checked by {show(own)}")

    def _add(self, file: str, problem: str, kind: Kind) -> None:
        self._damages.append(Damage(file, problem, kind))

    def _add_unread(self, file: str, error: DataError | OSError) -> None:
        """A file that can't be read, or is not there."""
        if isinstance(error, DataError) and error.code == "E133":
            self._add(file, "is missing", "missing")
        else:
            self._add(file, f"can't be read ({machine_said(error)})", "differs")

    def _read_sums(self) -> bool:
        """Read ``SHA256SUMS``; whether it has the form in which we write it."""
        try:
            data, _ = read_file(self._root / self._own, root=self._root)
        except (DataError, OSError) as error:
            self._add_unread(self._own, error)
            return False
        bad: list[str] = []
        for number, line in enumerate(data.removesuffix(b"\n").split(b"\n"), 1):
            try:
                ((name, digest),) = parse_sums(line + b"\n")
            except (UsageError, ValueError):
                bad.append(f"line {number} is not in the format of sha256sum")
                continue
            if not is_inside(name):
                bad.append(f"line {number} names {show(name)}, which is not in the dataset")
            elif name in self._listed:
                bad.append(f"line {number} names {show(name)} again")
            else:
                self._listed[name] = digest
        ours = (self._root / self._side / MANIFEST).is_file()
        if not bad and ours and format_sums(self._listed) != data:
            bad.append("is not in the order or form in which it was written")
        for problem in bad:
            self._add(self._own, problem, "differs")
        return not bad

    def _sizes(self) -> Mapping[str, int] | None:
        """Name -> bytes of every file but the manifest and ``SHA256SUMS``, if the manifest can be trusted."""
        name = join(self._side, MANIFEST)
        digest = self._hash(name)
        if digest is None or not is_almost(self._listed.get(name, digest), digest):
            return None
        try:
            files = strict_json.read(self._root / name, root=self._root)["files"]
            return {str(file): int(size) for file, size in files.items()}
        except (OSError, DataError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def _compare_names(self, found: Mapping[str, int], known: Mapping[str, int] | None, healthy: bool) -> None:
        mine = {join(self._side, name) for name in (MANIFEST, FILE, SCHEMA)} | set(known or ())
        for name in sorted(self._listed.keys() - found.keys()):
            if known is not None and name not in mine:
                self._add(self._own, f"names {show(name)}, which the manifest does not", "differs")
            else:
                self._add(name, self._what_is_there(name), "missing")
        for name in sorted(mine - self._listed.keys() - found.keys()) if known is not None else ():
            self._add(name, "is missing", "missing")
        self._others = sorted(found.keys() - self._listed.keys())
        for name in self._others:
            if name in mine:
                if healthy:
                    self._add(self._own, f"does not name {show(name)}", "differs")
            elif _DATA.fullmatch(name) and (healthy or known is not None):
                self._add(name, f"is not in {SEAL}", "unexpected")
            else:
                self._notes.append(f"{show(name)} is not in {SEAL}")

    def _what_is_there(self, name: str) -> str:
        """What is wrong about a name that no file of ours has."""
        if (self._root / name).is_symlink() and (self._root / name).exists():
            return "is a link that leads out of the dataset; it is not read"
        return "is not a regular file" if (self._root / name).exists() else "is missing"

    def _sample(self, names: list[str], share: float, seed: int) -> set[str]:
        ours = {name for name in names if PurePosixPath(name).parent == PurePosixPath(self._side)}
        if self._side == ".":
            ours = {name for name in names if name in (MANIFEST, FILE, SCHEMA)}
        others = [name for name in names if name not in ours]
        return ours | set(random.Random(seed).sample(others, math.ceil(share * len(others))))

    def _compare_hashes(self, names: list[str], wrong_size: Mapping[str, str]) -> None:
        with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:  # hashing leaves the interpreter's lock
            found = list(pool.map(self._hash, names))
        owners = {digest: name for name, digest in self._listed.items()}
        for name, digest in zip(names, found, strict=True):
            want = self._listed[name]
            if digest is None or digest == want:
                continue
            if is_almost(digest, want):
                self._add(self._own, f"the digest of {show(name)} is damaged", "differs")
            elif digest in owners:
                self._add(name, f"SHA-256 differs: it is that of {show(owners[digest])}", "differs")
            else:
                self._add(name, wrong_size.get(name, "SHA-256 differs"), "differs")

    def _hash(self, name: str) -> str | None:
        if name not in self._hashes:
            try:
                self._hashes[name] = hash_regular(self._root / name, root=self._root)
            except (DataError, OSError) as error:
                if getattr(error, "code", "") != "E133":  # which is said where names are compared
                    self._add_unread(name, error)
                return None
        return self._hashes[name]

    def examine(self) -> None:
        """Ledger, manifest and schema against each other, then the data against them."""
        folder = self._root / self._side
        if not (folder / FILE).exists() and not (folder / MANIFEST).exists():
            raise UsageError("E003", f"{show(self._root)} has no ledger to compare it with")
        ledger = self._load(FILE, Ledger.read)
        schema = self._load(SCHEMA, lambda path: Schema.read(path, root=self._root))
        if ledger is None or schema is None:
            return
        self._examine_ledger(ledger)
        self._examine_manifest(folder, ledger)
        audit = audit_of(self._root, self._side)
        if audit is None:
            self._notes.append(
                "what its files hold was not examined: no format that is installed here has an audit for them"
            )
            return
        self._checked |= audit(self._root, ledger, schema, self.blame).run()

    def _load(self, name: str, read: Callable[[Path], T]) -> T | None:
        try:
            return read(self._root / self._side / name)
        except Exception as error:  # a damaged Parquet file fails in many ways
            self.blame(join(self._side, name), f"can't be read, so the rest was not examined: {_why(error)}")
            return None

    def _examine_ledger(self, ledger: Ledger) -> None:
        file = join(self._side, FILE)
        try:
            ledger.check()
        except AssertionError as error:
            self.blame(file, show(error, escaped=True))
        for record in ledger.records:
            at = 0
            for span in record.spans:
                at = span.stop if span.start == at < span.stop else -1
            if at != (record.length or 0):
                self.blame(file, "the buckets do not hold every frame exactly once", record.id)
        places = [record.output_index for record in ledger.records if record.status == "published"]
        if places != list(range(len(places))):
            self.blame(file, "the published episodes are not numbered 0, 1, 2, ...")

    def _examine_manifest(self, folder: Path, ledger: Ledger) -> None:
        file = join(self._side, MANIFEST)
        try:
            manifest = read_manifest(folder)
            want = manifest_facts(manifest, ledger)
        except (DataError, OSError, ValueError, KeyError, TypeError) as error:
            self.blame(file, f"can't be read: {_why(error)}")
            return
        for name, value in want.items():
            if manifest.get(name) != value:
                self.blame(file, f"{name} is not what the ledger or the recipe gives")


def manifest_facts(manifest: Mapping[str, Json], ledger: Ledger) -> dict[str, Json]:
    """The fields of a manifest that follow from its other fields and the ledger."""
    published = [record for record in ledger.records if record.status == "published"]
    lines = "".join(f"{record.id}\0{record.content_sha256}\n" for record in published)
    return {
        "recipe_sha256": recipe_sha256(manifest),
        "content_sha256": hashlib.sha256(lines.encode("utf-8", "surrogateescape")).hexdigest(),
        "sources_sha256": sources_sha256({r.id: r.source_sha256 for r in ledger.records}),
        "counts": ledger.counts(),
        "reasons": ledger.reasons(),
    }


def is_almost(a: str, b: str) -> bool:
    """Whether two digests agree so far that one is the other, damaged."""
    return sum(x == y for x, y in zip(a, b, strict=True)) >= _ALMOST


def _why(error: BaseException) -> str:
    text = error.message if isinstance(error, DataError) else (str(error).splitlines() or [""])[0]
    return show(f"{type(error).__name__}: {text}"[:200])
