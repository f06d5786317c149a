"""Cameras, instructions and numbers that RLDS datasets of others store in another form, with the right values."""

from __future__ import annotations

import io
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import vla_data as vd
from converters.rlds import tfds_json
from tests.rlds_toys import STEPS, numbers, source, write
from vla_data.core import Episode
from vla_data.errors import DataError, UsageError
from vla_data.verification.check import verify

IMAGE = "observation.images.image"


def pixels(height: int = 20, width: int = 24) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).integers(0, 256, (STEPS, height, width, 3), dtype=np.uint8)


def files(form: str) -> list[bytes]:
    out = []
    for image in pixels():
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, form)
        out.append(buffer.getvalue())
    return out


def shown(item: Any) -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(io.BytesIO(item)).convert("RGB"))


def read(folder: Path, **options: Any) -> Episode:
    opened = source(folder, **options)
    return opened.read(opened.episodes()[0])


def test_pixels_as_a_tensor_are_a_camera(tmp_path: Path) -> None:
    for name, encoding in (("a", "none"), ("b", "zlib"), ("c", "bytes")):
        feature = tfds_json.tensor((20, 24, 3), "uint8", encoding=encoding)
        raw: Any = pixels().astype(np.int64)
        if encoding != "none":
            raw = [
                image.tobytes() if encoding == "bytes" else zlib.compress(image.tobytes()) for image in pixels()
            ]
        folder = write(tmp_path / name, {"observation": {"image": feature}}, {"observation/image": raw})
        episode = read(folder)
        frames = episode.frames[IMAGE]
        assert all(np.array_equal(frames.pixels(t), pixels()[t]) for t in range(STEPS))
        assert f"camera_from_numbers:{IMAGE}" in episode.notes
        assert "observation.image" not in episode.arrays


@pytest.mark.parametrize("shape", [(8, 8, 3), (20, 24, 1), (20, 3)])
def test_small_or_other_numbers_are_no_camera(tmp_path: Path, shape: tuple[int, ...]) -> None:
    values = np.arange(STEPS * int(np.prod(shape))) % 256
    folder = write(tmp_path, {"observation": {"x": tfds_json.tensor(shape, "uint8")}}, {"observation/x": values})
    episode = read(folder)
    assert not episode.frames
    assert np.array_equal(episode.arrays["observation.x"].reshape(-1), values)


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_image_files_in_a_column_of_texts_are_a_camera(tmp_path: Path, form: str) -> None:
    folder = write(
        tmp_path, {"observation": {"image": tfds_json.tensor((), "string")}}, {"observation/image": files(form)}
    )
    episode = read(folder)
    assert list(episode.frames) == [IMAGE]
    assert list(episode.frames[IMAGE].items) == files(form)
    assert np.array_equal(episode.frames[IMAGE].pixels(1), shown(files(form)[1]))
    assert f"camera_from_texts:{IMAGE}" in episode.notes


def test_two_features_of_one_name_are_refused(tmp_path: Path) -> None:
    step = {
        "observation": {"image": tfds_json.tensor((), "string"), "images": {"image": tfds_json.scalar("float32")}}
    }
    values = {"observation/image": files("PNG"), "observation/images/image": numbers(1)}
    with pytest.raises(DataError, match="--leave-out steps/observation/image"):
        read(write(tmp_path, step, values))


# -- instructions ------------------------------------------------------------------------------------------

TEXT = "push the red ★"


def test_an_instruction_of_character_codes_is_read_where_it_is_named(tmp_path: Path) -> None:
    codes = np.zeros((STEPS, 64), np.int64)
    codes[:, : len(TEXT.encode())] = list(TEXT.encode())
    step = {"observation": {"instruction": tfds_json.tensor((64,), "int32")}}
    folder = write(tmp_path, step, {"observation/instruction": codes})
    with pytest.raises(UsageError, match=r"steps/observation/instruction \(codes of characters\)"):
        read(folder, task=None)
    episode = read(folder, task=None, instruction="observation/instruction")
    assert episode.task == TEXT
    assert "task" not in episode.arrays


def test_numbers_that_are_no_text_are_refused_as_an_instruction(tmp_path: Path) -> None:
    step = {"observation": {"instruction": tfds_json.tensor((64,), "int32")}}
    folder = write(tmp_path, step, {"observation/instruction": np.full((STEPS, 64), 300)})
    with pytest.raises(DataError, match="no bytes of a text"):
        read(folder, instruction="observation/instruction")


@pytest.mark.parametrize(
    ("texts", "want"),
    [
        ([b"a", b"b", b"c"] * STEPS, ["a"] * STEPS),
        ([b"", b"b", b"c"] * STEPS, ["b"] * STEPS),
        ([b"a", b"x", b"x"] * 2 + [b"b", b"y", b"y"] * 2, ["a", "a", "b", "b"]),
    ],
)
def test_of_several_wordings_in_a_step_the_first_counts(tmp_path: Path, texts: Any, want: list[str]) -> None:
    step = {"language_instruction": tfds_json.tensor((3,), "string")}
    episode = read(write(tmp_path, step, {"language_instruction": texts}), task=None)
    assert [str(t) for t in episode.arrays.get("task", [episode.task] * STEPS)] == want
    assert "instruction_first_of:steps/language_instruction=3" in episode.notes


@pytest.mark.parametrize(("texts", "want"), [([b"one"], "one"), ([b"", b"two", b"three"], "two")])
def test_wordings_of_the_episode(tmp_path: Path, texts: list[bytes], want: str) -> None:
    listed = {**tfds_json.steps(tfds_json.text())}
    whole = {"episode_metadata": tfds_json.folder({"language_instruction": listed})}
    values = {"episode_metadata/language_instruction": texts}
    assert read(write(tmp_path, {}, values, whole=whole), task=None).task == want


