"""Stands for RDT's ``main.py``: RDT's own dataset, collator and `RDTRunner` take three steps, in small.

It runs where ``rdt_finetune.py`` runs ``main.py``. Encoders of text and images, which are pretrained, are replaced
by numbers of their inputs, and what is imported for augmentations is left out.
"""

from __future__ import annotations

import json
import random
import sys
import types
from importlib.machinery import ModuleSpec
from typing import Any

import numpy as np
import torch
import yaml

sys.modules["train.image_corrupt"] = corrupt = types.ModuleType("train.image_corrupt")
corrupt.image_corrupt = lambda image: image  # type: ignore[attr-defined]
try:
    import transformers  # noqa: F401
except ModuleNotFoundError:
    sys.modules["transformers"] = without = types.ModuleType("transformers")
    without.__spec__ = ModuleSpec("transformers", None)
    without.PreTrainedTokenizer = object  # type: ignore[attr-defined]

from models.rdt_runner import RDTRunner  # noqa: E402
from train.dataset import DataCollatorForVLAConsumerDataset, VLAConsumerDataset  # noqa: E402

SIDE, WIDTH = 32, 16


class Processor:
    image_mean = (0.5, 0.5, 0.5)
    size = types.MappingProxyType({"height": SIDE, "width": SIDE})

    def preprocess(self, image: Any, return_tensors: str) -> Any:
        pixels = np.asarray(image.resize((SIDE, SIDE))).transpose(2, 0, 1) / 255
        return {"pixel_values": [torch.from_numpy(pixels).float()]}


class Tokenizer:
    pad_token_id = 0

    def __call__(self, text: str, **_: Any) -> Any:
        return types.SimpleNamespace(input_ids=torch.tensor([list(text.encode())]))


torch.manual_seed(0), random.seed(0), np.random.seed(0)
with open("configs/base.yaml") as file:
    config = yaml.safe_load(file)
dataset = VLAConsumerDataset(
    config["dataset"], Tokenizer(), Processor(), 3, 2, dataset_type="finetune", cond_mask_prob=-1.0, use_hdf5=True
)
batch = DataCollatorForVLAConsumerDataset(Tokenizer())([dataset[i] for i in range(4)])
model = config["model"]
model["rdt"].update(hidden_size=64, depth=2, num_heads=4)
runner = RDTRunner(
    action_dim=128,
    pred_horizon=64,
    config=model,
    lang_token_dim=WIDTH,
    img_token_dim=WIDTH,
    state_token_dim=128,
    max_lang_cond_len=1024,
    img_cond_len=24,
    img_pos_embed_config=[("image", (2, 3, -4))],
    lang_pos_embed_config=[("lang", -1024)],
    dtype=torch.float32,
)
optimizer = torch.optim.AdamW(runner.parameters(), lr=1e-3)
losses = []
for _ in range(3):
    loss = runner(
        lang_tokens=torch.nn.functional.one_hot(batch["input_ids"] % WIDTH, WIDTH).float(),
        lang_attn_mask=batch["lang_attn_mask"],
        img_tokens=torch.ones(4, 24, WIDTH),
        state_tokens=batch["states"].float(),
        action_gt=batch["actions"].float(),
        action_mask=batch["state_elem_mask"].float().unsqueeze(1),
        ctrl_freqs=batch["ctrl_freqs"],
    )
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
actions = batch["actions"][:, 0].double().tolist()
print("JUDGE " + json.dumps({"losses": losses, "actions": actions, "freq": batch["ctrl_freqs"].tolist()}))
