"""Making a damaged dataset whole again, byte for byte.

**How.** The job is run again, from the sources and the recipe in the manifest, into the hidden work folder beside
the dataset; the result is compared with the sums of the damaged dataset, and only the files that differ are
renamed into it. Everything is rebuilt because every file depends on all episodes (indices, statistics, shards),
and because equal sums of *all* files are a proof that the rebuilt ones are the lost ones. It costs as much time
and disk as the job did; files that are healthy are not written.

**Recipe.** It is in the manifest as data: only classes of our own tables are made of it. A recipe with somebody's
own steps can't be repaired here; the program that made the dataset makes it anew with ``replace=True``. A manifest
of version 1 is made again as version 1 wrote it.

**Atomic.** Each file is replaced by one rename of a file that is on the disk, and ``SHA256SUMS`` last. A repair
that is interrupted leaves a dataset that is less damaged than before, never more, and the same command goes on.
Files that are not ours are left alone, but for copies of ours under other names where readers would find them, and
what has the name of a file or folder of ours and is none, which is moved aside.

Without the sources, what the dataset itself proves is repaired: missing files that lie under strange names get
their own back, and ``SHA256SUMS`` is written anew while every digest still stands in it.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, Final

from vla_data.core import Json, Sink, Source
from vla_data.core.base import narrowed
from vla_data.core.curate import Step
from vla_data.core.ledger import FILE, Ledger
from vla_data.core.manifest import MANIFEST, downgraded, read_manifest, recipe_sha256
from vla_data.errors import DataError, TargetExistsError, UsageError, VerifyError
from vla_data.files.sums import format_sums, hash_file
from vla_data.files.write import machine_errors, make_folder, remove_tree, step, sync_folder, write_file
from vla_data.jobs.job import versions
from vla_data.jobs.manifest import sources_sha256, write_json, write_sums
from vla_data.jobs.part import fingerprint
from vla_data.jobs.progress import Told
from vla_data.jobs.run import run
from vla_data.jobs.workspace import workspace
from vla_data.safety.files import read_file
from vla_data.safety.text import show
from vla_data.verification.check import verify
from vla_data.verification.dataset import find_dataset
from vla_data.verification.provenance import AGAIN, Address, open_provenance
from vla_data.verification.report import Verdict

_FOLDER: Final = "repair"
_SHOWN: Final = 3


@dataclass(frozen=True)
class Repaired:
    """What `repair` did.

    Attributes:
        before: what was wrong.
        replaced: files that were written, relative.
        removed: copies of our files that lay under other names.
        aside: (name, its name now) of what is not ours and lay in the way.
        after: what is left; ``ok`` unless files that are not ours are in the way of readers.
    """

    before: Verdict
    replaced: tuple[str, ...]
    removed: tuple[str, ...]
    after: Verdict
    aside: tuple[tuple[str, str], ...] = ()

    def to_json(self) -> dict[str, Json]:
        """One JSON-ready object."""
        return {
            "before": [damage.to_json() for damage in self.before.damages],
            "replaced": list(self.replaced),
            "removed": list(self.removed),
            "aside": dict(self.aside),
            **self.after.to_json(),
        }


def repair(
    path: str | Path,
    source: Address | Sequence[Address] = (),
    *,
    workers: int | None = None,
    on_progress: Told | None = None,
    on_problem: Callable[[str], None] | None = None,
) -> Repaired:
    """Restore the bytes that ``SHA256SUMS`` names.

    Args:
        path: the dataset.
        source: what it was made from, as `vla_data.open_source` takes it; several for a merged dataset, in order.
            None: only what the dataset itself proves is repaired.
        workers: see `vla_data.run`.
        on_progress: see `vla_data.run`.
        on_problem: see `vla_data.run`.

    Raises:
        UsageError: E001 when the source is needed and not given; else as `vla_data.open_source`.
        TargetExistsError: E412 when these are not the sources or not the versions that it was made with.
        VerifyError: E601 when the manifest is too damaged to say how it was made, or the rebuilt files are not the
            lost ones.
        MachineError, LockedError: as `vla_data.run`.
    """
    found, _ = find_dataset(Path(path))
    root = Path(os.path.realpath(found))
    sources = (source,) if isinstance(source, str | Path) else tuple(source)
    before = verify(root)
    if before.ok:
        return Repaired(before, (), (), before)
    with workspace(root) as work, machine_errors("cannot repair"):
        aside: dict[str, str] = {}
        removed = _rename_back(before, aside)
        now = verify(root) if removed else before
        replaced: list[str] = []
        if any(damage.kind != "unexpected" for damage in now.damages):
            sums = _proven_sums(now)
            if sums is not None:
                replaced = [now.sums]
                write_file(root / now.sums, sums)
                sync_folder((root / now.sums).parent)
            elif not sources:
                raise _lacks_source(now, path)
            else:
                rebuilt = _rebuild(now, sources, work, workers, on_progress, on_problem)
                _compare(now, rebuilt)
                replaced = _replace(now, rebuilt, aside)
            now = verify(root)
        if copies := _remove_copies(now):
            removed += copies
            now = verify(root)
        remove_tree(work / _FOLDER)
    return Repaired(before, tuple(replaced), tuple(removed), now, tuple(aside.items()))


def rehearse(path: str | Path, source: Address | Sequence[Address] = ()) -> Verdict:
    """What is damaged, after every refusal of `repair` that needs no work; nothing is written.

    Raises:
        UsageError: E001 when the source is needed and not given; else as `vla_data.open_source`.
        TargetExistsError, VerifyError: as `repair`, E412 and E601 of a manifest.
    """
    root = Path(os.path.realpath(find_dataset(Path(path))[0]))
    sources = (source,) if isinstance(source, str | Path) else tuple(source)
    verdict = verify(root)
    back = {name for _, name in _found_again(verdict)}
    left = [damage for damage in verdict.damages if damage.kind != "unexpected" and damage.file not in back]
    if not left or _proven_sums(verdict) is not None:
        return verdict
    if not sources:
        raise _lacks_source(replace(verdict, damages=tuple(left)), path)
    _recipe(verdict, sources, root)
    return verdict


def _lacks_source(verdict: Verdict, path: str | Path) -> UsageError:
    """What can't be repaired from the dataset alone, and what it takes."""
    names = list(dict.fromkeys(show(damage.file) for damage in verdict.damages))
    more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    return UsageError(
        "E001",
        f"{', '.join(names[:_SHOWN])}{more} can only be made again from what the dataset was made from, "
        f"unchanged; name it (of a merged dataset each, in its order): vla-data repair {show(path)} SOURCE",
    )


