"""Rows 44 to 63 and 67 of the fault model: rollouts that parse, and what is wrong or only odd about them."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from converters.rollouts.source import PpoRolloutSource
from tests.rollouts import CAMERA, rollout, save
from vla_data import BaseSource, Episode, EpisodeRef, Schema
from vla_data.core.curate import curate
from vla_data.errors import CODES, DataError, UsageError
from vla_data.jobs.part import examine
from vla_data.jobs.run import run
from vla_data.steps import recipes

T = 4
Change = Callable[[dict[str, Any]], object]

rng = np.random.default_rng(5)
PIXELS: NDArray[np.uint8] = rng.integers(0, 256, (T + 1, 8, 10, 3), dtype=np.uint8)
ALL_FIXES: frozenset[Any] = frozenset({"gray", "rgba", "chw"})


def read(folder: Path, data: object, name: str = "e0.npz", **options: Any) -> Episode:
    source = PpoRolloutSource(root=folder, **options)
    save(folder, name, data)
    return source.read(EpisodeRef(name, 0))


def healthy(**changed: Any) -> dict[str, Any]:
    return {**rollout(T, images="arrays", size=(8, 10)), "image": PIXELS, **changed}


def without(key: str) -> dict[str, Any]:
    return {name: value for name, value in healthy().items() if name != key}


def with_action(t: int, d: int, value: Any, dtype: type = np.float32) -> dict[str, Any]:
    data = healthy()
    data["action"] = data["action"].astype(dtype)
    data["action"][t, d] = value
    return data


def flags(*values: Any) -> dict[str, Any]:
    return healthy(info=[{"success": value} for value in values])


def pil(mode: str) -> list[Image.Image]:
    return [Image.fromarray(pixels).convert(mode) for pixels in PIXELS]


def encoded(kind: str, mode: str = "RGB") -> list[bytes]:
    out = []
    for image in pil(mode):
        buffer = io.BytesIO()
        image.save(buffer, kind)
        out.append(buffer.getvalue())
    return out


def odd_one(item: Any) -> list[Any]:
    return [*PIXELS[:2], item, *PIXELS[3:]]


def bad_code_points() -> NDArray[Any]:
    """Text of three characters beyond Unicode: NumPy makes it of any bytes, Python can't hold it."""
    return np.frombuffer(b"\xff" * 12, dtype="<U3").copy()


