"""Every pair of formats, both ways, on real data, as our own sources and as other libraries read it.

Each kind of source is written in every format, and from there in every other and back. What a format has no place
for is stated by `not_stored`; anything else that differs fails, and so does anything that a format adds.
"""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray
from PIL import Image

import vla_data as vd
from tests.hdf5_files import ALOHA, DECLARED, LIBERO, MANISKILL, ROBOMIMIC, regenerated
from tests.paths import SHARED, TESTS
from vla_data.cli.convert import command as convert_command
from vla_data.jobs.job import Job
from vla_data.jobs.part import Part, make_part
from vla_data.jobs.pool import Limits
from vla_data.media.video_settings import VideoSettings
from vla_data.verification.check import verify

h5py = pytest.importorskip("h5py")

ROLLOUTS = TESTS / "data/rollouts"
BRIDGE = TESTS / "data/rlds/bridge_dataset/1.0.0"

SOURCES: Mapping[str, tuple[Path, Mapping[str, Any]]] = {
    "rollouts": (ROLLOUTS, {}),
    **{path.stem.split("_")[0]: (path, options) for path, options in DECLARED.items()},
    "rlds": (BRIDGE, {"fps": 5}),
}
"""Kind of source -> real data, with what they do not say."""

TARGETS: Mapping[str, Mapping[str, Any]] = {
    "lerobot": {"format": "lerobot", "images": "png"},
    "lerobot jpeg": {"format": "lerobot", "images": "jpeg"},
    "lerobot h264": {"format": "lerobot", "video": VideoSettings(codec="h264")},
    "rlds": {"format": "rlds", "images": "png", "step_fields": "rlds", "name": "conversions"},
    "rlds jpeg": {"format": "rlds", "images": "jpeg", "step_fields": "rlds", "name": "conversions"},
    "robomimic": {"format": "robomimic"},
}
LOSSLESS = ("lerobot", "rlds", "robomimic")


def not_stored(source: str) -> set[str]:
    """What targets lack: rows of a simulator's ``info`` are features of rollouts only where that is asked for."""
    if source != "rollouts":
        return set()
    keys = "consecutive_grasp elapsed_steps is_src_obj_grasped moved_correct_obj moved_wrong_obj src_on_target"
    return {f"info.{key}" for key in (*keys.split(), "success")}


class Here:
    """Makes all parts in this process, which the many small conversions of these tests need to be quick."""

    def make(self, job: Job, digest: str, parts: Sequence[Part], *, limits: Limits) -> Iterator[Part]:
        del limits
        for part in parts:
            make_part(job, digest, part)
            yield part


def convert(source: vd.Source, target: Path, key: str) -> Path:
    report = vd.run(source, (), vd.open_sink(target, **TARGETS[key]), engine=Here())
    assert report.exit_code == 0
    return target


