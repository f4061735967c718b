"""A thermometer beside a training loop, against what a run of the package measures."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

import pythermo as pt
from pythermo.training import thermometer as module

IMAGES = pt.data.load("digits", samples_per_class=20)


def network(seed=0):
    torch.manual_seed(seed)
    return pt.models.initialize_(pt.models.ConvNet(2, in_channels=1))


class Loop:
    """Somebody's training loop."""

    def __init__(self, optimizer_of=lambda params: pt.ProjectedSGD(params, lr=0.05), beside=True, **settings):
        self.model = network()
        self.params = pt.models.trained_parameters(self.model)
        self.optimizer = optimizer_of(self.params)
        self.random = torch.Generator().manual_seed(1)
        self.losses, self.weights = [], []
        if beside:
            self.thermometer = pt.Thermometer(
                self.params, self.optimizer, **{"window": 60, "k": 10} | settings
            )

    def loss(self, random=None):
        batch = torch.randint(len(IMAGES.train_labels), (32,), generator=random or self.random)
        return nn.functional.cross_entropy(self.model(IMAGES.train_images[batch]), IMAGES.train_labels[batch])

    def steps(self, count):
        for _ in range(count):
            self.optimizer.zero_grad()
            loss = self.loss()
            loss.backward()
            self.optimizer.step()
            self.losses.append(float(loss.detach()))
            self.weights.append(nn.utils.parameters_to_vector(self.params).detach().clone())
            if hasattr(self, "thermometer"):
                self.thermometer.after_step(loss)
        return self


def test_a_reading_is_what_the_estimators_say_of_the_same_numbers():
    loop = Loop(stride=2).steps(150)
    reading = loop.thermometer.read()
    assert reading.iteration == 150
    assert reading.energy == pytest.approx(np.mean(loop.losses[-120:]), rel=1e-6)  # float32 losses
    independent = pt.effective_sample_size(np.array(loop.losses[-120:]))
    assert reading.energy_error == pytest.approx(
        np.std(loop.losses[-120:], ddof=1) / independent**0.5, rel=1e-3
    )
    window = pt.TrajectoryEntropy(1530, 60, [10])
    for weights in loop.weights[1::2][-60:]:
        window.append(weights)
    expected = window.estimate()
    assert reading.entropy == pytest.approx(float(expected.entropy), abs=0.01)  # weights of norm 1 + 1e-7
    assert reading.entropy_error == pytest.approx(float(expected.standard_error), rel=1e-3)
    assert reading.effective_samples == pytest.approx(expected.effective_samples, rel=1e-3)
    assert reading.radius == pytest.approx(1.0, abs=1e-6)
    assert reading.learning_rate == 0.05
    assert reading.effective_learning_rate == pytest.approx(0.05, rel=1e-6)
    assert reading.remarks[0] == "SNR and T of the noise: need minibatch_loss"
    assert math.isnan(reading.noise_temperature)
    assert set(reading.scalars()) == {
        "energy", "energy_error", "entropy", "entropy_error", "effective_samples", "learning_rate",
        "effective_learning_rate", "radius", "radius_growth",
    }  # fmt: skip


def test_noise_and_temperature_are_those_of_the_gradients():
    loop = Loop(minibatch_loss=lambda: loop.loss(torch.Generator().manual_seed(next(seeds))), gradients=20)
    seeds = iter(range(20))
    reading = loop.steps(70).thermometer.read()
    gradients = []
    for seed in range(20):
        loss = loop.loss(torch.Generator().manual_seed(seed))
        gradients.append(torch.cat([one.flatten() for one in torch.autograd.grad(loss, loop.params)]))
    noise = pt.gradient_noise_about_mean(torch.stack(gradients))
    assert reading.snr == pytest.approx(noise.snr, rel=1e-5)
    assert reading.noise_temperature == pytest.approx(0.05 * noise.rms_noise_norm**2 / (2 * 1529), rel=1e-5)
    assert not any("SNR" in remark for remark in reading.remarks)
    assert "T of the noise 0." in str(reading)


