// Sums over all weights of each member: parts that depend on the number of weights alone, each by the warps
// of a block together, and then added up in order.
#pragma once

#include <algorithm>

#include "bundles.cuh"
#include "lanes.cuh"

namespace pythermo::cuda {

inline std::size_t weight_splits(std::size_t size) {
  constexpr std::size_t split_weights = 512, most_splits = 128;
  return std::clamp<std::size_t>(quotient_up(size, split_weights), 1, most_splits);
}

// The parts [splits, groups, count, 32] that blocks [groups * splits] leave; add(at, sums) adds what the
// number at a place of weights [groups, D, 32] gives.
template <unsigned count, class Add>
__device__ __forceinline__ void write_weight_sums(const LaneWeights& weights, std::size_t splits,
                                                  double* parts, const Add& add) {
  double* const of_warps = shared_memory<double>();
  const std::size_t split = blockIdx.x % splits, group = blockIdx.x / splits;
  const std::size_t each = quotient_up(weights.size, splits), begin = split * each;
  const std::size_t end = begin + each < weights.size ? begin + each : weights.size;
  const unsigned warp = threadIdx.x / warp_threads;
  double sums[count] = {};
#pragma unroll 4
  for (std::size_t d = begin + warp; d < end; d += lane_warps) {
    add((group * weights.size + d) * member_lanes + lane_index(), sums);
  }
#pragma unroll
  for (unsigned k = 0; k < count; ++k)
    of_warps[(k * lane_warps + warp) * member_lanes + lane_index()] = sums[k];
  __syncthreads();
  each_of_warp(count, [&](unsigned k) {
    double sum = 0.0;
    for (unsigned w = 0; w < lane_warps; ++w) {
      sum += of_warps[(k * lane_warps + w) * member_lanes + lane_index()];
    }
    parts[((split * weights.groups + group) * count + k) * member_lanes + lane_index()] = sum;
  });
}

template <unsigned count>
LaunchShape weight_sums_shape(const char* kernel, const LaneWeights& weights) {
  return {kernel, weights.groups * weight_splits(weights.size), lane_threads,
          count * lane_threads * sizeof(double)};
}

template <unsigned count>
std::size_t weight_sums_size(const LaneWeights& weights) {
  return weight_splits(weights.size) * weights.groups * count * member_lanes;
}

}  // namespace pythermo::cuda
