#include "../batch_norm_relu.hpp"

#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include "parallel.hpp"
#include "sized.hpp"

namespace pythermo::cpu {
namespace {

using batch_norm::Moments;

template <class T>
struct Images {
  T* data;
  std::size_t count, height, width, channels;

  std::size_t pixels() const { return height * width; }
  T* row(std::size_t image, std::size_t y) const { return data + (image * height + y) * width * channels; }
};

[[noreturn]] void refuse(const TensorView& view, const std::string& what) {
  throw std::invalid_argument(std::string(view.name()) + ": " + what);
}

template <class T>
Images<T> images_of(const TensorView& view, std::size_t width) {
  const RowsView<T> rows = view.cpu_rows<T>();
  if (rows.count == 0 || rows.points == 0) refuse(view, "must have pixels");
  if (rows.count > 1 && rows.count_stride != rows.points * rows.dim) refuse(view, "must be contiguous");
  if (rows.points > 1 && rows.point_stride != rows.dim) refuse(view, "must be contiguous");
  if (width == 0 || rows.points % width != 0) refuse(view, "must have whole rows of the width");
  return {rows.data, rows.count, rows.points / width, width, rows.dim};
}

template <class T>
Images<T> pooled_of(const TensorView& view, const Images<T>& x, std::size_t pool) {
  const Images<T> pooled = images_of<T>(view, x.width / pool);
  if (pooled.count != x.count || pooled.height != x.height / pool || pooled.channels != x.channels) {
    refuse(view, "must have the size of the pooled images");
  }
  return pooled;
}

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

// Calls body with the type of the elements and the pooling as types.
template <class Body>
void choose(const TensorView& x, std::size_t pool, bool rectify, const Body& body) {
  if (pool != 1 && pool != 2) throw std::invalid_argument("pool: must be 1 or 2");
  const auto with_type = [&](auto zero) {
    const auto with_pool = [&](auto pooling) {
      if (rectify) {
        body(zero, pooling, std::true_type());
      } else {
        body(zero, pooling, std::false_type());
      }
    };
    if (pool == 1) {
      with_pool(std::integral_constant<std::size_t, 1>());
    } else {
      with_pool(std::integral_constant<std::size_t, 2>());
    }
  };
  x.scalar_type() == ScalarType::float32 ? with_type(0.0f) : with_type(0.0);
}

}  // namespace

void batch_norm_relu(const TensorView& x, std::size_t width, std::size_t pool, bool rectify, double eps,
                     const TensorView& output, const TensorView& statistics, int threads) {
  choose(x, pool, rectify, [&](auto zero, auto pooling, auto rectifying) {
    using T = decltype(zero);
    const Images<T> images = images_of<T>(x, width);
    forward<T, pooling, rectifying>(images, eps, pooled_of<T>(output, images, pool),
                                    sized<T>(statistics, 2 * images.channels), threads);
  });
}

void batch_norm_relu_backward(const TensorView& x, std::size_t width, std::size_t pool, bool rectify,
                              const TensorView& output, const TensorView& statistics, const TensorView& grad,
                              const TensorView& grad_x, int threads) {
  choose(x, pool, rectify, [&](auto zero, auto pooling, auto rectifying) {
    using T = decltype(zero);
    const Images<T> images = images_of<T>(x, width);
    backward<T, pooling, rectifying>(
        images, pooled_of<T>(output, images, pool), sized<T>(statistics, 2 * images.channels),
        pooled_of<T>(grad, images, pool), pooled_of<T>(grad_x, images, 1), threads);
  });
}

}  // namespace pythermo::cpu
