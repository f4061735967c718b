#include "../lanes_convolution.hpp"

#include "lanes.hpp"

namespace pythermo::cpu::PYTHERMO_ISA {
namespace {

constexpr std::size_t lanes = register_lanes<float>;

// A tile of so many pixels by so many channels is added up in registers: each vector loaded serves several
// products, and there are more sums than an addition takes cycles.
constexpr std::size_t tile_pixels = 4;
constexpr std::size_t tile_channels = vector_bytes == 64 ? 4 : 2;

// So many channels of so many tiles are summed before the next ones: their weights stay in the first cache.
constexpr std::size_t chunk_channels = 8;
constexpr std::size_t strip_tiles = 8;

PYTHERMO_INLINE std::size_t smaller(std::size_t a, std::size_t b) { return a < b ? a : b; }

// Calls call(std::integral_constant<std::size_t, count>) for a count from 1 to `most`.
template <std::size_t most, class Call>
PYTHERMO_INLINE void with_count(std::size_t count, const Call& call) {
  if constexpr (most > 0) {
    if (count == most) {
      call(std::integral_constant<std::size_t, most>{});
    } else {
      with_count<most - 1>(count, call);
    }
  }
}

// A few pixels of a run.
struct Tile {
  const float* from;
  float* to;
  const TapOffset* taps;
  std::size_t tap_count, pixels;
};

// Adds the products of `channels` channels from `first` on to a tile of outputs from channel `to` on.
template <std::size_t pixels, std::size_t outputs>
void sum_tile(const TapSum& sum, const Tile& tile, std::size_t first, std::size_t channels, std::size_t to) {
  const std::size_t from_step = sum.from_step * lanes, to_step = sum.to_step * lanes;
  float* const target = tile.to + to * lanes;
  Members acc[pixels][outputs];
#pragma GCC unroll 8
  for (std::size_t p = 0; p < pixels; ++p) {
#pragma GCC unroll 8
    for (std::size_t q = 0; q < outputs; ++q) {
      acc[p][q] = first == 0 ? Members{} : load_members(target + p * to_step + q * lanes);
    }
  }
  const std::size_t from_stride = sum.from_stride * lanes, to_stride = sum.to_stride * lanes;
  const std::size_t per_tap = sum.from_channels * sum.to_channels * lanes;
  for (const TapOffset* tap = tile.taps; tap < tile.taps + tile.tap_count; ++tap) {
    const float* from =
        tile.from + (tap->offset + static_cast<std::ptrdiff_t>(first)) * std::ptrdiff_t{lanes};
    const float* weights = sum.weights + tap->tap * per_tap + first * from_stride + to * to_stride;
    for (std::size_t c = 0; c < channels; ++c, weights += from_stride, from += lanes) {
      Members values[pixels];
#pragma GCC unroll 8
      for (std::size_t p = 0; p < pixels; ++p) values[p] = load_members(from + p * from_step);
#pragma GCC unroll 8
      for (std::size_t q = 0; q < outputs; ++q) {
        const Members weight = load_members(weights + q * to_stride);
#pragma GCC unroll 8
        for (std::size_t p = 0; p < pixels; ++p) acc[p][q] += values[p] * weight;
      }
    }
  }
#pragma GCC unroll 8
  for (std::size_t p = 0; p < pixels; ++p) {
#pragma GCC unroll 8
    for (std::size_t q = 0; q < outputs; ++q) store(acc[p][q], target + p * to_step + q * lanes);
  }
}

PYTHERMO_INLINE void sum_strip(const TapSum& sum, const Tile* tiles, std::size_t count) {
  for (std::size_t c = 0; c < sum.from_channels; c += chunk_channels) {
    const std::size_t channels = smaller(chunk_channels, sum.from_channels - c);
    for (std::size_t to = 0; to < sum.to_channels; to += tile_channels) {
      with_count<tile_channels>(smaller(tile_channels, sum.to_channels - to), [&](auto outputs) {
        for (std::size_t t = 0; t < count; ++t) {
          with_count<tile_pixels>(tiles[t].pixels, [&](auto pixels) {
            sum_tile<pixels, outputs>(sum, tiles[t], c, channels, to);
          });
        }
      });
    }
  }
}

}  // namespace

std::size_t member_lanes() { return lanes; }

void sum_taps(const TapSum& sum, const float* from, float* to) {
  Tile tiles[strip_tiles];
  std::size_t count = 0;
  for (const TapRun* run = sum.runs; run < sum.runs + sum.run_count; ++run) {
    for (std::size_t p = 0; p < run->pixels; p += tile_pixels) {
      tiles[count++] = {from + (run->from + p * sum.from_step) * lanes,
                        to + (run->to + p * sum.to_step) * lanes, run->taps, run->tap_count,
                        smaller(tile_pixels, run->pixels - p)};
      if (count < strip_tiles) continue;
      sum_strip(sum, tiles, count);
      count = 0;
    }
  }
  sum_strip(sum, tiles, count);
}

namespace {

// So many pixels are gone through for each pair of tiles of channels: they stay in the first cache.
constexpr std::size_t strip_pixels = 64, tile_inputs = 4;

// Pixels of the output at equal steps, and those of the images that a tap brings there.
struct GradRun {
  const float *images, *grad;
  std::size_t count, images_step, grad_step;  // steps in floats
};

// Adds the products of runs, which next(run) gives one after the other until it returns false, for taps side
// by side, to their weights' gradients.
template <std::size_t taps, std::size_t inputs, std::size_t outputs, class Next>
PYTHERMO_INLINE void sum_gradient_tile(const lanes::ConvolutionShape& s, float* to, const Next& next) {
  const std::size_t tap_step = s.channels * s.out_channels * lanes, input_step = s.out_channels * lanes;
  const std::size_t pixel = s.channels * lanes;
  Members acc[taps][inputs][outputs];
#pragma GCC unroll 8
  for (std::size_t t = 0; t < taps; ++t) {
#pragma GCC unroll 8
    for (std::size_t i = 0; i < inputs; ++i) {
#pragma GCC unroll 8
      for (std::size_t q = 0; q < outputs; ++q) {
        acc[t][i][q] = load_members(to + t * tap_step + i * input_step + q * lanes);
      }
    }
  }
  GradRun run;
  while (next(run)) {
    for (std::size_t n = 0; n < run.count; ++n) {
      Members grads[outputs];
#pragma GCC unroll 8
      for (std::size_t q = 0; q < outputs; ++q) grads[q] = load_members(run.grad + q * lanes);
#pragma GCC unroll 8
      for (std::size_t t = 0; t < taps; ++t) {
#pragma GCC unroll 8
        for (std::size_t i = 0; i < inputs; ++i) {
          const Members value = load_members(run.images + t * pixel + i * lanes);
#pragma GCC unroll 8
          for (std::size_t q = 0; q < outputs; ++q) acc[t][i][q] += value * grads[q];
        }
      }
      run.images += run.images_step;
      run.grad += run.grad_step;
    }
  }
#pragma GCC unroll 8
  for (std::size_t t = 0; t < taps; ++t) {
#pragma GCC unroll 8
    for (std::size_t i = 0; i < inputs; ++i) {
#pragma GCC unroll 8
      for (std::size_t q = 0; q < outputs; ++q) {
        store(acc[t][i][q], to + t * tap_step + i * input_step + q * lanes);
      }
    }
  }
}

// What a strip of images or of rows adds to the gradients of weights.
struct GradStrip {
  const lanes::ConvolutionShape& s;
  const float *images, *grad;
  std::size_t first, last;  // images, or rows of the output counted through all images
  bool by_image;            // runs go through images, pixel by pixel, or else through rows

