import signal
import subprocess
import sys
import time

import backends
import numpy as np
import pytest
import sphere_reference as reference
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import gammaln

from pythermo import _core, sphere
from pythermo.sphere.noisy_norm import mean_noisy_norm

UP, OP = sphere.underparameterized(), sphere.overparameterized()


def random_quadratics(samples: int, dim: int, seed: int = 0) -> sphere.Quadratics:
    rows = np.random.default_rng(seed).normal(size=(samples, dim))
    return sphere.Quadratics(rows / np.linalg.norm(rows, axis=1, keepdims=True))


SYSTEMS = {
    "UP": UP,
    "OP": OP,
    "D = 2": random_quadratics(5, 2),
    "D = 4, samples looked up by loads": random_quadratics(9, 4),
    "D = 17": random_quadratics(40, 17),
    "noise, D = 2": sphere.IsotropicNoise(2, 0.7),
    "noise, D = 3": sphere.IsotropicNoise(3, 1.0),
    "noise, D = 4": sphere.IsotropicNoise(4, 0.5),
    "noise, D = 16": sphere.IsotropicNoise(16, 0.3),
}
LRS = np.array([0.01, 0.1, 0.4])


on_all_kernels = pytest.mark.usefixtures("kernels")  # the CPU's, and CUDA's emulated or on a device

# Points of the reference, which is the same for all kernels and takes longer than they do.
KNOWN = {}


def reference_trajectory(system, start, lr, draws, **kind):
    key = (system, start.tobytes(), lr, draws.tobytes(), *kind.items())
    if key not in KNOWN:
        KNOWN[key] = reference.trajectory(system, start, lr, draws, **kind)
    return KNOWN[key]


def assert_follows_the_reference(system, steps=1000, batch_size=1, sampling="iid", lrs=LRS, **kind):
    replicas = 2
    settings = {"batch_size": batch_size, "seed": 7, "sampling": sampling}
    drawn = sphere.draws(system, steps, replicas, **settings)
    found = sphere.simulate(
        system,
        lrs,
        steps,
        replicas=replicas,
        measure_at=np.arange(steps + 1),
        record=("weights",),
        **settings,
        **kind,
    )
    for i, lr in enumerate(lrs):
        for replica in range(replicas):
            own = found["weights"].values[i, replica]
            expected = reference_trajectory(system, own[0], lr, drawn[replica], **kind)
            scale = np.linalg.norm(expected, axis=1, keepdims=True)
            # 1000 steps that contract or wander: roundings of 1e-16 add up to 1e-13 at most.
            assert np.abs((own - expected) / scale).max() < 1e-12


@on_all_kernels
@pytest.mark.parametrize("retraction", ["projection", "exponential"])
@pytest.mark.parametrize("name", SYSTEMS)
def test_on_the_sphere_as_an_autograd_loop(name, retraction):
    assert_follows_the_reference(SYSTEMS[name], retraction=retraction)


@on_all_kernels
@pytest.mark.parametrize("retraction", ["projection", "exponential"])
@pytest.mark.parametrize("sampling", ["iid", "epochs"])
@pytest.mark.parametrize(("name", "batch_size"), [("UP", 2), ("UP", 3), ("D = 17", 7), ("D = 2", 5)])
def test_batches_as_an_autograd_loop(name, batch_size, sampling, retraction):
    assert_follows_the_reference(SYSTEMS[name], 300, batch_size, sampling, retraction=retraction)


@on_all_kernels
def test_epochs_of_single_samples_as_an_autograd_loop():
    assert_follows_the_reference(SYSTEMS["D = 17"], 1000, 1, "epochs")


@on_all_kernels
@pytest.mark.parametrize("protocol", ["fixed-lr", "fixed-elr"])
@pytest.mark.parametrize("name", SYSTEMS)
def test_in_full_space_as_an_autograd_loop(name, protocol):
    # Weight decay shrinks the sphere; were lr / |w|^2 above 1, roundings would grow from step to step.
    assert_follows_the_reference(SYSTEMS[name], lrs=[0.001, 0.01], protocol=protocol, weight_decay=0.05)


