"""The templates of LeRobot's paths: made of its own parts, leading nowhere else."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from converters.lerobot import meta
from vla_data.errors import UsageError
from vla_data.safety.text import show

V2_DATA: Final = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
V2_VIDEO: Final = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"
_PART: Final = r"\{(?:episode_chunk|episode_index|chunk_index|file_index)(?::0?\d{1,2}d)?\}|\{video_key\}|[\w.-]"
_DATA: Final = re.compile(rf"data/(?:(?:{_PART})+/){{0,4}}(?:{_PART})+\.parquet")
_VIDEO: Final = re.compile(rf"videos/(?:(?:{_PART})+/){{0,4}}(?:{_PART})+\.mp4")
_FIELD: Final = re.compile(r"\{([a-z_]+)[^}]*\}")


def templates(info: Mapping[str, Any]) -> tuple[str, str]:
    """The templates of the paths of data files and, where there is any camera of video, of videos.

    Raises:
        UsageError: E122, one is none.
    """
    data, video = (meta.DATA_PATH, meta.VIDEO_PATH) if info["codebase_version"] == "v3.0" else (V2_DATA, V2_VIDEO)
    told = info.get("video_path")
    has_video = told is not None and any(f.get("dtype") == "video" for f in info["features"].values())
    keys = ("chunk_index", "file_index", "episode_index")
    return (
        _template(info.get("data_path"), data, _DATA, keys),
        _template(told, video, _VIDEO, ("video_key",)) if has_video else video,
    )


def _template(given: Any, known: str, pattern: re.Pattern[str], needed: Sequence[str]) -> str:
    """A template of paths that names files apart and leads nowhere else."""
    if given == known:
        return known
    if not isinstance(given, str) or not pattern.fullmatch(given) or ".." in given:
        raise UsageError("E122", f"paths {show(given)[:200]} are not made of LeRobot's parts, such as {known}")
    fields = set(_FIELD.findall(given))
    if not fields & set(needed) or fields - {*_FIELD.findall(known), *needed}:
        half = "; they are of another version than codebase_version, as if a conversion had not finished"
        why = half if given in (meta.DATA_PATH, meta.VIDEO_PATH, V2_DATA, V2_VIDEO) else ""
        raise UsageError("E122", f"paths {show(given)[:200]} have other parts than {known}{why}")
    return given


def pattern_of(template: str, camera: str) -> str:
    """A shell pattern of the videos of a camera."""
    return _FIELD.sub(lambda field: camera if field[1] == "video_key" else "*", template)
