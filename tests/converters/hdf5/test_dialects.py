"""Real files of every layout, number by number against plain h5py and against the simulators' own controllers."""

from __future__ import annotations

import io
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import vla_data as vd
from tests.hdf5_files import (
    ALOHA,
    DECLARED,
    LIBERO,
    MANISKILL,
    ROBOMIMIC,
    edited,
    pixels,
    read,
    regenerated,
    replace,
    robomimic_file,
    source,
)
from tests.paths import SHARED
from vla_data.core import Source
from vla_data.core.content import content_digest
from vla_data.core.curate import curate
from vla_data.errors import DataError, UsageError
from vla_data.steps import Resample

h5py = pytest.importorskip("h5py")

AGENT = "observation.images.agentview_rgb"
HAND = "observation.images.eye_in_hand_rgb"


def whole(episode: vd.Episode) -> str:
    images = {name: [f.pixels(i).tobytes() for i in range(len(f))] for name, f in episode.frames.items()}
    return content_digest(episode.task, episode.arrays, images)


# -- the contract -------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", DECLARED, ids=lambda p: p.stem)
def test_source_keeps_the_contract(path: Path) -> None:
    opened = source(path)
    assert isinstance(opened, Source)
    assert "/" not in repr(opened)
    copy = pickle.loads(pickle.dumps(opened))
    assert repr(copy) == repr(opened)
    refs = opened.episodes()
    assert list(refs) == list(copy.episodes())
    for ref in refs:
        episode, again = opened.read(ref), copy.read(ref)
        assert ref.id.startswith(path.name)
        assert whole(episode) == whole(again)
        assert episode.meta["source_sha256"] == opened.fingerprint(ref)
        assert episode.meta["source_length"] == len(episode) > 0
        assert np.array_equal(episode.index, np.arange(len(episode)))
        schema = opened.schema(episode)
        assert vd.Schema.from_text(schema.to_text()) == schema
        json.dumps(dict(episode.meta))
        for name, array in episode.arrays.items():
            assert (schema.features[name].dtype, schema.features[name].shape) == (
                str(array.dtype),
                array.shape[1:] or (1,),
            )
        for name, frames in episode.frames.items():
            assert schema.features[name].shape == (frames.height, frames.width, 3)
            assert schema.features[name].convention["orientation"] == "upright"


def test_fingerprints_differ_by_demo_and_by_what_lies_beside(tmp_path: Path) -> None:
    opened = source(MANISKILL)
    assert len({opened.fingerprint(ref) for ref in opened.episodes()}) == 2
    path = edited(MANISKILL, tmp_path / MANISKILL.name, lambda file: None)
    before = source(path).fingerprint(source(path).episodes()[0])
    side = path.with_suffix(".json")
    side.write_text(side.read_text().replace("physx_cpu", "physx_gpu"))
    assert source(path).fingerprint(source(path).episodes()[0]) != before


@pytest.mark.parametrize("path", DECLARED, ids=lambda p: p.stem)
def test_layout_is_told_by_the_file(path: Path) -> None:
    name = path.stem.split("_")[0]
    assert read(path).meta["layout"] == name
    assert read(path, layout=name).meta["layout"] == name


def test_folder_is_read_with_its_subfolders_in_natural_order(tmp_path: Path) -> None:
    (tmp_path / "set10").mkdir()
    (tmp_path / "set9/inner").mkdir(parents=True)
    demos = ("demo_10", "demo_2", "demo_1")
    robomimic_file(tmp_path / "set10/b.h5", demos=demos)
    robomimic_file(tmp_path / "set9/inner/a.hdf5", demos=demos)
    robomimic_file(tmp_path / "task", demos=("demo_0",))  # LIBERO's script writes files without a suffix
    (tmp_path / "README").write_text("no HDF5")
    (tmp_path / "notes.txt").write_text("no HDF5")
    assert [ref.id for ref in source(tmp_path).episodes()] == [
        "set9/inner/a.hdf5/demo_1",
        "set9/inner/a.hdf5/demo_2",
        "set9/inner/a.hdf5/demo_10",
        "set10/b.h5/demo_1",
        "set10/b.h5/demo_2",
        "set10/b.h5/demo_10",
        "task/demo_0",
    ]


def test_conversion_to_lerobot_and_back_keeps_every_number(tmp_path: Path) -> None:
    report = vd.run(source(LIBERO), (), vd.open_sink(tmp_path / "set", images="png"), workers=2)
    assert report.exit_code == 0
    again = vd.open_source(tmp_path / "set")
    for at, ref in enumerate(again.episodes()):
        there, here = again.read(ref), read(LIBERO, at)
        assert np.array_equal(there.arrays["action"], here.arrays["action"])
        assert np.array_equal(there.arrays["observation.state"], here.arrays["observation.state"])
        assert np.array_equal(pixels(there, AGENT), pixels(here, AGENT))
        assert there.task == here.task


@pytest.mark.parametrize("path", [LIBERO, ROBOMIMIC, MANISKILL], ids=lambda p: p.stem)
def test_robomimic_round_trip_keeps_the_content(path: Path, tmp_path: Path) -> None:
    """Upright images stay upright also under LIBERO's names; what the sink derived does not come back."""
    pytest.importorskip("converters.robomimic.sink")
    vd.run(source(path), (), vd.open_sink(tmp_path / "set", format="robomimic"), workers=1)
    back = source(tmp_path / "set")
    for at, ref in enumerate(back.episodes()):
        episode = back.read(ref)
        assert episode.meta["layout"] == "robomimic"
        assert whole(episode) == whole(read(path, at))


