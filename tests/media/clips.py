"""Small videos of many encoders, and what their frames are."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import av
import numpy as np

FPS = 10
SIZE = (48, 64)
ENCODERS: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "h264-g2": ("libx264", {"g": "2"}),
    "h264-g2-no-b": ("libx264", {"g": "2", "bf": "0"}),
    "h264-g5-b3": ("libx264", {"g": "5", "bf": "3"}),
    "h264-g12-b3": ("libx264", {"g": "12", "bf": "3"}),
    "h264-open": ("libx264", {"g": "5", "bf": "3", "x264-params": "open-gop=1"}),
    "h264-strips": ("libx264", {"g": "5", "x264-params": "intra-refresh=1"}),
    "h264-intra": ("libx264", {"g": "1"}),
    "hevc-open": ("libx265", {"g": "5", "x265-params": "log-level=none"}),
    "hevc-closed": ("libx265", {"g": "5", "x265-params": "log-level=none:open-gop=0"}),
    "hevc-leading": ("libx265", {"g": "5", "x265-params": "log-level=none:open-gop=0:radl=2"}),
    "av1-g2": ("libsvtav1", {"g": "2", "svtav1-params": "lp=1"}),
    "av1-g5": ("libsvtav1", {"g": "5", "preset": "10", "svtav1-params": "lp=1"}),
    "av1-forward": ("libsvtav1", {"g": "8", "svtav1-params": "lp=1:irefresh-type=1"}),
    "vp9-g5": ("libvpx-vp9", {"g": "5", "cpu-used": "8", "deadline": "realtime"}),
    "vp9-hidden": ("libvpx-vp9", {"g": "6", "auto-alt-ref": "1", "lag-in-frames": "8", "cpu-used": "5"}),
}
"""Name -> encoder and its options: lengths of groups of pictures, with B-frames and without, and what refers to
the group before or is decoded from strips.
"""


def pictures(count: int, seed: int = 0) -> Iterator[np.ndarray[Any, Any]]:
    """Images that move, ``(48, 64, 3)``."""
    ground = np.random.default_rng(seed).integers(0, 255, (*SIZE, 3), dtype=np.uint8)
    for t in range(count):
        image = np.roll(ground, t, axis=1)
        image[t % 40 : t % 40 + 6] = 3 * t % 255
        yield image


def write(path: Path, name: str, count: int, seed: int = 0) -> Path:
    """A video of one of `ENCODERS`."""
    encoder, options = ENCODERS[name]
    with av.open(str(path), "w", format="mp4") as container:
        stream: Any = container.add_stream(encoder, rate=FPS, options=dict(options))
        stream.height, stream.width, stream.pix_fmt = *SIZE, "yuv420p"
        stream.codec_context.thread_count = 1
        for t, image in enumerate(pictures(count, seed)):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = t
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def shown(source: Path | bytes) -> list[tuple[float, str]]:
    """(seconds, MD5 of the planes) of every frame, decoded from the beginning by FFmpeg."""
    with av.open(io.BytesIO(source) if isinstance(source, bytes) else str(source)) as container:
        track: Any = container.streams.video[0]
        track.codec_context.thread_count = 1
        return [
            (float(frame.pts * frame.time_base), hashlib.md5(frame.to_ndarray().tobytes()).hexdigest())
            for frame in container.decode(track)
        ]


def frames_of(source: Path | bytes) -> list[str]:
    """The MD5 of every frame."""
    return [digest for _, digest in shown(source)]
