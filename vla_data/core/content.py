"""What an episode holds, as one number: equal for equal content, whatever the file was called."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np

from vla_data.core import Array


def content_digest(
    task: str, arrays: Mapping[str, Array], images: Mapping[str, Sequence[bytes | memoryview]]
) -> str:
    """SHA-256 over the task, the arrays (name, dtype, shape, values) and the encoded images of an episode.

    Every part is preceded by its length, so that no two different episodes give the same input to the hash.
    """
    sha256 = hashlib.sha256()

    def add(data: bytes | memoryview) -> None:
        sha256.update(len(data).to_bytes(8, "little"))
        sha256.update(data)

    add(task.encode("utf-8", "surrogatepass"))
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        little = array.astype(array.dtype.newbyteorder("<"), copy=False)
        add(f"{name} {little.dtype.str} {little.shape}".encode())
        add(little.tobytes())
    for name in sorted(images):
        add(f"{name} {len(images[name])}".encode())
        for image in images[name]:
            add(image)
    return sha256.hexdigest()
