"""Write the rollout fixtures of one (numpy, Pillow) pair.

    python make.py FOLDER [--protocols]

Run once per interpreter/numpy/Pillow combination; each run adds its files to FOLDER and its rows to
FOLDER/expected.json.  Everything is a formula of (step, row, column), so that a second run with the
same versions gives the same bytes.  Works on Python 3.8 and later with nothing but numpy and Pillow.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import pickle
import platform
from pathlib import Path
from typing import Any

import numpy as np
import PIL
from PIL import Image

STEPS = 4
INSTRUCTION = "put carrot on plate \u2192 \u76d8"
SUCCESS = [False, False, True, True]


def pixels(step: int, height: int, width: int) -> np.ndarray:
    """Steps of 4 pixels: they compress well, yet a flip or a swap of axes, bands or time steps shows."""
    y, x = np.mgrid[0:height, 0:width] // 4
    bands = [y * 30 + step * 11, x * 20 + step * 7, 0 * x + step * 29]
    return np.ascontiguousarray(np.stack(bands, axis=-1) % 256).astype(np.uint8)


def frames(count: int, height: int, width: int) -> list[np.ndarray]:
    return [pixels(step, height, width) for step in range(count)]


def actions() -> np.ndarray:
    """Dyadic fractions: exact in float32 and in float64, so that expected.json holds the very values."""
    rows = []
    for t in range(STEPS):
        rows.append([((t * 7 + d) * 13 % 17 - 8) / 32 for d in range(6)] + [1.0 if t < 2 else -1.0])
    rows[0][:6] = [0.0] * 6
    return np.array(rows, dtype=np.float32)


def infos(kind: str) -> Any:
    rows: list[dict[str, Any]] = []
    for t, success in enumerate(SUCCESS):
        if kind == "array":  # the motion planner keeps one-element arrays, and the final count in every row
            rows.append(
                {
                    "elapsed_steps": np.array([STEPS], dtype=np.int32),
                    "gripper_carrot_dist": np.array([0.5 - t / 8], dtype=np.float32),
                    "success": np.array([success]),
                }
            )
        elif kind == "scalar":
            rows.append(
                {
                    "elapsed_steps": np.int32(t + 1),
                    "gripper_carrot_dist": np.float32(0.5 - t / 8),
                    "success": np.bool_(success),
                }
            )
        else:
            rows.append({"elapsed_steps": t + 1, "gripper_carrot_dist": 0.5 - t / 8, "success": success})
    if kind == "array":
        column = np.empty(STEPS, dtype=object)
        column[:] = rows
        return column
    return rows


def encoded(frame: np.ndarray, kind: str) -> bytes:
    out = io.BytesIO()
    if kind == "JPEG":
        Image.fromarray(frame).save(out, "JPEG", quality=95)
    else:
        Image.fromarray(frame).save(out, "PNG")
    return out.getvalue()


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def rollout(variant: str, height: int, width: int) -> tuple[dict[str, Any], list[bytes]]:
    """The dict to save, and the bytes that stand for its frames in expected.json."""
    action = actions()
    images = frames(STEPS if variant == "planner" else STEPS + 1, height, width)
    rolled: dict[str, Any]
    if variant == "planner":
        rolled = {
            "is_image_encode": False,
            "image": [Image.fromarray(frame).convert("RGB") for frame in images],
            "instruction": np.array([INSTRUCTION]),
            "action": action,
            "info": infos("array"),
        }
        return rolled, [frame.tobytes() for frame in images]
    if variant == "octo":
        rolled = {
            "image": [Image.fromarray(frame).convert("RGB") for frame in images],
            "instruction": INSTRUCTION,
            "action": action.tolist(),
            "info": infos("python"),
        }
        return rolled, [frame.tobytes() for frame in images]
    if variant == "ppo":
        rolled = {
            "image": np.stack(images),
            "instruction": INSTRUCTION,
            "action": action,
            "info": infos("scalar"),
        }
        return rolled, [frame.tobytes() for frame in images]
    if variant == "encoded":
        jpegs = [encoded(frame, "JPEG") for frame in images]
        rolled = {
            "is_image_encode": True,
            "image": [np.frombuffer(data, dtype=np.uint8).copy() for data in jpegs],
            "instruction": np.array([INSTRUCTION]),
            "action": action,
            "info": infos("array"),
        }
        return rolled, jpegs
    if variant == "unconverted":  # JPEG and PNG frames in turn: two image classes in one pickle
        pictures = [opened(encoded(frame, "PNG" if t % 2 else "JPEG")) for t, frame in enumerate(images)]
        rolled = {
            "image": pictures,
            "instruction": INSTRUCTION,
            "action": action.tolist(),
            "info": infos("python"),
        }
        return rolled, [picture.tobytes() for picture in pictures]
    if variant == "bytes":  # PNG has no loss: the frames of expected.json are the pixels
        rolled = {
            "image": [encoded(frame, "PNG") for frame in images],
            "instruction": [INSTRUCTION],
            "action": list(action),
            "info": infos("python"),
        }
        return rolled, [frame.tobytes() for frame in images]
    raise ValueError(variant)


def write_protocol(path: Path, rolled: dict[str, Any], protocol: int) -> None:
    """np.save fixes the protocol (3 on numpy 1.x, 4 on 2.x); these are the files of other writers."""
    box = np.array(rolled, dtype=object)
    with path.open("wb") as out:
        np.lib.format.write_array_header_1_0(out, np.lib.format.header_data_from_array_1_0(box))
        out.write(pickle.dumps(box, protocol=protocol))


# Plain .npy files are not compressed: their frames are smaller, to keep every file under 6 kB.
SIZES = {
    "planner": ("npz", 24, 32),
    "octo": ("npy", 12, 16),
    "ppo": ("npz", 24, 32),
    "encoded": ("npz", 24, 32),
    "unconverted": ("npy", 12, 16),
    "bytes": ("npz", 24, 32),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--protocols", action="store_true", help="also write pickle protocols 2 to 5 by hand")
    options = parser.parse_args()

    listing = options.folder / "expected.json"
    rows: dict[str, Any] = json.loads(listing.read_text("utf-8")) if listing.exists() else {}
    pair = f"np{np.__version__}_pil{PIL.__version__}"
    default_protocol = 3 if np.__version__.startswith("1.") else 4

    def note(name: str, variant: str, protocol: int, size: tuple[int, int], parts: list[bytes]) -> None:
        rows[name] = {
            "numpy": np.__version__,
            "pillow": PIL.__version__,
            "python": platform.python_version(),
            "variant": variant,
            "protocol": protocol,
            "T": STEPS,
            "n_images": len(parts),
            "height": size[0],
            "width": size[1],
            "instruction": INSTRUCTION,
            "action": actions().tolist(),
            "success": SUCCESS,
            "sha256_of": "jpeg" if variant == "encoded" else "rgb",
            "sha256": hashlib.sha256(b"".join(parts)).hexdigest(),
        }

    for variant, (ending, height, width) in SIZES.items():
        rolled, parts = rollout(variant, height, width)
        path = options.folder / f"{pair}_{variant}.{ending}"
        if ending == "npz":
            np.savez_compressed(str(path), rolled)
        else:
            np.save(str(path), rolled)  # type: ignore[arg-type]
        note(path.name, variant, default_protocol, (height, width), parts)

    if options.protocols:
        for variant in ("planner", "octo"):
            rolled, parts = rollout(variant, 12, 16)
            for protocol in (2, 3, 4, 5):
                path = options.folder / f"{pair}_{variant}_p{protocol}.npy"
                write_protocol(path, rolled, protocol)
                note(path.name, variant, protocol, (12, 16), parts)

    # One file a line, so that a diff stays readable.
    lines = [json.dumps(name) + ": " + json.dumps(rows[name], sort_keys=True) for name in sorted(rows)]
    listing.write_text("{\n" + ",\n".join(lines) + "\n}\n", "utf-8")


if __name__ == "__main__":
    main()
