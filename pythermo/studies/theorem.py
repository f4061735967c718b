"""Theorem 1's closed form: the SNR of the overparameterized toy along meridians, measured beside it."""

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from pythermo import sphere
from pythermo.sphere.systems import Quadratics
from pythermo.studies.checks import Check

Floats = NDArray[np.float64]

# Of the paper's system: its vectors are (sqrt(1 - R), +-sqrt(R), 0).
SPREAD = 0.25


def two_samples(spread: float) -> Quadratics:
    """Return the overparameterized system of the two vectors (sqrt(1 - R), +-sqrt(R), 0), R = ``spread``."""
    x, y = np.sqrt(1.0 - spread), np.sqrt(spread)
    return Quadratics(np.array([[x, y, 0.0], [x, -y, 0.0]]))


def closed_form_snr(t: ArrayLike, s: ArrayLike, spread: float) -> Floats:
    """Return the SNR of that system where ``t = 1 - w_z^2`` and ``s = w_x^2 / t``, on the unit sphere.

    Along a meridian s is constant; t goes from 0 at the pole, the minimum, to 1 at the equator. Source: the
    closed form around Theorem 1 of arXiv 2505.23489.
    """
    t, s, r = np.asarray(t, np.float64), np.asarray(s, np.float64), spread
    m = s * (1 - r) ** 2 + (1 - s) * r**2
    p = (s * (1 - r) + (1 - s) * r) ** 2
    q = 4 * s * (1 - s)
    # Exactly 0 at the saddle (0, 1, 0), where rounding may leave less.
    result: Floats = np.sqrt(np.maximum((m - p * t) / (r * (1 - r) * (1 - q * t)), 0.0))
    return result


def snr_along_meridians(spread: float = SPREAD, meridians: int = 7, points: int = 60) -> xr.Dataset:
    """Measure the SNR along meridians from the pole, where the loss is 0, to near the equator.

    Returns
    -------
    xarray.Dataset
        ``snr`` as the simulator measures it over its samples and ``snr_theory``, by ``s`` (the meridian, from
        that of the saddle at 0 to 1) and ``t``. The attribute ``least`` is the bound at the pole,
        sqrt(R / (1 - R)).
    """
    s, t = (
        np.linspace(0.0, 1.0, meridians),
        np.concatenate(
            [np.geomspace(1e-6, 0.05, points // 3), np.linspace(0.06, 0.999, points - points // 3)]
        ),
    )
    across, down = np.meshgrid(s, t, indexing="ij")
    weights = np.stack([np.sqrt(across * down), np.sqrt((1 - across) * down), np.sqrt(1 - down)], axis=-1)
    found = sphere.simulate(
        two_samples(spread), 1e-3, 1, start=weights.reshape(-1, 3), replicas=weights[..., 0].size,
        measure_at=[0], record=("snr",),
    )  # fmt: skip
    return xr.Dataset(
        {
            "snr": (("s", "t"), found["snr"].values.reshape(across.shape)),
            "snr_theory": (("s", "t"), closed_form_snr(down, across, spread)),
        },
        coords={"s": s, "t": t},
        attrs={"spread": spread, "least": float(np.sqrt(spread / (1 - spread)))},
    )


def theorem_checks(found: xr.Dataset) -> list[Check]:
    """Compare the measured SNR with the closed form, and its limit at the pole with the bound."""
    apart = float(np.abs(found["snr"] ** 2 - found["snr_theory"] ** 2).max())
    below = found.attrs["least"] - float(found["snr"].isel(t=0).min())
    return [
        # Products of the three coordinates and a difference of them, in float64.
        Check("OP: SNR^2 along meridians beside the closed form", apart, 1e-10, ""),
        Check("OP: the least SNR at the pole beside sqrt(R / (1 - R))", below, 1e-5, ""),
    ]
