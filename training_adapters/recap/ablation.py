"""RECAP beside what could explain it: the same rollouts, demonstrations, start, updates and held-out starts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from training_adapters import checkpoints
from training_adapters.evaluate import Evaluation
from training_adapters.policies.guided import Guided
from training_adapters.recap import stages
from training_adapters.recap.frames import Frames
from training_adapters.recap.labelling import tag_of
from training_adapters.recap.learning import Arm, learn, trusted_frames
from training_adapters.recap.project import Project
from training_adapters.recap.record import checkpoint_digest
from vla_data.files.write import machine_errors, write_file

RECAP: Final = "recap"
CONTROLS: Final = (
    Arm(name="no_indicator", labels="none"),
    Arm(name="shuffled", labels="shuffled"),
    Arm(name="solved_only", labels="none", rows="solved"),
    Arm(name="advantage_weighted", labels="none", weighted=True),
)
"""The same data without words; with labels that say nothing; filtered cloning; advantage-weighted regression."""
_ROUND, _DEMOS = 1, "demonstrations"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A row of the table.

    Attributes:
        arm: how the policy was trained; None: the start.
        beta: of guidance when it was played.
        found: what it achieved.
    """

    arm: Arm | None
    beta: float
    found: Evaluation

    @property
    def name(self) -> str:
        """Of the row."""
        if self.arm is None:
            return "start"
        return self.arm.name if self.arm.labels == "none" else f"{self.arm.name}, beta {self.beta:g}"

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary."""
        arm = None if self.arm is None else self.arm.to_json()
        return {"name": self.name, "arm": arm, "beta": self.beta, **self.found.to_json()}


def ablate(project: Project, look_aheads: Iterable[int] = ()) -> list[Line]:
    """Train every arm on the first round's data and play them; whatever is there already is not made again.

    Args:
        project: the run; stages that it lacks are done first.
        look_aheads: further arms, RECAP with advantages of so many steps.
    """
    for stage in (stages.sft, stages.value):
        stage(project)
    for name in ("rollout", "value-finetune", "advantage"):
        stages.ROUND[name](project, _ROUND)
    start = project.sft().bins()
    table = [Line(arm=None, beta=1.0, found=project.evaluate(start, project.folder / "eval.json"))]
    arms = [Arm(name=RECAP), *CONTROLS, *(Arm(name=f"{RECAP}_n{n}", look_ahead=n) for n in look_aheads)]
    read: dict[str, Frames] = {}
    for arm in arms:
        table += _lines(project, arm, read)
    write = {
        "settings": asdict(project.config),
        "arms": [line.to_json() for line in table],
        "critic": (project.record("value-finetune", _ROUND).read() or {})["critic"],
        "rollouts": project.record("rollout", _ROUND).read(),
    }
    with machine_errors("cannot write the table"):
        write_file(project.folder / "ablation.json", (json.dumps(write, indent=2, sort_keys=True) + "\n").encode())
        write_file(project.folder / "ablation.md", ("\n".join(markdown(table)) + "\n").encode())
    return table


def _lines(project: Project, arm: Arm, read: dict[str, Frames]) -> list[Line]:
    """Of an arm; ``read`` keeps frames by the tag of their annotation, and the demonstrations."""
    config = project.config
    tag = tag_of(_ROUND, arm.look_ahead)
    if arm.look_ahead is not None:
        stages.advantage(project, _ROUND, arm.look_ahead)
    folder = project.folder / "arms" / arm.name
    record = project.record(f"arms/{arm.name}")
    inputs = stages.policy_inputs(project, _ROUND, tag)
    if record.facts(inputs) is None:
        if tag not in read:
            read[tag] = trusted_frames(project, _ROUND, tag)[0]
        if _DEMOS not in read:
            read[_DEMOS] = project.demonstrations()
        path = learn(project, arm, read[tag], read[_DEMOS], folder)
        record.write(inputs, {"arm": arm.to_json(), "sha256": checkpoint_digest(path)})
    saved = checkpoints.load(folder)
    policy, asked = saved.bins(), saved.metadata.get("asked")
    betas = [1.0] if asked is None else sorted({1.0, config.beta}, reverse=True)
    lines = []
    for beta in betas:
        player = policy if asked is None else Guided(policy, asked["words"], beta=beta)
        found = project.evaluate(player, folder / f"eval_beta_{beta:g}.json")
        lines.append(Line(arm=arm, beta=beta, found=found))
        project.run.say(f"{lines[-1].name}: held-out success {found.success}")
    return lines


def text(table: Sequence[Line]) -> list[str]:
    """For a person: success of every arm, whether it is apart from RECAP's, and by task."""
    width = max(len(line.name) for line in table)
    first = next(line for line in table if line.arm is not None and line.arm.name == RECAP)
    out = []
    for line in table:
        apart = (
            "" if line is first else ", apart from RECAP" if line.found.success.apart(first.found.success) else ""
        )
        out.append(f"  {line.name:<{width}}  {line.found.success}{apart}")
    out.append("by task, n/N with Wilson's 95 % interval:")
    for line in table:
        out.append(f"  {line.name}")
        out += [f"    {task}: {share}" for task, share in sorted(line.found.tasks.items())]
    return out


def markdown(table: Sequence[Line]) -> list[str]:
    """Two tables: of all episodes with the arms' settings, and by task."""
    tasks = sorted({task for line in table for task in line.found.tasks})
    out = ["| arm | labels | rollouts | look-ahead | beta | success | 95 % |", "|---|---|---|---|---|---|---|"]
    for line in table:
        arm = line.arm
        how = (
            ("", "", "", "")
            if arm is None
            else (
                arm.labels if not arm.weighted else "weight exp(A)",
                arm.rows,
                "to the end" if arm.look_ahead is None else str(arm.look_ahead),
                f"{line.beta:g}",
            )
        )
        share = line.found.success
        cells = (line.name, *how, f"{share.count}/{share.total}", "{:.3f} to {:.3f}".format(*share.interval))
        out.append(f"| {' | '.join(cells)} |")
    out += ["", f"| arm | {' | '.join(tasks)} |", "|---|" + "---|" * len(tasks)]
    for line in table:
        shares = [line.found.tasks.get(task) for task in tasks]
        parts = [
            "" if share is None else "{}/{} ({:.2f} to {:.2f})".format(share.count, share.total, *share.interval)
            for share in shares
        ]
        out.append(f"| {line.name} | {' | '.join(parts)} |")
    return out
