"""Figures of sweeps over two axes, on gases that are planted."""

import io

import numpy as np
import pytest
from made import planted_gas

import pythermo as pt
from pythermo import figures
from pythermo.figures.gas import collapsed

DRAWN = (
    figures.gas_states,
    figures.gas_collapse,
    figures.gas_isotherms,
    figures.gas_compressibility,
    figures.gas_gibbs,
    figures.gas_gibbs_maps,
    figures.gas_isentropes,
)


@pytest.fixture(scope="module")
def titled():
    return {name: pt.analyze_gas(planted_gas(name)) for name in ("fixed-elr", "fixed-lr", "sphere")}


@pytest.mark.parametrize("draw", DRAWN, ids=lambda draw: draw.__name__)
def test_figures_of_one_seed_and_of_sweeps_that_are_too_small(draw, titled):
    one = pt.analyze_gas(planted_gas("fixed-lr", seeds=1))
    small = pt.analyze_gas(planted_gas("fixed-elr").isel(lr=slice(0, 2)))
    drawn, file = draw({**titled, "one seed": one, "too small": small}), io.BytesIO()
    drawn.savefig(file, dpi=30)
    assert file.tell() > 2000
    assert all(axes.get_xlabel() or axes.texts for axes in drawn.axes)


@pytest.mark.parametrize("draw", DRAWN, ids=lambda draw: draw.__name__)
def test_nothing_is_refused_by_name(draw):
    with pytest.raises(ValueError, match="titled: at least one"):
        draw({})
    with pytest.raises(TypeError, match="titled: must be a mapping"):
        draw([])


def test_runs_are_drawn_at_the_middle_of_the_other_axis(tmp_path):
    sweep = planted_gas("fixed-lr")
    drawn = figures.gas_runs({"a gas": sweep, "spheres": planted_gas("sphere", seeds=1)})
    line = drawn.axes[0].lines[0]
    middle = sweep["mean_r2"].isel(weight_decay=1, lr=0).mean("seed") ** 0.5
    np.testing.assert_allclose(line.get_ydata(), middle)
    assert "λ = 0.0316" in drawn.axes[0].get_title()
    assert all(path.stat().st_size > 5000 for path in figures.save(drawn, tmp_path / "runs"))
    with pytest.raises(ValueError, match="titled: at least one"):
        figures.gas_runs({})


def test_what_is_drawn_is_what_was_found(titled):
    found = titled["fixed-lr"].cells
    norms, temperatures, _, _ = figures.gas_states({"one": titled["fixed-lr"]}).axes
    first = norms.containers[0].lines[0]
    np.testing.assert_array_equal(first.get_xdata(), found["lr"])
    np.testing.assert_array_equal(first.get_ydata(), found["norm"].isel(weight_decay=0))
    assert "T of the noise (loss units per nat)" in temperatures.get_ylabel()
    np.testing.assert_allclose(
        collapsed(found).values, found["lr"].values[:, None] * found["weight_decay"].values
    )
    sphere = titled["sphere"].cells
    assert float(collapsed(sphere).sel(lr=0.01, radius=0.1)) == pytest.approx(1.0)
    on_panels = figures.gas_gibbs({"one": titled["fixed-lr"]}).axes[0].texts
    assert [text.get_text() for text in on_panels] == [
        f"{value:.0f}"
        for value in titled["fixed-lr"].gibbs["off"].transpose("weight_decay", "lr").values.ravel()
    ]
    assert len(figures.gas_isentropes(titled).axes) == 2  # spheres have none
    with pytest.raises(ValueError, match="titled: at least one"):
        figures.gas_isentropes({"sphere": titled["sphere"]})
