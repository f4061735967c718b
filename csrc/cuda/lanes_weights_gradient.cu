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

// Copies the channels [first, first + channels) of pixels of a tile side by side, those beyond an image as
// zeros: `place_of(p, y, x)` tells whether pixel p is inside, and where.
template <unsigned pixels, unsigned channels, class PlaceOf>
__device__ __forceinline__ void copy_pixels(const LaneImages& images, const float* image, unsigned first,
                                            float* target, const PlaceOf& place_of) {
  constexpr unsigned pieces = pixels * channels * line_pieces;
  const unsigned thread = anew(threadIdx.x);
#pragma unroll 1  // unrolled, it takes the registers of sums
  for (unsigned j = 0; j < quotient_up(pieces, lane_threads); ++j) {
    const unsigned piece = j * lane_threads + thread;
    const unsigned line = piece / line_pieces, channel = first + line % channels;
    if (piece >= pieces || channel >= images.channels) continue;
    unsigned y, x;
    if (place_of(line / channels, y, x)) {
      const float* const from = image + ((y * images.width + x) * images.channels + channel) * member_lanes +
                                piece % line_pieces * piece_members;
      __pipeline_memcpy_async(target + piece * piece_members, from, piece_members * sizeof(float));
    } else {
      *reinterpret_cast<float4*>(target + piece * piece_members) = {0, 0, 0, 0};
    }
  }
}

// What a block has of the channels and of the tiles: in its shared memory, for sums need all registers.
template <class T>
struct Share {
  unsigned first_input, first_output, group, split, begin, end;  // begin to before end: the tiles

  __device__ __forceinline__ Share(const PixelSums& sum, const TileGrid<T>& grid) {
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
__device__ __forceinline__ void copy_tile(const PixelSums& sum, const TileGrid<T>& grid, const Share<T>& own,
                                          unsigned number, float* target) {
  const bool there = number < own.end;
  const auto tile = grid.tile(there ? number : 0);
  const std::size_t image = std::size_t{own.group} * sum.images.count + tile.image;
  copy_pixels<T::patch, T::block_inputs>(sum.images, sum.images.data + image * sum.images.image_size(),
                                         own.first_input, target, [&](unsigned p, unsigned& y, unsigned& x) {
                                           y = tile.row * T::stride + p / T::patch_columns -
                                               sum.padding;  // below 0 it is beyond all sizes
                                           x = tile.column * T::stride + p % T::patch_columns - sum.padding;
                                           return there && y < sum.images.height && x < sum.images.width;
                                         });
  copy_pixels<T::rows * T::columns, T::block_outputs>(
      sum.grad, sum.grad.data + image * sum.grad.image_size(), own.first_output,
      target + T::patch_lines * member_lanes, [&](unsigned p, unsigned& y, unsigned& x) {
        y = tile.row + p / T::columns;
        x = tile.column + p % T::columns;
        return there && y < sum.grad.height && x < sum.grad.width;
      });
}

// Copies the tiles of all sets, from one on.
template <class T>
__device__ __forceinline__ void copy_tiles(const PixelSums& sum, const TileGrid<T>& grid, unsigned first,
                                           const Share<T>& own, float* stage) {
#pragma unroll
  for (unsigned t = 0; t < T::tile_sets; ++t) copy_tile(sum, grid, own, first + t, stage + t * T::tile_size);
}

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
#pragma unroll
    for (unsigned i = 0; i < T::inputs; ++i) {
#pragma unroll
      for (unsigned tap = 0; tap < T::taps * T::taps; ++tap) {
        if (first_input + i >= channels) continue;
        const unsigned line = anew((tap * channels + first_input + i) * output_channels + first_output);
        float* const own = weights + std::size_t{line} * member_lanes + lane_index();
#pragma unroll
        for (unsigned q = 0; q < T::outputs; ++q) {
          if (first_output + q < output_channels) {
            own[q * member_lanes] = value[i][tap / T::taps][tap % T::taps][q];
          }
        }
      }
    }
  }
};

template <class T>
__global__ void __launch_bounds__(lane_threads, T::stage_bytes <= 110'000 ? 2 : 1)
    pixel_sums_kernel(const PixelSums sum) {
  float* const stages = shared_memory<float>();
  const TileGrid<T> grid(sum.grad);
  auto& own = *reinterpret_cast<Share<T>*>(stages + T::stages * T::stage_size);
  if (threadIdx.x == 0) own = Share<T>(sum, grid);
  __syncthreads();
  TapGradients<T> sums;
  if (own.begin < own.end) copy_tiles(sum, grid, own.begin, own, stages);
  __pipeline_commit();
  unsigned turn = 0;
  for (unsigned first = own.begin; first < own.end; first += T::tile_sets, turn ^= 1) {
    __pipeline_wait_prior(0);
    __syncthreads();
    if (first + T::tile_sets < own.end) {
      copy_tiles(sum, grid, first + T::tile_sets, own, stages + (turn ^ 1) * T::stage_size);
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

// Calls body with the type of the tiles of a convolution.
template <class Body>
void with_tile(const LaneConvolution& own, const Body& body) {
  with_taps(own.taps, [&](auto taps) {
    with_stride(own.stride, [&](auto stride) {
      with_pixels<stride>(own.output, [&](auto rows, auto columns) {
        if (own.images.channels == 1) {
          body(std::type_identity<GradientTile<taps, stride, rows, columns, 1, 1, 2>>());
        } else if (own.images.channels == 3) {
          body(std::type_identity<GradientTile<taps, stride, rows, columns, 1, 4, 2>>());
        } else {
          body(std::type_identity<GradientTile<taps, stride, rows, columns, 2, 2, 4>>());
        }
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
    const std::size_t shared_bytes = Own::stage_bytes + sizeof(Share<Own>);
    allow_shared_bytes(&pixel_sums_kernel<Own>, shared_bytes);
    launch({"pixel_sums", blocks, lane_threads, shared_bytes}, on_stream, &pixel_sums_kernel<Own>, sum);
    const std::size_t size = weights_size(own), groups = own.images.groups;
    launch(one_thread_each("add_parts", groups * size), on_stream, &add_parts_kernel, parts,
           std::size_t{splits} * Own::tile_sets, groups, size, own.weights);
  });
}

}  // namespace pythermo::cuda
