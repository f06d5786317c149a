"""The videos of a LeRobot dataset that is written: a clip an episode and camera, and files that hold them."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from converters.lerobot import blob, meta
from vla_data.core import Json, Published
from vla_data.files.write import write_file
from vla_data.media.frames import Frames
from vla_data.media.video_settings import VideoSettings

CLIPS: Final = "clips"
"""Key of an episode's summary: camera -> `vla_data.media.clips.Encoded.facts`, where packets may be copied."""


def encode(
    frames: Frames, settings: VideoSettings, *, fps: float, copy: bool
) -> tuple[bytes, Sequence[bytes], dict[str, Json]]:
    """A camera's mp4 file, the digests of its packets, which survive joining, and its entry of `CLIPS`."""
    from vla_data.media import clips  # loads a video library, which images need not

    made = clips.encode(frames, settings, fps=fps, copy=copy)
    return made.clip.data, made.clip.digests, made.facts()


def notes(facts: Mapping[str, Mapping[str, Json]]) -> tuple[str, ...]:
    """What the ledger has of an episode's clips: how many frames of each camera are packets of the source, and how
    many were encoded.
    """
    return tuple(
        f"{word}:{camera}={clip[key]}"
        for camera, clip in sorted(facts.items())
        for word, key in (("frames_copied", "copied"), ("frames_encoded", "encoded"))
        if clip[key]
    )


def without_quantiles(episodes: Sequence[Published]) -> set[str]:
    """Cameras of which an episode's statistics came without quantiles: a column of them has all or none."""
    clips = (episode.summary.get(CLIPS, {}) for episode in episodes)
    return {name for own in clips for name, clip in own.items() if not clip["quantiles"]}


def write(
    episodes: Sequence[Published], cameras: Sequence[str], fps: float, folder: Path, *, most: int
) -> list[dict[str, Any]]:
    """Write the video files of v3.0; returns the columns that say where each episode is in them.

    Args:
        episodes: encoded.
        cameras: that are video.
        fps: frames a second.
        folder: the dataset.
        most: bytes of a file of more than one episode. A file also ends where the next clip has another extradata.
    """
    where: list[dict[str, Any]] = [{} for _ in episodes]
    if not cameras:
        return where
    from vla_data.media import packets

    for name in cameras:
        sizes = [int(episode.summary["videos"][name]) for episode in episodes]
        clips = [episode.summary.get(CLIPS, {}).get(name, {}) for episode in episodes]
        for place, members in meta.places(sizes, most, [clip.get("extradata") for clip in clips]):
            path = folder / meta.VIDEO_PATH.format(video_key=name, **place)
            path.parent.mkdir(parents=True, exist_ok=True)
            buffer = io.BytesIO()
            delay = max(int(clips[i].get("delay", 0)) for i in members)
            packets.join((blob.video_of(episodes[i], name) for i in members), buffer, fps=fps, delay=delay)
            write_file(path, buffer.getbuffer(), sync=False)
            at = 0
            for i in members:
                end = at + int(episodes[i].summary["length"])
                where[i] |= {f"videos/{name}/{key}": value for key, value in place.items()}
                # From frame numbers, not by adding durations, which drift.
                where[i][f"videos/{name}/from_timestamp"] = at / fps
                where[i][f"videos/{name}/to_timestamp"] = end / fps
                at = end
    return where
