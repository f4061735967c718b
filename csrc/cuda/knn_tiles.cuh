// Squared distances between points of any number of coordinates, a tile of pairs to a block.
#pragma once

#include <cuda_pipeline_primitives.h>
#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "../knn.hpp"
#include "knn_status.cuh"
#include "packs.cuh"
#include "twofold_sum.cuh"
#include "warp.cuh"

namespace pythermo::cuda {

// A block compares so many points with as many others; its threads form a square, and each takes every
// thread_side-th point of either side.
constexpr unsigned tile_side = 64, thread_side = 16, own = tile_side / thread_side;
constexpr unsigned tile_threads = thread_side * thread_side;

// Coordinates come into shared memory in stages of so many packs per point: an odd number, so that points
// side by side lie in different banks.
constexpr unsigned stage_packs = 7;
template <class T>
constexpr unsigned stage_length = stage_packs * Pack<T>::width;
constexpr std::size_t stage_bytes = 2 * tile_side * stage_packs * 16;
constexpr std::size_t tile_shared_bytes = 2 * stage_bytes;  // one stage arrives while the other is used

template <class T>
struct PairsJob {
  const T* points;  // [clouds, count, dim]
  std::size_t cloud_stride, point_stride, count, dim;
  bool aligned;  // all points, to a pack
  std::size_t first_row, rows;
  double* squared;       // [clouds, rows, count], or [count, count] of which the rows are a part
  std::size_t row_base;  // the row that comes first in `squared`
  bool mirrored;         // whether [j, i] is filled with [i, j]
  std::int64_t* status;
  std::size_t first_cloud;  // for the status

  __host__ __device__ std::size_t row_tiles() const { return (rows + tile_side - 1) / tile_side; }
  __host__ __device__ std::size_t column_tiles() const { return (count + tile_side - 1) / tile_side; }
};

// The tile of this thread's block.
template <class T>
class Tile {
 public:
  __device__ __forceinline__ explicit Tile(const PairsJob<T>& job)
      : job_(job),
        cloud_(blockIdx.x / job.column_tiles() / job.row_tiles()),
        row_(job.first_row + blockIdx.x / job.column_tiles() % job.row_tiles() * tile_side),
        column_(blockIdx.x % job.column_tiles() * tile_side) {}

  // Whether another tile's pairs, mirrored, are all of this one's.
  __device__ __forceinline__ bool is_mirror() const {
    return job_.mirrored && column_ >= job_.first_row && column_ + tile_side <= row_;
  }

  __device__ __forceinline__ std::size_t row(unsigned i) const {
    return row_ + threadIdx.x / thread_side + i * thread_side;
  }
  __device__ __forceinline__ std::size_t column(unsigned j) const {
    return column_ + threadIdx.x % thread_side + j * thread_side;
  }

  __device__ __forceinline__ bool has(std::size_t row, std::size_t column) const {
    const bool mirror = job_.mirrored && column >= job_.first_row && column < row;
    return row < job_.first_row + job_.rows && column < job_.count && !mirror;
  }

  // Begins to copy the coordinates from `start` on, zeros beyond the last one, of all points of the tile.
  __device__ __forceinline__ void copy_stage(std::size_t start, T* stage) const {
#pragma unroll 1  // unrolled, its addresses take 28 registers more
    for (unsigned c = threadIdx.x; c < 2 * tile_side * stage_packs; c += tile_threads) {
      const std::size_t at = start + c % stage_packs * Pack<T>::width;
      copy_pack(point(c / stage_packs) + at, at < job_.dim ? job_.dim - at : 0, stage + c * Pack<T>::width);
    }
    __pipeline_commit();
  }

  __device__ __forceinline__ void write(std::size_t row, std::size_t column, double value) const {
    const bool finite = value < infinity;
    if (row == column && !finite) {
      report(job_.status, static_cast<std::int64_t>((job_.first_cloud + cloud_) * job_.count + row));
    }
    if (row == column || !finite) value = infinity;
    place(row, column) = value;
    if (job_.mirrored) place(column, row) = value;
  }

 private:
  // First those of the rows, then those of the columns; beyond the last point, the last again.
  __device__ __forceinline__ const T* point(unsigned which) const {
    const std::size_t wanted = which < tile_side ? row_ + which : column_ + (which - tile_side);
    const std::size_t index = wanted < job_.count ? wanted : job_.count - 1;
    return job_.points + cloud_ * job_.cloud_stride + index * job_.point_stride;
  }

