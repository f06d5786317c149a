"""Prints how many results each of a few clips has in processes whose memory held other things before.

python same_video.py CODEC TRIALS
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import random
import sys

import numpy as np
from PIL import Image

from vla_data.media import video
from vla_data.media.video_settings import VideoSettings

codec, trials = sys.argv[1], int(sys.argv[2])
settings = VideoSettings(codec=codec)  # type: ignore[arg-type]
random_clip = np.random.default_rng(0)
clips = []
for side in (8, 16, 32, 32, 32, 32):
    coarse = random_clip.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    big = np.asarray(Image.fromarray(coarse).resize((side + 16, side)))
    noise = random_clip.integers(0, 24, (10, side, side, 3), dtype=np.uint8)
    clips.append(
        [np.minimum(big[:, t : t + side].astype(int) + noise[t], 255).astype(np.uint8) for t in range(10)]
    )

libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = (
    ctypes.c_void_p,
    [ctypes.c_size_t],
    [ctypes.c_void_p],
)


def disturb(seed: int) -> None:
    chance = random.Random(seed)
    places = []
    for _ in range(400):
        size = int(2 ** chance.uniform(4, 20))
        places.append(libc.malloc(size))
        ctypes.memset(places[-1], chance.randrange(256), size)
    chance.shuffle(places)
    for place in places:
        libc.free(place)


results: list[set[str]] = [set() for _ in clips]
for trial in range(trials):
    reader, writer = os.pipe()
    if os.fork() == 0:
        disturb(trial)
        found = [hashlib.sha256(video.encode(clip, settings, fps=20.0)).hexdigest() for clip in clips]
        os.write(writer, " ".join(found).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        for result, digest in zip(results, pipe.read().split(), strict=True):
            result.add(digest)
    os.wait()
print(*map(len, results))
