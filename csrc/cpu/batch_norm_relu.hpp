// Batch normalisation, max pooling and ReLU in one pass over channels-last images, on the CPU.
#pragma once

#include "../tensor_view.hpp"

namespace pythermo::cpu {

// Images x [N, H * width, C] are normalised channel by channel with their own mean and variance + eps; then
// come the largest of each pool x pool pixels (1 or 2; pixels beyond the last whole ones are left out) and
// ReLU. Writes output [N, h * w, C] and statistics [2 * C]: the means, and one over the standard deviations.
// The same bits for any number of threads. Throws std::invalid_argument for sizes that do not fit.
void batch_norm_relu(const TensorView& x, std::size_t width, std::size_t pool, double eps,
                     const TensorView& output, const TensorView& statistics, int threads);

// Writes the gradient grad_x of x from that of the output.
void batch_norm_relu_backward(const TensorView& x, std::size_t width, std::size_t pool,
                              const TensorView& output, const TensorView& statistics, const TensorView& grad,
                              const TensorView& grad_x, int threads);

}  // namespace pythermo::cpu