  __device__ __forceinline__ void copy_pack(const T* from, std::size_t left, T* to) const {
    if (job_.aligned && left >= Pack<T>::width) {
      __pipeline_memcpy_async(to, from, sizeof(Pack<T>));
      return;
    }
#pragma unroll
    for (unsigned i = 0; i < Pack<T>::width; ++i) {
      if (i < left) {
        __pipeline_memcpy_async(to + i, from + i, sizeof(T));
      } else {
        to[i] = T{0};
      }
    }
  }

  __device__ __forceinline__ double& place(std::size_t row, std::size_t column) const {
    return job_.squared[(cloud_ * job_.rows + row - job_.row_base) * job_.count + column];
  }

  const PairsJob<T>& job_;
  std::size_t cloud_, row_, column_;
};

// A thread's sums of squares: in T over runs that are no longer than knn::run_length, and twofold beyond.
template <class T>
struct SumsInRuns {
  using Lane = T;
  static constexpr unsigned stages_per_run = knn::run_length<T> / stage_length<T>;
  static_assert(stages_per_run > 0);

  Lane run[own][own] = {};
  TwofoldSum<T> sums[own][own];

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
  static constexpr unsigned stages_per_run = 1;

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
  const unsigned row = threadIdx.x / thread_side, column = tile_side + threadIdx.x % thread_side;
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

template <class T, class Sums>
__device__ __forceinline__ void add_all_stages(const Tile<T>& tile, std::size_t dim, Sums& sums) {
  T* const buffers = shared_memory<T>();
  const auto buffer = [&](std::size_t stage) { return buffers + stage % 2 * (stage_bytes / sizeof(T)); };
  const std::size_t stages = (dim + stage_length<T> - 1) / stage_length<T>;
  unsigned in_run = 0;
  tile.copy_stage(0, buffer(0));
  for (std::size_t stage = 0; stage < stages; ++stage) {
    __pipeline_wait_prior(0);
    __syncthreads();  // this stage has come, and the one before is no longer in use
    if (stage + 1 < stages) tile.copy_stage((stage + 1) * stage_length<T>, buffer(stage + 1));
    const std::size_t left = dim - stage * stage_length<T>;
    const std::size_t packs = (left + Pack<T>::width - 1) / Pack<T>::width;
    add_stage(buffer(stage), packs < stage_packs ? static_cast<unsigned>(packs) : stage_packs, sums);
    if (++in_run == Sums::stages_per_run || stage + 1 == stages) {
      sums.end_run();
      in_run = 0;
    }
  }
  __syncthreads();
}

// Calls visit(row, column, i, j) for the pairs of this thread.
template <class T, class Visit>
__device__ __forceinline__ void each_pair(const Tile<T>& tile, const Visit& visit) {
#pragma unroll
  for (unsigned i = 0; i < own; ++i) {
#pragma unroll
    for (unsigned j = 0; j < own; ++j) {
      const std::size_t row = tile.row(i), column = tile.column(j);
      if (tile.has(row, column)) visit(row, column, i, j);
    }
  }
}

template <class T>
__global__ void __launch_bounds__(tile_threads) squared_distances_kernel(const PairsJob<T> job) {
  const Tile<T> tile(job);
  if (tile.is_mirror()) return;
  unsigned inexact = 0;  // a bit for each pair
  {
    SumsInRuns<T> sums;
    add_all_stages(tile, job.dim, sums);
    each_pair(tile, [&](std::size_t row, std::size_t column, unsigned i, unsigned j) {
      const double value = sums.total(i, j);
      if (row == column || knn::exact_in<T>(value, job.dim)) {
        tile.write(row, column, value);
      } else {
        inexact |= 1u << (i * own + j);
      }
    });
  }
  if constexpr (sizeof(T) == 4) {
    if (!any_in_block(inexact != 0, shared_memory<unsigned>())) return;
    SumsInDouble sums;
    add_all_stages(tile, job.dim, sums);
    each_pair(tile, [&](std::size_t row, std::size_t column, unsigned i, unsigned j) {
      if ((inexact >> (i * own + j) & 1u) != 0) tile.write(row, column, sums.total(i, j));
    });
  }
}

}  // namespace pythermo::cuda
