"""How video is encoded. Apart from `vla_data.video`, so that naming it loads no video library."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from vla_data import checks

Codec = Literal["av1", "h264"]

_ENCODERS: Final = {"av1": "libsvtav1", "h264": "libx264"}
# lerobot's defaults: crf 30 and a key frame every second frame for both, preset 12 for SVT-AV1.
_PRESETS: Final = {"av1": "12", "h264": "medium"}


@dataclass(frozen=True, kw_only=True)
class VideoSettings:
    """How video is encoded; the defaults are lerobot's.

    Attributes:
        codec: "av1" (SVT-AV1) or "h264" (x264).
        crf: constant rate factor, 0 (best) to 63 for AV1 and 51 for H.264.
        gop: frames from one key frame to the next; small ones make random access cheap.
        preset: the encoder's speed preset; None: 12 for AV1, "medium" for H.264.
    """

    codec: Codec = "av1"
    crf: int = 30
    gop: int = 2
    preset: str | None = None

    def __post_init__(self) -> None:
        checks.one_of("codec", self.codec, tuple(_ENCODERS))
        checks.whole("crf", self.crf, low=0, high=63 if self.codec == "av1" else 51)
        checks.whole("gop", self.gop, low=1, high=10_000)

    @property
    def encoder(self) -> str:
        """FFmpeg's name of the encoder."""
        return _ENCODERS[self.codec]

    def options(self) -> dict[str, str]:
        """For the encoder."""
        out = {"crf": str(self.crf), "g": str(self.gop), "preset": self.preset or _PRESETS[self.codec]}
        if self.codec == "av1":
            return {**out, "svtav1-params": "lp=1"}
        # No B-frames: packets then come in the order in which they are shown, and can be joined as they are.
        return {**out, "bf": "0", "threads": "1"}