BAD: Mapping[str, tuple[str, Any]] = {
    # 44, 45
    "nan_action": ("E201", with_action(2, 3, np.nan)),
    "nan_action_float64": ("E201", with_action(0, 6, np.nan, np.float64)),
    "nan_in_a_list": ("E201", healthy(action=[[0.0] * 6 + [float("nan")]] * T)),
    "inf_action": ("E201", with_action(1, 0, np.inf)),
    "minus_inf_action": ("E201", with_action(3, 6, -np.inf)),
    "action_1e30": ("E202", with_action(1, 1, 1e30)),
    "action_beyond_float32": ("E202", with_action(1, 1, 1e300, np.float64)),
    "action_just_over_the_limit": ("E202", with_action(1, 1, -100.01)),
    "nan_state": ("E201", healthy(state=np.full((T, 8), np.nan))),
    # 46, 47
    "text_action": ("E208", healthy(action=[["a"] * 7] * T)),
    "bool_action": ("E208", healthy(action=np.ones((T, 7), np.bool_))),
    "huge_int_action": ("E208", healthy(action=[[2**100] + [0] * 6] * T)),
    "six_columns": ("E203", healthy(action=np.zeros((T, 6), np.float32))),
    "eight_columns": ("E203", healthy(action=np.zeros((T, 8), np.float32))),
    "flat_action": ("E203", healthy(action=np.zeros(T * 7, np.float32))),
    "batched_action": ("E203", healthy(action=np.zeros((1, T, 7), np.float32))),
    "ragged_action": ("E203", healthy(action=[[0.0] * 7, [0.0] * 6] * 2)),
    "action_is_none": ("E203", healthy(action=None)),
    "action_rows_are_none": ("E203", healthy(action=[None] * T)),
    "state_of_one_axis": ("E204", healthy(state=np.zeros(8))),
    # 49
    "one_image_less": ("E204", healthy(image=PIXELS[: T - 1])),
    "two_images_more": ("E204", healthy(image=np.concatenate((PIXELS, PIXELS[:1])))),
    "no_images": ("E204", healthy(image=[])),
    "one_info_less": ("E204", flags(*[True] * (T - 1))),
    "one_info_more": ("E204", flags(*[True] * (T + 1))),
    "no_infos": ("E204", healthy(info=[])),
    "info_columns_too_short": ("E204", healthy(info={"success": np.ones(T - 1, np.bool_)})),
    "state_two_longer": ("E204", healthy(state=np.zeros((T + 2, 8)))),
    # 52
    "success_text_False": ("E205", flags(False, "False", True, True)),
    "success_nan": ("E205", flags(False, float("nan"), True, True)),
    "success_two": ("E205", flags(0, 2, 1, 1)),
    "success_minus_one": ("E205", flags(0, -1, 1, 1)),
    "success_none": ("E205", flags(None, False, True, True)),
    "success_array_of_two": ("E205", flags(*[np.array([True, False])] * T)),
    "success_empty_array": ("E205", flags(*[np.array([], np.bool_)] * T)),
    "success_dictionary": ("E205", flags(*[{"success": True}] * T)),
    "success_half": ("E205", flags(0, 0.5, 1, 1)),
    "success_text_with_newline": ("E205", flags("\n\x1b[2J", True, True, True)),
    # 53
    "success_missing_in_one": ("E206", healthy(info=[{"success": True}] * 3 + [{"reward": 1}])),
    "info_is_not_a_dictionary": ("E206", healthy(info=[1, 2, 3, 4])),
    "info_is_none": ("E206", healthy(info=None)),
    "info_is_text": ("E206", healthy(info="abcd")),
    "info_missing": ("E206", without("info")),
    "image_missing": ("E206", without("image")),
    "action_missing": ("E206", without("action")),
    "a_list_of_steps": ("E206", [healthy()]),
    "a_text": ("E206", "no rollout"),
    # 56
    "no_steps_and_no_image": ("E207", healthy(action=np.zeros((0, 7)), image=PIXELS[:0], info=[])),
    "no_steps_and_one_image": ("E207", healthy(action=np.zeros((0, 7)), image=PIXELS[:1], info=[])),
    "no_steps_as_a_list": ("E207", healthy(action=[], image=[], info=[])),
    # 57, 58
    "instruction_missing": ("E211", without("instruction")),
    "instruction_empty": ("E211", healthy(instruction="")),
    "instruction_blank": ("E211", healthy(instruction=" \u3000 ")),
    "instruction_none": ("E211", healthy(instruction=None)),
    "instruction_empty_array": ("E211", healthy(instruction=np.array([""]))),
    "instruction_list_of_two": ("E212", healthy(instruction=["pick", "place"])),
    "instruction_array_of_two": ("E212", healthy(instruction=np.array(["pick", "place"]))),
    "instruction_list_of_none": ("E212", healthy(instruction=[])),
    "instruction_number": ("E212", healthy(instruction=5)),
    # 59
    "instruction_not_utf8": ("E212", healthy(instruction=b"\xff\xfe")),
    "instruction_lone_surrogate": ("E212", healthy(instruction="a\ud800b")),
    "instruction_nul": ("E212", healthy(instruction="a\x00b")),
    "instruction_code_points_beyond_unicode": ("E104", healthy(instruction=bad_code_points()[:1])),
    # 61
    "instruction_escape": ("E212", healthy(instruction="\x1b]0;title\x07pick")),
    "instruction_c1_control": ("E212", healthy(instruction="pick\x9bplace")),
    "instruction_one_megabyte": ("E212", healthy(instruction="x" * 2**20)),
    # 62
    "one_image_of_another_size": ("E203", healthy(image=odd_one(PIXELS[2][:, :9]))),
    "gray_pil": ("E203", healthy(image=pil("L"))),
    "gray_array": ("E203", healthy(image=PIXELS[..., 0])),
    "gray_array_with_a_channel": ("E203", healthy(image=PIXELS[..., :1])),
    "gray_jpeg": ("E203", healthy(image=encoded("JPEG", "L"))),
    "gray_png": ("E203", healthy(image=encoded("PNG", "L"))),
    "one_gray_image": ("E203", healthy(image=odd_one(PIXELS[2][..., 0]))),
    "rgba_pil": ("E203", healthy(image=pil("RGBA"))),
    "rgba_array": ("E203", healthy(image=np.concatenate((PIXELS, PIXELS[..., :1]), axis=3))),
    "rgba_png": ("E203", healthy(image=encoded("PNG", "RGBA"))),
    "gray_alpha_png": ("E203", healthy(image=encoded("PNG", "LA"))),
    "cmyk_jpeg": ("E203", healthy(image=encoded("JPEG", "CMYK"))),
    "chw_array": ("E203", healthy(image=PIXELS.transpose(0, 3, 1, 2))),
    "two_channels": ("E203", healthy(image=PIXELS[..., :2])),
    "float_images": ("E203", healthy(image=PIXELS.astype(np.float32))),
    "unit_float_images": ("E203", healthy(image=PIXELS.astype(np.float32) / 255)),
    "int64_images": ("E203", healthy(image=PIXELS.astype(np.int64))),
    "images_of_no_pixels": ("E203", healthy(image=PIXELS[:, :0])),
    "one_picture_for_all": ("E203", healthy(image=PIXELS[0])),
    "images_in_an_object_array_of_texts": ("E203", healthy(image=np.array(["a"] * T, dtype=object))),
    "images_are_a_text": ("E203", healthy(image="image.png")),
    "image_of_a_side_over_4096": ("E107", healthy(image=[np.zeros((1, 4097, 3), np.uint8)] * T)),
    # 63
    "jpeg_cut": ("E109", healthy(image=[item[:-40] for item in encoded("JPEG")])),
    "png_cut": ("E109", healthy(image=[item[:-4] for item in encoded("PNG")])),
    "bmp_bytes": ("E109", healthy(image=encoded("BMP"))),
    "empty_bytes": ("E109", healthy(image=[b""] * (T + 1))),
    "jpeg_body_replaced": ("E109", healthy(image=[i[:60] + b"\xff\xd9" for i in encoded("JPEG")])),
    "mark_of_two_values": ("E203", healthy(is_image_encode=np.array([True, False]))),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_episode_is_quarantined_with_its_code_and_one_line(case: str, tmp_path: Path) -> None:
    code, data = BAD[case]
    save(tmp_path, "e0.npz", data)
    record = examine(PpoRolloutSource(root=tmp_path), (), EpisodeRef("e0.npz", 0))
    assert (record.status, record.reason) == ("failed", code), record.message
    assert record.message
    assert record.message.isprintable()
    assert len(record.line().splitlines()) == 1
    assert record.source_sha256 is not None
    assert code in CODES


@pytest.mark.parametrize("mode", ["1", "LA", "CMYK", "I;16", "F", "HSV", "YCbCr"])
def test_pil_images_of_other_modes_are_quarantined(mode: str, tmp_path: Path) -> None:
    image = [Image.new(mode, (10, 8)) for _ in range(T)]
    with pytest.raises(DataError) as caught:
        read(tmp_path, healthy(image=image), allow_images=ALL_FIXES)
    assert caught.value.code in ("E203", "E104")


@pytest.mark.parametrize(
    ("case", "place"),
    [
        ("nan_action", "action[2][3]"),
        ("action_1e30", "action[1][1]"),
        ("success_text_False", "info[1].success"),
        ("success_missing_in_one", "info[3].success"),
        ("one_image_of_another_size", "image[2]"),
        ("one_gray_image", "image[2]"),
        ("instruction_nul", " 1"),
        ("one_info_less", "3 infos for 4 actions"),
    ],
)
def test_message_names_the_place(case: str, place: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        read(tmp_path, BAD[case][1])
    assert place in caught.value.message


@pytest.mark.parametrize("case", ["nan_action", "one_image_less", "success_nan", "instruction_empty", "gray_pil"])
def test_quarantined_frames_are_counted_where_the_length_is_known(case: str, tmp_path: Path) -> None:
    save(tmp_path, "e0.npz", BAD[case][1])
    record = examine(PpoRolloutSource(root=tmp_path), (), EpisodeRef("e0.npz", 0))
    assert (record.length, record.frames("failed")) == (T, T)


def test_integers_that_float32_cannot_hold_are_quarantined(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        read(tmp_path, healthy(action=np.full((T, 7), 2**24 + 1)), action_limit=1e9)
    assert caught.value.code == "E208"


def plain_npz(folder: Path, name: str = "e0.npz", **arrays: Any) -> None:
    base = {
        "image": PIXELS,
        "action": healthy()["action"],
        "instruction": np.asarray("pick"),
        "info.success": np.ones(T, np.bool_),
    }
    np.savez(folder / name, **{**base, **arrays})


PLAIN: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "sizes_that_do_not_add_up": ("E204", {"image": np.zeros(9, np.uint8), "image_sizes": np.array([4, 4])}),
    "negative_sizes": ("E203", {"image": np.zeros(9, np.uint8), "image_sizes": np.array([10, -1])}),
    "sizes_of_arrays": ("E203", {"image_sizes": np.array([5])}),
    "sizes_of_one_number": ("E203", {"image": np.asarray(5), "image_sizes": np.array([1])}),
    "sizes_as_floats": ("E203", {"image": np.zeros(9, np.uint8), "image_sizes": np.array([9.0])}),
    "encoded_without_sizes": ("E203", {"image": np.zeros(9, np.uint8)}),
    "info_of_one_number": ("E206", {"info": np.asarray(5)}),
    "success_column_of_text": ("E205", {"info.success": np.array(["True"] * T)}),
    "action_of_text": ("E203", {"action": np.asarray("abc")}),
    "instruction_beyond_unicode": ("E104", {"instruction": bad_code_points()[0:1].reshape(())}),
}


@pytest.mark.parametrize("case", PLAIN)
def test_bad_plain_rollout_is_quarantined_with_its_code(case: str, tmp_path: Path) -> None:
    code, arrays = PLAIN[case]
    plain_npz(tmp_path, **arrays)
    with pytest.raises(DataError) as caught:
        PpoRolloutSource(root=tmp_path).read(EpisodeRef("e0.npz", 0))
    assert caught.value.code == code


def test_sizes_whose_sum_overflows_are_quarantined(tmp_path: Path) -> None:
    sizes = np.array([2**62] * 4 + [9], dtype=np.int64)
    plain_npz(tmp_path, image=np.zeros(9, np.uint8), image_sizes=sizes)
    with pytest.raises(DataError):
        PpoRolloutSource(root=tmp_path).read(EpisodeRef("e0.npz", 0))


@pytest.mark.parametrize("damaged", [False, True])
def test_message_about_a_member_with_control_characters_is_one_printable_line(
    damaged: bool, tmp_path: Path
) -> None:
    plain_npz(tmp_path)
    path = tmp_path / "e0.npz"
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("info.\x1b]2;title\x07\nx.npy", b"no array")
    if damaged:
        path.write_bytes(path.read_bytes().replace(b"no array", b"no arrax"))
    record = examine(PpoRolloutSource(root=tmp_path), (), EpisodeRef("e0.npz", 0))
    assert record.status in ("failed", "ignored")
    assert record.line().isprintable()


def test_one_dictionary_for_all_steps_is_not_taken_for_the_success_of_each(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        read(tmp_path, healthy(info={"success": True}))


# -- cut and damaged files (rows 77 to 79) ---------------------------------------------------------------


@pytest.mark.parametrize("name", ["e0.npz", "e0.npy"])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.9, 0.99])
def test_cut_file_is_quarantined_with_one_line(name: str, share: float, tmp_path: Path) -> None:
    path = save(tmp_path, name, healthy())
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    record = examine(PpoRolloutSource(root=tmp_path), (), EpisodeRef(name, 0))
    assert record.status == "failed"
    assert record.reason in ("E102", "E105") if share < 0.01 else record.reason == "E105"
    assert record.message.isprintable()


def test_file_that_ends_inside_the_archives_last_record_is_called_truncated(tmp_path: Path) -> None:
    path = save(tmp_path, "e0.npz", healthy())
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(DataError) as caught:
        PpoRolloutSource(root=tmp_path).read(EpisodeRef("e0.npz", 0))
    assert caught.value.code == "E105"


def test_flipped_bit_under_a_checksum_is_quarantined(tmp_path: Path) -> None:
    path = save(tmp_path, "e0.npz", healthy())
    whole = bytearray(path.read_bytes())
    for at in range(len(whole) // 2, len(whole) // 2 + 40):
        damaged = bytearray(whole)
        damaged[at] ^= 1 << (at % 8)
        path.write_bytes(damaged)
        with pytest.raises(DataError):
            PpoRolloutSource(root=tmp_path).read(EpisodeRef("e0.npz", 0))


def test_flipped_bit_in_a_sealed_npy_is_quarantined(tmp_path: Path) -> None:
    from vla_data.files.sums import write_seal

    path = save(tmp_path, "e0.npy", healthy())
    write_seal(tmp_path, ["e0.npy"])
    whole = bytearray(path.read_bytes())
    whole[whole.find(PIXELS[0].tobytes()[:16])] ^= 1  # a pixel: nothing but the seal can notice
    path.write_bytes(whole)
    with pytest.raises(DataError) as caught:
        PpoRolloutSource(root=tmp_path).read(EpisodeRef("e0.npy", 0))
    assert caught.value.code == "E132"


# -- variants that all mean the same ---------------------------------------------------------------------


def object_array(items: list[Any]) -> NDArray[Any]:
    out = np.empty(len(items), dtype=object)
    out[:] = items
    return out


def same() -> dict[str, Any]:
    return healthy(info=[{"success": t >= 2, "elapsed_steps": t + 1} for t in range(T)])


def infos(wrap: Callable[[Any], Any]) -> list[dict[str, Any]]:
    return [{key: wrap(value) for key, value in info.items()} for info in same()["info"]]


VARIANTS: Mapping[str, dict[str, Any]] = {
    "images_as_pil": {"image": pil("RGB")},
    "images_as_a_list_of_arrays": {"image": list(PIXELS)},
    "images_as_an_object_array": {"image": object_array(list(PIXELS))},
    "images_in_fortran_order": {"image": np.asfortranarray(PIXELS)},
    "images_as_png_bytes": {"image": encoded("PNG")},
    "images_as_png_arrays": {"image": [np.frombuffer(item, np.uint8) for item in encoded("PNG")]},
    "images_without_the_last": {"image": PIXELS[:T]},
    "pil_images_without_the_last": {"image": pil("RGB")[:T]},
    "action_as_lists": {"action": same()["action"].tolist()},
    "action_as_a_list_of_arrays": {"action": list(same()["action"])},
    "action_as_tuples": {"action": tuple(tuple(row) for row in same()["action"].tolist())},
    "action_as_float64": {"action": same()["action"].astype(np.float64)},
    "action_big_endian": {"action": same()["action"].astype(">f4")},
    "action_in_fortran_order": {"action": np.asfortranarray(same()["action"])},
    "action_as_an_object_array": {"action": object_array(list(same()["action"]))},
    "info_as_an_object_array": {"info": object_array(same()["info"])},
    "info_as_a_tuple": {"info": tuple(same()["info"])},
    "info_of_numpy_scalars": {
        "info": [
            {"success": np.bool_(i["success"]), "elapsed_steps": np.int32(i["elapsed_steps"])}
            for i in same()["info"]
        ]
    },
    "info_of_arrays_of_one": {"info": object_array(infos(lambda value: np.asarray([value])))},
    "info_of_arrays_of_none": {"info": infos(np.asarray)},
    "info_of_zeros_and_ones": {"info": infos(int)},
    "info_as_columns": {
        "info": {"success": np.arange(T) >= 2, "elapsed_steps": np.arange(1, T + 1)},
    },
    "info_as_columns_of_one": {
        "info": {"success": (np.arange(T) >= 2)[:, None], "elapsed_steps": np.arange(1, T + 1)[:, None]},
    },
    "instruction_as_an_array_of_one": {"instruction": np.array(["put carrot on plate"])},
    "instruction_as_an_object_array": {"instruction": object_array(["put carrot on plate"])},
    "instruction_as_an_array_of_none": {"instruction": np.array("put carrot on plate")},
    "instruction_as_a_list": {"instruction": ["put carrot on plate"]},
    "instruction_as_a_tuple": {"instruction": ("put carrot on plate",)},
    "instruction_as_bytes": {"instruction": b"put carrot on plate"},
    "instruction_as_an_array_of_bytes": {"instruction": np.array([b"put carrot on plate"])},
    "instruction_as_numpy_text": {"instruction": np.str_("put carrot on plate")},
    "another_key": {"is_image_encode_not": 1, "reward": [0.0] * T, "extra": {"a": [1, 2]}},
    "the_planner's_mark": {"is_image_encode": False},
}


def assert_same(episode: Episode, want: Episode) -> None:
    assert episode.task == want.task
    assert type(episode.task) is str
    assert episode.arrays["action"].dtype == np.float32
    for name in ("action", "next.success", "info.success"):
        np.testing.assert_array_equal(episode.arrays[name], want.arrays[name])
    for t in range(T):
        np.testing.assert_array_equal(episode.frames[CAMERA].pixels(t), want.frames[CAMERA].pixels(t))


@pytest.mark.parametrize("name", ["e0.npz", "e0.npy"])
@pytest.mark.parametrize("case", VARIANTS)
def test_variant_reads_like_the_plain_form(case: str, name: str, tmp_path: Path) -> None:
    want = read(tmp_path / "plain", same(), name)
    got = read(tmp_path / "variant", {**same(), **VARIANTS[case]}, name)
    assert_same(got, want)


def test_compressed_npz_reads_like_a_stored_one(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "e1.npz", object_array([same()]).reshape(()))
    got = PpoRolloutSource(root=tmp_path).read(EpisodeRef("e1.npz", 0))
    assert_same(got, read(tmp_path, same()))


def test_plain_arrays_read_like_a_pickled_dictionary(tmp_path: Path) -> None:
    plain_npz(
        tmp_path,
        "e1.npz",
        instruction=np.asarray(same()["instruction"]),
        action=same()["action"],
        **{"info.success": np.arange(T) >= 2, "info.elapsed_steps": np.arange(1, T + 1)},
    )
    assert_same(PpoRolloutSource(root=tmp_path).read(EpisodeRef("e1.npz", 0)), read(tmp_path, same()))


@pytest.mark.parametrize("wrap", [bytes, lambda item: np.frombuffer(item, np.uint8)], ids=["bytes", "arrays"])
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("mark", [{}, {"is_image_encode": True}], ids=["unmarked", "is_image_encode"])
def test_encoded_images_pass_through_untouched(
    kind: str, wrap: Callable[[bytes], Any], mark: dict[str, Any], tmp_path: Path
) -> None:
    items = encoded(kind)
    episode = read(tmp_path, healthy(image=[wrap(item) for item in items], **mark))
    assert [bytes(item) for item in episode.frames[CAMERA].items] == items[:T]
    assert [bytes(item) for item in episode.final[CAMERA].items] == items[T:]
    assert list(episode.frames[CAMERA].encoded(kind.lower())) == items[:T]  # type: ignore[arg-type]


def test_jpeg_that_the_planner_wrapped_into_a_gray_picture_is_recovered(tmp_path: Path) -> None:
    items = encoded("JPEG")[:T]
    wrapped = [Image.fromarray(np.frombuffer(item, np.uint8)[None]).convert("RGB") for item in items]
    episode = read(tmp_path, healthy(image=wrapped, is_image_encode=True))
    assert [bytes(item) for item in episode.frames[CAMERA].items] == items
    assert "encoded_image_recovered" in episode.notes


# -- fixes that are recorded -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "note"),
    [
        ({}, "last_image_dropped"),
        ({"action": np.zeros((T, 7), np.float64)}, "action_float64_to_float32"),
        ({"action": np.full((T, 7), 0.1, np.float64)}, "action_float64_to_float32_rounded"),
        ({"action": np.zeros((T, 7), np.int64)}, "action_int64_to_float32"),
        ({"action": np.zeros((T, 7), np.float16)}, "action_float16_to_float32"),
        ({"action": [[0] * 7] * T}, "action_int64_to_float32"),
        ({"action": [[0.5] * 7] * T}, "action_float64_to_float32"),
    ],
)
def test_fix_is_recorded(changed: dict[str, Any], note: str, tmp_path: Path) -> None:
    assert note in read(tmp_path, healthy(**changed)).notes


def test_nothing_is_recorded_where_nothing_was_fixed(tmp_path: Path) -> None:
    assert read(tmp_path, healthy(image=PIXELS[:T])).notes == ()


GRAY = np.repeat(PIXELS[..., :1], 3, axis=3)
ALLOWED: Mapping[str, tuple[str, Any, NDArray[np.uint8]]] = {
    "gray_list": ("gray", list(PIXELS[..., 0]), GRAY),
    "gray_array_with_a_channel": ("gray", PIXELS[..., :1], GRAY),
    "gray_pil": ("gray", [Image.fromarray(item[..., 0]) for item in PIXELS], GRAY),
    "rgba_array": ("rgba", np.concatenate((PIXELS, PIXELS[..., :1]), axis=3), PIXELS),
    "rgba_pil": ("rgba", pil("RGBA"), PIXELS),
    "rgba_png": ("rgba", encoded("PNG", "RGBA"), PIXELS),
    "chw_array": ("chw", PIXELS.transpose(0, 3, 1, 2), PIXELS),
    "chw_list": ("chw", list(PIXELS.transpose(0, 3, 1, 2)), PIXELS),
}


@pytest.mark.parametrize("case", ALLOWED)
def test_image_fix_that_was_allowed_is_applied_and_recorded(case: str, tmp_path: Path) -> None:
    fix, image, want = ALLOWED[case]
    episode = read(tmp_path, healthy(image=image), allow_images=frozenset({fix}))
    for t in range(T):
        np.testing.assert_array_equal(episode.frames[CAMERA].pixels(t), want[t])
    assert f"image_{fix}_to_rgb" in episode.notes


@pytest.mark.parametrize("case", ALLOWED)
def test_image_fix_that_was_not_allowed_is_not_applied(case: str, tmp_path: Path) -> None:
    fix, image, _ = ALLOWED[case]
    with pytest.raises(DataError) as caught:
        read(tmp_path, healthy(image=image), allow_images=ALL_FIXES - {fix})
    assert caught.value.code == "E203"
    assert f"--allow-images {fix}" in caught.value.message


@pytest.mark.parametrize("image", [pil("P"), encoded("PNG", "P")], ids=["pil", "png"])
def test_palette_images_are_refused_or_their_conversion_is_recorded(image: Any, tmp_path: Path) -> None:
    save(tmp_path, "e0.npz", healthy(image=image))
    record = examine(PpoRolloutSource(root=tmp_path), (), EpisodeRef("e0.npz", 0))
    assert record.reason == "E203" or any("palette" in note for note in record.notes)


def test_cmyk_jpeg_is_not_taken_for_rgba(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        read(tmp_path, healthy(image=encoded("JPEG", "CMYK")), allow_images=ALL_FIXES)


def test_images_must_have_the_size_that_was_asked_for(tmp_path: Path) -> None:
    assert len(read(tmp_path, healthy(), image_size=(8, 10))) == T
    with pytest.raises(DataError) as caught:
        read(tmp_path, healthy(), image_size=(480, 640))
    assert caught.value.code == "E203"


@pytest.mark.parametrize(
    "text",
    [
        "pick \N{CARROT} \N{BENTO BOX}",
        "把胡萝卜放在盘子上",
        "ضع الجزرة على الطبق",
        "cafe\u0301 and caf\u00e9",
        "\u202epick\u202c",
        " pick ",
        "In: What action should the robot take to pick?  Out: none",
        "x" * 1024,
        "=cmd|' /C calc'!A0",
        "<script>alert(1)</script>",
    ],
)
def test_text_is_kept_exactly(text: str, tmp_path: Path) -> None:
    assert read(tmp_path, healthy(instruction=text)).task == text
    assert read(tmp_path, healthy(instruction=text.encode())).task == text


@pytest.mark.parametrize("text", ["", "  "])
def test_episode_without_a_text_is_kept_on_request(text: str, tmp_path: Path) -> None:
    episode = read(tmp_path, healthy(instruction=text), allow_empty_instruction=True)
    assert not episode.task.strip()


def test_one_step_is_an_episode(tmp_path: Path) -> None:
    data = healthy(action=np.zeros((1, 7), np.float32), image=PIXELS[:2], info=[{"success": True}])
    assert len(read(tmp_path, data)) == 1


def test_state_of_one_row_more_is_cut_with_the_images(tmp_path: Path) -> None:
    state = np.arange((T + 1) * 8, dtype=np.float32).reshape(T + 1, 8)
    np.testing.assert_array_equal(read(tmp_path, healthy(state=state)).arrays["observation.state"], state[:T])


def test_never_successful_episode_is_rejected_by_the_rule_and_counted(tmp_path: Path) -> None:
    episode = read(tmp_path, flags(*[False] * T))
    out = curate(episode, recipes.ppo_sft())
    assert (out.episode, out.reason, out.success) == (None, "no_success", False)
    assert [(s.start, s.stop, s.bucket) for s in out.spans] == [(0, T, "rejected")]


def test_never_successful_episode_is_kept_when_no_success_is_asked_for(tmp_path: Path) -> None:
    out = curate(read(tmp_path, flags(*[False] * T)), recipes.ppo_sft(min_success_steps=0))
    assert out.episode is not None
    assert len(out.episode) == T


def test_flags_are_pruned_with_the_frames(tmp_path: Path) -> None:
    data = healthy()
    data["action"][1, :6] = 0
    data["info"] = [{"success": flag} for flag in (False, True, False, True)]
    out = curate(read(tmp_path, data), recipes.ppo_sft(min_success_steps=0)).episode
    assert out is not None
    assert out.index.tolist() == [0, 2, 3]
    assert out.success_after.tolist() == [False, False, True]
    np.testing.assert_array_equal(out.frames[CAMERA].pixels(1), PIXELS[2])


class Twice(BaseSource):
    """A source that lists one episode twice."""

    def episodes(self) -> list[EpisodeRef]:
        return [EpisodeRef("a.npz", 1), EpisodeRef("b.npz", 1), EpisodeRef("a.npz", 1)]

    def schema(self) -> Schema:
        return Schema({}, fps=5)

    def fingerprint(self, ref: EpisodeRef) -> str:
        raise AssertionError(f"{ref.id} is opened")

    def read(self, ref: EpisodeRef) -> Episode:
        raise AssertionError(f"{ref.id} is read")


def test_duplicate_ids_are_refused_before_any_work(tmp_path: Path) -> None:
    from vla_data import open_sink

    with pytest.raises(UsageError) as caught:
        run(Twice(), (), open_sink(tmp_path / "out"))
    assert (caught.value.code, caught.value.exit_code) == ("E004", 2)
    assert "a.npz" in caught.value.message
    assert list(tmp_path.iterdir()) == []


# -- info timing -----------------------------------------------------------------------------------------


def timed(
    counter: list[Any] | None, images: int = T, *, mark: bool = False, first: bool = False
) -> dict[str, Any]:
    rows: list[dict[str, Any]] = [{"success": t == 2 or first} for t in range(T)]
    if counter is not None:
        rows = [{**row, "elapsed_steps": n} for row, n in zip(rows, counter, strict=True)]
    return healthy(info=rows, image=PIXELS[:images], **({"is_image_encode": False} if mark else {}))


AFTER = [False, False, True, False]
BEFORE = [False, True, False, False]
TIMING: Mapping[str, tuple[dict[str, Any], str, str]] = {
    "counter_from_1": (timed([1, 2, 3, 4]), "after", "elapsed_steps"),
    "counter_from_0": (timed([0, 1, 2, 3]), "before", "elapsed_steps"),
    "counter_from_1_wins_over_the_mark": (timed([1, 2, 3, 4], mark=True), "after", "elapsed_steps"),
    "counter_from_0_wins_over_the_last_image": (timed([0, 1, 2, 3], T + 1), "before", "elapsed_steps"),
    "counter_of_arrays": (timed([np.array([n]) for n in range(T)]), "before", "elapsed_steps"),
    "aliased_counter_and_the_mark": (timed([T] * T, mark=True), "before", "motion_planner"),
    "aliased_counter_and_last_image": (timed([T] * T, T + 1), "after", "last_image"),
    "float_counter_says_nothing": (timed([0.0, 1.0, 2.0, 3.0]), "after", "default"),
    "counter_of_another_start": (timed([5, 6, 7, 8]), "after", "default"),
    "last_image": (timed(None, T + 1), "after", "last_image"),
    "last_image_wins_over_the_mark": (timed(None, T + 1, mark=True), "after", "last_image"),
    "mark": (timed(None, mark=True), "before", "motion_planner"),
    "nothing": (timed(None), "after", "default"),
}


@pytest.mark.parametrize("case", TIMING)
def test_info_timing_is_detected_by_the_stated_rule_and_recorded(case: str, tmp_path: Path) -> None:
    data, timing, rule = TIMING[case]
    episode = read(tmp_path, data)
    assert (episode.meta["info_timing"], episode.meta["info_timing_rule"]) == (timing, rule)
    assert episode.success_after.tolist() == (AFTER if timing == "after" else BEFORE)
    assert episode.arrays["info.success"].tolist() == AFTER


@pytest.mark.parametrize("timing", ["after", "before"])
@pytest.mark.parametrize("case", TIMING)
def test_declared_info_timing_wins(case: str, timing: Any, tmp_path: Path) -> None:
    episode = read(tmp_path, TIMING[case][0], info_timing=timing)
    assert (episode.meta["info_timing"], episode.meta["info_timing_rule"]) == (timing, "declared")
    assert episode.success_after.tolist() == (AFTER if timing == "after" else BEFORE)


@pytest.mark.parametrize(
    ("name", "last"),
    [
        ("success_proc_0_numid_1_epsid_2.npz", True),
        ("sub/success_proc_0.npz", True),
        ("failure_proc_0.npz", False),
        ("success_/proc_0.npz", False),
        ("proc_0_success_.npz", False),
    ],
)
def test_last_flag_of_the_planner_is_in_the_files_name(name: str, last: bool, tmp_path: Path) -> None:
    episode = read(tmp_path, timed([T] * T, mark=True), name)
    assert episode.success_after.tolist() == [False, True, False, last]


def test_files_name_says_nothing_where_info_is_of_after_the_action(tmp_path: Path) -> None:
    assert read(tmp_path, timed(None), "success_0.npz").success_after.tolist() == AFTER


def test_pickle_protocols_2_to_4_read_the_same(tmp_path: Path) -> None:
    want = read(tmp_path, same())
    head = (tmp_path / "e0.npz").with_suffix(".npy")
    for protocol in range(2, 5):
        box = object_array([same()]).reshape(())
        buffer = io.BytesIO()
        np.lib.format.write_array_header_1_0(buffer, {"descr": "|O", "fortran_order": False, "shape": ()})
        head.write_bytes(buffer.getvalue() + pickle.dumps(box, protocol=protocol))
        assert_same(PpoRolloutSource(root=tmp_path).read(EpisodeRef(head.name, 0)), want)


@pytest.mark.parametrize("size", [1, 2, 6, 8, 14])
def test_actions_of_any_size_are_read_where_it_is_declared(tmp_path: Path, size: int) -> None:
    numbers = np.random.default_rng(size).normal(size=(T, size)).astype(np.float32)
    np.savez(tmp_path / "e.npz", arr_0=np.array(healthy(action=numbers), dtype=object))  # as collectors write it
    plain = PpoRolloutSource(root=tmp_path)
    with pytest.raises(DataError, match=rf"E203.*--action-size {size} reads them, and --declare says"):
        plain.read(plain.episodes()[0])
    source = PpoRolloutSource(root=tmp_path, action_size=size)
    episode = source.read(source.episodes()[0])
    np.testing.assert_array_equal(episode.arrays["action"], numbers)
    feature = source.schema(episode).features["action"]
    assert (feature.shape, feature.names, feature.convention) == ((size,), None, {})
