import numpy as np
import torch
from tiny import TINY

import pythermo as pt
from pythermo._parameters import flatten
from pythermo.models.layers import trained_parameters


def test_the_entropy_of_the_seeds_is_that_of_their_weights(tmp_path, one_worker):
    config = TINY.changed(**{"measurement.snapshots": 2})
    sweep = pt.sweep(config, [0.02, 0.05], tmp_path, seeds=4, executor=one_worker)
    found = sweep["ensemble_entropy"]
    assert found.dims == ("lr", "snapshot", "ensemble_k")
    assert found["snapshot"].values.tolist() == [0, 15]
    assert found["ensemble_k"].values.tolist() == [1, 2, 3]
    for lr in found["lr"].values:
        networks = [pt.load_network(tmp_path / pt.Member(lr, seed).folder) for seed in range(4)]
        points = torch.stack([flatten(trained_parameters(one)) for one in networks])
        np.testing.assert_allclose(found.sel(lr=lr, snapshot=15), pt.knn_graph_entropy(points, [1, 2, 3]))
    # All start at one point, whose logarithm is cut off.
    assert (found.sel(snapshot=0) < found.sel(snapshot=15) - 1e4).all()
    assert pt.load_sweep(tmp_path).identical(sweep)


def test_where_a_seed_lacks_the_entropy_of_the_others_is_not_taken_for_it(tmp_path, one_worker):
    pt.sweep(TINY, [0.02, 0.05], tmp_path, seeds=2, executor=one_worker)
    more = pt.sweep(TINY, [0.02], tmp_path, seeds=3, executor=one_worker)
    assert more["ensemble_entropy"].notnull().all()
    loaded = pt.load_sweep(tmp_path)["ensemble_entropy"]
    assert loaded.sel(lr=0.02).notnull().all()
    assert loaded.sel(lr=0.05).isnull().all()


def test_one_seed_has_no_ensemble_and_neither_have_weights_that_were_not_kept(tmp_path, one_worker):
    assert "ensemble_entropy" not in pt.sweep(TINY, [0.02], tmp_path / "one", executor=one_worker)
    none = TINY.changed(**{"measurement.snapshots": 0})
    assert "ensemble_entropy" not in pt.sweep(none, [0.02], tmp_path / "none", seeds=2, executor=one_worker)
