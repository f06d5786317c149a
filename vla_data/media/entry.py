"""Whether decoding may begin at a packet with nothing before it: a look at its first bytes, by the codec's rules.

That a container calls a packet a key frame is not enough: some encoders mark pictures that are refreshed in
strips, from which decoding recovers frames later. Here only a picture counts that ends all references to earlier
ones:

- H.264: a slice of an IDR picture, NAL unit type 5 (ITU-T H.264, table 7-1)
- HEVC: a slice of an IRAP picture, types 16 to 21 (ITU-T H.265, table 7-1)
- AV1: a shown frame of type KEY_FRAME (AV1 specification, 5.9.2)
- VP9: a frame whose header says key frame (VP9 specification, 6.2)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

_HEVC_IRAP: Final = range(16, 22)
_HEVC_SLICES: Final = range(32)
_H264_IDR: Final = 5
_H264_SLICES: Final = range(1, 6)
_AV1_FRAMES: Final = (3, 6)  # OBU_FRAME_HEADER, OBU_FRAME


def is_entry(codec: str, packet: bytes, extradata: bytes) -> bool:
    """Whether a packet needs no earlier one.

    Args:
        codec: ``h264``, ``hevc``, ``av1`` or ``vp9``; of others nothing is known.
        packet: as an mp4 file has it, NAL units behind their lengths.
        extradata: of the file, which says how long these lengths are.
    """
    look = _LOOKS.get(codec)
    try:
        return look is not None and look(packet, extradata)
    except IndexError:  # it ends where something should be
        return False


def _units(packet: bytes, width: int) -> Iterator[bytes]:
    """NAL units, each behind its length."""
    at = 0
    while at + width <= len(packet):
        size = int.from_bytes(packet[at : at + width], "big")
        yield packet[at + width : at + width + size]
        at += width + size


def _h264(packet: bytes, extradata: bytes) -> bool:
    width = (extradata[4] & 3) + 1
    kinds = [unit[0] & 31 for unit in _units(packet, width) if unit]
    return next((kind for kind in kinds if kind in _H264_SLICES), None) == _H264_IDR


def _hevc(packet: bytes, extradata: bytes) -> bool:
    width = (extradata[21] & 3) + 1
    kinds = [unit[0] >> 1 & 63 for unit in _units(packet, width) if unit]
    return next((kind for kind in kinds if kind in _HEVC_SLICES), None) in _HEVC_IRAP


def _av1(packet: bytes, _: bytes) -> bool:
    at = 0
    while at < len(packet):
        head = packet[at]
        at += 2 if head & 4 else 1  # an extension is one more byte
        size = shift = 0
        if head & 2:
            more = True
            while more:
                more = bool(packet[at] & 128)
                size |= (packet[at] & 127) << shift
                at, shift = at + 1, shift + 7
        else:
            size = len(packet) - at
        if (head >> 3 & 15) in _AV1_FRAMES:
            return packet[at] >> 4 == 0b0001  # not shown again, KEY_FRAME, to be shown
        at += size
    return False


def _vp9(packet: bytes, _: bytes) -> bool:
    head = packet[0]  # marker 2, profile low and high, then, but in profile 3, show_existing_frame, frame_type
    return head >> 6 == 0b10 and head & 0b00110000 != 0b00110000 and head & 0b00001100 == 0


_LOOKS: Final[Mapping[str, Callable[[bytes, bytes], bool]]] = {
    "av1": _av1,
    "h264": _h264,
    "hevc": _hevc,
    "vp9": _vp9,
}
