#include "../lanes_convolution.hpp"
#include "lanes.cuh"
#include "lanes_shape.cuh"

namespace pythermo::cuda {
namespace {

// A convolution one way or the other, as sums over taps from one side to the other.
struct TapSums {
  LaneImages from, to;
  StridedView<float> weights;         // of each group
  unsigned from_weights, to_weights;  // steps of the weights from channel to channel, in lines
  bool backward;                      // taps in reverse order
  unsigned border;                    // zeros before the first pixel of `from`
  unsigned spread;                    // places from one of its pixels to the next, with zeros between

  // The image, or nothing where there is a zero, of a place along an axis of `size` pixels.
  __device__ __forceinline__ bool source(unsigned place, unsigned size, unsigned& at) const {
    const unsigned shifted = place - border;  // below 0 it is beyond all sizes
    at = shifted / spread;
    return shifted < size * spread && at * spread == shifted;
  }
};

// What a warp adds up in registers: rows x columns pixels by `outputs` channels. A block of warps shares
// what it copies to shared memory: the surroundings of `tiles` tiles, and the weights to `sets` sets of
// channels, for one channel of `from` after the other.
template <unsigned taps_, unsigned stride_, unsigned rows_, unsigned columns_, unsigned outputs_>
struct Tile {
  static constexpr unsigned taps = taps_, stride = stride_, rows = rows_, columns = columns_;
  static constexpr unsigned outputs = outputs_;
  static constexpr unsigned tiles = 4, sets = lane_warps / tiles, block_outputs = sets * outputs;
  static constexpr unsigned patch_columns = (columns - 1) * stride + taps;
  static constexpr unsigned patch = ((rows - 1) * stride + taps) * patch_columns;
  static constexpr unsigned patch_lines = tiles * patch, weight_lines = taps * taps * block_outputs;
  static constexpr unsigned stage_size = (patch_lines + weight_lines) * member_lanes;  // in floats
  // As many as two blocks of a large multiprocessor have room for; small tiles are for small ones too.
  static constexpr unsigned stages = rows * columns > 4 && 6 * stage_size * sizeof(float) <= 220'000 ? 3 : 2;
  static constexpr std::size_t shared_bytes = stages * stage_size * sizeof(float);
};

constexpr unsigned nothing = 0xffffffffu;

// Where the pieces that a thread copies come from, for the first channel: in floats.
template <class T>
struct Sources {
  static constexpr unsigned patch_copies = quotient_up(T::patch_lines * line_pieces, lane_threads);
  static constexpr unsigned weight_copies = quotient_up(T::weight_lines * line_pieces, lane_threads);
  const float *from, *weights;
  unsigned patch_at[patch_copies], weights_at[weight_copies];

  __device__ __forceinline__ Sources(const TapSums& sum, const TileGrid<T>& grid, unsigned group,
                                     unsigned first_tile, unsigned first_output) {
    const unsigned first_image = first_tile / grid.tiles_of_image();
    from = sum.from.data + group * sum.from.group_size() + first_image * sum.from.image_size();
    const unsigned tap_lines = sum.from.channels * sum.to.channels;
    weights = sum.weights.data + group * sum.weights.stride;
    const unsigned begin = threadIdx.x % line_pieces * piece_members;
#pragma unroll
    for (unsigned j = 0; j < patch_copies; ++j) {
      const unsigned line = (j * lane_threads + threadIdx.x) / line_pieces;
      const unsigned number = first_tile + line / T::patch, place = line % T::patch;
      patch_at[j] = nothing;
      if (line >= T::patch_lines || number >= grid.tiles()) continue;
      const auto tile = grid.tile(number);
      unsigned y, x;
      const bool inside = sum.source(tile.row * T::stride + place / T::patch_columns, sum.from.height, y) &&
                          sum.source(tile.column * T::stride + place % T::patch_columns, sum.from.width, x);
      if (!inside) continue;
      const unsigned pixel = ((tile.image - first_image) * sum.from.height + y) * sum.from.width + x;
      patch_at[j] = pixel * sum.from.channels * member_lanes + begin;
    }
#pragma unroll
    for (unsigned j = 0; j < weight_copies; ++j) {
      const unsigned line = (j * lane_threads + threadIdx.x) / line_pieces;
      const unsigned tap = line / T::block_outputs, output = first_output + line % T::block_outputs;
      weights_at[j] = nothing;
      if (line >= T::weight_lines || output >= sum.to.channels) continue;
      const unsigned own = sum.backward ? T::taps * T::taps - 1 - tap : tap;
      weights_at[j] = (own * tap_lines + output * sum.to_weights) * member_lanes + begin;
    }
  }

