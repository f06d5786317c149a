"""RLDS datasets as others write and keep them: names of files, classes of features, instructions, links."""

from __future__ import annotations

import hashlib
import io
import shutil
from pathlib import Path
from typing import Any

import pytest

from converters.rlds import features, tfrecord
from converters.rlds import files as rlds_files
from converters.rlds.source import RldsSource
from tests.converters.rlds.test_source import bridge, copy, edit, rewrite, values_of
from vla_data.errors import DataError, UsageError

MODULE = "tensorflow_datasets.core.features"
INFO, FEATURES = "dataset_info.json", "features.json"


def actions(source: RldsSource) -> list[Any]:
    return [source.read(ref).arrays["action"].tolist() for ref in source.episodes()]


# -- names of files ---------------------------------------------------------------------------------------

TEMPLATES = [
    "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_INDEX}",  # tfds.core.SequentialWriter
    "{DATASET}_{SPLIT}-{SHARD_X_OF_Y}.{FILEFORMAT}",
    "{SPLIT}-{SHARD_INDEX}-{NUM_SHARDS}.{FILEFORMAT}",
    "episodes.{SPLIT}={SHARD_INDEX}",
]


def renamed(folder: Path, template: str) -> Path:
    def change(info: Any) -> None:
        for split in info["splits"]:
            split["filepathTemplate"] = template

    copy(folder, info=change)
    for shard in folder.glob("*.tfrecord-*"):
        name, split = shard.name.split(".tfrecord")[0].rsplit("-", 1)
        index, count = shard.name.rsplit(".tfrecord-", 1)[1].split("-of-")
        values = {
            "DATASET": name,
            "SPLIT": split,
            "FILEFORMAT": "tfrecord",
            "SHARD_INDEX": index,
            "NUM_SHARDS": count,
            "SHARD_X_OF_Y": f"{index}-of-{count}",
        }
        shard.rename(folder / template.format(**values))
    return folder


@pytest.mark.parametrize("template", TEMPLATES)
def test_files_are_found_by_any_template_of_tfds(tmp_path: Path, template: str) -> None:
    assert actions(bridge(renamed(tmp_path / "d", template))) == actions(bridge())


@pytest.mark.parametrize("template", TEMPLATES)
def test_files_that_nobody_lists_are_refused_by_any_template(tmp_path: Path, template: str) -> None:
    folder = renamed(tmp_path / "d", template)
    extra = rlds_files.shard_name(template, "bridge_dataset", "train", "tfrecord", 7, 9)
    (folder / extra).write_bytes(b"")
    with pytest.raises(UsageError, match="does not list it") as caught:
        bridge(folder).episodes()
    assert caught.value.code == "E204"


@pytest.mark.parametrize(
    "template", ["../{SPLIT}", "/etc/{SPLIT}", "{SPLIT}/x", "{OTHER}", "{SPLIT", "a\0b", "", ["x"], "{SPLIT}\n"]
)
def test_templates_that_lead_elsewhere_are_refused(tmp_path: Path, template: Any) -> None:
    def change(info: Any) -> None:
        info["splits"][0]["filepathTemplate"] = template

    folder = copy(tmp_path / "d", info=change)
    if template == "":  # protobuf's default: TFDS's own
        assert bridge(folder).episodes()
        return
    with pytest.raises(UsageError) as caught:
        bridge(folder).episodes()
    assert caught.value.code == "E122"


# -- classes of features ------------------------------------------------------------------------------------


def tree(**step: Any) -> Any:
    dictionary = f"{MODULE}.features_dict.FeaturesDict"
    inner = {"pythonClassName": dictionary, "featuresDict": {"features": step}}
    listed = {"pythonClassName": f"{MODULE}.dataset_feature.Dataset", "sequence": {"feature": inner}}
    return {"pythonClassName": dictionary, "featuresDict": {"features": {"steps": listed}}}


def shape(*sizes: int) -> Any:
    return {"dimensions": [str(n) for n in sizes]}


CLASSES = {
    "audio": (
        "audio_feature.Audio",
        {"audio": {"dtype": "int64", "shape": shape(50)}},
        ("tensor", "int64", (50,)),
    ),
    "audio of any length": ("audio_feature.Audio", {"audio": {"dtype": "int64", "shape": shape(-1)}}, ("unread",)),
    "encoded audio": (
        "audio_feature.Audio",
        {"audio": {"dtype": "int64", "encoding": "ZLIB", "shape": shape(50)}},
        ("unread",),
    ),
    "box": (
        "bounding_boxes.BBoxFeature",
        {"boundingBox": {"shape": shape(4), "dtype": "float32"}},
        ("tensor", "float32", (4,)),
    ),
    "box of an old file": ("bounding_boxes.BBoxFeature", {"boundingBox": {}}, ("tensor", "float32", (4,))),
    "labels": (
        "labeled_image.LabeledImage",
        {"image": {"dtype": "uint8", "shape": shape(4, 5, 1)}},
        ("image", "uint8", (4, 5, 1)),
    ),
    "video": ("video_feature.Video", {"video": {}}, ("unread",)),
    "something new": ("new_feature.New", {}, ("unread",)),
}


