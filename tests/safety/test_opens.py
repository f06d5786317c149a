"""Every place that opens a file by its name, the few that do it for strangers, and what a run really opens."""

from __future__ import annotations

import ast
import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import av
import h5py
import pyarrow.parquet as pq
import pytest

import vla_data as vd
from tests.jobs.test_strangers import Here
from tests.rollouts import rollout, save
from vla_data.core import EpisodeRef
from vla_data.media.video_settings import VideoSettings

ROOT: Final = Path(__file__).parents[2]
PACKAGES: Final = ("vla_data", "converters", "builders", "training_adapters")
OPENERS: Final = {
    *("open", "read_bytes", "read_text", "write_bytes", "write_text", "copyfile", "copy2", "copytree", "move"),
    *("ParquetFile", "read_table", "read_metadata", "read_schema", "memory_map", "OSFile", "fromfile", "memmap"),
    *("File", "builder_from_directory", "LeRobotDataset", "ZipFile", "mkstemp", "mkdtemp", "TemporaryDirectory"),
    *("TemporaryFile", "NamedTemporaryFile", "load_file", "save_file", "safe_open", "mmap", "open_append"),
}

STRANGERS: Final = {
    # regular files alone, never waited for, the last link not followed: safety.files is where all others go
    ("vla_data/safety/files.py", "os.open(real, _REGULAR)"),
    ("vla_data/safety/files.py", "os.open(name, _REGULAR, dir_fd=at)"),
    ("vla_data/safety/files.py", "os.open(whole, _PASSED | os.O_DIRECTORY | os.O_CLOEXEC)"),  # what a user named
    (
        "vla_data/safety/files.py",
        "os.open(folder, _PASSED | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at)",
    ),
    (
        "vla_data/safety/files.py",
        "os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)",
    ),  # what a user named
    ("vla_data/safety/files.py", "os.open(name, _FOLDER, dir_fd=at)"),  # O_DIRECTORY | O_NOFOLLOW
    ("vla_data/files/sums.py", "os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)"),  # then S_ISREG
    ("vla_data/files/sums.py", "open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), 'rb')"),
    # libraries, which are given the descriptor that was checked
    ("vla_data/safety/hdf5.py", "h5py.File(name, 'r')"),
    ("converters/hdf5/evidence.py", "h5py.File(there, 'r')"),
    ("vla_data/files/tables.py", "pq.ParquetFile(name, page_checksum_verification=True, **options)"),
    (
        "vla_data/media/mp4.py",
        "av.open(name, 'r', format=FORMAT, options={**_ALONE, 'protocol_whitelist': 'file'})",
    ),
    ("converters/hdf5/masks.py", "h5py.File(stream, 'r')"),
    ("converters/zarr/stores.py", "zipfile.ZipFile(self._file)"),
    ("converters/zarr/stores.py", "self._zip.open(info)"),
    # what is new: O_CREAT | O_EXCL | O_NOFOLLOW, under a name that nobody can foresee
    ("vla_data/files/write.py", "os.open(temporary, NEW_FILE, 438, dir_fd=folder)"),
    ("vla_data/files/write.py", "open(handle, 'wb')"),
    ("vla_data/jobs/workspace.py", "os.open(probe, NEW_FILE, 384)"),
    ("vla_data/jobs/workspace.py", "os.open(made, NEW_FILE, 384)"),
    ("converters/hdf5/masks.py", "os.open(beside, NEW_FILE, 384)"),
    # regular files at whose end something is added: O_NOFOLLOW | O_NONBLOCK, then S_ISREG
    ("vla_data/files/write.py", "os.open(path, _APPEND, 438)"),
    ("vla_data/files/write.py", "open(handle, 'ab', buffering=0)"),
    ("training_adapters/ript/ledger.py", "open_append(self._path)"),
    ("training_adapters/runs.py", "open_append(self.folder / METRICS)"),
    # locks
    (
        "vla_data/jobs/workspace.py",
        "os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)",
    ),
    (
        "vla_data/recording/writer.py",
        "os.open(self.folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 438)",
    ),
    # stock readers, after our own has looked at what they would read
    ("training_adapters/rlds_trajectories.py", "tfds.builder_from_directory(str(folder))"),
    ("training_adapters/lerobot/gate.py", "LeRobotDataset('vla_data/gate', root=folder, video_backend=backend)"),
    (
        "training_adapters/lerobot/gate.py",
        "LeRobotDataset('vla_data/gate', root=folder, delta_timestamps=times, video_backend=backend)",
    ),
}
"""Opens of paths that a stranger can name, or put something at."""

