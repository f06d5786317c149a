"""What ``info.json`` of a LeRobot dataset of ours must say, from its schema, its recipe and its files.

It shares no code with the writer. Where a recipe can't be read, or a video can't be opened, which is told
elsewhere, what follows from them is not compared.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from vla_data.core import Json, Schema
from vla_data.core.manifest import read_manifest
from vla_data.errors import DataError
from vla_data.safety.text import show

SIDE: Final = "meta/vla_data"
DATA: Final = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
V2_DATA: Final = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
V2_VIDEO: Final = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"
VIDEO: Final = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"

_INDEX: Final = {
    "timestamp": "float32",
    **dict.fromkeys(("frame_index", "episode_index", "index", "task_index"), "int64"),
}
_CODECS: Final = {"libdav1d": "av1", "libaom-av1": "av1"}  # decoder -> codec, where it has another name
_PRESETS: Final = {"av1": "12", "h264": "medium"}
COPY: Final = "VideoCopy"


def sink_options(root: Path) -> Mapping[str, Any]:
    """The options of the sink that wrote a dataset, by its manifest; those of ``video`` are a dictionary.

    Empty where the manifest can't be read.
    """
    try:
        options = read_manifest(root / SIDE)["provenance"]["sink"]
        return options if isinstance(options, dict) else {}
    except (DataError, KeyError, TypeError):
        return {}


def is_v3(root: Path, options: Mapping[str, Any]) -> bool:
    """Whether a dataset is of v3.0, by its recipe, or else by its files."""
    if options:
        return bool(options.get("version", "v3.0") == "v3.0")
    return not (root / "meta/episodes.jsonl").is_file()


def video_files(root: Path, name: str) -> list[Path]:
    """A camera's files, in order, of whichever version."""
    found = [*root.glob(f"videos/{name}/*/*.mp4"), *root.glob(f"videos/*/{name}/*.mp4")]
    return sorted(found)


def features(schema: Schema, *, videos: Collection[str], v3: bool = True) -> dict[str, dict[str, Json]]:
    """Every feature with its ``dtype``, ``shape`` and ``names``; ``depth`` is one that is TIFF images, and those
    of ``videos`` are video.
    """
    out: dict[str, dict[str, Json]] = {}
    for name, feature in sorted(schema.features.items()):
        kind = "video" if name in videos else feature.dtype
        names = list(feature.names) if feature.names else None
        if name in ("language_events", "language_persistent") and kind == "string" and v3:
            kind = "language"
        unit = feature.convention.get("depth_unit")
        if (
            v3
            and unit is not None
            and kind in ("uint16", "float32")
            and len(feature.shape) == 3
            and feature.shape[2] == 1
        ):
            kind, names = "depth", ["height", "width", "channels"]
        out[name] = {"dtype": kind, "shape": list(feature.shape), "names": names}
    return out | {name: {"dtype": kind, "shape": [1], "names": None} for name, kind in _INDEX.items()}


