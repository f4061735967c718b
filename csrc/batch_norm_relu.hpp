// A channel normalized by the statistics of its batch, then ReLU: the arithmetic of one element, or of
// vectors of elements of several channels.
#pragma once

#include <cmath>
#include <cstddef>
#include <type_traits>

#include "checks.hpp"
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

// Images of a network, [N, H * width, C]: the channels of a pixel lie side by side.
template <class T>
struct Images {
  T* data;
  std::size_t count, height, width, channels;

  std::size_t pixels() const { return height * width; }  // of an image
  T* row(std::size_t image, std::size_t y) const { return data + (image * height + y) * width * channels; }
};

template <class T>
Images<T> images_on(dlpack::DeviceType device, const TensorView& view, std::size_t width) {
  const RowsView<T> rows = view.rows_on<T>(device);
  require(rows.count > 0 && rows.points > 0, view, "must have pixels");
  require(rows.count == 1 || rows.count_stride == rows.points * rows.dim, view, "must be contiguous");
  require(rows.points == 1 || rows.point_stride == rows.dim, view, "must be contiguous");
  require(width > 0 && rows.points % width == 0, view, "must have whole rows of the width");
  return {rows.data, rows.count, rows.points / width, width, rows.dim};
}

template <class T>
Images<T> pooled_on(dlpack::DeviceType device, const TensorView& view, const Images<T>& x, std::size_t pool) {
  const Images<T> pooled = images_on<T>(device, view, x.width / pool);
  require(pooled.count == x.count && pooled.height == x.height / pool && pooled.channels == x.channels, view,
          "must have the size of the pooled images");
  return pooled;
}

// Calls body with the pooling and whether to rectify as types.
template <class Body>
void with_pooling(std::size_t pool, bool rectify, const Body& body) {
  require(pool == 1 || pool == 2, "pool: must be 1 or 2");
  const auto with_pool = [&](auto pooling) {
    rectify ? body(pooling, std::true_type()) : body(pooling, std::false_type());
  };
  pool == 1 ? with_pool(std::integral_constant<unsigned, 1>())
            : with_pool(std::integral_constant<unsigned, 2>());
}

// Calls body with a number of the images' type before.
template <class Body>
void with_type_and_pooling(const TensorView& x, std::size_t pool, bool rectify, const Body& body) {
  with_pooling(pool, rectify, [&](auto pooling, auto rectifying) {
    x.scalar_type() == ScalarType::float32 ? body(0.0f, pooling, rectifying) : body(0.0, pooling, rectifying);
  });
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

// The same on a CUDA device, on a stream and without a wait.
namespace pythermo::cuda {

// How many float64 numbers of workspace images of so many pixels and channels need, of one stream at a time.
std::size_t batch_norm_relu_workspace_size(std::size_t pixels, std::size_t channels);
void batch_norm_relu(const TensorView& x, std::size_t width, std::size_t pool, bool rectify, double eps,
                     const TensorView& output, const TensorView& statistics, const TensorView& workspace,
                     std::uintptr_t stream);
void batch_norm_relu_backward(const TensorView& x, std::size_t width, std::size_t pool, bool rectify,
                              const TensorView& output, const TensorView& statistics, const TensorView& grad,
                              const TensorView& grad_x, const TensorView& workspace, std::uintptr_t stream);

}  // namespace pythermo::cuda