# -- LIBERO ---------------------------------------------------------------------------------------------


def test_libero_pairs_each_action_with_what_was_seen_before_it() -> None:
    """LIBERO issue 54: row j of obs is of after action j, so it goes with action j + 1."""
    episode = read(LIBERO)
    with h5py.File(LIBERO) as file:
        demo = file["data/demo_0"]
        # The file itself proves the shift: the joints that were seen are those of the next row's state.
        assert np.array_equal(demo["obs/joint_states"][:-1], demo["states"][1:, 1:8])
        assert np.array_equal(episode.arrays["action"], demo["actions"][1:])
        for key in ("ee_ori", "ee_pos", "ee_states", "gripper_states", "joint_states"):
            assert np.array_equal(episode.arrays[f"observation.{key}"], demo[f"obs/{key}"][:-1])
        assert np.array_equal(episode.arrays["observation.sim_state"], demo["states"][1:])
        assert np.array_equal(episode.arrays["observation.robot_states"], demo["robot_states"][:-1])
        assert np.array_equal(episode.arrays["next.reward"], demo["rewards"][1:])
        assert np.array_equal(episode.arrays["next.done"], demo["dones"][1:].astype(bool))
        parts = [demo[f"obs/{key}"][:-1] for key in ("ee_pos", "ee_ori", "gripper_states")]
        assert np.array_equal(episode.arrays["observation.state"], np.concatenate(parts, axis=1))
        for camera in (AGENT, HAND):
            stored = demo[f"obs/{camera.rpartition('.')[2]}"][:]
            assert np.array_equal(pixels(episode, camera), stored[:-1, ::-1])
            assert np.array_equal(episode.final[camera].pixels(0), stored[-1, ::-1])
    # What was seen with an action is the state that it was given in, with no shift left.
    assert np.array_equal(
        episode.arrays["observation.joint_states"], episode.arrays["observation.sim_state"][:, 1:8]
    )
    assert set(episode.notes) == {"first_action_dropped", "last_values_have_no_step"}


def test_libero_facts_say_which_rule_told_what() -> None:
    episode = read(LIBERO)
    said = {key: episode.meta[key] for key in episode.meta if key.endswith("_rule")}
    assert said == {
        "observation_time_rule": "joints_in_states",
        "image_orientation_rule": "macros_image_convention",
        "channel_order_rule": "libero_environment",
        "language_rule": "bddl_file_name",
    }
    assert (episode.meta["observation_time"], episode.meta["image_orientation"]) == ("after", "vflip")
    assert (episode.meta["fps"], episode.meta["robot"]) == (20.0, "panda")
    model = episode.meta["episode_metadata"]["demo"]["model_file"]
    assert set(model) == {"sha256", "bytes"}
    assert model["bytes"] == 9000
    assert len(episode.meta["episode_metadata"]["demo"]["init_state"]) == 92


def test_libero_success_is_not_made_up() -> None:
    """demo_2 failed (the oracle's flags are all false), and its last reward is 1 as everywhere in LIBERO."""
    episode = read(LIBERO, 1)
    assert episode.arrays["next.reward"][-1] == 1
    assert "next.success" not in episode.arrays
    assert "solved" not in episode.meta


def test_regenerated_libero_gives_the_same_pairs(tmp_path: Path) -> None:
    made = regenerated(LIBERO, tmp_path / "pick_up_the_bowl_demo.hdf5")
    for at in (0, 1):
        ours, theirs = read(LIBERO, at), read(made, at, fps=20, image_orientation="vflip")
        assert theirs.meta["observation_time"] == "before"
        assert theirs.meta["observation_time_rule"] == "joints_in_states"
        assert theirs.arrays.keys() == ours.arrays.keys()
        for name, array in ours.arrays.items():
            rows = slice(1, None) if name == "observation.sim_state" else slice(None)  # the script's first state
            assert np.array_equal(theirs.arrays[name][rows], array[rows]), name
        for camera in (AGENT, HAND):
            assert np.array_equal(pixels(theirs, camera), pixels(ours, camera))
        assert theirs.task == "pick up the bowl"


def test_regenerated_libero_does_not_say_its_rate(tmp_path: Path) -> None:
    made = regenerated(LIBERO, tmp_path / "pick_up_the_bowl_demo.hdf5")
    with pytest.raises(DataError, match="declare it with --fps") as caught:
        read(made, image_orientation="vflip")
    assert caught.value.code == "E231"


@pytest.mark.parametrize("attributes", [(), ("problem_info",), ("bddl_file_name",), ("macros_image_convention",)])
def test_libero_time_is_told_by_no_attribute(tmp_path: Path, attributes: tuple[str, ...]) -> None:
    """Attributes are copied along by whoever writes the layout from other data; states and joints are evidence."""

    def without_states(file: Any) -> None:
        for name in file["data"]:
            del file["data"][name]["states"]
        for name in set(file["data"].attrs) - set(attributes):
            del file["data"].attrs[name]

    bare = edited(LIBERO, tmp_path / "b_demo.hdf5", without_states)
    with pytest.raises(DataError, match="--observation-time") as caught:
        read(bare, fps=20)
    assert caught.value.code == "E231"
    declared = read(bare, fps=20, observation_time="after", image_orientation="vflip")
    assert declared.meta["observation_time_rule"] == "declared"
    assert np.array_equal(declared.arrays["action"], read(LIBERO).arrays["action"])


