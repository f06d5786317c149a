"""Checkpoints of the reference policies: ``step_N/params``, ``metadata.json``, the tokenizer, and a run's state.

    runs/first/step_100/params/model.safetensors    actor_backbone/..., value_head/...; or a policy's own names
    runs/first/step_100/metadata.json               what it is, and how it came to be
    runs/first/step_100/tokenizer/                  FAST, in Hugging Face's files; a flow policy has none
    runs/first/step_100/train_state/                the optimiser, generators and environments, of a run of ours

A checkpoint is whole or not there: it is written under another name, which starts with a dot, and renamed.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from training_adapters import params
from training_adapters.fast import FastTokenizer
from training_adapters.policies.config import PolicyConfig
from training_adapters.policies.flow import FlowPolicy
from training_adapters.policies.tokens import TokenPolicy
from training_adapters.policies.value import ActorCritic
from vla_data.errors import UsageError
from vla_data.files.write import machine_errors, sync_tree
from vla_data.safety import strict_json
from vla_data.safety.text import show

_STEP: Final = re.compile(r"step_([0-9]+)")
_STATE: Final = "state.safetensors"
FLOW: Final = "flow_policy"
"""The format of a policy of a flow, in ``metadata.json``."""


@dataclass(frozen=True, slots=True, eq=False)
class Saved:
    """A checkpoint that was read.

    Attributes:
        folder: where it is.
        metadata: ``metadata.json``.
        params: by name.
    """

    folder: Path
    metadata: Mapping[str, Any]
    params: params.Params

    @property
    def form(self) -> str:
        """See `training_adapters.params.form`."""
        return params.form(self.params)

    @property
    def is_flow(self) -> bool:
        """Whether its policy draws chunks by a flow, and not as tokens."""
        return bool(self.metadata.get("config", {}).get("format") == FLOW)

    def flow_policy(self) -> FlowPolicy:
        """The policy in it, which must be one of a flow.

        Raises:
            UsageError: E232, it is one of tokens; E301, see `policy`.
        """
        if not self.is_flow:
            raise UsageError("E232", f"the policy of {show(self.folder)} writes tokens; one of a flow is needed")
        policy = FlowPolicy(PolicyConfig.of(self.metadata.get("policy", {})))
        fill(policy, self.params, what=str(self.folder))
        policy.cfg_scale = float(self.metadata.get("cfg_scale", 1.0))
        return policy

    def policy(self) -> TokenPolicy:
        """The policy in it, of whichever form, which must be one of tokens.

        Raises:
            UsageError: E232, it is one of a flow; E301, not every parameter of the policy is there in its shape,
                or some have no place.
        """
        if self.is_flow:
            raise UsageError("E232", f"the policy of {show(self.folder)} is of a flow; one of tokens is needed")
        config = PolicyConfig.of(self.metadata.get("policy", {}))
        tokenizer = FastTokenizer.load(self.folder / "tokenizer", horizon=config.horizon, dim=config.dim)
        policy = TokenPolicy(config, tokenizer)
        own = self.params
        if self.form != "il":
            own = {
                name.removeprefix(params.ACTOR): value
                for name, value in own.items()
                if name.startswith(params.ACTOR)
            }
        fill(policy, own, what=str(self.folder))
        return policy

    def actor_critic(self) -> tuple[ActorCritic, bool]:
        """The policy with a value head, and whether that came from the checkpoint too; else it is a new one."""
        model = ActorCritic(self.policy())
        if self.form == "rl":
            fill(model, self.params, what=str(self.folder))
        return model, self.form == "rl"

    def train_state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and JSON that a run goes on from.

        Raises:
            UsageError: E003, the checkpoint has none.
        """
        from safetensors.torch import load_file

        folder = self.folder / "train_state"
        if not (folder / _STATE).is_file():
            raise UsageError("E003", f"{show(self.folder)} has no train_state to go on from")
        return dict(load_file(folder / _STATE)), _json(folder / "state.json")


