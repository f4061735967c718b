import numpy as np
import pytest
import xarray as xr
from made import late_sweep, made_sweep, setup
from matplotlib.figure import Figure

import pythermo as pt
from pythermo import figures
from pythermo.analysis.gradients import gradient_law
from pythermo.analysis.stationary import stationary_members
from pythermo.analysis.temperatures import analyze
from pythermo.config.preset import FitConfig
from pythermo.reports.thermometers import agreement_text


def drawn_texts(figure: Figure) -> str:
    texts = []
    for axes in figure.axes:
        texts += [axes.get_xlabel(), axes.get_ylabel(), axes.get_title()]
        texts += [text.get_text() for text in axes.texts]
        legend = axes.get_legend()
        texts += [text.get_text() for text in legend.get_texts()] if legend else []
    return "\n".join(texts)


def assert_drawn(axes, x, y):
    """One of the axes' lines goes through these points."""
    drawn = [line.get_xydata().astype(float) for line in axes.get_lines()]
    wanted = np.column_stack([x, y]).astype(float)
    assert any(one.shape == wanted.shape and np.allclose(one, wanted) for one in drawn)


def several_seeds(count=4) -> xr.Dataset:
    random, ones = np.random.default_rng(0), []
    for seed in range(count):
        one = made_sweep()
        one["loss"] = one["loss"] * np.exp(0.1 * random.standard_normal((one.sizes["lr"], 1)))
        one["squared_full_grad_norm"] = one["squared_full_grad_norm"] + 0.2 * random.standard_normal(
            (one.sizes["lr"], 1)
        )
        ones.append(one.assign_coords(seed=seed))
    return xr.concat(ones, dim="seed").transpose("lr", "seed", ...)


def test_several_seeds_are_drawn_as_their_mean_with_its_error(tmp_path):
    sweep = several_seeds()
    analysis = analyze(sweep, 3, FitConfig())
    mean = sweep["loss"].mean("seed")
    runs = figures.values_along_runs({"UP": sweep})
    assert_drawn(runs.axes[0], sweep["iteration"][1:], mean[0, 1:])
    error = sweep["loss"].std("seed", ddof=1)[0, 1:] / 2
    band = runs.axes[0].collections[0].get_paths()[0].vertices[:, 1]
    np.testing.assert_allclose(band.max(), float((mean[0, 1:] + error).max()))
    snr = figures.signal_to_noise({"UP": analysis})
    assert_drawn(snr.axes[0], sweep["lr"], analysis.stationary["snr"])
    assert (analysis.stationary["snr_error"] > 0.0).all()
    gradients = figures.gradients_along_runs({"UP": sweep})
    assert gradients.axes[0].collections, "no band of the norm's error"
    first = figures.stationary_values({"UP": analysis})
    (bars,) = first.axes[0].containers[0][2]
    heights = [segment[1, 1] - segment[0, 1] for segment in bars.get_segments()]
    np.testing.assert_allclose(heights, 2 * analysis.stationary["energy_error"])
    for name, figure in (("runs", runs), ("snr", snr), ("gradients", gradients), ("first", first)):
        figures.save(figure, tmp_path / name)


def test_figures(tmp_path):
    sweep = made_sweep()
    raised = sweep.copy(deep=True)
    raised["loss"][4] += 0.5
    titled = {"UP": analyze(sweep, 3, FitConfig(first=0)), "OP": analyze(raised, 3, FitConfig(first=0))}
    baseline = xr.Dataset({"uniform_loss": 1.0, "uniform_entropy": ("k", [0.0, 1.0])}, coords={"k": [10, 50]})
    first = figures.stationary_values(titled)
    for row, analysis in zip((first.axes[:2], first.axes[2:]), titled.values(), strict=True):
        for axes, name in zip(row, ("energy", "entropy"), strict=True):
            assert_drawn(axes, analysis.stationary["lr"], analysis.stationary[name])
    second = figures.thermodynamics(titled, {"UP": baseline})
    texts = drawn_texts(second)
    assert texts.count("uniform on the sphere") == 2
    assert "off the hull" in texts
    assert "η^0.85" in texts
    falling = sweep.copy(deep=True)
    t = falling["iteration"].values
    falling["loss"][:], falling["entropy"][:] = 1.0 / t, -100.0 * np.log(t)[:, None]
    third = figures.temperature_decay(falling, "UP", runs=2)
    assert drawn_texts(third).count("T ∝ t^-1.0") == 2
    noisy = falling.copy(deep=True)
    noisy["loss"] = noisy["loss"] + np.random.default_rng(0).normal(size=noisy["loss"].shape)
    assert "T ∝" not in drawn_texts(figures.temperature_decay(noisy, "UP", runs=2))
    two_points = figures.temperature_decay(falling.isel(iteration=slice(0, 6)), "UP", runs=2)
    assert len(two_points.axes[0].get_lines()) == 2
    assert "T ∝" not in drawn_texts(two_points)
    for number, figure in enumerate((first, second, third)):
        figures.save(figure, tmp_path / f"figure{number}")
    assert {path.suffix for path in tmp_path.iterdir()} == {".png", ".pdf"}
    assert min(path.stat().st_size for path in tmp_path.iterdir()) > 5000


