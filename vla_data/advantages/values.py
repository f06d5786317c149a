"""The critic's values, one for every frame: from a file, or from a function that sees the frames in batches."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa

from vla_data import formats
from vla_data import options as checks
from vla_data.advantages.frame_table import FrameTable, to_text
from vla_data.advantages.join import cover, place
from vla_data.advantages.numbers.flat import Floats
from vla_data.core import Episode, EpisodeRef, Json
from vla_data.errors import DataError, UsageError
from vla_data.files import arrow
from vla_data.files.sums import hash_file, hash_tree
from vla_data.files.tables import check_rows, open_parquet
from vla_data.files.write import machine_errors, make_folder, write_file
from vla_data.jobs.workspace import check_made_here
from vla_data.safety.files import read_file
from vla_data.safety.text import show

Batch = dict[str, Any]
ValueFunction = Callable[[Batch], Any]
Progress = Callable[[int, int], None]

_PART: Final = 4096  # frames after which work is kept; parts are whole episodes
_COLUMNS: Final = ("episode_index", "frame_index", "value")


@dataclass(frozen=True, kw_only=True)
class Values:
    """V of every frame.

    Attributes:
        of_frames: (N,) float64, in the order of the `FrameTable`.
        origin: where they are from: ``kind`` (``file`` or ``function``), ``name``, ``sha256`` of the file or of
            the function's source, and ``model_sha256`` where a model was named.
        dtype: that they came in.
    """

    of_frames: Floats
    origin: Mapping[str, Json]
    dtype: Any = np.float64


def read_values(path: Path, table: FrameTable, *, model: Path | None = None) -> Values:
    """Values from a Parquet file with the columns ``episode_index``, ``frame_index``, ``value``, in any order.

    Raises:
        UsageError: E003 without the file or a column; E301, E302 unless every frame has exactly one finite value.
    """
    try:
        file = open_parquet(path)
        missing = [name for name in _COLUMNS if name not in file.schema_arrow.names]
        if missing:
            raise UsageError("E003", f"{show(path.name)} has no column {missing[0]}; it has to have {_COLUMNS}")
        check_rows(file.metadata, path)
        read = file.read(columns=list(_COLUMNS))
    except (pa.ArrowException, OSError) as error:
        raise UsageError("E003", f"{show(path.name)} can't be read ({type(error).__name__})") from None
    for name in _COLUMNS:
        kind = read.schema.field(name).type
        fits = pa.types.is_floating(kind) if name == "value" else pa.types.is_integer(kind)
        if not fits:
            wanted = "floating-point numbers" if name == "value" else "whole numbers"
            raise UsageError("E302", f"{show(path.name)}: {name} is {kind}, and has to be of {wanted}")
        if read[name].null_count:
            raise UsageError("E302", f"{show(path.name)}: {name} has {read[name].null_count:,} nulls")
    rows = table.rows(arrow.to_numpy(read["episode_index"]), arrow.to_numpy(read["frame_index"]))
    cover(table, rows).require(path.name)
    given = arrow.to_numpy(read["value"])
    values = place(rows, given, len(table)).astype(np.float64)
    bad = int(np.count_nonzero(~np.isfinite(values)))
    if bad:
        raise UsageError("E302", f"{show(path.name)}: {bad:,} of {len(values):,} values are not finite")
    origin: dict[str, Json] = {"kind": "file", "name": path.name, "sha256": hash_file(path)}
    return Values(of_frames=values, origin={**origin, **_model(model)}, dtype=given.dtype)


@dataclass(frozen=True, kw_only=True)
class FunctionValues:
    """Values from ``MODULE:FUNCTION``, in batches of frames, resuming where an earlier run stopped.

    The function is called with a batch and returns (B,) numbers, as an array of any library. A batch has, for B
    frames of one or several episodes: ``episode_index``, ``frame_index`` (B,) int64, ``timestamp`` (B,) float32,
    ``task`` (a list of B texts), the dataset's arrays by their names, (B, ...), and images (B, H, W, 3) uint8.

    MODULE is imported with the current folder on the path, and runs as your own code does.

    Attributes:
        function: ``MODULE:FUNCTION``.
        batch_size: largest B. The last batch of a part is smaller.
        model: file or folder of the model, for its SHA-256.
    """

    function: str
    batch_size: int = 256
    model: Path | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        checks.whole("batch_size", self.batch_size, low=1)

    def compute(self, table: FrameTable, work: Path, on_progress: Progress | None = None) -> Values:
        """Values of all frames; finished parts wait in ``work``, which is the caller's to remove.

        Raises:
            UsageError: E003 without the function or when its module can't be imported, E302 when it raises, or
                returns something else than B finite numbers.
            DataError: an episode can't be read; nothing can be left out.
        """
        function, origin = self._load()
        facts = {"origin": origin, "dataset": table.digest(), "batch_size": self.batch_size}
        job = hashlib.sha256(to_text(facts).encode()).hexdigest()
        source = formats.open_source(table.root)
        with machine_errors("cannot keep values beside the annotation"):
            make_folder(work, root=table.root)
            check_made_here(work)
        out = np.empty(len(table))
        refs = {ref.id: ref for ref in source.episodes()}
        done = 0
        for part, episodes in enumerate(_parts(table.episodes.lengths)):
            rows = slice(int(table.episodes.starts[episodes[0]]), int(table.episodes.ends[episodes[-1]]))
            path = work / f"{part:06d}.values"
            kept = _read_part(path, job, rows.stop - rows.start, table.root)
            if kept is None:
                whole = [_Rows(source.read(_ref(refs, table, e)), table, e) for e in episodes]
                kept = np.concatenate([self._call(function, batch) for batch in _batches(whole, self.batch_size)])
                with machine_errors("cannot keep values beside the annotation"):
                    _write_part(path, job, kept, table.root)
            out[rows] = kept
            done += rows.stop - rows.start
            if on_progress is not None:
                on_progress(done, len(table))
        return Values(of_frames=out, origin=origin)

    def _load(self) -> tuple[ValueFunction, dict[str, Json]]:
        name, _, attribute = self.function.partition(":")
        if not name or not attribute:
            raise UsageError("E001", f"{show(self.function)} is not MODULE:FUNCTION")
        here = str(Path.cwd())
        if here not in sys.path:
            sys.path.insert(0, here)
        try:
            module = importlib.import_module(name)
        except Exception as error:  # the module is the user's, and so is what it raises
            if isinstance(error, ModuleNotFoundError) and error.name in (name, name.partition(".")[0]):
                raise UsageError(
                    "E003", f"there is no module {show(name)} on the path or in this folder"
                ) from None
            raise UsageError("E003", f"module {show(name)} can't be imported: {_said(error)}") from error
        function = getattr(module, attribute, None)
        if not callable(function):
            raise UsageError("E003", f"module {show(name)} has no function {show(attribute)}")
        if getattr(module, "__file__", None) is None:
            raise UsageError(
                "E003",
                f"module {show(name)} has no file, so its SHA-256 can't be recorded; put the function into a file",
            )
        source = Path(inspect.getfile(module))
        return function, {
            "kind": "function",
            "name": self.function,
            "sha256": hash_file(source),
            **_model(self.model),
        }

    def _call(self, function: ValueFunction, batch: Batch) -> Floats:
        size = len(batch["task"])
        try:
            result = function(batch)
            if hasattr(result, "detach"):  # torch keeps bfloat16 and gradients to itself
                result = result.detach().cpu().double()
            values = np.asarray(result)
        except Exception as error:  # the function is the user's, and so is what it raises
            raise UsageError(
                "E302", f"{show(self.function)} failed at {_stretch(batch)}: {_said(error)}"
            ) from error
        if values.shape != (size,) or values.dtype.kind not in "iuf":
            raise UsageError(
                "E302",
                f"{show(self.function)} returned {values.dtype} of shape {values.shape}, not ({size},) numbers",
            )
        values = values.astype(np.float64)
        if not np.isfinite(values).all():
            at = int(np.argmin(np.isfinite(values)))
            where = f"episode {batch['episode_index'][at]}, frame {batch['frame_index'][at]}"
            raise UsageError("E302", f"{show(self.function)} returned {values[at]} for {where}")
        return values


def _stretch(batch: Batch) -> str:
    """Which frames a batch has, for a person."""
    first, last = (f"episode {batch['episode_index'][i]}, frame {batch['frame_index'][i]}" for i in (0, -1))
    return first if first == last else f"{first} to {last}"


def _said(error: Exception) -> str:
    """An error in one line."""
    first = next(iter(str(error).splitlines()), "")
    return f"{type(error).__name__}: {show(first[:200])}" if first else type(error).__name__


@dataclass(frozen=True)
class _Rows:
    """One episode's frames, of which any stretch can become a part of a batch."""

    episode: Episode
    table: FrameTable
    number: int

    def __post_init__(self) -> None:
        want = int(self.table.episodes.lengths[self.number])
        if len(self.episode) != want:
            raise DataError(
                "E204", f"{self.episode.id} has {len(self.episode)} frames, and {want} in its data file"
            )

    def shape(self) -> Any:
        """Equal for episodes that fit in one batch."""
        arrays = {name: array.shape[1:] for name, array in self.episode.arrays.items()}
        return arrays, {name: (frames.height, frames.width) for name, frames in self.episode.frames.items()}

    def take(self, start: int, stop: int) -> Batch:
        row = int(self.table.episodes.starts[self.number])
        episode = self.episode
        batch: Batch = {name: array[start:stop] for name, array in episode.arrays.items()}
        batch |= {
            name: np.stack([frames.pixels(i) for i in range(start, stop)])
            for name, frames in episode.frames.items()
        }
        tasks = episode.arrays.get("task")
        size = stop - start
        return batch | {
            "episode_index": np.full(size, self.table.numbers[self.number]),
            "frame_index": np.arange(start, stop),
            "timestamp": self.table.timestamp[row + start : row + stop],
            "task": [episode.task] * size if tasks is None else tasks[start:stop].tolist(),
        }


