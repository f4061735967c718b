"""Every layout of an array, and every kind of it, gives what a plain copy gives, or is refused by name."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

import pythermo as pt

RNG = np.random.default_rng(0)
CLOUD = RNG.normal(size=(12, 3))
ON_SPHERE = CLOUD / np.linalg.norm(CLOUD, axis=1, keepdims=True)
VECTOR = RNG.normal(size=8)
POSITIVE = np.geomspace(0.1, 1.0, 8)
MATRIX = ((CLOUD[:, None] - CLOUD[None]) ** 2).sum(-1) + np.diag(np.full(12, np.inf))
IMAGES = RNG.normal(size=(2, 3, 4, 4))
SYSTEM = pt.sphere.overparameterized()
NOISY = pt.sphere.IsotropicNoise(3, 0.5)


def appended(weights):
    window = pt.TrajectoryEntropy(8, window=3, dtype=torch.float64)
    window.append(weights)
    return window.state_dict()["points"]


def updated(points):
    matrix = np.empty((12, 12))
    pt.ops.update_squared_distances_(matrix, points, 0, 12)
    return matrix


def simulated(**changed):
    return pt.sphere.simulate(SYSTEM, **{"lr": 0.1, "steps": 5, **changed})["final_weights"].values


# The name of an argument, what it may be, and the call. Those in OPS take tensors or arrays, not lists.
OPS = {
    "knn_distances": ("points", CLOUD, lambda x: pt.ops.knn_distances(x, 3)),
    "nearest_neighbors": ("points", CLOUD, lambda x: pt.ops.nearest_neighbors(x, 3)),
    "knn_distance_sums": ("points", CLOUD, lambda x: pt.ops.knn_distance_sums(x, [2, 1])),
    "update_squared_distances_": ("points", CLOUD, updated),
    "matrix_distance_sums": ("matrix", MATRIX, lambda x: pt.ops.matrix_distance_sums(x, [1, 2])),
    "gradient_sums_": ("grad", VECTOR, lambda x: pt.ops.gradient_sums_(x)),
    "gradient_sums_, center": ("center", VECTOR, lambda x: pt.ops.gradient_sums_(VECTOR[::-1].copy(), x)),
    "sketch": ("weights", VECTOR, lambda x: pt.ops.sketch(x, 4)),
    "batch_norm_relu": ("x", IMAGES, lambda x: pt.ops.batch_norm_relu(x, 2)),
    "knn_graph_entropy": ("points", CLOUD, pt.knn_graph_entropy),
    "knn_graph_entropy_error": ("points", CLOUD, lambda x: pt.knn_graph_entropy_error(x, blocks=3)),
    "gradient_cloud_entropy": ("grads", CLOUD, lambda x: pt.gradient_cloud_entropy(x, 0.1)),
    "gradient_noise": ("full_grad", VECTOR, lambda x: pt.gradient_noise(x, [2 * VECTOR])),
    "gradient_noise, grads": ("stochastic_grads", CLOUD, lambda x: pt.gradient_noise(np.ones(3), x)),
    "gradient_noise_about_mean": ("stochastic_grads", CLOUD, pt.gradient_noise_about_mean),
    "TrajectoryEntropy": ("weights", VECTOR, appended),
}
ESTIMATORS = {
    "kozachenko_leonenko_entropy": ("points", CLOUD, pt.kozachenko_leonenko_entropy),
    "on the sphere": ("points", ON_SPHERE, lambda x: pt.kozachenko_leonenko_entropy(x, 2, "sphere")),
    "sphere_histogram_entropy": ("points", ON_SPHERE, pt.sphere_histogram_entropy),
    "integrated_autocorrelation_time": ("series", CLOUD.T, pt.integrated_autocorrelation_time),
    "effective_sample_size": ("series", VECTOR, pt.effective_sample_size),
    "trajectory_autocorrelation_time": ("points", CLOUD, pt.trajectory_autocorrelation_time),
    "fit_temperature, lr": ("lr", POSITIVE, lambda x: pt.fit_temperature(x, POSITIVE, VECTOR)),
    "fit_temperature, energy": ("energy", VECTOR, lambda x: pt.fit_temperature(POSITIVE, x, POSITIVE)),
    "fit_temperature, entropy": ("entropy", VECTOR, lambda x: pt.fit_temperature(POSITIVE, POSITIVE, x)),
    "fit_power_law, x": ("x", POSITIVE, lambda x: pt.fit_power_law(x, POSITIVE)),
    "fit_power_law, y": ("y", POSITIVE, lambda x: pt.fit_power_law(POSITIVE, x)),
    "free_energy, energy": ("energy", VECTOR, lambda x: pt.free_energy(x, VECTOR, 0.1)),
    "free_energy, temperature": ("temperature", VECTOR, lambda x: pt.free_energy(VECTOR, VECTOR, x)),
    "temperature_along_run": ("entropy", VECTOR, lambda x: pt.temperature_along_run(VECTOR, x)),
    "Quadratics": ("vectors", ON_SPHERE, lambda x: pt.sphere.Quadratics(x).vectors),
    "Quadratics.loss": ("w", CLOUD, SYSTEM.loss),
    "Quadratics.gradients": ("w", CLOUD, SYSTEM.gradients),
    "IsotropicNoise.loss": ("w", CLOUD, NOISY.loss),
    "IsotropicNoise.temperature": ("lr", POSITIVE, NOISY.temperature),
    "von_mises_fisher_energy": ("temperature", POSITIVE, lambda x: pt.sphere.von_mises_fisher_energy(x, 3)),
    "von_mises_fisher_entropy": ("temperature", POSITIVE, lambda x: pt.sphere.von_mises_fisher_entropy(x, 3)),
    "ideal_gas": ("lr", POSITIVE, lambda x: pt.sphere.ideal_gas(x, 0.1, 1.0, 3, "fixed-lr").radius),
    "simulate, lr": ("lr", POSITIVE, lambda x: simulated(lr=x)),
    "simulate, start": ("start", ON_SPHERE[:2], lambda x: simulated(start=x, replicas=2)),
}
EVERYWHERE = {**OPS, **ESTIMATORS}


class Tagged(np.ndarray):
    """An array of a user's class."""