  // Places that no channel writes are zero for all.
  __device__ __forceinline__ void clear(float* stages) const {
#pragma unroll
    for (unsigned j = 0; j < patch_copies; ++j) {
      const unsigned piece = j * lane_threads + threadIdx.x;
      if (patch_at[j] != nothing || piece >= T::patch_lines * line_pieces) continue;
      for (unsigned s = 0; s < T::stages; ++s) {
        *reinterpret_cast<float4*>(stages + s * T::stage_size + piece * piece_members) = {0, 0, 0, 0};
      }
    }
  }

  __device__ __forceinline__ void copy(unsigned channel, unsigned from_weights, float* stage) const {
#pragma unroll
    for (unsigned j = 0; j < patch_copies; ++j) {
      if (patch_at[j] == nothing) continue;
      __pipeline_memcpy_async(stage + (j * lane_threads + threadIdx.x) * piece_members,
                              from + patch_at[j] + channel * member_lanes, piece_members * sizeof(float));
    }
    const float* const own = weights + std::size_t{channel} * from_weights * member_lanes;
    float* const target = stage + T::patch_lines * member_lanes;
#pragma unroll
    for (unsigned j = 0; j < weight_copies; ++j) {
      if (weights_at[j] == nothing) continue;
      __pipeline_memcpy_async(target + (j * lane_threads + threadIdx.x) * piece_members, own + weights_at[j],
                              piece_members * sizeof(float));
    }
  }
};

// What a warp adds up.
template <class T>
struct Sums {
  float value[T::rows][T::columns][T::outputs] = {};

  // Adds the products of one channel: the surroundings of the tile, and the weights of all outputs.
  __device__ __forceinline__ void add(const float* patch, const float* weights) {
#pragma unroll
    for (unsigned j = 0; j < T::taps; ++j) {
      const unsigned ky = tap(j);
#pragma unroll
      for (unsigned k = 0; k < T::taps; ++k) {
        const unsigned kx = tap(k);
#pragma unroll
        for (unsigned q = 0; q < T::outputs; ++q) {
          const float weight = weights[((ky * T::taps + kx) * T::block_outputs + q) * member_lanes];
#pragma unroll
          for (unsigned r = 0; r < T::rows; ++r) {
#pragma unroll
            for (unsigned c = 0; c < T::columns; ++c) {
              const unsigned place = (r * T::stride + ky) * T::patch_columns + c * T::stride + kx;
              value[r][c][q] += patch[place * member_lanes] * weight;
            }
          }
        }
      }
    }
  }

  // The j-th tap of an axis: those that share pixels, with a stride of 2 the first and the last, come one
  // after the other, so that few pixels wait in registers.
  static __device__ __forceinline__ constexpr unsigned tap(unsigned j) {
    return T::taps == 3 && T::stride == 2 ? j * 2 % 3 : j;
  }