  PYTHERMO_INLINE bool inside(std::size_t at, std::size_t k, std::size_t size) const {
    const std::size_t shifted = at * s.stride + k;
    return shifted >= s.padding && shifted - s.padding < size;
  }

  PYTHERMO_INLINE const float* images_at(std::size_t image, std::size_t y, std::size_t ky, std::size_t x,
                                         std::size_t kx, std::size_t c) const {
    const std::size_t row = image * s.height + y * s.stride + ky - s.padding;
    return images + ((row * s.width + x * s.stride + kx - s.padding) * s.channels + c) * lanes;
  }
  PYTHERMO_INLINE const float* grad_at(std::size_t image, std::size_t y, std::size_t x, std::size_t o) const {
    return grad + (((image * s.out_height + y) * s.out_width + x) * s.out_channels + o) * lanes;
  }

  // The columns of the output that tap `kx` reaches from inside the images.
  PYTHERMO_INLINE std::size_t begin_column(std::size_t kx) const {
    std::size_t x = 0;
    while (x < s.out_width && !inside(x, kx, s.width)) ++x;
    return x;
  }
  PYTHERMO_INLINE std::size_t end_column(std::size_t kx) const {
    std::size_t x = s.out_width;
    while (x > 0 && !inside(x - 1, kx, s.width)) --x;
    return x;
  }

