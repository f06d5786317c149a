"""A mixture looks at what its numbers mean: differences of angles, deltas, grippers, units, weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import vla_data as vd
from tests.mixture_sources import Numbered
from vla_data.actions import Convention, preset
from vla_data.core.findings import Finding
from vla_data.errors import UsageError
from vla_data.mixtures import Mixture, member, open_mixture
from vla_data.mixtures.numbers import _short_way
from vla_data.mixtures.sampling import shares
from vla_data.statistics.mixture import Mixture as Weighted
from vla_data.statistics.vectors import VectorStats

ANGLES = Convention(
    layout={"rotation": (0, 1, 2)},
    kind="absolute",
    frame="world",
    rotation="euler_extrinsic_xyz",
    rotation_unit="rad",
)
PLACE = Convention(layout={"translation": (0, 1, 2)}, kind="absolute", frame="world", translation_unit="m")
HAND = Convention(layout={"gripper": (2,)}, gripper_control="position", gripper_open=1.0, gripper_closed=0.0)


@dataclass(frozen=True, kw_only=True)
class Meant(Numbered):
    """Given numbers, for action and state alike, with what they mean."""

    cameras: tuple[str, ...] = ()
    lengths: tuple[int, ...] = (4,)
    values: Any = None
    states: Mapping[str, Any] = field(default_factory=dict)

    def read(self, ref: vd.EpisodeRef) -> vd.Episode:
        episode = super().read(ref)
        if self.values is None:
            return episode
        rows = np.asarray(self.values, dtype=np.float64)
        return replace(episode, arrays={**episode.arrays, "action": rows, "observation.state": rows})

    def schema(self, episode: vd.Episode) -> vd.Schema:
        schema = super().schema(episode)
        state = replace(schema.features["observation.state"], convention=dict(self.states))
        return replace(schema, features={**schema.features, "observation.state": state})


def meant(action: Convention | None, state: Convention | None, values: Any = None) -> Meant:
    told = [{} if c is None else c.to_json() for c in (action, state)]
    return Meant(convention=told[0], states=told[1], values=values)


Opener = Callable[..., Mixture]


def alike(mixture: Mixture) -> list[Finding]:
    """What is found of several datasets; the numbers of these here count frames and are no metres."""
    return [f for f in mixture.effective.findings if f.code != "contradicts_what_is_declared"]


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Opener:
    def make(*sources: Meant, entries: Any = None, **contract: Any) -> Mixture:
        by_root = {f"s{i}": source for i, source in enumerate(sources)}
        monkeypatch.setattr(member, "open_source", lambda root, **_: by_root[root])
        datasets = [{"root": root, **(entries or {})} for root in by_root]
        return open_mixture({"contract": {"state_dim": 3, **contract}, "datasets": datasets})

    return make


@pytest.mark.parametrize(("unit", "turn"), [("rad", 2 * np.pi), ("deg", 360.0)])
@pytest.mark.parametrize("how", ["state", "previous"])
def test_differences_of_angles_go_the_short_way(opened: Opener, unit: str, turn: float, how: str) -> None:
    yaw = np.asarray([0.48, 0.49, -0.49, -0.48]) * turn
    rows = np.stack([np.zeros(4), np.zeros(4), yaw], axis=1)
    meaning = replace(ANGLES, rotation_unit=unit)
    mixture = opened(meant(meaning, meaning, rows), chunk=3, delta=how)
    found = mixture.gather([0], [0])["action"][0, :, 2] / turn
    wanted = [0, 0.01, 0.03] if how == "state" else [0, 0.01, 0.02]
    assert found == pytest.approx(wanted, abs=1e-6)
    assert not mixture.effective.findings


@given(
    angles=st.lists(st.floats(-10, 10), min_size=2, max_size=2),
    turn=st.sampled_from([2 * np.pi, 360.0]),
)
def test_the_short_way_is_the_same_angle(angles: list[float], turn: float) -> None:
    difference = np.asarray([angles[0] - angles[1]])
    found = _short_way(difference, np.asarray([turn]))
    assert abs(found[0]) <= turn / 2 + 1e-9
    apart = (found - difference) / turn
    assert apart == pytest.approx(np.round(apart), abs=1e-9)
    inside = np.abs(difference) <= turn / 2
    assert (found[inside] == difference[inside]).all()
    plain: NDArray[np.float64] = _short_way(difference, np.zeros(1))
    assert (plain == difference).all()


def test_a_rotation_of_no_angles_subtracted_gets_a_word(opened: Opener) -> None:
    turned = replace(ANGLES, rotation="rotvec")
    (finding,) = opened(meant(turned, turned), delta="state").effective.findings
    assert finding.code == "subtracted"
    assert "s0: delta = 'state', but action [0-2] are rotvec" in finding.message
    assert not opened(meant(turned, turned), delta="state", delta_mask=[False] * 3).effective.findings


def test_deltas_of_deltas_are_refused(opened: Opener) -> None:
    moves = replace(PLACE, kind="delta", reference="current_state")
    with pytest.raises(UsageError, match=r"E232.*s0: delta = 'state', but action \[0-2\].*deltas of deltas"):
        opened(meant(moves, PLACE), delta="state")
    with pytest.raises(UsageError, match="deltas of deltas"):  # by the contract's own convention
        opened(meant(moves, PLACE), delta="previous", convention=moves.to_json())
    assert opened(meant(moves, PLACE), delta="state", delta_mask=[False, False, False])


def test_the_state_that_is_subtracted_is_looked_up_by_its_places(opened: Opener) -> None:
    turned = Convention(layout={"translation": (2, 0, 1)}, kind="absolute", frame="world", translation_unit="m")
    with pytest.raises(UsageError, match="other numbers of translation"):
        opened(meant(PLACE, turned), delta="state")
    right = {"delta": "state", "delta_mask": [True] * 3, "delta_state": [2, 0, 1]}
    assert not opened(meant(PLACE, turned), **right).effective.findings
    indexed = opened(meant(PLACE, turned), entries={"state_index": [2, 0, 1]}, delta="state")
    assert not indexed.effective.findings


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"gripper_open": 0.0, "gripper_closed": 1.0}, "gripper: gripper_open is 1.0 in s0, 0.0 in s1"),
        ({"gripper_open": -1.0, "gripper_closed": 1.0}, "gripper_closed is 0.0 in s0, 1.0 in s1"),
        ({"gripper_control": "undeclared"}, "gripper_control is position in s0, undeclared in s1"),
    ],
)
def test_members_of_opposite_grippers_are_named(opened: Opener, changed: dict[str, Any], text: str) -> None:
    found = alike(opened(meant(HAND, None), meant(replace(HAND, **changed), None)))
    assert {finding.code for finding in found} == {"unlike"}
    assert any(text in finding.message and "convention of [contract]" in finding.message for finding in found)


@pytest.mark.parametrize(
    "changed",
    [{"translation_unit": "mm"}, {"frame": "robot_base"}, {"kind": "delta", "reference": "current_state"}],
)
def test_members_of_other_units_frames_or_kinds_are_named(opened: Opener, changed: dict[str, Any]) -> None:
    other = replace(PLACE, **changed)
    for sources in ((meant(PLACE, None), meant(other, None)), (meant(None, PLACE), meant(None, other))):
        found = alike(opened(*sources))
        assert any(f"{next(iter(changed))} is" in finding.message for finding in found)
    assert not alike(opened(meant(PLACE, other), meant(PLACE, other)))
    assert not alike(opened(meant(None, None), meant(None, None)))
    (open_,) = alike(opened(meant(PLACE, None), meant(None, None)))
    assert "what s0 declare is undeclared in s1" in open_.message


def test_a_contract_makes_members_alike(opened: Opener) -> None:
    sources = meant(PLACE, None), meant(replace(PLACE, translation_unit="mm"), None)
    assert not alike(opened(*sources, convention=PLACE.to_json()))


def test_episodes_of_one_dataset_that_mean_other_things_are_left_out(opened: Opener) -> None:
    @dataclass(frozen=True, kw_only=True)
    class Two(Meant):
        def schema(self, episode: vd.Episode) -> vd.Schema:
            schema = super().schema(episode)
            unit = "m" if episode.id.endswith("0") else "mm"
            feature = replace(schema.features["action"], convention={**PLACE.to_json(), "translation_unit": unit})
            return replace(schema, features={**schema.features, "action": feature})

    mixture = opened(Two(lengths=(3, 4)))
    assert mixture.members[0].lengths == [3]
    assert "mean something else" in mixture.members[0].left_out[0].message


@pytest.mark.parametrize("temperature", [1e-3, 1e-2, 0.1, 1.0, 7.0, 1e6])
@pytest.mark.parametrize("frames", [(40, 60), (1, 1), (10**9, 10**9 + 1), (0, 5), (3, 3, 10**6)])
def test_shares_of_any_temperature_are_shares(frames: tuple[int, ...], temperature: float) -> None:
    found = shares(frames, weighting="temperature", temperature=temperature)
    assert sum(found) == pytest.approx(1.0)
    order = np.argsort(frames, kind="stable")
    assert (np.diff(np.asarray(found)[order]) >= 0).all()
    if temperature == 1.0:
        assert found == shares(frames)


@pytest.mark.parametrize("weights", [(1e308, 1e308), (1.7e308, 1.7e308), (5e-324, 5e-324), (1e300, 1e300)])
def test_weights_of_any_size_are_shares(weights: tuple[float, ...]) -> None:
    assert shares((3, 4), weights=weights) == (0.5, 0.5)
    parts = tuple(VectorStats.of(np.full((2, 1), value)) for value in (1.0, 3.0))
    assert Weighted(parts, weights).mean.tolist() == [2.0]


def test_the_presets_of_one_robot_differ_where_they_should(opened: Opener) -> None:
    """LIBERO's own actions beside those that OpenVLA makes of them."""
    rows = np.zeros((4, 7))
    libero, openvla = (meant(preset(name), None, rows) for name in ("libero", "openvla_libero"))
    texts = [finding.message for finding in opened(libero, openvla, state_dim=7).effective.findings]
    assert any("gripper_control is direction in s0, position in s1" in text for text in texts)


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        ([[0, 0, 0], [1, 1, 1]], [[-1, -1, -1], [1, 1, 1]], "action [0-2] is 0 to 1 in s0, -1 to 1 in s1"),
        ([[-1, 0, 0], [1.5, 1, 1]], [[-60, 0, 0], [90, 1, 1]], "action [0] is far larger in s1 than in s0"),
    ],
)
def test_undeclared_numbers_of_unlike_sizes_are_named(opened: Opener, one: Any, other: Any, said: str) -> None:
    sources = [meant(None, None, [*rows, rows[0], rows[0]]) for rows in (one, other)]
    found = [f.message for f in opened(*sources, state_dim=0).effective.findings if f.code == "unlike"]
    assert any(said in message and "declare what they are" in message for message in found)
    told = [meant(PLACE, None, [*rows, rows[0], rows[0]]) for rows in (one, other)]
    assert not [
        f for f in opened(*told, state_dim=0).effective.findings if f.code == "unlike" and said in f.message
    ]


def test_numbers_that_are_not_what_is_declared_are_named_with_their_dataset(opened: Opener) -> None:
    far = [[0.0, 0.0, 255.0], [0.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 2.0]]
    found = opened(meant(HAND, HAND, far)).effective.findings
    assert sorted(f.message for f in found if f.code == "contradicts_what_is_declared") == [
        f"s0: {name} [2] declared open at 1 and closed at 0, and far beyond (1 episodes); declare what is true "
        "(convention)"
        for name in ("action", "observation.state")
    ]
