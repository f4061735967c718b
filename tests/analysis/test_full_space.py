"""Sweeps over learning rates in full space: what is stationary there, and T of the noise."""

import numpy as np
import pytest
import xarray as xr
from made import planted_gas
from quick import QUICK

import pythermo as pt
from pythermo.analysis.members import Members
from pythermo.sphere.protocols import PROTOCOLS
from pythermo.sweeps.members import combined
from pythermo.training.lane_trainer import LaneTrainer

SETTINGS = {
    "training.protocol": "fixed-lr",
    "measurement.count": 1,
    "measurement.late": 24,
    "measurement.stationary": 12,
    "measurement.window": 52,
    "measurement.gradients": 4,
}


def sweep(lr, decay, iterations, seeds=4, **changes) -> xr.Dataset:
    config = QUICK.changed(
        **(SETTINGS | {"training.weight_decay": decay, "training.iterations": iterations} | changes)
    )
    members = [pt.Member(rate, seed) for rate in lr for seed in range(seeds)]
    trainer = LaneTrainer([config.at(member) for member in members])
    while any(not run.finished for run in trainer.runs):
        trainer.advance()
        for run in trainer.runs:
            if run.failure is not None:
                raise run.failure
    return combined({member: run.to_dataset() for member, run in zip(members, trainer.runs, strict=True)})


@pytest.mark.parametrize("protocol", ["fixed-lr", "fixed-elr"])
def test_the_temperature_of_the_noise_is_that_of_the_protocol(protocol):
    found = sweep(
        [0.01, 0.02], 0.02, 150, 2, **{"training.protocol": protocol, "training.start": "predicted"}
    )
    shown = pt.thermometers(found, last=12)
    last = found.isel(iteration=slice(-12, None))
    trace = (last["radius"] ** 2 * last["rms_noise_norm"] ** 2).mean(("iteration", "seed"))
    dim = found.attrs["weights"]
    expected = PROTOCOLS[protocol].temperature(found["lr"], trace / (dim - 1), dim, 0.02)
    np.testing.assert_allclose(shown["noise"], expected, rtol=1e-9)


def test_what_takes_one_axis_says_so_of_two():
    two = planted_gas("fixed-lr")
    for take in (pt.analyze, pt.thermometers, pt.plot_energy, pt.plot_along_runs):
        with pytest.raises(
            ValueError, match=r"sweep: goes over weight_decay beside .* sweep.isel\(weight_decay=0\)"
        ):
            take(two)
    for place in (0, 2):  # the configuration's own weight decay is another
        one = pt.gas(two.isel(weight_decay=place))
        xr.testing.assert_allclose(one["temperature"], pt.gas(two)["temperature"].isel(weight_decay=place))
        noise = Members.of(two.isel(weight_decay=place), 2, 50).noise_temperature
        np.testing.assert_allclose(noise, one["temperature"])