def test_libero_time_of_a_still_arm_is_that_of_its_file(tmp_path: Path) -> None:
    def still(file: Any) -> None:
        demo = file["data/demo_0"]
        demo["states"][:] = demo["states"][0]
        demo["obs/joint_states"][:] = demo["obs/joint_states"][0]

    def alone(file: Any) -> None:
        still(file)
        for name in set(file["data"]) - {"demo_0"}:
            del file["data"][name]

    meta = read(edited(LIBERO, tmp_path / "a.hdf5", still)).meta
    assert (meta["observation_time"], meta["observation_time_rule"]) == ("after", "joints_in_states_of_the_file")
    with pytest.raises(DataError, match="--observation-time"):
        read(edited(LIBERO, tmp_path / "b.hdf5", alone))


@pytest.mark.parametrize("counter", [None, "total", "num_demos", "note"])
def test_neither_states_nor_attributes_turn_an_image(tmp_path: Path, counter: str | None) -> None:
    """Files of OpenVLA's script and of those who turn images first differ in their pixels alone."""
    made = regenerated(LIBERO, tmp_path / "pick_up_the_bowl_demo.hdf5")
    if counter is not None:
        with h5py.File(made, "r+") as file:
            file["data"].attrs[counter] = 2
    with pytest.raises(DataError, match=r"OpenVLA's script.*--image-orientation") as caught:
        read(made, fps=20)
    assert caught.value.code == "E231"
    upright = pixels(read(LIBERO), AGENT)
    turned = regenerated(LIBERO, tmp_path / "put_down_the_bowl_demo.hdf5")
    with h5py.File(turned, "r+") as file:
        for name in file["data"]:
            file[f"data/{name}/obs/agentview_rgb"][:] = file[f"data/{name}/obs/agentview_rgb"][:][:, ::-1]
    assert np.array_equal(pixels(read(made, fps=20, image_orientation="vflip"), AGENT), upright)
    assert np.array_equal(pixels(read(turned, fps=20, image_orientation="none"), AGENT), upright)


def test_robomimic_layout_with_cameras_of_libero_asks_for_their_orientation(tmp_path: Path) -> None:
    images = np.zeros((5, 8, 10, 3), dtype=np.uint8)
    path = robomimic_file(tmp_path / "a.h5", obs__agentview_rgb=images, obs__front=None)
    with pytest.raises(DataError, match="--image-orientation"):
        read(path, task="x")
    assert read(path, task="x", image_orientation="none").meta["layout"] == "robomimic"


@pytest.mark.parametrize("lag", [-1, 0, 1])
def test_robomimic_time_and_states_are_told_by_the_joints(tmp_path: Path, lag: int) -> None:
    """Observations of before (0), of after (1), and states of after the action (-1), as pairs of what was
    where.
    """
    rng = np.random.default_rng(0)
    arm = rng.normal(size=(9, 7))
    states = np.concatenate([np.zeros((9, 1)), arm, rng.normal(size=(9, 3))], axis=1)
    seen, there = (arm[1 + max(lag, 0) : 7 + max(lag, 0)], states[1 + max(-lag, 0) : 7 + max(-lag, 0)])
    path = robomimic_file(tmp_path / "a.h5", steps=6, obs__robot0_joint_pos=seen, states=there)
    episode = read(path, task="x")
    assert episode.meta["observation_time"] == ("after" if lag == 1 else "before")
    first = int(lag == 1)
    assert np.array_equal(episode.arrays["observation.robot0_joint_pos"], arm[1 + first : 7])
    name = "next.observation.sim_state" if lag == -1 else "observation.sim_state"
    assert np.array_equal(episode.arrays[name], states[1 + first + max(-lag, 0) : 7 + max(-lag, 0)])


def test_evidence_that_contradicts_is_a_refusal(tmp_path: Path) -> None:
    """The joints say that observations are of after the actions, next_obs that they are of before."""
    rng = np.random.default_rng(0)
    arm = rng.normal(size=(8, 7))
    states = np.concatenate([np.zeros((8, 1)), arm], axis=1)
    path = robomimic_file(
        tmp_path / "a.h5",
        steps=6,
        obs__robot0_joint_pos=arm[1:7],
        states=states[:6],
        obs__eef=None,
        obs__front=None,
        next_obs__robot0_joint_pos=arm[2:8],
    )
    with pytest.raises(DataError, match=r"next_obs.*--observation-time") as caught:
        read(path, task="x")
    assert caught.value.code == "E231"
    assert read(path, task="x", observation_time="before").meta["observation_time_rule"] == "declared"


@pytest.mark.parametrize("time", ["after", "before", "untold"])
def test_nested_states_are_of_before_the_action(tmp_path: Path, time: str) -> None:
    """Isaac Lab records states after each step, with the initial one apart."""
    whole = np.random.default_rng(0).normal(size=(6, 3))
    rows = whole[1:] if time == "after" else whole[:-1]
    changed: dict[str, Any] = {"states__articulation__robot__joint_position": rows}
    if time != "untold":
        changed["initial_state__articulation__robot__joint_position"] = whole[:1]
    episode = read(robomimic_file(tmp_path / "a.h5", **changed), task="x")
    name = "observation.sim_state.articulation.robot.joint_position"
    if time == "untold":
        assert name not in episode.arrays
        assert any(note.startswith("left_out_as_of_unknown_time:states.") for note in episode.notes)
    else:
        assert np.array_equal(episode.arrays[name], whole[:-1])


