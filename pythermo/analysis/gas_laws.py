"""What theory says of a gas of weights, put to the test over all cells of a sweep."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from scipy.optimize import brentq

from pythermo._checks import Floats, require_open_unit
from pythermo.analysis.gas import Gas, State, cells_of
from pythermo.analysis.stationarity import stationarity
from pythermo.config.preset import FIGURE_K

# Cells along an isentrope.
_ON_PATH = 9


@dataclass(frozen=True)
class GasAnalysis:
    """A sweep as a gas: its states, and what theory says of them put to the test; or why it cannot be.

    The latter in the cells whose norm has settled.

    Attributes
    ----------
    cells : xarray.Dataset
        See `pythermo.gas`.
    stationarity : xarray.Dataset or str
        See `pythermo.stationarity`.
    maxwell : xarray.Dataset or str
        See `maxwell`.
    exponents : xarray.Dataset or str
        See `exponents`.
    isentrope : xarray.Dataset or str
        See `isentrope`.
    gibbs : xarray.Dataset or str
        See `gibbs_maps`.
    """

    cells: xr.Dataset
    stationarity: xr.Dataset | str
    maxwell: xr.Dataset | str
    exponents: xr.Dataset | str
    isentrope: xr.Dataset | str
    gibbs: xr.Dataset | str


def analyze_gas(
    sweep: xr.Dataset, last: int | None = None, k: int = FIGURE_K, confidence: float = 0.9
) -> GasAnalysis:
    """Analyze a sweep over learning rates and weight decay, or radii, as a gas.

    Parameters
    ----------
    sweep, last, k, confidence
        As in `pythermo.gas`.

    Returns
    -------
    GasAnalysis

    Raises
    ------
    TypeError, ValueError
        As `pythermo.gas`.

    Notes
    -----
    Source: arXiv 2511.07308.

    Examples
    --------
    >>> found = pt.analyze_gas(pt.load_sweep("out/gas/fixed-elr"))  # doctest: +SKIP
    >>> found.maxwell["slope"], found.maxwell["slope_interval"]  # doctest: +SKIP
    """
    confidence, every = require_open_unit("confidence", confidence), Gas.of(sweep, last, k)
    own = every.where_settled()
    return GasAnalysis(
        cells_of(every, confidence),
        _or_reason(lambda: stationarity(sweep, k, confidence)),
        _or_reason(lambda: maxwell(own, confidence)),
        _or_reason(lambda: exponents(own, confidence)),
        _or_reason(lambda: isentrope(own, confidence)),
        _or_reason(lambda: gibbs_maps(own, confidence=confidence)),
    )


def _or_reason(of: Callable[[], xr.Dataset]) -> xr.Dataset | str:
    try:
        return of()
    except ValueError as error:
        return str(error)


@dataclass(frozen=True)
class Quadratic:
    """The least-squares fit a0 + a1 x + a2 y + a3 x^2 + a4 y^2 + a5 x y over both axes' logarithms.

    Attributes
    ----------
    coefficients : array [6]
        For x and y less their means.
    x, y : array [cells]
        Logarithms of learning rate and of weight decay or radius, of the cells that are known.
    residuals : array [cells]
        What the fit leaves.
    """

    coefficients: Floats
    x: Floats
    y: Floats
    residuals: Floats

    @classmethod
    def of(cls, values: xr.DataArray, state: State) -> "Quadratic":
        """Fit values [lr, axis]; ValueError for fewer than three of either axis."""
        axis = state.gas.axis
        if not axis or min(values.sizes["lr"], values.sizes[axis]) < 3:
            raise ValueError(
                "sweep: must have 3 learning rates and 3 values of weight decay or radius at least"
            )
        known = values.transpose("lr", axis)
        x, y = np.meshgrid(np.log(known["lr"].values), np.log(known[axis].values), indexing="ij")
        there = np.isfinite(known.values)
        if there.sum() < 6:
            raise ValueError(f"sweep: {there.sum()} cells are known, and 6 at least are needed")
        x, y, z = x[there], y[there], known.values[there]
        terms = _terms(x - x.mean(), y - y.mean())
        coefficients = np.linalg.lstsq(terms, z, rcond=None)[0]
        return cls(coefficients, x, y, z - terms @ coefficients)

    def slopes(self, x: Floats | float, y: Floats | float) -> tuple[Floats, Floats]:
        """Return the derivatives by x and by y at points of both."""
        _, a1, a2, a3, a4, a5 = self.coefficients
        u, v = x - self.x.mean(), y - self.y.mean()
        return a1 + 2 * a3 * u + a5 * v, a2 + 2 * a4 * v + a5 * u

    def __call__(self, x: Floats | float, y: Floats | float) -> Floats:
        """Return its value at points."""
        found: Floats = _terms(x - self.x.mean(), y - self.y.mean()) @ self.coefficients
        return found


def _log(values: xr.DataArray) -> xr.DataArray:
    logarithm: Any = np.log(values)
    return xr.DataArray(logarithm)


def _terms(x: Floats | float, y: Floats | float) -> Floats:
    return np.stack(np.broadcast_arrays(1.0, x, y, np.square(x), np.square(y), np.multiply(x, y)), axis=-1)


@dataclass(frozen=True)
class Relation:
    """A Maxwell relation: slopes of S by log lr and log of the other axis, in units of (D - 1)/2."""

    text: str
    by_lr: float
    by_axis: float
    theory: float

    def along(self, by_lr: Floats, by_axis: Floats) -> Floats:
        """Return the slope in its direction, along which theory has one T and one noise."""
        return self.by_lr * by_lr + self.by_axis * by_axis


# (dS/dp)_T = -(dV/dT)_p, and on the sphere (dS/dV)_T = (dp/dT)_V.
RELATIONS = {
    "fixed-elr": Relation("dS/dlog λ", 0.0, 1.0, -1.0),
    "fixed-lr": Relation("dS/dlog η - dS/dlog λ", 1.0, -1.0, 1.0),
    "sphere": Relation("dS/dlog r at a fixed effective learning rate", 2.0, 1.0, 2.0),
}


def maxwell(own: Gas, confidence: float = 0.9) -> xr.Dataset:
    """Test the Maxwell relation of a gas on the quadratic fit of S.

    Returns
    -------
    xarray.Dataset
        In units of (D - 1)/2, each with its ``*_interval``: ``slope``, the mean over the grid of what the
        relation says of S, which is ``theory``; ``slope_at_one``, that at lr = weight decay = 1, far outside
        of it, which is what was published; ``largest_error``, that of the slope on the grid, whose interval
        says how well it is known, not that it is 0; ``fit_residual``, the root mean square of what the fit
        leaves.
    """
    relation, half = RELATIONS[own.protocol.name], (own.dim - 1) / 2.0

    def of(state: State) -> xr.Dataset:
        fit = Quadratic.of(state["entropy"], state)

        def slope(x: Floats | float, y: Floats | float) -> Floats:
            by_lr, by_axis = fit.slopes(x, y)
            return relation.along(by_lr, by_axis) / half

        on_grid = slope(fit.x, fit.y)
        return xr.Dataset(
            {
                "slope": on_grid.mean(),
                "slope_at_one": float(slope(0.0, 0.0)),
                "largest_error": np.abs(on_grid - relation.theory).max(),
                "fit_residual": np.sqrt(np.square(fit.residuals).mean()) / half,
            }
        )

    return own.over_seeds(of, confidence).assign_attrs(relation=relation.text, theory=relation.theory)


def exponents(own: Gas, confidence: float = 0.9) -> xr.Dataset:
    """Return how r, S of the directions, T and the noise depend on both axes: what a relation is made of.

    Any S of the directions passes the relation of a fixed effective learning rate once r falls as the root of
    weight decay; these are told apart here.

    Returns
    -------
    xarray.Dataset
        Mean slopes over the grid, each with its ``*_interval``: ``radius_by_lr``, ``radius_by_axis`` of
        log r; ``sphere_entropy_by_lr``, ``sphere_entropy_by_axis`` in units of (D - 1)/2; of log T and of
        the logarithm of the noise's variance, ``*_collapse``, the slope along what theory says they do not
        depend on: weight decay at a fixed effective learning rate; half of log(lr / weight decay) at a
        fixed one, where they are functions of the product; log r on spheres, at a fixed effective one.
    """
    relation, half = RELATIONS[own.protocol.name], (own.dim - 1) / 2.0

    def of(state: State) -> xr.Dataset:
        found = {}
        for name, values, unit in (
            ("radius", _log(state["mean_r2"]) / 2.0, 1.0),
            ("sphere_entropy", state.sphere_entropy, half),
        ):
            fit = Quadratic.of(values, state)
            by_lr, by_axis = fit.slopes(fit.x, fit.y)
            found[f"{name}_by_lr"], found[f"{name}_by_axis"] = by_lr.mean() / unit, by_axis.mean() / unit
        for name, values in (("temperature", state.temperature), ("noise_variance", state["noise_trace"])):
            fit = Quadratic.of(_log(values), state)
            by_lr, by_axis = fit.slopes(fit.x, fit.y)
            found[f"{name}_collapse"] = relation.along(by_lr, by_axis).mean()
        return xr.Dataset(found)

    return own.over_seeds(of, confidence)


def isentrope(own: Gas, confidence: float = 0.9) -> xr.Dataset:
    """Follow T r^2 = const through the middle of the grid, and S beside it: constant in an ideal gas.

    Values between cells are those of quadratic fits of log T, log r^2 and S over the logarithms of both axes.

    Returns
    -------
    xarray.Dataset [point]
        ``lr`` and the other axis along the path; ``temperature`` there; ``entropy_change`` (nats) from the
        middle of the path, with its ``*_interval``. Empty where the grid holds no such path.

    Raises
    ------
    ValueError
        On spheres, whose radius is given.
    """
    axis = own.axis
    if axis != "weight_decay":
        raise ValueError("sweep: an isentrope is one of learning rate and weight decay in full space")
    path = _path(own.state(own.means.mean("seed", skipna=False)))

    def of(state: State) -> xr.Dataset:
        entropy = Quadratic.of(state["entropy"], state)(path[:, 0], path[:, 1])
        temperature = Quadratic.of(_log(state.temperature), state)(path[:, 0], path[:, 1])
        change = entropy - entropy[len(entropy) // 2] if len(entropy) else entropy
        return xr.Dataset(
            {"entropy_change": ("point", change), "temperature": ("point", np.exp(temperature))}
        )

    places = {"lr": ("point", np.exp(path[:, 0])), axis: ("point", np.exp(path[:, 1]))}
    return own.over_seeds(of, confidence).assign_coords(places)


def longest_side(path: xr.Dataset) -> str:
    """Return which axis changes the most along a path, on a logarithmic scale."""
    spans = {axis: np.ptp(np.log(path[axis].values)) for axis in ("lr", "weight_decay")}
    return max(spans, key=lambda axis: spans[axis])


def _path(state: State) -> Floats:
    """Return points [n, 2] in the grid, of both logarithms, with the T r^2 of its middle."""
    logarithm = Quadratic.of(_log(state.temperature * state["mean_r2"]), state)
    box = np.array([[one.min(), one.max()] for one in (logarithm.x, logarithm.y)])
    middle = logarithm(*box.mean(axis=1))
    steepest = int(np.argmax(np.abs([one.mean() for one in logarithm.slopes(logarithm.x, logarithm.y)])))
    points = []
    first, last = box[1 - steepest].tolist()
    for at in np.linspace(first, last, _ON_PATH).tolist():

        def point(along: float, at: float = at) -> list[float]:
            return [along, at] if steepest == 0 else [at, along]

        def excess(along: float, point: Callable[[float], list[float]] = point) -> float:
            return float(logarithm(*point(along)) - middle)

        low, high = box[steepest]
        if excess(low) * excess(high) <= 0.0:
            points.append(point(brentq(excess, low, high)))
    return np.array(points, dtype=np.float64).reshape(-1, 2)


def gibbs_maps(own: Gas, resamples: int = 200, seed: int = 0, confidence: float = 0.9) -> xr.Dataset:
    """Return the Gibbs energy of all states at the T and p of each cell, and how far its least one is off.

    On spheres, whose volume is given, it is the free energy F at the T of each cell, of the states with its
    radius. That the least is at the cell itself presumes dU = T dS, which holds in a range of learning rates.

    Returns
    -------
    xarray.Dataset
        ``energy`` [lr, axis, lr_of_state, axis_of_state] (loss units) less that of the cell's own state;
        ``off`` [lr, axis], by how many cells the least is off, in steps along either axis, the diagonal one
        too; ``off_interval`` [lr, axis, bound] and ``mean_off`` with ``mean_off_interval``, by the quantiles
        of ``resamples`` draws of seeds.
    """
    axis, means = own.axis, own.means
    if not axis:
        raise ValueError("sweep: must have several values of weight decay or radius")
    energy = _energies(own.state(means.mean("seed", skipna=False)), axis)
    found = xr.Dataset({"energy": energy, "off": _off(energy, axis)})
    if not found["off"].notnull().any():
        raise ValueError("sweep: in no cell the norm has settled, and all is known")
    found["mean_off"] = found["off"].mean(skipna=True)
    found["off_interval"], found["mean_off_interval"] = _intervals_of_off(own, resamples, seed, confidence)
    return found.assign_coords(bound=["low", "high"]).transpose(..., "bound")


def _intervals_of_off(
    own: Gas, resamples: int, seed: int, confidence: float
) -> tuple[xr.DataArray, xr.DataArray]:
    """Return the quantiles, over draws of seeds, of how far each cell's least is off, and of their mean."""
    count = own.means.sizes["seed"]
    if count == 1:
        unknown = xr.DataArray([np.nan, np.nan], dims="bound")
        return unknown + 0.0 * own.means["energy"].isel(seed=0, drop=True), unknown
    chosen = np.random.default_rng(seed).integers(0, count, (resamples, count))
    drawn = own.means.isel(seed=xr.DataArray(chosen, dims=("draw", "seed"))).mean("seed", skipna=False)
    off = _off(_energies(own.state(drawn), own.axis), own.axis)
    tails = [0.5 - confidence / 2, 0.5 + confidence / 2]
    each, mean = (
        one.quantile(tails, "draw", skipna=False).rename(quantile="bound").drop_vars("bound")
        for one in (off, off.mean(("lr", own.axis), skipna=True))
    )
    return each, mean


