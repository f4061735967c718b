"""The kernels as functions of tensors or arrays, registered as torch custom operators.

Each function checks its arguments, works on torch tensors and numpy arrays (which share their memory)
and returns the kind that it was given. A kernel runs on the tensor's device, on as many threads as
`torch.get_num_threads` says, and gives the same bits for any number of them.
"""

from pythermo.ops._steps import raise_failed_steps
from pythermo.ops.batch_norm_relu import batch_norm_relu
from pythermo.ops.gradient_sums import gradient_sums_
from pythermo.ops.knn import (
    knn_distance_sums,
    knn_distances,
    matrix_distance_sums,
    nearest_neighbors,
    update_squared_distances_,
)
from pythermo.ops.projected_sgd_step import exponential_sgd_step_, projected_sgd_step_
from pythermo.ops.sketch import sketch
from pythermo.ops.weight_decay_step import fixed_elr_step_, fixed_lr_step_

__all__ = [
    "batch_norm_relu",
    "exponential_sgd_step_",
    "fixed_elr_step_",
    "fixed_lr_step_",
    "gradient_sums_",
    "knn_distance_sums",
    "knn_distances",
    "matrix_distance_sums",
    "nearest_neighbors",
    "projected_sgd_step_",
    "raise_failed_steps",
    "sketch",
    "update_squared_distances_",
]