@pytest.mark.slow
def test_it_agrees_with_a_run_of_the_package():
    """U, S and T of the noise of the same network on the same images, within the scatter of seeds."""
    settings = {"lr": 0.05, "seeds": 4, "iterations": 400}
    config = pt.RunConfig.from_toml(f"""
        model = {{name = "ConvNet", width = 2}}
        data = {{name = "digits", samples_per_class = 20}}
        training = {{iterations = {settings["iterations"]}, batch_size = 32}}
        measurement = {{count = 5, late = 30, stationary = 10, window = 100, gradients = 20}}
    """)
    runs = [
        pt.run(config.changed(lr=0.05, **{"training.seed": seed}), report=lambda *_: None)
        for seed in range(4)
    ]
    of_runs = np.array(
        [
            [
                float(run["loss"][-10:].mean()),
                float(run["entropy"].sel(k=50)[-1]),
                0.05 * float((run["rms_noise_norm"][-10:] ** 2).mean()) / (2 * 1529),
            ]
            for run in runs
        ]
    )
    found = []
    for seed in range(4):
        loop = Loop(window=100, k=50, gradients=40)
        loop.random.manual_seed(10 + seed)
        loop.thermometer._minibatch_loss = loop.loss
        reading = loop.steps(400).thermometer.read()
        found.append([reading.energy, reading.entropy, reading.noise_temperature])
    # Four standard errors of the difference over seeds.
    difference = np.mean(found, 0) - of_runs.mean(0)
    error = np.sqrt(np.var(found, 0, ddof=1) / 4 + of_runs.var(0, ddof=1) / 4)
    assert (np.abs(difference) < 4 * error).all(), (difference, error)


def test_measuring_changes_nothing():
    with_it = Loop(minibatch_loss=lambda: with_it.loss(torch.Generator().manual_seed(3)))
    with_it.thermometer._model = with_it.model
    without = Loop(beside=False)
    for _ in range(3):
        with_it.steps(25)
        grads = [one.grad.clone() for one in with_it.params]
        buffers = copy.deepcopy(dict(with_it.model.named_buffers()))
        with_it.thermometer.read()
        assert all(torch.equal(one.grad, grad) for one, grad in zip(with_it.params, grads, strict=True))
        for name, buffer in with_it.model.named_buffers():
            assert torch.equal(buffer, buffers[name])
        without.steps(25)
    assert torch.equal(with_it.weights[-1], without.weights[-1])


def test_minibatches_of_readings_take_no_random_numbers_of_the_training():
    """Batches of both by torch's global generator, as most loops have them."""

    def end(reads):
        loop = Loop(minibatch_loss=lambda: loop.loss(torch.default_generator), gradients=3)
        torch.manual_seed(1)
        loop.random = torch.default_generator
        for _ in range(3):
            loop.steps(5)
            if reads:
                loop.thermometer.read()
        return loop.weights[-1]

    assert torch.equal(end(True), end(False))


def test_minibatches_of_readings_are_new_at_each_step_and_the_same_after_a_stop():
    loop = Loop(minibatch_loss=lambda: loop.loss(torch.default_generator), gradients=3)
    drawn = []
    loop.thermometer._minibatch_loss = lambda: (drawn.append(torch.rand(1).item()), loop.loss())[1]
    for _ in range(2):
        loop.steps(1).thermometer.read()
    assert len(set(drawn)) == 6
    torch.manual_seed(99)
    continued = pt.Thermometer(loop.params, loop.optimizer, window=60, k=10, gradients=3)
    continued._minibatch_loss = loop.thermometer._minibatch_loss
    continued.read()
    assert drawn[6:] != drawn[3:6]  # of another seed
    continued.load_state_dict(loop.thermometer.state_dict())
    continued.read()
    assert drawn[9:] == drawn[3:6]


