#include "../batch_norm_relu.hpp"

#include <vector>

#include "parallel.hpp"
#include "sized.hpp"

namespace pythermo::cpu {
namespace {

using batch_norm::Images, batch_norm::Moments;

// Adds up by channel what add(image, moments) adds for each image; each has sums of its own, which are added
// up in their order.
template <class Add>
std::vector<Moments> sum_over_images(std::size_t count, std::size_t channels, int threads, const Add& add) {
  std::vector<Moments> parts(count * channels), sums(channels);
  parallel_for(count, threads, [&](std::size_t first, std::size_t last) {
    for (std::size_t image = first; image < last; ++image) add(image, parts.data() + image * channels);
  });
  for (std::size_t i = 0; i < parts.size(); ++i) sums[i % channels].add(parts[i]);
  return sums;
}

template <class T, std::size_t pool, bool rectify>
void forward(const Images<T>& x, double eps, const Images<T>& output, T* statistics, int threads) {
  const T* const shift = x.data;
  const auto moments = sum_over_images(x.count, x.channels, threads, [&](std::size_t image, Moments* sums) {
    for (std::size_t y = 0; y < x.height; ++y) {
      PYTHERMO_DISPATCH(isa::add_moments(x.row(image, y), x.width, x.channels, shift, sums));
    }
  });
  const double count = static_cast<double>(x.count * x.pixels());
  T *const mean = statistics, *const scale = statistics + x.channels;
  for (std::size_t c = 0; c < x.channels; ++c) {
    mean[c] = static_cast<T>(moments[c].mean(static_cast<double>(shift[c]), count));
    scale[c] = static_cast<T>(moments[c].scale(count, eps));
  }
  const ChannelConstants<T> constants{mean, scale, nullptr, nullptr};
  parallel_for(x.count, threads, [&](std::size_t first, std::size_t last) {
    for (std::size_t image = first; image < last; ++image) {
      for (std::size_t y = 0; y < output.height; ++y) {
        PYTHERMO_DISPATCH(isa::forward_row<T, pool, rectify>(x.row(image, y * pool), {x.width, x.channels},
                                                             constants, output.row(image, y)));
      }
    }
  });
}

template <class T, std::size_t pool, bool rectify>
void backward(const Images<T>& x, const Images<T>& output, const T* statistics, const Images<T>& grad,
              const Images<T>& grad_x, int threads) {
  const auto sums = sum_over_images(x.count, x.channels, threads, [&](std::size_t image, Moments* parts) {
    for (std::size_t y = 0; y < output.height; ++y) {
      PYTHERMO_DISPATCH(isa::add_gradients<T, rectify>(output.row(image, y), grad.row(image, y), output.width,
                                                       output.channels, parts));
    }
  });
  const double count = static_cast<double>(x.count * x.pixels());
  std::vector<T> mean_grad(x.channels), slope(x.channels);
  for (std::size_t c = 0; c < x.channels; ++c) {
    mean_grad[c] = static_cast<T>(sums[c].sum / count);
    slope[c] = static_cast<T>(sums[c].squares / count);
  }
  const ChannelConstants<T> constants{statistics, statistics + x.channels, mean_grad.data(), slope.data()};
  const RowShape shape{x.width, x.channels};
  parallel_for(x.count, threads, [&](std::size_t first, std::size_t last) {
    for (std::size_t image = first; image < last; ++image) {
      for (std::size_t y = 0; y < output.height; ++y) {
        PYTHERMO_DISPATCH(isa::backward_row<T, pool, rectify>(
            x.row(image, y * pool), shape, constants, grad.row(image, y), grad_x.row(image, y * pool)));
      }
      for (std::size_t y = output.height * pool; y < x.height; ++y) {
        PYTHERMO_DISPATCH(isa::backward_row<T, 1, rectify>(x.row(image, y), shape, constants, nullptr,
                                                           grad_x.row(image, y)));
      }
    }
  });
}

constexpr auto here = dlpack::DeviceType::cpu;

}  // namespace

void batch_norm_relu(const TensorView& x, std::size_t width, std::size_t pool, bool rectify, double eps,
                     const TensorView& output, const TensorView& statistics, int threads) {
  batch_norm::with_type_and_pooling(x, pool, rectify, [&](auto zero, auto pooling, auto rectifying) {
    using T = decltype(zero);
    const Images<T> images = batch_norm::images_on<T>(here, x, width);
    forward<T, pooling, rectifying>(images, eps, batch_norm::pooled_on<T>(here, output, images, pool),
                                    sized<T>(statistics, 2 * images.channels), threads);
  });
}

void batch_norm_relu_backward(const TensorView& x, std::size_t width, std::size_t pool, bool rectify,
                              const TensorView& output, const TensorView& statistics, const TensorView& grad,
                              const TensorView& grad_x, int threads) {
  batch_norm::with_type_and_pooling(x, pool, rectify, [&](auto zero, auto pooling, auto rectifying) {
    using T = decltype(zero);
    const Images<T> images = batch_norm::images_on<T>(here, x, width);
    backward<T, pooling, rectifying>(images, batch_norm::pooled_on<T>(here, output, images, pool),
                                     sized<T>(statistics, 2 * images.channels),
                                     batch_norm::pooled_on<T>(here, grad, images, pool),
                                     batch_norm::pooled_on<T>(here, grad_x, images, 1), threads);
  });
}

}  // namespace pythermo::cpu
