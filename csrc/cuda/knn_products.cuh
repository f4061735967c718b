// Squared distances between float points by their products in double on the tensor cores,
// |x|^2 + |y|^2 - 2 <x, y>: half of the instructions of differences, where a device is half as fast in double
// as in single precision. A pair that cancellation leaves less exact than promised is made again by
// differences.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>

#include "knn_tiles.cuh"
#include "products_in_double.cuh"
#include "warp.cuh"

namespace pythermo::cuda {

// Points of fewer coordinates take one stage or a few, and their selection most of the time.
constexpr std::size_t fewest_coordinates_by_products = 64;

// A warp takes 32 of a tile's rows and 16 of its columns, in fragments of 8 points.
constexpr unsigned left_fragments = 4, right_fragments = 2, fragments = left_fragments + right_fragments;
constexpr unsigned warps_beside = tile_side / (right_fragments * product_side);
static_assert(left_fragments * right_fragments * 2 == own * own);

// What a thread adds up: 16 products of two points, and a fourth of the squares of 6.
constexpr unsigned product_sums = own * own + fragments;
constexpr std::size_t product_sums_of_tile = std::size_t{product_sums} * tile_threads;

// Where the pairs of a thread are in the tile, and the points of its fragments.
struct ProductPlaces {
  static __device__ __forceinline__ unsigned first_row() {
    return threadIdx.x / warp_threads / warps_beside * left_fragments * product_side;
  }
  static __device__ __forceinline__ unsigned first_column() {
    return threadIdx.x / warp_threads % warps_beside * right_fragments * product_side;
  }
  static __device__ __forceinline__ unsigned row() { return first_row() + lane_index() / product_depth; }
  static __device__ __forceinline__ unsigned column() { return first_column() + column_in_fragment(); }
  static __device__ __forceinline__ unsigned column_in_fragment() { return lane_index() % product_depth * 2; }
  static constexpr __device__ unsigned row_step(unsigned i) { return i * product_side; }
  static constexpr __device__ unsigned column_step(unsigned j) { return j / 2 * product_side + j % 2; }
};

// A thread's sums over runs of so many stages, and these sums' sum, so that roundings do not pile up.
struct ProductSums {
  static constexpr unsigned stages = 16;

  double run[product_sums] = {}, sum[product_sums] = {};

  __device__ __forceinline__ void end_run() {
#pragma unroll
    for (unsigned v = 0; v < product_sums; ++v) {
      sum[v] += run[v];
      run[v] = 0.0;
    }
  }
};

// The error of |x|^2 + |y|^2 - 2 <x, y> is at most this times |x|^2 + |y|^2. A term is rounded with each
// product of four coordinates of its run, at most four times, then with each run and each segment; the
// squares are rounded once for each four coordinates, and twice between lanes.
inline double product_error(const PairsJob<float>& job) {
  constexpr double in_run = (product_depth + 1.0) * ProductSums::stages * stage_packs;
  const std::size_t runs = (job.segment_stages + ProductSums::stages - 1) / ProductSums::stages;
  return (in_run + 2.0 * static_cast<double>(runs + job.segments()) + 8.0) * 0x1p-53;
}

// The error of a squared distance that may be left, relative: that of the distance is half of it.
constexpr double product_tolerance = 1.8e-6;

// Adds the products of a stage's first packs, each of which is as deep as a product of fragments.
__device__ __forceinline__ void add_stage(const float* stage, unsigned packs, ProductSums& sums) {
  static_assert(Pack<float>::width == product_depth);
  const auto of_point = [&](unsigned point) {
    return stage + (point + lane_index() / product_depth) * stage_length<float> +
           lane_index() % product_depth;
  };
  const float* const left = of_point(ProductPlaces::first_row());
  const float* const right = of_point(tile_side + ProductPlaces::first_column());
#pragma unroll 1  // unrolled, it spills registers
  for (unsigned p = 0; p < packs; ++p) {
    double factors[fragments];
#pragma unroll
    for (unsigned f = 0; f < fragments; ++f) {
      const float* const from = f < left_fragments ? left : right;
      const unsigned fragment = f < left_fragments ? f : f - left_fragments;
      factors[f] = from[fragment * product_side * stage_length<float> + p * product_depth];
      sums.run[own * own + f] += factors[f] * factors[f];
    }
#pragma unroll
    for (unsigned i = 0; i < left_fragments; ++i) {
#pragma unroll
      for (unsigned j = 0; j < right_fragments; ++j) {
        double* const two = sums.run + i * own + j * 2;
        add_product(factors[i], factors[left_fragments + j], two[0], two[1]);
      }
    }
  }
}

// A tile's segment to each block, blockIdx.y.
__global__ void __launch_bounds__(tile_threads, 2) segment_products_kernel(const PairsJob<float> job) {
  const Tile<float> tile(job);
  ProductSums sums;
  add_segment(tile, job, blockIdx.y, sums);
#pragma unroll
  for (unsigned v = 0; v < product_sums; ++v) {
    job.parts[part_at<product_sums>(job, blockIdx.y, v)] = sums.sum[v];
  }
}

// Puts the segments of a tile together, and the distances.
__global__ void __launch_bounds__(tile_threads, 2)
    product_distances_kernel(const PairsJob<float> job, const double error) {
  const Tile<float> tile(job);
  double totals[product_sums];
  add_parts<product_sums>(job, totals);
  double of_row[own], of_column[own];  // |x|^2 of the points of this thread's pairs
#pragma unroll
  for (unsigned f = 0; f < fragments; ++f) {
    double square = totals[own * own + f];
    square += __shfl_xor_sync(all_lanes, square, 1);
    square += __shfl_xor_sync(all_lanes, square, 2);
    if (f < left_fragments) {
      of_row[f] = square;
    } else {
#pragma unroll
      for (unsigned e = 0; e < 2; ++e) {
        const unsigned j = (f - left_fragments) * 2 + e;
        of_column[j] = __shfl_sync(
            all_lanes, square, static_cast<int>((ProductPlaces::column_in_fragment() + e) * product_depth));
      }
    }
  }
  write_tile<ProductPlaces>(
      tile,
      [&](std::size_t, std::size_t, unsigned i, unsigned j) {
        return of_row[i] + of_column[j] - 2.0 * totals[i * own + j];
      },
      [&](double value, unsigned i, unsigned j) {
        return error * (of_row[i] + of_column[j]) <= product_tolerance * value;
      });
}

}  // namespace pythermo::cuda
