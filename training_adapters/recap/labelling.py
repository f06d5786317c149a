"""The annotations of a round: advantages of the rollouts so far, with what is known of the critic."""

from __future__ import annotations

from typing import Any

import numpy as np

from training_adapters.recap.pictures import picture
from training_adapters.recap.project import Project, outcomes
from vla_data.advantages import annotate
from vla_data.advantages.frame_table import FrameTable
from vla_data.files.write import machine_errors, write_file


def tag_of(number: int, look_ahead: int | None = None) -> str:
    """The tag of a round's annotations."""
    return f"recap_{number}" if look_ahead is None else f"recap_{number}_n{look_ahead}"


def annotate_round(project: Project, number: int, look_ahead: int | None) -> dict[str, Any]:
    """Annotate the datasets of the first ``number`` rounds; what was found, by dataset.

    The configured advantages are also written as ``meta/advantages.json``, which OpenTau reads, and all are drawn
    beside the round's other results.
    """
    config, out = project.config, {}
    critic = project.record("value-finetune", number).read() or {}
    for one in range(1, number + 1):
        root = project.dataset(one)
        made = annotate(
            root,
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
        table = FrameTable.read(root)
        solved = np.array(list(outcomes(table).values()), dtype=np.bool_)
        drawing = (
            project.of_round(number) / f"advantages_{one}{'' if look_ahead is None else f'_n{look_ahead}'}.svg"
        )
        with machine_errors("cannot write the picture"):
            write_file(drawing, picture(made.annotation, table, solved).encode())
        facts = made.to_json()
        advantages = made.annotation.advantages
        out[f"round_{one}"] = {
            **{key: facts[key] for key in ("tag", "frames", "positive", "forced", "percentiles", "thresholds")},
            "zero": int(np.count_nonzero(advantages == 0)),
            "warnings": list(made.warnings),
        }
    return {"advantages": out}
