// Points of any number of coordinates, a tile of pairs to a block: how a block brings its coordinates, adds
// up what Sums (knn_differences.cuh, knn_products.cuh) make of them, and writes squared distances.
#pragma once

#include <cuda_pipeline_primitives.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "../knn.hpp"
#include "knn_status.cuh"
#include "packs.cuh"
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

// Runs are as long as whole stages that knn::run_length has room for.
template <class T>
constexpr unsigned stages_per_run = knn::run_length<T> / stage_length<T>;

// Coordinates are added up in segments, at most so many, and these in double, in order. A block takes a whole
// tile, or only one of its segments: the sums have the same bits. 1000 points are 136 tiles, whose 15
// segments fill 2 x 132 places for blocks 7.7 times.
constexpr std::size_t most_segments = 15, shortest_segment = 1024;

inline std::size_t most_segments_of(std::size_t dim) {
  return std::clamp<std::size_t>((dim + shortest_segment - 1) / shortest_segment, 1, most_segments);
}

template <class T>
std::size_t stages_per_segment(std::size_t dim) {
  constexpr std::size_t unit = stages_per_run<T> * stage_length<T>;
  const std::size_t wanted = std::max((dim + most_segments - 1) / most_segments, shortest_segment);
  return (wanted + unit - 1) / unit * stages_per_run<T>;
}

// Blocks that a multiprocessor's registers should have room for.
template <class T>
constexpr unsigned blocks_of_tiles = sizeof(T) == 4 ? 2 : 1;

constexpr std::size_t pairs_of_tile = std::size_t{tile_side} * tile_side;

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
  std::size_t first_cloud;        // for the status
  std::size_t segment_stages;     // of each segment but the last
  std::size_t first_tile, tiles;  // those of a launch
  double* parts;                  // [segments, tiles, sums of the threads], where a block takes a segment

  __host__ __device__ std::size_t row_tiles() const { return (rows + tile_side - 1) / tile_side; }
  __host__ __device__ std::size_t column_tiles() const { return (count + tile_side - 1) / tile_side; }
  __host__ __device__ std::size_t stages() const { return (dim + stage_length<T> - 1) / stage_length<T>; }
  __host__ __device__ std::size_t segments() const {
    return (stages() + segment_stages - 1) / segment_stages;
  }

  // The first column of tiles that are mirrors where those of all their rows have been computed before.
  __host__ __device__ std::size_t first_mirror() const { return (first_row + tile_side - 1) / tile_side; }

  // How many tiles of a row of tiles are mirrors of others: those from first_mirror on.
  __host__ __device__ std::size_t mirrors(std::size_t row_tile) const {
    const std::size_t whole = first_row / tile_side + row_tile;
    return mirrored && whole > first_mirror() ? whole - first_mirror() : 0;
  }
  // Tiles of a cloud in the rows of tiles before one, without mirrors.
  __host__ __device__ std::size_t tiles_before(std::size_t row_tile) const {
    const std::size_t last = row_tile > 0 ? mirrors(row_tile - 1) : 0;  // after 0, 1, ... or 0, 0, 1, ...
    return row_tile * column_tiles() - last * (last + 1) / 2;
  }
  __host__ __device__ std::size_t tiles_of_cloud() const { return tiles_before(row_tiles()); }
};

// The tile of this thread's block.
template <class T>
class Tile {
 public:
  __device__ __forceinline__ explicit Tile(const PairsJob<T>& job) : job_(job) {
    const std::size_t tile = job.first_tile + blockIdx.x, each = job.tiles_of_cloud();
    cloud_ = tile / each;
    const std::size_t in_cloud = tile - cloud_ * each;
    std::size_t row = 0, beyond = job.row_tiles();
    while (beyond - row > 1) {
      const std::size_t middle = (row + beyond) / 2;
      (job.tiles_before(middle) <= in_cloud ? row : beyond) = middle;
    }
    std::size_t column = in_cloud - job.tiles_before(row);
    if (column >= job.first_mirror()) column += job.mirrors(row);
    row_ = job.first_row + row * tile_side;
    column_ = column * tile_side;
    copied_ = point(threadIdx.x / copiers) + threadIdx.x % copiers * Pack<T>::width;
  }

  // The first point of either side.
  __device__ __forceinline__ std::size_t row() const { return row_; }
  __device__ __forceinline__ std::size_t column() const { return column_; }

  __device__ __forceinline__ bool has(std::size_t row, std::size_t column) const {
    const bool mirror = job_.mirrored && column >= job_.first_row && column < row;
    return row < job_.first_row + job_.rows && column < job_.count && !mirror;
  }

  // Begins to copy the coordinates of a stage, zeros beyond the last one, of all points of the tile.
  __device__ __forceinline__ void copy_stage(std::size_t stage, T* buffer) const {
    constexpr unsigned width = Pack<T>::width;
    const unsigned first = threadIdx.x % copiers;
    const std::size_t start = stage * stage_length<T>;
    const T* const from = copied_ + start;
    T* const to = buffer + (threadIdx.x / copiers * stage_packs + first) * width;
    if (job_.aligned && start + stage_length<T> <= job_.dim) {
#pragma unroll
      for (unsigned p = 0; p < stage_packs; p += copiers) {
        if (first + p < stage_packs) {
          __pipeline_memcpy_async(to + p * width, from + p * width, sizeof(Pack<T>));
        }
      }
    } else {
#pragma unroll 1
      for (unsigned p = 0; first + p < stage_packs; p += copiers) {
        const std::size_t at = start + (first + p) * width;
        copy_pack(from + p * width, at < job_.dim ? job_.dim - at : 0, job_.aligned, to + p * width);
      }
    }
    __pipeline_commit();
  }

