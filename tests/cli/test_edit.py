"""``vla-data edit``: what is copied, what is encoded and said so, what is refused, and what stock lerobot sees."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

import vla_data as vd
from converters.lerobot.source import LerobotSource
from tests.lerobot_sets import Here, camera, numbers, picture, png, records, vector, write
from tests.media import clips
from tests.media.clips import ENCODERS, frames_of
from tests.paths import TESTS
from tests.rollouts import CAMERA
from tests.stock_lerobot import PYTHONS, judged, needed
from vla_data.cli import cli
from vla_data.errors import VerifyError, VlaDataError
from vla_data.jobs import run as jobs
from vla_data.media.video_settings import VideoCopy, VideoSettings
from vla_data.selection.edits import edits

VIDEO = f"videos/{CAMERA}/chunk-000/file-000.mp4"
SETTINGS = VideoSettings(codec="h264", gop=5, preset="medium")


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three real episodes of 12, 13 and 14 frames, as H.264 with a key frame every fifth frame."""
    root = tmp_path_factory.mktemp("edit") / "set"
    source = vd.open_source(TESTS / "data/rollouts")
    few = vd.steps.Trim(ranges=tuple((ref.id, 0, 11 + n) for n, ref in enumerate(source.episodes())))
    vd.run(source, (few,), vd.open_sink(root, video=SETTINGS), engine=Here())
    return root


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs start no workers."""
    monkeypatch.setattr(jobs, "LocalEngine", lambda _: Here())


def edit(*words: object, code: int = 0) -> Any:
    """``vla-data edit WORDS --json``."""
    done: Result = CliRunner().invoke(cli, ["edit", *map(str, words), "--json"])
    if isinstance(done.exception, VlaDataError):
        assert done.exception.exit_code == code, done.exception
        return done.exception.message
    assert done.exit_code == code, (done.output, done.exception)
    return json.loads(done.stdout)


def sound(root: Path, source: Path) -> dict[str, Any]:
    """What ``verify --deep --against`` says of a dataset, which must be good."""
    verdict = vd.verify(root, deep=True, against=source)
    assert verdict.ok, verdict.damages
    facts: dict[str, Any] = verdict.checked["against"]["features"]
    return facts


def rows(root: Path, column: str) -> list[Any]:
    return [
        row for file in sorted(root.glob("data/*/*.parquet")) for row in pq.read_table(file)[column].to_pylist()
    ]


def test_whole_episodes_are_copied(videos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    report = edit(videos, out, "--drop", "1")
    lengths = LerobotSource(root=videos)._layout.lengths
    assert report["video"] == {CAMERA: {"copied": lengths[0] + lengths[2], "encoded": 0}}
    whole = frames_of(videos / VIDEO)
    gone = range(lengths[0], lengths[0] + lengths[1])
    assert frames_of(out / VIDEO) == [digest for n, digest in enumerate(whole) if n not in gone]
    before = rows(videos, "action")
    assert rows(out, "action") == [row for n, row in enumerate(before) if n not in gone]
    sound(out, videos)
    old, new = (json.loads((root / "meta/info.json").read_text())["features"][CAMERA] for root in (videos, out))
    assert old == new  # codec, crf, gop and preset are still what they were
    stats = [pq.read_table(root / "meta/episodes/chunk-000/file-000.parquet") for root in (videos, out)]
    for name in stats[0].column_names:
        if name.startswith(f"stats/{CAMERA}/"):
            assert stats[1][name].to_pylist() == stats[0][name].take([0, 2]).to_pylist()


def test_a_trimmed_head_is_encoded_and_told(videos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    report = edit(videos, out, "--trim", "0:3-9", "--trim", "2:10-", "--keep", "0,2")
    assert report["video"] == {CAMERA: {"copied": 5 + 4, "encoded": 2}}
    assert any("2 of" in line and "encoded again" in line for line in report["warnings"])
    whole, found = frames_of(videos / VIDEO), frames_of(out / VIDEO)
    assert found[2:] == [*whole[5:10], *whole[-4:]]
    assert rows(out, "action") == [*rows(videos, "action")[3:10], *rows(videos, "action")[-4:]]
    against = sound(out, videos)
    assert against["action"]["differing"] == against[CAMERA]["differing"] == 0
    notes = [record.notes for record in vd.open_ledger(out).records]
    # The pixels of what is left were counted: the source's statistics are of more frames.
    assert not any(note.startswith("statistics_of_source") for own in notes for note in own)
    counted = pq.read_table(out / "meta/episodes/chunk-000/file-000.parquet")[f"stats/{CAMERA}/count"]
    assert counted.to_pylist() == [[7], [4]]
    assert [note for note in notes[0] if "frames" in note] == [
        f"frames_copied:{CAMERA}=5",
        f"frames_encoded:{CAMERA}=2",
    ]


def test_splits_are_datasets_and_go_on_where_they_stopped(videos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = (videos, out, "--split", "train=0-1", "--split", "val=2")
    assert edit(*words)["datasets"].keys() == {"train", "val"}
    assert [len(LerobotSource(root=out / name).episodes()) for name in ("train", "val")] == [2, 1]
    kept = (out / "train" / VIDEO).stat().st_mtime_ns
    shutil.rmtree(out / "val")  # as if a run had been killed between the two
    again = edit(*words)["datasets"]
    assert again["train"]["published"] == "earlier"
    assert again["val"]["counts"]["published_episodes"] == 1
    assert (out / "train" / VIDEO).stat().st_mtime_ns == kept
    assert "exists" in edit(videos, out, "--split", "train=2", code=5)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--drop", "0", "--keep", "1"], "one of --drop, --keep and --split"),
        ([], "nothing is to be done"),
        (["--drop", "3"], "no episode 3"),
        (["--drop", "0-2"], "nothing would be left"),
        (["--trim", "0:3"], "not of the form"),
        (["--trim", "0:9-3"], "not of the form"),
        (["--trim", "0:3-400"], "0:3-400: it has"),
        (["--trim", "0:1-2", "--trim", "0:3-4"], "an episode twice"),
        (["--trim", "0:1-2", "--drop", "0"], "is not kept"),
        (["--split", "../a=0"], "not of the form"),
        (["--split", "a=0", "--split", "a=1"], "each NAME once"),
    ],
)
def test_what_means_nothing_is_refused(videos: Path, tmp_path: Path, words: list[str], said: str) -> None:
    assert said in edit(videos, tmp_path / "out", *words, code=2)
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_writes_nothing(videos: Path, tmp_path: Path) -> None:
    assert edit(videos, tmp_path / "out", "--trim", "0:3-9", "--dry-run")["frames"]["truncated"] > 0
    told = edit(videos, tmp_path / "out", "--split", "a=0", "--split", "b=1-2", "--dry-run")["datasets"]
    assert [facts["episodes"] for facts in told.values()] == [1, 2]
    assert list(tmp_path.iterdir()) == []


def test_a_packet_that_is_changed_on_the_way_is_noticed(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vla_data.media import packets

    real: Callable[..., None] = packets.join

    def damaged(files: Any, target: Any, **options: Any) -> None:
        real(files, target, **options)
        data = bytearray(target.getvalue())
        at = data.index(b"mdat") + 400
        data[at] ^= 1
        target.seek(0)
        target.write(data)

    monkeypatch.setattr(packets, "join", damaged)
    with pytest.raises(VerifyError, match="packets"):
        vd.run(
            vd.open_source(videos),
            (),
            vd.open_sink(tmp_path / "out", video=VideoCopy(cameras=((CAMERA, SETTINGS),))),
            engine=Here(),
        )
    assert not (tmp_path / "out").exists()


def test_between_versions_and_back(videos: Path, tmp_path: Path) -> None:
    assert edit(videos, tmp_path / "v21", "--keep", "0-2", "--version", "v2.1")["video"][CAMERA]["encoded"] == 0
    assert edit(tmp_path / "v21", tmp_path / "v30", "--keep", "0-2")["video"][CAMERA]["encoded"] == 0
    assert frames_of(tmp_path / "v30" / VIDEO) == frames_of(videos / VIDEO)
    sound(tmp_path / "v21", videos)
    assert vd.verify(tmp_path / "v30").ok


def test_merged_datasets_of_other_encoders_have_files_of_their_own(videos: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    settings = VideoSettings(codec="h264", gop=3, crf=10, preset="ultrafast")
    source = vd.select(vd.open_source(TESTS / "data/rollouts"), "1")
    vd.run(source, (), vd.open_sink(other, video=settings), engine=Here())
    out = tmp_path / "out"
    done = CliRunner().invoke(cli, ["merge", str(out), str(videos), str(other), "--json"])
    assert json.loads(done.stdout)["video"][CAMERA]["encoded"] == 0
    files = sorted(path.name for path in (out / VIDEO).parent.iterdir())
    assert files == ["file-000.mp4", "file-001.mp4"]
    found = [digest for name in files for digest in frames_of((out / VIDEO).with_name(name))]
    assert found == [*frames_of(videos / VIDEO), *frames_of(other / VIDEO)]
    assert "video.crf" not in json.loads((out / "meta/info.json").read_text())["features"][CAMERA]["info"]
    assert vd.verify(out, deep=True).ok


def test_conversions_of_numbers_alone_copy_video(videos: Path, tmp_path: Path) -> None:
    words = [
        "convert",
        str(videos),
        str(tmp_path / "out"),
        "--rename",
        f"{CAMERA}=observation.images.top",
        "--json",
    ]
    done = CliRunner().invoke(cli, words)
    (video,) = json.loads(done.stdout)["video"].items()
    assert video == ("observation.images.top", {"copied": len(frames_of(videos / VIDEO)), "encoded": 0})
    sound(tmp_path / "out", videos)
    words = ["convert", str(videos), str(tmp_path / "png"), "--images", "png", "--json"]
    assert "video" not in json.loads(CliRunner().invoke(cli, words).stdout)  # somebody has chosen


def test_images_in_parquet_keep_their_bytes(tmp_path: Path) -> None:
    stills = [[png(picture(t, n)) for t in range(4)] for n in range(2)]
    episodes = [
        {"action": list(numbers(4, 3, n)), "observation.images.top": records(own)} for n, own in enumerate(stills)
    ]
    features = {"action": vector(), "observation.images.top": camera()}
    root = write(tmp_path / "set", episodes, features)
    edit(root, tmp_path / "out", "--trim", "1:1-2")
    found = [row["bytes"] for row in rows(tmp_path / "out", "observation.images.top")]
    assert found == [*stills[0], *stills[1][1:3]]
    sound(tmp_path / "out", root)


def test_codecs_that_are_not_written_are_named(tmp_path: Path) -> None:
    import io

    import av

    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream: Any = container.add_stream("mpeg4", rate=10)
        stream.height, stream.width, stream.pix_fmt = 32, 48, "yuv420p"
        for t in range(4):
            pixels = np.full((32, 48, 3), 40 * t, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    name = "observation.images.top"
    features = {"action": vector(), name: camera("video", (32, 48, 3))}
    made = {name: (buffer.getvalue(), [(0.0, 0.4)])}
    root = write(tmp_path / "set", [{"action": list(numbers(4))}], features, videos=made)
    assert "mpeg4 video" in edit(root, tmp_path / "out", "--trim", "0:1-2", code=2)


@pytest.mark.nightly
@needed
def test_stock_lerobot_opens_the_result(videos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    edit(videos, out, "--trim", "0:3-10", "--drop", "1")
    for python in PYTHONS:
        seen = judged(python, out)
        assert seen["episodes"] == 2
        assert len(seen["images"][CAMERA]) == seen["total"] == len(rows(out, "index"))
        whole = judged(python, videos)["images"][CAMERA]
        # What was copied is pixel by pixel what lerobot sees in the source; two frames were encoded again.
        assert seen["images"][CAMERA][2:8] == whole[5:11]


def made_by(encoder: str, folder: Path) -> tuple[Path, Path]:
    """A video of thirty frames, and a dataset of three episodes of ten frames in it."""
    top, data = "observation.images.top", clips.write(folder / "video.mp4", encoder, 30)
    features = {"action": vector(), top: camera("video", (*clips.SIZE, 3))}
    videos = {top: (data.read_bytes(), [(0.0, 1.0), (1.0, 2.0), (2.0, 3.0)])}
    episodes = [{"action": list(numbers(10, 3, n))} for n in range(3)]
    return data, write(folder / "set", episodes, features, videos=videos)


@pytest.mark.parametrize("name", ["hevc-closed", "vp9-g5"])
def test_codecs_without_an_encoder_are_copied_alone(name: str, tmp_path: Path) -> None:
    data, root = made_by(name, tmp_path)
    out = tmp_path / "out"
    assert edit(root, out, "--drop", "0")["video"]["observation.images.top"] == {"copied": 20, "encoded": 0}
    assert frames_of(next(out.rglob("*.mp4"))) == frames_of(data)[10:]
    assert vd.verify(out, deep=True).ok
    assert "copied and not encoded" in edit(root, tmp_path / "cut", "--trim", "1:3-8", code=2)


@pytest.mark.nightly
@pytest.mark.parametrize("name", [name for name in ENCODERS if name.startswith(("h264", "av1"))])
def test_datasets_of_every_encoder(name: str, tmp_path: Path) -> None:
    """Three episodes of ten frames in one file, the first dropped and the others trimmed."""
    top, out = "observation.images.top", tmp_path / "out"
    data, root = made_by(name, tmp_path)
    report = edit(root, out, "--drop", "0", "--trim", "1:3-8", "--trim", "2:0-6")
    counts = report["video"][top]
    assert counts["copied"] + counts["encoded"] == 13
    found = [d for file in sorted((out / "videos" / top).rglob("*.mp4")) for d in frames_of(file)]
    whole = frames_of(data)
    want = [*whole[13:19], *whole[20:27]]
    assert sum(a == b for a, b in zip(found, want, strict=True)) >= counts["copied"]
    assert sound(out, root)["action"]["differing"] == 0
    for python in PYTHONS:
        assert len(judged(python, out)["images"][top]) == 13
    print(f"\n{name}: {counts}")


def test_names_of_the_library(videos: Path) -> None:
    source = vd.open_source(videos)
    facts = source.videos()  # type: ignore[attr-defined]
    assert facts == VideoCopy(cameras=((CAMERA, SETTINGS),), stated=(CAMERA,)) == vd.select(source, "0").videos()  # type: ignore[attr-defined]
    (part,) = edits(source, trim=["1:2-"]).values()
    assert part[1] == (vd.steps.Trim(ranges=(("episode_000001", 2, None),)),)
