#include <algorithm>

#include "../gradient_sums.hpp"
#include "chunks.cuh"
#include "gradient_sums.hpp"
#include "launch.hpp"
#include "packs.cuh"
#include "warp.cuh"

namespace pythermo::cuda {
namespace {

constexpr unsigned most_threads = 256;
constexpr std::size_t most_chunks = 2048;

template <class T>
struct GradientJob {
  const T* grad;
  const double* center;  // or null
  double* total;         // or null
  std::size_t size;
  Chunks<T> chunks;
  bool aligned;
  double *parts, *sums;  // [2, chunks], [2]
  unsigned long long* finished_blocks;
};

template <class T>
__device__ __forceinline__ void add_pack(const GradientJob<T>& job, std::size_t at, GradientSums& sums) {
  const Pack<T> pack = load_pack(job.grad, at, job.size, job.aligned);
#pragma unroll
  for (int i = 0; i < Pack<T>::width; ++i) {
    if (at + i >= job.size) return;
    const double value = static_cast<double>(pack.value[i]);
    sums.add(value, job.center == nullptr ? 0.0 : job.center[at + i]);
    if (job.total != nullptr) job.total[at + i] += value;
  }
}

// Whether this block is the last one to come here; what the others have written is seen by it then.
__device__ __forceinline__ bool last_block(unsigned long long* finished_blocks) {
  auto* const shared = shared_memory<unsigned long long>();
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) *shared = atomicAdd(finished_blocks, 1ull);
  __syncthreads();
  __threadfence();
  return *shared == gridDim.x - 1;
}

template <class T>
__global__ void __launch_bounds__(most_threads, 4) gradient_kernel(const GradientJob<T> job) {
  job.chunks.each([&](std::size_t chunk, bool) {
    GradientSums sums;
    for (std::size_t j = 0; j < job.chunks.packs_per_lane(); ++j) {
      add_pack(job, job.chunks.pack_at(chunk, j), sums);
    }
    const double squared = warp_sum(sums.squared), distance = warp_sum(sums.distance);
    if (lane_index() == 0) {
      job.parts[chunk] = squared;
      job.parts[job.chunks.count() + chunk] = distance;
    }
  });
  if (!last_block(job.finished_blocks) || threadIdx.x >= warp_threads) return;
  for (int k = 0; k < 2; ++k) {
    const double sum = warp_sum_of(job.parts + k * job.chunks.count(), job.chunks.count());
    if (lane_index() == 0) job.sums[k] = sum;
  }
  if (lane_index() == 0) *job.finished_blocks = 0;
}

template <class T>
void launch_sums(const TensorView& grad, const TensorView& center, const TensorView& total,
                 const TensorView& sums, const TensorView& workspace, const TensorView& counter,
                 std::uintptr_t stream, unsigned threads) {
  require_threads(threads, most_threads);
  const VectorView<T> g = device_vector<T>(grad);
  GradientJob<T> job{};
  job.chunks = Chunks<T>(g.size, most_chunks);
  job.grad = g.data;
  job.center = optional_array<double>(center, g.size);
  job.total = optional_array<double>(total, g.size);
  job.size = g.size;
  job.aligned = is_aligned(g.data);
  job.parts = device_array<double>(workspace, gradient_workspace_size());
  job.sums = device_array<double>(sums, 2);
  job.finished_blocks = reinterpret_cast<unsigned long long*>(device_array<std::int64_t>(counter, 1));
  const std::size_t together = std::min(job.chunks.blocks(threads), 8 * multiprocessors());
  const std::size_t blocks = std::max<std::size_t>(together, 1);  // of no elements too, whose sums are 0
  launch({"gradient_sums", blocks, threads, sizeof(unsigned long long)},
         reinterpret_cast<cudaStream_t>(stream), &gradient_kernel<T>, job);
}

}  // namespace

std::size_t gradient_workspace_size() { return 2 * most_chunks; }

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