@on_all_kernels
def test_a_large_dimension_as_an_autograd_loop():
    assert_follows_the_reference(random_quadratics(7, 1001), 50)
    assert_follows_the_reference(sphere.IsotropicNoise(1001, 0.1), 50)


@on_all_kernels
def test_measurements_are_those_of_autograd():
    for system in (UP, SYSTEMS["D = 17"]):
        found = sphere.simulate(system, [0.1, 0.3], 50, replicas=3, measure_at=[0, 1, 7, 50], seed=3)
        for index in np.ndindex(2, 3, 4):
            w = found["weights"].values[index]
            full, mean, snr = reference.signal_and_noise(system, w)
            assert found["loss"].values[index] == pytest.approx(system.loss(w), rel=1e-13)
            assert found["full_grad_norm"].values[index] == pytest.approx(full, rel=1e-11)
            assert found["mean_grad_norm"].values[index] == pytest.approx(mean, rel=1e-12)
            assert found["snr"].values[index] == pytest.approx(snr, rel=1e-11)


@on_all_kernels
@pytest.mark.parametrize("protocol", ["sphere", "fixed-lr"])
def test_measurements_of_isotropic_noise_against_sampling(protocol):
    system = sphere.IsotropicNoise(5, 0.8)
    decay = 0.0 if protocol == "sphere" else 0.02
    found = sphere.simulate(
        system, 0.1, 40, replicas=3, measure_at=[20, 40], protocol=protocol, weight_decay=decay
    ).squeeze("lr")
    deviates = np.random.default_rng(0).normal(size=(200_000, 5))
    for index in np.ndindex(3, 2):
        w = found["weights"].values[index]
        norm = np.linalg.norm(w)
        grad = np.array([0, 0, 0, 0, 1]) / norm - w[-1] * w / norm**3
        noise = 0.8 * (deviates - (deviates @ w)[:, None] * w / norm**2) / norm
        assert found["loss"].values[index] == pytest.approx(system.loss(w), rel=1e-13)
        assert found["full_grad_norm"].values[index] == pytest.approx(np.linalg.norm(grad), rel=1e-12)
        # 200 000 samples know a mean to 0.2 %; 5 standard errors.
        mean = np.linalg.norm(grad + noise, axis=1).mean()
        assert found["mean_grad_norm"].values[index] == pytest.approx(mean, rel=5e-3)
        snr = np.linalg.norm(grad) / np.sqrt((noise**2).sum(axis=1).mean())
        assert found["snr"].values[index] == pytest.approx(snr, rel=5e-3)


@on_all_kernels
def test_the_window_is_the_end_of_the_trajectory():
    found = sphere.simulate(UP, LRS, 500, replicas=5, measure_at=np.arange(501), window=40, stride=7)
    steps = found["window_step"].values
    assert steps[-1] == 500
    assert (np.diff(steps) == 7).all()
    same = found.sel(step=steps)
    np.testing.assert_array_equal(found["trajectory"], same["weights"])
    np.testing.assert_allclose(found["window_loss"], same["loss"], rtol=1e-14)
    np.testing.assert_allclose(found["window_loss_mean"], same["loss"].mean("step"), rtol=1e-13)
    np.testing.assert_allclose(found["window_loss_variance"], same["loss"].var("step"), rtol=1e-9)
    np.testing.assert_array_equal(found["final_weights"], found["trajectory"].isel(window=-1))
    assert found["effective_samples"].shape == (3, 5)


