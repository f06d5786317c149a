"""The report's section on values and advantages has the figures of the annotation, task by task."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import vla_data as vd
from tests.rollouts import rollout, save
from vla_data.advantages.labels import Labels
from vla_data.report.advantages import advantages
from vla_data.report.charts import curves


def test_each_task_has_its_own_figures(tmp_path: Path) -> None:
    lengths = (6, 8, 10)
    for n, length in enumerate(lengths):
        save(tmp_path / "in", f"{n}.npz", rollout(length, instruction="pour <tea>" if n else "pick"))
    target = tmp_path / "out"
    vd.run(vd.open_source(tmp_path / "in"), (), vd.open_sink(target), workers=1)
    assert advantages(target) == advantages(None) == ""
    values = np.linspace(-0.9, -0.1, sum(lengths))
    rows = [(e, t) for e, length in enumerate(lengths) for t in range(length)]
    table = {"episode_index": [e for e, _ in rows], "frame_index": [t for _, t in rows], "value": values}
    pq.write_table(pa.table(table), tmp_path / "values.parquet")
    made = vd.annotate(
        target, values=tmp_path / "values.parquet", tag="v1", labels=Labels(share=0.25, per_task=True)
    ).annotation
    page = advantages(target)
    for task, where in (("pick", slice(0, 6)), ("pour &lt;tea&gt;", slice(6, 24)), ("all", slice(0, 24))):
        assert made.positive is not None
        cells = [
            task,
            str(len(values[where])),
            f"{values[where].mean():.4g}",
            *(f"{q:.4g}" for q in np.quantile(made.advantages[where], [0.05, 0.5, 0.95])),
            f"{made.positive[where].mean():.1%}",
        ]
        row = next(line for line in page.split("<tr>") if f">{task}<" in line)
        assert [cell for cell in cells if f">{cell}<" not in row] == []
    assert page.count("<svg") == 2 + len(lengths)  # two histograms, and every episode of so few
    for n, length in enumerate(lengths):
        figure = next(part for part in page.split("<figure class=strip>") if f"<b>episode {n}</b>" in part)
        positive = made.positive[slice(sum(lengths[:n]), sum(lengths[: n + 1]))]
        assert f"{positive.sum()} of {length} steps positive" in figure
        assert figure.count('class="kept"') == positive.sum()
        shown = [int(step) for step in re.findall(r'title="step (\d+)"', figure)]
        assert figure.count("<img class=marked ") == positive[shown].sum()
        assert figure.count("<img ") == len(shown) == min(length, 8)
    order = [int(n) for n in re.findall(r"<b>episode (\d+)</b>", page)]
    means = [made.advantages[sum(lengths[:n]) : sum(lengths[: n + 1])].mean() for n in order]
    assert means == sorted(means, reverse=True)
    pq.write_table(
        pq.read_table(target / "meta/vla_data/advantages/v1.parquet").slice(1), tmp_path / "cut.parquet"
    )
    (target / "meta/vla_data/advantages/v1.parquet").write_bytes((tmp_path / "cut.parquet").read_bytes())
    assert "be shown: E302 bad-advantages" in advantages(target)


def test_a_long_episode_is_drawn_in_as_little_room() -> None:
    """Neighbours are drawn as one, by their means; no mark is lost."""
    steps = 10_000
    values, bars = np.linspace(-1, 0, steps), np.where(np.arange(steps) % 2, 0.5, -0.5)
    drawn = curves(values.tolist(), bars.tolist(), [0, 5_000, 5_001, 9_999], label="x")
    assert len(drawn) < 60_000
    assert drawn.count('class="kept"') == 3
    line = re.findall(r'points="([^"]*)"', drawn)[0].split()
    assert len(line) == -(-steps // 32)
    whole = curves(values[:320].tolist(), bars[:320].tolist(), [], label="x")
    assert whole.count("<rect") == len(re.findall(r'points="([^"]*)"', whole)[0].split()) == 320
