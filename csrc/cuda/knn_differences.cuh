// Squared distances by differences: exact to rounding at any spread, for all points and devices.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>

#include "../knn.hpp"
#include "compensated_sum.cuh"
#include "knn_tiles.cuh"
#include "packs.cuh"
#include "warp.cuh"

namespace pythermo::cuda {

// Where the pairs of a thread are in the tile. A warp takes 4 rows and 8 columns of the square: 8 packs side
// by side are what shared memory delivers at once.
constexpr unsigned warp_columns = 8, warp_rows = warp_threads / warp_columns;
struct SquarePlaces {
  static __device__ __forceinline__ unsigned row() {
    return threadIdx.x / (warp_rows * thread_side) * warp_rows + lane_index() / warp_columns;
  }
  static __device__ __forceinline__ unsigned column() {
    return threadIdx.x / warp_threads % (thread_side / warp_columns) * warp_columns +
           lane_index() % warp_columns;
  }
  static constexpr __device__ unsigned row_step(unsigned i) { return i * thread_side; }
  static constexpr __device__ unsigned column_step(unsigned j) { return j * thread_side; }
};

// A thread's sums of squares: in T over runs that are no longer than knn::run_length, and beyond with their
// roundings kept, which adds half a unit to the error of a distance.
template <class T>
struct SumsInRuns {
  using Lane = T;
  static constexpr unsigned stages = stages_per_run<T>;
  static_assert(stages > 0);

  Lane run[own][own] = {};
  CompensatedSum<T> sums[own][own];

  __device__ __forceinline__ void end_run() {
#pragma unroll
    for (unsigned i = 0; i < own; ++i) {
#pragma unroll
      for (unsigned j = 0; j < own; ++j) {
        sums[i][j].add(run[i][j]);
        run[i][j] = T{0};
      }
    }
  }
  __device__ __forceinline__ double total(unsigned i, unsigned j) const { return sums[i][j].total(); }
};

// In double throughout, for float coordinates whose squares float does not hold.
struct SumsInDouble {
  using Lane = double;
  static constexpr unsigned stages = 1;

  Lane run[own][own] = {};

  __device__ __forceinline__ void end_run() {}
  __device__ __forceinline__ double total(unsigned i, unsigned j) const { return run[i][j]; }
};

// Adds the squares of a stage's first packs to the sums of this thread's pairs.
template <class T, class Sums>
__device__ __forceinline__ void add_stage(const T* stage, unsigned packs, Sums& sums) {
  using Lane = typename Sums::Lane;
  const auto pack_of = [&](unsigned point, unsigned p) {
    return *reinterpret_cast<const Pack<T>*>(stage + (point * stage_packs + p) * Pack<T>::width);
  };
  const unsigned row = SquarePlaces::row(), column = tile_side + SquarePlaces::column();
  for (unsigned p = 0; p < packs; ++p) {
    Pack<T> right[own];
#pragma unroll
    for (unsigned j = 0; j < own; ++j) right[j] = pack_of(column + j * thread_side, p);
#pragma unroll
    for (unsigned i = 0; i < own; ++i) {
      const Pack<T> left = pack_of(row + i * thread_side, p);
#pragma unroll
      for (unsigned j = 0; j < own; ++j) {
#pragma unroll
        for (unsigned c = 0; c < Pack<T>::width; ++c) {
          const Lane difference = static_cast<Lane>(left.value[c]) - static_cast<Lane>(right[j].value[c]);
          sums.run[i][j] += difference * difference;
        }
      }
    }
  }
}

// Writes the squared distances of a tile, total(row, column, i, j), that have lost nothing in T.
template <class T, class Total>
__device__ __forceinline__ void write_sums(const Tile<T>& tile, const PairsJob<T>& job, const Total& total) {
  write_tile<SquarePlaces>(
      tile, total, [&](double value, unsigned, unsigned) { return knn::exact_in<T>(value, job.dim); });
}

// A tile to each block.
template <class T>
__global__ void __launch_bounds__(tile_threads, blocks_of_tiles<T>)
    squared_distances_kernel(const PairsJob<T> job) {
  const Tile<T> tile(job);
  const std::size_t segments = job.segments();
  for (std::size_t segment = 0; segment < segments; ++segment) {
    SumsInRuns<T> sums;
    add_segment(tile, job, segment, sums);
    each_pair<SquarePlaces>(tile, [&](std::size_t row, std::size_t column, unsigned i, unsigned j) {
      double& sum = tile.place(row, column);
      sum = (segment == 0 ? 0.0 : sum) + sums.total(i, j);
    });
  }
  write_sums(tile, job, [&](std::size_t row, std::size_t column, unsigned, unsigned) {
    return tile.place(row, column);
  });
}

// A tile's segment to each block, blockIdx.y.
template <class T>
__global__ void __launch_bounds__(tile_threads, blocks_of_tiles<T>)
    segment_distances_kernel(const PairsJob<T> job) {
  const Tile<T> tile(job);
  SumsInRuns<T> sums;
  add_segment(tile, job, blockIdx.y, sums);
#pragma unroll
  for (unsigned i = 0; i < own; ++i) {
#pragma unroll
    for (unsigned j = 0; j < own; ++j) {
      job.parts[part_at<own * own>(job, blockIdx.y, i * own + j)] = sums.total(i, j);
    }
  }
}

// Puts the segments of a tile together.
template <class T>
__global__ void __launch_bounds__(tile_threads, blocks_of_tiles<T>)
    add_segments_kernel(const PairsJob<T> job) {
  const Tile<T> tile(job);
  double totals[own * own];
  add_parts(job, totals);
  write_sums(tile, job,
             [&](std::size_t, std::size_t, unsigned i, unsigned j) { return totals[i * own + j]; });
}

// Makes the distances of a tile that were not exact again, by differences in double.
__global__ void __launch_bounds__(tile_threads) make_again_kernel(const PairsJob<float> job) {
  const Tile<float> tile(job);
  bool some = false;
  each_pair<SquarePlaces>(tile, [&](std::size_t row, std::size_t column, unsigned, unsigned) {
    some |= tile.place(row, column) == to_make_again;
  });
  if (!any_in_block(some, shared_memory<unsigned>())) return;
  SumsInDouble sums;
  add_stages(tile, job.dim, 0, job.stages(), sums);
  each_pair<SquarePlaces>(tile, [&](std::size_t row, std::size_t column, unsigned i, unsigned j) {
    if (tile.place(row, column) == to_make_again) tile.write(row, column, sums.total(i, j));
  });
}

}  // namespace pythermo::cuda