OWN: Final = {
    # the private work folder, and staging in it
    "converters/hdf5/masks.py": {"beside.open('rb')", "copy.open('rb')", "h5py.File(copy, 'r', locking=False)"}
    | {"h5py.File(path, 'r+', locking=False)"},
    "converters/lerobot/sink.py": {
        "pq.ParquetFile(file, page_checksum_verification=True)",
        "(folder / 'meta/info.json').read_bytes()",
    },
    "converters/lerobot/totals.py": {"pq.ParquetFile(file)"},
    "converters/rdt/sink.py": {"(folder / name).read_bytes()", "text.read_bytes()"},
    "converters/rlds/sink.py": {"(folder / file).open('rb')"},
    "converters/robomimic/sink.py": {"(folder / FILE).open('rb')", "h5py.File(handle, 'r')"},
    "converters/rdt2/sink.py": {"(folder / name).read_bytes()"},
    "converters/rollouts/sink.py": {"(folder / name).read_bytes()"},
    "vla_data/files/write.py": {"os.open(path, flags | os.O_NOFOLLOW, 438)", "os.open(path, os.O_RDONLY)"}
    | {"os.open(path, os.O_RDONLY | os.O_DIRECTORY)"},
    "vla_data/jobs/part.py": {
        "os.open(blob_file(job, part), _OURS)",
        "open(os.open(blob_file(job, part), _OURS), 'rb')",
    },
    "vla_data/jobs/beam/part_store.py": {"(self.folder / name).open('rb')", "file.read_bytes()"},
    # this user's own code, whose digest is kept, and what training writes into a folder that was just made
    "vla_data/core/provenance.py": {"open(path, 'rb')"},
    "vla_data/cli/view.py": {"webbrowser.open(viewer.address)"},
    "vla_data/viewing/server.py": {"(resources.files('vla_data.viewing') / 'page' / file).read_bytes()"},
    "vla_data/installed.py": {"metadata.distribution('vla-data').read_text('direct_url.json')"},
    "vla_data/jobs/modules.py": {"Path(file).read_bytes()", "each.read_text('RECORD')"}
    | {"each.read_text('SOURCES.txt')"},
    "training_adapters/checkpoints.py": {
        "save_file({name: value.contiguous() for name, value in tensors.items()}, "
        "beside / 'train_state' / _STATE)",
        "(beside / 'metadata.json').write_text(json.dumps(facts, indent=2, sort_keys=True) + '\\n')",
    }
    | {"(beside / 'train_state' / 'state.json').write_text(json.dumps(state or {}))"},
    "training_adapters/fast/fit.py": {
        "(beside / FACTS).write_text(json.dumps(self.to_json(), indent=2, sort_keys=True) + '\\n')"
    },
    "training_adapters/fast/tokenizer.py": {
        "path.write_text(json.dumps(value, indent=2, sort_keys=True) + '\\n')"
    },
    "training_adapters/params.py": {
        "save_file({name: np.asarray(value, order='C') for name, value in params.items()}, folder / SAFETENSORS)"
    },
    "training_adapters/runs.py": {"os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)"},
    # the kernel's
    "vla_data/cli/room.py": {
        "Path('/proc/self/statm').read_text()",
        "Path('/sys/fs/cgroup/pids.max').read_text()",
    },
    # this user's own cache
    "vla_data/remote/fetch.py": {"os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)"},
    "vla_data/remote/storage.py": {"fs.open(path, 'rb', block_size=_CHUNK, cache_type='readahead')"},
}
"""Opens of what no stranger can write, file by file. All others are of bytes in memory, see `IN_MEMORY`."""