def _energies(state: State, axis: str) -> xr.DataArray:
    """Return the energies of all states at the conditions of each cell, less that of the cell's own."""
    other = {"lr": "lr_of_state", axis: f"{axis}_of_state"}
    on_sphere = axis == "radius"
    energy, entropy = state["energy"].rename(other), state["entropy"].rename(other)
    found: xr.DataArray = energy - state.temperature * entropy
    own = state.free_energy
    if on_sphere:
        same = xr.DataArray(
            np.where(np.eye(state["energy"].sizes[axis], dtype=bool), 0.0, np.inf),
            dims=(axis, other[axis]),
        )
        found = found + same
    else:
        found, own = found + state.pressure * state.volume.rename(other), own + state.pressure * state.volume
    return (found - own).transpose("lr", axis, ..., other["lr"], other[axis])


def _off(energy: xr.DataArray, axis: str) -> xr.DataArray:
    """Return by how many cells the least energy is off [lr, axis, ...]."""
    states = ["lr_of_state", f"{axis}_of_state"]
    known = energy.notnull().any(states)
    least = energy.fillna(np.inf).argmin(states)
    steps = [
        np.abs(least[state] - xr.DataArray(np.arange(energy.sizes[of]), dims=of))
        for state, of in zip(states, ("lr", axis), strict=True)
    ]
    off: xr.DataArray = xr.where(steps[0] > steps[1], *steps).astype(np.float64).where(known)
    return off
