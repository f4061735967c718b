"""Single panels on the user's axes."""

import matplotlib as mpl
import numpy as np
import pytest
from made import late_sweep, made_sweep
from matplotlib import pyplot
from matplotlib.figure import Figure

import pythermo as pt

PANELS = [
    pt.plot_energy, pt.plot_entropy, pt.plot_snr, pt.plot_temperature, pt.plot_surface, pt.plot_free_energy,
    pt.plot_thermometers,
]  # fmt: skip


@pytest.mark.parametrize("plot", PANELS, ids=lambda one: one.__name__)
@pytest.mark.parametrize("sweep", [late_sweep(scatter=0.03), made_sweep()], ids=["seeds", "one seed"])
def test_a_panel_is_drawn_on_the_axes_given_and_nowhere_else(plot, sweep):
    figure = Figure()
    given, other = figure.subplots(1, 2)
    before = dict(mpl.rcParams)
    assert plot(sweep, ax=given, last=3) is given
    assert dict(mpl.rcParams) == before
    assert given.has_data()
    assert not other.has_data()
    assert pyplot.get_fignums() == []
    assert given.get_xlabel()
    assert given.get_ylabel()
    figure.canvas.draw()


def test_new_axes_are_those_of_pyplot():
    with mpl.rc_context({"backend": "agg"}):
        axes = pt.plot_energy(made_sweep(), last=3)
        assert axes is pyplot.gca()
        pyplot.close("all")


def test_what_is_drawn_is_what_was_measured():
    sweep, axes = made_sweep(), Figure().subplots()
    pt.plot_energy(sweep, axes, last=3)
    x, y = axes.containers[0].lines[0].get_xydata().T.astype(float)
    np.testing.assert_allclose(y, sweep["loss"].isel(iteration=slice(-3, None)).mean("iteration"))
    np.testing.assert_allclose(x, sweep["lr"])
    axes = Figure().subplots()
    pt.plot_along_runs(sweep, "snr", axes, runs=2)
    first, last = axes.get_lines()
    np.testing.assert_allclose(first.get_ydata(), sweep["snr"][0, 1:])
    np.testing.assert_allclose(last.get_ydata(), sweep["snr"][-1, 1:])
    axes = Figure().subplots()
    pt.plot_temperature(sweep, axes, last=3)
    estimate = pt.estimate_temperature(
        sweep["lr"].values, sweep["loss"][:, -3:].mean("iteration").values[:, None],
        sweep["entropy"].sel(k=50)[:, -3:].mean("iteration").values[:, None],
    )  # fmt: skip
    np.testing.assert_allclose(axes.get_lines()[0].get_ydata(), estimate.temperature)


def test_drifts_and_members_that_are_not_known():
    sweep, axes = late_sweep([0], scatter=0.03), Figure().subplots()
    assert pt.plot_drifts(sweep, axes) is axes
    sweep["loss"][{"lr": 3, "seed": 1}] = np.nan
    for plot in PANELS:
        assert plot(sweep, Figure().subplots(), last=3).has_data()


def test_mistakes_are_named():
    with pytest.raises(TypeError, match="ax: must be matplotlib Axes, not Figure"):
        pt.plot_energy(made_sweep(), Figure(), last=3)
    with pytest.raises(TypeError, match=r"sweep: must be an xarray\.Dataset"):
        pt.plot_drifts([1.0])
    with pytest.raises(ValueError, match="name: must be one of loss, entropy"):
        pt.plot_along_runs(made_sweep(), "temperature")
