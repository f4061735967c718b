"""The thermometers of a sweep as a table and in a sentence."""

import numpy as np
import xarray as xr

from pythermo.analysis.thermometers import TEMPERATURES, agreement
from pythermo.reports.sections import Section, Table

# Columns of the table: name in the Dataset, header.
_COLUMNS = {
    "entropy_slope": "dU/dS",
    "noise": "T of the noise",
    "configurational": "T_conf",
    "fluctuation": "T_fluct",
    "equipartition": "T_equi",
    "inverse_temperature_step": "1/T less the next",
    "effective_dimension": "2 dU/dT",
    "quench_dimension": "by the quench",
    "noise_scale": "noise scale",
    "edge_ratio": "edge ratio",
    "batch_edge_ratio": "of minibatches",
}


def thermometers_section(title: str, found: xr.Dataset) -> Section:
    """Return what the thermometers of a sweep show: where they agree and cross, and all they read."""
    columns = {
        name: header for name, header in _COLUMNS.items() if name in found and found[name].notnull().any()
    }
    rows = [
        [f"{float(one['lr']):.4g}", *(_cell(one, name) for name in columns)]
        for one in (found.isel(lr=index) for index in range(found.sizes["lr"]))
    ]
    return Section(f"{title}: thermometers", [agreement_text(found)], Table(["η", *columns.values()], rows))


def agreement_text(found: xr.Dataset) -> str:
    """Return where dU/dS and the noise show one temperature, and where they cross."""
    if found["entropy_slope"].attrs["unknown"]:
        return f"dU/dS is not known: {found['entropy_slope'].attrs['unknown']}."
    if found["noise_interval"].isnull().all():
        return "Of one seed; whether thermometers agree is seen by intervals over several."
    both = found["entropy_slope_interval"].notnull().all("bound").values
    agree = agreement(found)
    rates = ", ".join(f"{lr:.3g}" for lr in found["lr"].values[agree])
    where = f"agree at η = {rates}" if agree.any() else "agree nowhere"
    text = (
        f"Intervals of {found.attrs['confidence']:.0%} over seeds. dU/dS and T of the noise {where}, of "
        f"{int(both.sum())} learning rates at which both are known."
    )
    if np.isfinite(float(found["crossing"])):
        low, high = found["crossing_interval"].values
        text += f" dU/dS rises above it at η = {float(found['crossing']):.3g} [{low:.3g}, {high:.3g}]."
    return text


def _cell(one: xr.Dataset, name: str) -> str:
    value = float(one[name])
    if not np.isfinite(value):
        return ""
    low, high = one[f"{name}_interval"].values
    form = ".2e" if name in TEMPERATURES else ".3g"
    interval = f" [{low:{form}}, {high:{form}}]" if np.isfinite([low, high]).all() else ""
    return f"{value:{form}}{interval}"