class Datasets:
    """Conversions of the real data, each made once: ``datasets("libero", "rlds", "lerobot")``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: dict[tuple[str, ...], list[vd.Episode]] = {}

    def path(self, source: str, *targets: str) -> Path:
        if not targets:
            return SOURCES[source][0]
        target = self._folder / "-".join((source, *targets)).replace(" ", "_")
        if not target.exists():
            convert(self.source(source, *targets[:-1]), target, targets[-1])
        return target

    def source(self, source: str, *targets: str) -> vd.Source:
        options = {} if targets else SOURCES[source][1]
        return vd.open_source(self.path(source, *targets), **options)

    def read(self, source: str, *targets: str) -> list[vd.Episode]:
        """Its episodes in the order of the first source, however a format has shuffled them."""
        key = (source, *targets)
        if key not in self._read:
            opened = self.source(*key)
            found = [opened.read(ref) for ref in opened.episodes()]
            if targets:
                order = [_name(episode) for episode in self.read(source)]
                found.sort(key=lambda episode: order.index(_name(episode)))
            self._read[key] = found
        return self._read[key]

    def digests(self, source: str, *targets: str) -> list[str]:
        """Of the content of every episode, as the ledger has them, sorted."""
        records = vd.open_ledger(self.path(source, *targets)).records
        return sorted(str(record.content_sha256) for record in records)


def _name(episode: vd.Episode) -> tuple[bytes, str]:
    """Actions and instruction, which tell all these episodes apart."""
    return episode.arrays["action"].tobytes(), episode.task


@pytest.fixture(scope="module")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> Datasets:
    return Datasets(tmp_path_factory.mktemp("conversions"))


def assert_equal(want: vd.Episode, got: vd.Episode, *, lossless: bool = True) -> None:
    """All that both have: numbers and texts bit for bit with type and shape, images pixel by pixel."""
    assert got.task == want.task
    assert len(got) == len(want)
    for name in want.arrays.keys() & got.arrays.keys():
        a, b = want.arrays[name], got.arrays[name]
        assert (b.dtype, b.shape, b.tobytes()) == (a.dtype, a.shape, a.tobytes()), name
    assert got.frames.keys() == want.frames.keys()
    for name, frames in want.frames.items():
        if lossless:
            for t in range(len(frames)):
                assert np.array_equal(got.frames[name].pixels(t), frames.pixels(t)), (name, t)


# -- every pair, by our own sources --------------------------------------------------------------------


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("source", SOURCES)
def test_a_dataset_is_what_its_source_was(datasets: Datasets, source: str, target: str) -> None:
    verdict = verify(datasets.path(source, target), against=datasets.path(source))
    assert verdict.ok, verdict.damages
    facts = verdict.checked["against"]
    want = datasets.read(source)
    assert facts["compared"] == len(want)
    assert set(facts["not_stored"]) == not_stored(source)
    assert facts["added"] == []
    lossy = {name for name, feature in facts["features"].items() if "psnr_min" in feature}
    encoded = source in ("aloha", "rlds")  # JPEG files, which pass through where JPEG is written
    assert not lossy or (target.endswith("jpeg") and not encoded) or target.endswith("h264")
    for name, feature in facts["features"].items():
        assert feature["differing"] == 0, name
        assert "dtype" not in feature, name
    if encoded and target.endswith("jpeg"):
        steps = sum(map(len, want))
        assert all(facts["features"][name]["same_bytes"] == steps for name in want[0].frames)
    for a, b in zip(want, datasets.read(source, target), strict=True):
        assert_equal(a, b, lossless=not lossy)
        assert a.arrays.keys() - b.arrays.keys() == not_stored(source)
        assert b.arrays.keys() <= a.arrays.keys()


PAIRS = list(itertools.permutations(LOSSLESS, 2))


@pytest.mark.parametrize(("first", "second"), PAIRS)
@pytest.mark.parametrize("source", SOURCES)
def test_there_and_back_keeps_the_content(datasets: Datasets, source: str, first: str, second: str) -> None:
    """A -> B -> A: the digest of every episode stays. What B had to derive is not taken for a recording."""
    there, back = (source, first, second), (source, first, second, first)
    verdict = verify(datasets.path(*there), against=datasets.path(*there[:-1]))
    assert verdict.ok, verdict.damages
    facts = verdict.checked["against"]
    assert (facts["added"], facts["not_stored"]) == ([], [])
    wanted = datasets.read(source, first)
    for a, b in zip(wanted, datasets.read(*back), strict=True):
        assert_equal(a, b)
        assert b.arrays.keys() == a.arrays.keys()
    assert datasets.digests(*back) == datasets.digests(source, first)


@pytest.mark.parametrize("source", SOURCES)
def test_the_way_does_not_matter(datasets: Datasets, source: str) -> None:
    """RLDS made directly has the digests of RLDS made through LeRobot, which stores the same features."""
    assert datasets.digests(source, "rlds") == datasets.digests(source, "lerobot", "rlds")


@pytest.mark.parametrize("source", SOURCES)
def test_facts_of_the_first_source_go_all_the_way(datasets: Datasets, source: str) -> None:
    """Splits, rate, robot, conventions of every feature, and where each episode once came from."""
    first = datasets.source(source)
    ids = {_name(first.read(ref)): ref.id for ref in first.episodes()}
    for a, b in zip(datasets.read(source), datasets.read(source, "lerobot", "rlds", "lerobot"), strict=True):
        assert b.meta["origin"]["id"] == ids[_name(a)]
        assert b.meta.get("split") == a.meta.get("split")
        told = a.meta.get("episode_metadata")
        assert told is None or told.items() <= b.meta["episode_metadata"].items()
    last = datasets.source(source, "lerobot", "rlds", "lerobot")
    one, other = (opened.schema(opened.read(opened.episodes()[0])) for opened in (first, last))
    assert (one.fps, one.robot) == (other.fps, other.robot)
    for name, feature in one.features.items():
        if name not in not_stored(source):
            assert dict(other.features[name].convention) == dict(feature.convention), name
            assert other.features[name].names == feature.names, name


# -- number by number, by other libraries ----------------------------------------------------------------


@dataclass
class Raw:
    """An episode as somebody else's library reads it."""

    task: str
    arrays: dict[str, NDArray[Any]]
    images: dict[str, NDArray[np.uint8]] = field(default_factory=dict)


