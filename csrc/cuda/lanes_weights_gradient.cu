#include <algorithm>

#include "../lanes_convolution.hpp"
#include "lanes.cuh"
#include "lanes_shape.cuh"

namespace pythermo::cuda {
namespace {

// Products of images and gradients, summed over the pixels of the output.
struct PixelSums {
  LaneImages images, grad;
  unsigned padding, splits;
  float* parts;  // [splits * pixel sets, groups, taps, taps, C, O, 32]
};

// What a warp adds up in registers: all taps of `inputs` by `outputs` channels, over tiles of pixels. The
// warps of a block have sets of channels of their own, of inputs and of outputs, and of tiles.
template <unsigned taps_, unsigned stride_, unsigned rows_, unsigned columns_, unsigned inputs_,
          unsigned input_sets_, unsigned output_sets_>
struct GradientTile {
  static constexpr unsigned taps = taps_, stride = stride_, rows = rows_, columns = columns_;
  static constexpr unsigned inputs = inputs_, outputs = 4;
  static constexpr unsigned input_sets = input_sets_, output_sets = output_sets_;
  static constexpr unsigned tile_sets = lane_warps / (input_sets * output_sets);
  static constexpr unsigned block_inputs = inputs * input_sets, block_outputs = outputs * output_sets;
  static constexpr unsigned patch_columns = (columns - 1) * stride + taps;
  static constexpr unsigned patch = ((rows - 1) * stride + taps) * patch_columns;
  static constexpr unsigned patch_lines = patch * block_inputs;
  static constexpr unsigned grad_lines = rows * columns * block_outputs;
  static constexpr unsigned tile_size = (patch_lines + grad_lines) * member_lanes;  // in floats
  static constexpr unsigned stage_size = tile_sets * tile_size;
  static constexpr unsigned stages = 2;
  static constexpr std::size_t stage_bytes = stages * stage_size * sizeof(float);
};

// Sums go through so many tiles in float, and no further than into so many parts.
constexpr unsigned split_tiles = 64, most_splits = 64;

inline unsigned splits_of(unsigned tiles) {
  return std::clamp(quotient_up(tiles, split_tiles), 1u, most_splits);
}

// Where a line of a tile comes from, as seen from the tile's first pixel.
struct alignas(8) Line {
  int offset;  // in floats
  short y, x;
};

// The lines of a tile's pixels, `columns` to a row, each with `channels` lines.
template <unsigned pixels, unsigned columns, unsigned channels>
struct Lines {
  static constexpr unsigned count = pixels * channels;

  Line line[count];

  __device__ __forceinline__ void find(const LaneImages& images, unsigned first_channel) {
    constexpr short nowhere = longest_side;  // beyond all images
    for (unsigned l = threadIdx.x; l < count; l += lane_threads) {
      const unsigned y = l / channels / columns, x = l / channels % columns;
      const unsigned channel = first_channel + l % channels;
      const unsigned offset = ((y * images.width + x) * images.channels + channel) * member_lanes;
      line[l] = {static_cast<int>(offset), channel < images.channels ? static_cast<short>(y) : nowhere,
                 static_cast<short>(x)};
    }
  }

  // Copies those of the tile at a row and a column, below 0 too, as zeros where there is no pixel.
  __device__ __forceinline__ void copy(const LaneImages& images, std::size_t image, int row, int column,
                                       bool there, float* target) const {
    const auto pixel = static_cast<std::ptrdiff_t>(row) * images.width + column;
    const unsigned height = there ? images.height : 0, thread = anew(threadIdx.x);
    const float* const first = images.data + image * images.image_size() +
                               pixel * static_cast<std::ptrdiff_t>(images.pixel_size()) +
                               thread % line_pieces * piece_members;
    const Line *at = line + thread / line_pieces, *const end = line + count;
    target += thread * piece_members;
#pragma unroll 1
    for (; at < end; at += lane_threads / line_pieces, target += lane_threads * piece_members) {
      const Line own = *at;
      const bool inside =
          static_cast<unsigned>(row + own.y) < height && static_cast<unsigned>(column + own.x) < images.width;
      copy_piece(first + own.offset, inside, target);
    }
  }
};

// What a block has of the channels and of the tiles, and where their lines come from: in its shared memory,
// for sums need all registers.
template <class T>
struct Share {
  unsigned first_input, first_output, group, split, begin, end;  // begin to before end: the tiles
  Lines<T::patch, T::patch_columns, T::block_inputs> patch;
  Lines<T::rows * T::columns, T::columns, T::block_outputs> grad;

  __device__ __forceinline__ void find(const PixelSums& sum, const TileGrid<T>& grid) {
    if (threadIdx.x == 0) {
      const unsigned output_blocks = quotient_up(sum.grad.channels, T::block_outputs);
      const unsigned input_blocks = quotient_up(sum.images.channels, T::block_inputs);
      unsigned block = blockIdx.x;
      first_output = block % output_blocks * T::block_outputs;
      block /= output_blocks;
      first_input = block % input_blocks * T::block_inputs;
      block /= input_blocks;
      split = block % sum.splits;
      group = block / sum.splits;
      const unsigned each = quotient_up(grid.tiles(), sum.splits);
      begin = split * each;
      end = begin + each < grid.tiles() ? begin + each : grid.tiles();
    }
    __syncthreads();
    patch.find(sum.images, first_input);
    this->grad.find(sum.grad, first_output);
    __syncthreads();
  }