def problems(
    root: Path, info: Mapping[str, Any], schema: Schema, counted: Mapping[str, Json], options: Mapping[str, Any]
) -> Iterator[str]:
    """What is wrong with ``info.json``, a sentence each.

    Args:
        root: the dataset.
        info: its content.
        schema: the dataset's.
        counted: what follows from its data: totals.
        options: `sink_options`.
    """
    v3 = is_v3(root, options)
    wanted = features(schema, videos=cameras(root, schema, options), v3=v3)
    videos = [name for name, feature in wanted.items() if feature["dtype"] == "video"]
    want: dict[str, Json] = {
        "codebase_version": "v3.0" if v3 else "v2.1",
        **counted,
        "fps": schema.fps,
        "chunks_size": 1000,
        "data_path": DATA if v3 else V2_DATA,
        "video_path": (VIDEO if v3 else V2_VIDEO) if has_video(root, options) and (v3 or videos) else None,
    }
    if not v3:
        count = counted["total_episodes"]
        want |= {"total_videos": len(videos) * count, "total_chunks": -(-count // 1000)}
    if options and v3:
        want |= {f"{key}s_size_in_mb": options.get(f"{key}_mb") for key in ("data_file", "video_file")}
    if options:
        want["robot_type"] = options.get("robot") or schema.robot
    for name, value in want.items():
        if info.get(name) != value or type(info.get(name)) is bool:
            yield f"{name} is {show(info.get(name))[:60]}, not {show(value)}"
    found = info.get("features")
    found = found if isinstance(found, dict) else {}
    for name in sorted(found.keys() - wanted.keys()):
        yield f"feature {show(name)[:80]} is not there"
    for name, feature in wanted.items():
        own = found.get(name)
        said = {**feature, "dtype": "image"} if feature["dtype"] == "depth" else feature
        if not isinstance(own, dict) or {key: own.get(key) for key in said} != said:
            yield f"feature {show(name)} is not that of the schema"
        elif feature["dtype"] == "depth" and own.get("info") != _depth_info(schema, name):
            yield f"info of {show(name)} is not that of depth in its unit"
        elif name in videos:
            yield from _video_problems(root, name, own.get("info"), schema, options)


def _depth_info(schema: Schema, name: str) -> dict[str, Json]:
    unit = schema.features[name].convention["depth_unit"]
    return {"is_depth_map": True, "depth_unit": unit if unit in ("mm", "m") else None}


def is_copy(options: Mapping[str, Any]) -> bool:
    """Whether packets of the source's videos were copied, so that they are not what an encoder here would make."""
    video = options.get("video")
    return isinstance(video, dict) and video.get("type") == COPY


def has_video(root: Path, options: Mapping[str, Any]) -> bool:
    """Whether a dataset's cameras are video."""
    return options["video"] is not None if "video" in options else (root / "videos").is_dir()


def cameras(root: Path, schema: Schema, options: Mapping[str, Any]) -> set[str]:
    """The cameras that are video."""
    images = {name for name, feature in schema.features.items() if feature.dtype == "image"}
    video = options.get("video")
    if isinstance(video, dict) and video.get("type") == COPY and video.get("others") is None:
        return images & {str(pair[0]) for pair in video.get("cameras", ()) if isinstance(pair, list) and pair}
    return images if has_video(root, options) else set()


def _settings(name: str, options: Mapping[str, Any]) -> Mapping[str, Any]:
    """How a camera's video was encoded, where the recipe says that."""
    video = options.get("video")
    if isinstance(video, dict) and video.get("type") == COPY:
        pairs = [pair for pair in video.get("cameras", ()) if isinstance(pair, list) and len(pair) == 2]
        stated = video.get("stated")
        video = dict(pairs).get(name) if isinstance(stated, list) and name in stated else None
    return video if isinstance(video, dict) else {}


def _video_problems(
    root: Path, name: str, found: Any, schema: Schema, options: Mapping[str, Any]
) -> Iterator[str]:
    from vla_data.media import video

    height, width = schema.features[name].shape[:2]
    want: dict[str, Json] = {
        "video.height": height,
        "video.width": width,
        "video.fps": schema.fps,
        "video.channels": 3,
        "video.pix_fmt": "yuv420p",
        "video.is_depth_map": False,
        "has_audio": False,
    }
    for path in video_files(root, name)[:1]:
        try:
            about = video.describe(path)
        except DataError:
            continue
        want["video.codec"] = _CODECS.get(about.codec, about.codec)
        if is_copy(options):
            want["video.pix_fmt"] = about.pixel_format
    if settings := _settings(name, options):
        want["video.codec"] = settings.get("codec")
        want |= {"video.g": settings.get("gop"), "video.crf": settings.get("crf")}
        want["video.preset"] = settings.get("preset") or _PRESETS.get(str(settings.get("codec")))
    found = found if isinstance(found, dict) else {}
    for key, value in want.items():
        if found.get(key) != value or (type(found.get(key)) is not type(value) and isinstance(value, bool)):
            yield f"{key} of {show(name)} is {show(found.get(key))[:60]}, not {show(value)}"