@pytest.mark.parametrize("sampling", ["iid", "epochs"])
def test_the_same_bits_for_any_grouping(sampling):
    system = SYSTEMS["D = 17"]
    settings = {"steps": 97, "batch_size": 3, "sampling": sampling, "seed": 11, "window": 5, "stride": 9}
    whole = sphere.simulate(system, LRS, replicas=37, threads=1, **settings)
    for threads in (2, 3, 8):
        xr.testing.assert_identical(
            whole, sphere.simulate(system, LRS, replicas=37, threads=threads, **settings)
        )
    alone = sphere.simulate(system, LRS[1], replicas=4, **settings)
    xr.testing.assert_equal(whole.sel(lr=[LRS[1]]).isel(replica=slice(4)), alone)
    before = _core.chosen_instruction_set()
    try:
        for name in _core.instruction_sets():
            try:
                _core.choose_instruction_set(name)
            except ValueError:
                continue  # this processor lacks it
            for other in (system, UP, SYSTEMS["noise, D = 3"], SYSTEMS["noise, D = 16"]):
                usual = settings if isinstance(other, sphere.Quadratics) else {"steps": 97, "window": 5}
                here = sphere.simulate(other, LRS, replicas=9, retraction="exponential", **usual)
                _core.choose_instruction_set(before)
                xr.testing.assert_identical(
                    here, sphere.simulate(other, LRS, replicas=9, retraction="exponential", **usual)
                )
                _core.choose_instruction_set(name)
    finally:
        _core.choose_instruction_set(before)


@on_all_kernels
@given(
    first=st.integers(1, 30),
    second=st.integers(1, 30),
    batch_size=st.integers(1, 5),
    sampling=st.sampled_from(["iid", "epochs"]),
    dtype=st.sampled_from(["float32", "float64"]),
    kind=st.sampled_from(
        [
            {"retraction": "projection"},
            {"retraction": "exponential"},
            {"protocol": "fixed-lr", "weight_decay": 0.1},
            {"protocol": "fixed-elr", "weight_decay": 0.1},
        ]
    ),
)
def test_a_continued_simulation_equals_an_uninterrupted_one(first, second, batch_size, sampling, dtype, kind):
    system = SYSTEMS["D = 2"]
    settings = {"replicas": 3, "batch_size": batch_size, "sampling": sampling, "dtype": dtype, **kind}
    whole = sphere.simulate(system, LRS, first + second, window=second, measure_at=[first + 1], **settings)
    begun = sphere.simulate(system, LRS, first, **settings)
    xr.testing.assert_identical(whole, sphere.resume(begun, second, window=second, measure_at=[first + 1]))


def test_a_simulation_goes_on_from_a_file(tmp_path):
    for system in (UP, SYSTEMS["noise, D = 3"]):
        begun = sphere.simulate(system, LRS, 33, replicas=2)
        begun.to_netcdf(tmp_path / "begun.nc", engine="h5netcdf")
        read = xr.load_dataset(tmp_path / "begun.nc", engine="h5netcdf")
        whole = sphere.simulate(system, LRS, 80, replicas=2)
        np.testing.assert_array_equal(sphere.resume(read, 47)["final_weights"], whole["final_weights"])


def test_draws_are_known_by_seed_replica_and_step():
    for system, batch_size in ((UP, 2), (SYSTEMS["noise, D = 3"], 1)):
        all_of_them = sphere.draws(system, 50, 4, batch_size, seed=5)
        np.testing.assert_array_equal(
            all_of_them[:2, 13:], sphere.draws(system, 37, 2, batch_size, seed=5, first_step=13)
        )
        assert (all_of_them != sphere.draws(system, 50, 4, batch_size, seed=6)).any()
        assert (all_of_them[0] != all_of_them[1]).any()


@given(samples=st.integers(1, 40), batch_size=st.integers(1, 40), first=st.integers(0, 100))
def test_an_epoch_is_a_permutation(samples, batch_size, first):
    if batch_size > samples:
        return
    per_epoch = samples // batch_size
    drawn = sphere.draws(
        random_quadratics(samples, 3), 3 * per_epoch, 2, batch_size, 1, "epochs", first_step=first * per_epoch
    )
    for epoch in drawn.reshape(2 * 3, -1):
        assert len(set(epoch)) == len(epoch)
        assert set(epoch) <= set(range(samples))


