"""Publishing to an object store, where nothing can be renamed: the manifest goes last.

A run writes as always into a work folder on this machine. What it would publish by a rename it uploads instead:
data first, then the files by which readers find a dataset, then its sums and, last, its manifest. An object that
is there already with the same content is not sent again, so a run that was killed goes on where it was.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from vla_data.core import Sink
from vla_data.core.base import WrappedSink
from vla_data.core.manifest import MANIFEST, is_manifest
from vla_data.errors import DataError, LockedError, MachineError, TargetExistsError, UsageError, VerifyError
from vla_data.files.sums import SEAL, hash_file
from vla_data.files.write import files_below, step, write_file
from vla_data.formats.tables import SIDECARS
from vla_data.jobs.targets import check_inside
from vla_data.jobs.workspace import discard
from vla_data.remote.address import parse_url
from vla_data.remote.cache import folder_of, own_folder
from vla_data.remote.storage import Storage
from vla_data.safety import strict_json
from vla_data.safety.files import read_file
from vla_data.safety.text import show

_FOUND_BY: Final = ("dataset_info.json", "features.json", "meta/info.json")
"""Files without which no reader takes a folder for a dataset."""
_THREADS: Final = 4
"""Objects at a time: each waits for the network most of the time."""
_SHORT: Final = 1 << 10
_MARK: Final = ".vla-data-upload"
"""Object that says whose upload this is, until the manifest is there."""


@dataclass(frozen=True, repr=False)
class Uploaded(WrappedSink):
    """A sink whose dataset ends on an object store. Otherwise the one that it wraps.

    Attributes:
        sink: writes the dataset; its target is in this machine's cache, and is never made.
        storage: where the dataset goes.
    """

    storage: Storage

    @property
    def provenance(self) -> Sink:
        """What a dataset holds does not depend on where it goes."""
        return self.sink

    @property
    def place(self) -> Storage:
        """Where the dataset will be."""
        return self.storage

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    def check_place(self, *, replace: bool) -> None:
        """Refuse an address that can't be published to, before any work.

        What a run that was killed has uploaded, which has no manifest, is no dataset; the next run of the same
        user on the same machine goes on with it.

        Raises:
            TargetExistsError: E411 when there is a dataset that may not be replaced, or files that are none.
            LockedError: E801 when another run has begun to upload there.
        """
        self.storage.check_bucket()
        there = self.storage.states()
        where, whole, mark = show(self.storage.url), self._is_whole(there), self._mark()
        if whole and not replace:
            if mark == self._own_mark():  # a run of ours was killed right after its last word
                self._remove(_MARK)
            raise TargetExistsError("E411", f"{where} exists; --replace replaces it")
        if there and not whole and _MARK not in there:
            raise TargetExistsError(
                "E411", f"{where} holds files that vla-data did not make; choose another target"
            )
        if mark not in (None, self._own_mark()):
            raise LockedError("E801", f"another run uploads to {where}, or has died there: then remove {_MARK}")
        check_inside(self.storage.url, there)
        if not whole and (known := self._noted()):
            self._check_strangers(there.keys() - known)
        kept: dict[str, Any] = vars(self)
        kept["_seen"] = there if whole else {}

    def _check_strangers(self, names: Collection[str]) -> None:
        """Stop before something is written over or removed that somebody else put there."""
        if others := sorted({*names} - {_MARK}):
            raise TargetExistsError(
                "E411",
                f"{show(self.storage.url)} has {len(others):,} files that came there or changed since, as "
                f"{show(others[0])}; nothing there is touched: move them away",
            )

    def publish(self, staging: Path, *, replace: bool) -> None:
        """Upload a finished dataset, read every object back, and write the manifest last.

        Raises:
            TargetExistsError: E411, something came there while the run worked.
            VerifyError: E601, the store gives back something else than was sent.
            LockedError: E801 when another run has begun to upload there.
            MachineError: the store failed; the next run goes on.
        """
        sums = {path.relative_to(staging).as_posix(): path for path in files_below(staging)}
        seal, manifest = f"{self.sidecar}/{SEAL}", f"{self.sidecar}/{MANIFEST}"
        last = [*(name for name in _FOUND_BY if name in sums), seal]
        seen: Mapping[str, object] = vars(self).get("_seen", {})
        self.check_place(replace=replace)
        there = self.storage.states()
        known = {name for name in seen if there.get(name) == seen[name]}
        if _MARK in there and not seen:  # an upload of this cache was interrupted
            known |= sums.keys() | self._noted()
        self._check_strangers(there.keys() - known)
        self._note(known | sums.keys())
        step("upload", Path(_MARK))
        self.storage.create(_MARK, self._own_mark())
        self._check_mark()
        if manifest not in there or self.storage.digest(manifest) != hash_file(sums[manifest]):
            # From here on nobody takes what is there for a dataset, also one that is being replaced.
            for name in (*(f"{side}/{MANIFEST}" for side in SIDECARS), seal, *_FOUND_BY):
                if name in there:
                    self._remove(name)
        data = [name for name in sums if name not in (*last, manifest)]
        with ThreadPoolExecutor(_THREADS) as pool:
            list(pool.map(lambda name: self._send(sums[name], name), data))
        for name in last:
            self._send(sums[name], name)
        for name in there:
            if name not in sums and name != _MARK:
                self._remove(name)
        self._send(sums[manifest], manifest)
        self._remove(_MARK)
        with suppress(OSError):
            self._note_file.unlink(missing_ok=True)
            discard(staging.parent)

    @property
    def _note_file(self) -> Path:
        """File in the cache that says what an upload may write over and remove, as long as it is not done."""
        return self.target.parent / "names"

    def _note(self, names: Collection[str]) -> None:
        write_file(self._note_file, "\0".join(sorted(names)).encode("utf-8", "surrogatepass"))

    def _noted(self) -> set[str]:
        """Names that `_note` noted; none where it did not."""
        try:
            data = read_file(self._note_file, root=self._note_file.parent, anything=True)[0]
            return {*data.decode("utf-8", "surrogatepass").split("\0")}
        except (DataError, UnicodeDecodeError):
            return set()

    def _mark(self) -> bytes | None:
        """What the mark of an upload says, or None where there is none."""
        try:
            return self.storage.read(_MARK, max_bytes=_SHORT)
        except DataError as error:
            return None if error.code == "E133" else b""  # a large one is nobody's of ours

    def _check_mark(self) -> None:
        """Stop before another object is written where another run has taken over."""
        if self._mark() != self._own_mark():
            raise LockedError("E801", f"another run is uploading to {show(self.storage.url)}")

    def _own_mark(self) -> bytes:
        """The mark of uploads from this cache; another machine's, or another user's, differs."""
        file = self.target.parent / "owner"
        try:
            return read_file(file, root=file.parent, max_bytes=_SHORT)[0]
        except DataError:
            write_file(file, f"vla-data {uuid.uuid4().hex}\n".encode(), sync=False)
            return read_file(file, root=file.parent, max_bytes=_SHORT)[0]

    def _is_whole(self, there: Collection[str]) -> bool:
        for name in (f"{side}/{MANIFEST}" for side in SIDECARS):
            try:
                data = self.storage.read(name, max_bytes=strict_json.MAX_BYTES) if name in there else b"null"
                facts = strict_json.loads(data, name=name)
            except DataError:
                continue
            if is_manifest(facts):
                return True
        return False

    def _send(self, file: Path, name: str) -> None:
        want = hash_file(file)
        if self.storage.digest(name) == want:
            return
        self._check_mark()
        step("upload", Path(name))
        self.storage.upload(file, name)
        if self.storage.digest(name) != want:
            raise VerifyError(
                "E601", f"{show(name)}: {show(self.storage.url)} gives back other bytes than were sent"
            )

    def _remove(self, name: str) -> None:
        if name != _MARK:
            self._check_mark()
        step("remove", Path(name))
        self.storage.remove(name)


def upload_target(url: str) -> tuple[Storage, Path]:
    """The storage of an address, and the target on this machine that stands for it."""
    if parse_url(url)[0] == "hf":
        raise UsageError("E001", f"{show(url)}: hf:// is only read; write here, and then `hf upload`")
    storage = Storage(url)
    target = folder_of("targets", storage)
    try:
        with own_folder(target.parent):
            pass
    except OSError as error:
        reason = f"the cache {show(target.parent)} can't be made: {error.strerror}"
        raise MachineError("E702", f"{reason}; set VLA_DATA_CACHE") from None
    return storage, target