class TaggedTensor(torch.Tensor):
    """A tensor of a user's class."""


def strided(array, steps):
    """Return the same array as a view of a larger one with these steps, negative ones from the end."""
    room = np.zeros([abs(step) * size for step, size in zip(steps, array.shape, strict=True)], array.dtype)
    view = room[tuple(slice(None, None, step) for step in steps)]
    view[...] = array
    return view


def unaligned(array):
    memory = np.zeros(array.nbytes + 1, np.uint8)[1:]
    view = memory.view(array.dtype).reshape(array.shape)
    view[...] = array
    return view


def read_only(array):
    copy = array.copy()
    copy.flags.writeable = False
    return copy


def in_a_record(array):
    record = np.zeros(array.shape, [("before", "i1"), ("value", array.dtype)])
    record["value"] = array
    return record["value"]


def as_matrix(array):
    with warnings.catch_warnings(action="ignore", category=PendingDeprecationWarning):
        return np.asmatrix(array) if array.ndim == 2 else array


LAYOUTS = {
    "big-endian": lambda x: x.astype(x.dtype.newbyteorder(">")),
    "Fortran": np.asfortranarray,
    "read-only": read_only,
    "unaligned": unaligned,
    "in a record": in_a_record,
    "user's class": lambda x: x.view(Tagged),
    "masked, of which nothing": np.ma.MaskedArray,
    "matrix": as_matrix,
}
CONTAINERS = {
    "array": lambda x: x,
    "tensor": lambda x: torch.from_numpy(np.array(x, dtype=x.dtype.newbyteorder("="))),
    "tensor with a gradient": lambda x: torch.tensor(
        np.ascontiguousarray(x).tolist(), dtype=torch.float64
    ).requires_grad_(),
    "tensor's columns": lambda x: (
        torch.from_numpy(np.array(x, x.dtype.newbyteorder("=")).T.copy()).T
        if x.ndim == 2
        else torch.from_numpy(np.array(x, x.dtype.newbyteorder("=")))
    ),
    "user's tensor": lambda x: torch.from_numpy(np.array(x, x.dtype.newbyteorder("="))).as_subclass(
        TaggedTensor
    ),
}