def _rename_back(verdict: Verdict, aside: dict[str, str]) -> list[str]:
    """Give missing files that lie under names that are not ours their own back; returns the wrong names."""
    moved = []
    for name, target in _found_again(verdict):
        _put(verdict.root / name, verdict.root, target, aside)
        moved.append(name)
    return moved


def _found_again(verdict: Verdict) -> Iterator[tuple[str, str]]:
    """Each name that is not ours of a file that is missing, and the name that it should have."""
    lost = {
        verdict.listed[damage.file]: damage.file
        for damage in verdict.damages
        if damage.kind == "missing" and damage.file in verdict.listed
    }
    for name in verdict.others if lost else ():
        path = verdict.root / name
        if _is_file(path) and (target := lost.pop(hash_file(path), None)) is not None:
            yield name, target


def _remove_copies(verdict: Verdict) -> list[str]:
    """Remove files that hold what a healthy file of ours holds, where readers would read both."""
    healthy = {digest for name, digest in verdict.hashes.items() if verdict.listed.get(name) == digest}
    copies = [name for name in _unexpected(verdict) if hash_file(verdict.root / name) in healthy]
    for name in copies:
        step("remove", verdict.root / name)
        (verdict.root / name).unlink()
    return copies


def _unexpected(verdict: Verdict) -> list[str]:
    return [damage.file for damage in verdict.damages if damage.kind == "unexpected"]


def _proven_sums(verdict: Verdict) -> bytes | None:
    """What ``SHA256SUMS`` held, if nothing else is damaged: the digest of every file that the manifest lists still
    stands in it. None where that can't be shown.
    """
    if {damage.file for damage in verdict.damages if damage.kind != "unexpected"} != {verdict.sums}:
        return None
    files = _manifest(verdict.root / verdict.sidecar).get("files")
    if not isinstance(files, dict) or not (verdict.root / verdict.sums).is_file():
        return None
    text = read_file(verdict.root / verdict.sums, root=verdict.root)[0]
    names = (*files, (Path(verdict.sidecar) / MANIFEST).as_posix())
    sums = {name: hash_file(verdict.root / name) for name in names}
    return format_sums(sums) if all(digest.encode() in text for digest in sums.values()) else None


def _compare(damaged: Verdict, rebuilt: Verdict) -> None:
    """Refuse a rebuilt dataset that is not the damaged one."""
    spoilt = any(damage.file == damaged.sums for damage in damaged.damages)
    for name, digest in damaged.listed.items():
        found = rebuilt.listed.get(name)
        # Of spoilt sums a line may be what is wrong: then the file itself has the rebuilt bytes, or no such name.
        if found != digest and not (spoilt and found in (None, damaged.hashes.get(name))):
            raise VerifyError(
                "E601", f"nothing is changed, because {show(name)} would not get the bytes that it had"
            )
    if not damaged.listed:
        old, new = _manifest(damaged.root / damaged.sidecar), _manifest(rebuilt.root / rebuilt.sidecar)
        if old != new:
            raise VerifyError("E601", "nothing is changed, because the rebuilt dataset has another manifest")


