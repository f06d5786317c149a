"""What all datasets of a mixture have in common, or why they can't be mixed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from vla_data.actions.agreement import subtraction
from vla_data.core.findings import Finding
from vla_data.errors import UsageError
from vla_data.mixtures.contract import Contract
from vla_data.mixtures.member import Member

Form = tuple[np.dtype[Any], tuple[int, ...]]


def check_widths(members: Sequence[Member], contract: Contract, action_dim: int) -> None:
    """That states and actions fit into the contract's.

    Raises:
        UsageError: E232, one is wider, or ``delta`` asks for elements that are not there.
    """
    for member in members:
        state, action = member.widths
        if not member.lengths:
            continue
        for name, width, dim in (("state", state, contract.state_dim), ("action", action, action_dim)):
            if width > dim and (dim or name == "action"):
                raise UsageError("E232", f"{member.name} has {name}s of {width} numbers, {name}_dim is {dim}")
        mask = contract.delta_mask or (True,) * action
        places = contract.delta_state or tuple(range(len(mask)))
        if contract.delta != "none" and (
            len(mask) > action or max((p for p, on in zip(places, mask, strict=True) if on), default=-1) >= state
        ):
            raise UsageError(
                "E232",
                f"{member.name} has {action} numbers of an action and {state} of a state; delta asks for more "
                "(delta_mask, delta_state)",
            )


def check_delta(members: Sequence[Member], contract: Contract) -> list[Finding]:
    """That what ``delta`` subtracts goes with what is declared; what may not be meant so is found.

    Raises:
        UsageError: E232, it contradicts it.
    """
    out: list[Finding] = []
    for member in members if contract.delta != "none" else ():
        mask = contract.delta_mask or (True,) * member.widths[1]
        places = contract.delta_state or range(len(mask))
        pairs = [(at, place) for at, (place, on) in enumerate(zip(places, mask, strict=True)) if on]
        for doubt in subtraction(member.action_meaning, member.state_meaning, pairs, wraps=True):
            message = f"{member.name}: delta = '{contract.delta}', but {doubt.message}"
            if doubt.certain:
                raise UsageError("E232", f"{message} (delta, delta_mask, delta_state or convention)")
            out.append(Finding(code="subtracted", message=f"{message} (delta_mask leaves them out)"))
    return out


def image_size(camera: str, members: Sequence[Member], contract: Contract) -> tuple[int, int]:
    """(height, width) of a camera's images.

    Raises:
        UsageError: E231 when none is declared, and datasets have several.
    """
    if contract.image_size is not None:
        return contract.image_size
    sizes = {member.sizes[camera] for member in members if camera in member.sizes}
    if len(sizes) != 1 or None in sizes:
        raise UsageError("E231", f"image_size (camera {camera} has {len(sizes) or 'no'} sizes)")
    found = sizes.pop()
    return found if found is not None else (0, 0)


def extra_forms(members: Sequence[Member], contract: Contract) -> dict[str, Form]:
    """Type and shape of each extra.

    Raises:
        UsageError: E232 when shapes differ.
    """
    forms: dict[str, Form] = {}
    for name in contract.extras:
        found = [member.extras[name] for member in members if name in member.extras]
        if len({shape for _, shape in found}) > 1:
            raise UsageError("E232", f"{name} has another shape in another dataset")
        dtypes = [np.dtype(dtype) for dtype, _ in found]
        dtype = np.dtype(object) if any(d.kind == "U" for d in dtypes) else np.result_type(*dtypes)
        forms[name] = (dtype, found[0][1])
    return forms
