import shutil

import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure
from typer.testing import CliRunner

import pythermo as pt
from pythermo import figures
from pythermo.cli import app
from pythermo.experiment.analysis import analyse, stationary, summary
from pythermo.experiment.baseline import uniform_baseline
from pythermo.experiment.config import FitConfig, Preset


def made_sweep(n: int = 8, last: int = 30) -> xr.Dataset:
    """Return a sweep whose stationary points have dU/dS = 0.03 * lr ** 0.85, U falling towards them."""
    lr, k = np.logspace(-3, -1, n), [10, 50]
    iteration = np.unique(np.geomspace(1, 8000, last).round().astype(int))
    energy = 100 * 0.03 / 0.85 * lr**0.85
    start = 1.0 / iteration[None, :] ** 2
    loss = energy[:, None] * (1.0 + start)
    entropy = 100 * np.log(lr)[:, None] + 5 * np.log(1 + start)
    full = 1.0 / iteration[None, :] * np.ones_like(loss)
    return xr.Dataset(
        {
            "loss": (("lr", "iteration"), loss),
            "entropy": (("lr", "iteration", "k"), np.stack([entropy - 1, entropy], axis=-1)),
            "squared_full_grad_norm": (("lr", "iteration"), np.resize([5.0, -1.0], loss.shape)),
            "rms_noise_norm": (("lr", "iteration"), np.full_like(loss, 2.0)),
            "full_grad_norm": (("lr", "iteration"), full),
            "mean_grad_norm": (("lr", "iteration"), 12.0 * full**0.87),
            "snr": (("lr", "iteration"), full),
        },
        coords={"lr": lr, "iteration": iteration, "k": k},
        attrs={"weights": 101, "full_gradient": "mean", "constant_loss": np.inf},
    )


def test_stationary_values_are_those_of_the_last_measurements():
    sweep = made_sweep()
    values = stationary(sweep, last=5)
    np.testing.assert_allclose(values["energy"], sweep["loss"][:, -5:].mean("iteration"))
    np.testing.assert_allclose(values["entropy_std"], sweep["entropy"].sel(k=50)[:, -5:].std("iteration"))
    # Half of the estimates of |G|^2 are 5, half are -1, and the noise is 4: none may be left out.
    np.testing.assert_allclose(stationary(sweep, last=6)["snr"], np.sqrt(2.0 / 4.0))
    with pytest.raises(ValueError, match="k: the sweep has no entropies for 7 neighbours"):
        stationary(sweep, last=5, k=7)
    with pytest.raises(ValueError, match="last: must lie between 1 and"):
        stationary(sweep, last=500)


def test_an_unknown_entropy_is_not_averaged_away():
    sweep = made_sweep()
    sweep["entropy"][2, -1] = np.nan
    analysis = analyse(sweep, 5, FitConfig())
    assert analysis.fit.excluded.tolist() == [float(sweep["lr"][2])]
    assert "left out: U or S is not known" in summary({"made": analysis})


def test_the_fit_range():
    sweep = made_sweep()
    whole = analyse(sweep, 3, FitConfig())
    np.testing.assert_array_equal(whole.fit.lr, sweep["lr"])
    part = analyse(sweep, 3, FitConfig(first=2, last=5))
    np.testing.assert_array_equal(part.fit.lr, sweep["lr"][2:6])
    np.testing.assert_array_equal(analyse(sweep, 3, FitConfig(last=-3)).fit.lr, sweep["lr"][:-2])
    assert part.fit.exponent == pytest.approx(0.85, abs=0.05)
    with pytest.raises(ValueError, match="holds 1 of the sweep's 8 learning rates"):
        analyse(sweep, 3, FitConfig(first=7))


def test_the_summary_has_the_power_law_and_a_row_per_learning_rate():
    analysis = analyse(made_sweep(), 3, FitConfig(last=6))
    text = summary({"UP": analysis, "OP": analysis})
    assert text.count("Power law: T = (") == 2
    assert text.count("| 0.001 |") == 2
    assert text.count("outside the fit") == 2
    assert text.count("Full gradient of the SNR: mean") == 2
    assert f"η^({analysis.fit.exponent:.2f}" in text


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
    titled = {"UP": analyse(sweep, 3, FitConfig()), "OP": analyse(raised, 3, FitConfig())}
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
    phase = figures.stochastic_against_full_gradient({"5k": sweep, "10k": sweep})
    assert drawn_texts(phase).count("12 · |G|^0.87") == 2  # the law that was planted
    snr = figures.signal_to_noise({"UP": analyse(sweep, 4, FitConfig())})
    np.testing.assert_allclose(snr.axes[0].get_lines()[0].get_ydata(), np.sqrt(2.0 / 4.0))


def test_regimes_are_shaded_and_named():
    sweep = made_sweep()
    sweep.attrs["constant_loss"] = float(sweep["loss"][-2, -1])  # the last one is above
    figure = figures.thermodynamics({"UP": analyse(sweep, 3, FitConfig())})
    named = [text.get_text() for text in figure.axes[0].texts]
    assert named == ["equilibrium", "chaos"]
    assert all(len(axes.patches) == 1 for axes in figure.axes)