def test_draws_have_the_right_distribution():
    system = random_quadratics(6, 3)
    for sampling in ("iid", "epochs"):
        counts = np.bincount(sphere.draws(system, 10_000, 6, sampling=sampling).ravel(), minlength=6)
        # A chi-square of 5 degrees of freedom is below 25.7 with a probability of 1 - 1e-4.
        assert ((counts - 10_000) ** 2 / 10_000).sum() < 25.7
    normal = sphere.draws(sphere.IsotropicNoise(5, 1.0), 20_000, 10)
    count = normal.size
    for power, moment, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96), (6, 15, 10_170)):
        assert abs((normal**power).mean() - moment) < 4.5 * np.sqrt(variance / count)
    correlation = np.corrcoef(normal.reshape(-1, 5).T) - np.eye(5)
    assert np.abs(correlation).max() < 4.5 / np.sqrt(200_000)


@on_all_kernels
def test_starting_points():
    own = sphere.simulate(UP, 0.1, 1, replicas=4000, measure_at=[0])["weights"].values[0, :, 0]
    np.testing.assert_allclose(np.linalg.norm(own, axis=1), 1.0, rtol=1e-15)
    # Uniform on the sphere: each coordinate has the mean 0 and the variance 1/3.
    assert np.abs(own.mean(axis=0)).max() < 4.5 / np.sqrt(3 * 4000)
    for start in (own[0], own[:3], np.stack([own[:3], own[3:6]])):
        found = sphere.simulate(UP, [0.1, 0.2], 1, start=start, replicas=3, measure_at=[0])
        np.testing.assert_allclose(found["weights"][:, :, 0], np.broadcast_to(start, (2, 3, 3)), rtol=1e-15)


@on_all_kernels
def test_settings_change_the_result():
    base = {"replicas": 2, "seed": 1, "start": sphere.PAPER_START}
    first = sphere.simulate(UP, 0.1, 100, **base)["final_weights"]
    for other in (
        {"seed": 2},
        {"retraction": "exponential"},
        {"batch_size": 2},
        {"sampling": "epochs"},
        {"protocol": "fixed-lr"},
        {"protocol": "fixed-lr", "weight_decay": 0.1},
        {"protocol": "fixed-elr", "weight_decay": 0.1},
    ):
        assert (sphere.simulate(UP, 0.1, 100, **{**base, **other})["final_weights"] != first).any(), other


@on_all_kernels
def test_float32_follows_float64():
    for system in (UP, SYSTEMS["noise, D = 16"]):
        wide, narrow = (
            sphere.simulate(system, 0.1, 50, replicas=20, dtype=dtype)["final_weights"]
            for dtype in ("float64", "float32")
        )
        assert narrow.dtype == np.float32
        # 50 steps with roundings of 1e-7, which add up or are contracted.
        np.testing.assert_allclose(narrow, wide, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lr": [0.1, 0.0]}, "lr: must be positive and finite"),
        ({"lr": [-0.1]}, "lr: must be positive and finite"),
        ({"lr": [np.nan]}, "lr: must be positive and finite"),
        ({"lr": [[0.1]]}, "lr: must be a number"),
        ({"lr": []}, "lr: must be a number"),
        ({"lr": 1e-50, "dtype": "float32"}, "lr: must be positive and finite in float32"),
        ({"steps": 0}, "steps: must be an integer from 1"),
        ({"steps": 10**20}, "steps: must be an integer from 1"),
        ({"measure_at": [101]}, "measure_at: must lie between 0 and 100"),
        ({"measure_at": [-1]}, "measure_at: must lie between 0 and 100"),
        ({"measure_at": [5, 5]}, "measure_at: must be integers that ascend"),
        ({"measure_at": [0.5]}, "measure_at: must be integers that ascend"),
        ({"batch_size": 0}, "batch_size: must be an integer from 1"),
        ({"batch_size": 2**20}, "batch_size: must be an integer from 1 to 32768"),
        ({"batch_size": 4, "sampling": "epochs"}, "batch_size: 4 is more than the 3 samples"),
        ({"window": 11, "stride": 10}, "window: 11 samples every 10 steps are more than the 100 steps"),
        ({"window": -1}, "window: must be an integer from 0"),
        ({"stride": 0, "window": 1}, "stride: must be an integer from 1"),
        ({"replicas": 0}, "replicas: must be an integer from 1"),
        ({"replicas": 2**31, "measure_at": range(100)}, "GiB"),
        ({"replicas": 10**9, "window": 100}, "GiB"),
        ({"seed": -1}, "seed: must be an integer from 0"),
        ({"retraction": "none"}, "retraction: must be one of projection, exponential"),
        ({"protocol": "free"}, "protocol: must be one of sphere, fixed-lr, fixed-elr"),
        ({"dtype": "float16"}, "dtype: must be one of float64, float32"),
        ({"device": "gpu"}, "device: must be cpu, cuda or cuda:N, not 'gpu'"),
        ({"device": "mps"}, "device: must be cpu, cuda or cuda:N, not 'mps'"),
        ({"device": "cuda:99"}, "device: cuda:99 cannot be used: "),
        ({"record": ["los"]}, "record: must be one of loss"),
        ({"weight_decay": 0.1}, "weight_decay: must be 0 on the sphere"),
        ({"protocol": "fixed-lr", "weight_decay": -0.1}, "weight_decay: must be finite and not negative"),
        ({"protocol": "fixed-lr", "retraction": "exponential"}, "retraction: exponential is for the sphere"),
        ({"start": [1.0, 0.0]}, r"start: must have the shape \[3\]"),
        ({"start": [0.0, 0.0, 0.0]}, "start: a point is zero"),
        ({"start": [1.0, 1.0, 0.0]}, "start: the vector has the norm 1.41421"),
        ({"start": [np.nan, 1.0, 0.0]}, "start: the element at .0. is not finite"),
        ({"threads": 0}, "threads: must be an integer from 1"),
        ({"protocol": "fixed-lr", "weight_decay": 30.0, "lr": 0.1, "steps": 2000}, "left the finite numbers"),
    ],
)
def test_bad_input(change, message):
    arguments = {"lr": 0.1, "steps": 100, **change}
    with pytest.raises(ValueError, match=message):
        sphere.simulate(UP, **arguments)


