"""The annotations of a round: advantages of the rollouts so far, with what is known of the critic."""

from __future__ import annotations

from typing import Any

import numpy as np

from training_adapters.recap.project import Project
from vla_data.advantages import annotate


def tag_of(number: int, look_ahead: int | None = None) -> str:
    """The tag of a round's annotations."""
    return f"recap_{number}" if look_ahead is None else f"recap_{number}_n{look_ahead}"


def annotate_round(project: Project, number: int, look_ahead: int | None) -> dict[str, Any]:
    """Annotate the datasets of the first ``number`` rounds; what was found, by dataset.

    The configured advantages are also written as ``meta/advantages.json``, which OpenTau reads.
    """
    config, out = project.config, {}
    critic = project.record("value-finetune", number).read() or {}
    for one in range(1, number + 1):
        made = annotate(
            project.dataset(one),
            tag=tag_of(number, look_ahead),
            values=project.of_round(number) / f"values_{one}.parquet",
            value_model=project.of_round(number) / "value",
            rules=config.rules(look_ahead),
            labels=config.labels(),
            force_positive=config.force_positive or None,
            layout="opentau" if look_ahead is None else None,
            critic=critic.get("critic"),
            replace=True,
        )
        for line in (*str(made).splitlines(), *made.warnings):
            project.run.say(line)
        facts = made.to_json()
        advantages = made.annotation.advantages
        out[f"round_{one}"] = {
            **{key: facts[key] for key in ("tag", "frames", "positive", "forced", "percentiles", "thresholds")},
            "zero": int(np.count_nonzero(advantages == 0)),
            "warnings": list(made.warnings),
        }
    return {"advantages": out}