def values(result):
    """Return a result, however it is made up, as a list of plain arrays."""
    if isinstance(result, tuple):
        return [one for part in result for one in values(part)]
    if hasattr(result, "__dataclass_fields__"):
        return [np.asarray(getattr(result, name)) for name in result.__dataclass_fields__]
    return [np.asarray(result.detach() if isinstance(result, torch.Tensor) else result)]


@pytest.mark.parametrize("door", EVERYWHERE)
@given(st.data())
def test_every_layout_is_a_plain_copy_or_refused_by_name(door, data):
    name, plain, call = EVERYWHERE[door]
    dtype = data.draw(st.sampled_from([np.float64, np.float32]), "dtype")
    single = dtype is np.float32 and plain.ndim <= 2
    assume(not (single and ("center" in door or door in ("matrix_distance_sums", "TrajectoryEntropy"))))
    array = plain.astype(dtype) if single else plain
    steps = data.draw(st.tuples(*[st.sampled_from([1, 1, 2, -1, -3])] * array.ndim), "steps")
    layout = data.draw(st.sampled_from(sorted(LAYOUTS)), "layout")
    container = data.draw(st.sampled_from(sorted(CONTAINERS)), "container")
    given_array = CONTAINERS[container](LAYOUTS[layout](strided(array, steps)))
    if container == "tensor with a gradient":
        array = array.astype(np.float64)
    try:
        expected = call(np.array(array, order="C"))
    except ValueError as error:  # float32 rows are of norm 1 to 1e-6 only
        assume("norm" not in str(error))
        raise
    try:
        found = call(given_array)
    except (TypeError, ValueError) as error:
        assert str(error).startswith(name), error  # noqa: PT017  # or the values are compared
        refusals = ("contiguous",)
        assert any(word in str(error) for word in refusals), error  # noqa: PT017
        return
    for one, other in zip(values(found), values(expected), strict=True):
        np.testing.assert_array_equal(one, other)
        assert type(one) is np.ndarray


