"""TorchRL trains on the buffer that was prepared: its chunks, `TinyVLA`, `BCLoss`; JSON on standard output.

    python torchrl_step.py OUT CAMERA RECORD

RECORD gets what the policy and the loss were given.
"""

from __future__ import annotations

import json
import sys

import numpy as np
import torch
from tensordict import TensorDict
from torchrl.envs.transforms import ActionChunkTransform
from torchrl.modules.vla import TinyVLA
from torchrl.objectives import BCLoss

OUT, CAMERA, RECORD = sys.argv[1:]
SLICES, LENGTH, HORIZON = 4, 6, 4
sys.path.insert(0, OUT)
import torchrl_replay  # noqa: E402

torch.manual_seed(0)
replay = torchrl_replay.buffer(batch_size=SLICES * LENGTH, slice_len=LENGTH)
sample = replay.sample()
windows = TensorDict({"action": sample["action"].reshape(SLICES, LENGTH, -1)}, [SLICES, LENGTH])
windows = ActionChunkTransform(chunk_size=HORIZON)(windows).reshape(-1)
batch = TensorDict(
    {
        "observation": {"image": sample["observation", "image", CAMERA], "state": sample["observation", "state"]},
        "vla_action": {"chunk": windows["vla_action", "chunk"]},
        "action_is_pad": windows["action_is_pad"],
    },
    [SLICES * LENGTH],
)
batch.set("language_instruction", sample.get("language_instruction"))
policy = TinyVLA(action_dim=sample["action"].shape[-1], chunk_size=HORIZON)
policy(batch.copy())  # which gives its lazy layers their sizes
loss = BCLoss(policy, loss_function="l1")
loss.set_keys(action=("vla_action", "chunk"), pad_mask="action_is_pad")
optimizer = torch.optim.AdamW(loss.parameters(), lr=1e-3)
losses = []
for _ in range(3):
    value = loss(batch)["loss_bc"]
    value.backward()
    optimizer.step()
    optimizer.zero_grad()
    losses.append(value.item())
np.savez(
    RECORD,
    chunk=batch["vla_action", "chunk"].numpy(),
    is_pad=batch["action_is_pad"].numpy(),
    state=batch["observation", "state"].numpy(),
    image=batch["observation", "image"].numpy(),
    episode=sample["episode"].numpy().reshape(-1),
    frame=sample["frame"].numpy().reshape(-1),
    task=np.array(sample.get("language_instruction").tolist()),
)
print("JUDGE " + json.dumps({"losses": losses, "steps": len(replay)}))
