"""PPO rollouts become a dataset for supervised fine-tuning, on three real episodes that are shipped.

python examples/ppo_to_sft.py OUT
"""

from __future__ import annotations

import sys
from pathlib import Path

import vla_data as vd

ROLLOUTS = Path(__file__).parents[1] / "tests/data/rollouts"


def main(out: Path) -> None:
    """Solved episodes, cut after their success and without idle steps, as LeRobot v3.0."""
    steps = vd.recipes.ppo_sft(min_success_steps=6, pos_thresh=0.01, rot_thresh=0.06)
    print(vd.run(vd.open_source(ROLLOUTS), steps, vd.open_sink(out, format="lerobot")))
    for record in vd.open_ledger(out).records:
        buckets = ", ".join(f"{span.bucket} {span.start}-{span.stop}" for span in record.spans[:3])
        print(f"{record.id}: {record.status} {record.reason} {buckets}, ...")
    print(vd.verify(out))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
