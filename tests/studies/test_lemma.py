"""Lemma 1 of arXiv 2505.23489 in a network."""

import numpy as np
import pytest

from pythermo import figures
from pythermo.studies.lemma import LINEAR, LemmaSettings, slope, snr_by_distance

# The exponents miss 1 and 0 by higher orders in the distance, and by what is left of the full gradient.
WITHIN = 0.12


@pytest.mark.slow
def test_the_snr_falls_with_the_distance_where_the_data_cannot_be_fitted():
    found = snr_by_distance(LemmaSettings(1, 10, 0.2, batch_size=20, pooling="mean", epochs=100, rounds=8))
    assert float(found["loss"]) > 0.1
    assert float(found["full_grad_norm"]) < 0.05 * float(found["rms_grad_norm"])
    assert slope(found).exponent == pytest.approx(1.0, abs=WITHIN)
    laws = {"up": slope(found), "op": slope(found)}
    figure = figures.snr_near_an_optimum({"up": found, "op": found}, laws, LINEAR)
    texts = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert [f"distance^{laws['up'].exponent:.2f}" in text for text in texts] == [True, True]


@pytest.mark.slow
def test_the_snr_stays_where_the_data_are_fitted():
    found = snr_by_distance(LemmaSettings(8, 10, 0.0, batch_size=25, pooling="max", epochs=200, rounds=2))
    assert float(found["loss"]) < 1e-6
    assert slope(found).exponent == pytest.approx(0.0, abs=WITHIN)
    assert np.all(found["snr"].sel(distance=slice(1e-4, 1e-1)) > 0.1)
