#include "../lanes_convolution.hpp"

#include <algorithm>
#include <memory>
#include <vector>

#include "sized.hpp"

namespace pythermo::cpu {
namespace {

using lanes::ConvolutionShape;

// So many images are gone through at once where runs go through images.
constexpr std::size_t images_at_once = 16;

// A convolution one way or the other, as sums over taps from one side to the other.
struct Sides {
  std::size_t from_height, from_width, from_channels;
  std::size_t to_height, to_width, to_channels;
  std::size_t from_stride, to_stride;  // of the weights
  std::size_t from_every, to_every;    // columns from one pixel of a run to the next
};

// Where a place of `to` takes a tap from, or less than -border if it takes none.
constexpr std::ptrdiff_t nowhere = -1000;

class TapSums {
 public:
  // `source(at, k)` is the place of `from` that tap k brings to a place of `to`, or nowhere.
  template <class Source>
  TapSums(const ConvolutionShape& shape, const Sides& sides, const float* weights, const Source& source)
      : sides_(sides), images_(shape.images), by_image_(sides.to_width <= 4 && shape.images >= 4) {
    sum_ = {nullptr,        0, 0, 0, sides.from_channels, sides.to_channels, weights, sides.from_stride,
            sides.to_stride};
    find_border(shape.kernel, source);
    if (by_image_) {
      find_runs_by_image(shape.kernel, source);
    } else {
      find_runs_by_row(shape.kernel, source);
    }
    std::size_t first = 0;
    for (TapRun& run : runs_) {
      run.taps = taps_.data() + first;
      first += run.tap_count;
    }
  }

  void add_up(const float* from, float* to) {
    const std::size_t lanes = lanes_of_members();
    const std::size_t from_size = sides_.from_height * sides_.from_width * sides_.from_channels * lanes;
    const std::size_t to_size = sides_.to_height * sides_.to_width * sides_.to_channels * lanes;
    sum_.runs = runs_.data();
    sum_.run_count = runs_.size();
    if (by_image_) {
      for (std::size_t image = 0; image < images_; image += images_at_once) {
        const std::size_t count = std::min(images_at_once, images_ - image);
        for (TapRun& run : runs_) run.pixels = count;
        PYTHERMO_DISPATCH(isa::sum_taps(sum_, from + image * from_size, to + image * to_size));
      }
      return;
    }
    const std::size_t row = sides_.from_width * sides_.from_channels * lanes;
    const std::size_t wide_row = (sides_.from_width + before_ + after_) * sides_.from_channels * lanes;
    const bool bordered = before_ + after_ > 0;
    // Begins at a cache line: a vector in two takes twice as long to load.
    std::vector<float> memory(bordered ? sides_.from_height * wide_row + 16 : 0);
    void* begin = memory.data();
    std::size_t space = memory.size() * sizeof(float);
    float* const wide = bordered ? static_cast<float*>(std::align(64, space - 64, begin, space)) : nullptr;
    for (std::size_t image = 0; image < images_; ++image, from += from_size, to += to_size) {
      const float* source = from;
      if (bordered) {
        for (std::size_t y = 0; y < sides_.from_height; ++y) {
          std::copy_n(from + y * row, row, wide + y * wide_row + before_ * sides_.from_channels * lanes);
        }
        source = wide;
      }
      PYTHERMO_DISPATCH(isa::sum_taps(sum_, source, to));
    }
  }

 private:
  static bool is_inside(std::ptrdiff_t at, std::size_t size) {
    return at >= 0 && at < static_cast<std::ptrdiff_t>(size);
  }

  template <class Source>
  void find_border(std::size_t kernel, const Source& source) {
    for (std::size_t x = 0; x < sides_.to_width; ++x) {
      for (std::size_t k = 0; k < kernel; ++k) {
        const std::ptrdiff_t at = source(x, k);
        if (at == nowhere) continue;
        before_ = std::max(before_, static_cast<std::size_t>(std::max<std::ptrdiff_t>(0, -at)));
        const std::ptrdiff_t beyond = at - static_cast<std::ptrdiff_t>(sides_.from_width) + 1;
        after_ = std::max(after_, static_cast<std::size_t>(std::max<std::ptrdiff_t>(0, beyond)));
      }
    }
  }

  template <class Source>
  void find_runs_by_row(std::size_t kernel, const Source& source) {
    const std::size_t from_channels = sides_.from_channels, to_channels = sides_.to_channels;
    const std::size_t width = sides_.from_width + before_ + after_;
    sum_.from_step = sides_.from_every * from_channels;
    sum_.to_step = sides_.to_every * to_channels;
    for (std::size_t y = 0; y < sides_.to_height; ++y) {
      for (std::size_t x = 0; x < std::min(sides_.to_every, sides_.to_width); ++x) {
        const std::size_t taps = taps_.size();
        add_taps(kernel, source, y, x, width, [](std::ptrdiff_t column) { return column != nowhere; });
        runs_.push_back({0, (y * sides_.to_width + x) * to_channels,
                         (sides_.to_width - x + sides_.to_every - 1) / sides_.to_every, nullptr,
                         taps_.size() - taps});
      }
    }
  }