def test_a_state_goes_on_to_the_same_readings():
    whole = Loop().steps(90)
    state = whole.thermometer.state_dict()
    continued = Loop(beside=False)
    continued.model.load_state_dict(whole.model.state_dict())
    continued.random = torch.Generator()
    continued.random.set_state(whole.random.get_state())
    continued.thermometer = pt.Thermometer(continued.params, continued.optimizer, window=60, k=10)
    continued.thermometer.load_state_dict(state)
    there, here = (str(loop.steps(37).thermometer.read()) for loop in (continued, whole))
    assert there == here
    for name, value in continued.thermometer.read().scalars().items():
        assert value == whole.thermometer.read().scalars()[name]
    other = pt.Thermometer(continued.params, continued.optimizer, window=61, k=10)
    with pytest.raises(ValueError, match="spans 60 steps; this one spans 61"):
        other.load_state_dict(state)


@pytest.mark.parametrize(
    ("optimizer_of", "said"),
    [
        (lambda params: torch.optim.Adam(params, lr=0.01), "without what Adam does to gradients"),
        (lambda params: torch.optim.SGD(params, lr=0.05, momentum=0.9), "without momentum"),
        (lambda params: torch.optim.SGD(params, lr=0.02), None),
        (lambda params: torch.optim.AdamW([{"params": params}], lr=0.01), "without what AdamW"),
    ],
)
def test_other_optimizers_move_the_radius_and_it_is_said(optimizer_of, said):
    loop = Loop(optimizer_of).steps(60)
    reading = loop.thermometer.read()
    radii = [float(one.norm()) for one in loop.weights]
    assert reading.radius == pytest.approx(radii[-1], rel=1e-5)
    assert reading.radius_growth == pytest.approx(radii[-1] / radii[0] - 1, rel=1e-3)
    rate = loop.optimizer.param_groups[0]["lr"]
    assert reading.effective_learning_rate == pytest.approx(rate / radii[-1] ** 2, rel=1e-5)
    text = " ".join(reading.remarks)
    assert "the radius changed by" in text
    assert (said in text) if said else ("plain SGD" not in text)


@pytest.mark.parametrize("effective_lr", [False, True])
def test_weight_decay_is_plain_sgd_at_either_learning_rate(effective_lr):
    loop = Loop(
        lambda params: pt.WeightDecaySGD(params, 0.02, 0.5, effective_lr),
        minibatch_loss=lambda: loop.loss(torch.Generator().manual_seed(next(seeds))),
        gradients=10,
    )
    seeds = iter(range(10))
    reading = loop.steps(70).thermometer.read()
    square = float(loop.weights[-1].double().square().sum())
    assert abs(square - 1.0) > 0.01  # or the two learning rates would not differ
    step, on_unit_sphere = (0.02 * square, 0.02) if effective_lr else (0.02, 0.02 / square)
    assert reading.learning_rate == pytest.approx(step, rel=1e-5)  # float32 weights
    assert reading.effective_learning_rate == pytest.approx(on_unit_sphere, rel=1e-5)
    gradients = []
    for seed in range(10):
        loss = loop.loss(torch.Generator().manual_seed(seed))
        gradients.append(torch.cat([one.flatten() for one in torch.autograd.grad(loss, loop.params)]))
    noise = pt.gradient_noise_about_mean(torch.stack(gradients))
    assert reading.noise_temperature == pytest.approx(step * noise.rms_noise_norm**2 / (2 * 1529), rel=1e-5)
    text = " ".join(reading.remarks)
    assert "presumes plain SGD" not in text
    assert "the radius changed by" in text
    assert ("learning rate moves" in text) != effective_lr


def test_the_radius_does_not_change_what_is_measured_of_directions():
    """The same path on a sphere of radius 3, with lr nine times as large: f(3 w) = f(w), grad is a third."""
    ones = Loop(lambda params: pt.ProjectedSGD(params, lr=0.003))
    threes = Loop(lambda params: pt.ProjectedSGD(params, lr=0.027, radius=3.0))
    pt.project_(threes.params, 3.0)
    one, three = (loop.steps(60).thermometer.read() for loop in (ones, threes))
    # At this learning rate rounding of float32 does not grow (at 0.05 paths part): it moves S by 1e-6, U by 1e-7.
    assert three.effective_learning_rate == pytest.approx(one.effective_learning_rate, rel=1e-5)
    assert three.entropy == pytest.approx(one.entropy, rel=1e-4)
    assert three.energy == pytest.approx(one.energy, rel=1e-5)


