"""Cameras of LeRobot datasets in every form that people store, and what RGB images of 8 bits can not hold."""

from __future__ import annotations

import io
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import av
import numpy as np
import pyarrow as pa
import pytest

import vla_data as vd
from converters.lerobot.source import LerobotSource
from tests.lerobot_sets import TOP, Here, camera, numbers, picture, png, records, vector, write
from vla_data.errors import DataError
from vla_data.media import images

STEPS: Final = 4
SHOTS: Final = [picture(t) for t in range(STEPS)]
FILES: Final = [png(shot) for shot in SHOTS]
ACTION: Final = {"action": numbers(STEPS).tolist()}
_STRUCT: Final = pa.struct([("bytes", pa.binary_view()), ("path", pa.string_view())])

ENCODED: Final[dict[str, Callable[[], pa.Array]]] = {
    "records": lambda: records(FILES),
    "records of views": lambda: pa.array([{"bytes": data, "path": "x"} for data in FILES], _STRUCT),
    "records of bytes alone": lambda: pa.array([{"bytes": data} for data in FILES]),
    "bytes": lambda: pa.array(FILES, pa.binary()),
    "large bytes": lambda: pa.array(FILES, pa.large_binary()),
    "views of bytes": lambda: pa.array(FILES, pa.binary_view()),
    "dictionary of bytes": lambda: pa.array(FILES).dictionary_encode(),
}
PIXELS: Final[dict[str, Callable[[], Any]]] = {
    "rows first": lambda: [shot.tolist() for shot in SHOTS],
    "channels first": lambda: [shot.transpose(2, 0, 1).tolist() for shot in SHOTS],
    "uint8": lambda: pa.array([shot.tolist() for shot in SHOTS], pa.list_(pa.list_(pa.list_(pa.uint8())))),
    "0 to 1": lambda: [(shot / 255).astype(np.float32).tolist() for shot in SHOTS],
    "0 to 1, channels first": lambda: [(shot / 255).transpose(2, 0, 1).tolist() for shot in SHOTS],
    "0.0 to 255.0": lambda: [shot.astype(float).tolist() for shot in SHOTS],
    "flat": lambda: [shot.reshape(-1).tolist() for shot in SHOTS],
    "with full opacity": lambda: [np.dstack([shot, np.full((8, 12), 255)]).tolist() for shot in SHOTS],
}


def dataset(root: Path, column: Any, feature: dict[str, Any]) -> LerobotSource:
    return LerobotSource(root=write(root, [{**ACTION, TOP: column}], {"action": vector(), TOP: feature}))


def read(source: LerobotSource) -> vd.Episode:
    return source.read(source.episodes()[0])


def refusal(source: LerobotSource) -> DataError:
    with pytest.raises(DataError) as caught:
        read(source)
    assert TOP in caught.value.message
    assert f"--drop {TOP} leaves it out" in caught.value.message
    return caught.value


def same(episode: vd.Episode, shots: Any = SHOTS) -> bool:
    frames = episode.frames[TOP]
    return all(np.array_equal(frames.pixels(t), shot) for t, shot in enumerate(shots)) and len(frames) == len(
        shots
    )


@pytest.mark.parametrize("form", ENCODED)
def test_encoded_images_in_every_type_are_a_camera(form: str, tmp_path: Path) -> None:
    episode = read(dataset(tmp_path / "in", ENCODED[form](), camera()))
    assert same(episode)
    assert episode.notes == ()
    assert bytes(episode.frames[TOP].items[0]) == FILES[0]  # type: ignore[arg-type]  # handed on as they are


def test_paths_alone_are_read_from_the_dataset_and_nowhere_else(tmp_path: Path) -> None:
    names = [f"images/{t}.png" for t in range(STEPS)]
    source = dataset(tmp_path / "in", names, camera())
    assert refusal(source).code == "E133"
    (tmp_path / "in/images").mkdir()
    for name, data in zip(names, FILES, strict=True):
        (tmp_path / "in" / name).write_bytes(data)
    assert same(read(source))
    (tmp_path / "out.png").write_bytes(FILES[0])
    assert refusal(dataset(tmp_path / "evil", ["../out.png"] * STEPS, camera())).code == "E131"


def test_bytes_that_nobody_declares_are_a_camera_if_they_are_images(tmp_path: Path) -> None:
    columns = {**ACTION, TOP: pa.array(FILES), "blob": pa.array([b"\0\1"] * STEPS)}
    source = LerobotSource(root=write(tmp_path / "in", [columns], {"action": vector()}))
    episode = read(source)
    assert same(episode)
    assert episode.notes == ("column_left_out:blob",)


@pytest.mark.parametrize("form", PIXELS)
def test_pixels_as_numbers_are_a_camera_where_an_image_is_declared(form: str, tmp_path: Path) -> None:
    episode = read(dataset(tmp_path / "in", PIXELS[form](), camera()))
    assert same(episode)
    assert f"camera_from_numbers:{TOP}" in episode.notes
    assert TOP not in episode.arrays