  __device__ __forceinline__ void store(const LaneImages& to, std::size_t first_pixel, unsigned rows,
                                        unsigned columns, unsigned first_output) const {
#pragma unroll
    for (unsigned r = 0; r < T::rows; ++r) {
#pragma unroll
      for (unsigned c = 0; c < T::columns; ++c) {
        if (r >= rows || c >= columns) continue;
        float* const pixel = to.data + (first_pixel + r * to.width + c) * to.pixel_size() + lane_index();
#pragma unroll
        for (unsigned q = 0; q < T::outputs; ++q) {
          if (first_output + q < to.channels) pixel[(first_output + q) * member_lanes] = value[r][c][q];
        }
      }
    }
  }
};

template <class T>
__global__ void __launch_bounds__(lane_threads, 2) tap_sums_kernel(const TapSums sum) {
  float* const stages = shared_memory<float>();
  const TileGrid<T> grid(sum.to);
  const unsigned channel_blocks = quotient_up(sum.to.channels, T::block_outputs);
  const unsigned tile_blocks = quotient_up(grid.tiles(), T::tiles);
  const unsigned first_output = blockIdx.x % channel_blocks * T::block_outputs;
  const unsigned first_tile = blockIdx.x / channel_blocks % tile_blocks * T::tiles;
  const unsigned group = blockIdx.x / channel_blocks / tile_blocks;
  const Sources<T> sources(sum, grid, group, first_tile, first_output);
  sources.clear(stages);

  const unsigned channels = sum.from.channels;
#pragma unroll
  for (unsigned c = 0; c + 1 < T::stages; ++c) {
    if (c < channels) sources.copy(c, sum.from_weights, stages + c * T::stage_size);
    __pipeline_commit();
  }
  const unsigned warp = threadIdx.x / warp_threads, own_tile = warp % T::tiles;
  const unsigned own_output = warp / T::tiles * T::outputs;
  const bool works = first_tile + own_tile < grid.tiles() && first_output + own_output < sum.to.channels;
  Sums<T> sums;
  for (unsigned c = 0; c < channels; ++c) {
    __pipeline_wait_prior(T::stages - 2);
    __syncthreads();
    const unsigned next = c + T::stages - 1;
    if (next < channels) sources.copy(next, sum.from_weights, stages + next % T::stages * T::stage_size);
    __pipeline_commit();
    const float* const stage = stages + c % T::stages * T::stage_size + lane_index();
    if (works) {
      sums.add(stage + own_tile * T::patch * member_lanes,
               stage + (T::patch_lines + own_output) * member_lanes);
    }
  }
  if (!works) return;
  const auto tile = grid.tile(first_tile + own_tile);
  const std::size_t image = std::size_t{group} * sum.to.count + tile.image;
  sums.store(sum.to, (image * sum.to.height + tile.row) * sum.to.width + tile.column, grid.rows_of(tile),
             grid.columns_of(tile), first_output + own_output);
}

void add_up(const TapSums& sum, unsigned taps, unsigned stride, std::uintptr_t stream) {
  with_taps(taps, [&](auto own_taps) {
    with_stride(stride, [&](auto own_stride) {
      const auto tile_of = [&](auto rows, auto columns) {
        return Tile<own_taps, own_stride, rows, columns, (rows * columns > 4 ? 4 : 8)>();
      };
      const auto shared_bytes = [&](auto rows, auto columns) { return tile_of(rows, columns).shared_bytes; };
      with_pixels<own_stride>(sum.to, shared_bytes, [&](auto rows, auto columns) {
        using Own = decltype(tile_of(rows, columns));
        const TileGrid<Own> grid(sum.to);
        const std::size_t blocks = std::size_t{quotient_up(grid.tiles(), Own::tiles)} *
                                   quotient_up(sum.to.channels, Own::block_outputs) * sum.to.groups;
        allow_shared_bytes(&tap_sums_kernel<Own>, Own::shared_bytes);
        launch({"tap_sums", blocks, lane_threads, Own::shared_bytes}, reinterpret_cast<cudaStream_t>(stream),
               &tap_sums_kernel<Own>, sum);
      });
    });
  });
}

}  // namespace

void lanes_convolution(const TensorView& images, const TensorView& weights, std::size_t stride,
                       std::size_t padding, const TensorView& output, std::uintptr_t stream) {
  const LaneConvolution own(images, weights, output, stride, padding);
  const TapSums sum{own.images, own.output, own.weights, own.output.channels, 1, false, own.padding, 1};
  add_up(sum, own.taps, own.stride, stream);
}

void lanes_convolution_images_gradient(const TensorView& grad, const TensorView& weights, std::size_t stride,
                                       std::size_t padding, const TensorView& grad_images,
                                       std::uintptr_t stream) {
  const LaneConvolution own(grad_images, weights, grad, stride, padding);
  const TapSums sum{
      own.output, own.images, own.weights, 1, own.output.channels, true, own.taps - 1 - own.padding,
      own.stride};
  add_up(sum, own.taps, 1, stream);
}

}  // namespace pythermo::cuda