INSTRUCTIONS = {
    "attribute": lambda demo, data: demo.attrs.__setitem__("task_description", "lift it"),
    "bytes": lambda demo, data: demo.attrs.__setitem__("language_instruction", np.bytes_(b"lift it")),
    "array of one": lambda demo, data: demo.attrs.__setitem__("instruction", np.array(["lift it"], dtype="S20")),
    "list of one": lambda demo, data: demo.attrs.__setitem__("lang", ["lift it"]),
    "of the file": lambda demo, data: data.attrs.__setitem__("language_instruction", "lift it"),
    "ep_meta, a list": lambda demo, data: demo.attrs.__setitem__("ep_meta", json.dumps({"lang": ["lift it"]})),
    "dataset": lambda demo, data: demo.create_dataset("language_instruction", data="lift it"),
    "dataset of one": lambda demo, data: demo.create_dataset("instruction", data=["lift it"]),
    "dataset of each step": lambda demo, data: demo.create_dataset("language_instruction", data=["lift it"] * 5),
    "a list as JSON": lambda demo, data: demo.attrs.__setitem__("language_instruction", '["lift it"]'),
}


@pytest.mark.parametrize("place", INSTRUCTIONS)
def test_instructions_are_found_where_others_write_them(tmp_path: Path, place: str) -> None:
    path = robomimic_file(tmp_path / "a.h5")
    with h5py.File(path, "r+") as file:
        INSTRUCTIONS[place](file["data/demo_0"], file["data"])
    assert read(path).task == "lift it"
    declared = read(path, task="other")
    assert declared.task == "other"
    assert any(note.startswith("declared_instead_of_the_instruction_of:") for note in declared.notes)


@pytest.mark.parametrize("place", ["attribute", "dataset"])
@pytest.mark.parametrize(("texts", "want"), [(["lift it", "raise it"], "lift it"), (["", "raise it"], "raise it")])
def test_texts_that_differ_are_no_instruction_unless_named(
    tmp_path: Path, place: str, texts: list[str], want: str
) -> None:
    path = robomimic_file(tmp_path / "a.h5")
    with h5py.File(path, "r+") as file:
        demo = file["data/demo_0"]
        (demo.attrs if place == "attribute" else demo)["instruction"] = texts
    with pytest.raises(DataError, match=r"--task TEXT; instruction has several wordings ") as caught:
        read(path)
    assert caught.value.code == "E211"
    episode = read(path, instruction="instruction")
    assert (episode.task, "instruction_first_of:instruction=2" in episode.notes) == (want, True)
    assert read(path, task="other").task == "other"


@pytest.mark.parametrize("form", ["rows of unequal length", "padded rows", "fixed texts"])
@pytest.mark.parametrize("encoding", ["JPEG", "PNG"])
def test_image_files_are_cameras_in_every_layout(tmp_path: Path, form: str, encoding: str) -> None:
    rng = np.random.default_rng(0)
    files = []
    for _ in range(5):
        out = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (8, 10, 3), dtype=np.uint8)).save(out, encoding)
        files.append(out.getvalue())
    path = robomimic_file(tmp_path / "a.h5", obs__front=None)
    with h5py.File(path, "r+") as file:
        _store(file, "data/demo_0/obs/front", files, form)
    with pytest.raises(DataError, match="--channel-order"):
        read(path, task="x")
    episode = read(path, task="x", channel_order="rgb")
    assert [bytes(item) for item in episode.frames["observation.images.front"].items] == files  # type: ignore[arg-type]


@pytest.mark.parametrize("form", ["rows of unequal length", "padded rows", "fixed texts"])
@pytest.mark.parametrize(("dtype", "shape"), [(np.uint16, (8, 10)), (np.uint8, (8, 10, 4))])
def test_image_files_of_depth_and_masks_are_arrays_with_every_bit(
    tmp_path: Path, form: str, dtype: Any, shape: tuple[int, ...]
) -> None:
    rng = np.random.default_rng(0)
    want = rng.integers(0, np.iinfo(dtype).max, (5, *shape), dtype=dtype, endpoint=True)
    files = []
    for pixels_ in want:
        out = io.BytesIO()
        Image.fromarray(pixels_).save(out, "PNG")
        files.append(out.getvalue())
    path = robomimic_file(tmp_path / "a.h5", obs__front=None)
    with h5py.File(path, "r+") as file:
        _store(file, "data/demo_0/obs/depth", files, form)
    found = read(path, task="x").arrays["observation.depth"]
    assert found.dtype == dtype
    assert np.array_equal(found.reshape(want.shape), want)


def _store(file: Any, name: str, files: list[bytes], form: str) -> None:
    if form == "rows of unequal length":
        rows = file.create_dataset(name, (len(files),), dtype=h5py.vlen_dtype(np.uint8))
        for i, data in enumerate(files):
            rows[i] = np.frombuffer(data, dtype=np.uint8)
    elif form == "padded rows":
        rows = np.zeros((len(files), max(map(len, files)) + 9), dtype=np.uint8)
        for i, data in enumerate(files):
            rows[i, : len(data)] = np.frombuffer(data, dtype=np.uint8)
        file[name] = rows
    else:
        file[name] = np.array(files, dtype=f"S{max(map(len, files))}")


def test_declared_time_against_the_data_is_noted() -> None:
    episode = read(LIBERO, observation_time="before")
    assert len(episode) == 12
    assert "declared_against_the_data:observation_time_after" in episode.notes
    assert episode.final == {}


@pytest.mark.parametrize(
    ("options", "task", "rule"),
    [
        (
            {},
            "pick up the black bowl between the plate and the ramekin and place it on the plate",
            "bddl_file_name",
        ),
        (
            {"language": "attributes"},
            "pick the akita black bowl between the plate and the ramekin and place it on the plate",
            "problem_info",
        ),
        ({"language": "file_name"}, "libero spatial0", "file_name"),
        ({"task": "do it"}, "do it", "declared"),
    ],
)
def test_libero_has_two_texts_and_the_one_that_is_taken_is_said(
    options: dict[str, Any], task: str, rule: str
) -> None:
    episode = read(LIBERO, **options)
    assert (episode.task, episode.meta["language_rule"]) == (task, rule)