  template <class Source>
  void find_runs_by_image(std::size_t kernel, const Source& source) {
    before_ = after_ = 0;
    sum_.from_step = sides_.from_height * sides_.from_width * sides_.from_channels;
    sum_.to_step = sides_.to_height * sides_.to_width * sides_.to_channels;
    for (std::size_t y = 0; y < sides_.to_height; ++y) {
      for (std::size_t x = 0; x < sides_.to_width; ++x) {
        const std::size_t taps = taps_.size();
        add_taps(kernel, source, y, x, sides_.from_width,
                 [&](std::ptrdiff_t column) { return is_inside(column, sides_.from_width); });
        runs_.push_back({0, (y * sides_.to_width + x) * sides_.to_channels, 0, nullptr, taps_.size() - taps});
      }
    }
  }

  template <class Source, class Taken>
  void add_taps(std::size_t kernel, const Source& source, std::size_t y, std::size_t x, std::size_t width,
                const Taken& is_taken) {
    for (std::size_t ky = 0; ky < kernel; ++ky) {
      const std::ptrdiff_t row = source(y, ky);
      if (!is_inside(row, sides_.from_height)) continue;
      for (std::size_t kx = 0; kx < kernel; ++kx) {
        const std::ptrdiff_t column = source(x, kx);
        if (!is_taken(column)) continue;
        const auto pixel =
            row * static_cast<std::ptrdiff_t>(width) + column + static_cast<std::ptrdiff_t>(before_);
        taps_.push_back({pixel * static_cast<std::ptrdiff_t>(sides_.from_channels), ky * kernel + kx});
      }
    }
  }

  Sides sides_;
  std::size_t images_;
  bool by_image_;  // runs through images, for those of so few pixels that a row has no whole tile
  std::size_t before_ = 0, after_ = 0;  // columns of zeros that a row of `from` gets
  std::vector<TapOffset> taps_;
  std::vector<TapRun> runs_;
  TapSum sum_;
};

ConvolutionShape shape_of(const TensorView& images, const TensorView& weights, const TensorView& output,
                          std::size_t stride, std::size_t padding) {
  const auto x = images.sizes(5), w = weights.sizes(5), y = output.sizes(5);
  const std::size_t lanes = lanes_of_members();
  require(x[4] == lanes, images, "must have the members of one vector in its last dimension");
  require(w[4] == lanes, weights, "must have the members of one vector in its last dimension");
  require(y[4] == lanes, output, "must have the members of one vector in its last dimension");
  require(w[0] == w[1] && (w[0] == 1 || w[0] == 3), weights, "must have 1 x 1 or 3 x 3 taps");
  require(w[2] == x[3], weights, "must have the channels of the images");
  require(w[3] == y[3], output, "must have the channels of the weights");
  require(x[0] == y[0], output, "must have the number of images");
  require(stride == 1 || stride == 2, weights, "the stride must be 1 or 2");
  require(padding < w[0], weights, "the padding must be less than the taps of a side");
  const auto out = [&](std::size_t size) {
    return size + 2 * padding < w[0] ? std::size_t{0} : (size + 2 * padding - w[0]) / stride + 1;
  };
  require(y[1] == out(x[1]) && y[2] == out(x[2]) && y[1] * y[2] > 0, output,
          "must have the convolution's size");
  return {x[0], x[1], x[2], x[3], y[1], y[2], y[3], w[0], stride, padding};
}

}  // namespace

std::size_t lanes_of_members() { return PYTHERMO_DISPATCH(isa::member_lanes()); }

void lanes_convolution(const TensorView& images, const TensorView& weights, std::size_t stride,
                       std::size_t padding, const TensorView& output) {
  const ConvolutionShape s = shape_of(images, weights, output, stride, padding);
  const Sides sides{s.height,       s.width,        s.channels, s.out_height, s.out_width,
                    s.out_channels, s.out_channels, 1,          stride,       1};
  const auto source = [&](std::size_t at, std::size_t k) { return lanes::source_of_output(s, at, k); };
  TapSums(s, sides, weights.array<float>(), source).add_up(images.array<float>(), output.array<float>());
}

void lanes_convolution_images_gradient(const TensorView& grad, const TensorView& weights, std::size_t stride,
                                       std::size_t padding, const TensorView& grad_images) {
  const ConvolutionShape s = shape_of(grad_images, weights, grad, stride, padding);
  const Sides sides{s.out_height, s.out_width, s.out_channels, s.height, s.width,
                    s.channels,   1,           s.out_channels, 1,        stride};
  const auto source = [&](std::size_t at, std::size_t k) -> std::ptrdiff_t {
    const auto shifted = static_cast<std::ptrdiff_t>(at + padding) - static_cast<std::ptrdiff_t>(k);
    const auto step = static_cast<std::ptrdiff_t>(stride);
    return shifted % step == 0 ? shifted / step : nowhere;
  };
  TapSums(s, sides, weights.array<float>(), source).add_up(grad.array<float>(), grad_images.array<float>());
}

void lanes_convolution_weights_gradient(const TensorView& images, const TensorView& grad, std::size_t stride,
                                        std::size_t padding, const TensorView& grad_weights) {
  const ConvolutionShape s = shape_of(images, grad_weights, grad, stride, padding);
  PYTHERMO_DISPATCH(
      isa::sum_weight_gradients(s, images.array<float>(), grad.array<float>(), grad_weights.array<float>()));
}

}  // namespace pythermo::cpu