  // Where the sum of a pair is kept.
  __device__ __forceinline__ double& place(std::size_t row, std::size_t column) const {
    return job_.squared[(cloud_ * job_.rows + row - job_.row_base) * job_.count + column];
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
  static constexpr unsigned copiers = tile_threads / (2 * tile_side);  // threads that copy a point's packs

  // First those of the rows, then those of the columns; beyond the last point, the last again.
  __device__ __forceinline__ const T* point(unsigned which) const {
    const std::size_t wanted = which < tile_side ? row_ + which : column_ + (which - tile_side);
    const std::size_t index = wanted < job_.count ? wanted : job_.count - 1;
    return job_.points + cloud_ * job_.cloud_stride + index * job_.point_stride;
  }

  const PairsJob<T>& job_;
  std::size_t cloud_, row_, column_;
  const T* copied_;  // where this thread's packs of a point begin
};

// Adds the stages from one to before another.
template <class T, class Sums>
__device__ __forceinline__ void add_stages(const Tile<T>& tile, std::size_t dim, std::size_t from,
                                           std::size_t to, Sums& sums) {
  T* const buffers = shared_memory<T>();
  const auto buffer = [&](std::size_t stage) { return buffers + stage % 2 * (stage_bytes / sizeof(T)); };
  unsigned in_run = 0;
  tile.copy_stage(from, buffer(from));
  for (std::size_t stage = from; stage < to; ++stage) {
    __pipeline_wait_prior(0);
    __syncthreads();  // this stage has come, and the one before is no longer in use
    if (stage + 1 < to) tile.copy_stage(stage + 1, buffer(stage + 1));
    const std::size_t left = dim - stage * stage_length<T>;
    const std::size_t packs = (left + Pack<T>::width - 1) / Pack<T>::width;
    add_stage(buffer(stage), packs < stage_packs ? static_cast<unsigned>(packs) : stage_packs, sums);
    if (++in_run == Sums::stages || stage + 1 == to) {
      sums.end_run();
      in_run = 0;
    }
  }
  __syncthreads();
}

template <class T, class Sums>
__device__ __forceinline__ void add_segment(const Tile<T>& tile, const PairsJob<T>& job, std::size_t segment,
                                            Sums& sums) {
  const std::size_t from = segment * job.segment_stages, stages = job.stages();
  const std::size_t to = from + job.segment_stages < stages ? from + job.segment_stages : stages;
  add_stages(tile, job.dim, from, to, sums);
}

// Calls visit(row, column, i, j) for the pairs of this thread.
template <class Places, class T, class Visit>
__device__ __forceinline__ void each_pair(const Tile<T>& tile, const Visit& visit) {
  const std::size_t first_row = tile.row() + Places::row(), first_column = tile.column() + Places::column();
#pragma unroll
  for (unsigned i = 0; i < own; ++i) {
#pragma unroll
    for (unsigned j = 0; j < own; ++j) {
      const std::size_t row = first_row + Places::row_step(i), column = first_column + Places::column_step(j);
      if (tile.has(row, column)) visit(row, column, i, j);
    }
  }
}

// Stands where a squared distance is not exact.
constexpr double to_make_again = -1.0;

// Writes the squared distances of a tile, total(row, column, i, j), where they are exact(value, i, j).
template <class Places, class T, class Total, class Exact>
__device__ __forceinline__ void write_tile(const Tile<T>& tile, const Total& total, const Exact& exact) {
  each_pair<Places>(tile, [&](std::size_t row, std::size_t column, unsigned i, unsigned j) {
    const double value = total(row, column, i, j);
    if (row == column || exact(value, i, j)) {
      tile.write(row, column, value);
    } else {
      tile.place(row, column) = to_make_again;
    }
  });
}

// Where one of a thread's sums over a segment is kept.
template <unsigned sums, class T>
__device__ __forceinline__ std::size_t part_at(const PairsJob<T>& job, std::size_t segment, unsigned which) {
  return ((segment * job.tiles + blockIdx.x) * sums + which) * tile_threads + threadIdx.x;
}

// Adds up a thread's sums over all segments.
template <unsigned sums, class T>
__device__ __forceinline__ void add_parts(const PairsJob<T>& job, double (&totals)[sums]) {
#pragma unroll
  for (unsigned s = 0; s < sums; ++s) totals[s] = 0.0;
  const std::size_t segments = job.segments();
#pragma unroll 1
  for (std::size_t segment = 0; segment < segments; ++segment) {
#pragma unroll
    for (unsigned s = 0; s < sums; ++s) totals[s] += job.parts[part_at<sums>(job, segment, s)];
  }
}

}  // namespace pythermo::cuda
