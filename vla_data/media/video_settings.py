"""How video is encoded. Apart from `vla_data.media.video`, so that naming it loads no video library."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, get_args

from vla_data import options as checks
from vla_data.errors import UsageError

Codec = Literal["av1", "h264", "hevc", "vp9"]

ENCODED: Final = ("av1", "h264")
"""The codecs that are encoded; video of the others is copied alone. libx265 as PyAV brings it was seen to write
beyond its memory, to hang, and to make other bytes of the same frames.
"""

_ENCODERS: Final = {"av1": "libsvtav1", "h264": "libx264"}
# lerobot's defaults: crf 30 and a key frame every second frame for both, preset 12 for SVT-AV1.
_PRESETS: Final = {"av1": "12", "h264": "medium"}
# FFmpeg's libsvtav1 takes -2 to 13, of which -2 leaves the choice to SVT-AV1's version.
_SVT_PRESETS: Final = tuple(str(n) for n in range(-1, 14))
# x264_preset_names in x264.h. Their numbers are an undocumented second name, which we need not keep.
_X264_PRESETS: Final = (
    *("ultrafast", "superfast", "veryfast", "faster", "fast"),
    *("medium", "slow", "slower", "veryslow", "placebo"),
)
# SVT-AV1: "The maximum allowed frame rate is 240 fps"; of H.264 what a dataset may have.
_MOST_FPS: Final = {"av1": 240.0, "h264": 1e6}
_LEAST_FPS: Final = 1 / 1001


@dataclass(frozen=True, kw_only=True)
class VideoSettings:
    """How video is encoded; the defaults are lerobot's.

    Attributes:
        codec: "av1" (SVT-AV1) or "h264" (x264); of video that is copied and never encoded also "hevc" or "vp9".
        crf: constant rate factor, 0 (best) to 63 for AV1 and 51 for H.264.
        gop: frames from one key frame to the next; small ones make random access cheap.
        preset: the encoder's speed preset, "-1" (slowest) to "13" for AV1, "ultrafast" to "placebo" for H.264;
            None: 12 for AV1, "medium" for H.264.
    """

    codec: Codec = "av1"
    crf: int = 30
    gop: int = 2
    preset: str | None = None

    def __post_init__(self) -> None:
        checks.one_of("codec", self.codec, get_args(Codec))
        checks.whole("crf", self.crf, low=0, high=63 if self.codec == "av1" else 51)
        checks.whole("gop", self.gop, low=1, high=10_000)
        if self.preset is not None:
            known = _SVT_PRESETS if self.codec == "av1" else _X264_PRESETS
            if self.preset not in known:
                names = "-1 to 13" if self.codec == "av1" else ", ".join(known)
                raise ValueError(f"preset of {self.codec} is one of {names}, not {self.preset!r}")

    def check_rate(self, fps: float) -> None:
        """Refuse a frame rate that this encoder does not take, and a codec without an encoder.

        Raises:
            UsageError: E001; E002 for the codec.
        """
        if self.codec not in ENCODED:
            raise UsageError("E002", f"{self.codec} video is copied and not encoded; --video av1 encodes it anew")
        most = _MOST_FPS[self.codec]
        if not _LEAST_FPS <= fps <= most:
            hint = "; use --images" if self.codec == "h264" or fps < 1 else "; use --video h264 or --images"
            raise UsageError(
                "E001", f"{self.codec} video has 1/1001 to {most:g} frames a second, not {fps:g}{hint}"
            )

    @property
    def encoder(self) -> str:
        """FFmpeg's name of the encoder."""
        return _ENCODERS[self.codec]

    def options(self) -> dict[str, str]:
        """For the encoder."""
        out = {"crf": str(self.crf), "g": str(self.gop), "preset": self.preset or _PRESETS.get(self.codec, "")}
        if self.codec == "av1":
            return {**out, "svtav1-params": "lp=1"}
        # No B-frames: any end of an episode can then be cut without encoding a frame again.
        # Without cpu-independent, x264's choices depend on the processor and, now and then, on what was in memory.
        return {**out, "bf": "0", "threads": "1", "x264-params": "cpu-independent=1"}


@dataclass(frozen=True, kw_only=True)
class VideoCopy:
    """Video that is of the right codec already keeps its packets; only what can't be cut out of it is encoded.

    Attributes:
        cameras: name -> how it is encoded where it must be, in pairs. A camera's video is copied where it has the
            codec named here, however it was encoded.
        others: how all other cameras are encoded; None: they stay images.
        stated: cameras of which the source says that they were encoded with these settings.
    """

    cameras: tuple[tuple[str, VideoSettings], ...] = ()
    others: VideoSettings | None = None
    stated: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        names = [name for name, _ in self.cameras]
        if len(set(names)) != len(names):
            raise ValueError(f"cameras names one twice: {', '.join(names)}")

    def of(self, camera: str) -> VideoSettings | None:
        """How a camera is encoded; None for one that stays images."""
        return dict(self.cameras).get(camera, self.others)


def settings_of(video: VideoSettings | VideoCopy | None, camera: str) -> VideoSettings | None:
    """How a camera is encoded as video; None for one that stays images."""
    return video.of(camera) if isinstance(video, VideoCopy) else video
