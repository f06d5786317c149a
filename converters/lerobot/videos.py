"""How the cameras of a LeRobot dataset were encoded, as far as ``info.json`` and their files say."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final, get_args

from converters.lerobot import depth
from converters.lerobot.layout import Layout
from converters.lerobot.templates import pattern_of
from vla_data.errors import DataError, UsageError
from vla_data.media.video_settings import ENCODED, Codec, VideoCopy, VideoSettings
from vla_data.safety.text import show

_WORDS: Final = {"crf": "crf", "gop": "g", "preset": "preset"}


def declared_videos(layout: Layout) -> VideoCopy | None:
    """The cameras whose video can be written too, each with its codec; None where there are none.

    A camera with a map of depth is not among them. Where ``info.json`` does not say how a camera was encoded, what
    must be encoded again is by lerobot's defaults.

    Raises:
        UsageError: E002, a camera has a codec that is not written.
    """
    found, stated = [], []
    for camera, there in layout.declared_cameras.items():
        declared = layout.info["features"][camera]
        if not there or depth.is_declared(declared):
            continue
        codec = _codec(layout, camera)
        if codec is None:
            continue
        if codec not in get_args(Codec):
            raise UsageError(
                "E002",
                f"{show(camera)} is {show(codec)} video, which is read and not written; "
                "`vla-data convert SOURCE OUT --video av1` encodes it again",
            )
        settings = _settings(codec, declared.get("info"))
        found.append((camera, settings or VideoSettings(codec=codec)))
        stated += [camera] if settings is not None else []
    return VideoCopy(cameras=tuple(found), stated=tuple(stated)) if found else None


def _codec(layout: Layout, camera: str) -> Any:
    """The codec of a camera's first file."""
    from vla_data.media import packets, video  # load a video library, which images need not

    first = min(layout.root.glob(pattern_of(layout.video_path, camera)))
    with suppress(DataError):  # whoever reads the episode tells what is wrong with it
        return packets.codec_named(video.describe(first).codec)
    return None


def _settings(codec: Codec, info: Any) -> VideoSettings | None:
    """What ``info.json`` says of the encoder; None where it does not say all of it, or what no encoder has."""
    if (
        codec not in ENCODED
        or not isinstance(info, Mapping)
        or any(f"video.{word}" not in info for word in _WORDS.values())
    ):
        return None
    with suppress(ValueError, TypeError):
        return VideoSettings(codec=codec, **{name: info[f"video.{word}"] for name, word in _WORDS.items()})
    return None
