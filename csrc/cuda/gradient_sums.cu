#include <algorithm>

#include "../gradient_sums.hpp"
#include "bundles.cuh"
#include "launch.hpp"
#include "packs.cuh"
#include "warp.cuh"

namespace pythermo::cuda {
namespace {

constexpr unsigned most_threads = 256;
constexpr unsigned strands = most_threads / warp_threads;
constexpr std::size_t most_bundles = 512;  // four a multiprocessor on the large devices

// Elements whose three arrays a thread reads at once, side by side with those of its neighbors: 16 bytes of
// the center, and of the total.
constexpr int width = 2;

// Packs of each array that a thread reads before it uses the first.
constexpr unsigned in_flight = 4;

constexpr unsigned sums_count = 2;

template <class T>
struct GradientJob {
  const T* grad;
  const double* center;  // or null
  double* total;         // or null
  std::size_t size;
  Bundles<width, strands> bundles;
  bool aligned;          // all arrays, to a pack
  double *parts, *sums;  // [2, bundles], [2]
  unsigned long long* finished_blocks;
};

// Adds up a strand, from `at` on, with so many packs on their way at once; `whole` if all of them are aligned
// and within the arrays.
template <bool whole, unsigned at_once, class T>
__device__ __forceinline__ GradientSums sum_strand(const GradientJob<T>& job, std::size_t at) {
  constexpr std::size_t round = Bundles<width, strands>::round;
  const auto packs = static_cast<unsigned>(job.bundles.packs_per_lane());
  GradientSums sums;
#pragma unroll 1
  for (unsigned start = 0; start < packs; start += at_once, at += at_once * round) {
    Pack<T, width> grad[at_once]{};
    Pack<double, width> center[at_once]{};
#pragma unroll
    for (unsigned j = 0; j < at_once; ++j) {
      if (start + j >= packs) break;
      const std::size_t size = whole ? std::size_t(-1) : job.size;
      grad[j] = load_pack<T, width>(job.grad, at + j * round, size, whole);
      if (job.center != nullptr)
        center[j] = load_pack<double, width>(job.center, at + j * round, size, whole);
    }
#pragma unroll
    for (unsigned j = 0; j < at_once; ++j) {
#pragma unroll
      for (int i = 0; i < width; ++i) {
        const double value = static_cast<double>(grad[j].value[i]);
        sums.add(value, center[j].value[i]);
        const std::size_t place = at + j * round + i;
        if (job.total != nullptr && start + j < packs && place < job.size) job.total[place] += value;
      }
    }
  }
  return sums;
}

template <class T>
__device__ __forceinline__ GradientSums sum_strand(const GradientJob<T>& job, unsigned strand) {
  const std::size_t from = job.bundles.pack_at(blockIdx.x, 0, strand);
  const std::size_t end = job.bundles.begin(blockIdx.x + 1);
  const bool whole = job.aligned && end <= job.size;
  return whole ? sum_strand<true, in_flight>(job, from) : sum_strand<false, 1>(job, from);
}

// Whether this block is the last one to come here; what the others have written is seen by it then.
__device__ __forceinline__ bool last_block(unsigned long long* finished_blocks, unsigned long long* shared) {
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) *shared = atomicAdd(finished_blocks, 1ull);
  __syncthreads();
  __threadfence();
  return *shared == gridDim.x - 1;
}

// Writes the sums of [2, strands] numbers.
__device__ __forceinline__ void write_sums(const double* of_strands, double* sums, std::size_t stride) {
  __syncthreads();
  each_of_warp(sums_count, [&](unsigned k) {
    const double sum = warp_sum_of(of_strands + k * strands, strands);
    if (lane_index() == 0) sums[k * stride] = sum;
  });
  __syncthreads();
}

template <class T>
__global__ void __launch_bounds__(most_threads, 4) gradient_kernel(const GradientJob<T> job) {
  double* const of_strands = shared_memory<double>();
  const std::size_t bundles = job.bundles.count();
  if (bundles > 0) {
    each_of_warp(strands, [&](unsigned strand) {
      const GradientSums sums = sum_strand(job, strand);
      const double squared = warp_sum(sums.squared), distance = warp_sum(sums.distance);
      if (lane_index() == 0) {
        of_strands[strand] = squared;
        of_strands[strands + strand] = distance;
      }
    });
    write_sums(of_strands, job.parts + blockIdx.x, bundles);
  }
  auto* const finished = reinterpret_cast<unsigned long long*>(of_strands + sums_count * strands);
  if (!last_block(job.finished_blocks, finished)) return;
  each_of_warp(sums_count * strands, [&](unsigned i) {
    double sum = 0.0;
    for (std::size_t b = i % strands * warp_threads + lane_index(); b < bundles; b += most_threads) {
      sum += job.parts[i / strands * bundles + b];
    }
    sum = warp_sum(sum);
    if (lane_index() == 0) of_strands[i] = sum;
  });
  write_sums(of_strands, job.sums, 1);
  if (threadIdx.x == 0) *job.finished_blocks = 0;
}

template <class T>
void launch_sums(const TensorView& grad, const TensorView& center, const TensorView& total,
                 const TensorView& sums, const TensorView& workspace, const TensorView& counter,
                 std::uintptr_t stream, unsigned threads) {
  require_threads(threads, most_threads);
  const VectorView<T> g = device_vector<T>(grad);
  GradientJob<T> job{};
  job.bundles = Bundles<width, strands>(g.size, most_bundles);
  job.grad = g.data;
  job.center = optional_array<double>(center, g.size);
  job.total = optional_array<double>(total, g.size);
  job.size = g.size;
  job.aligned = is_aligned<T, width>(job.grad) && is_aligned<double, width>(job.center) &&
                is_aligned<double, width>(job.total);
  job.parts = device_array<double>(workspace, gradient_workspace_size());
  job.sums = device_array<double>(sums, 2);
  job.finished_blocks = reinterpret_cast<unsigned long long*>(device_array<std::int64_t>(counter, 1));
  const std::size_t blocks =
      std::max<std::size_t>(job.bundles.count(), 1);  // of no elements too, whose sums are 0
  const std::size_t shared = sums_count * strands * sizeof(double) + sizeof(unsigned long long);
  launch({"gradient_sums", blocks, threads, shared}, reinterpret_cast<cudaStream_t>(stream),
         &gradient_kernel<T>, job);
}

}  // namespace

std::size_t gradient_workspace_size() { return sums_count * most_bundles; }

void gradient_sums(const TensorView& grad, const TensorView& center, const TensorView& total,
                   const TensorView& sums, const TensorView& workspace, const TensorView& counter,
                   std::uintptr_t stream, unsigned threads) {
  if (grad.scalar_type() == ScalarType::float32) {
    launch_sums<float>(grad, center, total, sums, workspace, counter, stream, threads);
  } else {
    launch_sums<double>(grad, center, total, sums, workspace, counter, stream, threads);
  }
}

}  // namespace pythermo::cuda