@pytest.mark.parametrize("form", ["uint8", "0 to 1", "0 to 1, channels first"])
def test_numbers_that_are_named_as_cameras_are_and_exactly_images_are_one(form: str, tmp_path: Path) -> None:
    shape = [3, 8, 12] if "channels" in form else [8, 12, 3]
    episode = read(dataset(tmp_path / "in", PIXELS[form](), {"dtype": "float32", "shape": shape}))
    assert same(episode)


def test_numbers_that_are_no_exact_image_stay_numbers(tmp_path: Path) -> None:
    shots = [(shot - 128.0) / 50 for shot in SHOTS]
    source = dataset(tmp_path / "in", [s.tolist() for s in shots], {"dtype": "float64", "shape": [8, 12, 3]})
    episode = read(source)
    np.testing.assert_array_equal(episode.arrays[TOP], shots)
    assert TOP not in episode.frames


def test_levels_between_those_of_8_bits_are_rounded_with_a_note(tmp_path: Path) -> None:
    shots = [np.full((8, 12, 3), 0.5) for _ in range(STEPS)]
    episode = read(dataset(tmp_path / "in", [s.tolist() for s in shots], camera()))
    assert same(episode, [np.full((8, 12, 3), 128, np.uint8)] * STEPS)
    assert f"rounded_to_uint8:{TOP}" in episode.notes


@pytest.mark.parametrize(
    ("column", "code"),
    [
        ([(shot - 128.0).tolist() for shot in SHOTS], "E208"),
        ([(shot + 0.5).tolist() for shot in SHOTS], "E208"),
        ([(shot.astype(int) * 9).tolist() for shot in SHOTS], "E208"),
        ([np.dstack([shot, np.full((8, 12), 9)]).tolist() for shot in SHOTS], "E208"),
        ([[1.0, 2.0]] * STEPS, "E203"),
        ([shot[..., :2].tolist() for shot in SHOTS], "E203"),
        (pa.array([shot[..., 0].tolist() for shot in SHOTS], pa.list_(pa.list_(pa.uint16()))), "E208"),
    ],
    ids=["negative", "between levels", "over 255", "opacity", "no image", "two channels", "depth of 16 bits"],
)
def test_numbers_that_no_image_holds_are_refused_where_one_is_declared(
    column: Any, code: str, tmp_path: Path
) -> None:
    assert refusal(dataset(tmp_path / "in", column, camera())).code == code


def test_opacity_is_dropped_where_it_says_nothing_and_refused_where_it_does(tmp_path: Path) -> None:
    full = [png(np.dstack([shot, np.full((8, 12), 255, np.uint8)])) for shot in SHOTS]
    source = dataset(tmp_path / "full", records(full), camera())
    assert same(read(source))
    vd.run(source, (), vd.open_sink(tmp_path / "out", images="png"), engine=Here())
    stored = read(LerobotSource(root=tmp_path / "out")).frames[TOP].items[0]
    assert images.header(stored).channels == 3  # type: ignore[arg-type]  # as info.json says
    half = [*full[:2], png(np.dstack([SHOTS[2], np.full((8, 12), 128, np.uint8)])), full[3]]
    error = refusal(dataset(tmp_path / "half", records(half), camera()))
    assert error.code == "E208"
    assert "row 2" in error.message


def test_depth_of_16_bits_in_png_is_refused_with_the_option_that_helps(tmp_path: Path) -> None:
    deep = [png(shot[..., 0].astype(np.uint16) * 200) for shot in SHOTS]
    assert refusal(dataset(tmp_path / "in", records(deep), camera())).code == "E208"


@pytest.mark.parametrize("missing", [None, b""])
def test_a_row_without_an_image_is_named(missing: Any, tmp_path: Path) -> None:
    error = refusal(dataset(tmp_path / "in", records([*FILES[:3], missing]), camera()))
    assert error.code == "E109"
    assert "row 3" in error.message


# -- video ----------------------------------------------------------------------------------------------


