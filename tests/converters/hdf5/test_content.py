"""Rows 44 to 69 of the fault model for HDF5 demos that parse; properties of alignment and of reading images."""

from __future__ import annotations

import json
import shlex
import shutil
import tempfile
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vla_data as vd
from converters.hdf5.files import make_ref, place
from tests.hdf5_files import ALOHA, LIBERO, MANISKILL, edited, pixels, read, replace, robomimic_file, source
from vla_data.errors import DataError, UsageError
from vla_data.media import images

h5py = pytest.importorskip("h5py")

T = 5
FRONT = "observation.images.front"


def code_of(path: Path, **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        read(path, **{"task": "x", **options})
    assert "\n" not in caught.value.message
    return caught.value.code


def actions(value: float, dtype: str = "f8") -> Any:
    array = np.zeros((T, 7), dtype=dtype)
    array[3, 6] = value
    return array


@pytest.mark.parametrize(
    ("changed", "code", "says"),
    [
        ({"actions": actions(np.nan)}, "E201", "[3][6] is nan"),
        ({"actions": actions(np.inf)}, "E201", "[3][6] is inf"),
        ({"actions": actions(1e30)}, "E202", "[3][6] is 1e+30, beyond 100"),
        ({"actions": np.zeros(T)}, "E203", "(5,)"),
        ({"actions": np.zeros((T, 2, 7))}, "E203", "(5, 2, 7)"),
        ({"actions": np.zeros((T, 0))}, "E203", "(5, 0)"),
        ({"actions": np.array([[b"a"] * 7] * T)}, "E208", "dtype object"),
        ({"actions": np.zeros((T, 7), dtype=bool)}, "E208", "bool"),
        ({"actions": np.zeros((0, 7))}, "E207", "no steps"),
        ({"actions": None}, "E206", "data/demo_0/actions is missing"),
        ({"obs__eef": None, "obs__front": None}, "E206", "data/demo_0/obs is missing"),
        ({"obs__eef": np.zeros((T - 1, 3))}, "E204", "4 rows for 5 actions"),
        ({"obs__eef": np.zeros((T + 1, 3))}, "E204", "obs/front has 5 rows, other observations 6"),
        ({"obs__eef": np.zeros((T + 2, 3))}, "E204", "7 rows"),
        ({"obs__eef": np.float64(1.0)}, "E204", "no rows"),
        ({"rewards": np.zeros(T + 1)}, "E204", "6 rows"),
        ({"dones": np.full(T, 2)}, "E205", "true and false"),
        ({"dones": np.full(T, np.nan)}, "E205", "true and false"),
        ({"dones": np.zeros((T, 2))}, "E205", "true and false"),
        ({"obs__front": np.zeros((T, 0, 4, 3), dtype=np.uint8)}, "E203", "(0, 4, 3)"),
        ({"obs__front": np.zeros((T, 1, 4097, 3), dtype=np.uint8)}, "E107", "4,097x1"),
        ({"obs__note": np.array([b"\xff"] * T)}, "E212", "not UTF-8"),
    ],
    ids=str,
)
def test_what_can_not_be_used_is_quarantined(tmp_path: Path, changed: Any, code: str, says: str) -> None:
    path = robomimic_file(tmp_path / "a.h5", **changed)
    assert code_of(path) == code
    with pytest.raises(DataError) as caught:
        read(path, task="x")
    assert says in caught.value.message


@pytest.mark.parametrize("dtype", ["f8", "f4", "i8", "i2", "u1", ">f8", ">i4"])
def test_numbers_keep_value_and_type_and_get_native_order(tmp_path: Path, dtype: str) -> None:
    values = np.arange(T * 7, dtype=dtype).reshape(T, 7)
    episode = read(robomimic_file(tmp_path / "a.h5", actions=values, obs__eef=values), task="x")
    for name in ("action", "observation.eef"):
        assert episode.arrays[name].dtype == np.dtype(dtype).newbyteorder("=")
        assert np.array_equal(episode.arrays[name], values)


def test_float16_is_read_as_float32_which_holds_every_value_of_it(tmp_path: Path) -> None:
    every = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    every = every[np.isfinite(every)].reshape(-1, 8)
    action = np.tile(np.float16(0.1), (len(every), 7))
    path = robomimic_file(tmp_path / "a.h5", steps=len(every), actions=action, obs__eef=every)
    episode = read(path, task="x")
    for name, want in (("action", action), ("observation.eef", every)):
        assert episode.arrays[name].dtype == np.float32
        assert np.array_equal(episode.arrays[name].astype(np.float16).view(np.uint16), want.view(np.uint16))
        assert np.array_equal(episode.arrays[name].astype(np.float64), want.astype(np.float64))
    assert episode.notes == ("float16_as_float32:action", "float16_as_float32:observation.eef")


def test_rows_of_no_numbers_are_left_out_and_named(tmp_path: Path) -> None:
    nothing = np.zeros((T, 0))
    episode = read(robomimic_file(tmp_path / "a.h5", obs__e=nothing, more=nothing), task="x")
    assert not {"observation.e", "more"} & {*episode.arrays}
    assert episode.notes == ("left_out_as_empty:observation.e", "left_out_as_empty:more")


def test_action_limit_is_declared(tmp_path: Path) -> None:
    path = robomimic_file(tmp_path / "a.h5", actions=actions(150.0))
    assert code_of(path) == "E202"
    assert read(path, task="x", action_limit=200).arrays["action"][3, 6] == 150


def test_count_of_samples_must_fit(tmp_path: Path) -> None:
    def lie(file: Any) -> None:
        file["data/demo_0"].attrs["num_samples"] = 6

    path = edited(robomimic_file(tmp_path / "a.h5"), tmp_path / "b.h5", lie)
    assert code_of(path) == "E204"


def test_last_observation_of_one_more_is_the_end(tmp_path: Path) -> None:
    more = np.arange((T + 1) * 3.0).reshape(T + 1, 3)
    front = np.random.default_rng(1).integers(0, 256, (T + 1, 4, 6, 3), dtype=np.uint8)
    episode = read(robomimic_file(tmp_path / "a.h5", obs__eef=more, obs__front=front), task="x")
    assert np.array_equal(episode.arrays["observation.eef"], more[:-1])
    assert np.array_equal(episode.final[FRONT].pixels(0), front[-1])
    assert episode.notes == ("last_values_have_no_step",)


def test_one_step_is_an_episode_unless_its_view_is_missing(tmp_path: Path) -> None:
    path = robomimic_file(tmp_path / "a.h5", steps=1)
    assert len(read(path, task="x")) == 1
    assert code_of(path, observation_time="after") == "E207"


@pytest.mark.parametrize(
    "shape", [(T, 8, 10, 1), (T, 8, 10, 4), (T, 3, 8, 10), (T, 8, 10)], ids=["gray", "rgba", "chw", "flat"]
)
def test_other_pictures_than_rgb_stay_arrays(tmp_path: Path, shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    episode = read(robomimic_file(tmp_path / "a.h5", obs__mask=values), task="x")
    assert np.array_equal(episode.arrays["observation.mask"], values)
    assert set(episode.frames) == {FRONT}


def test_observations_that_are_not_finite_are_kept_and_noted(tmp_path: Path) -> None:
    values = np.array([[np.nan, np.inf, 0.0]] * T)
    episode = read(robomimic_file(tmp_path / "a.h5", obs__eef=values), task="x")
    assert np.array_equal(episode.arrays["observation.eef"], values, equal_nan=True)
    assert "not_finite:observation.eef" in episode.notes


def test_text_of_every_step_is_kept(tmp_path: Path) -> None:
    words = ["", "grasp", "把杯子", "🤖", "lift"]
    path = robomimic_file(tmp_path / "a.h5")
    with h5py.File(path, "r+") as file:
        file["data/demo_0/obs/phase"] = words
        file["data/demo_0/obs/fixed"] = np.array([w.encode() for w in words])
    opened = source(path, task="x")
    episode = opened.read(opened.episodes()[0])
    assert episode.arrays["observation.phase"].tolist() == words
    assert episode.arrays["observation.fixed"].tolist() == words
    assert opened.schema(episode).features["observation.phase"].dtype == "string"


@pytest.mark.parametrize(
    ("lang", "code"),
    [("", "E211"), ("  ", "E211"), ("a\x00b", "E212"), ("\ud800", "E212"), ("x" * 65_537, "E212")],
)
def test_instructions_that_can_not_be_stored(tmp_path: Path, lang: str, code: str) -> None:
    path = robomimic_file(tmp_path / "a.h5")
    with h5py.File(path, "r+") as file:
        file["data/demo_0"].attrs["ep_meta"] = json.dumps({"lang": lang})
    with pytest.raises(DataError) as caught:
        read(path)
    assert caught.value.code == code


@pytest.mark.parametrize("lang", ["把杯子放下", "ارفع الكوب", "e\u0301 🤖", "In: do it\u2028Out:", "x" * 1024])
def test_instructions_are_stored_exactly(tmp_path: Path, lang: str) -> None:
    path = robomimic_file(tmp_path / "a.h5")
    with h5py.File(path, "r+") as file:
        file["data/demo_0"].attrs["ep_meta"] = json.dumps({"lang": lang})
    assert read(path).task == lang


def test_no_instruction_names_the_option(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--task") as caught:
        read(robomimic_file(tmp_path / "a.h5"))
    assert caught.value.code == "E211"
    assert read(robomimic_file(tmp_path / "lift_the_cube.h5"), language="file_name").task == "lift the cube"


@pytest.mark.parametrize("text", ['{"lang": 1, "lang": 2}', "[" * 100, "nothing"])
def test_json_of_attributes_is_strict(tmp_path: Path, text: str) -> None:
    path = robomimic_file(tmp_path / "a.h5")
    with h5py.File(path, "r+") as file:
        file["data/demo_0"].attrs["ep_meta"] = text
    assert code_of(path) == "E141"


@pytest.mark.parametrize("odd", ["NaN", "Infinity", "-Infinity"])
def test_numbers_that_json_lacks_are_texts_of_nobody(tmp_path: Path, odd: str) -> None:
    """Python writes them. What is needed is taken from beside them, and they are no instruction and no rate."""
    path = robomimic_file(tmp_path / "a.h5")
    with h5py.File(path, "r+") as file:
        file["data/demo_0"].attrs["ep_meta"] = f'{{"lang": "lift it", "seed": 3, "height": {odd}}}'
    episode = read(path)
    assert (episode.task, episode.meta["seed"]) == ("lift it", 3)
    path = robomimic_file(tmp_path / "b.h5")
    with h5py.File(path, "r+") as file:
        file["data/demo_0"].attrs["ep_meta"] = f'{{"lang": {odd}}}'
        file["data"].attrs["env_args"] = f'{{"env_name": "Toy", "env_kwargs": {{"control_freq": {odd}}}}}'
    with pytest.raises(DataError) as caught:
        read(path)
    assert caught.value.code == "E231"
    assert caught.value.message.endswith("--fps NUMBER --task TEXT")


ODD_EXTRAS: dict[str, Any] = {
    "compound": np.zeros(T, dtype=[("x", "f8")]),
    "complex": np.zeros((T, 3), dtype=np.complex128),
    "opaque": np.zeros(T, dtype="V16"),
    "odd name": np.zeros(T),
}


@pytest.mark.parametrize("place", ["", "obs/"])
@pytest.mark.parametrize("kind", ODD_EXTRAS)
def test_what_no_feature_can_be_is_left_out_or_can_be(tmp_path: Path, kind: str, place: str) -> None:
    """Beside the observations it is left out with a note; of observations the message names what does so."""
    path = robomimic_file(tmp_path / "a.h5")
    name = f"{place}{'od d' if kind == 'odd name' else 'odd'}"
    with h5py.File(path, "r+") as file:
        file[f"data/demo_0/{name}"] = ODD_EXTRAS[kind]
    if not place:
        assert any(note.startswith("left_out_as_no_") for note in read(path, task="x").notes)
        return
    with pytest.raises(DataError) as caught:
        read(path, task="x")
    assert caught.value.message.endswith(f"; --leave-out {shlex.quote(name)} leaves it out")
    episode = read(path, task="x", leave_out=(name,))
    assert f"left_out:{name}" in episode.notes
    assert "observation.eef" in episode.arrays


def test_leave_out_takes_groups_and_says_what_is_not_there(tmp_path: Path) -> None:
    path = robomimic_file(tmp_path / "a.h5", obs__more__a=np.zeros(T), obs__more__b=np.zeros(T + 7))
    episode = read(path, task="x", leave_out=("obs/more", "obs/nothing"))
    assert not any("more" in name for name in episode.arrays)
    assert {"left_out:obs/more", "leave_out_names_nothing:obs/nothing"} <= set(episode.notes)


def test_what_is_missing_is_said_all_at_once(tmp_path: Path) -> None:
    images = np.zeros((T, 8, 10, 3), dtype=np.uint8)
    path = robomimic_file(tmp_path / "a.h5", obs__agentview_rgb=images)
    with h5py.File(path, "r+") as file:
        del file["data"].attrs["env_args"]
    with pytest.raises(DataError) as caught:
        read(path)
    assert caught.value.code == "E231"
    flags = "--observation-time before|after --image-orientation none|vflip|rot180 --fps NUMBER --task TEXT"
    assert caught.value.message.endswith(flags)


def test_file_left_open_by_a_recorder_names_the_remedy(tmp_path: Path) -> None:
    path = robomimic_file(tmp_path / "a.h5")
    with h5py.File(tmp_path / "b.h5", "w", libver="latest") as file, h5py.File(path) as old:
        old.copy("data", file)
        file.swmr_mode = True
        file.flush()
        shutil.copy(tmp_path / "b.h5", tmp_path / "c.h5")  # as a crash would leave it
    opened = source(tmp_path / "c.h5", task="x")
    with pytest.raises(DataError, match="h5clear -s"):
        opened.read(opened.episodes()[0])


def test_pointers_links_and_litter_are_named(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    robomimic_file(tmp_path / "out/b.h5")
    robomimic_file(tmp_path / "in/a.h5")
    (tmp_path / "in/more").symlink_to(tmp_path / "out")
    (tmp_path / "in/._a.h5").write_bytes(b"\x00\x05\x16\x07" + bytes(100))
    (tmp_path / "in/c.h5").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    opened = source(tmp_path / "in", task="x")
    said = {}
    for ref in opened.episodes():
        try:
            opened.read(ref)
        except DataError as error:
            said[ref.id] = (error.code, error.ignore)
    assert said == {"._a.h5": ("E206", True), "c.h5": ("E105", False), "more": ("E131", True)}


def test_unknown_layout_says_what_is_there(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["joint_action/vector"] = np.zeros((3, 7))
        file["endpose"] = np.zeros((3, 7))
    opened = source(tmp_path)
    with pytest.raises(DataError, match="endpose, joint_action") as caught:
        opened.read(opened.episodes()[0])
    assert caught.value.ignore


def test_declared_rate_must_not_contradict_the_file(tmp_path: Path) -> None:
    path = robomimic_file(tmp_path / "a.h5")
    assert read(path, task="x", fps=10).meta["fps"] == 10
    assert code_of(path, fps=20) == "E221"


def jpeg(height: int = 8, width: int = 8, shade: int = 0) -> bytes:
    return images.encode(np.full((height, width, 3), shade, dtype=np.uint8), "jpeg")


@pytest.mark.parametrize(
    ("files", "code"),
    [
        ([jpeg()] * 5 + [jpeg(16)], "E203"),
        ([jpeg()] * 5 + [jpeg()[:-30]], "E109"),
        ([jpeg()] * 5 + [b""], "E109"),
        ([jpeg()] * 5 + [b"GIF89a"], "E109"),
        ([jpeg()] * 5, "E204"),
    ],
    ids=["two sizes", "cut", "empty", "gif", "one less"],
)
def test_damaged_files_of_images(tmp_path: Path, files: list[bytes], code: str) -> None:
    def store(file: Any) -> None:
        del file["observations/images"]
        file["observations/images/top"] = np.array(files)

    path = edited(ALOHA, tmp_path / "a.hdf5", store)
    assert code_of(path, fps=50, channel_order="rgb") == code


def test_png_files_are_read_and_turned(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (8, 10, 3), dtype=np.uint8)

    def store(file: Any) -> None:
        del file["observations/images"]
        file["observations/images/top"] = np.array([images.encode(picture, "png")] * 6)

    path = edited(ALOHA, tmp_path / "a.hdf5", store)
    options: dict[str, Any] = {"fps": 50, "task": "x"}
    top = "observation.images.top"
    assert np.array_equal(read(path, **options, channel_order="rgb").frames[top].pixels(0), picture)
    for turn, how in (("vflip", np.s_[::-1]), ("rot180", np.s_[::-1, ::-1])):
        episode = read(path, **options, channel_order="bgr", image_orientation=turn)
        assert np.array_equal(episode.frames[top].pixels(0), picture[how][..., ::-1])


def test_feature_of_the_file_can_not_take_the_place_of_the_action(tmp_path: Path) -> None:
    episode = read(robomimic_file(tmp_path / "a.h5", action=np.full((T, 7), 9.0)), task="x")
    assert (episode.arrays["action"] != 9).all()
    assert episode.notes == ("left_out_as_unknown:action",)


def test_mixed_robots_are_refused_as_one_dataset(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    robomimic_file(tmp_path / "in/a.h5")
    robomimic_file(tmp_path / "in/b.h5", actions=np.zeros((T, 14)))
    with pytest.raises(UsageError) as caught:
        vd.run(source(tmp_path / "in", task="x"), (), vd.open_sink(tmp_path / "set"), workers=1)
    assert caught.value.code == "E005"


def test_long_texts_of_many_steps_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import converters.hdf5.episode

    path = robomimic_file(tmp_path / "a.h5")
    with h5py.File(path, "r+") as file:
        file["data/demo_0/obs/phase"] = ["a", "b", "c", "d", "e" * 100]
    monkeypatch.setattr(converters.hdf5.episode, "MAX_ARRAYS", 1_999)
    assert code_of(path) == "E107"
    monkeypatch.setattr(converters.hdf5.episode, "MAX_ARRAYS", 2_000)
    assert len(read(path, task="x")) == T


def test_episode_too_large_for_memory_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import converters.hdf5.episode

    monkeypatch.setattr(converters.hdf5.episode, "MAX_ARRAYS", 300)
    assert code_of(robomimic_file(tmp_path / "a.h5")) == "E107"


def test_images_take_the_memory_of_a_block_and_not_of_the_episode(tmp_path: Path) -> None:
    frames = np.zeros((600, 240, 320, 3), dtype=np.uint8)
    frames[:, 0, 0, 0] = np.arange(600) % 256
    path = robomimic_file(tmp_path / "a.h5", steps=600, obs__front=None)
    with h5py.File(path, "r+") as file:
        file.create_dataset("data/demo_0/obs/front", data=frames, chunks=(16, 60, 80, 3), compression=1)
    size = frames.nbytes
    del frames
    tracemalloc.start()
    try:
        episode = read(path, task="x")
        found = [int(episode.frames[FRONT].pixels(i)[0, 0, 0]) for i in range(600)]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found == [i % 256 for i in range(600)]
    assert peak < 20 << 20 < size // 6


# -- properties ------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    steps=st.integers(1, 12),
    chunk=st.one_of(st.none(), st.integers(1, 12)),
    block=st.integers(1, 2_000),
    order=st.data(),
)
def test_frames_are_the_rows_however_they_are_stored_and_asked_for(
    steps: int, chunk: int | None, block: int, order: st.DataObject
) -> None:
    import converters.hdf5.images as subject

    stored = np.random.default_rng(steps).integers(0, 256, (steps, 4, 6, 3), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(subject, "BLOCK", block)
        patch.setattr(subject, "MAX_BLOCK", block)
        path = Path(folder) / "a.h5"
        with h5py.File(path, "w") as file:
            file.create_dataset("x", data=stored, chunks=(min(chunk, steps), 2, 6, 3) if chunk else None)
        from vla_data.safety.hdf5 import File

        frames = subject.stored_frames(File(path, root=path.parent).top.table("x"), "none", "rgb")
        index = order.draw(st.lists(st.integers(0, steps - 1), max_size=8))
        taken = frames.take(index)
        for position, row in enumerate(index):
            image = taken.pixels(position)
            assert np.array_equal(image, stored[row])
            image[:] = 0  # it is the caller's own
            assert np.array_equal(taken.pixels(position), stored[row])


@settings(max_examples=60, deadline=None)
@given(data=st.data(), steps=st.integers(3, 12), after=st.booleans())
def test_time_is_told_from_the_joints_and_pairs_are_the_same(data: st.DataObject, steps: int, after: bool) -> None:
    """The same motion recorded before or after each action gives the same pairs of view and action."""
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    arm = rng.normal(size=(steps + 1, 7))
    views = rng.integers(0, 256, (steps + 1, 4, 6, 3), dtype=np.uint8)
    states = np.concatenate([np.arange(steps + 1.0)[:, None], arm, rng.normal(size=(steps + 1, 5))], axis=1)
    commands = rng.uniform(-1, 1, (steps, 7))
    with tempfile.TemporaryDirectory() as folder:
        rows = slice(1, None) if after else slice(0, -1)
        path = Path(folder) / "push_it_demo.hdf5"
        with h5py.File(path, "w") as file:
            file["data/demo_0/actions"] = commands
            file["data/demo_0/states"] = states[:-1]
            file["data/demo_0/obs/joint_states"] = arm[rows]
            file["data/demo_0/obs/agentview_rgb"] = views[rows]
        episode = source(path, fps=20, image_orientation="vflip").read(make_ref(path.name, "demo_0", 0))
        assert (episode.meta["observation_time"], episode.meta["observation_time_rule"]) == (
            "after" if after else "before",
            "joints_in_states",
        )
        first = int(after)
        assert len(episode) == episode.meta["source_length"] == steps - first
        assert np.array_equal(episode.arrays["action"], commands[first:])
        assert np.array_equal(episode.arrays["observation.joint_states"], arm[first:-1])
        assert np.array_equal(episode.arrays["observation.sim_state"], states[first:-1])
        assert np.array_equal(pixels(episode, "observation.images.agentview_rgb"), views[first:-1, ::-1])
        assert len(episode.final) == first


@settings(max_examples=40, deadline=None)
@given(
    names=st.lists(
        st.text(st.characters(exclude_characters="/\0", codec="utf-8"), min_size=1), unique=True, min_size=1
    )
)
def test_ids_of_any_demo_names_are_plain_and_distinct(names: list[str]) -> None:
    refs = [make_ref("a.h5", name, 0) for name in names]
    assert len({ref.id for ref in refs}) == len(names)
    assert all(ref.id.isascii() and ref.id.isprintable() for ref in refs)
    assert [place(ref) for ref in refs] == [("a.h5", name) for name in names]


@settings(max_examples=60, deadline=None)
@given(order=st.permutations(["demo_0", "demo_1", "demo_2", "demo_9", "demo_10", "demo_11"]))
def test_demos_are_in_natural_order_whatever_the_files(order: list[str]) -> None:
    from converters.hdf5.listing import demos
    from vla_data.safety.hdf5 import File

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.h5"
        with h5py.File(path, "w", track_order=True) as file:
            for name in order:
                file.create_group(f"data/{name}")
        found = demos(File(path, root=path.parent).top, "robomimic", None)
    assert found == ["demo_0", "demo_1", "demo_2", "demo_9", "demo_10", "demo_11"]


def test_maniskill_success_must_be_true_or_false(tmp_path: Path) -> None:
    def lie(file: Any) -> None:
        replace(file, "traj_0/success", np.full(12, 2, dtype=np.int32))

    assert code_of(edited(MANISKILL, tmp_path / "a.h5", lie), fps=20) == "E205"


def test_curation_keeps_the_ledger_of_shifted_demos_whole(tmp_path: Path) -> None:
    """The ledger counts pairs, from 0; that the first action had no view is a note."""
    report = vd.run(source(LIBERO), (), vd.open_sink(tmp_path / "set", images="png"), workers=1)
    for record, rows in zip(report.ledger.records, (12, 10, 10), strict=True):
        assert (record.length, record.frames("kept")) == (rows - 1, rows - 1)
        assert "first_action_dropped" in record.notes