def _replace(damaged: Verdict, rebuilt: Verdict, aside: dict[str, str]) -> list[str]:
    """Rename the rebuilt files that differ into the dataset, the sums last; returns their names."""
    changed = [name for name, digest in rebuilt.listed.items() if damaged.hashes.get(name) != digest]
    if any(damage.file == damaged.sums for damage in damaged.damages):
        changed.append(damaged.sums)
    for name in changed:
        _put(rebuilt.root / name, damaged.root, name, aside)
    if not os.path.lexists(damaged.root / damaged.sums):  # the folder was a link, which is aside now
        changed.append(damaged.sums)
        _put(rebuilt.root / damaged.sums, damaged.root, damaged.sums, aside)
    return changed


def _put(file: Path, root: Path, name: str, aside: dict[str, str]) -> None:
    """Rename ``file`` into the dataset; what stands in its way and is no file or folder of it is moved aside."""
    own = PurePosixPath(name)
    for part in (*reversed(own.parents[:-1]), own):
        there = root / part
        right = there.is_dir() and not there.is_symlink() if part != own else _is_file(there) or there.is_symlink()
        if os.path.lexists(there) and not right:
            other = _free(there)
            _move(there, other)
            aside[str(part)] = other.relative_to(root).as_posix()
    _move(file, root / own)


def _is_file(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _free(path: Path) -> Path:
    """A name beside ``path``, to move it aside to, that nothing has."""
    names = (path.with_name(f"{path.name}.aside{n or ''}") for n in itertools.count())
    return next(name for name in names if not os.path.lexists(name))


def _move(file: Path, target: Path) -> None:
    make_folder(target.parent)
    step("rename", target)
    os.replace(file, target)  # it was synced when it was published into its folder
    sync_folder(target.parent)


def _rebuild(
    damaged: Verdict,
    sources: Sequence[Address],
    work: Path,
    workers: int | None,
    on_progress: Told | None,
    on_problem: Callable[[str], None] | None,
) -> Verdict:
    """The dataset made again, in the work folder of the damaged one."""
    target = work / _FOLDER / damaged.root.name
    manifest, reader, steps, sink = _recipe(damaged, sources, target)
    make_folder(target.parent)
    run(
        reader,
        steps,
        sink,
        workers=workers,
        replace=True,  # of an interrupted repair
        max_bad=1.0,
        dedup="duplicate" in (manifest.get("reasons") or {}),
        on_progress=on_progress,
        on_problem=on_problem,
    )
    if manifest["format_version"] == 1:
        side = target / damaged.sidecar
        write_json(side / MANIFEST, downgraded(read_manifest(side), manifest))
        write_sums(target, damaged.sidecar)
    verdict = verify(target)
    verdict.require()
    return verdict


def _recipe(
    damaged: Verdict, sources: Sequence[Address], target: Path
) -> tuple[Mapping[str, Any], Source, Sequence[Step], Sink]:
    """The manifest, and what would make the dataset again at ``target``, of these sources and versions."""
    folder = damaged.root / damaged.sidecar
    manifest = _manifest(folder)
    try:
        trusted = recipe_sha256(manifest) == manifest["recipe_sha256"]
    except (KeyError, TypeError):
        trusted = False
    if not trusted:
        raise VerifyError("E601", f"{MANIFEST} is damaged and does not say how it was made: {AGAIN}")
    reader, steps, sink = open_provenance(manifest, sources, target, root=damaged.root)
    _check_versions(manifest["versions"], versions(sink))
    _check_sources(narrowed(reader, steps), manifest, folder)
    return manifest, reader, steps, sink


def _manifest(folder: Path) -> Mapping[str, Any]:
    try:
        return read_manifest(folder)
    except (DataError, OSError):
        return {}


def _check_versions(made: Mapping[str, str], here: Mapping[str, str]) -> None:
    other = [
        f"{show(name)} {show(made.get(name))} (here {here.get(name)})"
        for name in sorted({*made, *here})
        if made.get(name) != here.get(name)
    ]
    if other:
        raise TargetExistsError(
            "E412", f"it was made with {', '.join(other)}, which may give other bytes: {AGAIN}"
        )


def _check_sources(source: Source, manifest: Mapping[str, Any], folder: Path) -> None:
    """Refuse other sources before a whole job is run on them."""
    found = {ref.id: fingerprint(source, ref) for ref in source.episodes()}
    if sources_sha256(found) == manifest.get("sources_sha256"):
        return
    try:
        known = {record.id: record.source_sha256 for record in Ledger.read(folder / FILE).records}
    except Exception:  # the ledger may be what is damaged, and Parquet fails in many ways
        raise TargetExistsError("E412", "these are not the rollouts that it was made from") from None
    for name in sorted({*known, *found}):
        if name not in found or name not in known or known[name] != found[name]:
            how = "is not there" if name not in found else "is new" if name not in known else "has changed"
            raise TargetExistsError(
                "E412",
                f"these are not the rollouts that it was made from ({show(name)} {how}); name the right folder",
            )
    raise VerifyError("E601", f"{MANIFEST} and {FILE} are of different rollouts: {AGAIN}")
