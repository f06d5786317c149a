"""Every source and every sink of the table keeps the same contract."""

from __future__ import annotations

import hashlib
import importlib.util
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vla_data as vd
from converters.rdt.sink import RdtSink
from converters.rdt2.sink import Rdt2Sink
from tests import calvin_sets, ript_rollouts, two_arms, zarr_buffers
from tests.converters.rlinf import test_rlinf
from tests.paths import TESTS
from vla_data import formats
from vla_data.core import Published
from vla_data.core.content import content_digest
from vla_data.errors import DataError, UsageError, VerifyError
from vla_data.media.video_settings import VideoSettings

DATA = TESTS / "data"
ROLLOUTS = DATA / "rollouts"
LIBERO = DATA / "hdf5/libero_spatial0_demo.hdf5"
STATE = "observation.state"
OPTIONS: dict[str, dict[str, Any]] = {
    "ript": {"task": "put the bowl on the plate"},
    "rlds": {"fps": 5, "allow_empty_instruction": True},
    "zarr": {"task": zarr_buffers.TASK},
}
"""What the formats' files do not say."""
SOURCES = [name for name, entry in formats.FORMATS.items() if entry.source]
NEEDS = {"zarr": ("zarr", "numcodecs")}
"""Format -> packages by which its tests write it."""
SINKS: dict[str, dict[str, Any]] = {
    "lerobot": {},
    "lerobot png": {"images": "png"},
    "lerobot h264": {"video": VideoSettings(codec="h264")},
    "lerobot v2.1": {"version": "v2.1"},
    "lerobot v2.1 h264": {"version": "v2.1", "video": VideoSettings(codec="h264")},
    "plain_rollout": {},
    "rdt": {"shortest": 1},
    "rdt2": {},
    "robomimic": {},
    "robomimic full": {"next_obs": True, "gzip": 0},
    "rlds": {"name": "contract"},
    "rlds full": {"name": "contract", "step_fields": "rlds"},
    "rlds png": {"name": "contract", "step_fields": "rlds", "images": "png"},
}


def open_sink(key: str, target: Path) -> vd.Sink:
    return vd.open_sink(target, format=key.split()[0], **SINKS[key])