def fill(module: nn.Module, stored: params.Params, *, what: str) -> None:
    """Give a module all of its parameters.

    Raises:
        UsageError: E301 with every name that does not fit; nothing is random, and nothing is left out.
    """
    wanted = {name.replace(".", "/"): value for name, value in module.state_dict().items()}
    found = params.match(params.shapes(stored), {name: tuple(value.shape) for name, value in wanted.items()})
    if not found.whole:
        raise UsageError("E301", f"the parameters of {show(what)} do not fit this model: {found}")
    module.load_state_dict(
        {
            name.replace("/", "."): torch.from_numpy(np.asarray(stored[name])).to(value.dtype)
            for name, value in wanted.items()
        }
    )


def params_of(module: nn.Module) -> params.Params:
    """A module's parameters and buffers by name."""
    return {name.replace(".", "/"): value.detach().cpu().numpy() for name, value in module.state_dict().items()}


def save(
    folder: Path,
    model: TokenPolicy | FlowPolicy | ActorCritic,
    metadata: Mapping[str, Any],
    *,
    tensors: Mapping[str, Tensor] | None = None,
    state: Mapping[str, Any] | None = None,
) -> None:
    """Write a checkpoint.

    Args:
        folder: ``step_N``; one that is there already is replaced.
        model: what to save.
        metadata: more facts for ``metadata.json``.
        tensors: of ``train_state``.
        state: of ``train_state``, as JSON.

    Raises:
        MachineError: the disk is full or failed; a checkpoint that was there still is.
    """
    from safetensors.torch import save_file

    actor = model.actor_backbone if isinstance(model, ActorCritic) else model
    tokenizer = None if isinstance(actor, FlowPolicy) else actor.tokenizer
    form = "rl_actor_critic" if isinstance(model, ActorCritic) else FLOW if tokenizer is None else "il_policy"
    facts = {
        **metadata,
        "config": {
            "action_dim": actor.config.dim,
            "action_horizon": actor.config.horizon,
            "max_token_len": 0 if tokenizer is None else tokenizer.grammar.longest,
            "format": form,
        },
        "policy": actor.config.to_json(),
    }
    beside = folder.with_name(f".{folder.name}.tmp")
    with machine_errors(f"cannot write {show(folder.name)}"):
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
        params.write(beside / "params", params_of(model))
        if tokenizer is not None:
            tokenizer.save(beside / "tokenizer")
        (beside / "metadata.json").write_text(json.dumps(facts, indent=2, sort_keys=True) + "\n")
        if tensors is not None:
            (beside / "train_state").mkdir()
            save_file(
                {name: value.contiguous() for name, value in tensors.items()}, beside / "train_state" / _STATE
            )
            (beside / "train_state" / "state.json").write_text(json.dumps(state or {}))
        sync_tree(beside)
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(beside, folder)


def load(folder: str | Path) -> Saved:
    """A checkpoint; of a run's folder, the last one.

    Raises:
        UsageError: E003, there is none.
    """
    folder = Path(folder)
    if not (folder / "params").is_dir():
        steps = numbered(folder)
        if not steps:
            raise UsageError("E003", f"{show(folder)} is not a checkpoint and has none inside (step_N/params)")
        folder = steps[-1]
    return Saved(folder, _json(folder / "metadata.json"), params.read(folder / "params"))


def numbered(run: Path) -> list[Path]:
    """The checkpoints of a run, by their number."""
    found = [(int(match[1]), run / name) for name in _names(run) if (match := _STEP.fullmatch(name))]
    return [path for _, path in sorted(found)]


def _names(run: Path) -> list[str]:
    return os.listdir(run) if run.is_dir() else []


def _json(path: Path) -> dict[str, Any]:
    try:
        facts = strict_json.loads(path.read_bytes(), name=path.name)
    except OSError:
        raise UsageError("E003", f"{show(path)} is missing, so this is not a checkpoint of vla-train") from None
    return facts if isinstance(facts, dict) else {}