  // Taps ky and kx to kx + taps - 1, at the columns [begin, end).
  template <std::size_t taps, std::size_t inputs, std::size_t outputs>
  void add(std::size_t ky, std::size_t kx, std::size_t begin, std::size_t end, std::size_t c, std::size_t o,
           float* grad_weights) const {
    if (begin >= end) return;
    float* const to = grad_weights + (((ky * s.kernel + kx) * s.channels + c) * s.out_channels + o) * lanes;
    std::size_t row = first, x = begin;
    if (by_image) row = 0;
    sum_gradient_tile<taps, inputs, outputs>(s, to, [&](GradRun& run) {
      if (by_image) {
        while (row < s.out_height && !inside(row, ky, s.height)) ++row;
        if (row == s.out_height) return false;
        run = {images_at(first, row, ky, x, kx, c), grad_at(first, row, x, o), last - first,
               s.height * s.width * s.channels * lanes, s.out_height * s.out_width * s.out_channels * lanes};
        if (++x == end) x = begin, ++row;
        return true;
      }
      while (row < last && !inside(row % s.out_height, ky, s.height)) ++row;
      if (row == last) return false;
      const std::size_t image = row / s.out_height, y = row % s.out_height;
      run = {images_at(image, y, ky, begin, kx, c), grad_at(image, y, begin, o), end - begin,
             s.stride * s.channels * lanes, s.out_channels * lanes};
      ++row;
      return true;
    });
  }

  // All taps of a pair of tiles of channels. Where there are few channels, taps side by side share what is
  // loaded, in the columns that all of them reach.
  template <std::size_t inputs, std::size_t outputs>
  void add_all(std::size_t c, std::size_t o, float* grad_weights) const {
    for (std::size_t ky = 0; ky < s.kernel; ++ky) {
      if (inputs <= 2 && s.kernel == 3) {
        const std::size_t begin = smaller(begin_column(0), end_column(2)), end = end_column(2);
        add<inputs <= 2 ? 3 : 1, inputs, outputs>(ky, 0, begin, end, c, o, grad_weights);
        for (std::size_t kx = 0; kx < 3; ++kx) {
          add<1, inputs, outputs>(ky, kx, begin_column(kx), smaller(begin, end_column(kx)), c, o,
                                  grad_weights);
          const std::size_t from = begin_column(kx) < end ? end : begin_column(kx);
          add<1, inputs, outputs>(ky, kx, from, end_column(kx), c, o, grad_weights);
        }
      } else {
        for (std::size_t kx = 0; kx < s.kernel; ++kx) {
          add<1, inputs, outputs>(ky, kx, begin_column(kx), end_column(kx), c, o, grad_weights);
        }
      }
    }
  }
};

}  // namespace

void sum_weight_gradients(const lanes::ConvolutionShape& s, const float* images, const float* grad,
                          float* grad_weights) {
  const bool by_image = s.out_width < tile_pixels;
  const std::size_t count = by_image ? s.images : s.images * s.out_height;
  const std::size_t each = by_image ? s.out_height * s.out_width : s.out_width;
  const std::size_t step = each < strip_pixels ? strip_pixels / each : 1;
  for (std::size_t first = 0; first < count; first += step) {
    const GradStrip strip{s, images, grad, first, smaller(first + step, count), by_image};
    for (std::size_t o = 0; o < s.out_channels; o += tile_channels) {
      for (std::size_t c = 0; c < s.channels; c += tile_inputs) {
        with_count<tile_channels>(smaller(tile_channels, s.out_channels - o), [&](auto outputs) {
          with_count<tile_inputs>(smaller(tile_inputs, s.channels - c),
                                  [&](auto inputs) { strip.add_all<inputs, outputs>(c, o, grad_weights); });
        });
      }
    }
  }
}

}  // namespace pythermo::cpu::PYTHERMO_ISA