def test_figures_along_runs():
    sweep = made_sweep()
    runs = figures.values_along_runs({"UP": sweep, "OP": sweep}, runs=5)
    for axes in runs.axes[::2]:
        assert_drawn(axes, sweep["iteration"][1:], sweep["loss"][0, 1:])
        assert_drawn(axes, sweep["iteration"][1:], sweep["loss"][-1, 1:])
    for axes in runs.axes[1::2]:
        assert_drawn(axes, sweep["iteration"][1:], sweep["entropy"].sel(k=50)[-1, 1:])
    gradients = figures.gradients_along_runs({"OP": sweep}, runs=2)
    known = sweep["squared_full_grad_norm"][1] > 0
    assert_drawn(
        gradients.axes[0], sweep["iteration"][known][1:], np.full(int(known.sum()) - 1, np.sqrt(5.0))
    )
    assert_drawn(gradients.axes[1], sweep["iteration"][1:], sweep["mean_grad_norm"][1, 1:])
    law = gradient_law(sweep)
    phase = figures.stochastic_against_full_gradient({"5k": law, "10k": law})
    assert drawn_texts(phase).count("12 · |G|^0.87") == 2  # the law that was planted
    snr = figures.signal_to_noise({"UP": analyze(sweep, 4, FitConfig())})
    assert_drawn(snr.axes[0], sweep["lr"], np.full(sweep.sizes["lr"], np.sqrt(2.0 / 4.0)))


def test_regimes_are_shaded_and_named():
    sweep = made_sweep()
    sweep.attrs["constant_loss"] = float(sweep["loss"][-2, -1])  # the last one is above
    figure = figures.thermodynamics({"UP": analyze(sweep, 3, FitConfig())})
    named = [text.get_text() for text in figure.axes[0].texts]
    assert named == ["equilibrium", "chaos"]
    assert all(len(axes.patches) == 1 for axes in figure.axes)


def test_the_figure_of_neighbors_compares_temperatures_by_k(tmp_path):
    sweep = made_sweep()
    sweep["entropy"][:, :, 0] *= 0.5  # at k = 10 S rises half as much: T is twice as large
    by_k = {k: analyze(sweep, 3, FitConfig(), k) for k in (10, 50)}
    figure = figures.entropy_by_neighbors("made", by_k)
    right = figure.axes[2]
    ten, fifty = (line.get_ydata() for line in right.get_lines())
    np.testing.assert_allclose(ten, 2 * fifty, rtol=1e-9)
    assert drawn_texts(figure).count("k = 10") == drawn_texts(figure).count("k = 50") == 2
    figures.save(figure, tmp_path / "neighbors")


def test_figures_of_sweeps_without_any_temperature(tmp_path):
    sweep = made_sweep()
    sweep["loss"][:] = sweep["loss"][::-1].values  # U falls where S rises
    titled = {"falling": analyze(sweep, 3, FitConfig())}
    sweep["entropy"][:] = np.nan  # no window was ever full
    figures.save(figures.stationary_values(titled), tmp_path / "figure1")
    figures.save(figures.thermodynamics(titled), tmp_path / "figure2")
    third = figures.temperature_decay(sweep, "no entropy")
    figures.save(third, tmp_path / "figure3")
    neighbors = figures.entropy_by_neighbors("falling", {50: titled["falling"]})
    assert [text.get_text() for text in neighbors.axes[2].get_legend().get_texts()] == ["k = 50"]
    figures.save(neighbors, tmp_path / "neighbors")
    assert "no positive temperature" in third.axes[0].texts[0].get_text()