@pytest.mark.parametrize(
    ("name", "task", "scene"),
    [
        (
            "KITCHEN_SCENE10_close_the_top_drawer_of_the_cabinet",
            "close the top drawer of the cabinet",
            "KITCHEN_SCENE10",
        ),
        ("LIVING_ROOM_SCENE2_pick_up_the_butter", "pick up the butter", "LIVING_ROOM_SCENE2"),
        ("open_the_middle_drawer", "open the middle drawer", None),
    ],
)
def test_language_and_scene_of_file_names(tmp_path: Path, name: str, task: str, scene: str | None) -> None:
    episode = read(regenerated(LIBERO, tmp_path / f"{name}_demo.hdf5"), fps=20, image_orientation="vflip")
    assert (episode.task, episode.meta.get("scene")) == (task, scene)


@pytest.mark.parametrize(
    ("option", "turn"), [("none", np.s_[:]), ("vflip", np.s_[:, ::-1]), ("rot180", np.s_[:, ::-1, ::-1])]
)
def test_declared_orientation_is_what_is_done(option: str, turn: Any) -> None:
    with h5py.File(LIBERO) as file:
        stored = file["data/demo_0/obs/agentview_rgb"][:-1]
    episode = read(LIBERO, image_orientation=option)
    assert np.array_equal(pixels(episode, AGENT), stored[turn])
    assert episode.meta["image_orientation_rule"] == "declared"
    convention = source(LIBERO).schema(episode).features[AGENT].convention
    assert convention["orientation"] == {"none": "as_recorded"}.get(option, option)


def test_unknown_image_convention_is_not_guessed(tmp_path: Path) -> None:
    def odd(file: Any) -> None:
        file["data"].attrs["macros_image_convention"] = "vulkan"

    path = edited(LIBERO, tmp_path / "a.hdf5", odd)
    with pytest.raises(DataError, match="--image-orientation") as caught:
        read(path)
    assert caught.value.code == "E231"
    assert read(path, image_orientation="none").meta["image_orientation"] == "none"


def test_opencv_convention_is_upright_already(tmp_path: Path) -> None:
    def opencv(file: Any) -> None:
        file["data"].attrs["macros_image_convention"] = "opencv"

    episode = read(edited(LIBERO, tmp_path / "a.hdf5", opencv))
    with h5py.File(LIBERO) as file:
        assert np.array_equal(pixels(episode, AGENT), file["data/demo_0/obs/agentview_rgb"][:-1])


def test_depth_is_turned_with_its_camera(tmp_path: Path) -> None:
    depth = np.random.default_rng(0).random((12, 32, 32, 1), dtype=np.float32)

    def add(file: Any) -> None:
        file["data/demo_0/obs/agentview_depth"] = depth
        file["data/demo_0/obs/flat_depth"] = depth[..., 0]

    episode = read(edited(LIBERO, tmp_path / "a.hdf5", add))
    assert np.array_equal(episode.arrays["observation.agentview_depth"], depth[:-1, ::-1])
    assert np.array_equal(episode.arrays["observation.flat_depth"], depth[:-1, ::-1, :, 0])


@pytest.mark.skipif(not SHARED.exists(), reason="the whole recordings are not here")
def test_libero_actions_move_the_arm_that_is_seen() -> None:
    """LIBERO's controller itself: the pose it measured before each command is the one that is paired with it."""
    path = SHARED / "libero/libero_spatial0_demo.hdf5"
    oracle = np.load(SHARED / "libero/libero_spatial0_oracle.npz")
    for at in range(4):
        episode = read(path, at)
        action, pose = oracle[f"demo_{at + 1}/action"][5:], oracle[f"demo_{at + 1}/eef_pos"][5:]
        assert np.array_equal(episode.arrays["action"], action[1:])
        ours = episode.arrays["observation.ee_pos"]
        here = np.abs(ours - pose[1:]).max()
        shifted = np.abs(ours[1:] - pose[1:-1]).max()
        assert here < 2e-3 < shifted
        assert len(episode) == len(action) - 1


# -- robomimic ------------------------------------------------------------------------------------------


def test_robomimic_is_read_as_recorded() -> None:
    episode = read(ROBOMIMIC)
    with h5py.File(ROBOMIMIC) as file:
        demo = file["data/demo_1"]
        assert np.array_equal(episode.arrays["action"], demo["actions"][:])
        assert np.array_equal(episode.arrays["next.reward"], demo["rewards"][:])
        assert np.array_equal(episode.arrays["next.done"], demo["dones"][:] == 1)
        assert np.array_equal(episode.arrays["observation.sim_state"], demo["states"][:])
        names = [name for name in demo["obs"] if not name.endswith("image")]
        for key in names:
            assert np.array_equal(episode.arrays[f"observation.{key}"], demo[f"obs/{key}"][:])
        for key in ("agentview_image", "robot0_eye_in_hand_image"):
            camera = f"observation.images.{key}"
            assert np.array_equal(pixels(episode, camera), demo[f"obs/{key}"][:])
            assert np.array_equal(episode.final[camera].pixels(0), demo[f"next_obs/{key}"][-1])
    assert episode.meta["observation_time_rule"] == "joints_in_states"
    assert (episode.meta["env"], episode.meta["fps"], episode.meta["split"]) == ("Lift", 20.0, "train")
    assert episode.notes == ("next_obs_is_obs_one_step_later",)
    names_of = source(ROBOMIMIC).schema(episode).features["observation.state"].names
    assert names_of is not None
    assert names_of[3:7] == tuple(f"robot0_eef_quat_{i}" for i in range(4))


