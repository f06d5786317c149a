"""RDT's training data from any dataset that this library reads.

    dataset = RdtDataset(vd.open_source("hdf5:LIBERO_DIR"), name="libero_90")
    loader = DataLoader(dataset, batch_size=8, shuffle=True, collate_fn=dataset.collate)

`Hdf5VlaDataset` takes the place of the class of this name in RDT's ``data/hdf5_vla_dataset.py``, and its training
runs as it is on what ``vla-data convert SRC OUT --to rdt`` wrote. PyTorch is imported by `RdtDataset` alone.
"""

from training_adapters.rdt.episodes import Episodes
from training_adapters.rdt.hdf5 import Hdf5VlaDataset
from training_adapters.rdt.item import Hiding, item

__all__ = ["Episodes", "Hdf5VlaDataset", "Hiding", "RdtDataset", "item"]


def __getattr__(name: str) -> object:
    if name == "RdtDataset":
        from training_adapters.rdt.dataset import RdtDataset

        return RdtDataset
    raise AttributeError(name)
