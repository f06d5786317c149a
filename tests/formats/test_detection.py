"""What lies at a path: the format, or what is there instead and a way on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.hdf5_files import robomimic_file
from vla_data import open_source
from vla_data.errors import UsageError
from vla_data.formats import beside, detect

TREES: dict[str, tuple[tuple[str, ...], str]] = {
    "lerobot": (("meta/info.json", "data/chunk-000/file-000.parquet"), "lerobot"),
    "lerobot wins over what lies beside it": (("meta/info.json", "a.npz", "b.h5", "c.pkl"), "lerobot"),
    "rlds": (("toy/1.0.0/dataset_info.json", "toy/1.0.0/features.json"), "rlds"),
    "rlds wins over arrays beside it": (("1.0.0/dataset_info.json", "1.0.0/features.json", "x.npy"), "rlds"),
    "several rlds datasets": (
        (
            "a/1.0.0/dataset_info.json",
            "a/1.0.0/features.json",
            "b/1.0.0/dataset_info.json",
            "b/1.0.0/features.json",
        ),
        "rlds",
    ),
    "hdf5": (("suite/a.HDF5", "readme.txt"), "hdf5"),
    "rollouts": (("deep/er/a.npz", "log.txt"), "ppo_rollout"),
    "rollouts beside checkpoints": (("a.npy", "model.pt", "video.mp4", "notes.pkl"), "ppo_rollout"),
    "what macOS leaves": (("a.npz", "._b.h5"), "ppo_rollout"),
}

REFUSED: dict[str, tuple[tuple[str, ...], str, str]] = {
    "both": (("a.npz", "critic.h5"), "E002", "1 HDF5 file and 1 rollout .*hdf5:PATH or ppo_rollout:PATH"),
    "pickles": (("e0.pkl", "e1.pkl"), "E002", "pickled files .*vla_data.RolloutWriter"),
    "zarr": (
        ("replay.zarr/.zgroup", "replay.zarr/data/action/0.0"),
        "E002",
        "zarr .*name the folder .*of a replay buffer",
    ),
    "zarr of version 3": (("zarr.json", "c/0/0"), "E002", "zarr"),
    "zipped zarr": (("replay.zarr.zip",), "E002", "zarr"),  # in a folder
    "bag": (("run.bag",), "E002", "ROS bag"),
    "ROS 2": (("rosbag2/run_0.db3", "rosbag2/metadata.yaml"), "E002", "ROS bag"),
    "mcap": (("metadata.yaml", "run_0.mcap"), "E002", "MCAP"),
    "videos": (("ep0.mp4", "ep1.MP4"), "E002", "videos alone, which have no actions"),
    "bare shards": (("toy-train.tfrecord-00000-of-00002",), "E002", "dataset_info.json and features.json"),
    "bare tfrecords": (("data.tfrecord",), "E002", "dataset_info.json"),
    "unfinished": (("toy/1.0.0.incompleteAB/toy-train.tfrecord-00000-of-00001",), "E002", "unfinished TFDS build"),
    "half of two files": (
        ("1.0.0/features.json", "1.0.0/toy-train.tfrecord-00000-of-00001"),
        "E002",
        "unfinished",
    ),
    "parquet": (("data/chunk-000/file-000.parquet",), "E002", "Parquet files without meta/info.json"),
    "archives": (("suite.tar.gz",), "E002", "unpack"),
    "checkpoints": (("model.pt",), "E002", "PyTorch"),
    "arrow": (("data-00000-of-00001.arrow", "state.json"), "E002", "Arrow files"),
    "lance": (("set.lance/data/0.lance", "set.lance/_versions/1.manifest"), "E002", "Lance"),
    "weights": (("model.safetensors", "config.json"), "E002", "weights of a model"),
    "viewers": (("run.rrd",), "E002", "viewer"),
    "tables": (("log.csv", "more.jsonl"), "E002", "tables of text"),
    "pictures": (("cam/0.png", "cam/1.JPG"), "E002", "pictures alone, which have no actions"),
    "matlab": (("a.mat",), "E002", "MATLAB"),
    "packed": (("a.h5.gz",), "E002", "unpack"),
    "saved by datasets": (("dataset_info.json", "state.json", "data-00000-of-00001.arrow"), "E002", "Arrow files"),
    "LeRobot of old": (
        ("meta_data/info.json", "train/dataset_info.json", "train/data-00000-of-00001.arrow", "videos/a.mp4"),
        "E002",
        "format before v2.0",
    ),
    "tables beside videos": (("a.csv", "a.mp4"), "E002", "tables of text .* beside videos"),
    "unitree": (("episode_0000/data.json", "episode_0000/colors/0.jpg"), "E002", "Unitree"),
    "an aborted recording": (
        ("images/top/episode_000000/frame_000000.png",),
        "E002",
        "before its episode was saved",
    ),
    "packed pickles": (("a.pkl.gz",), "E002", "pickled files"),
    "unfinished downloads": (
        ("a.hdf5.part", ".cache/huggingface/download/x.incomplete"),
        "E002",
        "did not finish",
    ),
    "an old zarr": (("a/.zgroup", "a/x/.zarray", "a/x/0.0"), "E002", "a zarr store"),
    "a download begun": ((".cache/huggingface/download/data/x.incomplete",), "E002", "did not finish"),
    "a store": (("train/data.mdb", "train/lock.mdb"), "E002", "LMDB"),
    "logs": (("run/events.out.tfevents.17.host", "config.yaml"), "E002", "logs of a training run"),
    "words alone": ((".DS_Store", "README.md", ".git/HEAD"), "E003", r"has no data: it has .*\.md \(1\)"),
    "something else": (
        ("a.txt", "b.txt", "c.md"),
        "E002",
        r"not a dataset of a known format.*\.txt \(2\), \.md \(1\)",
    ),
    "nothing": ((), "E003", "has no files"),
    "several lerobot datasets": (
        ("a/meta/info.json", "b/meta/info.json"),
        "E001",
        r"name one of \S+/in/a, \S+/in/b",
    ),
    "one lerobot dataset below": (("a/meta/info.json",), "E001", r"a LeRobot dataset below; name it: \S+/in/a"),
}


def made(folder: Path, names: tuple[str, ...]) -> Path:
    folder.mkdir()
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    return folder


@pytest.mark.parametrize("kind", TREES)
def test_format_is_told_by_the_files(tmp_path: Path, kind: str) -> None:
    names, want = TREES[kind]
    assert detect(made(tmp_path / "in", names)) == want


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_not_read_is_named_with_a_way_on(tmp_path: Path, kind: str) -> None:
    names, code, says = REFUSED[kind]
    with pytest.raises(UsageError, match=says) as caught:
        detect(made(tmp_path / "in", names))
    assert caught.value.code == code
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(("name", "says"), [("a.pkl", "pickled"), ("a.mcap", "MCAP"), ("a.xyz", "known format")])
def test_a_file_is_told_by_its_ending(tmp_path: Path, name: str, says: str) -> None:
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(UsageError, match=says):
        detect(tmp_path / name)
    (tmp_path / "a.hdf5").write_bytes(b"")
    assert detect(tmp_path / "a.hdf5") == "hdf5"


def loop(folder: Path) -> None:
    (folder / "loop").symlink_to(folder)


def away(folder: Path) -> None:
    made(folder.parent / "out", ("b.npz",))
    (folder / "more").symlink_to(folder.parent / "out")


@pytest.mark.parametrize(("link", "name"), [(loop, "loop"), (away, "more")])
def test_links_to_folders_are_not_followed_and_named(
    tmp_path: Path, link: Callable[[Path], None], name: str
) -> None:
    folder = made(tmp_path / "in", ())
    link(folder)
    with pytest.raises(UsageError, match=f"links to folders are not followed: {name}"):
        detect(folder)


def test_what_lies_beside_is_said(tmp_path: Path) -> None:
    folder = made(tmp_path / "in", ("a.npz", "b.npy", "c.pkl", "d.pkl", "critic.h5", "log.txt", "model.pt"))
    lines = beside(folder, "ppo_rollout")
    assert [line.split(": ")[1] for line in lines] == ["1 file", "2 files"]
    assert "HDF5" in lines[0]
    assert "pickled" in lines[1]
    assert beside(folder / "a.npz", "ppo_rollout") == beside(folder, "lerobot") == ()


@pytest.mark.parametrize(
    ("names", "inner", "what"),
    [
        (("meta/info.json", "data/chunk-000/file-000.parquet"), "data", "a LeRobot dataset"),
        (("meta/info.json", "data/chunk-000/file-000.parquet"), "meta", "a LeRobot dataset"),
        (("meta/info.json", "data/chunk-000/file-000.parquet"), "meta/info.json", "a LeRobot dataset"),
        (("meta/info.json", "videos/top/chunk-000/file-000.mp4"), "videos/top/chunk-000", "a LeRobot dataset"),
        (("dataset_info.json", "features.json", "x.tfrecord-00000"), "features.json", "an RLDS dataset"),
        (("dataset_info.json", "features.json", "x.tfrecord-00000"), "x.tfrecord-00000", "an RLDS dataset"),
    ],
)
def test_a_part_of_a_dataset_names_the_dataset(
    tmp_path: Path, names: tuple[str, ...], inner: str, what: str
) -> None:
    root = made(tmp_path / "in", names)
    with pytest.raises(UsageError, match=f"is a part of {what}; name its folder: {root}") as caught:
        detect(root / inner)
    assert caught.value.code == "E002"


def test_a_folder_of_files_that_are_read_is_read_wherever_it_lies(tmp_path: Path) -> None:
    root = made(tmp_path / "in", ("meta/info.json", "raw/a.hdf5"))
    assert detect(root / "raw") == "hdf5"


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("lerobot/pusht", "hf://datasets/lerobot/pusht"),
        ("~/data", "for the shell"),
        ("lerobt:x", "did you mean lerobot:x"),
        ("nothing", "is not there$"),
    ],
)
def test_an_address_at_which_nothing_is_says_what_may_be_meant(text: str, hint: str) -> None:
    with pytest.raises(UsageError, match=hint) as caught:
        detect(Path(text))
    assert caught.value.code == "E003"


def test_a_cache_of_hugging_face_has_each_file_once(tmp_path: Path) -> None:
    """There it lies twice: by its digest, and as a link by its name."""
    cache = tmp_path / "datasets--me--set"
    (cache / "blobs").mkdir(parents=True)
    robomimic_file(cache / "blobs" / ("a" * 64), demos=("demo_0", "demo_1"))
    for revision in ("main", "next"):
        (cache / "snapshots" / revision).mkdir(parents=True)
        (cache / "snapshots" / revision / "set.hdf5").symlink_to(f"../../blobs/{'a' * 64}")
        if revision == "main":
            ids = [ref.id for ref in open_source(tmp_path, task="x").episodes()]
            place = "datasets--me--set/snapshots/main/set.hdf5"
            assert ids == [f"{place}/demo_0", f"{place}/demo_1"]
    with pytest.raises(UsageError, match=r"E001 .*several snapshots of a cache; name one of \S+/main, \S+/next"):
        detect(tmp_path)
    assert len(open_source(cache / "snapshots/next", task="x").episodes()) == 2
