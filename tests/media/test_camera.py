"""Every kind of PNG and JPEG: exactly the pixels that it has, or a refusal by name; never a cut, never a guess."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from tests.hdf5_files import pixels, read, robomimic_file
from vla_data.errors import DataError
from vla_data.media.camera import Cast, camera
from vla_data.media.frames import Frames
from vla_data.media.images import decode

H, W = 8, 12
RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (H, W, 3), dtype=np.uint8)
GRAY = RNG.integers(0, 256, (H, W), dtype=np.uint8)
SOLID = np.full((H, W), 255, np.uint8)
HOLE = np.where(np.arange(W) < 3, 0, SOLID).astype(np.uint8)


def _saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    image.save(buffer := io.BytesIO(), kind, **options)
    return buffer.getvalue()


def _gray_png(values: NDArray[np.uint8], bits: int) -> bytes:
    """Gray of fewer bits, which Pillow does not write, by PNG's own words."""
    rows = []
    for row in values:
        text = "".join(f"{value:0{bits}b}" for value in row)
        rows.append(b"\0" + int(text.ljust(-(-len(text) // 8) * 8, "0"), 2).to_bytes(-(-len(text) // 8), "big"))
    parts = [b"\x89PNG\r\n\x1a\n"]
    head = struct.pack(">IIBBBBB", W, H, bits, 0, 0, 0, 0)
    for kind, body in ((b"IHDR", head), (b"IDAT", zlib.compress(b"".join(rows))), (b"IEND", b"")):
        parts.append(struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)))
    return b"".join(parts)


def _three(gray: NDArray[Any]) -> NDArray[np.uint8]:
    return np.repeat(gray[..., None], 3, axis=2).astype(np.uint8)


def _palette(bits: int, **options: Any) -> tuple[bytes, NDArray[np.uint8]]:
    colours = RNG.integers(0, 256, (1 << bits, 3), dtype=np.uint8)
    index = RNG.integers(0, 1 << bits, (H, W), dtype=np.uint8)
    index.reshape(-1)[: 1 << bits] = np.arange(1 << bits)[: H * W]  # every colour, so that the table stays whole
    image = Image.fromarray(index, "L").convert("P")
    image.putdata(index.reshape(-1).tolist())
    image.putpalette(colours.tobytes())
    return _saved(image, "PNG", bits=bits, **options), colours[index]


def _gray(bits: int) -> tuple[bytes, NDArray[np.uint8]]:
    values = RNG.integers(0, 1 << bits, (H, W), dtype=np.uint8)
    return _gray_png(values, bits), _three(values * (255 // ((1 << bits) - 1)))


ONE = GRAY > 127
DEEP = RNG.integers(0, 1 << 16, (H, W), dtype=np.uint16)
CASES: dict[str, tuple[bytes, NDArray[np.uint8] | str]] = {
    "png 1": (_saved(Image.fromarray(ONE), "PNG"), _three(ONE * 255)),
    "png L": (_saved(Image.fromarray(GRAY), "PNG"), _three(GRAY)),
    "png L 1": _gray(1),
    "png L 2": _gray(2),
    "png L 4": _gray(4),
    "png P 1": _palette(1),
    "png P 2": _palette(2),
    "png P 4": _palette(4),
    "png RGB": (_saved(Image.fromarray(RGB), "PNG"), RGB),
    "png RGBA": (_saved(Image.fromarray(np.dstack([RGB, SOLID])), "PNG"), RGB),
    "png RGBA, a hole": (_saved(Image.fromarray(np.dstack([RGB, HOLE])), "PNG"), "transparent"),
    "png LA": (_saved(Image.fromarray(np.dstack([GRAY, SOLID]), "LA"), "PNG"), _three(GRAY)),
    "png LA, a hole": (_saved(Image.fromarray(np.dstack([GRAY, HOLE]), "LA"), "PNG"), "transparent"),
    "png P, a hole": (_palette(2, transparency=0)[0], "transparent"),
    "png RGB, a hole": (
        _saved(Image.fromarray(RGB), "PNG", transparency=tuple(RGB[0, 0].tolist())),
        "transparent",
    ),
    "png I;16": (_saved(Image.fromarray(DEEP), "PNG"), "16 bits"),
    "jpeg CMYK": (_saved(Image.fromarray(RGB).convert("CMYK"), "JPEG"), "CMYK"),
}
for _mode, _values in (("L", GRAY), ("RGB", RGB)):
    _data = _saved(Image.fromarray(_values), "JPEG", quality=95)
    CASES[f"jpeg {_mode}"] = (_data, np.asarray(Image.open(io.BytesIO(_data)).convert("RGB")))


@pytest.mark.parametrize("case", CASES)
def test_a_camera_has_all_of_an_image_or_refuses_it_by_name(case: str) -> None:
    data, want = CASES[case]
    if isinstance(want, str):
        with pytest.raises(DataError, match=want) as refused:
            camera(data)
        assert refused.value.code == "E208"
        return
    item, height, width = camera(data)
    found = Frames((item,), height, width)
    np.testing.assert_array_equal(found.pixels(0), want)
    assert found.pixels(0).shape == (H, W, 3)
    (png,) = found.encoded("png")  # what other readers get
    with Image.open(io.BytesIO(png)) as image:
        assert image.mode == "RGB"
        np.testing.assert_array_equal(np.asarray(image), want)


@pytest.mark.parametrize("case", [case for case in CASES if "RGBA" not in case and "LA" not in case])
def test_an_hdf5_camera_has_all_of_an_image_or_says_what_leaves_it_out(tmp_path: Path, case: str) -> None:
    data, want = CASES[case]
    path = robomimic_file(tmp_path / "a.h5")
    with h5py.File(path, "r+") as file:
        table = file.create_dataset("data/demo_0/obs/cam", (5,), dtype=h5py.vlen_dtype(np.uint8))
        for row in range(5):
            table[row] = np.frombuffer(data, np.uint8)
    options = {"task": "x", "channel_order": "rgb"}
    if isinstance(want, str) and want == "16 bits":  # which are numbers with every bit
        np.testing.assert_array_equal(read(path, **options).arrays["observation.cam"][2, ..., 0], DEEP)
    elif isinstance(want, str):
        with pytest.raises(DataError, match=rf"{want}.*--leave-out obs/cam"):
            read(path, **options)
        assert "observation.cam" not in read(path, **options, leave_out=("obs/cam",)).arrays
    else:
        np.testing.assert_array_equal(pixels(read(path, **options), "observation.images.cam")[2], want)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_is_followed_ignored_or_refused_as_the_reader_of_the_format_does(orientation: int, kind: str) -> None:
    image = Image.fromarray(RGB)
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = _saved(image, kind, exif=exif.tobytes())
    followed, height, width = camera(data, exif="follow")
    ignored, *size = camera(data, exif="ignore")
    with Image.open(io.BytesIO(data)) as stored:
        upright = np.asarray(ImageOps.exif_transpose(stored).convert("RGB"))  # as Hugging Face datasets reads it
    got = Frames((followed,), height, width).pixels(0)
    assert got.shape == (height, width, 3) == upright.shape
    close = 0 if kind == "PNG" else 3  # Pillow and simplejpeg need not round alike
    assert np.abs(got.astype(int) - upright).max() <= close
    np.testing.assert_array_equal(Frames((ignored,), size[0], size[1]).pixels(0), decode(data))
    assert size == [H, W]
    if orientation == 1:
        assert isinstance(followed, bytes)
        return
    assert isinstance(followed, Cast)
    assert isinstance(ignored, Cast)
    with pytest.raises(DataError, match=rf"E208.*orientation {orientation}"):
        camera(data)


def test_other_segments_before_exif_are_stepped_over_and_cut_ones_end_the_search() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    plain = _saved(Image.fromarray(RGB), "JPEG", exif=exif.tobytes(), comment=b"x" * 500, dpi=(9, 9))
    assert camera(plain, exif="follow")[1:] == (W, H)
    for cut in (3, 5, 9, 20, 40):
        with pytest.raises(DataError):
            camera(plain[:cut])
