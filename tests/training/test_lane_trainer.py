"""Runs in lanes against the same runs by torch, and against themselves in other company."""

import numpy as np
import pytest
import torch
from quick import QUICK
from tiny import TINY

import pythermo as pt
from pythermo import _core
from pythermo.training.lane_trainer import LaneTrainer
from pythermo.training.record import OtherInstructionSetError
from pythermo.training.trainer import Trainer


def members(config, rates=(0.02, 0.05), seeds=(0, 3)):
    return [config.at(pt.Member(lr, seed)) for lr in rates for seed in seeds]


def finish(trainer):
    while any(not run.finished and run.failure is None for run in trainer.runs):
        trainer.advance()
    return trainer.runs


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"measurement.full_gradient": "evaluation", "measurement.evaluation_batch": 70},
        {"training.loss": "mse", "training.sampling": "epochs"},
        {"training.retraction": "exponential", "training.radius": 2.0, "measurement.stride": 2},
        {"training.protocol": "fixed-lr", "training.weight_decay": 0.1, "training.radius": 1.3},
        {
            "training.iterations": 4,  # its steps are longest, for the gradients are at first
            "training.protocol": "fixed-elr",
            "training.weight_decay": 1e-5,
            "measurement.window": 2,
            "measurement.stride": 2,
        },
        {
            "training.iterations": 2,  # a Rayleigh quotient of two products is no eigenvalue: rounding shows
            "measurement.hessian_probes": 2,
            "measurement.power_iterations": 2,
            "measurement.hessian_step": 0.05,
        },
    ],
    ids=["mean", "evaluation", "mse, epochs", "exponential, strided", "fixed LR", "fixed ELR", "curvature"],
)
def test_what_is_measured_is_what_torch_measures(changes):
    """Four steps from one point: rounding grows tenfold every two, and a prediction of 360 may jump.

    So may a gradient, by some thousandths, where the larger of two pixels is another one by rounding.
    """
    few = {"training.iterations": 4, "measurement.window": 3, "measurement.gradients": 5}
    config = TINY.changed(**(few | changes))
    for run in finish(LaneTrainer(members(config))):
        here, there = run.to_dataset(), finish(Trainer(run.config))[0].to_dataset()
        assert set(here.variables) == set(there.variables)
        for name in there.data_vars:
            tolerance = (
                0.05
                if name in ("hessian_trace", "largest_curvature", "batch_sharpness") or "accuracy" in name
                else 5e-3
            )
            least = 0.02 if name in ("free_energy", "gibbs_energy") else 1e-3  # U less as large a TS
            np.testing.assert_allclose(here[name], there[name], rtol=tolerance, atol=least, err_msg=name)


def test_a_run_depends_on_its_configuration_alone():
    configs = members(QUICK, rates=(0.01, 0.02, 0.05), seeds=(0, 1))
    alone = finish(LaneTrainer(configs[3:4]))[0]
    together = finish(LaneTrainer(configs))[3]
    reversed_order = finish(LaneTrainer(configs[::-1]))[2]
    for other in (together, reversed_order):
        assert alone.to_dataset().identical(other.to_dataset())
        assert torch.equal(alone.weights(), other.weights())


def test_runs_at_different_iterations_go_on_together():
    configs = members(QUICK)
    whole = finish(LaneTrainer(configs))
    states = []
    for config, steps in zip(configs, (0, 17, 40, 200), strict=True):
        trainer = LaneTrainer([config])
        (run,) = trainer.runs
        for _ in range(steps):
            if not run.finished:
                trainer.advance()
        states.append(run.state_dict())
    continued = LaneTrainer(configs)
    for run, state in zip(continued.runs, states, strict=True):
        run.load_state_dict(state)
    assert len({run.iteration for run in continued.runs}) == 4
    for run, expected in zip(finish(continued), whole, strict=True):
        assert run.to_dataset().identical(expected.to_dataset())
        assert torch.equal(run.weights(), expected.weights())


def test_measuring_does_not_change_what_is_measured():
    config = QUICK.changed(**{"measurement.count": 40, "measurement.gradients": 9, "measurement.window": 7})
    often, seldom = (finish(LaneTrainer(members(one)))[1].weights() for one in (config, QUICK))
    assert torch.equal(often, seldom)


def test_another_instruction_set_is_refused_by_name(monkeypatch):
    trainer = LaneTrainer(members(TINY))
    state = trainer.runs[0].state_dict()
    here = _core.chosen_instruction_set()
    with pytest.raises(OtherInstructionSetError, match=f"begun with another goes on .* not with {here}"):
        trainer.runs[0].load_state_dict(state | {"instruction_set": "another"})


def test_a_run_that_fails_is_no_other_runs_failure(monkeypatch):
    configs = members(TINY)
    expected = finish(LaneTrainer(configs))
    trainer = LaneTrainer(configs)
    for _ in range(4):
        trainer.advance()
    trainer.set_weights(1, torch.full_like(trainer.runs[1].weights(), torch.nan))
    runs = finish(trainer)
    assert "finite" in str(runs[1].failure)
    assert not runs[1].finished
    for index in (0, 2, 3):
        assert runs[index].to_dataset().identical(expected[index].to_dataset())


def test_too_many_runs_are_refused():
    lanes = _core.lanes_of_members()
    with pytest.raises(ValueError, match=f"configs: {lanes + 1} are more than the {lanes} lanes"):
        LaneTrainer([TINY] * (lanes + 1))
