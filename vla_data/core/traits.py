"""What a run must know of a sink."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Pictures:
    """How a sink stores images.

    Attributes:
        encoding: ``jpeg``, ``png``, or None where pixels are stored as they are.
        jpeg_quality: of JPEG.
        video: settings of the video that they become instead, `vla_data.media.video_settings.VideoSettings`, or a
            ``VideoCopy``, which says that of each camera.
        swapped: whether the channels of what is stored are BGR.
    """

    encoding: str | None = None
    jpeg_quality: int = 95
    video: Any = None
    swapped: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """What a run must know of a sink.

    Attributes:
        holds_empty: whether an episode without steps can be written.
        one_schema: whether all episodes of a dataset must have the same features and sizes.
        sidecar: folder inside the dataset, relative, for what the format has no field for.
        keeps_files: whether files of others that lay beside a source of the same format are kept.
        encoders: packages that decide about the bytes of an encoded episode, besides the common ones.
        pictures: how images are stored.
        val: share of the episodes without a declared split that it draws into "val".
    """

    holds_empty: bool = False
    one_schema: bool = True
    sidecar: str = "vla_data"
    keeps_files: bool = False
    encoders: tuple[str, ...] = ()
    pictures: Pictures = Pictures()
    val: float = 0.0
