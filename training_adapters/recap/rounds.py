"""The whole loop."""

from __future__ import annotations

from training_adapters import checkpoints
from training_adapters.evaluate import Evaluation
from training_adapters.recap import stages
from training_adapters.recap.project import Project


def run_rounds(project: Project, rounds: int) -> dict[str, Evaluation]:
    """Do all stages of so many rounds, except those that are done.

    Returns:
        Held-out success of the start and after each round, by name; empty where nothing is measured.
    """
    stages.sft(project)
    stages.value(project)
    for number in range(1, rounds + 1):
        for stage in stages.ROUND.values():
            stage(project, number)
    if not project.config.eval_episodes:
        return {}
    found = {"start": project.evaluate(project.sft().bins(), project.folder / "eval.json")}
    for number in range(1, rounds + 1):
        player = checkpoints.load(project.of_round(number) / "policy").player()
        found[f"round {number}"] = project.evaluate(player, project.of_round(number) / "eval.json")
    return found