@pytest.mark.parametrize(
    ("texts", "options", "want"),
    [
        (["one", "two", "three"], {}, "one"),
        (["", "two", "three"], {}, "two"),
        (["", " ", "three"], {}, "three"),
        (["", "", ""], {"task": "given"}, "given"),
        (["", "two", ""], {"task": "given"}, "two"),
        (["", "two", "three"], {"instruction": "language_instruction_3"}, "three"),
    ],
)
def test_of_numbered_wordings_the_first_that_says_something_counts(
    tmp_path: Path, texts: list[str], options: Any, want: str
) -> None:
    """DROID has three of each episode, of which any may be empty."""
    names = [f"language_instruction{end}" for end in ("", "_2", "_3")]
    values = {name: [text.encode()] * STEPS for name, text in zip(names, texts, strict=True)}
    folder = write(tmp_path, {name: tfds_json.text() for name in names}, values)
    assert read(folder, **{"task": None, **options}).task == want


@pytest.mark.parametrize("text", ["two\nlines", "tab\there", "x" * 3000])
def test_instructions_may_have_lines_and_length(tmp_path: Path, text: str) -> None:
    step = {"language_instruction": tfds_json.text()}
    assert read(write(tmp_path, step, {"language_instruction": [text.encode()] * STEPS})).task == text


# -- numbers -----------------------------------------------------------------------------------------------


def test_float16_becomes_float32_with_every_value(tmp_path: Path) -> None:
    values = np.asarray([[0.1, -65504, 6e-8]] * STEPS, np.float16)
    folder = write(tmp_path, {"action": tfds_json.tensor((3,), "float16")}, {"action": values.astype(np.float32)})
    episode = read(folder)
    assert episode.arrays["action"].dtype == np.float32
    assert np.array_equal(episode.arrays["action"], values.astype(np.float32))
    assert "float16_as_float32:action" in episode.notes


def test_a_shard_that_is_not_there_says_what_to_do(tmp_path: Path) -> None:
    folder = write(tmp_path, {"action": tfds_json.tensor((3,), "float32")}, {"action": numbers(3)})
    next(folder.glob("*.tfrecord-*")).unlink()
    with pytest.raises(UsageError, match=r"1 shard is not there, as toy-train.*fetch them"):
        read(folder)


def test_pixels_that_are_an_array_of_ours_stay_one(tmp_path: Path) -> None:
    from tests.hdf5_files import robomimic_file
    from tests.hdf5_files import source as hdf5
    from tests.lerobot_sets import Here

    mask = np.random.default_rng(1).integers(0, 256, (5, 20, 24, 3), dtype=np.uint8)
    path = robomimic_file(tmp_path / "a.h5", obs__front=None, mask=mask)
    vd.run(
        hdf5(path, task="x"), (), vd.open_sink(tmp_path / "out", format="rlds", step_fields="rlds"), engine=Here()
    )
    assert not verify(tmp_path / "out", deep=True).damages
    found = vd.open_source(tmp_path / "out")
    episode = found.read(found.episodes()[0])
    assert np.array_equal(episode.arrays["mask"], mask)
    assert not episode.frames


@pytest.mark.parametrize("leave_out", [(), ("steps/a/b",)])
def test_a_name_with_a_slash_is_stored_as_a_folders_is(tmp_path: Path, leave_out: Any) -> None:
    folder = write(tmp_path, {"a/b": tfds_json.tensor((2,), "float32")}, {"a/b": numbers(2).reshape(-1)})
    found = read(folder, leave_out=leave_out).arrays
    assert ("a.b" in found) == (not leave_out)
    assert leave_out or np.array_equal(found["a.b"], numbers(2))


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_pictures_that_are_no_camera_are_said_to_stay_numbers(tmp_path: Path, channels: int) -> None:
    pixels = np.full((STEPS, 4, 6, channels), np.arange(STEPS)[:, None, None, None] * 20, np.uint8)
    files = []
    for image in pixels:
        out = io.BytesIO()
        Image.fromarray(image[..., 0] if channels == 1 else image).save(out, "PNG")
        files.append(out.getvalue())
    step = {"observation": {"image": tfds_json.image(4, 6, "png", channels=channels)}}
    episode = read(write(tmp_path, step, {"observation/image": files}))
    note = "pictures_kept_as_numbers:observation.image"
    assert (note in episode.notes, "observation.images.image" in episode.frames) == (channels != 3, channels == 3)
    assert channels == 3 or np.array_equal(episode.arrays["observation.image"], pixels)


@pytest.mark.parametrize("where", ["steps/language_instruction", "steps/observation/natural_language_instruction"])
def test_the_instruction_is_no_feature_that_is_left_out(tmp_path: Path, where: str) -> None:
    """It stays, whatever features are wanted, so nothing says that it went."""
    text = tfds_json.text("")
    name = where.removeprefix("steps/")
    below = {"observation": {name.rpartition("/")[2]: text}} if "/" in name else {name: text}
    step = {
        "action": tfds_json.tensor((7,), "float32", ""),
        "extra": tfds_json.tensor((2,), "float32", ""),
        **below,
    }
    values = {"action": numbers(7), "extra": numbers(2), name: [b"open the drawer"] * STEPS}
    folder = write(tmp_path, step, values)
    opened = vd.open_source(folder, fps=5)
    vd.run(opened, [vd.steps.SelectFeatures(keep=("action",))], vd.open_sink(tmp_path / "out"), workers=1)
    found = vd.open_source(tmp_path / "out")
    assert found.read(found.episodes()[0]).task == "open the drawer"
    notes = vd.open_ledger(tmp_path / "out").records[0].notes
    assert [note for note in notes if note.startswith("left_out:")] == ["left_out:extra"]
