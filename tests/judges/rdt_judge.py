"""What RDT's own `HDF5VLADataset` and `VLAConsumerDataset` make of a dataset, as JSON on standard output.

    python rdt_judge.py RDT_REPO DATASET class|unified|train [FOLDER]

``class``: the class as published, on files in AgileX's layout. ``unified``: the class with what its comments mark
as to be modified for another robot: no scaling, all 128 slots, a missing camera as an empty array, episodes from
32 steps on. Samples are written to FOLDER. ``train``: a batch of RDT's training dataset on
`training_adapters.rdt.Hdf5VlaDataset`, nothing hidden, and the same batch by our own items.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
import tempfile
import types
from pathlib import Path
from typing import Any

import numpy as np

REPO, DATASET, HOW = Path(sys.argv[1]), Path(sys.argv[2]).resolve(), sys.argv[3]
NAME = json.loads((DATASET / "rdt.json").read_text())["dataset_name"]


def published_class() -> Any:
    text = (REPO / "data/hdf5_vla_dataset.py").read_text()
    text = text.replace("data/datasets/agilex/rdt_data/", f"{DATASET}/")
    text = text.replace('self.DATASET_NAME = "agilex"', f"self.DATASET_NAME = {NAME!r}")
    if HOW == "unified":
        text, count = re.subn(r"np\.array\(\s*\[\[1.*?\]\]\s*\)", "np.ones((1, 128))", text, flags=re.DOTALL)
        assert count == 4
        text, count = re.subn(
            r"UNI_STATE_INDICES = \[.*?\]\n(?=\s+uni_vec)",
            "UNI_STATE_INDICES = list(range(128))\n",
            text,
            flags=re.DOTALL,
        )
        assert count == 2
        text = text.replace("num_steps < 128", "num_steps < 32")
        missing = (
            "                if key not in f['observations']['images']:\n"
            "                    return np.zeros((self.IMG_HISORY_SIZE, 0, 0, 0))\n"
        )
        text = text.replace("            def parse_img(key):\n", "            def parse_img(key):\n" + missing)
    module = types.ModuleType("hdf5_vla_dataset")
    os.chdir(REPO)
    sys.path.insert(0, str(REPO))
    exec(compile(text, "hdf5_vla_dataset.py", "exec"), module.__dict__)
    return module.HDF5VLADataset()


def plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        head = f"{value.dtype} {value.shape} "
        return head + hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return value.item() if isinstance(value, np.generic) else value


def sampled() -> Any:
    dataset = published_class()
    out: dict[str, Any] = {
        "episodes": len(dataset),
        "weights": dataset.episode_sample_weights.tolist(),
        "samples": [],
    }
    for index, path in enumerate(dataset.file_paths):
        np.random.seed(index)
        got = dataset.get_item(index)
        arrays = {k: v for k, v in got.items() if k != "meta" and "cam" not in k}
        np.savez(f"{sys.argv[4]}/{index}.npz", **arrays, **{k: v for k, v in got.items() if "cam" in k})
        out["samples"].append(
            {"file": os.path.relpath(path, DATASET), "meta": plain(got["meta"]), "arrays": index}
        )
        whole = dataset.get_item(index, state_only=True)
        np.savez(f"{sys.argv[4]}/{index}_states.npz", **whole)
    return out


def trained() -> Any:
    import random

    import torch

    for name in ("transformers", "train.image_corrupt"):
        module = sys.modules[name] = types.ModuleType(name)
        module.PreTrainedTokenizer = module.image_corrupt = object  # type: ignore[attr-defined]
    from training_adapters.rdt import Hdf5VlaDataset

    stand_in = sys.modules["data.hdf5_vla_dataset"] = types.ModuleType("data.hdf5_vla_dataset")
    stand_in.HDF5VLADataset = lambda: Hdf5VlaDataset(DATASET)  # type: ignore[attr-defined]
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "configs").symlink_to(DATASET / "configs")
        os.chdir(folder)
        sys.path.insert(0, str(REPO))
        from train.dataset import DataCollatorForVLAConsumerDataset, VLAConsumerDataset

        class Processor:
            image_mean = (0.5, 0.5, 0.5)
            size = types.MappingProxyType({"height": 384, "width": 384})

            def preprocess(self, image: Any, return_tensors: str) -> Any:
                pixels = torch.from_numpy(np.asarray(image.resize((384, 384), 0)).transpose(2, 0, 1).copy())
                return {"pixel_values": [pixels]}

        class Tokenizer:
            pad_token_id = 0

            def __call__(self, text: str, **_: Any) -> Any:
                return types.SimpleNamespace(input_ids=torch.tensor([list(text.encode())]))

        config = {
            "buf_path": "",
            "buf_num_chunks": 1,
            "buf_chunk_size": 1,
            "tokenizer_max_length": 1024,
            "image_aspect_ratio": "pad",
        }
        dataset = VLAConsumerDataset(
            config, Tokenizer(), Processor(), 3, 2, dataset_type="finetune", cond_mask_prob=-1.0, use_hdf5=True
        )
        items = []
        for seed in range(4):
            np.random.seed(seed), random.seed(seed)
            items.append(dataset[0])
        theirs = DataCollatorForVLAConsumerDataset(Tokenizer())(items)
        return {"theirs": readable(theirs), "ours": readable(ours(Processor()))}


def ours(processor: Any) -> Any:
    """The same steps by our own items and batches."""
    import torch
    from PIL import Image

    from training_adapters.rdt import Hdf5VlaDataset, Hiding, RdtDataset, item

    dataset = Hdf5VlaDataset(DATASET)
    maker = RdtDataset.__new__(RdtDataset)
    maker._tokenize, maker._pad = lambda text: torch.tensor(list(text.encode())), 0
    bare = Hiding(probability=0, snr=None)
    items = []
    for seed in range(4):
        np.random.seed(seed)
        drawn = dataset.get_item()
        made = item(drawn, state_mean=np.zeros(128), ctrl_freq=20, hiding=bare, rng=np.random.default_rng(0))
        made = {k: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for k, v in made.items()}
        shots = [processor.preprocess(Image.fromarray(image), "pt")["pixel_values"][0] for image in made["images"]]
        items.append({**made, "images": shots, "input_ids": maker._tokenize(made["instruction"])})
    return maker.collate(items)


def readable(batch: Any) -> Any:
    return {key: plain(value.numpy()) if hasattr(value, "numpy") else value for key, value in batch.items()}


print("JUDGE " + json.dumps(trained() if HOW == "train" else sampled()))
