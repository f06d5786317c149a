"""All cases: what each is about, which code it speaks of, what it needs, and how it is run quickly or in full."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_CORE: Final = tuple(f"vla_data/{room}" for room in ("core", "files", "jobs", "media", "safety", "statistics"))
_ROLLOUTS: Final = ("converters/rollouts", "vla_data/steps")


@dataclass(frozen=True, slots=True)
class Case:
    """One benchmark.

    Attributes:
        name: as on the command line.
        title: of its section.
        about: a paragraph, for who reads the figures.
        module: of this package, which takes ``--output``.
        code: folders that it speaks of.
        needs: modules of the interpreter, without which it is left out.
        quick: arguments of a quick run.
        full: arguments of a full one.
        repeats: whether it takes ``--repeats``.
        quick_repeats: of a quick run.
        lerobot: whether it takes ``--lerobot-python``, and whether it can do without.
    """

    name: str
    title: str
    about: str
    module: str
    code: tuple[str, ...] = _CORE
    needs: tuple[str, ...] = ()
    quick: tuple[str, ...] = ()
    full: tuple[str, ...] = ()
    repeats: bool = True
    quick_repeats: int = 2
    lerobot: str = "no"


CASES: Final = (
    Case(
        "P19",
        "Starting (P19)",
        "Importing, the command line and small jobs, of episodes that cost next to nothing.",
        "p19_start",
        code=("vla_data/jobs", "vla_data/cli", "vla_data/core", "vla_data/files"),
    ),
    Case(
        "P1",
        "Rollouts to TFDS (P1, P2)",
        "Episodes of 80 steps. The peer is RL4VLA's way: a TFDS generator builder, ten threads, "
        "`np.load(allow_pickle=True)`, TFDS encodes. Ours is the whole command; of the peer both are given, "
        "with its "
        "start-up and without. The limit is reading, one SHA-256, inflating and JPEG-encoding what is kept, and "
        "nothing else, in one process, with the library's own codecs.",
        "p1_rollouts_to_tfds",
        code=(*_CORE, *_ROLLOUTS, "converters/rlds", "builders"),
        needs=("tensorflow", "tensorflow_datasets"),
        quick=("--episodes", "8", "--case", "P1", "--case", "P2-256"),
        full=("--episodes", "8", "64", "640"),
    ),
    Case(
        "P3",
        "Rollouts to LeRobot (P3, P4)",
        "Episodes of 80 steps, 480x640. The peer is `LeRobotDataset`. PSNR is against the source; a row whose "
        "two sides "
        "differ by more than 0.1 dB says MISSED, whatever its ratio. JPEG is lossy and the peer has lossless "
        "images "
        "alone, so it has a table of its own.",
        "p3_rollouts_to_lerobot",
        code=(*_CORE, *_ROLLOUTS, "converters/lerobot"),
        needs=("av",),
        quick=("--episodes", "4", "--fastest"),
        full=("--episodes", "8", "64"),
        lerobot="needed",
    ),
    Case(
        "P5",
        "Editing video sets (P5)",
        "One of 8 episodes of 80 frames of 480x640 (AV1, a key frame every second frame) is left out, by "
        "`vla-data edit`, which copies packets, and by what `lerobot-edit-dataset` does, which encodes again. "
        "The video step is without the rest of the command, such as importing.",
        "p5_editing",
        code=(*_CORE, "converters/lerobot", "vla_data/selection"),
        needs=("av",),
        lerobot="needed",
    ),
    Case(
        "P6",
        "Statistics of a dataset (P6)",
        "openpi's statistics of a dataset with images.",
        "p6_statistics",
        code=("vla_data/statistics", "vla_data/files"),
        quick=("--episodes", "8", "--peer-frames", "160"),
        lerobot="needed",
    ),
    Case(
        "P7",
        "Statistics of rows (P7)",
        "Steps of 7 dimensions in memory. Ours are exact; openpi's and lerobot's are not.",
        "p7_statistics",
        code=("vla_data/statistics",),
        quick=("--rows", "200000"),
        lerobot="can",
    ),
    Case(
        "P8",
        "Advantages (P8)",
        "One million frames; the peers are a loop over frames and OpenTau's way, which reads values twice.",
        "p8_advantages",
        code=("vla_data/advantages",),
        quick=("--short",),
    ),
    Case(
        "P9",
        "Batches (P9)",
        "Random frames of 480x640 to batches of 32 of 224x224: ours from a LeRobot dataset and from packs, "
        "dlimp's way from "
        "the same episodes as RLDS, `LeRobotDataset` from ours. CPU ms are of the process that makes the batches.",
        "p9_batches",
        code=("vla_data/mixtures", "vla_data/media", "converters/lerobot"),
        needs=("tensorflow",),
        quick=("--episodes", "4", "--batches", "8"),
        full=("--episodes", "16", "--batches", "24"),
        lerobot="can",
    ),
    Case(
        "P11",
        "Growth (P11)",
        "Episodes of 30 steps, 96x128; memory of the largest process and of all.",
        "p11_growth",
        code=(*_CORE, *_ROLLOUTS, "converters/rlds", "converters/lerobot"),
        full=("--full",),
        repeats=False,
    ),
    Case(
        "P12",
        "Reading safely (P12)",
        "Ours reads, hashes, walks the pickle symbolically and validates; the peer is "
        "`np.load(allow_pickle=True)`. The goal is "
        "at most 1.3 times the peer's time.",
        "p12_reading",
        code=("vla_data/safety", "converters/rollouts"),
        quick=("--episodes", "3"),
    ),
    Case(
        "P13",
        "Reading RLDS (P13)",
        "Whole episodes, without TensorFlow and with it.",
        "p13_rlds_reading",
        code=("vla_data/safety", "converters/rlds"),
        needs=("tensorflow", "tensorflow_datasets"),
        quick=("--episodes", "60"),
    ),
    Case(
        "P14",
        "Conversions (P14)",
        "HDF5 and RLDS to LeRobot beside any4lerobot's and openpi's ways.",
        "p14_conversions",
        code=(*_CORE, "converters/hdf5", "converters/rlds", "converters/lerobot"),
        needs=("h5py", "tensorflow"),
        quick=("--short",),
        quick_repeats=1,
        lerobot="needed",
    ),
    Case(
        "P15",
        "Growth of conversions (P15)",
        "Each from so many episodes to ten times as many; the last column is what each further episode costs.",
        "p15_growth_conversion",
        code=(*_CORE, "converters"),
        needs=("h5py",),
        quick=("--episodes", "8", "--steps", "20"),
        repeats=False,
    ),
    Case(
        "P17",
        "Collecting (P17)",
        "Chunks of a policy in the table-top scene beside the bare simulator and the bare policy; the goal is "
        "80 %.",
        "p17_collecting",
        code=("training_adapters/policy.py", "training_adapters/policies", "training_adapters/envs"),
        needs=("mujoco", "torch"),
        quick=("--lanes", "16", "--rounds", "3"),
    ),
)