@pytest.mark.parametrize("kind", CLASSES)
def test_classes_of_tfds_are_read_or_left_out(kind: str) -> None:
    name, facts, want = CLASSES[kind]
    (leaf,) = features.leaves(tree(x={"pythonClassName": f"{MODULE}.{name}", **facts}))
    assert (leaf.path, leaf.kind) == ("steps/x", want[0])
    if want[0] != "unread":
        assert (leaf.dtype, leaf.shape) == want[1:]


def test_languages_of_a_translation_are_texts() -> None:
    name = f"{MODULE}.translation_feature.Translation"
    both = tree(x={"pythonClassName": name, "translation": {"languages": ["en", "fr"]}})
    assert [(leaf.path, leaf.kind) for leaf in features.leaves(both)] == [
        ("steps/x/en", "text"),
        ("steps/x/fr", "text"),
    ]
    left = features.leaves(both, ["steps/x/fr"])
    assert {leaf.path: leaf.kind for leaf in left} == {"steps/x/en": "text", "steps/x/fr": "unread"}


@pytest.mark.parametrize("leave_out", ["steps/x", "steps/x/inner"])
def test_a_foreign_class_is_refused_unless_its_feature_is_left_out(leave_out: str) -> None:
    foreign = {"pythonClassName": "evil.Feature"}
    whole = tree(x=tree(inner=foreign)["featuresDict"]["features"]["steps"]["sequence"]["feature"], y=number())
    with pytest.raises(UsageError, match="--leave-out steps/x/inner leaves") as caught:
        features.leaves(whole)
    assert caught.value.code == "E121"
    assert {leaf.path: leaf.kind for leaf in features.leaves(whole, [leave_out])} == {
        leave_out: "unread",
        "steps/y": "tensor",
    }


def number() -> Any:
    return {"pythonClassName": f"{MODULE}.tensor_feature.Tensor", "tensor": {"dtype": "float32"}}


# -- instructions -------------------------------------------------------------------------------------------


def moved(folder: Path, name: str, value: Any, *, feature: Any = None) -> Path:
    """The cut without an instruction in its steps, and a text of the episode of another name."""
    text = {"pythonClassName": f"{MODULE}.text_feature.Text", "text": {}}

    def change(whole: Any) -> None:
        top = whole["featuresDict"]["features"]
        del top["steps"]["sequence"]["feature"]["featuresDict"]["features"]["language_instruction"]
        inside = (
            top["episode_metadata"]["featuresDict"]["features"] if name.startswith("episode_metadata/") else top
        )
        inside[name.rpartition("/")[2]] = feature or text

    copy(folder)
    edit(folder / FEATURES, change)
    for shard in folder.glob("*.tfrecord-*"):
        _added(shard, name, value)
    return folder


def _added(shard: Path, name: str, value: Any) -> None:
    """Every record of a shard with one more feature."""
    records = []
    for data in tfrecord.records(io.BytesIO(shard.read_bytes()), name="f"):
        made = {**values_of(data), name: value}
        records.append(b"".join(bytes(piece) for piece in tfrecord.example(made)))
    shard.write_bytes(b"".join(bytes(piece) for record in records for piece in tfrecord.frame([record])))


@pytest.mark.parametrize("name", ["episode_metadata/language_instruction", "language_instruction"])
def test_the_instruction_of_an_episode_is_that_of_its_steps(tmp_path: Path, name: str) -> None:
    source = bridge(moved(tmp_path / "d", name, [b"lift it"]))
    episode = source.read(source.episodes()[0])
    assert (episode.task, "task" in episode.arrays) == ("lift it", False)
    assert episode.meta["instruction_feature"] == name
    named = bridge(tmp_path / "d", instruction=name)
    assert named.read(named.episodes()[0]).task == "lift it"


def test_of_a_list_of_texts_the_first_is_the_instruction(tmp_path: Path) -> None:
    name = "episode_metadata/language_instruction"
    listed = {
        "pythonClassName": f"{MODULE}.sequence_feature.Sequence",
        "sequence": {"feature": {"pythonClassName": f"{MODULE}.text_feature.Text", "text": {}}},
    }
    one = bridge(moved(tmp_path / "one", name, [b"lift it"], feature=listed))
    assert one.read(one.episodes()[0]).task == "lift it"
    two = bridge(moved(tmp_path / "two", name, [b"lift it", b"raise it"], feature=listed))
    episode = two.read(two.episodes()[0])
    assert episode.task == "lift it"
    assert f"instruction_first_of:{name}=2" in episode.notes