def test_the_surface_shows_members_curve_and_intervals(tmp_path):
    made = setup(several_seeds(), fit={"first": 0})
    figure = figures.thermodynamic_surface({"UP": made})
    left, right = figure.axes
    members = stationary_members(made.dataset, 3)
    assert_drawn(left, members["entropy"].values.ravel(), members["energy"].values.ravel())
    estimate = made.estimate
    order = np.argsort(estimate.entropy)
    assert_drawn(left, estimate.entropy[order], estimate.energy[order])
    assert_drawn(right, estimate.lr, estimate.temperature)
    segments = right.collections[0].get_segments()
    assert len(segments) == len(estimate.lr) - 2
    np.testing.assert_allclose(segments[0][:, 1], estimate.interval[1])
    texts = drawn_texts(figure)
    assert "90% over 4 seeds" in texts
    assert "[{:.2f}, {:.2f}]".format(*estimate.exponent_interval) in texts
    figures.save(figure, tmp_path / "surface")


def test_the_surface_of_one_seed_has_no_intervals_and_one_without_a_temperature_says_so():
    assert "seeds" not in drawn_texts(figures.thermodynamic_surface({"UP": setup(made_sweep(), fit={})}))
    flat = made_sweep()
    flat["entropy"][:] = 1.0
    assert "none: entropy: all means are equal" in drawn_texts(
        figures.thermodynamic_surface({"UP": setup(flat, fit={})})
    )


def test_thermometers_are_drawn_with_their_intervals_and_shaded_where_they_agree(tmp_path):
    sweep = late_sweep()
    found = pt.thermometers(sweep, 5)
    # The planted T is dU/dS; noise of that temperature at the learning rates 2 to 4, of twice it elsewhere.
    slope = found["entropy_slope"].values
    wanted = np.where(np.isin(np.arange(8), [2, 3, 4]), slope, 2 * slope)
    seeds = xr.DataArray(np.linspace(0.999, 1.001, 6), dims="seed")
    sweep["rms_noise_norm"] = (
        200 * xr.DataArray(wanted / sweep["lr"].values, dims="lr") * seeds
    ) ** 0.5 + 0 * sweep["loss"]
    sweep["largest_curvature"] = 10 + 0 * sweep["loss"]
    found = pt.thermometers(sweep, 5)
    figure = figures.thermometers({"UP": found, "OP": found.drop_vars(["edge_ratio", "edge_ratio_interval"])})
    left, entropies, dimensions, edge = figure.axes[:4]
    assert_drawn(entropies, found["lr"], found["entropy_change"])
    assert_drawn(dimensions, found["lr"], found["effective_dimension"])
    assert_drawn(edge, found["lr"], 5 * found["lr"])
    (shaded,) = left.patches
    low, high = (shaded.get_x(), shaded.get_x() + shaded.get_width())
    lr = found["lr"].values
    np.testing.assert_allclose([low, high], np.sqrt([lr[1] * lr[2], lr[4] * lr[5]]))
    assert "not measured" in drawn_texts(figure)
    text = agreement_text(found)
    assert f"agree at η = {lr[2]:.3g}, {lr[3]:.3g}, {lr[4]:.3g}, of 6" in text
    figures.save(figure, tmp_path / "thermometers")


def test_drifts_are_drawn_in_units_of_what_does_not_matter(tmp_path):
    found = pt.stationarity(late_sweep([2]))
    figure = figures.drifts({"UP": found, "OP": "sweep: has 3 measurements"})
    axes = figure.axes[0]
    assert_drawn(axes, 0.97 * found["lr"], found["energy_drift"] / found["energy_tolerance"])
    assert float(found["energy_drift"][2] / found["energy_tolerance"][2]) == pytest.approx(5.0, rel=0.05)
    low, high = axes.collections[0].get_segments()[2][:, 1]
    assert 4.8 < low < float(found["energy_drift"][2] / found["energy_tolerance"][2]) < high < 5.2
    assert "not known: sweep: has 3 measurements" in drawn_texts(figure)
    figures.save(figure, tmp_path / "drifts")