def _ref(refs: Mapping[str, EpisodeRef], table: FrameTable, episode: int) -> EpisodeRef:
    name = f"episode_{int(table.numbers[episode]):06d}"
    if name not in refs:
        raise DataError("E204", f"{name} is in the data and not in the dataset's metadata")
    return refs[name]


def _parts(lengths: Any) -> Iterator[list[int]]:
    part: list[int] = []
    size = 0
    for episode, length in enumerate(lengths.tolist()):
        part.append(episode)
        size += length
        if size >= _PART:
            yield part
            part, size = [], 0
    if part:
        yield part


def _batches(episodes: Sequence[_Rows], size: int) -> Iterator[Batch]:
    pieces: list[Batch] = []
    room, shape = size, None
    for rows in episodes:
        if pieces and rows.shape() != shape:
            yield _joined(pieces)
            pieces, room = [], size
        shape = rows.shape()
        at = 0
        while at < len(rows.episode):
            stop = min(at + room, len(rows.episode))
            pieces.append(rows.take(at, stop))
            room -= stop - at
            at = stop
            if not room:
                yield _joined(pieces)
                pieces, room = [], size
    if pieces:
        yield _joined(pieces)


def _joined(pieces: Sequence[Batch]) -> Batch:
    if len(pieces) == 1:
        return pieces[0]
    return {
        name: [task for piece in pieces for task in piece[name]]
        if name == "task"
        else np.concatenate([piece[name] for piece in pieces])
        for name in pieces[0]
    }


def _model(path: Path | None) -> dict[str, Json]:
    """SHA-256 of a file, or over the names and SHA-256 of a folder's files."""
    if path is None:
        return {}
    if not path.is_file() and not path.is_dir():
        raise UsageError("E003", f"{show(path)} is not there")
    return {"model_sha256": hash_tree(path)}


def _write_part(path: Path, job: str, values: Floats, root: Path) -> None:
    data = values.astype("<f8").tobytes()
    head = json.dumps({"job": job, "frames": len(values), "sha256": hashlib.sha256(data).hexdigest()})
    write_file(path, (head.encode() + b"\n", data), sync=False, root=root)


def _read_part(path: Path, job: str, frames: int, root: Path) -> Floats | None:
    """What an earlier run of the same job kept, or None."""
    if not path.is_file():
        return None
    try:
        head, _, data = read_file(path, root=root)[0].partition(b"\n")
        facts = json.loads(head)
        if facts != {"job": job, "frames": frames, "sha256": hashlib.sha256(data).hexdigest()}:
            return None
    except (DataError, ValueError):
        return None
    return np.frombuffer(data, dtype="<f8").astype(np.float64)
