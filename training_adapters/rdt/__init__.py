"""RDT's training data from any dataset that this library reads.

    dataset = RdtDataset(vd.open_source("hdf5:LIBERO_DIR"), name="libero_90")
    loader = DataLoader(dataset, batch_size=8, shuffle=True, collate_fn=dataset.collate)

`Hdf5VlaDataset` takes the place of the class of this name in RDT's ``data/hdf5_vla_dataset.py``, and its training
runs as it is on what ``vla-data convert SRC OUT --to rdt`` wrote. PyTorch is imported by `RdtDataset` alone,
h5py by `Hdf5VlaDataset`. `training_adapters.rdt.program` trains a small policy.
"""

import importlib

from training_adapters.rdt.episodes import Episodes
from training_adapters.rdt.item import Hiding, item

_LATE = {"Hdf5VlaDataset": "hdf5", "RdtDataset": "dataset"}

__all__ = ["Episodes", "Hdf5VlaDataset", "Hiding", "RdtDataset", "item"]


def __getattr__(name: str) -> object:
    if name not in _LATE:
        raise AttributeError(name)
    return getattr(importlib.import_module(f"training_adapters.rdt.{_LATE[name]}"), name)
