"""Makes ``v01.tar.xz``: sources, and a dataset of each format, as version 0.1 wrote them.

Run by the code of 0.1 (commit 60747df): ``PYTHONPATH=<that tree> python make.py``. Every dataset has a manifest of
version 1, whose recipe is the ``repr`` of its source, steps and sink.
"""

from __future__ import annotations

import shutil
import sys
import tarfile
import tempfile
from pathlib import Path

import numpy as np
from vla_data.codec import VideoSettings
from vla_data.merged import Member, MergedSource

import vla_data as vd
from builders.ppo_sft_aligned.definition import Definition
from vla_data.selection import Selection
from vla_data.steps import Declare, Resample

HERE = Path(__file__).parent
LIBERO = HERE.parent / "hdf5/libero_spatial0_demo.hdf5"
LENGTH = 12


def record(folder: Path) -> None:
    """Three rollouts of 12 steps, the last of which is never solved; images of one colour each."""
    with vd.RolloutWriter(folder, fps=5) as writer:
        for number in range(3):
            episode = writer.episode(task="put carrot on plate")
            for t in range(LENGTH):
                image = np.full((8, 8, 3), 40 * number + 15 * t, np.uint8)
                action = np.array([0.02 + t / 1000, 0, 0, 0, 0, 0.1, 1 if t < 6 else -1], np.float32)
                episode.add(image=image, action=action, success=t >= 4 and number < 2, reward=float(t))
            episode.end(image=np.full((8, 8, 3), 255, np.uint8))


def main() -> None:
    with tempfile.TemporaryDirectory() as made:
        root = Path(made)
        rollouts = root / "rollouts"
        record(rollouts)
        source, steps = vd.open_source(rollouts, allow_images=["gray"]), vd.recipes.ppo_sft()
        sinks = {
            "lerobot": {"format": "lerobot", "images": "png"},
            "video": {"format": "lerobot", "video": VideoSettings(codec="h264", crf=10, preset="ultrafast")},
            "rlds": {"format": "rlds", "name": "set", "step_fields": "rlds", "images": "png"},
            "rdt": {"format": "rdt", "shortest": 4, "jpeg_quality": 30},
            "robomimic": {"format": "robomimic"},
            "plain_rollout": {"format": "plain_rollout"},
        }
        declared = Declare(conventions=(("action", (("rotation", "rotvec"),)),), robot="widowx")
        for name, options in sinks.items():
            made_from, chosen = source, steps
            if name == "rdt":
                made_from, chosen = Selection(vd.open_source(LIBERO), (0,)), ()
            if name == "plain_rollout":
                made_from, chosen = source, ()
            vd.run(made_from, chosen, vd.open_sink(root / name, **options), workers=1)
        convention = source.schema(source.read(source.episodes()[0])).features["action"].convention
        faster = Resample(conventions={"action": {**convention, "rotation": "rotvec"}}, source_fps=5.0, fps=2.5)
        members = (
            Member("one", Selection(source, (0, 2)), (declared, faster)),
            Member("two", vd.open_source(rollouts), (declared, faster)),
        )
        vd.run(MergedSource(members), (), vd.open_sink(root / "merged", images="png"), workers=1)
        definition = Definition({"min_success_steps": 4})
        definition.build(rollouts, definition.folder(root / "tfds"), workers=1)
        for cache in root.rglob(".*.vla-data"):
            shutil.rmtree(cache)
        with tarfile.open(HERE / "v01.tar.xz", "w:xz", preset=9) as archive:
            for path in sorted(root.rglob("*")):
                if path.is_file():
                    info = archive.gettarinfo(path, path.relative_to(root).as_posix())
                    info.mtime = info.uid = info.gid = 0
                    info.uname = info.gname = ""
                    with path.open("rb") as file:
                        archive.addfile(info, file)
    print((HERE / "v01.tar.xz").stat().st_size, file=sys.stderr)


if __name__ == "__main__":
    main()
