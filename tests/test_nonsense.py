"""Nonsense in any one argument of a public function works, or is refused by a message that names the argument."""

import numpy as np
import pytest
import torch
from made import made_sweep, planted_gas
from matplotlib.figure import Figure

import pythermo as pt

NONSENSE = [
    None,
    "x",
    b"x",
    -1,
    0,
    1.5,
    2**70,
    float("nan"),
    float("inf"),
    1j,
    [],
    {},
    [None],
    ["x"],
    object(),
]

CLOUD = np.random.default_rng(0).normal(size=(12, 3))
ON_SPHERE = CLOUD / np.linalg.norm(CLOUD, axis=1, keepdims=True)
VECTOR = np.random.default_rng(1).normal(size=8)
POSITIVE = np.geomspace(0.1, 1.0, 8)
SYSTEM = pt.sphere.overparameterized()
NETWORK = pt.models.ConvNet(2, in_channels=1)
SIMULATED = pt.sphere.simulate(SYSTEM, 0.1, 5)
ENTROPY = {"ks": [1, 2], "intrinsic_dim": 2, "gamma": 1.0}
IMAGES = torch.ones(2, 1, 8, 8) * torch.arange(8.0)
WEIGHTS = pt.models.trained_parameters(NETWORK)
AXES = Figure().subplots()
TWO_SEEDS = (
    made_sweep()
    .expand_dims(seed=2)
    .assign_coords(iteration=lambda made: ("iteration", np.arange(made.sizes["iteration"])))
)
RUN = {
    "steps": 4,
    "measure_at": [4],
    "window": 2,
    "stride": 2,
    "device": "cpu",
    "record": ["loss"],
    "threads": 1,
}


def appended(weights):
    pt.TrajectoryEntropy(8, window=3, dtype=torch.float64).append(weights)


def stepped(images, labels):
    pt.Ensemble(NETWORK, lr=[0.1, 0.2]).step(images, labels)


def loaded(weights):
    pt.Ensemble(NETWORK, lr=[0.1, 0.2]).load_weights(weights)