def raw_rollouts() -> Iterator[Raw]:
    for path in sorted(ROLLOUTS.iterdir()):
        loaded = np.load(path, allow_pickle=True)  # files of our own tests
        data = (loaded["arr_0"] if path.suffix == ".npz" else loaded).item()
        steps = len(data["action"])
        arrays = {
            "action": np.asarray(data["action"]).astype(np.float32),
            "next.success": np.asarray([bool(np.asarray(i["success"]).reshape(())) for i in data["info"]]),
        }
        images = np.stack([np.asarray(image) for image in data["image"]])[:steps]
        yield Raw(str(np.asarray(data["instruction"]).reshape(-1)[0]), arrays, {"primary": images})


def raw_libero() -> Iterator[Raw]:
    """Observation ``j`` is of after action ``j``, so it goes with action ``j + 1``; rows are bottom up."""
    with h5py.File(LIBERO) as file:
        for name in sorted(file["data"]):
            demo = file["data"][name]
            arrays = {
                "action": demo["actions"][1:],
                "next.reward": demo["rewards"][1:],
                "observation.joint_states": demo["obs/joint_states"][:-1],
                "observation.ee_pos": demo["obs/ee_pos"][:-1],
            }
            cameras = ("agentview_rgb", "eye_in_hand_rgb")
            images = {key: demo[f"obs/{key}"][:-1][:, ::-1] for key in cameras}
            task = Path(file["data"].attrs["bddl_file_name"]).stem.replace("_", " ")
            yield Raw(task, arrays, images)


def raw_robomimic() -> Iterator[Raw]:
    with h5py.File(ROBOMIMIC) as file:
        for name in sorted(file["data"]):
            demo = file["data"][name]
            arrays = {
                "action": demo["actions"][()],
                "next.reward": demo["rewards"][()],
                "observation.object": demo["obs/object"][()],
            }
            cameras = ("agentview_image", "robot0_eye_in_hand_image")
            yield Raw("lift the cube", arrays, {key: demo[f"obs/{key}"][()] for key in cameras})


def raw_maniskill() -> Iterator[Raw]:
    with h5py.File(MANISKILL) as file:
        for name in sorted(file):
            demo = file[name]
            arrays = {
                "action": demo["actions"][()],
                "next.success": demo["success"][()],
                "observation.agent.qpos": demo["obs/agent/qpos"][:-1],
                "observation.sensor_param.base_camera.extrinsic_cv": demo[
                    "obs/sensor_param/base_camera/extrinsic_cv"
                ][:-1],
            }
            yield Raw("pick up the cube", arrays, {"base_camera": demo["obs/sensor_data/base_camera/rgb"][:-1]})


def raw_aloha() -> Iterator[Raw]:
    with h5py.File(ALOHA) as file:
        images = {key: _decoded(file["observations/images"][key]) for key in file["observations/images"]}
        arrays = {"action": file["action"][()], "observation.state": file["observations/qpos"][()]}
        yield Raw("hand over the cube", arrays, images)


def raw_tfds(folder: Path) -> Iterator[Raw]:
    """By stock TFDS. Images that are JPEG are decoded by Pillow: TensorFlow's decoder rounds otherwise."""
    tfds = pytest.importorskip("tensorflow_datasets")
    builder = tfds.builder_from_directory(str(folder))
    observation = builder.info.features["steps"].feature["observation"]
    cameras = [key for key, f in observation.items() if isinstance(f, tfds.features.Image) and f.shape[-1] == 3]
    skip = {"steps": {"observation": dict.fromkeys(cameras, tfds.decode.SkipDecoding())}}
    for split in builder.info.splits:
        for episode in builder.as_dataset(split=split, decoders=skip):
            steps = list(tfds.as_numpy(episode["steps"]))
            arrays: dict[str, NDArray[Any]] = {}
            for name, value in _flat(steps[0], ""):
                path = name.split("/")
                if path[-1] not in cameras and not isinstance(value, bytes):
                    arrays[_rlds_name(name)] = np.stack([_at(step, path) for step in steps])
            images = {key: _decoded([step["observation"][key] for step in steps]) for key in cameras}
            yield Raw(steps[0]["language_instruction"].decode(), arrays, images)


