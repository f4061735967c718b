// Normalization, pooling and ReLU of members side by side: the rows of batch_norm_relu.hpp, with the lanes of
// lanes_convolution.hpp in each channel. Sums run through a few pixels in float, and then in double.
#pragma once

#include <cstddef>

#include "batch_norm_relu.hpp"
#include "cpu/instruction_set.hpp"
#include "tensor_view.hpp"

// The loops, built for each instruction set.
namespace pythermo::cpu {

// clang-format off
PYTHERMO_FOR_EACH_ISA(
  // Adds x - shift [channels, lanes] over the pixels to sums, and its squares to squares.
  void add_member_moments(const float* x, std::size_t pixels, std::size_t channels, const float* shift,
                          double* sums, double* squares);

  // Adds the gradients of outputs (with ReLU, of those above 0) to sums, and their products with the outputs to
  // products.
  template <bool rectify>
  void add_member_gradients(const float* output, const float* grad, std::size_t pixels, std::size_t channels,
                            double* sums, double* products);
)
// clang-format on

}  // namespace pythermo::cpu

// The kernel on the CPU, in parts: what goes over all images of a batch, in turn with what comes before and
// after for a few images at a time, that these stay in the cache.
namespace pythermo::cpu {

// Images are [N, H, W, C, lanes], outputs [N, h, w, C, lanes] of the pooled images, sums [2 * C * lanes]
// float64, constants [4 * C * lanes] float32.

// Adds images, less the first pixel of `batch`, and their squares to sums.
void lanes_moments(const TensorView& x, const TensorView& batch, const TensorView& sums);

// Writes mean and 1 / deviation, the first half of the constants, from the sums over `batch`.
void lanes_statistics(const TensorView& sums, const TensorView& batch, double eps,
                      const TensorView& constants);

// Writes what is normalized, pooled and, if so, rectified.
void lanes_normalization(const TensorView& x, std::size_t pool, bool rectify, const TensorView& constants,
                         const TensorView& output);

// Adds the gradients of the outputs, and their products with the outputs, to sums.
void lanes_gradient_moments(const TensorView& output, bool rectify, const TensorView& grad,
                            const TensorView& sums);

// Writes the second half of the constants from the sums over all gradients of the outputs.
void lanes_gradient_statistics(const TensorView& sums, const TensorView& batch, const TensorView& constants);

// Writes the gradients of images, which may take their place, from those of their outputs.
void lanes_normalization_backward(const TensorView& x, std::size_t pool, bool rectify,
                                  const TensorView& constants, const TensorView& grad,
                                  const TensorView& grad_x);

}  // namespace pythermo::cpu

// The same on a CUDA device, on a stream and without a wait: images are [groups, N, H, W, C, 32], sums
// [groups * 2 * C * 32], constants [groups * 4 * C * 32].
namespace pythermo::cuda {

// How many float64 numbers of workspace the sums over such images need, of one stream at a time.
std::size_t lanes_moments_workspace_size(const TensorView& x);
void lanes_moments(const TensorView& x, const TensorView& batch, const TensorView& sums,
                   const TensorView& workspace, std::uintptr_t stream);
void lanes_statistics(const TensorView& sums, const TensorView& batch, double eps,
                      const TensorView& constants, std::uintptr_t stream);
void lanes_normalization(const TensorView& x, std::size_t pool, bool rectify, const TensorView& constants,
                         const TensorView& output, std::uintptr_t stream);
void lanes_gradient_moments(const TensorView& output, bool rectify, const TensorView& grad,
                            const TensorView& sums, const TensorView& workspace, std::uintptr_t stream);
void lanes_gradient_statistics(const TensorView& sums, const TensorView& batch, const TensorView& constants,
                               std::uintptr_t stream);
void lanes_normalization_backward(const TensorView& x, std::size_t pool, bool rectify,
                                  const TensorView& constants, const TensorView& grad,
                                  const TensorView& grad_x, std::uintptr_t stream);

}  // namespace pythermo::cuda