  // Copies the tiles of all sets, from one on.
  __device__ __forceinline__ void copy(const PixelSums& sum, const TileGrid<T>& grid, unsigned first,
                                       float* stage) const {
#pragma unroll
    for (unsigned t = 0; t < T::tile_sets; ++t) {
      const bool there = first + t < end;
      const auto tile = grid.tile(there ? first + t : 0);
      const std::size_t image = std::size_t{group} * sum.images.count + tile.image;
      const int row = static_cast<int>(tile.row), column = static_cast<int>(tile.column);
      const int stride = T::stride, padding = static_cast<int>(sum.padding);
      float* const target = stage + t * T::tile_size;
      patch.copy(sum.images, image, row * stride - padding, column * stride - padding, there, target);
      this->grad.copy(sum.grad, image, row, column, there, target + T::patch_lines * member_lanes);
    }
  }
};

// Which of the block's channels and tiles a warp has.
template <class T>
struct WarpShare {
  unsigned input, output, tile_set;

  __device__ __forceinline__ WarpShare() {
    const unsigned warp = anew(threadIdx.x) / warp_threads;
    output = warp % T::output_sets * T::outputs;
    input = warp / T::output_sets % T::input_sets * T::inputs;
    tile_set = warp / T::output_sets / T::input_sets;
  }

  __device__ __forceinline__ bool works(const PixelSums& sum, const Share<T>& block) const {
    return block.first_input + input < sum.images.channels && block.first_output + output < sum.grad.channels;
  }
};

template <class T>
struct TapGradients {
  float value[T::inputs][T::taps][T::taps][T::outputs] = {};

  // Adds the products of a tile's pixels.
  __device__ __forceinline__ void add(const float* patch, const float* grad) {
#pragma unroll
    for (unsigned r = 0; r < T::rows; ++r) {
#pragma unroll
      for (unsigned c = 0; c < T::columns; ++c) {
        float grads[T::outputs];
#pragma unroll
        for (unsigned q = 0; q < T::outputs; ++q)
          grads[q] = grad[((r * T::columns + c) * T::block_outputs + q) * member_lanes];
#pragma unroll
        for (unsigned i = 0; i < T::inputs; ++i) {
#pragma unroll
          for (unsigned ky = 0; ky < T::taps; ++ky) {
#pragma unroll
            for (unsigned kx = 0; kx < T::taps; ++kx) {
              const unsigned place = (r * T::stride + ky) * T::patch_columns + c * T::stride + kx;
              const float own = patch[(place * T::block_inputs + i) * member_lanes];
#pragma unroll
              for (unsigned q = 0; q < T::outputs; ++q) value[i][ky][kx][q] += own * grads[q];
            }
          }
        }
      }
    }
  }