def film(
    shots: Any, rate: int, codec: str = "libx264", pixels: str = "yuv444p", *, first: int = 0, **options: str
) -> bytes:
    """An mp4 file of flat frames, each of one colour, so that what is decoded tells which it was."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream: Any = container.add_stream(codec, rate=Fraction(rate), options={"crf": "1", "bf": "0", **options})
        stream.width, stream.height, stream.pix_fmt = 64, 48, pixels
        stream.codec_context.thread_count = 1
        for number, shot in enumerate(shots, first):
            pixels_ = np.ascontiguousarray(np.broadcast_to(shot[:1, :1], (48, 64, 3)))
            frame = av.VideoFrame.from_ndarray(pixels_, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return buffer.getvalue()


def filmed(root: Path, data: Any, *, version: str = "v3.0", **info: Any) -> LerobotSource:
    columns = [{"action": numbers(STEPS, episode=e).tolist()} for e in range(2)]
    videos = {TOP: (data, [(0.0, 0.4), (0.4, 0.8)]) if version == "v3.0" else data}
    feature = camera("video", (48, 64, 3), **info)
    return LerobotSource(
        root=write(root, columns, {"action": vector(), TOP: feature}, videos=videos, version=version)
    )


def seen(episode: vd.Episode) -> list[int]:
    """Which pictures the frames show, by their red."""
    return [round((int(episode.frames[TOP].pixels(t)[24, 32, 0]) - 40) / 10) for t in range(len(episode))]


@pytest.mark.parametrize("times", [1, 2, 3])
def test_times_choose_among_the_frames_of_a_faster_video(times: int, tmp_path: Path) -> None:
    wrong = [picture(15)] * (times - 1)
    shots = [shot for number in range(2 * STEPS) for shot in (picture(number), *wrong)]
    source = filmed(tmp_path / "in", film(shots, 10 * times))
    first, second = map(source.read, source.episodes())
    assert (seen(first), seen(second)) == ([0, 1, 2, 3], [4, 5, 6, 7])
    assert first.notes == (() if times == 1 else (f"video_at_other_rate:{TOP}={10 * times}",))


def test_times_choose_among_the_frames_of_a_faster_video_of_one_episode(tmp_path: Path) -> None:
    files = [film([picture(n) for n in range(e, e + STEPS) for _ in range(2)], 20) for e in (0, 4)]
    source = filmed(tmp_path / "in", files, version="v2.1")
    assert [seen(source.read(ref)) for ref in source.episodes()] == [[0, 1, 2, 3], [4, 5, 6, 7]]


@pytest.mark.parametrize("first", [0, 1, 5])
@pytest.mark.parametrize("more", [0, 3])
def test_times_of_a_video_that_does_not_begin_at_0_are_the_files(first: int, more: int, tmp_path: Path) -> None:
    data = film([picture(n) for n in range(STEPS + more)], 10, first=first)
    root = tmp_path / "in"
    columns = {"action": numbers(STEPS).tolist(), "timestamp": [(first + t) / 10 for t in range(STEPS)]}
    features = {"action": vector(), TOP: camera("video", (48, 64, 3))}
    write(root, [columns], features, videos={TOP: [data]}, version="v2.1")
    assert seen(read(LerobotSource(root=root))) == [0, 1, 2, 3]
    if not more:  # or they count from its first frame
        write(tmp_path / "zero", [{"action": columns["action"]}], features, videos={TOP: [data]}, version="v2.1")
        assert seen(read(LerobotSource(root=tmp_path / "zero"))) == [0, 1, 2, 3]


@pytest.mark.parametrize("drift", [-0.03, 0.0, 0.03])
def test_the_end_of_a_range_may_be_rounded(drift: float, tmp_path: Path) -> None:
    data = film([picture(n) for n in range(8)], 10)
    columns = [{"action": numbers(STEPS, episode=e).tolist()} for e in range(2)]
    ranges = [(0.0, 0.4 + drift), (0.4, 0.8 + drift)]
    features = {"action": vector(), TOP: camera("video", (48, 64, 3))}
    source = LerobotSource(root=write(tmp_path / "in", columns, features, videos={TOP: (data, ranges)}))
    assert [seen(source.read(ref)) for ref in source.episodes()] == [[0, 1, 2, 3], [4, 5, 6, 7]]


@pytest.mark.parametrize(("rate", "frames"), [(15, 12), (5, 4), (30, 8)])
def test_times_that_name_no_frame_are_refused(rate: int, frames: int, tmp_path: Path) -> None:
    source = filmed(tmp_path / "in", film([picture(n) for n in range(frames)], rate))
    assert refusal(source).code in ("E221", "E204")


@pytest.mark.parametrize(
    ("pixels", "info", "code"),
    [
        ("gray12le", {}, "E208"),
        ("gray12le", {"is_depth_map": True}, "E208"),
        ("yuv420p", {"video.is_depth_map": True}, "E208"),
    ],
)
def test_depth_is_never_cut_to_colours(pixels: str, info: dict[str, Any], code: str, tmp_path: Path) -> None:
    data = film([picture(n) for n in range(8)], 10, "libx265", pixels, **{"x265-params": "log-level=none"})
    assert refusal(filmed(tmp_path / "in", data, **info)).code == code


def test_colours_of_10_bits_are_rounded_with_a_note(tmp_path: Path) -> None:
    options = {"x265-params": "log-level=none"}
    data = film([picture(n) for n in range(8)], 10, "libx265", "yuv444p10le", **options)
    source = filmed(tmp_path / "in", data)
    episode = read(source)
    assert seen(episode) == [0, 1, 2, 3]
    assert episode.notes == (f"video_of_more_bits:{TOP}=10",)


def test_an_unknown_codec_costs_nothing_where_the_camera_is_not_wanted(tmp_path: Path) -> None:
    source = filmed(tmp_path / "in", film([picture(n) for n in range(8)], 10, "ffv1", "bgr0"))
    assert refusal(source).code == "E203"
    episode = read(LerobotSource(root=source.root, leave_out=("observation.images.*",)))
    assert episode.notes == (f"left_out:{TOP}",)
    assert not episode.frames