IN_MEMORY: Final = (
    "io.BytesIO(",
    "read_table(episode)",
    "buffer",
    "os.devnull",
    "handle, 'w'",
    "out, 'w'",
    "info, 'w'",
    "target, 'w'",
)
SAFE: Final = (
    "packed.open(",
    "load_file(Path(where))",  # a module that the user named
    "root=",
    "strict=False",
    "np.memmap(file",
    "tempfile.",
    "'.'",
    "_CHUNK",
    "read_text(rollout",
    "read_text(item)",  # of a rollout in memory, likewise
    "read_text(value)",
    "source, 'r'",
)


def calls() -> Iterator[tuple[str, str]]:
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call):
                    func = node.func
                    called = func.id if isinstance(func, ast.Name) else getattr(func, "attr", "")
                    if called in OPENERS:
                        yield name, ast.unparse(node)


def test_every_open_is_listed() -> None:
    """A new one belongs into `vla_data.safety.files`, or into a list above with its reason."""
    unknown = [
        (name, call)
        for name, call in calls()
        if (name, call) not in STRANGERS
        and call not in OWN.get(name, set())
        and not any(mark in call for mark in (*IN_MEMORY, *SAFE))
        and (name, call) != ("vla_data/core/ledger.py", "read_table(path)")
    ]
    assert unknown == []


def test_the_lists_have_nothing_that_is_gone() -> None:
    there = set(calls())
    assert {entry for entry in STRANGERS if entry not in there} == set()
    assert {(name, call) for name, found in OWN.items() for call in found if (name, call) not in there} == set()


# -- what really happens ----------------------------------------------------------------------------------

_watched: list[tuple[Path, int]] = []
_root: list[Path] = []
_hooked: list[bool] = []


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and _root and isinstance(arguments[0], str | bytes | os.PathLike):
        path = Path(os.fsdecode(arguments[0]))
        # A bare name is one below a folder that is open already; no test is in such a folder.
        if (path.is_absolute() and path.is_relative_to(_root[0])) or len(path.parts) == 1:
            _watched.append((path, arguments[2]))


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Call it with a folder; from then on opens below it are noted, and libraries may not use its names."""
    if not _hooked:
        sys.addaudithook(_audit)
        _hooked.append(True)
    _watched.clear()

    def guarded(function: Any) -> Any:
        def call(file: Any, *arguments: Any, **options: Any) -> Any:
            if isinstance(file, str | os.PathLike) and _root:
                assert not Path(file).is_relative_to(_root[0]), f"{function} opens {file} by its name"
            return function(file, *arguments, **options)

        return call

    for module, name in ((pq, "ParquetFile"), (pq, "read_table"), (h5py, "File"), (av, "open")):
        monkeypatch.setattr(module, name, guarded(getattr(module, name)))
    yield lambda folder: _root.append(folder)
    _root.clear()


FORMATS: Final = {
    "lerobot": {"images": "png"},
    "lerobot-video": {"video": VideoSettings(codec="h264")},
    "rlds": {"name": "x"},
    "robomimic": {},
    "rollouts": {},
}


@pytest.mark.parametrize("format", FORMATS)
def test_no_open_of_a_strangers_file_waits_or_follows(format: str, watch: Any, tmp_path: Path) -> None:
    rollouts, made = tmp_path / "rollouts", tmp_path / "made"
    rollouts.mkdir()
    for number in range(2):
        save(rollouts, f"{number}.npz", rollout(3, seed=number, size=(16, 16)))
    if format != "rollouts":
        sink = vd.open_sink(made, format=format.partition("-")[0], **FORMATS[format])
        vd.run(vd.open_source(rollouts), (), sink, engine=Here())
    else:
        made = rollouts
    watch(made)
    source = vd.open_source(made)
    refs: list[EpisodeRef] = list(source.episodes())
    for ref in refs:
        episode = source.read(ref)
        for frames in episode.frames.values():
            frames.pixels(0)
        source.fingerprint(ref)
    if format != "rollouts":
        from vla_data.formats.sidecar import open_ledger
        from vla_data.verification.check import verify

        assert verify(made, deep=True).ok
        open_ledger(made)
    assert _watched
    files = Counter(flags & os.O_DIRECTORY for _, flags in _watched)
    assert files[0] > 0
    for path, flags in _watched:
        if not flags & os.O_DIRECTORY:
            assert flags & os.O_NONBLOCK, path
            assert flags & os.O_ACCMODE == os.O_RDONLY, path
