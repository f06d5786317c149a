"""CALVIN datasets as they are read: windows, recordings, names, conventions, faults, attacks."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vla_data as vd
from converters.calvin.source import CalvinSource
from tests.calvin_sets import KINDS, PLAY, TASKS, WINDOWS, annotations, frame, save, write
from tests.lerobot_sets import Here
from vla_data.actions import Convention
from vla_data.errors import DataError, UsageError
from vla_data.steps.features import SelectFeatures

ANNOTATIONS = "lang_annotations/auto_lang_ann.npy"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write(tmp_path / "training")


def episodes(root: Path, **options: Any) -> list[vd.Episode]:
    source = CalvinSource(root=root, **options)
    return [source.read(ref) for ref in source.episodes()]


def test_a_window_is_an_episode_with_its_instruction(root: Path) -> None:
    names = {
        "action": "rel_actions",
        "action.absolute": "actions",
        "observation.state": "robot_obs",
        "observation.scene": "scene_obs",
        "observation.rgb_tactile": "rgb_tactile",
    }
    for number, episode in enumerate(episodes(root)):
        first, last = WINDOWS[number]
        want = [frame(n) for n in range(first, last + 1)]
        assert (episode.id, episode.task) == (f"language_{number:06d}", TASKS[number])
        assert episode.meta["episode_metadata"] == {"task": KINDS[number]}
        assert episode.meta["scene"] == ("calvin_scene_A" if number == 2 else "calvin_scene_D")
        assert episode.meta["split"] == "train"
        for name, key in names.items():
            np.testing.assert_array_equal(episode.arrays[name], np.stack([step[key] for step in want]))
        depth = np.stack([step["depth_static"] for step in want])[..., None]
        np.testing.assert_array_equal(episode.arrays["observation.depth.static"], depth)
        for camera in ("static", "gripper"):
            for t, step in enumerate(want):
                pixels = episode.frames[f"observation.images.{camera}"].pixels(t)
                np.testing.assert_array_equal(pixels, step[f"rgb_{camera}"])
        assert not episode.notes


def test_recordings_are_read_whole_where_there_is_no_language(tmp_path: Path) -> None:
    root = write(tmp_path / "set/validation", language=False).parent
    found = episodes(root, task="play")
    assert [(e.id, len(e), e.task) for e in found] == [
        (f"validation/play_{n:06d}", b - a + 1, "play") for n, (a, b) in enumerate(PLAY)
    ]
    assert {e.meta["split"] for e in found} == {"val"}
    with pytest.raises(DataError) as caught:
        episodes(root)
    assert caught.value.code == "E211"
    with pytest.raises(UsageError, match="has no lang_annotations"):
        episodes(root, episodes_of="language")
    assert len(episodes(write(tmp_path / "training"), episodes_of="play", task="x")) == 2


def test_conventions_are_those_of_calvins_own_code(root: Path) -> None:
    """``to_relative_action``: the absolute action less the measured state, clipped and scaled."""
    source = CalvinSource(root=root)
    episode = source.read(source.episodes()[1])
    schema = source.schema(episode)
    relative = Convention.from_json(schema.features["action"].convention)
    assert relative.controller is not None
    scale = [relative.controller.translation_scale] * 3 + [relative.controller.rotation_scale] * 3
    moved = episode.arrays["action.absolute"][:, :6] - episode.arrays["observation.state"][:, :6]
    np.testing.assert_allclose(episode.arrays["action"][:, :6], np.clip(moved / scale, -1, 1), atol=1e-12)
    assert (relative.kind, relative.reference) == ("delta", "current_state")
    assert schema.features["action.absolute"].convention["kind"] == "absolute"
    assert schema.features["observation.depth.static"].convention == {"depth_unit": "m"}
    other = CalvinSource(root=root, action="absolute")
    found = other.read(other.episodes()[1])
    np.testing.assert_array_equal(found.arrays["action"], episode.arrays["action.absolute"])
    assert other.schema(found).features["action"].convention == schema.features["action.absolute"].convention


def test_it_is_detected_and_converted_with_every_number(root: Path, tmp_path: Path) -> None:
    for address in (root, root.parent):
        assert isinstance(vd.open_source(address), CalvinSource)
    vd.run(vd.open_source(root), (), vd.open_sink(tmp_path / "out", images="png"), engine=Here())
    seen = vd.verify(tmp_path / "out", against=[str(root)])
    assert seen.ok, seen.damages
    compared = seen.checked["against"]
    assert {"action", "observation.images.static", "observation.depth.static"} <= {*compared["features"]}
    assert compared["not_stored"] == []


def test_what_is_not_wanted_is_not_read(root: Path, tmp_path: Path) -> None:
    np.savez(root / "episode_0000011.npz", **{**frame(11), "rgb_gripper": np.zeros(3, "S3")})
    with pytest.raises(DataError, match="unlike the first"):
        episodes(root)[0].frames["observation.images.gripper"].pixels(1)
    (first, *_) = episodes(root, leave_out=("rgb_gripper", "depth_*"))
    assert set(first.frames) == {"observation.images.static"}
    assert first.notes == ("left_out:depth_static", "left_out:rgb_gripper")
    drop = SelectFeatures(drop=("observation.images.gripper",))
    vd.run(CalvinSource(root=root), [drop], vd.open_sink(tmp_path / "out"), engine=Here())
    assert len(vd.open_source(tmp_path / "out").episodes()) == 3


def look(source: CalvinSource, ref: vd.EpisodeRef) -> None:
    """Read an episode, and its images."""
    frames = source.read(ref).frames["observation.images.static"]
    for t in range(len(frames)):
        frames.pixels(t)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda f: f.pop("rel_actions"), "E203"),
        (lambda f: f.update(rel_actions=np.zeros(6)), "E203"),
        (lambda f: f.update(robot_obs=f["robot_obs"].astype(np.float32)), "E203"),
        (lambda f: f.update(rel_actions=np.full(7, np.nan)), "E201"),
        (lambda f: f.update(rel_actions=np.full(7, 1e9)), "E202"),
        (lambda f: f.update(more=np.zeros(3)), "E203"),
        (lambda f: f.update(scene_obs=np.array(["x"] * 24)), "E203"),
        (lambda f: f.update(scene_obs=np.array([{}])), "E203"),
        (lambda f: f.update(rgb_static=np.zeros((50, 4, 3), np.uint8)), "E203"),
    ],
)
def test_a_frame_that_is_unlike_the_others_refuses_its_episodes(change: Any, code: str, root: Path) -> None:
    own = frame(11)
    change(own)
    np.savez(root / "episode_0000011.npz", **own)
    source = CalvinSource(root=root)
    first, *others = source.episodes()
    with pytest.raises(DataError) as caught:
        look(source, first)
    assert caught.value.code == code
    assert all(len(source.read(ref)) for ref in others)


def test_a_frame_that_is_missing_is_named(root: Path) -> None:
    (root / "episode_0000021.npz").unlink()
    source = CalvinSource(root=root)
    with pytest.raises(DataError, match="episode_0000021") as caught:
        source.read(source.episodes()[2])
    assert caught.value.code == "E133"


@pytest.mark.parametrize(
    "told",
    [
        [{}],
        {"language": {"ann": ["a"]}},
        annotations(tasks=("a", "b")),
        annotations(tasks=(1, 2, 3)),
        annotations(windows=((3, 1), (1, 2), (2, 3))),
        annotations(windows=((1,), (1, 2), (2, 3))),
        annotations(windows=(("a", "b"), (1, 2), (2, 3))),
        annotations(windows=((1.5, 2), (1, 2), (2, 3))),
        annotations(windows=((-4, 2), (1, 2), (2, 3))),
    ],
    ids=["list", "no windows", "fewer texts", "no texts", "turned", "one end", "words", "halves", "negative"],
)
def test_annotations_that_say_something_else_are_refused(told: Any, root: Path) -> None:
    save(root / ANNOTATIONS, told)
    with pytest.raises(UsageError) as caught:
        CalvinSource(root=root).episodes()
    assert caught.value.code == "E141"


@pytest.mark.parametrize(("folders", "found"), [(("lang_minilm",), True), (("lang_minilm", "lang_clip"), False)])
def test_instructions_may_be_in_the_folder_of_another_model(root: Path, folders: Any, found: bool) -> None:
    """``lang_annotations`` comes first; where it is not there, the only other ``lang_...``."""
    own = root / ANNOTATIONS
    for folder in folders:
        (root / folder).mkdir()
        (root / folder / own.name).write_bytes(own.read_bytes())
    want = [episode.task for episode in episodes(root, task="play")]
    own.unlink()
    assert [episode.task for episode in episodes(root, task="play")] == (want if found else ["play"] * len(PLAY))


class Runs:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return open, (str(self.path), "w")


@pytest.mark.parametrize("place", ["annotations", "frame", "scenes"])
def test_nothing_that_is_pickled_runs(place: str, root: Path, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    evil = np.array({"language": Runs(canary)}, dtype=object)
    path = {"annotations": ANNOTATIONS, "scenes": "scene_info.npy", "frame": "episode_0000010.npz"}[place]
    if place == "frame":
        np.savez(root / path, **{**frame(10), "scene_obs": np.array([Runs(canary)], dtype=object)})
    else:
        save(root / path, evil)
    with pytest.raises((DataError, UsageError)) as caught:
        episodes(root)
    assert caught.value.code == "E101"
    assert not canary.exists()


def test_links_out_of_the_dataset_are_not_followed(root: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere.npz"
    shutil.move(root / "episode_0000010.npz", elsewhere)
    (root / "episode_0000010.npz").symlink_to(elsewhere)
    source = CalvinSource(root=root)
    with pytest.raises(DataError) as caught:
        source.read(source.episodes()[0])
    assert caught.value.code == "E131"


def test_damaged_frames_are_refused_or_read_as_they_are(root: Path) -> None:
    """The checksums of the archive see nearly every flipped bit; what they miss changes nothing that is read."""
    path = root / "episode_0000010.npz"
    sound = path.read_bytes()
    pick = random.Random(0)
    source = CalvinSource(root=root)
    ref = source.episodes()[0]
    want = source.read(ref)
    refused = 0
    for _ in range(1000):
        data = bytearray(sound)
        data[pick.randrange(len(data))] ^= 1 << pick.randrange(8)
        path.write_bytes(data)
        try:
            found = source.read(ref)
            pixels = {name: frames.pixels(0) for name, frames in found.frames.items()}
        except DataError:
            refused += 1
            continue
        for name, array in found.arrays.items():
            np.testing.assert_array_equal(array, want.arrays[name])
        for name, image in pixels.items():
            np.testing.assert_array_equal(image, frame(10)[f"rgb_{name.rpartition('.')[2]}"])
    assert refused > 900


def test_the_digest_is_of_the_bytes_that_were_read(root: Path) -> None:
    source = CalvinSource(root=root)
    (ref, *_) = source.episodes()
    before = source.fingerprint(ref)
    assert source.read(ref).meta["source_sha256"] == before
    np.savez(root / "episode_0000011.npz", **frame(99))
    assert source.fingerprint(ref) != before
