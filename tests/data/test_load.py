from typing import get_args

import numpy as np
import pytest
import torch
from published import binary_members, images, small, write_archive
from sklearn.datasets import load_digits

import pythermo as pt
from pythermo.config.schema import DataConfig
from pythermo.data import cifar
from pythermo.data.images import NAMES
from pythermo.data.sources import DATA_SETS

INSTALLED = DATA_SETS["fashion-mnist"].installed
real_images = pytest.mark.skipif(
    not INSTALLED.is_dir(), reason="did not run: the package dataset-fashion-mnist is not installed"
)


def test_the_names_are_those_of_the_configuration():
    assert get_args(DataConfig.model_fields["name"].annotation) == NAMES


@real_images
def test_the_real_fashion_mnist_is_found_without_being_told(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHERMO_DATA", str(tmp_path))
    found = pt.data.load("fashion-mnist")
    assert found.train_images.shape == (60_000, 1, 28, 28)
    assert found.test_images.shape == (10_000, 1, 28, 28)
    assert torch.bincount(found.train_labels).tolist() == [6000] * 10
    assert torch.bincount(found.test_labels).tolist() == [1000] * 10
    # The labels of the first images: an ankle boot, then shirts (https://github.com/zalandoresearch/fashion-mnist).
    assert found.train_labels[:5].tolist() == [9, 0, 0, 3, 0]
    # float32's sums of 5e7 pixels are pairwise
    assert float(found.train_images.double().mean()) == pytest.approx(0.0, abs=1e-5)
    assert float(found.train_images.double().std()) == pytest.approx(1.0, abs=1e-5)
    # Published mean and deviation of the pixels over 255 are 0.2860 and 0.3530: where 0 and 255 come to lie.
    assert float(found.train_images.min()) == pytest.approx(-0.2860 / 0.3530, abs=3e-4)
    assert float(found.train_images.max()) == pytest.approx((1 - 0.2860) / 0.3530, abs=3e-4)


@real_images
def test_images_of_28_pixels_are_padded_to_32():
    narrow = pt.data.load("fashion-mnist", samples_per_class=50)
    wide = pt.data.load("fashion-mnist", samples_per_class=50, side=32)
    assert wide.train_images.shape == (500, 1, 32, 32)
    assert wide.test_images.shape == (10_000, 1, 32, 32)
    assert torch.equal(wide.train_labels, narrow.train_labels)
    assert float(wide.train_images.mean()) == pytest.approx(0.0, abs=1e-5)
    assert float(wide.train_images.std(correction=0)) == pytest.approx(1.0, abs=1e-5)
    black = wide.train_images.min()
    frame = wide.train_images.clone()
    frame[..., 2:30, 2:30] = black
    assert bool((frame == black).all())
    inside, before = wide.train_images[..., 2:30, 2:30].double(), narrow.train_images.double()
    scale = inside.std() / before.std()
    shift = inside.mean() - scale * before.mean()
    assert torch.allclose(inside, scale * before + shift, atol=1e-5)


@real_images
def test_a_class_with_too_few_images():
    assert len(pt.data.load("fashion-mnist", samples_per_class=6000).train_labels) == 60_000
    with pytest.raises(ValueError, match="samples_per_class: 6001 wanted, but class 0 has 6000 images"):
        pt.data.load("fashion-mnist", samples_per_class=6001)


@real_images
def test_a_run_s_images():
    run = {
        "model": {"name": "ConvNet", "width": 1},
        "data": {"name": "fashion-mnist", "samples_per_class": 3, "side": 32, "label_noise": 0.5, "seed": 7},
        "training": {"iterations": 1},
    }
    found = pt.data.load(**pt.RunConfig(**run).data.model_dump())
    expected = pt.data.load("fashion-mnist", samples_per_class=3, side=32, label_noise=0.5, seed=7)
    assert torch.equal(found.train_images, expected.train_images)
    assert torch.equal(found.train_labels, expected.train_labels)


def test_a_batch_is_what_indexing_gives():
    found = pt.data.load("digits")
    indices = torch.tensor([5, 0, 1496, 5])
    pixels, labels = found.batch(indices)
    assert torch.equal(pixels, found.train_images[indices])
    assert torch.equal(labels, found.train_labels[indices])


@pytest.mark.parametrize(("side", "top"), [(9, 0), (10, 1), (32, 12)])
def test_padding_of_any_images(side, top):
    padded = pt.data.load("digits", side=side).train_images
    digits = pt.data.load("digits").train_images
    assert padded.shape == (1497, 1, side, side)
    inside = padded[..., top : top + 8, top : top + 8]
    correlation = np.corrcoef(inside.flatten().numpy(), digits.flatten().numpy())[0, 1]
    assert correlation == pytest.approx(1.0, abs=1e-6)
    assert torch.equal(pt.data.load("digits", side=8).train_images, digits)


@pytest.mark.parametrize("side", [1, 2, 4])
def test_images_of_a_smaller_side_have_the_means_of_squares(side):
    found = pt.data.load("digits", side=side)
    pixels = load_digits().images.reshape(-1, side, 8 // side, side, 8 // side)
    means = np.stack([pixels[:, i, :, j].mean(axis=(1, 2)) for i in range(side) for j in range(side)], 1)
    means = means.reshape(-1, 1, side, side)
    train, test = means[:1497], means[1497:]
    # Float32 sums, standardized.
    np.testing.assert_allclose(found.train_images, (train - train.mean()) / train.std(), atol=1e-5)
    np.testing.assert_allclose(found.test_images, (test - train.mean()) / train.std(), atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"side": 7},
            r"side: must be at least the 8 pixels of the images, or divide them \(1, 2, 4\), not 7",
        ),
        ({"label_noise": -0.1}, r"label_noise: must lie in \[0, 1\], not -0.1"),
        ({"label_noise": float("nan")}, r"label_noise: must lie in \[0, 1\], not nan"),
        ({"seed": -1}, "seed: must be an integer from 0 to .*, not -1"),
        ({"samples_per_class": -1}, "samples_per_class: must be an integer from 1 to .*, not -1"),
        ({"name": "cifar10", "root": "/nowhere"}, "root: must be a folder, and /nowhere is not"),
        ({"name": "cifar"}, "known: digits, fashion-mnist, cifar10, cifar100"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        pt.data.load(**{"name": "digits", **arguments})


@pytest.mark.parametrize("name", ["seed", "samples_per_class", "side", "test_samples", "label_noise"])
@pytest.mark.parametrize("value", ["three", 9.5])
def test_numbers_of_the_wrong_type_are_named(name, value):
    with pytest.raises((TypeError, ValueError), match=f"{name}: must "):
        pt.data.load("digits", **{name: value})


def test_all_labels_may_be_redrawn():
    noisy = pt.data.load("digits", label_noise=1.0).train_labels
    clean = pt.data.load("digits").train_labels
    # A tenth are redrawn to what they were: 150 +- 12.
    assert 150 - 48 < int((noisy == clean).sum()) < 150 + 48


def test_a_file_of_another_size_is_refused(tmp_path, monkeypatch):
    layout = small(cifar.CIFAR10_BINARY, 20)
    write_archive(tmp_path / "cifar-10-binary.tar.gz", binary_members(layout, images(layout)))
    with pytest.raises(ValueError, match=r"data_batch_1\.bin: must have 30730000 bytes, not 61460"):
        pt.data.load("cifar10", root=tmp_path)
    monkeypatch.setenv("PYTHERMO_DATA", str(tmp_path))
    with pytest.raises(ValueError, match="must have 30730000 bytes"):
        pt.data.load("cifar10")


def test_fewer_test_images():
    whole, fewer = pt.data.load("digits"), pt.data.load("digits", test_samples=7)
    assert torch.equal(fewer.test_images, whole.test_images[:7])
    assert torch.equal(fewer.test_labels, whole.test_labels[:7])
    assert torch.equal(fewer.train_images, whole.train_images)
    with pytest.raises(ValueError, match=r"test_samples: must be an integer from 1 to .*, not 0"):
        pt.data.load("digits", test_samples=0)
