// The word of a given rank among many, found by a block from the highest bit in which they differ down.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "warp.cuh"

namespace pythermo::cuda {

constexpr int digit_bits = 8;
constexpr unsigned digits = 1u << digit_bits;

// What a block needs of shared memory.
struct SelectionScratch {
  unsigned histogram[digits];  // of fewer than 2^32 words
  unsigned digit, before, same;
  unsigned long long each_warp[32];
};

struct RankedWord {
  std::uint64_t word;
  unsigned rank;  // among the words equal to it, from 0
  unsigned same;  // how many these are
};

// The digit at which a rank lies, how many words have a smaller one, and how many the same: by one warp, each
// of whose lanes has as many digits.
__device__ __forceinline__ void find_digit(unsigned rank, SelectionScratch& scratch) {
  constexpr unsigned each = digits / warp_threads;
  const unsigned* const counts = scratch.histogram + lane_index() * each;
  unsigned sum = 0;
  for (unsigned d = 0; d < each; ++d) sum += counts[d];
  unsigned end = sum;  // of the ranks of this lane's digits
  for (unsigned distance = 1; distance < warp_threads; distance *= 2) {
    const unsigned other = __shfl_up_sync(all_lanes, end, distance);
    if (lane_index() >= distance) end += other;
  }
  unsigned begin = end - sum;
  if (rank < begin || rank >= end) return;
  unsigned d = 0;
  while (rank >= begin + counts[d]) begin += counts[d++];
  scratch.digit = lane_index() * each + d;
  scratch.before = begin;
  scratch.same = counts[d];
}

// `visit(use)` calls use(word) for this thread's share of the words; all threads must call this. There must
// be more words than `rank`, and the highest bit must be 0 in all of them.
template <class Visit>
__device__ __forceinline__ RankedWord select_word(unsigned rank, const Visit& visit,
                                                  SelectionScratch& scratch) {
  using Word = unsigned long long;
  Word least = ~Word{0}, most = 0;
  visit([&](Word word) {
    least = word < least ? word : least;
    most = word > most ? word : most;
  });
  least = reduce_in_block(least, [](Word a, Word b) { return a < b ? a : b; }, scratch.each_warp);
  most = reduce_in_block(most, [](Word a, Word b) { return a > b ? a : b; }, scratch.each_warp);
  int open = 0;  // bits at the end that are not known yet
  while ((least ^ most) >> open != 0) ++open;
  Word known = least >> open;
  unsigned same = 0;
  do {
    const int rest = open > digit_bits ? open - digit_bits : 0;
    const Word mask = (Word{1} << (open - rest)) - 1;
    for (unsigned d = threadIdx.x; d < digits; d += blockDim.x) scratch.histogram[d] = 0;
    __syncthreads();
    visit([&](Word word) {
      if (word >> open == known) atomicAdd(&scratch.histogram[word >> rest & mask], 1u);
    });
    __syncthreads();
    if (threadIdx.x < warp_threads) find_digit(rank, scratch);
    __syncthreads();
    known = known << (open - rest) | scratch.digit;
    rank -= scratch.before;
    same = scratch.same;
    open = rest;
    __syncthreads();
  } while (open > 0);
  return {known, rank, same};
}

}  // namespace pythermo::cuda