def test_next_obs_makes_no_features_whatever_its_numbers_unless_asked_for(tmp_path: Path) -> None:
    path = robomimic_file(tmp_path / "a.h5", demos=("demo_0", "demo_1"))
    with h5py.File(path, "r+") as file:
        for demo in file["data"].values():
            for key in ("eef", "front"):
                demo[f"next_obs/{key}"] = np.concatenate([demo[f"obs/{key}"][1:], demo[f"obs/{key}"][-1:]])
        file["data/demo_1/next_obs/eef"][2, 1] += 1e-9
        want = [file[f"data/demo_{number}/next_obs/eef"][:] for number in (0, 1)]
    shifted, other = (read(path, at, task="x") for at in (0, 1))
    assert shifted.arrays.keys() == other.arrays.keys() == {"action", "observation.eef"}
    assert shifted.notes == ("next_obs_is_obs_one_step_later",)
    assert other.notes == ("next_obs_is_not_obs_one_step_later", "next_obs_left_out")
    asked = [read(path, at, task="x", next_obs=True) for at in (0, 1)]
    assert all(np.array_equal(a.arrays["next.observation.eef"], b) for a, b in zip(asked, want, strict=True))
    assert all("next_obs_kept_without_images" in episode.notes for episode in asked)
    vd.run(source(path, task="x"), (), vd.open_sink(tmp_path / "set", images="png"), workers=1)
    assert len(vd.open_ledger(tmp_path / "set").records) == 2


@pytest.mark.parametrize("name", ["success", "fail", "terminated", "truncated"])
@pytest.mark.parametrize("shape", [(5,), (5, 1)])
@pytest.mark.parametrize("dtype", ["?", "u1", "i8"])
def test_truth_values_beside_the_actions_are_of_after_them(
    tmp_path: Path, name: str, shape: tuple[int, ...], dtype: str
) -> None:
    values = np.array([0, 0, 1, 0, 1], dtype=dtype)
    episode = read(robomimic_file(tmp_path / "a.h5", **{name: values.reshape(shape)}), task="x")
    assert name not in episode.arrays
    assert episode.arrays[f"next.{name}"].tolist() == [False, False, True, False, True]
    assert episode.arrays[f"next.{name}"].dtype == bool


def test_other_values_of_such_names_keep_them(tmp_path: Path) -> None:
    changed = {"success": np.linspace(0, 1, 5), "fail": np.ones((5, 2), bool), "next/success": np.ones(5, bool)}
    episode = read(robomimic_file(tmp_path / "a.h5", **changed, truncated=np.array([b"no"] * 5)), task="x")
    assert np.array_equal(episode.arrays["success"], np.linspace(0, 1, 5))
    assert episode.arrays["fail"].shape == (5, 2)
    assert episode.arrays["truncated"].tolist() == ["no"] * 5
    assert episode.success_after.all()
    with pytest.raises(DataError, match="data/demo_0/success has values other than true and false"):
        read(robomimic_file(tmp_path / "b.h5", success=np.arange(5)), task="x")


def test_turn_of_the_hand_has_a_convention_of_its_own_as_in_the_state() -> None:
    episode = read(ROBOMIMIC)
    features = source(ROBOMIMIC).schema(episode).features
    alone, state = (features[f"observation.{name}"].convention for name in ("robot0_eef_quat", "state"))
    assert alone["layout"] == {"rotation": [0, 1, 2, 3]}
    assert {alone[key] == state[key] for key in ("kind", "frame", "rotation")} == {True}
    steps = (Resample(conventions=conventions(features), source_fps=20, fps=40),)
    after = curate(episode, steps).episode
    assert after is not None
    name = "observation.robot0_eef_quat"
    assert np.array_equal(after.arrays[name], after.arrays["observation.state"][:, 3:7])
    assert not np.isin(after.arrays[name], episode.arrays[name]).all()


def conventions(features: Any) -> dict[str, Any]:
    return {name: feature.convention for name, feature in features.items()}


def test_mask_selects_demos_and_names_the_split(tmp_path: Path) -> None:
    path = robomimic_file(tmp_path / "a.h5", demos=("demo_0", "demo_1", "demo_2", "demo_10"))
    with h5py.File(path, "r+") as file:
        file["mask/train"] = np.array([b"demo_10", b"demo_2"])
        file["mask/valid"] = np.array([b"demo_0"])
        file["mask/20_percent"] = np.array([b"demo_2"])
    opened = source(path, task="x", mask="train")
    assert [ref.id for ref in opened.episodes()] == ["a.h5/demo_2", "a.h5/demo_10"]
    episode = opened.read(opened.episodes()[0])
    assert (episode.meta["split"], episode.meta["masks"]) == ("train", ["20_percent", "train"])
    assert "split" not in read(path, 1, task="x").meta


def test_empty_mask_lists_nothing_and_an_unknown_one_is_refused() -> None:
    assert source(ROBOMIMIC, mask="valid").episodes() == []
    with pytest.raises(UsageError, match="known are train, valid") as caught:
        source(ROBOMIMIC, mask="trian").episodes()
    assert caught.value.code == "E007"


def test_robocasa_language_is_read(tmp_path: Path) -> None:
    path = robomimic_file(tmp_path / "a.h5")
    with h5py.File(path, "r+") as file:
        file["data/demo_0"].attrs["ep_meta"] = json.dumps({"lang": "open the drawer"})
    episode = read(path)
    assert (episode.task, episode.meta["language_rule"]) == ("open the drawer", "ep_meta")


