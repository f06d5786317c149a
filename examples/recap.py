"""RECAP's annotation on three real episodes that are shipped: a critic's values become advantages and labels.

python examples/recap.py OUT          # vla-train recap trains the critic and the policy
"""

from __future__ import annotations

import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

import vla_data as vd
from training_adapters.recap import Indicator
from vla_data import advantages as adv

ROLLOUTS = Path(__file__).parents[1] / "tests/data/rollouts"


def main(out: Path) -> None:
    """The critic here expects a success at step 50, and grows doubtful; yours looks at the images."""
    vd.run(vd.open_source(ROLLOUTS), [], vd.open_sink(out, format="lerobot"))
    source = vd.open_source(out)
    lengths = [len(source.read(ref)) for ref in source.episodes()]
    frames = [(episode, frame) for episode, length in enumerate(lengths) for frame in range(length)]
    values = {
        "episode_index": [episode for episode, _ in frames],
        "frame_index": [frame for _, frame in frames],
        "value": [(1.1 * frame - 50) / 1600 for _, frame in frames],
    }
    table = out.with_suffix(".parquet")
    pq.write_table(pa.table(values), table)
    print(adv.annotate(out, tag="v1", values=table, labels=adv.Labels(share=0.3)))
    prompts = Indicator(target="openpi-pi05").prompts(["put carrot on plate"], [True], episodes=[0], frames=[0])
    print(prompts[0])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
