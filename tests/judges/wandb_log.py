"""What a trainer's program logs with wandb, instead of wandb."""

from __future__ import annotations

from typing import Any


def heard() -> list[dict[str, Any]]:
    """A list that gets every dictionary that is logged from now on."""
    import wandb

    logged: list[dict[str, Any]] = []
    begin = wandb.init

    def init(*words: Any, **options: Any) -> Any:
        run = begin(*words, **options)
        wandb.log = lambda info, **_: logged.append(info)  # which begin has set
        return run

    wandb.init = init
    return logged