# Public functions and classes, with arguments that they take.
CALLS = {
    "default_ks": (pt.default_ks, {"n": 5}),
    "knn_graph_entropy": (pt.knn_graph_entropy, {"points": CLOUD, **ENTROPY}),
    "gradient_cloud_entropy": (pt.gradient_cloud_entropy, {"grads": CLOUD, "lr": 0.1, **ENTROPY}),
    "knn_graph_entropy_error": (pt.knn_graph_entropy_error, {"points": CLOUD, **ENTROPY, "blocks": 3}),
    "kozachenko_leonenko_entropy": (
        pt.kozachenko_leonenko_entropy,
        {"points": ON_SPHERE, "k": 1, "geometry": "sphere"},
    ),
    "sphere_histogram_entropy": (pt.sphere_histogram_entropy, {"points": ON_SPHERE, "bands": 2}),
    "integrated_autocorrelation_time": (pt.integrated_autocorrelation_time, {"series": VECTOR}),
    "trajectory_autocorrelation_time": (pt.trajectory_autocorrelation_time, {"points": CLOUD}),
    "effective_sample_size": (pt.effective_sample_size, {"series": VECTOR}),
    "gradient_noise": (pt.gradient_noise, {"full_grad": VECTOR, "stochastic_grads": [VECTOR]}),
    "gradient_noise_about_mean": (
        pt.gradient_noise_about_mean,
        {"stochastic_grads": np.stack([VECTOR, -VECTOR])},
    ),
    "fit_temperature": (
        pt.fit_temperature,
        {"lr": POSITIVE, "energy": POSITIVE, "entropy": VECTOR, "tolerance": 0.0, "smoothing": 0.3},
    ),
    "fit_power_law": (pt.fit_power_law, {"x": POSITIVE, "y": POSITIVE}),
    "free_energy": (pt.free_energy, {"energy": VECTOR, "entropy": VECTOR, "temperature": 0.1}),
    "temperature_along_run": (
        pt.temperature_along_run,
        {"energy": VECTOR, "entropy": VECTOR, "half_width": 2},
    ),
    "estimate_temperature": (
        pt.estimate_temperature,
        {
            "lr": POSITIVE, "energy": POSITIVE, "entropy": VECTOR, "confidence": 0.9, "resamples": 10, "seed": 0,
        },
    ),
    "gas": (pt.gas, {"sweep": planted_gas("fixed-lr"), "last": 2, "k": 50, "confidence": 0.9}),
    "stationarity": (pt.stationarity, {"sweep": TWO_SEEDS, "k": 50, "confidence": 0.9}),
    "thermometers": (
        pt.thermometers,
        {"sweep": TWO_SEEDS, "last": 3, "fit": None, "k": 50, "energy_floor": 0.0, "confidence": 0.9},
    ),
    "TrajectoryEntropy": (
        pt.TrajectoryEntropy,
        {
            "dim": 8, "window": 5, "ks": [1], "dtype": torch.float64, "sketch": 4, "seed": 0, "device": "cpu",
            "pinned": False,
        },
    ),
    "TrajectoryEntropy.append": (appended, {"weights": VECTOR}),
    **{
        f"plot_{name}": (getattr(pt, f"plot_{name}"), {"sweep": TWO_SEEDS, "ax": AXES, "last": 3, "fit": None})
        for name in (
            "energy", "entropy", "snr", "temperature", "surface", "free_energy", "thermometers",
        )
    },
    "plot_drifts": (pt.plot_drifts, {"sweep": TWO_SEEDS, "ax": AXES}),
    "plot_along_runs": (
        pt.plot_along_runs, {"sweep": TWO_SEEDS, "name": "loss", "ax": AXES, "runs": 3}
    ),
    "Thermometer": (
        pt.Thermometer,
        {
            "params": WEIGHTS, "lr": 0.1, "minibatch_loss": None, "model": None, "gradients": 2, "window": 60,
            "stride": 1, "k": 5,
        },
    ),
    "Thermometer.after_step": (pt.Thermometer(WEIGHTS, lr=0.1, window=60).after_step, {"loss": 1.0}),
    "models.scale_invariant_parameters": (
        pt.models.scale_invariant_parameters, {"model": NETWORK, "inputs": IMAGES, "tolerance": 0.1}
    ),
    "Ensemble": (
        pt.Ensemble,
        {
            "model": NETWORK, "lr": 0.1, "seeds": 2, "radius": 1.0, "initial_seed": 1, "device": "cpu",
            "loss": "mse", "retraction": "exponential",
        },
    ),
    "Ensemble.step": (
        stepped, {"images": IMAGES.expand(2, 2, 1, 8, 8), "labels": torch.zeros(2, 2, dtype=torch.int64)}
    ),
    "Ensemble.load_weights": (loaded, {"weights": torch.ones(2, 1530)}),
    "ops.knn_distances": (pt.ops.knn_distances, {"points": CLOUD, "k": 2}),
    "ops.nearest_neighbors": (pt.ops.nearest_neighbors, {"points": CLOUD, "k": 2}),
    "ops.knn_distance_sums": (pt.ops.knn_distance_sums, {"points": CLOUD, "ks": [2], "gamma": 1.0}),
    "ops.update_squared_distances_": (
        pt.ops.update_squared_distances_,
        {"matrix": np.empty((12, 12)), "points": CLOUD, "first": 0, "changed": 12},
    ),
    "ops.matrix_distance_sums": (
        pt.ops.matrix_distance_sums,
        {"matrix": 1.0 - np.eye(12), "ks": [2], "without": 1, "without_end": 3},
    ),
    "ops.gradient_sums_": (
        pt.ops.gradient_sums_,
        {"grad": VECTOR, "center": VECTOR, "total": VECTOR.copy()},
    ),
    "ops.sketch": (pt.ops.sketch, {"weights": VECTOR, "size": 4, "seed": 0}),
    "ops.batch_norm_relu": (pt.ops.batch_norm_relu, {"x": IMAGES, "pool": 2, "eps": 1e-12}),
    "models.ConvNet": (
        pt.models.ConvNet,
        {"width": 2, "in_channels": 1, "num_classes": 3, "head_norm": 1.0},
    ),
    "models.ConvNet.forward": (NETWORK.forward, {"x": IMAGES}),
    "models.ResNet18": (
        pt.models.ResNet18,
        {"width": 2, "in_channels": 1, "num_classes": 3, "head_norm": 1.0},
    ),
    "models.initialize_": (
        pt.models.initialize_,
        {"model": NETWORK, "seed": 1, "head_seed": 4, "radius": 1.0},
    ),
    "models.trained_parameters": (pt.models.trained_parameters, {"model": NETWORK}),
    "models.check_scale_invariance": (
        pt.models.check_scale_invariance,
        {
            "model": NETWORK, "inputs": IMAGES + torch.eye(8), "params": pt.models.trained_parameters(NETWORK),
            "factors": [2.0], "tolerance": 1e-3,
        },
    ),
    "sphere.Quadratics": (pt.sphere.Quadratics, {"vectors": ON_SPHERE}),
    "sphere.Quadratics.loss": (SYSTEM.loss, {"w": CLOUD}),
    "sphere.Quadratics.gradients": (SYSTEM.gradients, {"w": CLOUD}),
    "sphere.IsotropicNoise": (pt.sphere.IsotropicNoise, {"dim": 3, "sigma": 1.0}),
    "sphere.IsotropicNoise.loss": (pt.sphere.IsotropicNoise(3, 1.0).loss, {"w": CLOUD}),
    "sphere.IsotropicNoise.temperature": (pt.sphere.IsotropicNoise(3, 1.0).temperature, {"lr": 0.1}),
    "sphere.overparameterized": (pt.sphere.overparameterized, {}),
    "sphere.underparameterized": (pt.sphere.underparameterized, {}),
    "sphere.simulate": (
        pt.sphere.simulate,
        {
            "system": SYSTEM, "lr": 0.1, "start": [0.0, 0.0, 1.0], "replicas": 2, "batch_size": 1, "seed": 0,
            "retraction": "projection", "dtype": "float64", "protocol": "sphere", "weight_decay": 0.0,
            "sampling": "iid", **RUN,
        },
    ),
    "sphere.resume": (pt.sphere.resume, {"simulated": SIMULATED, **RUN, "measure_at": [9]}),
    "sphere.draws": (
        pt.sphere.draws,
        {
            "system": SYSTEM, "steps": 4, "replicas": 2, "batch_size": 1, "seed": 0, "sampling": "iid",
            "first_step": 0,
        },
    ),
    "sphere.ideal_gas": (
        pt.sphere.ideal_gas,
        {"lr": 0.1, "weight_decay": 0.1, "sigma": 1.0, "dim": 3, "protocol": "fixed-lr"},
    ),
    "sphere.von_mises_fisher_energy": (pt.sphere.von_mises_fisher_energy, {"temperature": 0.1, "dim": 3}),
    "sphere.von_mises_fisher_entropy": (pt.sphere.von_mises_fisher_entropy, {"temperature": 0.1, "dim": 3}),
    "data.load": (
        pt.data.load,
        {"name": "digits", "samples_per_class": 3, "label_noise": 0.1, "seed": 1, "side": 10, "test_samples": 5},
    ),
}  # fmt: skip

