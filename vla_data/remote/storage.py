"""One folder on an object store, through fsspec; errors of every store come out as ours."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import fsspec

from vla_data.errors import DataError, MachineError, UsageError, VlaDataError
from vla_data.installed import install
from vla_data.remote.address import EXTRAS, parse_url
from vla_data.safety.text import show

_CHUNK: Final = 8 << 20
READ_SECONDS: Final = 45.0
"""For an object that is read as a whole, so that a store which stalls is not taken for an episode that hangs its
reader, which may take `vla_data.Limits.seconds`.
"""
_SETTINGS: Final[Mapping[str, Any]] = {
    # Without, a store that stalls is waited for half an hour.
    "s3": {"config_kwargs": {"connect_timeout": 20, "read_timeout": 30, "retries": {"max_attempts": 2}}}
}
_MARKS: Final = (
    "ETag",
    "etag",
    "generation",
    "blob_id",
    "md5Hash",
    "LastModified",
    "last_modified",
    "mtime",
)
"""What stores call a value that changes with an object's content, the surest first."""


@dataclass(frozen=True)
class Storage:
    """A folder of objects. Picklable: a worker opens it with its own connections and its own credentials.

    Attributes:
        url: ``PROTOCOL://BUCKET/FOLDER``, without a slash at its end.
    """

    url: str

    def __post_init__(self) -> None:
        protocol, rest = parse_url(self.url)
        object.__setattr__(self, "url", f"{protocol}://{rest}")

    def __str__(self) -> str:
        return self.url

    @property
    def name(self) -> str:
        """The last word of the address."""
        return self.url.rpartition("/")[2]

    def below(self, name: str) -> Storage:
        """A folder of this one."""
        return Storage(f"{self.url}/{name}")

    def files(self) -> dict[str, int]:
        """Relative name -> size in bytes of every object below, sorted by name.

        Raises:
            MachineError: it can't be listed.
        """
        return {name: size for name, (size, _) in self.states().items()}

    def above(self, levels: int) -> Storage:
        """The folder so many levels up."""
        return Storage(self.url.rsplit("/", levels)[0])

    def check_bucket(self) -> None:
        """Make sure that the bucket is there, before anything is made for it.

        Raises:
            UsageError: E003 when it is not.
        """
        protocol, rest = parse_url(self.url)
        if protocol in ("gs", "s3"):
            fs, _ = self._open()
            with self._errors("it can't be looked at"):
                fs.invalidate_cache()
                if not fs.exists(rest.partition("/")[0]):
                    raise UsageError("E003", f"{show(self.url)}: there is no such bucket")

    def states(self) -> dict[str, tuple[int, str]]:
        """Relative name -> (size in bytes, what the store says changes with the content), sorted by name.

        Raises:
            MachineError: it can't be listed.
        """
        fs, root = self._open()
        with self._errors("it can't be listed"):
            fs.invalidate_cache()
            try:
                found = fs.find(root, detail=True)
            except FileNotFoundError:
                return {}
        out = {}
        for path, facts in found.items():
            name = path.removeprefix(root).removeprefix("/")
            is_folder = name.endswith("/") and not facts.get("size")  # as consoles of S3 make them, of no bytes
            if facts.get("type") == "file" and name and path != root and not is_folder:
                out[name] = _state(facts)
        return dict(sorted(out.items()))

    def state(self) -> tuple[int, str]:
        """The same of the one object that the address itself names."""
        fs, root = self._open()
        with self._errors("it can't be looked at"):
            return _state(fs.info(root))

    def is_file(self) -> bool:
        """Whether the address is that of one object."""
        fs, root = self._open()
        with self._errors("it can't be looked at"):
            fs.invalidate_cache()
            return bool(fs.isfile(root))

    def read(self, name: str, *, max_bytes: int | None = None) -> bytes:
        """A whole object.

        Raises:
            DataError: E133 when it is gone, E107 when it is larger than ``max_bytes``.
            MachineError: the store does not answer as it should.
        """
        fs, path = self._at(name)
        with self._errors(f"{show(name)} can't be read"):
            try:
                if max_bytes is not None and (size := fs.size(path)) is not None and size > max_bytes:
                    raise DataError("E107", f"the file has {size:,} bytes, more than {max_bytes:,}")
                limit = {"timeout": READ_SECONDS} if getattr(fs, "async_impl", False) else {}
                data: bytes = fs.cat_file(path, **limit)
            except FileNotFoundError:
                raise DataError("E133", "the file is not there") from None
        return data

    def read_range(self, name: str, start: int, end: int) -> bytes:
        """The bytes from ``start`` to ``end`` of an object.

        Raises:
            DataError: E133 when it is gone.
            MachineError: the store does not answer as it should.
        """
        fs, path = self._at(name)
        with self._errors(f"{show(name)} can't be read"):
            try:
                data: bytes = fs.cat_file(path, start=start, end=end)
            except FileNotFoundError:
                raise DataError("E133", "the file is not there") from None
        return data

    def digest(self, name: str) -> str | None:
        """SHA-256 of an object, read in pieces; None when there is none."""
        fs, path = self._at(name)
        sha256 = hashlib.sha256()
        with self._errors(f"{show(name)} can't be read"):
            try:
                fs.invalidate_cache()
                with fs.open(path, "rb", block_size=_CHUNK, cache_type="readahead") as file:
                    while piece := file.read(_CHUNK):
                        sha256.update(piece)
            except FileNotFoundError:
                return None
        return sha256.hexdigest()

    def write(self, name: str, data: bytes) -> None:
        """Write an object; a reader sees all of it or what was there before."""
        fs, path = self._at(name)
        with self._errors(f"{show(name)} can't be written"):
            self._make_parent(fs, path)
            fs.pipe_file(path, data)

    def create(self, name: str, data: bytes) -> bool:
        """Write an object unless there is one; False if there is. In one step where the store can."""
        fs, path = self._at(name)
        with self._errors(f"{show(name)} can't be written"):
            fs.invalidate_cache()
            if fs.exists(path):
                return False
            try:
                fs.pipe_file(path, data, mode="create")
            except FileExistsError:
                return False
            except (NotImplementedError, OSError, TypeError, ValueError):  # a store that knows no conditions
                fs.pipe_file(path, data)
        return True

    def upload(self, file: Path, name: str) -> None:
        """Write an object from a file, in pieces where it is large."""
        fs, path = self._at(name)
        with self._errors(f"{show(name)} can't be written"):
            self._make_parent(fs, path)
            fs.put_file(str(file), path)

    def download(self, name: str, file: Path) -> None:
        """Write a file from an object.

        Raises:
            DataError: E133 when it is gone.
            MachineError: the store, or this machine's disk, does not do as it should.
        """
        fs, path = self._at(name)
        with self._errors(f"{show(name)} can't be fetched"):
            try:
                fs.get_file(path, str(file))
            except FileNotFoundError:
                raise DataError("E133", "the file is not there") from None

    def exists(self, name: str) -> bool:
        """Whether there is an object of this name."""
        fs, path = self._at(name)
        with self._errors(f"{show(name)} can't be looked at"):
            fs.invalidate_cache()
            return bool(fs.isfile(path))

    def remove(self, name: str) -> None:
        """Remove an object; nothing if there is none."""
        fs, path = self._at(name)
        with self._errors(f"{show(name)} can't be removed"):
            try:
                fs.rm_file(path)
            except FileNotFoundError:
                return

    def _at(self, name: str) -> tuple[Any, str]:
        if "?versionid=" in name.lower():
            raise DataError("E131", "the name has ?versionId= in it, which would name a version of another object")
        fs, root = self._open()
        return fs, f"{root}/{name}" if name else root

    def _open(self) -> tuple[Any, str]:
        protocol, _ = parse_url(self.url)
        try:
            fs, root = fsspec.core.url_to_fs(self.url, **_SETTINGS.get(protocol, {}))
        except ImportError as error:
            extra = EXTRAS.get(protocol)
            hint = install(extra) if extra is not None else _reason(error)
            raise UsageError("E006", f"{protocol}:// needs a package that is not installed: {hint}") from None
        except ValueError as error:
            raise UsageError("E001", f"{show(self.url)}: {_reason(error)}") from None
        except Exception as error:  # credentials that can't be had, for example
            raise MachineError("E703", f"{show(self.url)}: it can't be opened: {_reason(error)}") from error
        return fs, root.rstrip("/")

    def _make_parent(self, fs: Any, path: str) -> None:
        """Folders, where the place has such a thing; on an object store a name is all there is."""
        if getattr(fs, "protocol", None) in ("file", ("file", "local"), "memory"):
            fs.makedirs(path.rpartition("/")[0], exist_ok=True)

    @contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        try:
            yield
        except VlaDataError:
            raise
        except FileNotFoundError as error:
            raise UsageError("E003", f"{show(self.url)}: {what}: {_reason(error)}") from None
        except PermissionError as error:
            raise MachineError("E702", f"{show(self.url)}: {what}: {_reason(error)}") from error
        except Exception as error:  # each store's client has errors of its own, which are not OSErrors
            raise MachineError("E703", f"{show(self.url)}: {what}: {_reason(error)}") from error


def _reason(error: BaseException) -> str:
    return show((str(error).strip().splitlines() or [type(error).__name__])[-1])


def _state(facts: Mapping[str, Any]) -> tuple[int, str]:
    marks = (facts.get(name) for name in _MARKS)
    return int(facts["size"] or 0), next((str(mark) for mark in marks if mark is not None), "")
