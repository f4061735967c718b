// What the threads of a block do together. Sums have a fixed tree, so that their bits do not depend on the
// block's size.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

namespace pythermo::cuda {

constexpr unsigned warp_threads = 32, all_lanes = 0xffffffffu;

__device__ __forceinline__ unsigned lane_index() { return threadIdx.x % warp_threads; }

// An index read anew: what is computed from it is not kept in registers beside sums that need all of them.
__device__ __forceinline__ unsigned anew(unsigned index) {
  asm volatile("" : "+r"(index));
  return index;
}

// The block's dynamic shared memory.
template <class T>
__device__ __forceinline__ T* shared_memory() {
#if defined(PYTHERMO_EMULATED_CUDA)
  return reinterpret_cast<T*>(emulation::shared_memory());
#else
  extern __shared__ __align__(16) unsigned char memory[];
  return reinterpret_cast<T*>(memory);
#endif
}

// The sum over the lanes of a warp, in all of them.
template <class T>
__device__ __forceinline__ T warp_sum(T value) {
#pragma unroll
  for (int bits = 1; bits < 32; bits *= 2) value += __shfl_xor_sync(all_lanes, value, bits);
  return value;
}

// The sum of values[0 ... count) by one warp, in all of its lanes.
template <class T>
__device__ __forceinline__ T warp_sum_of(const T* values, std::size_t count) {
  T sum{};
  for (std::size_t i = lane_index(); i < count; i += warp_threads) sum += values[i];
  return warp_sum(sum);
}

// Whether the predicate holds for a thread of the block, in all of them; `word` is shared.
__device__ __forceinline__ bool any_in_block(bool predicate, unsigned* word) {
  if (threadIdx.x == 0) *word = 0;
  __syncthreads();
  if (predicate) atomicMax(word, 1u);
  __syncthreads();
  const bool found = *word != 0;
  __syncthreads();
  return found;
}

// The values of all threads of the block put together by a function for which their order does not matter, in
// all threads; `each_warp` is shared, with room for one value per warp.
template <class T, class Together>
__device__ __forceinline__ T reduce_in_block(T value, const Together& together, T* each_warp) {
#pragma unroll
  for (int bits = 1; bits < 32; bits *= 2) value = together(value, __shfl_xor_sync(all_lanes, value, bits));
  if (lane_index() == 0) each_warp[threadIdx.x / warp_threads] = value;
  __syncthreads();
  value = each_warp[0];
  for (unsigned w = 1; w < blockDim.x / warp_threads; ++w) value = together(value, each_warp[w]);
  __syncthreads();
  return value;
}

}  // namespace pythermo::cuda