def test_a_signal_stops_a_simulation():
    code = (
        # A shell may have started the tests with SIGINT ignored.
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "import pythermo as pt; system = pt.sphere.underparameterized(); print('begun', flush=True);"
        "pt.sphere.simulate(system, 0.1, 10**11, replicas=64)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(2.0)  # the simulation would take an hour
    process.send_signal(signal.SIGINT)
    try:
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode != 0
    assert "KeyboardInterrupt" in errors


def test_bad_kinds():
    with pytest.raises(TypeError, match="system: must be Quadratics or IsotropicNoise"):
        sphere.simulate("UP", 0.1, 10)
    with pytest.raises(TypeError, match=r"steps: must be an int, not 1\.5"):
        sphere.simulate(UP, 0.1, 1.5)
    with pytest.raises(ValueError, match="isotropic noise has no samples"):
        sphere.simulate(sphere.IsotropicNoise(3, 1.0), 0.1, 10, batch_size=2)
    with pytest.raises(ValueError, match="simulated: lacks"):
        sphere.resume(xr.Dataset(), 10)


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        ([1.0, 0.0], r"shape \[N, D\]"),
        ([[1.0], [1.0]], r"D >= 2"),
        (np.zeros((0, 3)), r"N >= 1"),
        ([[1.0, 0.0], [np.nan, 1.0]], r"vectors: the element at \[1, 0\] is not finite"),
        ([[1.0, 0.0], [0.0, 0.0]], r"vectors: row \[1\] has the norm 0"),
        ([[1.0, 0.0], [0.0, 2.0]], r"vectors: row \[1\] has the norm 2"),
    ],
)
def test_bad_vectors(vectors, message):
    with pytest.raises(ValueError, match=message):
        sphere.Quadratics(vectors)


@pytest.mark.parametrize(
    ("dim", "sigma", "message"),
    [(1, 1.0, "dim"), (2.5, 1.0, "dim"), (3, -1.0, "sigma"), (3, np.inf, "sigma")],
)
def test_bad_noise(dim, sigma, message):
    with pytest.raises((ValueError, TypeError), match=f"{message}: must be"):
        sphere.IsotropicNoise(dim, sigma)