def test_schedules_are_followed():
    loop = Loop().steps(50)
    loop.optimizer.param_groups[0]["lr"] = 0.01
    reading = loop.steps(10).thermometer.read()
    assert reading.learning_rate == 0.01
    assert "the learning rate changed within the window: the state is not stationary" in reading.remarks
    later = loop.steps(60).thermometer.read().remarks
    assert later[0] == "SNR and T of the noise: need minibatch_loss"
    assert not any("the learning rate changed" in remark for remark in later)


def test_the_learning_rate_of_an_optimizer_that_was_loaded_is_read():
    loop = Loop().steps(1)
    state = loop.optimizer.state_dict()
    state["param_groups"][0]["lr"] = 0.01
    loop.optimizer.load_state_dict(state)
    assert loop.steps(1).thermometer.read().learning_rate == 0.01


def test_a_warm_up_may_begin_at_zero():
    loop = Loop()
    schedule = torch.optim.lr_scheduler.LambdaLR(loop.optimizer, lambda step: min(1.0, step / 20))
    for _ in range(60):
        loop.steps(1)
        schedule.step()
    reading = loop.thermometer.read()
    assert reading.learning_rate == 0.05
    assert "the learning rate changed within the window: the state is not stationary" in reading.remarks
    loop.optimizer.param_groups[0]["lr"] = -0.1
    with pytest.raises(ValueError, match="optimizer: its learning rate: must be finite and not negative"):
        loop.thermometer.after_step()


def test_weights_that_are_not_scale_invariant_are_noticed():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    x, y = IMAGES.train_images, IMAGES.train_labels

    def loss():
        batch = torch.randint(len(y), (32,))
        return nn.functional.cross_entropy(model(x[batch]), y[batch])

    thermometer = pt.Thermometer(model.parameters(), lr=0.1, minibatch_loss=loss, window=60, k=10)
    (remark,) = [one for one in thermometer.read().remarks if "radial part" in one]
    assert "the weights are not scale-invariant" in remark


def test_scale_invariant_parameters_are_found():
    whole = network()
    assert list(pt.models.scale_invariant_parameters(whole, IMAGES.train_images[:64])) == [
        name for name, one in whole.named_parameters() if one.requires_grad
    ]
    torch.manual_seed(0)
    own = nn.Sequential(
        nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4),
        nn.ReLU(), nn.Flatten(), nn.Linear(64, 10),
    )  # fmt: skip
    # Not the first gain, although it is while its bias is zero, nor the bias that BatchNorm takes away again.
    assert list(pt.models.scale_invariant_parameters(own, IMAGES.train_images[:64])) == [
        "0.weight",
        "3.weight",
    ]
    with pytest.raises(ValueError, match="none of its weights are scale-invariant"):
        pt.models.scale_invariant_parameters(
            nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), IMAGES.train_images[:64]
        )


