"""The model of `vla_data.dynamics.check`, fitted, and what follows from several fits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vla_data.actions.rotations import Floats

LAGS: Final = (0, -1, 1, -2, 2)
REACH: Final = max(map(abs, LAGS)) + 1
"""Steps left out at both ends, so that all lags are judged by the same steps."""
FARTHEST: Final = 30
"""Steps up to which a lag is measured."""
SEARCHED: Final = 20_000
"""Steps that are enough to measure it."""
TOLD_APART: Final = 64
"""Steps that are needed to tell so many lags apart."""
EXCITED: Final = 4.0
"""Standard errors by which a command must show in the motion."""
_NEAR: Final = 1.15
_ROUNDING: Final = 1e-9
_SHARE: Final = 1e-6


@dataclass(frozen=True, slots=True)
class Fit:
    """The model, fitted to each of ``D`` dimensions."""

    steps: int
    gain: Floats
    residual: Floats
    log_rms: Floats
    errors: Floats
    likelihood: Floats


def fit_motions(
    commands: Sequence[Floats],
    motions: Sequence[Floats],
    lag: int,
    *,
    reach: int = REACH,
    forward: bool = False,
) -> Fit:
    """The model for all episodes together.

    Args:
        commands: ``(T, D)`` an episode.
        motions: ``(S, D)`` an episode; row t is from state t to the next.
        lag: steps by which motions follow commands.
        reach: steps left out at both ends; with 1 only the first one.
        forward: commands move nothing backwards: what fits best with b < 0 explains no motion at all.
    """
    us, befores, vs = [], [], []
    for u, v in zip(commands, motions, strict=True):
        t = np.arange(reach, min(len(u), len(v)) - (reach if reach > 1 else 0))
        if len(t) == 0:
            continue
        us.append(u[t - lag])
        befores.append(v[t - 1])
        vs.append(v[t])
    if not vs:
        nothing = np.zeros(motions[0].shape[-1])
        return Fit(0, nothing, nothing, nothing, nothing, nothing)
    u, before, v = (np.concatenate(rows) for rows in (us, befores, vs))
    dims = v.shape[1]
    gain, residual, log_rms, errors = (np.zeros(dims) for _ in range(4))
    likelihood = np.zeros(v.shape)
    for d in range(dims):
        x = np.stack([u[:, d], before[:, d]], axis=1)
        c = np.linalg.lstsq(x, v[:, d], rcond=None)[0]
        if forward and c[0] < 0:
            c = np.array([0.0, np.linalg.lstsq(x[:, 1:], v[:, d], rcond=None)[0][0]])
        rest = v[:, d] - x @ c
        # Motions below a nanometre or nanoradian, or a millionth of what moves, are rounding.
        size = max(float(np.sqrt(np.mean(v[:, d] ** 2))), _ROUNDING)
        rms = max(float(np.sqrt(np.mean(rest**2))), _ROUNDING, _SHARE * size)
        inverse_gram = np.linalg.pinv(x.T @ x)
        spread = rms * np.sqrt(max(float(inverse_gram[0, 0]), 0.0))
        # A motion that seems to go on for ever (a near 1) says little about the gain; its sign stays that of b.
        gain[d] = c[0] / max(1 - c[1], 0.05)
        residual[d] = rms / size
        log_rms[d] = np.log(rms)
        errors[d] = c[0] / spread if spread > 0 else 0.0
        likelihood[:, d] = -0.5 * (rest / rms) ** 2 - log_rms[d]
    return Fit(len(v), gain, residual, log_rms, errors, likelihood)


def best_lag(fits: Mapping[int, Fit], excited: NDArray[np.bool_]) -> int:
    """The lag nearest to 0 that explains nearly as much as the best one."""
    if not excited.any():
        return 0
    score = {lag: float(fit.log_rms[excited].mean()) for lag, fit in fits.items()}
    near = [lag for lag in LAGS if score[lag] <= min(score.values()) + np.log(_NEAR)]
    closest = min(abs(lag) for lag in near)
    return min((lag for lag in near if abs(lag) == closest), key=lambda lag: score[lag])


def measured_lag(
    fits: Mapping[int, Fit], commands: Sequence[Floats], motions: Sequence[Floats]
) -> tuple[int, bool]:
    """The lag that explains most of the motion, and whether it is the largest that was tried, so that it may be
    larger. Of `LAGS`, the one nearest to 0 counts that explains nearly as much.

    Lags of up to `FARTHEST` steps are tried where episodes are long enough to tell them apart, on as many of them
    as have `SEARCHED` steps.

    Args:
        fits: of `LAGS`, by which short episodes are judged alone.
        commands: as `fit_motions` takes them.
        motions: the same.
    """
    many = int(np.searchsorted(np.cumsum([len(v) for v in motions]), SEARCHED)) + 1
    us, vs = commands[:many], motions[:many]
    lengths = [min(len(u), len(v)) for u, v in zip(us, vs, strict=True)]
    most = next((n for n in range(FARTHEST, REACH, -1) if _left(lengths, n + 1) >= TOLD_APART), 0)
    if not most:
        lag = best_lag(fits, _excited(fits.values()))
        return lag, abs(lag) == max(LAGS)
    wide = {lag: fit_motions(us, vs, lag, reach=most + 1) for lag in (*LAGS, *range(max(LAGS) + 1, most + 1))}
    excited = _excited(wide.values())
    if not excited.any():
        return 0, False
    if _closest(wide, excited) == min(LAGS):  # the motion is before its commands, which is rare
        wide |= {-lag: fit_motions(us, vs, -lag, reach=most + 1) for lag in range(max(LAGS) + 1, most + 1)}
    lag = _closest(wide, excited)
    return lag, abs(lag) == most


def _left(lengths: Sequence[int], reach: int) -> int:
    """Steps that a fit has which leaves so many out at both ends."""
    return sum(max(0, length - 2 * reach) for length in lengths)


def _excited(fits: Iterable[Fit]) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = np.max([np.abs(fit.errors) for fit in fits], axis=0) > EXCITED
    return found


def _closest(fits: Mapping[int, Fit], excited: NDArray[np.bool_]) -> int:
    score = {lag: float(fit.log_rms[excited].mean()) for lag, fit in fits.items()}
    best = min(score, key=lambda lag: (score[lag], abs(lag)))
    near = [lag for lag in LAGS if score[lag] <= score[best] + np.log(_NEAR)]
    return best_lag({lag: fits[lag] for lag in LAGS}, excited) if best in LAGS or 0 in near else best


def vuong(better: Floats) -> float:
    """Standard errors by which one model's log-likelihoods ``(n,)`` exceed another's.

    At most those of a parameter that makes such a difference, sqrt(2 LR): where two models say the same, the test
    divides one rounding error by another.
    """
    total, spread = float(better.sum()), float(better.std())
    if spread == 0:
        return 0.0
    errors = min(abs(total) / (spread * np.sqrt(len(better))), np.sqrt(2 * abs(total)))
    return float(np.copysign(errors, total)) + 0.0
