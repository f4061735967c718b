#include "../lanes_convolution.hpp"

#include <algorithm>
#include <cstddef>
#include <vector>

#include "../lanes_winograd.hpp"
#include "aligned_vectors.hpp"

namespace pythermo::cpu {
namespace {

using lanes::ConvolutionShape;

// Where images are narrower, what is added up together lies in several images, and not in a row.
constexpr std::size_t narrow = 8, narrow_gradient = 5, fewest_images = 4;

// So many bytes of packed images, or packed images side by side, stay in the second cache.
constexpr std::size_t packed_bytes = std::size_t{1} << 18, images_at_once = 21;

// So many pixels are gone through for each pair of blocks of channels: they stay in the first cache.
constexpr std::size_t strip_pixels = 64;

// Packed with the pixels of a row side by side, which gets a border of zeros.
Packing packed_by_row(const ImageSize& size, std::size_t most, std::size_t before, std::size_t after,
                      std::size_t images) {
  const std::size_t row = before + size.width + after, block = std::min(most, size.channels);
  return {.height = size.height,
          .width = size.width,
          .channels = size.channels,
          .block = block,
          .before = before,
          .after = after,
          .image_step = size.height * row,
          .row_step = row,
          .pixel_step = 1,
          .block_size = images * size.height * row * block};
}

// Packed with a pixel of so many images side by side.
Packing packed_by_image(const ImageSize& size, std::size_t most, std::size_t images) {
  const std::size_t block = std::min(most, size.channels);
  return {.height = size.height,
          .width = size.width,
          .channels = size.channels,
          .block = block,
          .before = 0,
          .after = 0,
          .image_step = 1,
          .row_step = size.width * images,
          .pixel_step = images,
          .block_size = images * size.height * size.width * block};
}

// Images packed, or themselves where they lie so already.
class Packed {
 public:
  explicit Packed(const Packing& packing)
      : packing_(packing),
        blocks_((packing.channels + packing.block - 1) / packing.block),
        as_is_(blocks_ == 1 && packing.pixel_step == 1 && packing.before + packing.after == 0),
        memory_(as_is_ ? 0 : blocks_ * packing.block_size) {}

  const Packing& packing() const { return packing_; }

  const float* pack(const float* images, std::size_t count) {
    if (as_is_) return images;
    PYTHERMO_DISPATCH(isa::pack_images(packing_, count, images, memory_.data()));
    return memory_.data();
  }

 private:
  Packing packing_;
  std::size_t blocks_;
  bool as_is_;
  AlignedVectors memory_;
};

// Calls call(first, count) for parts of the images, of so many at most.
template <class Call>
void each_part(std::size_t images, std::size_t most, const Call& call) {
  for (std::size_t first = 0; first < images; first += most) call(first, std::min(most, images - first));
}

// A convolution one way or the other, as sums over taps from one side to the other.
struct Sides {
  ImageSize from, to;
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
      : sides_(sides),
        images_(shape.images),
        by_image_(sides.to.width < narrow && shape.images >= fewest_images),
        packed_(packing_for(shape, source)) {
    const Packing& packing = packed_.packing();
    const std::size_t to_pixel = sides.to.channels, to_image = sides.to.vectors();
    sum_ = {.runs = nullptr,
            .run_count = 0,
            .images = 0,
            .by_image = by_image_,
            .from_image = packing.image_step * packing.block,
            .to_image = to_image,
            .from_step = (by_image_ ? 1 : sides.from_every) * packing.block,
            .to_step = by_image_ ? to_image : sides.to_every * to_pixel,
            .block_size = packing.block_size,
            .from_channels = sides.from.channels,
            .to_channels = sides.to.channels,
            .taps = shape.kernel * shape.kernel,
            .weights = weights,
            .from_stride = sides.from_stride,
            .to_stride = sides.to_stride};
    find_runs(shape.kernel, source);
  }

  void add_up(const float* from, float* to) {
    const std::size_t lanes = lanes_of_members();
    each_part(images_, together_, [&](std::size_t first, std::size_t count) {
      sum_.images = count;
      const float* const packed = packed_.pack(from + first * sides_.from.vectors() * lanes, count);
      PYTHERMO_DISPATCH(isa::sum_taps(sum_, packed, to + first * sides_.to.vectors() * lanes));
    });
  }

 private:
  static bool is_inside(std::ptrdiff_t at, std::size_t size) {
    return at >= 0 && at < static_cast<std::ptrdiff_t>(size);
  }

  template <class Source>
  Packing packing_for(const ConvolutionShape& shape, const Source& source) {
    if (by_image_) {
      together_ = part_size(images_, images_at_once);
      return packed_by_image(sides_.from, block_channels, together_);
    }
    std::size_t before = 0, after = 0;
    for (std::size_t x = 0; x < sides_.to.width; ++x) {
      for (std::size_t k = 0; k < shape.kernel; ++k) {
        const std::ptrdiff_t at = source(x, k);
        if (at == nowhere) continue;
        before = std::max(before, static_cast<std::size_t>(std::max<std::ptrdiff_t>(0, -at)));
        const std::ptrdiff_t beyond = at - static_cast<std::ptrdiff_t>(sides_.from.width) + 1;
        after = std::max(after, static_cast<std::size_t>(std::max<std::ptrdiff_t>(0, beyond)));
      }
    }
    const std::size_t bytes = sides_.from.vectors() * lanes_of_members() * sizeof(float);
    together_ = part_size(images_, std::max(packed_bytes / bytes, std::size_t{1}));
    return packed_by_row(sides_.from, block_channels, before, after, together_);
  }