def test_windows_that_do_not_fit_are_sketched(monkeypatch):
    loop = Loop()
    monkeypatch.setattr(module, "WINDOW_BYTES", 200_000)
    loop.thermometer = pt.Thermometer(loop.params, loop.optimizer, window=60, k=59)
    exact = pt.TrajectoryEntropy(1530, 60, [59])
    loop.steps(60)
    for weights in loop.weights:
        exact.append(weights)
    assert loop.thermometer._window._points.shape == (60, 200_000 // (8 * 60))
    # A path of few directions r: deviations of d / sqrt(2 m r), see TrajectoryEntropy; r is some 3 here.
    apart = 1529 / math.sqrt(2 * 416 * 3)
    assert loop.thermometer.read().entropy == pytest.approx(float(exact.estimate().entropy), abs=3 * apart)


@pytest.mark.parametrize("loss", [None, math.nan, torch.tensor(math.inf)])
def test_what_u_needs_is_said(loss):
    loop = Loop().steps(5)
    loop.thermometer.after_step(loss)
    reading = loop.thermometer.read()
    assert math.isnan(reading.energy)
    assert (
        "U: needs a loss that is finite, given to each after_step of the window, or minibatch_loss"
        in reading.remarks
    )


def test_a_window_on_the_way_says_how_long_it_takes():
    reading = Loop().steps(20).thermometer.read()
    assert "S: its window is full in 40 steps" in reading.remarks
    assert math.isnan(reading.entropy)
    assert reading.energy > 0
    nothing = Loop().thermometer.read()
    assert nothing.iteration == 0
    assert math.isnan(nothing.energy)


PARAMS = [nn.Parameter(torch.randn(4, 3)), nn.Parameter(torch.randn(5))]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"params": network()}, TypeError, "params: must be an iterable of the scale-invariant weights"),
        ({"params": []}, ValueError, "params: must hold the scale-invariant weights"),
        ({"params": [*PARAMS, PARAMS[0]]}, ValueError, "params: one of them is listed twice"),
        ({"params": [PARAMS[0], PARAMS[1].double()]}, ValueError, "params: must have one dtype"),
        ({"params": [torch.ones(3, dtype=torch.int64)]}, TypeError, "params: must be tensors of float32"),
        ({"lr": None}, ValueError, "optimizer, lr: one of them must say the learning rate"),
        ({"optimizer": torch.optim.SGD(PARAMS, lr=0.1)}, ValueError, "optimizer, lr: one of them"),
        ({"lr": 0.0}, ValueError, "lr: must be positive"),
        (
            {"lr": None, "optimizer": torch.optim.SGD(PARAMS[:1], lr=0.1)},
            ValueError,
            "optimizer: does not step 1 of the 2 tensors of params",
        ),
        ({"lr": None, "optimizer": 0.1}, TypeError, "optimizer: must be a torch.optim.Optimizer"),
        (
            {
                "lr": None,
                "optimizer": torch.optim.SGD(
                    [{"params": [PARAMS[0]]}, {"params": [PARAMS[1]], "lr": 1}], lr=0.1
                ),
            },
            ValueError,
            r"optimizer: params have several learning rates, \[0.1, 1.0\]",
        ),
        ({"window": 50}, ValueError, "k: must be less than the 50 points of the window"),
        ({"gradients": 1}, ValueError, "gradients: must be an integer from 2"),
        ({"minibatch_loss": 3}, TypeError, "minibatch_loss: must be called without arguments"),
        ({"model": 3}, TypeError, "model: must be a torch.nn.Module"),
    ],
)
def test_mistakes_are_named(arguments, error, message):
    with pytest.raises(error, match=message):
        pt.Thermometer(**{"params": PARAMS, "lr": 0.1} | arguments)


def test_mistakes_on_the_way_are_named():
    thermometer = pt.Thermometer(PARAMS, lr=0.1)
    with pytest.raises(ValueError, match="loss: must be one number"):
        thermometer.after_step(torch.ones(3))
    with pytest.raises(TypeError, match="loss: "):
        thermometer.after_step("1")
    broken = pt.Thermometer([torch.tensor([1.0, math.nan])], lr=0.1)
    with pytest.raises(ValueError, match="params: their norm must be positive and finite"):
        broken.read()
    constant = pt.Thermometer(PARAMS, lr=0.1, minibatch_loss=lambda: 3.0)
    with pytest.raises(TypeError, match="minibatch_loss: must return a loss that has a gradient"):
        constant.read()
    partly = pt.Thermometer(PARAMS, lr=0.1, minibatch_loss=lambda: PARAMS[0].sum())
    with pytest.raises(ValueError, match="does not depend on some of params"):
        partly.read()
