import numpy as np
import pytest
import torch

import pythermo as pt
from pythermo.estimators.curvature import (
    batch_sharpness,
    hessian_product,
    hessian_trace,
    largest_curvature,
)


def quadratic(dim=12, members=3):
    """Return symmetric matrices, the gradients of 1/2 w^T A w, weights and signs, members last."""
    random = np.random.default_rng(0)
    half = torch.from_numpy(random.normal(size=(members, dim, dim)))
    matrices = half + half.mT
    weights = torch.from_numpy(random.normal(size=(dim, members)))
    signs = torch.from_numpy(random.choice([-1.0, 1.0], size=(400, dim, members)))
    return matrices, (lambda at: torch.einsum("mij,jm->im", matrices, at)), weights, signs


def test_products_with_the_hessian_of_a_quadratic_are_exact():
    _, gradient, weights, signs = quadratic()
    for step in (1e-3, 0.1):
        found = hessian_product(gradient, weights, signs[0], step)
        torch.testing.assert_close(found, gradient(signs[0]), rtol=1e-9, atol=1e-9)


def test_the_trace_is_within_the_error_of_its_probes():
    matrices, gradient, weights, signs = quadratic()
    found = hessian_trace(gradient, weights, signs, 1e-2)
    off_diagonal = matrices - torch.diag_embed(matrices.diagonal(dim1=1, dim2=2))
    error = torch.sqrt(2 * off_diagonal.square().sum(dim=(1, 2)) / len(signs))
    expected = matrices.diagonal(dim1=1, dim2=2).sum(dim=1)
    assert ((found - expected).abs() < 4 * error).all()
    assert ((found - expected).abs() > 0).all()  # it is an estimate
    # All 2^D signs together are exact: of a diagonal Hessian one is enough.
    alone = hessian_trace(lambda at: 3.0 * at, weights, signs[:1], 1e-2)
    torch.testing.assert_close(alone, torch.full((3,), 36.0, dtype=torch.float64))


def test_the_largest_curvature():
    matrices, gradient, weights, signs = quadratic()
    values = torch.linalg.eigvalsh(matrices)
    expected = torch.where(values[:, -1].abs() > values[:, 0].abs(), values[:, -1], values[:, 0])
    found = largest_curvature(gradient, weights, signs[0], 3000, 1e-2)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=0)


def test_the_sharpness_of_minibatches_is_that_along_their_gradients():
    matrices, gradient, weights, _ = quadratic()
    batches = [gradient, lambda at: 3.0 * gradient(at), torch.zeros_like]
    own = gradient(weights)
    curved = torch.einsum("im,mij,jm->m", own, matrices, own)
    expected = (1.0 + 27.0) * curved / (10.0 * own.square().sum(dim=0))
    torch.testing.assert_close(batch_sharpness(batches, weights, 1e-2), expected, rtol=1e-9, atol=1e-9)
    assert batch_sharpness([torch.zeros_like], weights, 1e-2).isnan().all()


@pytest.mark.parametrize("loss_of_batch", [0.0, 1.0])
def test_a_step_at_twice_over_the_sharpness_leaves_the_loss(loss_of_batch):
    """Of 1/2 w^T A w and one minibatch: L(w - lr g) = L(w) at lr = 2 / sharpness, exactly."""
    matrices, gradient, weights, _ = quadratic()
    lr = 2.0 / batch_sharpness([gradient], weights, 1e-2)

    def loss(at):
        return loss_of_batch + 0.5 * torch.einsum("im,mij,jm->m", at, matrices, at)

    torch.testing.assert_close(loss(weights - lr * gradient(weights)), loss(weights), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("step", [1e-4, 1e-3])
def test_the_trace_of_a_scale_invariant_loss_is_its_laplacian_on_the_sphere(step):
    """L = mean <x_i, w>^2 / |w|^2: eigenvalues of the second spherical harmonics, -2 D (L - trace / D)."""
    system = pt.sphere.underparameterized()
    point = np.array([0.6, 0.0, 0.8])

    def gradient(at):
        return torch.from_numpy(system.gradients(at.numpy().T).mean(axis=-2).T.copy())

    all_signs = torch.tensor(np.array(np.meshgrid(*[[-1.0, 1.0]] * 3)).reshape(3, -1).T[..., None])
    found = hessian_trace(gradient, torch.from_numpy(point)[:, None], all_signs, step)
    expected = -2 * 3 * (system.loss(point) - 1 / 3)
    # Of second order in the step, with a constant of order 10.
    assert float(found) == pytest.approx(expected, abs=20 * step**2)


def test_a_kink_counts_that_lies_between_the_two_sides():
    """|x - 1|: no curvature at x = 1.001 by differentiation, 2 / width by a difference across the kink."""

    def gradient(at):
        return torch.sign(at - 1.0)

    weights, along = torch.tensor([[1.001]], dtype=torch.float64), torch.ones(1, 1, dtype=torch.float64)
    assert float(hessian_product(gradient, weights, along, 1e-4)) == 0.0
    assert float(hessian_product(gradient, weights, along, 1e-2)) == pytest.approx(1 / 0.01001)
