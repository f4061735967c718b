// A channel normalized by the statistics of its batch, then ReLU: the arithmetic of one element, or of
// vectors of elements of several channels.
#pragma once

#include <cmath>
#include <cstddef>

#include "cpu/instruction_set.hpp"
#include "portable.hpp"
#include "tensor_view.hpp"

namespace pythermo::batch_norm {

// What a channel's mean and variance come from. The shift, any of its elements, keeps the digits of a
// variance that is small beside the mean: of them at most log10(count) are lost.
struct Moments {
  double sum = 0.0, squares = 0.0;  // of x - shift

  PYTHERMO_INLINE void add(const Moments& other) {
    sum += other.sum;
    squares += other.squares;
  }
  PYTHERMO_INLINE double mean(double shift, double count) const { return shift + sum / count; }
  PYTHERMO_INLINE double scale(double count, double eps) const {
    const double apart = sum / count, variance = squares / count - apart * apart;
    return 1.0 / std::sqrt((variance < 0.0 ? 0.0 : variance) + eps);
  }
};

template <class Value>
PYTHERMO_INLINE Value normalized(Value x, Value mean, Value scale) {
  return (x - mean) * scale;
}

// NaN stays NaN, that divergence is seen.
template <class Value>
PYTHERMO_INLINE Value relu(Value x) {
  const Value zero{};
  return x <= zero ? zero : x;
}

// The gradient of an element from that of its normalized value. As the mean and the variance depend on each
// element, the channel's means of that gradient (`mean_grad`) and of its product with the normalized values
// (`slope`) are taken off.
template <class Value>
PYTHERMO_INLINE Value input_gradient(Value grad, Value normalized, Value scale, Value mean_grad,
                                     Value slope) {
  return (grad - (mean_grad + normalized * slope)) * scale;
}

}  // namespace pythermo::batch_norm

// The loops over a row of pixels, built for each instruction set. The channels of a pixel lie side by side.
namespace pythermo::cpu {

// One or two rows of `width` pixels that are pooled together to `width / pool`.
struct RowShape {
  std::size_t width, channels;
};

// By channel: what an element is normalized with, and what its gradient needs beside.
template <class T>
struct ChannelConstants {
  const T *mean, *scale, *mean_grad, *slope;
};

// clang-format off
PYTHERMO_FOR_EACH_ISA(
  // Adds those of x - shift to the moments of each channel.
  template <class T>
  void add_moments(const T* x, std::size_t pixels, std::size_t channels, const T* shift,
                   batch_norm::Moments* moments);

  // Adds the gradients of outputs (with ReLU, of those above 0), and in the place of squares their products with
  // the outputs.
  template <class T, bool rectify>
  void add_gradients(const T* output, const T* grad, std::size_t pixels, std::size_t channels,
                     batch_norm::Moments* sums);

  // The largest of pool x pool pixels, normalized, and ReLU.
  template <class T, std::size_t pool, bool rectify>
  void forward_row(const T* x, RowShape shape, const ChannelConstants<T>& constants, T* output);

  // The gradients of all pixels; `grad` is null for a row that is left over by the pooling.
  template <class T, std::size_t pool, bool rectify>
  void backward_row(const T* x, RowShape shape, const ChannelConstants<T>& constants, const T* grad, T* grad_x);
)
// clang-format on

}  // namespace pythermo::cpu

// The whole kernel on the CPU: checks, threads and vectors.
namespace pythermo::cpu {

// Images x [N, H * width, C] are normalized channel by channel with their own mean and variance + eps; then
// come the largest of each pool x pool pixels (1 or 2; pixels beyond the last whole ones are left out) and,
// to rectify them, ReLU. Writes output [N, h * w, C] and statistics [2 * C]: the means, and one over the
// standard deviations. The same bits for any number of threads. Throws std::invalid_argument for sizes that
// do not fit.
void batch_norm_relu(const TensorView& x, std::size_t width, std::size_t pool, bool rectify, double eps,
                     const TensorView& output, const TensorView& statistics, int threads);

// Writes the gradient grad_x of x from that of the output.
void batch_norm_relu_backward(const TensorView& x, std::size_t width, std::size_t pool, bool rectify,
                              const TensorView& output, const TensorView& statistics, const TensorView& grad,
                              const TensorView& grad_x, int threads);

}  // namespace pythermo::cpu
