"""Mutated rollouts: never a crash, a hang, a foreign exception, or more than one line."""

from __future__ import annotations

import faulthandler
import random
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.paths import ROOT, TESTS

PICKLES = TESTS / "data/pickles"
GADGETS = [b"posix", b"system", b"builtins", b"eval", b"numpy.testing._private.utils", b"runstring", b"copyreg"]


def seeds() -> list[tuple[str, bytes]]:
    """Forty honest files of all forms, and the bare members of those that are archives."""
    files = sorted(PICKLES.glob("*.np[yz]"))
    out = []
    for path in random.Random(0).sample(files, 40):
        out.append((path.suffix, path.read_bytes()))
        if path.suffix == ".npz":
            with zipfile.ZipFile(path) as archive:
                out.append((".npy", archive.read("arr_0.npy")))
    return out


def mutate(data: bytes, rng: random.Random, others: list[bytes]) -> bytes:
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        at = rng.randrange(max(len(out), 1))
        kind = rng.randrange(9)
        if kind == 0 and out:
            out[at] ^= 1 << rng.randrange(8)
        elif kind == 1 and out:
            out[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        elif kind == 2:
            del out[at:]
        elif kind == 3:
            del out[at : at + rng.randrange(1, 64)]
        elif kind == 4:
            other = rng.choice(others)
            start = rng.randrange(max(len(other), 1))
            out[at:at] = other[start : start + rng.randrange(1, 200)]
        elif kind == 5:  # an opcode, of any kind
            out[at:at] = bytes([rng.randrange(256)])
        elif kind == 6:  # a length, of any size
            width = rng.choice((1, 2, 4, 8))
            out[at : at + width] = rng.choice((0, 1, (1 << 8 * width) - 1, 1 << (8 * width - 1))).to_bytes(
                width, "little"
            )
        elif kind == 7:
            gadget = rng.choice(GADGETS)
            out[at : at + len(gadget)] = gadget
        else:
            out[at:at] = out[at : at + rng.randrange(1, 400)]
    return bytes(out)


def fuzz(count: int, seed: int) -> None:
    """Read ``count`` mutants in this process; raises at the first that does not behave."""
    import time

    from converters.rollouts.source import PpoRolloutSource
    from vla_data.errors import CODES, DataError
    from vla_data.safety.text import show

    faulthandler.enable()
    rng = random.Random(seed)
    corpus = seeds()
    others = [data for _, data in corpus]
    source = PpoRolloutSource(root=Path())
    accepted = 0
    for i in range(count):
        suffix, data = corpus[rng.randrange(len(corpus))]
        mutant = mutate(data, rng, others)
        start = time.process_time()  # of this process: a busy machine is no defect
        try:
            episode = source.parse(f"mutant{suffix}", mutant, "")
            assert len(episode) == len(episode.index) > 0
            assert all(len(array) == len(episode) for array in episode.arrays.values())
            accepted += 1
        except DataError as error:
            assert error.code in CODES
            assert "\n" not in error.message
            assert show(error.message) == error.message.replace("\\", "\\\\"), error.message
        assert time.process_time() - start < 2.0, f"mutant {i} of seed {seed}"
    print(accepted)


@pytest.mark.parametrize("seed", range(4))
def test_20_000_mutated_rollouts_are_refused_in_one_line_or_read_well_typed(seed: int) -> None:
    run = [sys.executable, "-c", f"from tests.safety.test_fuzz import fuzz; fuzz(5_000, {seed})"]
    done = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-3000:]
    assert int(done.stdout) > 0


@pytest.mark.nightly
@pytest.mark.timeout(0)
@pytest.mark.parametrize("seed", range(100, 140))
def test_two_million_mutated_rollouts(seed: int) -> None:
    run = [sys.executable, "-c", f"from tests.safety.test_fuzz import fuzz; fuzz(50_000, {seed})"]
    done = subprocess.run(run, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