@pytest.mark.parametrize("freedom", [2, 100, 399, 500, 3000])
@pytest.mark.parametrize("full", [0.0, 0.3, 5.0, 300.0])
def test_the_mean_norm_of_noisy_gradients_in_many_dimensions(freedom, full):
    """hyp1f1 overflows from some 500 dimensions on: against the mean over the Poisson mixture of central ones."""
    half = 0.5 * full**2
    j = np.arange(max(0, int(half - 40 * np.sqrt(half) - 40)), int(half + 40 * np.sqrt(half) + 80))
    weight = np.exp(j * np.log(half) - half - gammaln(j + 1)) if half > 0 else (j == 0) * 1.0
    norm = np.sqrt(2) * np.exp(gammaln((freedom + 2 * j + 1) / 2) - gammaln((freedom + 2 * j) / 2))
    found = mean_noisy_norm(np.array([full]), np.array([1.0]), freedom)
    # gammaln itself is off by some 1e-12 of thousands; the series by 1e-8.
    np.testing.assert_allclose(found, (weight * norm).sum(), rtol=2e-8)


PARTS = {
    "the first replicas": {"replica": [0, 1]},
    "the last replicas": {"replica": [2, 3]},
    "in another order": {"replica": [3, 0, 2], "lr": [2, 0]},
    "one replica": {"replica": 3},
    "one learning rate": {"lr": 1},
    "one chain": {"lr": 1, "replica": 2},
}
KINDS_OF_DRAWS = [
    (sphere.IsotropicNoise(3, 0.5), {}),
    (sphere.IsotropicNoise(7, 0.5), {"dtype": "float32"}),
    (sphere.overparameterized(), {"batch_size": 2}),
    (UP, {"batch_size": 2, "sampling": "epochs"}),
    (UP, {"protocol": "fixed-elr", "weight_decay": 0.1}),
]


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("emulated", [False, True])
def test_a_part_goes_on_as_it_would_in_the_whole(part, emulated, monkeypatch):
    if emulated:
        backends.emulate(monkeypatch, "shuffled")
    # Dimensions that a single index leaves out come back.
    whole = {name: np.atleast_1d(chosen) for name, chosen in PARTS[part].items()}
    for system, settings in KINDS_OF_DRAWS:
        found = sphere.simulate(system, [0.1, 0.2, 0.3], 7, replicas=4, seed=2, **settings)
        further = {"steps": 11, "measure_at": [9, 18], "window": 3, "stride": 2}
        expected = sphere.resume(found, **further).isel(whole)
        again = sphere.resume(found.isel(PARTS[part]), **further)
        xr.testing.assert_identical(again, expected)
        # And a part of what went on.
        twice = sphere.resume(again.isel(lr=[0], replica=[-1]), 5)
        xr.testing.assert_identical(
            twice, sphere.resume(sphere.resume(found, **further), 5).isel(whole).isel(lr=[0], replica=[-1])
        )


def test_parts_that_went_on_apart_are_the_whole():
    found = sphere.simulate(UP, [0.1, 0.2], 5, replicas=4)
    apart = [sphere.resume(found.sel(replica=replicas), 9) for replicas in ([0, 1], [2, 3])]
    together = sphere.resume(found, 9)
    xr.testing.assert_identical(
        xr.concat(apart, "replica", data_vars="minimal", coords="minimal", compat="override")[
            "final_weights"
        ],
        together["final_weights"],
    )
    assert not np.array_equal(apart[0]["final_weights"], apart[1]["final_weights"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda found: found.assign_coords(replica=[0, -1]),
            "simulated: replicas are known by their numbers",
        ),
        (lambda found: found.assign_coords(replica=[0.5, 1.0]), "simulated: replicas are known by"),
        (lambda found: found.drop_vars("replica"), "simulated: lacks replica"),
        (lambda found: found.isel(dim=0), "simulated: final_weights must have the dimensions"),
        (lambda found: found.stack(chain=("lr", "replica")), "simulated: "),
    ],
)
def test_what_cannot_go_on_is_named(change, message):
    with pytest.raises(ValueError, match=message):
        sphere.resume(change(sphere.simulate(UP, [0.1, 0.2], 5, replicas=2)), 5)