@pytest.mark.parametrize("door", EVERYWHERE)
def test_masked_elements_are_refused_by_name(door):
    name, plain, call = EVERYWHERE[door]
    masked = np.ma.MaskedArray(plain, mask=np.arange(plain.size).reshape(plain.shape) == plain.size // 2)
    with pytest.raises(ValueError, match=rf"^{name}(\[\d+\])?: \d+ elements are masked"):
        call(masked)


WRONG = {
    "sparse": lambda x: torch.from_numpy(x).to_sparse(),
    "complex": lambda x: torch.from_numpy(x).to(torch.complex128),
    "complex array": lambda x: x.astype(complex),
    "negated": lambda x: torch.complex(torch.from_numpy(x), torch.from_numpy(x)).conj().imag,
    "strings": lambda x: x.astype(str),
    "objects": lambda x: x.astype(object),
    "dates": lambda x: np.zeros(x.shape, "datetime64[s]"),
    "records": lambda x: np.zeros(x.shape, [("a", "f8")]),
    "no dimension": lambda x: np.float64(1.0) * np.ones(()),
    "a string": lambda x: "x",
    "nothing": lambda x: None,
    "an object": lambda x: object(),
    "a ragged list": lambda x: [[1.0, 2.0], [3.0]],
    "a list with nothing": lambda x: [1.0, None],
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("door", EVERYWHERE)
def test_what_is_no_array_of_numbers_is_refused_by_name(door, wrong):
    name, plain, call = EVERYWHERE[door]
    if wrong == "nothing" and name in ("center", "start"):
        return  # an argument that may be left out
    if wrong == "no dimension" and name in ("lr", "temperature", "w"):
        return  # a number, or refused below
    with pytest.raises((ValueError, TypeError), match=rf"^{name}"):
        call(WRONG[wrong](plain.copy()))


@pytest.mark.parametrize("door", ESTIMATORS)
def test_lists_are_arrays_where_numbers_come_in(door):
    _, plain, call = ESTIMATORS[door]
    for one, other in zip(values(call(plain.tolist())), values(call(plain.copy())), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("door", OPS)
def test_lists_are_refused_where_memory_comes_in(door):
    name, plain, call = OPS[door]
    if name == "stochastic_grads":
        name = r"stochastic_grads\[0\]"
    with pytest.raises(TypeError, match=f"^{name}: must be a torch tensor or a numpy array, not"):
        call(plain.tolist())


@pytest.mark.parametrize("make", [np.empty, torch.empty])
def test_no_clouds_give_no_results(make):
    none = make((0, 10, 3))
    assert pt.ops.knn_distances(none, 2).shape == (0, 10, 2)
    assert [one.shape for one in pt.ops.nearest_neighbors(none, 2)] == [(0, 10, 2)] * 2
    assert pt.ops.knn_distance_sums(none, [1, 2, 5]).shape == (0, 3)
    assert pt.knn_graph_entropy(none).shape == (0, 4)
    assert pt.knn_graph_entropy_error(none, blocks=2).shape == (0, 4)
    assert pt.kozachenko_leonenko_entropy(none).shape == (0,)
    assert pt.sphere_histogram_entropy(none).shape == (0,)
    assert pt.integrated_autocorrelation_time(none).shape == (0, 10)
    assert pt.trajectory_autocorrelation_time(none).shape == (0,)
    for call in (lambda x: pt.ops.knn_distances(x, 1), pt.knn_graph_entropy, pt.kozachenko_leonenko_entropy):
        with pytest.raises(ValueError, match=r"^points: the shape must be"):
            call(make((4, 0, 3)))


def test_numbers_of_numpy_and_torch_are_numbers():
    cloud = CLOUD.copy()
    expected = pt.ops.knn_distances(cloud, 3)
    for k in (np.int64(3), np.uint8(3), np.array(3), torch.tensor(3)):
        np.testing.assert_array_equal(pt.ops.knn_distances(cloud, k), expected)
        assert pt.knn_graph_entropy(cloud, [k]) == pt.knn_graph_entropy(cloud, [3])
    for ks in (np.array([1, 3]), torch.tensor([1, 3]), (one for one in (1, 3))):
        np.testing.assert_array_equal(
            pt.knn_graph_entropy_error(cloud, ks, blocks=3),
            pt.knn_graph_entropy_error(cloud, [1, 3], blocks=3),
        )
    lr = np.float32(0.1)
    np.testing.assert_array_equal(simulated(lr=lr, seed=np.int64(2)), simulated(lr=float(lr), seed=2))
    for wrong in (3.0, np.float64(3.0), "3", None, np.ma.masked):
        with pytest.raises((TypeError, ValueError), match=r"^k: "):
            pt.ops.knn_distances(cloud, wrong)


def test_what_is_changed_in_place_is_the_users_memory():
    total = np.zeros(8)
    pt.ops.gradient_sums_(VECTOR, total=total)
    np.testing.assert_array_equal(total, VECTOR)
    for wrong in (read_only(total), total[::-1], total.astype(">f8"), unaligned(total)):
        with pytest.raises(ValueError, match=r"^total: must be"):
            pt.ops.gradient_sums_(VECTOR, total=wrong)
    with pytest.raises(ValueError, match=r"^matrix: must be"):
        pt.ops.update_squared_distances_(read_only(MATRIX), CLOUD, 0, 12)
    weights = np.array([1.0, 0.0])
    for wrong in (weights[::-1], weights.astype(">f8"), unaligned(weights)):
        with pytest.raises(ValueError, match=r"^weights: must be"):
            pt.ops.projected_sgd_step_(wrong, np.array([0.0, 1.0]), 0.1)
