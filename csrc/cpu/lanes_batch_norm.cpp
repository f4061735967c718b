#include "../lanes_batch_norm.hpp"

#include <stdexcept>
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

// The constants of all channels, with their lanes.
ChannelConstants<float> constants_of(const TensorView& view, std::size_t channels) {
  const float* const all = sized<float>(view, 4 * channels);
  return {all, all + channels, all + 2 * channels, all + 3 * channels};
}

template <std::size_t pool, bool rectify>
void forward(const Images& x, const ChannelConstants<float>& constants, const Images& output) {
  for (std::size_t image = 0; image < x.count; ++image) {
    for (std::size_t y = 0; y < output.height; ++y) {
      PYTHERMO_DISPATCH(isa::forward_row<float, pool, rectify>(x.row(image, y * pool), {x.width, x.channels},
                                                               constants, output.row(image, y)));
    }
  }
}

template <std::size_t pool, bool rectify>
void backward(const Images& x, const ChannelConstants<float>& constants, const Images& grad,
              const Images& grad_x) {
  const RowShape shape{x.width, x.channels};
  for (std::size_t image = 0; image < x.count; ++image) {
    for (std::size_t y = 0; y < grad.height; ++y) {
      PYTHERMO_DISPATCH(isa::backward_row<float, pool, rectify>(
          x.row(image, y * pool), shape, constants, grad.row(image, y), grad_x.row(image, y * pool)));
    }
    for (std::size_t y = grad.height * pool; y < x.height; ++y) {
      PYTHERMO_DISPATCH(isa::backward_row<float, 1, rectify>(x.row(image, y), shape, constants, nullptr,
                                                             grad_x.row(image, y)));
    }
  }
}

}  // namespace

void lanes_moments(const TensorView& x, const TensorView& batch, const TensorView& sums) {
  const Images images = images_of(x), all = images_of(batch);
  require(all.channels == images.channels, batch, "must have the channels of x");
  double* const sum = sized<double>(sums, 2 * images.channels);
  for (std::size_t image = 0; image < images.count; ++image) {
    PYTHERMO_DISPATCH(isa::add_member_moments(images.row(image, 0), images.pixels(),
                                              images.channels / lanes_of_members(), all.data, sum,
                                              sum + images.channels));
  }
}

void lanes_statistics(const TensorView& sums, const TensorView& batch, double eps,
                      const TensorView& constants) {
  const Images all = images_of(batch);
  const double* const sum = sized<double>(sums, 2 * all.channels);
  float* const mean = sized<float>(constants, 4 * all.channels);
  const double count = static_cast<double>(all.count * all.pixels());
  for (std::size_t c = 0; c < all.channels; ++c) {
    const Moments moments{sum[c], sum[all.channels + c]};
    mean[c] = static_cast<float>(moments.mean(static_cast<double>(all.data[c]), count));
    mean[all.channels + c] = static_cast<float>(moments.scale(count, eps));
  }
}

void lanes_normalization(const TensorView& x, std::size_t pool, bool rectify, const TensorView& constants,
                         const TensorView& output) {
  const Images images = images_of(x);
  batch_norm::with_pooling(pool, rectify, [&](auto pooling, auto rectifying) {
    forward<pooling, rectifying>(images, constants_of(constants, images.channels),
                                 pooled_of(output, images, pool));
  });
}

void lanes_gradient_moments(const TensorView& output, bool rectify, const TensorView& grad,
                            const TensorView& sums) {
  const Images outputs = images_of(output), grads = pooled_of(grad, outputs, 1);
  double* const sum = sized<double>(sums, 2 * outputs.channels);
  const std::size_t channels = outputs.channels / lanes_of_members();
  for (std::size_t image = 0; image < outputs.count; ++image) {
    const auto add = [&](auto rectifying) {
      PYTHERMO_DISPATCH(isa::add_member_gradients<rectifying>(outputs.row(image, 0), grads.row(image, 0),
                                                              outputs.pixels(), channels, sum,
                                                              sum + outputs.channels));
    };
    rectify ? add(std::true_type()) : add(std::false_type());
  }
}

void lanes_gradient_statistics(const TensorView& sums, const TensorView& batch, const TensorView& constants) {
  const Images all = images_of(batch);
  const double* const sum = sized<double>(sums, 2 * all.channels);
  float* const means = sized<float>(constants, 4 * all.channels) + 2 * all.channels;
  const double count = static_cast<double>(all.count * all.pixels());
  for (std::size_t i = 0; i < 2 * all.channels; ++i) means[i] = static_cast<float>(sum[i] / count);
}

void lanes_normalization_backward(const TensorView& x, std::size_t pool, bool rectify,
                                  const TensorView& constants, const TensorView& grad,
                                  const TensorView& grad_x) {
  const Images images = images_of(x);
  batch_norm::with_pooling(pool, rectify, [&](auto pooling, auto rectifying) {
    backward<pooling, rectifying>(images, constants_of(constants, images.channels),
                                  pooled_of(grad, images, pool), pooled_of(grad_x, images, 1));
  });
}

}  // namespace pythermo::cpu
