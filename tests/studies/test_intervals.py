import numpy as np
import pytest

from pythermo.studies import intervals
from pythermo.studies.intervals import (
    ClosedForm,
    chain_checks,
    chain_trials,
    closed_form_checks,
    closed_form_trials,
)


def test_the_closed_form_is_one():
    law = ClosedForm(np.geomspace(1e-3, 1e-1, 2001), exponent=0.7, reference=2e-3)
    slope = np.gradient(law.energy) / np.gradient(law.entropy)
    np.testing.assert_allclose(slope[1:-1], law.temperature[1:-1], rtol=1e-4)
    assert law.temperature[1000] == pytest.approx(2e-3)


def test_a_jump_lies_above_the_chord():
    law = ClosedForm(np.geomspace(1e-3, 1e-1, 12))
    energy = law.energy.copy()
    energy[6] += law.height_of_jump(6)
    chord = np.interp(law.entropy[6], law.entropy[[5, 7]], law.energy[[5, 7]])
    of_energy, of_entropy = law.deviations
    slope = (law.energy[7] - law.energy[5]) / (law.entropy[7] - law.entropy[5])
    assert energy[6] - chord == pytest.approx(4 * np.hypot(of_energy[6], slope * of_entropy) / 8**0.5)


def test_checks_pass_and_fail_as_trials_do():
    """With 12 repetitions a share is known to 9 %; that wrong trials fail is what is checked."""
    trials = closed_form_trials(12, progress=False)
    assert trials["point"].shape == (12, 10)
    assert float(trials["point"].mean()) > 0.8
    nothing = trials.copy(deep=True)
    for name in ("point", "exponent", "reference"):
        nothing[name][:] = 0
    nothing["p_value"][:], nothing["jump_p_value"][:] = 0.0, 1.0
    assert not any(check.passed for check in closed_form_checks(nothing))
    everything = trials.copy(deep=True)
    everything["point"][:] = 1
    assert not closed_form_checks(everything)[0].passed  # intervals that are too wide fail too


def test_chains_by_entropy_to_temperature(monkeypatch):
    monkeypatch.setitem(intervals.CHAIN_LRS, 3, np.array([0.01, 0.0147, 0.0215, 0.0316]))
    trials = chain_trials(3, chains=16, repetitions=10, progress=False)
    assert trials["covered"].shape == (10, 2)
    # A quarter of the chains of the study: intervals twice as wide.
    assert 0.1 < float(trials["width"].median()) < 0.5
    assert float(trials["covered"].mean()) > 0.6  # 20 of 90 %: their mean deviates by 7 %
    narrow = trials.assign(covered=trials["covered"] & False)
    assert [check.passed for check in chain_checks(narrow)][:2] == [False, False]
