#include "../lanes_convolution.hpp"

#include "lanes_tiles.hpp"

namespace pythermo::cpu::PYTHERMO_ISA {
namespace {

// The weights of a block of channels for a tile of outputs, [taps, channels, outputs, lanes]: side by side,
// they stay in the first cache, in whose sets those of many channels push each other out.
using TileWeights = float[max_taps * block_channels * tile_columns * lanes];

template <std::size_t outputs>
PYTHERMO_INLINE void pack_weights(const TapSum& sum, std::size_t first, std::size_t channels, std::size_t to,
                                  TileWeights& packed) {
  const std::size_t per_tap = sum.from_channels * sum.to_channels * lanes;
  float* place = packed;
  for (std::size_t tap = 0; tap < sum.taps; ++tap) {
    for (std::size_t c = first; c < first + channels; ++c) {
      const float* const weights =
          sum.weights + tap * per_tap + (c * sum.from_stride + to * sum.to_stride) * lanes;
#pragma GCC unroll 8
      for (std::size_t q = 0; q < outputs; ++q, place += lanes) {
        store(load_members(weights + q * sum.to_stride * lanes), place);
      }
    }
  }
}

// What a tile is summed up from: pixels of a block of channels, and its weights.
struct TileSum {
  const TapRun& run;
  const float *from, *weights;
  std::size_t from_step, to_step;  // from pixel to pixel, in floats
  std::size_t channels;
  bool begins;  // with the first block, before which the sums are 0
};

template <std::size_t pixels, std::size_t outputs>
void sum_tile(const TileSum& tile, float* to) {
  Tile<pixels, outputs> sums;
  tile.begins ? sums.clear() : sums.load(to, tile.to_step);
  sums.fetch(to + pixels * tile.to_step, tile.to_step);
  const std::size_t per_tap = tile.channels * outputs * lanes;
  for (const TapOffset* tap = tile.run.taps; tap < tile.run.taps + tile.run.tap_count; ++tap) {
    const float* from = tile.from + tap->offset * std::ptrdiff_t{lanes};
    const float* weights = tile.weights + tap->tap * per_tap;
    for (const float* const end = weights + per_tap; weights < end;
         weights += outputs * lanes, from += lanes) {
      sums.add(from, tile.from_step, weights);
    }
  }
  sums.store_to(to, tile.to_step);
}

// Adds the products of a block of channels to a tile of outputs, at all pixels of all images.
template <std::size_t outputs>
PYTHERMO_INLINE void sum_outputs(const TapSum& sum, const float* from, const float* weights,
                                 std::size_t channels, bool begins, float* to) {
  const std::size_t from_step = sum.from_step * lanes, to_step = sum.to_step * lanes;
  const auto add_tile = [&](const TapRun& run, const float* source, float* target, std::size_t first,
                            std::size_t count) {
    source += first * from_step;
    target += run.to * lanes + first * to_step;
    with_count<tile_rows>(count, [&](auto pixels) {
      sum_tile<pixels, outputs>({run, source, weights, from_step, to_step, channels, begins}, target);
    });
  };
  const TapRun* const end = sum.runs + sum.run_count;
  if (sum.by_image) {
    each_tile(sum.images, tile_rows, [&](std::size_t first, std::size_t count) {
      for (const TapRun* run = sum.runs; run < end; ++run) add_tile(*run, from, to, first, count);
    });
    return;
  }
  for (std::size_t image = 0; image < sum.images; ++image) {
    for (const TapRun* run = sum.runs; run < end; ++run) {
      each_tile(run->pixels, tile_rows,
                [&](std::size_t first, std::size_t count) { add_tile(*run, from, to, first, count); });
    }
    from += sum.from_image * lanes;
    to += sum.to_image * lanes;
  }
}

}  // namespace

std::size_t member_lanes() { return lanes; }

void pack_images(const Packing& packing, std::size_t images, const float* from, float* to) {
  const std::size_t pixel = packing.pixel_step * packing.block * lanes;
  const auto clear = [&](float* place, std::size_t pixels) {
    for (std::size_t i = 0; i < pixels * packing.block * lanes; i += lanes) store(Members{}, place + i);
  };
  for (std::size_t image = 0; image < images; ++image) {
    for (std::size_t y = 0; y < packing.height; ++y, from += packing.width * packing.channels * lanes) {
      float* row = to + (image * packing.image_step + y * packing.row_step) * packing.block * lanes;
      for (std::size_t c = 0; c < packing.channels; c += packing.block, row += packing.block_size * lanes) {
        const std::size_t channels = smaller(packing.block, packing.channels - c);
        clear(row, packing.before);
        float* const place = row + packing.before * pixel;
        for (std::size_t x = 0; x < packing.width; ++x) {
          const float* const source = from + (x * packing.channels + c) * lanes;
          for (std::size_t i = 0; i < channels * lanes; i += lanes) {
            store(load_members(source + i), place + x * pixel + i);
          }
        }
        clear(place + packing.width * pixel, packing.after);
      }
    }
  }
}

void sum_taps(const TapSum& sum, const float* from, float* to) {
  alignas(64) TileWeights weights;
  for (std::size_t c = 0; c < sum.from_channels; c += block_channels, from += sum.block_size * lanes) {
    const std::size_t channels = smaller(block_channels, sum.from_channels - c);
    for (std::size_t o = 0; o < sum.to_channels; o += tile_columns) {
      with_count<tile_columns>(smaller(tile_columns, sum.to_channels - o), [&](auto outputs) {
        pack_weights<outputs>(sum, c, channels, o, weights);
        sum_outputs<outputs>(sum, from, weights, channels, c == 0, to + o * lanes);
      });
    }
  }
}

namespace {

// So many channels of the images are summed up together.
constexpr std::size_t gradient_inputs = 4;

// Pixels of the output at equal steps, and those of the images that a tap brings there.
struct GradRun {
  const float *images, *grad;
  std::size_t count, images_step, grad_step;  // steps in floats
};

// Adds the products of runs, which next(run) gives one after the other until it returns false, for taps side
// by side, to their weights' gradients.
template <std::size_t taps, std::size_t inputs, std::size_t outputs, class Next>
PYTHERMO_INLINE void sum_gradient_tile(const lanes::ConvolutionShape& s, std::size_t pixel, float* to,
                                       const Next& next) {
  const std::size_t tap_step = s.channels * s.out_channels * lanes, input_step = s.out_channels * lanes;
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
      for (std::size_t q = 0; q < outputs; ++q) grads[q] = in_register(load_members(run.grad + q * lanes));
#pragma GCC unroll 8
      for (std::size_t t = 0; t < taps; ++t) {
#pragma GCC unroll 8
        for (std::size_t i = 0; i < inputs; ++i) {
          const Members value = in_register(load_members(run.images + t * pixel + i * lanes));
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

// What rows of packed images add to the gradients of weights.
struct GradStrip {
  const GradSum& sum;
  const float *images, *grad;  // of a pair of blocks
  std::size_t first, last;     // rows of the output

  PYTHERMO_INLINE bool inside(std::size_t at, std::size_t k, std::size_t size) const {
    const std::size_t shifted = at * sum.shape.stride + k;
    return shifted >= sum.shape.padding && shifted - sum.shape.padding < size;
  }

  // The columns of the output that tap `kx` reaches from inside the images.
  PYTHERMO_INLINE std::size_t begin_column(std::size_t kx) const {
    std::size_t x = 0;
    while (x < sum.shape.out_width && !inside(x, kx, sum.shape.width)) ++x;
    return x;
  }
  PYTHERMO_INLINE std::size_t end_column(std::size_t kx) const {
    std::size_t x = sum.shape.out_width;
    while (x > 0 && !inside(x - 1, kx, sum.shape.width)) --x;
    return x;
  }

  // Taps ky and kx to kx + taps - 1, at the columns [begin, end), to the gradients of the pair of blocks.
  template <std::size_t taps, std::size_t inputs, std::size_t outputs>
  void add(std::size_t ky, std::size_t kx, std::size_t begin, std::size_t end, float* to) const {
    if (begin >= end) return;
    const lanes::ConvolutionShape& s = sum.shape;
    const std::size_t pixel = sum.images.block * lanes, grad_pixel = sum.grads.block * lanes;
    to += (ky * s.kernel + kx) * s.channels * s.out_channels * lanes;
    std::size_t row = first, x = begin;
    sum_gradient_tile<taps, inputs, outputs>(s, pixel, to, [&](GradRun& run) {
      while (row < last && !inside(row, ky, s.height)) ++row;
      if (row >= last) return false;
      const std::size_t column = x * s.stride + kx + sum.images.before - s.padding;
      run.images =
          images +
          ((row * s.stride + ky - s.padding) * sum.images.row_step + column * sum.images.pixel_step) * pixel;
      run.grad = grad + (row * sum.grads.row_step + x * sum.grads.pixel_step) * grad_pixel;
      if (sum.by_image) {
        run.count = sum.images_count, run.images_step = pixel, run.grad_step = grad_pixel;
        if (++x == end) x = begin, ++row;
      } else {
        run.count = end - begin, run.images_step = s.stride * pixel, run.grad_step = grad_pixel;
        ++row;
      }
      return true;
    });
  }

  // All taps. Where there are few channels, taps side by side share what is loaded.
  template <std::size_t inputs, std::size_t outputs>
  void add_all(float* to) const {
    for (std::size_t ky = 0; ky < sum.shape.kernel; ++ky) {
      if (inputs <= taps_together_channels && sum.taps_together) {
        add<inputs <= taps_together_channels ? 3 : 1, inputs, outputs>(ky, 0, 0, sum.shape.out_width, to);
        continue;
      }
      for (std::size_t kx = 0; kx < sum.shape.kernel; ++kx) {
        add<1, inputs, outputs>(ky, kx, begin_column(kx), end_column(kx), to);
      }
    }
  }
};

}  // namespace

std::size_t output_block() { return tile_columns; }

void sum_weight_gradients(const GradSum& sum, const float* images, const float* grad, float* grad_weights) {
  const lanes::ConvolutionShape& s = sum.shape;
  for (std::size_t first = 0; first < s.out_height; first += sum.rows) {
    const std::size_t last = smaller(first + sum.rows, s.out_height);
    for (std::size_t o = 0; o < s.out_channels; o += tile_columns) {
      for (std::size_t c = 0; c < s.channels; c += gradient_inputs) {
        const std::size_t block = c / block_channels * sum.images.block_size + c % block_channels;
        const GradStrip strip{sum, images + block * lanes,
                              grad + o / tile_columns * sum.grads.block_size * lanes, first, last};
        float* const to = grad_weights + (c * s.out_channels + o) * lanes;
        with_count<tile_columns>(smaller(tile_columns, s.out_channels - o), [&](auto outputs) {
          with_count<gradient_inputs>(smaller(gradient_inputs, s.channels - c),
                                      [&](auto inputs) { strip.add_all<inputs, outputs>(to); });
        });
      }
    }
  }
}

}  // namespace pythermo::cpu::PYTHERMO_ISA
