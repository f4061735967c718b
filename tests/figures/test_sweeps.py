import numpy as np
import xarray as xr
from made import made_sweep
from matplotlib.figure import Figure

from pythermo import figures
from pythermo.analysis.gradients import gradient_law
from pythermo.analysis.temperatures import analyze
from pythermo.config.preset import FitConfig


def drawn_texts(figure: Figure) -> str:
    texts = []
    for axes in figure.axes:
        texts += [axes.get_xlabel(), axes.get_ylabel(), axes.get_title()]
        texts += [text.get_text() for text in axes.texts]
        legend = axes.get_legend()
        texts += [text.get_text() for text in legend.get_texts()] if legend else []
    return "\n".join(texts)


def test_figures(tmp_path):
    sweep = made_sweep()
    raised = sweep.copy(deep=True)
    raised["loss"][4] += 0.5
    titled = {"UP": analyze(sweep, 3, FitConfig()), "OP": analyze(raised, 3, FitConfig())}
    baseline = xr.Dataset({"uniform_loss": 1.0, "uniform_entropy": ("k", [0.0, 1.0])}, coords={"k": [10, 50]})
    first = figures.stationary_values(titled)
    assert len(first.axes) == 4
    second = figures.thermodynamics(titled, {"UP": baseline})
    assert len(second.axes) == 8
    texts = drawn_texts(second)
    assert texts.count("uniform on the sphere") == 2
    assert "off the hull" in texts
    assert "η^0.85" in texts
    third = figures.temperature_decay(sweep, "UP", runs=2)
    # U is a constant plus t^-2 and S is log of that: T falls.
    assert drawn_texts(third).count("T ∝ t^") == 2
    two_points = figures.temperature_decay(sweep.isel(iteration=slice(0, 6)), "UP", runs=2)
    assert len(two_points.axes[0].get_lines()) == 2
    assert "T ∝" not in drawn_texts(two_points)
    for number, figure in enumerate((first, second, third)):
        figures.save(figure, tmp_path / f"figure{number}")
    assert {path.suffix for path in tmp_path.iterdir()} == {".png", ".pdf"}
    assert min(path.stat().st_size for path in tmp_path.iterdir()) > 5000


def test_figures_along_runs():
    sweep = made_sweep()
    runs = figures.values_along_runs({"UP": sweep, "OP": sweep}, runs=5)
    assert [len(axes.get_lines()) for axes in runs.axes] == [5, 5, 5, 5]
    gradients = figures.gradients_along_runs({"OP": sweep}, runs=2)
    assert [len(axes.get_lines()) for axes in gradients.axes] == [2, 2, 2]
    law = gradient_law(sweep)
    phase = figures.stochastic_against_full_gradient({"5k": law, "10k": law})
    assert drawn_texts(phase).count("12 · |G|^0.87") == 2  # the law that was planted
    snr = figures.signal_to_noise({"UP": analyze(sweep, 4, FitConfig())})
    np.testing.assert_allclose(snr.axes[0].get_lines()[0].get_ydata(), np.sqrt(2.0 / 4.0))


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
    assert len(figure.axes[0].get_lines()) == sweep.sizes["lr"]
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
