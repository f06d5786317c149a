"""P8: advantages of one million frames, ours beside a loop over frames and beside OpenTau's two passes.

    python -m benchmarks.p8_advantages --short                 # 100,000 frames, one repeat
    python -m benchmarks.p8_advantages --output result.json    # 1,000,000 frames, five repeats

- **arithmetic**: values in memory to advantages in memory. ``loop`` is plain Python over the frames of each
  episode, on lists, as fast as it gets without NumPy. ``opentau`` is what ``get_advantage_and_percentiles.py`` of
  OpenTau does with values that are already computed: a dictionary by (episode, row) from a first pass, look-ups in
  a second, per frame; without the tensors and the image decoding around it, which only slow it down.
- **annotation**: a values file and a dataset on disk to files on disk. ``ours`` writes the canonical sidecar and
  OpenTau's JSON; the peer reads the same columns, does its two passes and writes its JSON.

Both sides' results are compared before anything is timed: the greatest difference is printed, and whether the JSON
is equal byte for byte.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.harness import alternate, machine, median, spread, table
from vla_data import advantages as adv
from vla_data.advantages.numbers.scan import reverse_scan

N_STEP, NORMALIZER, C_NEG = 50, 1600, -1000
FPS = 20


class Data:
    """Episodes of 50 to 350 frames, half of them failures, with a noisy critic."""

    def __init__(self, frames: int) -> None:
        random = np.random.default_rng(0)
        lengths = random.integers(50, 351, frames // 100)
        lengths = lengths[: int(np.searchsorted(np.cumsum(lengths), frames)) + 1]
        lengths[-1] -= lengths.sum() - frames
        self.episodes = adv.Episodes(lengths)
        self.success = random.random(len(lengths)) < 0.5
        self.rules = adv.Recap(n=N_STEP, normalizer=NORMALIZER, c_neg=C_NEG)
        self.scales = self.rules.normalizers(self.episodes, np.zeros(len(lengths)))
        exact = self.rules.returns(self.episodes, self.success) / NORMALIZER
        self.values = exact + random.normal(scale=0.02, size=frames)
        self.rewards = np.full(frames, -1 / NORMALIZER)
        self.rewards[self.episodes.last] = np.where(self.success, 0, C_NEG) / NORMALIZER
        self.episode_index = self.episodes.per_frame(np.arange(len(lengths)))
        self.timestamp = (self.episodes.frame_index() / FPS).astype(np.float32)


def loop_n_step(data: Data) -> list[float]:
    out: list[float] = []
    values = data.values.tolist()
    for start, end, solved in zip(
        data.episodes.starts.tolist(), data.episodes.ends.tolist(), data.success.tolist(), strict=True
    ):
        for t in range(start, end):
            if t + N_STEP < end:
                out.append(-N_STEP / NORMALIZER + values[t + N_STEP] - values[t])
            else:
                out.append(((t - end + 1) + (0 if solved else C_NEG)) / NORMALIZER - values[t])
    return out


def loop_monte_carlo(data: Data) -> list[float]:
    out = [0.0] * data.episodes.total
    rewards, values = data.rewards.tolist(), data.values.tolist()
    for start, end in zip(data.episodes.starts.tolist(), data.episodes.ends.tolist(), strict=True):
        rest = 0.0
        for t in range(end - 1, start - 1, -1):
            rest += rewards[t]
            out[t] = rest - values[t]
    return out


def loop_gae(data: Data, gamma: float = 0.99, lam: float = 0.95) -> list[float]:
    out = [0.0] * data.episodes.total
    rewards, values = data.rewards.tolist(), data.values.tolist()
    for start, end in zip(data.episodes.starts.tolist(), data.episodes.ends.tolist(), strict=True):
        following = rest = 0.0
        for t in range(end - 1, start - 1, -1):
            rest = rewards[t] + gamma * following - values[t] + gamma * lam * rest
            following = values[t]
            out[t] = rest
    return out


def opentau(data: Data) -> dict[tuple[int, float], float]:
    """Its two passes: a dictionary of values and n-step rewards, then a look-up for every frame."""
    ends = data.episodes.per_frame(data.episodes.ends).tolist()
    solved = data.episodes.per_frame(data.success).tolist()
    episode, times = data.episode_index.tolist(), data.timestamp.astype(np.float64).tolist()
    store: dict[tuple[int, int], dict[str, float]] = {}
    for row, value in enumerate(data.values.tolist()):
        reward: float = max(row - ends[row] + 1, -N_STEP)
        if not solved[row] and row + N_STEP >= ends[row]:
            reward += C_NEG
        store[episode[row], row] = {"v0": value, "reward": reward / NORMALIZER}
    nothing = {"v0": 0.0, "reward": 0.0}
    out: dict[tuple[int, float], float] = {}
    for row in range(len(episode)):
        here = store.get((episode[row], row), nothing)
        later = store.get((episode[row], row + N_STEP), nothing)
        out[episode[row], times[row]] = here["reward"] + later["v0"] - here["v0"]
    return out


def timed(call: Callable[[], Any]) -> Callable[[int], float]:
    def run(_repeat: int) -> float:
        start = time.perf_counter()
        call()
        return time.perf_counter() - start

    return run


def arithmetic(data: Data, repeats: int) -> list[dict[str, Any]]:
    ours_n = lambda: data.rules.advantages(data.values, data.episodes, data.success, data.scales)  # noqa: E731
    everything = adv.Recap(n=None, normalizer=NORMALIZER, c_neg=C_NEG)
    ours_mc = lambda: everything.advantages(data.values, data.episodes, data.success, data.scales)  # noqa: E731
    general_n = lambda: adv.n_step(data.rewards, data.values, data.episodes, n=N_STEP)  # noqa: E731
    general_mc = lambda: adv.monte_carlo(data.rewards, data.values, data.episodes)  # noqa: E731
    ours_gae = lambda: adv.gae(data.rewards, data.values, data.episodes, gamma=0.99, lam=0.95)[0]  # noqa: E731
    one = adv.Episodes(np.array([data.episodes.total]))
    one_gae = lambda: adv.gae(data.rewards, data.values, one, gamma=0.99, lam=0.95)[0]  # noqa: E731
    decay = np.full(data.episodes.total, 0.99 * 0.95)
    cases: dict[str, tuple[Callable[[], Any], dict[str, Callable[[], Any]]]] = {
        "n-step 50": (
            ours_n,
            {"loop": lambda: loop_n_step(data), "opentau": lambda: list(opentau(data).values())},
        ),
        "Monte-Carlo": (ours_mc, {"loop": lambda: loop_monte_carlo(data)}),
        "n-step, any rewards": (general_n, {"loop": lambda: loop_n_step(data)}),
        "Monte-Carlo, any rewards": (general_mc, {"loop": lambda: loop_monte_carlo(data)}),
        "GAE": (ours_gae, {"loop": lambda: loop_gae(data)}),
        "GAE, one episode": (one_gae, {}),
        "reverse scan alone": (lambda: reverse_scan(data.rewards, decay), {}),
    }
    rows = []
    for name, (ours, peers) in cases.items():
        result = ours()
        worst = max((float(np.abs(result - np.array(peer())).max()) for peer in peers.values()), default=0.0)
        if worst > 1e-9:
            raise SystemExit(f"{name}: the sides differ by {worst}")
        seconds = alternate(
            {"ours": timed(ours), **{side: timed(peer) for side, peer in peers.items()}}, repeats=repeats
        )
        row: dict[str, Any] = {
            "case": name,
            "ours M/s": round(data.episodes.total / median(seconds["ours"]) / 1e6, 1),
            "spread": round(spread(seconds["ours"]), 2),
            "largest difference": worst,
        }
        for side in ("loop", "opentau"):
            if side in peers:
                row[f"{side} M/s"] = round(data.episodes.total / median(seconds[side]) / 1e6, 3)
                row[f"x {side}"] = round(median(seconds[side]) / median(seconds["ours"]), 1)
        rows.append(row)
    return rows


def write_dataset(data: Data, root: Path) -> Path:
    """A LeRobot dataset without images, and a values file; returns that."""
    total = data.episodes.total
    (root / "data/chunk-000").mkdir(parents=True)
    (root / "meta/episodes/chunk-000").mkdir(parents=True)
    columns = {
        "episode_index": data.episode_index,
        "frame_index": data.episodes.frame_index(),
        "index": np.arange(total),
        "timestamp": data.timestamp,
        "task_index": np.zeros(total, dtype=np.int64),
    }
    pq.write_table(pa.table(columns), root / "data/chunk-000/file-000.parquet")
    episodes = {"episode_index": np.arange(len(data.episodes)), "success": data.success}
    pq.write_table(pa.table(episodes), root / "meta/episodes/chunk-000/file-000.parquet")
    pq.write_table(pa.table({"task_index": [0], "task": ["go"]}), root / "meta/tasks.parquet")
    (root / "meta/info.json").write_text(json.dumps({"fps": FPS, "features": {}, "codebase_version": "v3.0"}))
    values = root.with_name("values.parquet")
    pq.write_table(
        pa.table({name: columns[name] for name in ("episode_index", "frame_index")} | {"value": data.values}),
        values,
    )
    return values


def opentau_annotation(data: Data, root: Path, values: Path) -> None:
    """The peer's side on disk: rows and values from their files, two passes, its JSON and its percentiles."""
    rows = pq.read_table(root / "data/chunk-000/file-000.parquet")
    read = pq.read_table(values)
    given = Data.__new__(Data)
    given.__dict__ |= data.__dict__
    given.values = read["value"].to_numpy()
    given.episode_index, given.timestamp = rows["episode_index"].to_numpy(), rows["timestamp"].to_numpy()
    found = opentau(given)
    text = {f"{episode},{second}": f"{value:.6f}" for (episode, second), value in found.items()}
    with (root / "meta/peer.json").open("w") as file:
        json.dump(text, file, indent=4)
    np.percentile(np.array(list(found.values())), list(range(0, 101, 5)))