def test_the_figure_of_neighbours_compares_temperatures_by_k(tmp_path):
    sweep = made_sweep()
    sweep["entropy"][:, :, 0] *= 0.5  # at k = 10 S rises half as much: T is twice as large
    by_k = {k: analyse(sweep, 3, FitConfig(), k) for k in (10, 50)}
    figure = figures.entropy_by_neighbours("made", by_k)
    right = figure.axes[2]
    ten, fifty = (line.get_ydata() for line in right.get_lines())
    np.testing.assert_allclose(ten, 2 * fifty, rtol=1e-9)
    assert len(figure.axes[0].get_lines()) == sweep.sizes["lr"]
    assert drawn_texts(figure).count("k = 10") == drawn_texts(figure).count("k = 50") == 2
    figures.save(figure, tmp_path / "neighbours")


def test_figures_of_sweeps_without_any_temperature(tmp_path):
    sweep = made_sweep()
    sweep["loss"][:] = sweep["loss"][::-1].values  # U falls where S rises
    titled = {"falling": analyse(sweep, 3, FitConfig())}
    sweep["entropy"][:] = np.nan  # no window was ever full
    figures.save(figures.stationary_values(titled), tmp_path / "figure1")
    figures.save(figures.thermodynamics(titled), tmp_path / "figure2")
    third = figures.temperature_decay(sweep, "no entropy")
    figures.save(third, tmp_path / "figure3")
    neighbours = figures.entropy_by_neighbours("falling", {50: titled["falling"]})
    assert [text.get_text() for text in neighbours.axes[2].get_legend().get_texts()] == ["k = 50"]
    figures.save(neighbours, tmp_path / "neighbours")
    assert "no positive temperature" in third.axes[0].texts[0].get_text()


def test_uniform_baseline():
    run = Preset.load("digits-quick", ["run.measurement.window=60", "run.data.samples_per_class=10"]).run
    baseline = uniform_baseline(run)
    # log C = ln 10 is what a head without an opinion has; a random one is worse.
    assert 2.3 < float(baseline["uniform_loss"]) < 10.0
    twice = uniform_baseline(
        run.model_copy(update={"training": run.training.model_copy(update={"radius": 2.0})})
    )
    np.testing.assert_allclose(
        twice["uniform_entropy"] - baseline["uniform_entropy"], 1529 * np.log(2.0), rtol=1e-12
    )


TINY = [
    argument
    for setting in (
        "run.training.iterations=90",
        "run.measurement={count=40, window=52, gradients=2, stationary=3}",
        "run.data.samples_per_class=15",
        "fit={first=0, last=-1}",
        "grid=[{start=-2.0, stop=-1.0, count=3}]",
    )
    for argument in ("--set", setting)
]


def test_a_sweep_from_the_command_line(tmp_path):
    out = tmp_path / "sweep"
    result = CliRunner().invoke(app, ["sweep", "digits-up", *TINY, "--out", str(out), "--jobs", "1"])
    assert result.exit_code == 0, result.output
    for name in ("sweep.nc", "figure1.png", "figure2.pdf", "figure3.png", "neighbours.png", "summary.md"):
        assert f"wrote {out / name}" in result.output
        assert (out / name).stat().st_size > 0
    (out / "summary.md").unlink()
    # A learning rate that is there from another grid does not shift the range of the fit.
    preset = Preset.load(out / "preset.toml")
    assert pt.sweep(preset.run, [0.02], out, jobs=1)["lr"].values.tolist() == [0.02]
    again = CliRunner().invoke(app, ["analyze", str(out)])
    assert again.exit_code == 0, again.output
    assert "| 0.02 |" not in (out / "summary.md").read_text()
    assert (out / "summary.md").exists()
    assert pt.load_sweep(out).sizes["lr"] == 4
    shutil.rmtree(next(out.glob("lr_0.1*")))
    lacking = CliRunner().invoke(app, ["analyze", str(out)])
    assert lacking.exit_code == 1
    assert "lacks the runs at the learning rates [0.1]" in lacking.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["sweep", "digits-up", "--set", "run.training.iterration=3"],
            "run.training.iterration: unknown key",
        ),
        (
            ["sweep", "digits-up", "--set", "run.measurement.window=3000"],
            "window of 3000 iterates is not full",
        ),
        (["sweep", "digits-up", "--set", "run.measurement.window=50"], "must be more than the 50 neighbours"),
        (["sweep", "digits-up", "--set", "run.lr=5.0"], "run.lr: has no effect in a preset"),
        (["sweep", "digits-up", "--set", "fit.tolerance=inf"], "fit.tolerance: "),
        (["sweep", "mnist"], "preset: 'mnist' is unknown"),
        (["analyze", "nowhere"], "nowhere holds no finished sweep"),
    ],
)
def test_mistakes_are_one_message(arguments, message):
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 1
    assert message in result.output
    assert "Traceback" not in result.output


def test_info():
    result = CliRunner().invoke(app, ["info"])
    assert result.exit_code == 0
    for word in ("pythermo:", "compiler:", "chosen", "threads:", "CUDA:", "torch:"):
        assert word in result.output
