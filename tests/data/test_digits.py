import pytest
import torch

import pythermo as pt


def test_digits():
    images = pt.data.load("digits")
    assert images.train_images.shape == (1497, 1, 8, 8)
    assert images.test_images.shape == (300, 1, 8, 8)
    assert images.train_images.dtype == torch.float32
    assert images.num_classes == 10
    assert images.channels == 1
    assert float(images.train_images.mean()) == pytest.approx(0.0, abs=1e-5)
    assert float(images.train_images.std(correction=0)) == pytest.approx(1.0, abs=1e-5)
    assert images.train_labels[:10].tolist() == list(range(10))


def test_label_noise_is_fixed_by_the_seed():
    clean = pt.data.load("digits").train_labels
    noisy = pt.data.load("digits", label_noise=0.2, seed=3).train_labels
    assert torch.equal(noisy, pt.data.load("digits", label_noise=0.2, seed=3).train_labels)
    assert not torch.equal(noisy, pt.data.load("digits", label_noise=0.2, seed=4).train_labels)
    # 299 labels are redrawn, a tenth of them to what they were: 269 +- 5 change.
    assert 269 - 20 < int((noisy != clean).sum()) < 269 + 20
    assert torch.equal(
        pt.data.load("digits", label_noise=0.2).test_labels, pt.data.load("digits").test_labels
    )


def test_subsets_have_so_many_images_of_each_class():
    images = pt.data.load("digits", samples_per_class=20)
    assert torch.bincount(images.train_labels).tolist() == [20] * 10
    assert len(images.test_labels) == 300
    rows = {tuple(image.flatten().tolist()) for image in images.train_images}
    assert len(rows) == 200
    assert not torch.equal(
        images.train_images, pt.data.load("digits", samples_per_class=20, seed=2).train_images
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "imagenet"}, "name: 'imagenet' is not a known data set"),
        ({"name": "digits", "label_noise": 1.5}, r"label_noise: must lie in \[0, 1\]"),
        ({"name": "digits", "samples_per_class": 1000}, "1000 wanted, but class 0 has"),
        ({"name": "digits", "samples_per_class": 0}, "samples_per_class: must be an integer from 1"),
        ({"name": "digits", "root": "data"}, "root: digits is bundled"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        pt.data.load(**arguments)
