"""RDT's data of three real LIBERO episodes that are shipped: physical units, a check, and the way back.

python examples/rdt.py OUT            # needs vla-data[hdf5]; vla-train rdt trains on it
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

import vla_data as vd
from converters.rdt.vectors import slotted, to_actions

LIBERO = Path(__file__).parents[1] / "tests/data/hdf5/libero_spatial0_demo.hdf5"


def main(out: Path) -> None:
    """The controller's [-1, 1] in RDT's 128 slots, and back to what the simulator executes."""
    source = vd.open_source(LIBERO)
    print(vd.run(source, [], vd.open_sink(out, format="rdt", name="bowl", shortest=8)))
    print(vd.verify(out, against=LIBERO))
    libero = vd.actions.preset("libero")
    slots = vd.actions.resolve(libero, slotted(libero, "pose_delta"))
    action = source.read(source.episodes()[0]).arrays["action"]
    vectors = vd.actions.convert(action, libero, slots)
    print("metres of the first step:", vectors[0, 30:33])
    print("largest difference on the way back:", np.abs(to_actions(vectors, slots, libero) - action).max())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
