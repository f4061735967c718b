"""Runs by each protocol against plain torch in float64: their steps, and what is noted of them."""

import copy

import numpy as np
import pytest
import torch
from quick import QUICK
from reference import decaying_step, projected_step

import pythermo as pt
from pythermo._parameters import flatten, write_
from pythermo.config.schedule import rescaled_iterations
from pythermo.models.losses import LOSSES
from pythermo.training.lane_trainer import LaneTrainer
from pythermo.training.protocols import Conditions
from pythermo.training.trainer import Trainer

BY_PROTOCOL = {
    "sphere": QUICK.changed(**{"training.radius": 1.5}),
    "fixed-lr": QUICK.changed(lr=0.05, **{"training.protocol": "fixed-lr", "training.weight_decay": 0.1}),
    "fixed-elr": QUICK.changed(**{"training.protocol": "fixed-elr", "training.weight_decay": 0.05}),
}


def every_step_measured(config, steps):
    """Let a run measure after each step, with as little as can be."""
    few = {
        "training.iterations": steps,
        "measurement.count": 1,
        "measurement.late": 2 * steps,
        "measurement.gradients": 2,
        "measurement.window": steps + 1,
        "measurement.evaluation_batch": 2000,
    }
    return config.changed(**few)


def finish(trainer):
    while any(not run.finished for run in trainer.runs):
        trainer.advance()
        for run in trainer.runs:
            if run.failure is not None:
                raise run.failure
    return trainer


@pytest.mark.parametrize("name", BY_PROTOCOL)
def test_a_step_is_that_of_plain_torch(name):
    """From the weights of several steps of a run: one of the same batch in float64, and in lanes."""
    config = BY_PROTOCOL[name].changed(**{"training.iterations": 12})
    training = config.training
    trainer = Trainer(config)
    lanes = LaneTrainer([config])
    wide = copy.deepcopy(trainer.model).double()
    params = pt.models.trained_parameters(wide)
    for step in range(12):
        before = trainer.weights()
        lanes.set_weights(0, before)
        images, labels = trainer.data.batch(trainer.batches.at(step))
        trainer.step()
        lanes.step()
        write_(params, before.double())
        loss = LOSSES[training.loss](wide(images.double()), labels)
        grad = flatten(torch.autograd.grad(loss, params))
        if name == "sphere":
            expected = projected_step(before, grad, config.lr, training.radius)
        else:
            expected = decaying_step(before, grad, config.lr, training.weight_decay, name == "fixed-elr")
        moved = (expected - before).norm()
        # Roundings of weights and gradient in float32.
        assert (trainer.weights() - expected).norm() <= 1e-4 * moved
        assert (lanes.weights()[0] - expected).norm() <= 1e-4 * moved


@pytest.mark.parametrize("name", BY_PROTOCOL)
def test_what_is_noted_of_steps(name):
    """A run of a few steps, each of which is measured, against norms and gradients taken by hand."""
    config = every_step_measured(BY_PROTOCOL[name], 12)
    trainer = Trainer(config)
    norms, squares = [], []
    while not trainer.finished:
        if not trainer.measurement_due:
            norms.append(float(trainer.weights().double().norm()))
        trainer.advance()
        if len(squares) < len(norms):
            squares.append(float(sum(one.grad.double().square().sum() for one in trainer.params)))
    norms.append(float(trainer.weights().double().norm()))
    r, g2 = np.array(norms), np.array(squares)
    found = trainer.to_dataset()
    assert np.isnan(found["mean_r2"][0])
    noted = found.isel(iteration=slice(1, None))
    for moment, expected in (
        ("mean_r2", r[:-1] ** 2),
        ("mean_r4", r[:-1] ** 4),
        ("mean_r6", r[:-1] ** 6),
        ("mean_g2", g2),
        ("mean_r2_g2", r[:-1] ** 2 * g2),
        ("mean_r4_g2", r[:-1] ** 4 * g2),
    ):
        np.testing.assert_allclose(noted[moment], expected, rtol=1e-12, err_msg=moment)
    np.testing.assert_allclose(found["radius"], r, rtol=1e-12)
    # The loss does not depend on the norm: <w, g> is rounding of |w| |g| in float32.
    assert (np.abs(noted["mean_w_g"]) <= 1e-5 * np.sqrt(noted["mean_r2_g2"])).all()
    if name == "sphere":
        np.testing.assert_allclose(found["radius"], 1.5, rtol=1e-7)
        # An identity: growth before a step is brought back is that by the gradient.
        growth = config.lr**2 * g2
        np.testing.assert_allclose(noted["mean_next_r2"] - noted["mean_r2"], growth, rtol=2e-3)
        pressure = growth / (2 * config.lr / 1.5**2 * 1.5**4)
        np.testing.assert_allclose(noted["pressure"], pressure, rtol=2e-3)
    else:
        np.testing.assert_allclose(noted["mean_next_r2"], r[1:] ** 2, rtol=1e-6)
        assert (found["pressure"] == config.training.weight_decay).all()
    window = found["log_radius"][-1]
    assert float(window) == pytest.approx(np.log(r).mean(), rel=1e-8)


