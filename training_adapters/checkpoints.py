"""Checkpoints of the reference policies: ``step_N/params``, ``metadata.json``, the tokenizer, and a run's state.

    runs/first/step_100/params/model.safetensors    actor_backbone/..., value_head/...; or a policy's own names
    runs/first/step_100/metadata.json               what it is, and how it came to be
    runs/first/step_100/tokenizer/                  FAST, in Hugging Face's files; of a policy of tokens
    runs/first/step_100/train_state/                the optimiser, generators and environments, of a run of ours

A checkpoint is whole or not there: it is published by one rename, as datasets are.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from training_adapters import params
from training_adapters.fast import FastTokenizer
from training_adapters.params import Params
from training_adapters.policies.asked import AskedFlow
from training_adapters.policies.binned import BinConfig
from training_adapters.policies.bins import BinPolicy
from training_adapters.policies.config import PolicyConfig
from training_adapters.policies.critic import BinCritic, CriticConfig
from training_adapters.policies.flow import FlowConfig, FlowPolicy
from training_adapters.policies.guided import Guided
from training_adapters.policies.pixels import PixelConfig, PixelPolicy
from training_adapters.policies.tokens import TokenPolicy
from training_adapters.policies.value import ActorCritic
from training_adapters.rdt.player import UnifiedPlayer
from training_adapters.stored import fitting, read_json
from vla_data.errors import UsageError
from vla_data.files.write import machine_errors, remove_tree
from vla_data.jobs.publish import publish
from vla_data.jobs.targets import Seen
from vla_data.jobs.workspace import workspace
from vla_data.safety.text import show

_STEP: Final = re.compile(r"step_([0-9]+)")
Actor = TokenPolicy | PixelPolicy
"""What chunk PPO trains."""
Model = Actor | ActorCritic | BinPolicy | BinCritic | FlowPolicy | AskedFlow
_Module = TypeVar("_Module", bound=nn.Module)
_STATE: Final = "state.safetensors"
_BINS, _CRITIC, _FLOW, _ASKED, _PIXELS = "bins", "critic", "flow", "asked_flow", "pixels"
"""Values of ``kind`` in the metadata; without it, it is a policy of tokens."""


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

    def policy(self) -> TokenPolicy:
        """The policy of tokens in it, of whichever form.

        Raises:
            UsageError: E001, it holds another kind; E301, not every parameter of the policy is there in its shape,
                or some have no place.
        """
        self._need("")
        config = PolicyConfig.of(self._form())
        tokenizer = FastTokenizer.load(self.folder / "tokenizer", horizon=config.horizon, dim=config.dim)
        return self._made(lambda: TokenPolicy(config, tokenizer), self._own())

    def pixels(self) -> PixelPolicy:
        """The policy that sees in it, of whichever form; raises as `policy`."""
        self._need(_PIXELS)
        config = PixelConfig.of(self._form())
        return self._made(lambda: PixelPolicy(config), self._own())

    def actor(self) -> Actor:
        """The policy that chunk PPO trains, of tokens or one that sees; raises as `policy`."""
        return self.pixels() if self.metadata.get("kind") == _PIXELS else self.policy()

    def bins(self) -> BinPolicy:
        """The policy of bins in it; raises as `policy`."""
        self._need(_BINS)
        config = BinConfig.of(self._form())
        return self._made(lambda: BinPolicy(config), self.params)

    def critic(self) -> BinCritic:
        """The critic of bins in it; raises as `policy`."""
        self._need(_CRITIC)
        config = CriticConfig.of(self._form())
        return self._made(lambda: BinCritic(config), self.params)

    def flow(self) -> FlowPolicy:
        """The policy in RDT's slots in it; raises as `policy`."""
        self._need(_FLOW)
        config = FlowConfig.of(self._form())
        return self._made(lambda: FlowPolicy(config), self.params)

    def asked_flow(self) -> AskedFlow:
        """The policy of a flow with an indicator in it; raises as `policy`."""
        self._need(_ASKED)
        config = PolicyConfig.of(self._form())
        policy = self._made(lambda: AskedFlow(config), self.params)
        with self.fitting():
            policy.cfg_scale = float(self.metadata.get("cfg_scale", 1.0))
        return policy

    def player(self) -> Actor | BinPolicy | Guided | UnifiedPlayer | AskedFlow:
        """The policy as it is meant to be played: asked for good actions, or in its environment's units.

        Raises:
            UsageError: as `policy`; E231, a policy in RDT's slots that does not say of which environment.
        """
        if self.metadata.get("kind") == _FLOW:
            if "slots" not in self.metadata:
                raise UsageError("E231", f"{show(self.folder)} has no environment: train it with --set env=NAME")
            with self.fitting():
                return UnifiedPlayer.of(self.flow(), self.metadata["slots"])
        if self.metadata.get("kind") == _ASKED:
            return self.asked_flow()
        if self.metadata.get("kind") != _BINS:
            return self.actor()
        policy, asked = self.bins(), self.metadata.get("asked")
        with self.fitting():
            return policy if asked is None else Guided(policy, asked["words"], beta=float(asked["beta"]))

    def _own(self) -> Params:
        """The policy's parameters, without a value head's."""
        if self.form == "il":
            return self.params
        return {
            name.removeprefix(params.ACTOR): value
            for name, value in self.params.items()
            if name.startswith(params.ACTOR)
        }

    def _form(self) -> Mapping[str, Any]:
        """What the metadata say of the policy's form, if it is a table."""
        form = self.metadata.get("policy", {})
        return form if isinstance(form, Mapping) else {}

    def _made(self, make: Callable[[], _Module], stored: Params) -> _Module:
        """A model with its parameters; first one without numbers, as a form may mean any amount of memory.

        Raises:
            UsageError: E301.
        """
        with self.fitting():
            with torch.device("meta"):
                _check(make(), stored, str(self.folder))
            model = make()
            fill(model, stored, what=str(self.folder))
            return model

    def fitting(self) -> AbstractContextManager[None]:
        """See `training_adapters.stored.fitting`."""
        return fitting(f"the checkpoint {show(self.folder)}")

    def _need(self, kind: str) -> None:
        """Raises UsageError, E001, where the checkpoint is of another kind."""
        found = str(self.metadata.get("kind", ""))
        if found != kind:
            names = {
                "": "a policy of FAST tokens",
                _BINS: "a policy of bins",
                _CRITIC: "a critic",
                _FLOW: "a policy in RDT's slots",
                _ASKED: "a policy of a flow with an indicator",
                _PIXELS: "a policy that sees",
            }
            raise UsageError(
                "E001", f"{show(self.folder)} is {names.get(found, show(found))}; wanted is {names[kind]}"
            )

    def actor_critic(self) -> tuple[ActorCritic, bool]:
        """The policy with a value head, and whether that came from the checkpoint too; else it is a new one."""
        model = ActorCritic(self.actor())
        if self.form == "rl":
            fill(model, self.params, what=str(self.folder))
        return model, self.form == "rl"

    def train_state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and JSON that a run goes on from.

        Raises:
            UsageError: E003, the checkpoint has none.
        """
        folder = self.folder / "train_state"
        if not (folder / _STATE).is_file():
            raise UsageError("E003", f"{show(self.folder)} has no train_state to go on from")
        return params.tensors(folder / _STATE, root=self.folder), _json(folder / "state.json", self.folder)


def fill(module: nn.Module, stored: params.Params, *, what: str) -> None:
    """Give a module all of its parameters.

    Raises:
        UsageError: E301 with every name that does not fit; nothing is random, and nothing is left out.
    """
    wanted = _check(module, stored, what)
    module.load_state_dict(
        {
            name.replace("/", "."): torch.from_numpy(np.asarray(stored[name])).to(value.dtype)
            for name, value in wanted.items()
        }
    )


def _check(module: nn.Module, stored: params.Params, what: str) -> dict[str, Tensor]:
    """A module's parameters by name, if the stored ones are of these names and shapes."""
    wanted = {name.replace(".", "/"): value for name, value in module.state_dict().items()}
    found = params.match(params.shapes(stored), {name: tuple(value.shape) for name, value in wanted.items()})
    if not found.whole:
        raise UsageError("E301", f"the parameters of {show(what)} do not fit this model: {found}")
    return wanted