def test_a_task_is_for_episodes_without_a_text(tmp_path: Path) -> None:
    folder = copy(tmp_path / "d")
    rewrite(folder, "steps/language_instruction", [b""] * 6)
    source = bridge(folder, task="lift it", allow_empty_instruction=False)
    tasks = [source.read(ref).task for ref in source.episodes()]
    own = [bridge().read(ref).task for ref in bridge().episodes()]
    assert tasks == ["lift it", *(text or "lift it" for text in own[1:])]


def test_all_that_is_missing_is_said_at_once(tmp_path: Path) -> None:
    folder = moved(tmp_path / "d", "episode_metadata/words", [b"lift it"])
    source = RldsSource(root=folder)
    with pytest.raises(
        UsageError, match=r"episode_metadata/words.*--instruction PATH.*--task TEXT.*--fps"
    ) as caught:
        source.read(source.episodes()[0])
    assert caught.value.code == "E231"


# -- what is not wanted ---------------------------------------------------------------------------------------


def test_what_nobody_wants_is_not_read(tmp_path: Path) -> None:
    folder = copy(tmp_path / "d")
    rewrite(folder, "steps/observation/image_0", [b"no image"] * 6)
    with pytest.raises(DataError):
        bridge(folder).read(bridge(folder).episodes()[0])
    source = bridge(folder).without({"observation.images.image_0", "action"})
    episode = source.read(source.episodes()[0])
    assert "left_out:observation.images.image_0" in episode.notes
    assert "action" in episode.arrays  # an episode without actions is none
    assert "observation.images.image_0" not in episode.frames


# -- folders ---------------------------------------------------------------------------------------------------


def test_several_datasets_are_named_and_links_too(tmp_path: Path) -> None:
    copy(tmp_path / "sets/a/1.0.0")
    copy(tmp_path / "sets/a/1.1.0")
    with pytest.raises(UsageError, match=r"several datasets; name one of \S+/a/1\.0\.0, \S+/a/1\.1\.0") as caught:
        rlds_files.find(tmp_path / "sets")
    assert caught.value.code == "E001"
    (tmp_path / "data").mkdir()
    (tmp_path / "data/bridge").symlink_to(tmp_path / "sets/a")
    with pytest.raises(UsageError, match="links to folders are not followed: bridge"):
        rlds_files.find(tmp_path / "data")


@pytest.mark.parametrize("git", [False, True])
def test_a_snapshot_of_the_hub_is_read_and_no_other_link(tmp_path: Path, git: bool) -> None:
    blobs, snapshot = tmp_path / "datasets--me--set/blobs", tmp_path / "datasets--me--set/snapshots/0123/1.0.0"
    blobs.mkdir(parents=True)
    copy(snapshot)
    for file in list(snapshot.iterdir()):
        data = file.read_bytes()
        digest = hashlib.sha1(b"blob %d\0" % len(data) + data) if git else hashlib.sha256(data)
        shutil.move(file, blobs / digest.hexdigest())
        file.symlink_to(f"../../../blobs/{digest.hexdigest()}")
    assert actions(bridge(snapshot.parent)) == actions(bridge())
    (blobs / "private").write_bytes((snapshot / INFO).read_bytes())
    (snapshot / INFO).unlink()
    (snapshot / INFO).symlink_to("../../../blobs/private")
    with pytest.raises(UsageError, match="cp -rL") as caught:
        bridge(snapshot).episodes()
    assert caught.value.code == "E131"


@pytest.mark.parametrize("place", ["other", "blobs"])
def test_a_link_to_a_digest_elsewhere_is_not_followed(tmp_path: Path, place: str) -> None:
    folder = copy(tmp_path / "set/1.0.0")
    (tmp_path / place).mkdir()
    outside = tmp_path / place / ("0" * 64)
    shutil.move(folder / INFO, outside)
    (folder / INFO).symlink_to(outside)
    with pytest.raises(UsageError) as caught:
        bridge(folder).episodes()
    assert caught.value.code == "E131"


@pytest.mark.parametrize("name", [INFO, FEATURES, "bridge_dataset-train.tfrecord-00000-of-00001"])
def test_pointers_of_git_lfs_are_called_so(tmp_path: Path, name: str) -> None:
    folder = copy(tmp_path / "d")
    (folder / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    with pytest.raises(UsageError, match="git lfs pull"):
        bridge(folder).episodes()