def annotation(data: Data, repeats: int) -> dict[str, Any]:
    folder = Path(tempfile.mkdtemp(prefix="p8-"))
    try:
        root = folder / "set"
        values = write_dataset(data, root)
        labels = adv.Labels(share=0.3)

        def ours(layout: str | None = "opentau") -> None:
            adv.annotate(
                root, tag="p8", values=values, rules=data.rules, labels=labels, layout=layout, replace=True
            )

        ours()
        opentau_annotation(data, root, values)
        same = (root / "meta/peer.json").read_bytes() == (root / "meta/advantages.json").read_bytes()
        seconds = alternate(
            {
                "ours": timed(ours),
                "sidecar alone": timed(lambda: ours(None)),
                "opentau": timed(lambda: opentau_annotation(data, root, values)),
            },
            repeats=repeats,
        )
        medians = {side: median(times) for side, times in seconds.items()}
        return {
            "frames": data.episodes.total,
            "JSON is equal": same,
            "ours s": round(medians["ours"], 2),
            "ours, sidecar alone s": round(medians["sidecar alone"], 2),
            "opentau s": round(medians["opentau"], 2),
            "x opentau": round(medians["opentau"] / medians["ours"], 2),
            "x opentau, sidecar alone": round(medians["opentau"] / medians["sidecar alone"], 1),
        }
    finally:
        shutil.rmtree(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="100,000 frames, one repeat")
    parser.add_argument("--frames", type=int, help="default 1,000,000")
    parser.add_argument("--repeats", type=int, help="default 5")
    parser.add_argument("--output", type=Path, help="write JSON here")
    options = parser.parse_args()
    frames = options.frames or (100_000 if options.short else 1_000_000)
    repeats = options.repeats or (1 if options.short else 5)
    data = Data(frames)
    found, annotated = arithmetic(data, repeats), annotation(data, repeats)
    result = {
        "machine": machine("numpy", "pyarrow"),
        "frames": frames,
        "episodes": len(data.episodes),
        "rows": found,
        "annotation": annotated,
    }
    print(table(found))
    print(json.dumps(annotated, indent=2))
    if options.output:
        options.output.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