def _flat(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(inner, f"{path}/{key}" if path else key)
    else:
        yield path, value


def _at(step: Any, path: Sequence[str]) -> Any:
    for key in path:
        step = step[key]
    return step


def _rlds_name(path: str) -> str:
    known = {"reward": "next.reward", "discount": "next.discount", "is_terminal": "next.terminated"}
    return known.get(path, path.replace("/", "."))


def raw_lerobot(folder: Path) -> Iterator[Raw]:
    """By pyarrow and Pillow alone."""
    pq = pytest.importorskip("pyarrow.parquet")
    tasks = {row["task_index"]: row for row in pq.read_table(folder / "meta/tasks.parquet").to_pylist()}
    shapes = json.loads((folder / "meta/info.json").read_text())["features"]
    rows = pq.read_table(folder / "data").to_pylist()
    for number in sorted({row["episode_index"] for row in rows}):
        steps = [row for row in rows if row["episode_index"] == number]
        assert [row["frame_index"] for row in steps] == list(range(len(steps)))
        arrays, images = {}, {}
        for name, feature in shapes.items():
            if feature["dtype"] == "image":
                key = name.removeprefix("observation.images.")
                images[key] = _decoded([row[name]["bytes"] for row in steps])
            else:
                arrays[name] = np.asarray([row[name] for row in steps], dtype=feature["dtype"])
        task = tasks[steps[0]["task_index"]]
        yield Raw(task.get("task") or task["__index_level_0__"], arrays, images)


def raw_written_hdf5(folder: Path) -> Iterator[Raw]:
    """Our robomimic file, by h5py alone."""
    with h5py.File(folder / "dataset.hdf5") as file:
        for name in file["data"]:
            demo = file["data"][name]
            arrays: dict[str, NDArray[Any]] = {"action": demo["actions"][()]}
            images = {}
            for key, value in _flat(dict(_datasets(demo)), ""):
                if value.ndim == 4:
                    images[key.removeprefix("obs/").replace("/", ".")] = value
                else:
                    arrays[_robomimic_name(key)] = value
            yield Raw(json.loads(demo.attrs["ep_meta"])["lang"], arrays, images)


def _datasets(group: Any) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    group.visititems(lambda key, item: found.append((key, item[()])) if isinstance(item, h5py.Dataset) else None)
    return found


def _robomimic_name(path: str) -> str:
    known = {"rewards": "next.reward", "states": "observation.sim_state", "actions": "action"}
    name = known.get(path, path.replace("/", "."))
    return "observation." + name.removeprefix("obs.") if name.startswith("obs.") else name


def _decoded(items: Any) -> NDArray[np.uint8]:
    return np.stack([np.asarray(Image.open(io.BytesIO(bytes(item)))) for item in items])


ORIGINALS: Mapping[str, Any] = {
    "rollouts": raw_rollouts,
    "libero": raw_libero,
    "robomimic": raw_robomimic,
    "maniskill": raw_maniskill,
    "aloha": raw_aloha,
    "rlds": lambda: raw_tfds(BRIDGE),
}
READERS: Mapping[str, Any] = {"lerobot": raw_lerobot, "rlds": raw_tfds, "robomimic": raw_written_hdf5}


@pytest.mark.parametrize("target", READERS)
@pytest.mark.parametrize("source", ORIGINALS)
def test_other_libraries_read_the_same_numbers_before_and_after(
    datasets: Datasets, source: str, target: str
) -> None:
    """No line of ours reads either side: pickle, h5py or TFDS before; pyarrow, TFDS or h5py after."""
    before = list(ORIGINALS[source]())
    opened = READERS[target](datasets.path(source, target))
    after = {episode.arrays["action"].tobytes(): episode for episode in opened}
    assert len(after) == len(before) == len(datasets.read(source))
    for want in before:
        got = after[want.arrays["action"].tobytes()]
        assert got.task == want.task
        for name, array in want.arrays.items():
            if name not in ("is_first", "is_last"):  # positions, which this source contradicts: docs/rlds.md
                found = got.arrays[name].reshape(array.shape)
                assert np.array_equal(found, array), name
                assert found.dtype == array.dtype, name
        only = len(want.images) == 1 and target == "rlds"  # a camera that is alone is called image
        for camera, pixels in want.images.items():
            assert np.array_equal(got.images["image" if only else camera], pixels), camera


# -- LIBERO: the original, as OpenVLA regenerates it, and through the command line ---------------------------


@pytest.mark.parametrize("target", ["lerobot", "rlds", "robomimic"])
def test_libero_and_regenerated_files_convert_to_the_same_pairs(target: str, tmp_path: Path) -> None:
    """The same (observation, action) pairs, upright, from both; with the shift of issue 54 nowhere."""
    files = {"original": LIBERO, "again": regenerated(LIBERO, tmp_path / "pick_up_the_bowl_demo.hdf5")}
    found = {}
    for name, path in files.items():
        out = tmp_path / name
        words = ["convert", str(path), str(out), "--to", target, "--images", "png", "--task", "pick up the bowl"]
        words = words if target != "robomimic" else [w for w in words if w not in ("--images", "png")]
        unsaid = ["--fps", "20", "--image-orientation", "vflip"] if name == "again" else []
        done = CliRunner().invoke(convert_command, [*words[1:], *unsaid])
        assert done.exit_code == 0, done.output
        found[name] = {e.arrays["action"].tobytes(): e for e in READERS[target](out)}
    assert found["original"].keys() == found["again"].keys()
    raw = {episode.arrays["action"].tobytes(): episode for episode in raw_libero()}
    for key, ours in found["original"].items():
        theirs = found["again"][key]
        for name, array in ours.arrays.items():
            first = 1 if name == "observation.sim_state" else 0  # the script's own first state
            if name not in ("episode_index", "index"):
                assert np.array_equal(theirs.arrays[name][first:], array[first:]), name
        for camera, pixels in ours.images.items():
            assert np.array_equal(theirs.images[camera], pixels)
            assert np.array_equal(raw[key].images[camera], pixels)
            assert not np.array_equal(raw[key].images[camera][:, ::-1], pixels)
        shifted = raw[key].arrays["observation.joint_states"][1:]
        assert not np.array_equal(ours.arrays["observation.joint_states"][:-1], shifted)


# -- whole files, where they are -----------------------------------------------------------------------------

WAY = ("rlds", "robomimic", "lerobot")
LARGE = ("rlds jpeg", "lerobot jpeg")
"""The way of recordings that are too large for pixels: JPEG files pass through, videos are decoded once."""

WHOLE: Mapping[str, tuple[str, Mapping[str, Any], Sequence[str]]] = {
    "rollouts": ("rl4vla_rollouts", {}, WAY),
    "planner": ("rl4vla_motion_planner", {}, WAY),
    "libero": ("libero/libero_spatial0_demo.hdf5", {}, WAY),
    "robomimic": ("robosuite/rs141_Lift_image_128.hdf5", DECLARED[ROBOMIMIC], WAY),
    "maniskill": ("maniskill/PickCube_rgb_pd_ee_delta_pose.h5", DECLARED[MANISKILL], WAY),
    "aloha": ("aloha/episode_0.hdf5", DECLARED[ALOHA], LARGE),
    "rlds": ("rlds_bridge", {"fps": 5, "allow_empty_instruction": True}, WAY),
    "lerobot": ("lerobot_v20_groot", {}, LARGE),
}


@pytest.mark.skipif(not SHARED.exists(), reason="the whole recordings are not here")
@pytest.mark.parametrize("kind", WHOLE)
def test_whole_recordings_go_around(kind: str, tmp_path: Path) -> None:
    """From format to format; each step is compared with the one before it, value by value."""
    address, options, way = WHOLE[kind]
    before, opened = SHARED / address, vd.open_source(SHARED / address, **options)
    steps: dict[str, int] = {}
    for key in way:
        target = tmp_path / key.replace(" ", "_")
        report = vd.run(opened, (), vd.open_sink(target, **TARGETS[key]), engine=Here())
        assert {record.status for record in report.ledger.records} <= {"published", "ignored"}
        steps[key] = sum(record.length or 0 for record in report.ledger.records if record.status == "published")
        verdict = verify(target, against=before)
        assert verdict.ok, verdict.damages[:3]
        before = target
        empty = {"allow_empty_instruction": True} if kind == "rlds" and key != "robomimic" else {}
        opened = vd.open_source(target, **empty)
    assert len(set(steps.values())) == 1


@pytest.mark.parametrize("target", ["lerobot", "rlds", "robomimic"])
def test_infos_are_kept_where_that_is_asked_for(target: str, tmp_path: Path) -> None:
    source = vd.open_source(ROLLOUTS, info=True)
    options = {"step_fields": "rlds", "name": "infos"} if target == "rlds" else {}
    vd.run(source, (), vd.open_sink(tmp_path / target, format=target, **options))
    back = vd.open_source(tmp_path / target)
    was = {episode.arrays["action"].tobytes(): episode for episode in map(source.read, source.episodes())}
    assert len(was) == 3
    for ref in back.episodes():
        episode = back.read(ref)
        wanted = {k: v for k, v in was[episode.arrays["action"].tobytes()].arrays.items() if k.startswith("info.")}
        assert len(wanted) >= 7
        for name, values in wanted.items():
            assert np.array_equal(episode.arrays[name].reshape(-1), values), name
    plain = vd.open_source(ROLLOUTS)
    vd.run(plain, (), vd.open_sink(tmp_path / "plain", format=target, **options))
    back = vd.open_source(tmp_path / "plain")
    assert not [name for name in back.read(back.episodes()[0]).arrays if name.startswith("info.")]