def test_what_the_layout_does_not_know_is_kept_or_noted(tmp_path: Path) -> None:
    path = robomimic_file(tmp_path / "a.h5", actions_abs=np.ones((5, 7)), camera_matrix=np.eye(3))
    episode = read(path, task="x")
    assert np.array_equal(episode.arrays["actions_abs"], np.ones((5, 7)))
    assert "camera_matrix" not in episode.arrays
    assert set(episode.notes) == {"taken_as_of_the_action:actions_abs", "left_out_as_unknown:camera_matrix"}


# -- ManiSkill ------------------------------------------------------------------------------------------


def test_maniskill_is_read_as_recorded() -> None:
    episode = read(MANISKILL)
    camera = "observation.images.base_camera"
    with h5py.File(MANISKILL) as file:
        traj = file["traj_0"]
        assert np.array_equal(episode.arrays["action"], traj["actions"][:])
        for key in ("success", "terminated", "truncated"):
            assert np.array_equal(episode.arrays[f"next.{key}"], traj[key][:])
        assert np.array_equal(episode.arrays["next.reward"], traj["rewards"][:])
        for key in ("agent/qpos", "agent/qvel", "extra/tcp_pose", "extra/is_grasped"):
            assert np.array_equal(episode.arrays[f"observation.{key.replace('/', '.')}"], traj[f"obs/{key}"][:-1])
        assert np.array_equal(
            episode.arrays["observation.sensor_param.base_camera.cam2world_gl"],
            traj["obs/sensor_param/base_camera/cam2world_gl"][:-1],
        )
        assert np.array_equal(
            episode.arrays["observation.sim_state.actors.cube"], traj["env_states/actors/cube"][:-1]
        )
        stored = traj["obs/sensor_data/base_camera/rgb"][:]
        assert np.array_equal(pixels(episode, camera), stored[:-1])
        assert np.array_equal(episode.final[camera].pixels(0), stored[-1])
        assert np.array_equal(episode.arrays["observation.state"], traj["obs/agent/qpos"][:-1])
    assert episode.arrays["next.success"][-4:].all()
    assert (episode.meta["seed"], episode.meta["env"]) == (0, "PickCube-v1")
    assert episode.meta["episode_metadata"]["demo"]["control_mode"] == "pd_ee_delta_pose"
    assert read(MANISKILL, 1).meta["seed"] == 2


def test_maniskill_depth_stays_whole_numbers(tmp_path: Path) -> None:
    depth = np.random.default_rng(0).integers(-9, 9999, (13, 32, 32, 1), dtype=np.int16)

    def add(file: Any) -> None:
        file["traj_0/obs/sensor_data/base_camera/depth"] = depth

    array = read(edited(MANISKILL, tmp_path / "a.h5", add), fps=20, task="x").arrays[
        "observation.sensor_data.base_camera.depth"
    ]
    assert array.dtype == np.int16
    assert np.array_equal(array, depth[:-1])


def test_maniskill_rate_comes_from_the_json_or_is_declared(tmp_path: Path) -> None:
    path = edited(MANISKILL, tmp_path / "a.h5", lambda file: None)
    with pytest.raises(DataError, match="--fps"):
        read(path, task="x")
    side = path.with_suffix(".json")
    about = json.loads(side.read_text())
    about["env_info"]["env_kwargs"]["sim_config"] = {"control_freq": 25}
    side.write_text(json.dumps(about))
    assert read(path, task="x").meta["fps"] == 25.0
    with pytest.raises(DataError, match="the file says 25") as caught:
        read(path, task="x", fps=20)
    assert caught.value.code == "E221"


def test_maniskill_without_its_json_is_read_and_noted(tmp_path: Path) -> None:
    path = edited(MANISKILL, tmp_path / "a.h5", lambda file: None)
    path.with_suffix(".json").unlink()
    episode = read(path, task="x", fps=20)
    assert "no_json_beside_the_file" in episode.notes
    assert "seed" not in episode.meta


def test_maniskill_with_as_many_observations_as_actions_asks(tmp_path: Path) -> None:
    def cut(file: Any) -> None:
        for name in ("obs", "env_states"):
            paths: list[str] = []
            file[f"traj_0/{name}"].visititems(
                lambda n, o, name=name, paths=paths: (
                    paths.append(f"traj_0/{name}/{n}") if isinstance(o, h5py.Dataset) else None
                )
            )
            for path in paths:
                replace(file, path, file[path][:-1])

    path = edited(MANISKILL, tmp_path / "a.h5", cut)
    with pytest.raises(DataError, match="--observation-time"):
        read(path, fps=20, task="x")
    assert len(read(path, fps=20, task="x", observation_time="after")) == 11


def test_maniskill_state_observations_and_none_at_all(tmp_path: Path) -> None:
    def flat(file: Any) -> None:
        replace(file, "traj_0/obs", np.ones((13, 42), dtype=np.float32))
        del file["traj_2/obs"]

    path = edited(MANISKILL, tmp_path / "a.h5", flat)
    episode = read(path, fps=20, task="x")
    assert np.array_equal(episode.arrays["observation.state"], np.ones((12, 42), dtype=np.float32))
    assert "image_orientation" not in episode.meta
    with pytest.raises(DataError, match="replay_trajectory") as caught:
        read(path, 1, fps=20, task="x")
    assert caught.value.code == "E206"


# -- ALOHA ----------------------------------------------------------------------------------------------