# Results, whose fields are what a function found; tables of their own; what has tests of its own.
NOT_HERE = {
    "pt": {
        "Analysis", "GasAnalysis", "CorrelatedWindowWarning", "DEFAULT_KS", "EntropyEstimate", "GradientNoise", "Member",
        "PowerLaw", "Preset", "ProjectedSGD", "RunConfig", "SweepError", "TemperatureEstimate", "TemperatureFit",
        "ThermometerReading", "WeightDecaySGD", "analyze", "analyze_gas", "data",
        "figures", "load_network", "load_sweep", "models", "ops", "project_", "report", "run", "sphere", "sweep",
    },
    "ops": {"exponential_sgd_step_", "fixed_elr_step_", "fixed_lr_step_", "projected_sgd_step_", "raise_failed_steps"},
    "sphere": {"PAPER_START", "System"},
    "models": {"ScaleInvariance"},
    "data": {"Images", "fetch"},
}  # fmt: skip


@pytest.mark.parametrize("module", [pt, pt.ops, pt.sphere, pt.models, pt.data], ids=lambda one: one.__name__)
def test_every_public_name_is_here(module):
    name = module.__name__.removeprefix("pythermo").removeprefix(".")
    prefix = f"{name}." if name else ""
    here = {call.removeprefix(prefix).split(".")[0] for call in CALLS if call.startswith(prefix)}
    assert set(module.__all__) - NOT_HERE[name or "pt"] <= here


@pytest.mark.parametrize(
    ("call", "argument"), [(call, argument) for call, (_, given) in CALLS.items() for argument in given]
)
def test_nonsense_works_or_is_named(call, argument):
    function, given = CALLS[call]
    for nonsense in NONSENSE:
        try:
            function(**{**given, argument: nonsense})
        except (ValueError, TypeError) as error:
            words = str(error).split(":")[0]
            assert argument in words, f"{call}({argument}={nonsense!r}): {type(error).__name__}: {error}"  # noqa: PT017
        except Exception as error:
            raise AssertionError(
                f"{call}({argument}={nonsense!r}): {type(error).__name__}: {error}"
            ) from error


@pytest.mark.parametrize("call", CALLS)
def test_sense_works(call):
    function, given = CALLS[call]
    function(**given)