@pytest.mark.parametrize("name", ["fixed-lr", "fixed-elr"])
def test_the_radius_follows_its_law_for_1000_steps(name):
    """r^2 of the next step from r, |g|^2 and eta, in plain torch in float64, step by step, and in a run."""
    config = BY_PROTOCOL[name].changed(
        **{"training.iterations": 1000, "measurement.count": 1, "measurement.gradients": 2}
    )
    training, trainer = config.training, Trainer(config)
    wide = copy.deepcopy(trainer.model).double()
    params = pt.models.trained_parameters(wide)
    weights = flatten(params)
    worst = 0.0
    for step in range(1000):
        images, labels = trainer.data.batch(trainer.batches.at(step))
        grad = flatten(torch.autograd.grad(LOSSES[training.loss](wide(images.double()), labels), params))
        r2, g2 = float(weights @ weights), float(grad @ grad)
        eta = config.lr * r2 if name == "fixed-elr" else config.lr
        weights = weights - eta * (grad + training.weight_decay * weights)
        write_(params, weights)
        expected = (1 - eta * training.weight_decay) ** 2 * r2 + eta**2 * g2
        worst = max(worst, abs(float(weights @ weights) / expected - 1.0))
    assert worst < 1e-9  # BatchNorm's epsilon, 1e-12, which alone makes the loss depend on the norm
    while not trainer.finished:
        trainer.advance()
    before, last = (trainer.to_dataset().isel(iteration=place) for place in (-2, -1))
    steps = int(last["iteration"] - before["iteration"])
    grown = (float(last["mean_next_r2"]) - float(last["mean_r2"])) * steps
    r2 = float(last["radius"]) ** 2
    assert steps == 991
    # The factor of decay is rounded to float32: by up to 3e-8, twice in r^2 at each of the steps.
    assert r2 - float(before["radius"]) ** 2 == pytest.approx(grown, abs=6e-5 * r2)


@pytest.mark.parametrize("name", ["fixed-lr", "fixed-elr"])
def test_a_start_at_the_predicted_norm(name):
    """After a tenth of the run r is that of the law, by gradients there; torch and lanes agree."""
    config = BY_PROTOCOL[name].changed(**{"training.start": "predicted", "training.iterations": 200})
    assert rescaled_iterations(200) == {20, 5, 1}
    trainer = Trainer(config)
    lanes = LaneTrainer([config])
    while trainer.iteration < 4 or trainer.measurement_due:
        trainer.advance()
    while lanes.runs[0].iteration < 4 or lanes.runs[0].measurement_due:
        lanes.advance()
    lanes.set_weights(0, trainer.weights())
    trainer.step()
    lanes.step()
    radius = float(trainer.weights().double().norm())
    assert radius == pytest.approx(float(lanes.weights()[0].double().norm()), rel=1e-4)
    conditions = Conditions.of(config, trainer.dim)
    squared = radius**2 * trainer.meter.mean_squared_gradient(5)
    assert radius == pytest.approx(conditions.radius(squared), rel=1e-4)
    with pytest.raises(ValueError, match=r"training.start: gradients whose squares are 0 on average"):
        trainer.predicted_radius(0.0)


def test_runs_of_other_weight_decay_and_radius_side_by_side():
    """In one vector, and alone: the same bits."""
    base = BY_PROTOCOL["fixed-elr"].changed(**{"training.iterations": 30, "training.start": "predicted"})
    members = [pt.Member(0.01, 0, decay) for decay in (0.02, 0.05)]
    members += [pt.Member(0.02, 1, 0.02)]
    configs = [base.at(member) for member in members]
    spheres = [BY_PROTOCOL["sphere"].at(pt.Member(0.02, 0, radius=radius)) for radius in (0.5, 1.0, 4.0)]
    for several in (configs, spheres):
        together = finish(LaneTrainer(several))
        for config, run in zip(several, together.runs, strict=True):
            alone = finish(LaneTrainer([config]))
            assert alone.runs[0].to_dataset().identical(run.to_dataset())
            assert torch.equal(alone.weights()[0], run.weights())


@pytest.mark.parametrize("engine", ["torch", "lanes"])
@pytest.mark.parametrize("name", ["fixed-lr", "fixed-elr"])
def test_a_run_is_taken_up_again_to_equal_bits(name, engine):
    changes = {"training.start": "predicted", "training.engine": engine, "training.iterations": 60}
    config = BY_PROTOCOL[name].changed(**changes)
    make = Trainer if engine == "torch" else lambda one: LaneTrainer([one])

    def advance(trainer, until):
        while not trainer.runs[0].finished and trainer.runs[0].iteration < until:
            trainer.advance()

    whole = make(config)
    advance(whole, 10**6)
    for stop in (0, 5, 33):
        first, second = make(config), make(config)
        advance(first, stop)
        second.runs[0].load_state_dict(first.runs[0].state_dict())
        advance(second, 10**6)
        assert second.runs[0].to_dataset().identical(whole.runs[0].to_dataset())


def test_a_norm_that_is_lost_is_an_error():
    config = BY_PROTOCOL["fixed-elr"].changed(lr=0.5, **{"training.weight_decay": 0.5})
    with pytest.raises(ValueError, match=r"lr and weight_decay: .* take a smaller lr"):
        pt.run(config)
    with pytest.raises(ValueError, match=r"lr and weight_decay: .* take a smaller lr"):
        pt.run(config.changed(**{"training.engine": "lanes"}))


def test_epsilon_leaves_the_loss_to_the_direction():
    """At r = 0.25, the smallest radius of the paper, float64: BatchNorm's epsilon is 1e-12."""
    model = pt.models.initialize_(pt.models.ConvNet(2, in_channels=1)).double()
    params = pt.models.trained_parameters(model)
    point = flatten(params)
    images = pt.data.load("digits").train_images[:128].double()
    outputs = []
    for radius in (0.25, 1.0, 4.0):
        write_(params, radius * point)
        outputs.append(model(images).detach())
    for other in outputs[1:]:
        assert float((other - outputs[0]).abs().max()) < 1e-7