def test_aloha_files_pass_through_untouched() -> None:
    episode = read(ALOHA)
    with h5py.File(ALOHA) as file:
        stored = [bytes(item) for item in file["observations/images/cam_high"][:]]
        assert file["observations/images/cam_high"].dtype.itemsize > max(map(len, stored))  # padded
        assert np.array_equal(episode.arrays["action"], file["action"][:])
        assert np.array_equal(episode.arrays["observation.state"], file["observations/qpos"][:])
    assert list(episode.frames["observation.images.cam_high"].items) == stored
    # The wrist cameras of this file are links to the other one, which is no cycle, and is said.
    assert list(episode.frames["observation.images.cam_left_wrist"].items) == stored
    assert "same_data:images.cam_left_wrist=images.cam_high" in episode.notes


def test_aloha_channels_must_be_declared_and_are_swapped_only_then() -> None:
    with pytest.raises(DataError, match="--channel-order") as caught:
        read(ALOHA, channel_order="auto")
    assert caught.value.code == "E231"
    right, swapped = read(ALOHA), read(ALOHA, channel_order="bgr")
    camera = "observation.images.cam_high"
    decoded = np.asarray(Image.open(io.BytesIO(right.frames[camera].items[0])))  # type: ignore[arg-type]
    assert np.array_equal(right.frames[camera].pixels(0), decoded)
    assert np.array_equal(swapped.frames[camera].pixels(0), decoded[..., ::-1])
    # gym-aloha's cube is red, and nothing in the picture is blue.
    assert [int((image == 255).sum() > 50) for image in np.moveaxis(decoded * (decoded > 250), -1, 0)] == [1, 0, 0]


@pytest.mark.parametrize("form", ["rows of unequal length", "padded rows", "fixed texts"])
def test_aloha_files_are_found_in_every_form(tmp_path: Path, form: str) -> None:
    with h5py.File(ALOHA) as file:
        files = [bytes(item) for item in file["observations/images/cam_high"][:]]
    longest = max(map(len, files)) + 100

    def store(file: Any) -> None:
        del file["observations/images"]
        if form == "rows of unequal length":
            rows = file.create_dataset("observations/images/top", (6,), dtype=h5py.vlen_dtype(np.uint8))
            for i, data in enumerate(files):
                rows[i] = np.frombuffer(data, dtype=np.uint8)
        elif form == "padded rows":
            rows = np.zeros((6, longest), dtype=np.uint8)
            for i, data in enumerate(files):
                rows[i, : len(data)] = np.frombuffer(data, dtype=np.uint8)
            file["observations/images/top"] = rows
            file["compress_len"] = np.array([[len(data) for data in files]])
        else:
            file["observations/images/top"] = np.array(files, dtype=f"S{longest}")

    episode = read(edited(ALOHA, tmp_path / "a.hdf5", store), fps=50, task="x", channel_order="rgb")
    assert list(episode.frames["observation.images.top"].items) == files


def test_aloha_arrays_are_rgb_if_simulated_and_else_asked_for(tmp_path: Path) -> None:
    stored = np.random.default_rng(0).integers(0, 256, (6, 8, 10, 3), dtype=np.uint8)

    def plain(file: Any) -> None:
        del file["observations/images"]
        file["observations/images/top"] = stored

    def real(file: Any) -> None:
        plain(file)
        file.attrs["sim"] = False

    episode = read(edited(ALOHA, tmp_path / "a.hdf5", plain), fps=50, task="x")
    assert np.array_equal(pixels(episode, "observation.images.top"), stored)
    assert episode.meta["channel_order_rule"] == "simulated"
    path = edited(ALOHA, tmp_path / "b.hdf5", real)
    with pytest.raises(DataError, match="--channel-order"):
        read(path, fps=50, task="x")
    swapped = read(path, fps=50, task="x", channel_order="bgr")
    assert np.array_equal(pixels(swapped, "observation.images.top"), stored[..., ::-1])


def test_aloha_instruction_in_the_file_or_beside_it(tmp_path: Path) -> None:
    beside = edited(ALOHA, tmp_path / "episode_1.hdf5", lambda file: None)
    side = tmp_path / "expanded_instruction_gpt-4-turbo.json"
    side.write_text(json.dumps({"instruction": "hand over the cube.", "expanded_instruction": ["a", "b"]}))
    episode = read(beside, fps=50, channel_order="rgb")
    assert (episode.task, episode.meta["language_rule"]) == ("hand over the cube.", "instruction_file")

    def tell(file: Any) -> None:
        file["instruction"] = "put it down"

    episode = read(edited(ALOHA, tmp_path / "episode_2.hdf5", tell), fps=50, channel_order="rgb")
    assert (episode.task, episode.meta["language_rule"]) == ("put it down", "instruction")
    side.write_text(json.dumps({"instruction": ["one", "two"]}))
    with pytest.raises(DataError, match="--task"):
        read(beside, fps=50, channel_order="rgb")


# -- the whole recordings --------------------------------------------------------------------------------


@pytest.mark.skipif(not SHARED.exists(), reason="the whole recordings are not here")
@pytest.mark.parametrize(
    ("folder", "lengths", "options"),
    [
        ("libero", [92, 92, 44, 92], {}),
        ("robosuite", [61, 129, 111], {"task": "lift"}),
        ("maniskill", [74, 74, 50], {"task": "pick", "fps": 20}),
        ("aloha", [132], {"task": "hand over", "fps": 50, "channel_order": "rgb"}),
    ],
)
def test_whole_recordings_are_read(folder: str, lengths: list[int], options: dict[str, Any]) -> None:
    opened = source(SHARED / folder, **options)
    assert [len(opened.read(ref)) for ref in opened.episodes()] == lengths
