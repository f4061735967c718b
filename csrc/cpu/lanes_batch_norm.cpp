#include "../lanes_batch_norm.hpp"

#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include "../lanes_convolution.hpp"
#include "sized.hpp"

namespace pythermo::cpu {
namespace {

using batch_norm::Moments;

struct Images {
  float* data;
  std::size_t count, height, width, channels;  // with the lanes of each channel

  std::size_t pixels() const { return height * width; }
  std::size_t size() const { return pixels() * channels; }
  float* row(std::size_t image, std::size_t y) const { return data + image * size() + y * width * channels; }
};

void require(bool fits, const TensorView& view, const char* what) {
  if (!fits) throw std::invalid_argument(std::string(view.name()) + ": " + what);
}

Images images_of(const TensorView& view) {
  const auto sizes = view.sizes(5);
  require(sizes[4] == lanes_of_members(), view, "must have the members of one vector in its last dimension");
  require(sizes[0] * sizes[1] * sizes[2] * sizes[3] > 0, view, "must have pixels");
  return {view.array<float>(), sizes[0], sizes[1], sizes[2], sizes[3] * sizes[4]};
}

Images pooled_of(const TensorView& view, const Images& x, std::size_t pool) {
  const Images pooled = images_of(view);
  require(pooled.count == x.count && pooled.height == x.height / pool && pooled.width == x.width / pool &&
              pooled.channels == x.channels,
          view, "must have the size of the pooled images");
  return pooled;
}

template <std::size_t pool, bool rectify>
void forward(const Images& x, double eps, const Images& output, float* statistics) {
  const std::size_t lanes = lanes_of_members();
  std::vector<double> sums(x.channels), squares(x.channels);
  for (std::size_t image = 0; image < x.count; ++image) {
    PYTHERMO_DISPATCH(isa::add_member_moments(x.row(image, 0), x.pixels(), x.channels / lanes, x.data,
                                              sums.data(), squares.data()));
  }
  const double count = static_cast<double>(x.count * x.pixels());
  float *const mean = statistics, *const scale = statistics + x.channels;
  for (std::size_t c = 0; c < x.channels; ++c) {
    const Moments moments{sums[c], squares[c]};
    mean[c] = static_cast<float>(moments.mean(static_cast<double>(x.data[c]), count));
    scale[c] = static_cast<float>(moments.scale(count, eps));
  }
  const ChannelConstants<float> constants{mean, scale, nullptr, nullptr};
  for (std::size_t image = 0; image < x.count; ++image) {
    for (std::size_t y = 0; y < output.height; ++y) {
      PYTHERMO_DISPATCH(isa::forward_row<float, pool, rectify>(x.row(image, y * pool), {x.width, x.channels},
                                                               constants, output.row(image, y)));
    }
  }
}

template <std::size_t pool, bool rectify>
void backward(const Images& x, const Images& output, const float* statistics, const Images& grad,
              const Images& grad_x) {
  const std::size_t lanes = lanes_of_members();
  std::vector<double> sums(x.channels), products(x.channels);
  for (std::size_t image = 0; image < x.count; ++image) {
    PYTHERMO_DISPATCH(isa::add_member_gradients<rectify>(output.row(image, 0), grad.row(image, 0),
                                                         output.pixels(), x.channels / lanes, sums.data(),
                                                         products.data()));
  }
  const double count = static_cast<double>(x.count * x.pixels());
  std::vector<float> mean_grad(x.channels), slope(x.channels);
  for (std::size_t c = 0; c < x.channels; ++c) {
    mean_grad[c] = static_cast<float>(sums[c] / count);
    slope[c] = static_cast<float>(products[c] / count);
  }
  const ChannelConstants<float> constants{statistics, statistics + x.channels, mean_grad.data(),
                                          slope.data()};
  const RowShape shape{x.width, x.channels};
  for (std::size_t image = 0; image < x.count; ++image) {
    for (std::size_t y = 0; y < output.height; ++y) {
      PYTHERMO_DISPATCH(isa::backward_row<float, pool, rectify>(
          x.row(image, y * pool), shape, constants, grad.row(image, y), grad_x.row(image, y * pool)));
    }
    for (std::size_t y = output.height * pool; y < x.height; ++y) {
      PYTHERMO_DISPATCH(isa::backward_row<float, 1, rectify>(x.row(image, y), shape, constants, nullptr,
                                                             grad_x.row(image, y)));
    }
  }
}

// Calls body with the pooling and whether to rectify as types.
template <class Body>
void choose(std::size_t pool, bool rectify, const Body& body) {
  if (pool != 1 && pool != 2) throw std::invalid_argument("pool: must be 1 or 2");
  const auto with_pool = [&](auto pooling) {
    rectify ? body(pooling, std::true_type()) : body(pooling, std::false_type());
  };
  pool == 1 ? with_pool(std::integral_constant<std::size_t, 1>())
            : with_pool(std::integral_constant<std::size_t, 2>());
}

}  // namespace

void lanes_batch_norm(const TensorView& x, std::size_t pool, bool rectify, double eps,
                      const TensorView& output, const TensorView& statistics) {
  const Images images = images_of(x);
  choose(pool, rectify, [&](auto pooling, auto rectifying) {
    forward<pooling, rectifying>(images, eps, pooled_of(output, images, pool),
                                 sized<float>(statistics, 2 * images.channels));
  });
}

void lanes_batch_norm_backward(const TensorView& x, std::size_t pool, bool rectify, const TensorView& output,
                               const TensorView& statistics, const TensorView& grad,
                               const TensorView& grad_x) {
  const Images images = images_of(x);
  choose(pool, rectify, [&](auto pooling, auto rectifying) {
    backward<pooling, rectifying>(images, pooled_of(output, images, pool),
                                  sized<float>(statistics, 2 * images.channels),
                                  pooled_of(grad, images, pool), pooled_of(grad_x, images, 1));
  });
}

}  // namespace pythermo::cpu