  // To [taps, taps, C, O, 32].
  __device__ __forceinline__ void store(float* weights, unsigned channels, unsigned output_channels,
                                        unsigned first_input, unsigned first_output) const {
    const unsigned line = first_input * output_channels + first_output;
    float* own = weights + std::size_t{line} * member_lanes + lane_index();
#pragma unroll
    for (unsigned tap = 0; tap < T::taps * T::taps; ++tap) {
#pragma unroll
      for (unsigned i = 0; i < T::inputs; ++i) {
#pragma unroll
        for (unsigned q = 0; q < T::outputs; ++q) {
          if (first_input + i < channels && first_output + q < output_channels) {
            own[(i * anew(output_channels) + q) * member_lanes] = value[i][tap / T::taps][tap % T::taps][q];
          }
        }
      }
      own += std::size_t{anew(channels) * output_channels} * member_lanes;
    }
  }
};

template <class T>
__global__ void __launch_bounds__(lane_threads, T::stage_bytes <= 110'000 ? 2 : 1)
    pixel_sums_kernel(const PixelSums sum) {
  float* const stages = shared_memory<float>();
  const TileGrid<T> grid(sum.grad);
  auto& own = *reinterpret_cast<Share<T>*>(stages + T::stages * T::stage_size);
  own.find(sum, grid);
  TapGradients<T> sums;
  if (own.begin < own.end) own.copy(sum, grid, own.begin, stages);
  __pipeline_commit();
  unsigned turn = 0;
  for (unsigned first = own.begin; first < own.end; first += T::tile_sets, turn ^= 1) {
    __pipeline_wait_prior(0);
    __syncthreads();
    if (first + T::tile_sets < own.end) {
      own.copy(sum, grid, first + T::tile_sets, stages + (turn ^ 1) * T::stage_size);
    }
    __pipeline_commit();
    const WarpShare<T> of_warp;
    if (!of_warp.works(sum, own)) continue;
    const float* const tile = stages + turn * T::stage_size + of_warp.tile_set * T::tile_size + lane_index();
    sums.add(tile + of_warp.input * member_lanes, tile + (T::patch_lines + of_warp.output) * member_lanes);
  }
  const WarpShare<T> of_warp;
  if (!of_warp.works(sum, own)) return;
  const std::size_t size =
      std::size_t{T::taps} * T::taps * sum.images.channels * sum.grad.channels * member_lanes;
  const std::size_t part =
      (std::size_t{own.split} * T::tile_sets + of_warp.tile_set) * sum.images.groups + own.group;
  sums.store(sum.parts + part * size, sum.images.channels, sum.grad.channels, own.first_input + of_warp.input,
             own.first_output + of_warp.output);
}

__global__ void __launch_bounds__(lane_threads)
    add_parts_kernel(const float* parts, std::size_t part_count, std::size_t groups, std::size_t size,
                     const StridedView<float> weights) {
  const std::size_t at = thread_of_grid(), group = at / size;
  if (group >= groups) return;
  weights.data[group * weights.stride + at % size] +=
      static_cast<float>(sum_of_parts(parts, part_count, groups * size, at));
}

template <class T>
constexpr std::size_t shared_bytes_of = T::stage_bytes + sizeof(Share<T>);

// Calls body with a warp's and a block's channels: those that few, or many, channels of images fill.
template <class Body>
void with_channels(unsigned channels, const Body& body) {
  if (channels == 1) {
    body(Constant<1>(), Constant<1>(), Constant<2>());
  } else if (channels == 3) {
    body(Constant<1>(), Constant<4>(), Constant<2>());
  } else {
    body(Constant<2>(), Constant<2>(), Constant<4>());
  }
}

// Calls body with the type of the tiles of a convolution.
template <class Body>
void with_tile(const LaneConvolution& own, const Body& body) {
  with_taps(own.taps, [&](auto taps) {
    with_stride(own.stride, [&](auto stride) {
      with_channels(own.images.channels, [&](auto inputs, auto input_sets, auto output_sets) {
        const auto tile_of = [&](auto rows, auto columns) {
          return std::type_identity<
              GradientTile<taps, stride, rows, columns, inputs, input_sets, output_sets>>();
        };
        const auto shared_bytes = [&](auto rows, auto columns) {
          return shared_bytes_of<typename decltype(tile_of(rows, columns))::type>;
        };
        with_pixels<stride>(own.output, shared_bytes,
                            [&](auto rows, auto columns) { body(tile_of(rows, columns)); });
      });
    });
  });
}

// Of a group.
std::size_t weights_size(const LaneConvolution& own) {
  return std::size_t{own.taps} * own.taps * own.images.channels * own.output.channels * member_lanes;
}

}  // namespace

std::size_t lanes_weights_gradient_workspace_size(const TensorView& images, const TensorView& grad,
                                                  std::size_t stride, std::size_t padding,
                                                  const TensorView& grad_weights) {
  const LaneConvolution own(images, grad_weights, grad, stride, padding);
  std::size_t size = 0;
  with_tile(own, [&](auto type) {
    using Own = typename decltype(type)::type;
    const std::size_t parts = std::size_t{splits_of(TileGrid<Own>(own.output).tiles())} * Own::tile_sets;
    size = quotient_up(parts * own.images.groups * weights_size(own) * sizeof(float), sizeof(double));
  });
  return size;
}

void lanes_convolution_weights_gradient(const TensorView& images, const TensorView& grad, std::size_t stride,
                                        std::size_t padding, const TensorView& grad_weights,
                                        const TensorView& workspace, std::uintptr_t stream) {
  const LaneConvolution own(images, grad_weights, grad, stride, padding);
  const std::size_t room = lanes_weights_gradient_workspace_size(images, grad, stride, padding, grad_weights);
  const auto parts = reinterpret_cast<float*>(device_array<double>(workspace, room));
  const auto on_stream = reinterpret_cast<cudaStream_t>(stream);
  with_tile(own, [&](auto type) {
    using Own = typename decltype(type)::type;
    const unsigned splits = splits_of(TileGrid<Own>(own.output).tiles());
    const PixelSums sum{own.images, own.output, own.padding, splits, parts};
    const std::size_t blocks = std::size_t{quotient_up(own.images.channels, Own::block_inputs)} *
                               quotient_up(own.output.channels, Own::block_outputs) * splits *
                               own.images.groups;
    allow_shared_bytes(&pixel_sums_kernel<Own>, shared_bytes_of<Own>);
    launch({"pixel_sums", blocks, lane_threads, shared_bytes_of<Own>}, on_stream, &pixel_sums_kernel<Own>,
           sum);
    const std::size_t size = weights_size(own), groups = own.images.groups;
    launch(one_thread_each("add_parts", groups * size), on_stream, &add_parts_kernel, parts,
           std::size_t{splits} * Own::tile_sets, groups, size, own.weights);
  });
}

}  // namespace pythermo::cuda