  template <class Source>
  void find_runs(std::size_t kernel, const Source& source) {
    const std::size_t every = by_image_ ? sides_.to.width : sides_.to_every;
    for (std::size_t y = 0; y < sides_.to.height; ++y) {
      for (std::size_t x = 0; x < std::min(every, sides_.to.width); ++x) {
        const std::size_t taps = taps_.size();
        add_taps(kernel, source, y, x);
        runs_.push_back({(y * sides_.to.width + x) * sides_.to.channels,
                         (sides_.to.width - x + every - 1) / every, nullptr, taps_.size() - taps});
      }
    }
    const TapOffset* first = taps_.data();
    for (TapRun& run : runs_) {
      run.taps = first;
      first += run.tap_count;
    }
    sum_.runs = runs_.data();
    sum_.run_count = runs_.size();
  }

  template <class Source>
  void add_taps(std::size_t kernel, const Source& source, std::size_t y, std::size_t x) {
    const Packing& packing = packed_.packing();
    const auto signed_ = [](std::size_t size) { return static_cast<std::ptrdiff_t>(size); };
    for (std::size_t ky = 0; ky < kernel; ++ky) {
      const std::ptrdiff_t row = source(y, ky);
      if (!is_inside(row, sides_.from.height)) continue;
      for (std::size_t kx = 0; kx < kernel; ++kx) {
        const std::ptrdiff_t column = source(x, kx);
        if (by_image_ ? !is_inside(column, sides_.from.width) : column == nowhere) continue;
        const std::ptrdiff_t pixel = row * signed_(packing.row_step) +
                                     (column + signed_(packing.before)) * signed_(packing.pixel_step);
        taps_.push_back({pixel * signed_(packing.block), ky * kernel + kx});
      }
    }
  }

  Sides sides_;
  std::size_t images_;
  bool by_image_;
  std::size_t together_ = 1;  // images that are packed at once
  Packed packed_;
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
  require(x[3] * y[3] > 0, weights, "must have channels");
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

ImageSize input_of(const ConvolutionShape& s) { return {s.height, s.width, s.channels}; }
ImageSize output_of(const ConvolutionShape& s) { return {s.out_height, s.out_width, s.out_channels}; }

}  // namespace

std::size_t lanes_of_members() { return PYTHERMO_DISPATCH(isa::member_lanes()); }

void lanes_convolution(const TensorView& images, const TensorView& weights, std::size_t stride,
                       std::size_t padding, const TensorView& output) {
  const ConvolutionShape s = shape_of(images, weights, output, stride, padding);
  if (winograd_pays(s)) {
    return winograd_convolution(s, images.array<float>(), weights.array<float>(), output.array<float>());
  }
  const Sides sides{input_of(s), output_of(s), s.out_channels, 1, stride, 1};
  const auto source = [&](std::size_t at, std::size_t k) { return lanes::source_of_output(s, at, k); };
  TapSums(s, sides, weights.array<float>(), source).add_up(images.array<float>(), output.array<float>());
}

void lanes_convolution_images_gradient(const TensorView& grad, const TensorView& weights, std::size_t stride,
                                       std::size_t padding, const TensorView& grad_images) {
  const ConvolutionShape s = shape_of(grad_images, weights, grad, stride, padding);
  if (winograd_pays(s)) {
    return winograd_images_gradient(s, grad.array<float>(), weights.array<float>(),
                                    grad_images.array<float>());
  }
  const Sides sides{output_of(s), input_of(s), 1, s.out_channels, 1, stride};
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
  if (winograd_pays(s)) {
    return winograd_weights_gradient(s, images.array<float>(), grad.array<float>(),
                                     grad_weights.array<float>());
  }
  const ImageSize input = input_of(s), output = output_of(s);
  const bool by_image = output.width < narrow_gradient && s.images >= fewest_images;
  const bool taps_together = !by_image && s.channels <= taps_together_channels && s.kernel == 3;
  const std::size_t most =
      by_image ? std::max(strip_pixels / (output.height * output.width), std::size_t{1}) : 1;
  const std::size_t together = part_size(s.images, most);
  const std::size_t reached = (output.width - 1) * stride + s.kernel;
  const std::size_t before = taps_together ? padding : 0;
  const std::size_t after = taps_together ? reached - std::min(reached, padding + s.width) : 0;
  const std::size_t output_block = PYTHERMO_DISPATCH(isa::output_block());
  Packed x(by_image ? packed_by_image(input, block_channels, together)
                    : packed_by_row(input, block_channels, before, after, together));
  Packed dy(by_image ? packed_by_image(output, output_block, together)
                     : packed_by_row(output, output_block, 0, 0, together));
  GradSum sum{.shape = s,
              .images = x.packing(),
              .grads = dy.packing(),
              .rows = by_image ? output.height : std::max(strip_pixels / output.width, std::size_t{1}),
              .images_count = 0,
              .by_image = by_image,
              .taps_together = taps_together};
  const std::size_t lanes = lanes_of_members();
  each_part(s.images, together, [&](std::size_t first, std::size_t count) {
    sum.images_count = count;
    const float* const packed_x = x.pack(images.array<float>() + first * input.vectors() * lanes, count);
    const float* const packed_dy = dy.pack(grad.array<float>() + first * output.vectors() * lanes, count);
    PYTHERMO_DISPATCH(isa::sum_weight_gradients(sum, packed_x, packed_dy, grad_weights.array<float>()));
  });
}

}  // namespace pythermo::cpu