@pytest.fixture(scope="module")
def addresses(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A place with the real episodes, for every format that can be read."""
    root = tmp_path_factory.mktemp("sources")
    vd.run(vd.open_source(ROLLOUTS), (), vd.open_sink(root / "lerobot", images="png"))
    return {
        "calvin": calvin_sets.write(root / "training"),
        "hdf5": LIBERO,
        "lerobot": root / "lerobot",
        "ppo_rollout": ROLLOUTS,
        "rlds": DATA / "rlds",
        "ript": ript_rollouts.write(root / "ript", [ript_rollouts.quest(seed) for seed in range(3)]),
        "rlinf": _rlinf(root / "rlinf"),
        "zarr": zarr_buffers.write(root / "buffer.zarr") if installed("zarr") else root / "buffer.zarr",
    }


def installed(format: str) -> bool:
    return all(importlib.util.find_spec(package) for package in NEEDS.get(format, ()))


def _rlinf(folder: Path) -> Path:
    for number, success in enumerate((True, False, True)):
        test_rlinf.write(folder, test_rlinf.episode(success=success), number=number)
    return folder


@pytest.fixture(params=SOURCES)
def source(request: pytest.FixtureRequest, addresses: dict[str, Path]) -> vd.Source:
    if not installed(request.param):
        pytest.skip(f"{request.param} needs {', '.join(NEEDS[request.param])}")
    return vd.open_source(f"{request.param}:{addresses[request.param]}", **OPTIONS.get(request.param, {}))


@pytest.fixture(params=SINKS)
def sink(request: pytest.FixtureRequest, tmp_path: Path) -> vd.Sink:
    return open_sink(request.param, tmp_path / "set")


def whole(episode: vd.Episode) -> str:
    pixels = {
        name: [np.ascontiguousarray(frames.pixels(i)).tobytes() for i in range(len(frames))]
        for name, frames in episode.frames.items()
    }
    return content_digest(episode.task, episode.arrays, pixels)


def test_sinks_and_sources_of_the_table_are_all_tested(addresses: dict[str, Path]) -> None:
    assert {key.split()[0] for key in SINKS} == {name for name, e in formats.FORMATS.items() if e.sink}
    assert set(addresses) == set(SOURCES)


def test_source_is_detected_without_its_name(addresses: dict[str, Path]) -> None:
    with pytest.raises(UsageError, match=r"E002 .*ript-vla ript:PATH"):  # its pickles may be anybody's
        formats.detect(addresses["ript"])
    others = {name for name in addresses if name != "ript" and installed(name)}
    assert {name: formats.detect(addresses[name]) for name in others} == {name: name for name in others}


def test_source_is_a_source_and_keeps_paths_to_itself(source: vd.Source) -> None:
    assert isinstance(source, vd.Source)
    assert "/" not in repr(source)
    assert repr(pickle.loads(pickle.dumps(source))) == repr(source)


def test_source_lists_the_same_episodes_each_time(source: vd.Source) -> None:
    ids = [ref.id for ref in source.episodes()]
    assert ids == [ref.id for ref in source.episodes()]
    assert len(ids) == len(set(ids)) == 3
    assert not any(name.startswith("/") for name in ids)


def test_source_reads_the_same_each_time_also_from_a_copy(source: vd.Source) -> None:
    for ref in source.episodes():
        first, again = source.read(ref), pickle.loads(pickle.dumps(source)).read(ref)
        assert whole(first) == whole(again)
        assert first.meta["source_sha256"] == source.fingerprint(ref)
        assert first.meta["source_length"] == len(first) > 0
        assert np.array_equal(first.index, np.arange(len(first)))


def test_source_describes_every_array_and_frame(source: vd.Source) -> None:
    episode = source.read(source.episodes()[0])
    schema = source.schema(episode)
    assert vd.Schema.from_text(schema.to_text()) == schema
    for name, frames in episode.frames.items():
        assert schema.features[name].shape == (frames.height, frames.width, 3)
    for name, feature in schema.features.items():
        if feature.dtype != "image":
            assert (str(episode.arrays[name].dtype), episode.arrays[name].shape[1:] or (1,)) == (
                feature.dtype,
                feature.shape,
            )


def test_damaged_episode_is_a_data_error(addresses: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes((ROLLOUTS / "PutCarrotOnPlate_noise_ep1.npz").read_bytes()[:-1000])
    source = vd.open_source(f"ppo_rollout:{tmp_path}")
    with pytest.raises(DataError):
        source.read(source.episodes()[0])


def test_sink_is_a_sink_and_keeps_its_target_to_itself(sink: vd.Sink) -> None:
    assert isinstance(sink, vd.Sink)
    assert str(sink.target.parent) not in repr(sink)
    assert repr(pickle.loads(pickle.dumps(sink))) == repr(sink)


def test_sink_encodes_equal_episodes_to_equal_bytes(sink: vd.Sink, source: vd.Source) -> None:
    episode = source.read(source.episodes()[0])
    schema = source.schema(episode)
    known = schema.features[STATE].convention if STATE in schema.features else {}
    if isinstance(sink, Rdt2Sink) or (isinstance(sink, RdtSink) and "layout" not in known):
        with pytest.raises(  # RDT's slots have a meaning, and RDT2 has two arms at 30 Hz
            (DataError, UsageError), match=f"{STATE}|--action-convention|30 Hz|a chunk needs 25"
        ):
            sink.encode(episode, schema)
        return
    first, again = sink.encode(episode, schema), sink.encode(episode, schema)
    assert b"".join(map(bytes, first.blob)) == b"".join(map(bytes, again.blob))
    assert (first.content, first.summary) == (again.content, again.summary)
    shorter = episode.take(np.arange(len(episode) - 1))
    assert sink.encode(shorter, schema).content != first.content


def published(sink: vd.Sink, source: vd.Source) -> tuple[list[Published], vd.Schema]:
    out = []
    for ref in source.episodes():
        episode = source.read(ref)
        schema = source.schema(episode)
        encoded = sink.encode(episode, schema)
        blob = b"".join(map(bytes, encoded.blob))
        digest = hashlib.sha256(blob).hexdigest()
        out.append(Published(ref.id, encoded.content, encoded.summary, digest, lambda blob=blob: blob))  # type: ignore[misc]
    return out, schema


@pytest.fixture(scope="module")
def arms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return two_arms.write(tmp_path_factory.mktemp("arms") / "in")


def fitting(sink: vd.Sink, arms: Path) -> vd.Source:
    """Episodes that the sink can hold: RDT needs states, RDT2 two arms."""
    if isinstance(sink, Rdt2Sink):
        return vd.open_source(arms)
    return vd.open_source(LIBERO if isinstance(sink, RdtSink) else ROLLOUTS)


@pytest.fixture
def assembled(sink: vd.Sink, tmp_path: Path, arms: Path) -> tuple[vd.Sink, Path, list[Published]]:
    episodes, schema = published(sink, fitting(sink, arms))
    folder = tmp_path / "staging"
    folder.mkdir()
    sink.assemble(episodes, schema, folder)
    return sink, folder, episodes


def test_sink_finds_what_it_wrote(assembled: tuple[vd.Sink, Path, list[Published]]) -> None:
    sink, folder, episodes = assembled
    sink.check(folder, episodes)


def test_sink_writes_the_same_tree_twice(
    assembled: tuple[vd.Sink, Path, list[Published]], tmp_path: Path, arms: Path
) -> None:
    sink, folder, _ = assembled
    episodes, schema = published(sink, fitting(sink, arms))
    again = tmp_path / "again"
    again.mkdir()
    sink.assemble(episodes, schema, again)
    assert tree(folder) == tree(again)


def tree(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_sink_notices_that_its_largest_file_is_damaged(
    assembled: tuple[vd.Sink, Path, list[Published]],
) -> None:
    sink, folder, episodes = assembled
    largest = max((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    data = bytearray(largest.read_bytes())
    data[len(data) // 2] ^= 1
    largest.write_bytes(data)
    with pytest.raises((VerifyError, OSError)):
        sink.check(folder, episodes)


@pytest.mark.parametrize("key", ["lerobot png", "lerobot"])
def test_lossless_round_trips_keep_the_content(key: str, tmp_path: Path) -> None:
    """Rollouts -> LeRobot -> LeRobot: the digests of every episode stay; PNG is lossless, JPEG passes through."""

    def digests(root: Path) -> list[str | None]:
        return [record.content_sha256 for record in vd.open_ledger(root).records]

    run: Callable[..., Any] = vd.run
    run(vd.open_source(ROLLOUTS), (), open_sink(key, tmp_path / "a"))
    run(vd.open_source(tmp_path / "a"), (), open_sink(key, tmp_path / "b"))
    assert digests(tmp_path / "a") == digests(tmp_path / "b")
    assert tree(tmp_path / "a/data") == tree(tmp_path / "b/data")
