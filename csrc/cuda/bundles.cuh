// A flat array in bundles, each of one block: sums have one part per bundle, so that their bits do not depend
// on the grid; and a bundle in strands, each of one warp, so that they do not depend on the block's size.
#pragma once

#include <algorithm>
#include <cstddef>

#include "warp.cuh"

namespace pythermo::cuda {

template <unsigned width, unsigned strands_per_bundle>
class Bundles {
 public:
  static constexpr unsigned strands = strands_per_bundle;
  static constexpr std::size_t round = std::size_t{strands} * warp_threads * width;  // a pack for each lane

  Bundles() = default;

  // At most so many bundles of `size` elements, which lanes read in packs of `width`.
  Bundles(std::size_t size, std::size_t most)
      : packs_per_lane_(std::max<std::size_t>(1, divide_up(size, round * most))),
        count_(divide_up(size, round * packs_per_lane_)) {}

  __host__ __device__ std::size_t count() const { return count_; }
  __host__ __device__ std::size_t packs_per_lane() const { return packs_per_lane_; }

  __host__ __device__ std::size_t begin(std::size_t bundle) const { return bundle * packs_per_lane_ * round; }

  // Where a thread's j-th pack in a strand begins. Strands side by side lie side by side.
  __device__ __forceinline__ std::size_t pack_at(std::size_t bundle, std::size_t j, unsigned strand) const {
    return begin(bundle) + j * round + (strand * warp_threads + lane_index()) * width;
  }

 private:
  static std::size_t divide_up(std::size_t a, std::size_t b) { return (a + b - 1) / b; }

  std::size_t packs_per_lane_ = 0, count_ = 0;
};

// Calls visit(i) for the numbers below `count` of which the warps of a block take turns.
template <class Visit>
__device__ __forceinline__ void each_of_warp(unsigned count, const Visit& visit) {
  for (unsigned i = threadIdx.x / warp_threads; i < count; i += blockDim.x / warp_threads) visit(i);
}

}  // namespace pythermo::cuda