def params_of(module: nn.Module) -> params.Params:
    """A module's parameters and buffers by name."""
    return {name.replace(".", "/"): value.detach().cpu().numpy() for name, value in module.state_dict().items()}


def save(
    folder: Path,
    model: Model,
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

    facts = {**metadata, **_form(model)}
    with machine_errors(f"cannot write {show(folder.name)}"), workspace(folder) as work:
        seen, beside = Seen.at(folder), work / "staging"
        remove_tree(beside)
        beside.mkdir()
        params.write(beside / "params", params_of(model))
        actor = _actor(model)
        if isinstance(actor, TokenPolicy):
            actor.tokenizer.save(beside / "tokenizer")
        (beside / "metadata.json").write_text(json.dumps(facts, indent=2, sort_keys=True) + "\n")
        if tensors is not None:
            (beside / "train_state").mkdir()
            save_file(
                {name: value.contiguous() for name, value in tensors.items()}, beside / "train_state" / _STATE
            )
            (beside / "train_state" / "state.json").write_text(json.dumps(state or {}))
        publish(beside, folder, seen)


def _actor(model: Model) -> TokenPolicy | PixelPolicy | BinPolicy | BinCritic | FlowPolicy | AskedFlow:
    return model.actor_backbone if isinstance(model, ActorCritic) else model


def _form(model: Model) -> dict[str, Any]:
    """What the metadata say of a model itself."""
    if isinstance(model, BinCritic):
        return {"kind": _CRITIC, "config": {"format": "critic"}, "policy": model.config.to_json()}
    actor = _actor(model)
    kinds = {BinPolicy: _BINS, FlowPolicy: _FLOW, AskedFlow: _ASKED, PixelPolicy: _PIXELS}
    kind = kinds.get(type(actor), "")
    return ({"kind": kind} if kind else {}) | {
        "config": {
            "action_dim": actor.config.dim,
            "action_horizon": actor.config.horizon,
            "max_token_len": actor.longest,
            "format": "rl_actor_critic" if isinstance(model, ActorCritic) else "il_policy",
        },
        "policy": actor.config.to_json(),
    }


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
    return Saved(folder, _json(folder / "metadata.json", folder), params.read(folder / "params"))


def numbered(run: Path) -> list[Path]:
    """The checkpoints of a run, by their number."""
    found = [(int(match[1]), run / name) for name in _names(run) if (match := _STEP.fullmatch(name))]
    return [path for _, path in sorted(found)]


def forget(folders: Iterable[Path]) -> None:
    """Remove checkpoints."""
    for folder in folders:
        with machine_errors(f"cannot remove {show(folder.name)}"):
            remove_tree(folder)


def _names(run: Path) -> list[str]:
    return os.listdir(run) if run.is_dir() else []


def _json(path: Path, root: Path) -> dict[str, Any]:
    try:
        return read_json(path, root=root)
    except UsageError as error:
        raise UsageError(error.code, f"{error.message}, so this is not a checkpoint of vla-train") from None
