#include <cooperative_groups.h>

#include <algorithm>

#include "../projected_sgd_step.hpp"
#include "chunks.cuh"
#include "launch.hpp"
#include "packs.cuh"
#include "projected_sgd_step.hpp"
#include "warp.cuh"

namespace pythermo::cuda {
namespace {

constexpr unsigned most_threads = 256;

constexpr std::size_t most_chunks = 1024;

// Packs of weights and gradient that a thread keeps in registers until the norm is known. Up to
// most_chunks * kept * 128 float32 weights (a million) each is read once; of more, the others are read twice.
constexpr std::size_t kept = 8;

// Beside a retraction's sums: whether a chunk has a weight, or an element of the gradient, other than 0.
constexpr int flags = 2;

// In float at most this many packs are added up before they go over into double.
constexpr std::size_t run = 8;
static_assert(kept % run == 0);  // or the bits of a chunk would depend on whether it is kept

template <class T>
struct StepJob {
  T* weights;
  const T* grad;
  std::size_t size;
  Chunks<T> chunks;
  bool aligned;  // to a pack
  double lr;
  const double* lr_on_device;
  double radius;
  double* parts;  // [2, sums + flags, chunks]
  std::int64_t* status;
};

template <class T>
struct ChunkPacks {
  Pack<T> weights[kept], grad[kept];
};

template <class Retraction, class T, class Lane>
class ChunkSums {
 public:
  static constexpr int count = Retraction::sum_count;

  __device__ __forceinline__ void add(const Pack<T>& w, const Pack<T>& g, Lane lr) {
#pragma unroll
    for (int i = 0; i < Pack<T>::width; ++i) {
      Lane terms[count];
      Retraction::template terms<Lane>(w.value[i], g.value[i], lr, terms);
#pragma unroll
      for (int k = 0; k < count; ++k) partial_[k][i] += terms[k];
      some_weight_ |= w.value[i] != T{0};
      some_grad_ |= g.value[i] != T{0};
    }
  }

  __device__ __forceinline__ void end_run() {
#pragma unroll
    for (int k = 0; k < count; ++k) {
#pragma unroll
      for (int i = 0; i < Pack<T>::width; ++i) {
        sums_[k] += static_cast<double>(partial_[k][i]);
        partial_[k][i] = 0;
      }
    }
  }

  __device__ __forceinline__ void write(double* parts, std::size_t chunks, std::size_t chunk) {
    end_run();
#pragma unroll
    for (int k = 0; k < count; ++k) {
      const double sum = warp_sum(sums_[k]);
      if (lane_index() == 0) parts[k * chunks + chunk] = sum;
    }
    const double weight = __any_sync(all_lanes, some_weight_) ? 1.0 : 0.0;
    const double grad = __any_sync(all_lanes, some_grad_) ? 1.0 : 0.0;
    if (lane_index() == 0) {
      parts[count * chunks + chunk] = weight;
      parts[(count + 1) * chunks + chunk] = grad;
    }
  }

 private:
  Lane partial_[count][Pack<T>::width] = {};
  double sums_[count] = {};
  bool some_weight_ = false, some_grad_ = false;
};

template <class Retraction, class T, class Lane>
__device__ __forceinline__ void sum_chunks(const StepJob<T>& job, Lane lr, double* parts,
                                           ChunkPacks<T>& packs) {
  job.chunks.each([&](std::size_t chunk, bool first) {
    ChunkSums<Retraction, T, Lane> sums;
    const auto load = [&](std::size_t j, Pack<T>& w, Pack<T>& g) {
      const std::size_t at = job.chunks.pack_at(chunk, j);
      w = load_pack(job.weights, at, job.size, job.aligned);
      g = load_pack(job.grad, at, job.size, job.aligned);
    };
    if (first) {
#pragma unroll
      for (std::size_t j = 0; j < kept; ++j) {
        if (j < job.chunks.packs_per_lane()) load(j, packs.weights[j], packs.grad[j]);
      }
#pragma unroll
      for (std::size_t j = 0; j < kept; ++j) {
        if (j < job.chunks.packs_per_lane()) sums.add(packs.weights[j], packs.grad[j], lr);
      }
      sums.end_run();
    }
    for (std::size_t start = first ? kept : 0; start < job.chunks.packs_per_lane(); start += run) {
      const std::size_t stop =
          start + run < job.chunks.packs_per_lane() ? start + run : job.chunks.packs_per_lane();
#pragma unroll 4
      for (std::size_t j = start; j < stop; ++j) {
        Pack<T> w, g;
        load(j, w, g);
        sums.add(w, g, lr);
      }
      sums.end_run();
    }
    sums.write(parts, job.chunks.count(), chunk);
  });
}

// Adds up the parts of all chunks, in every block, once all blocks have written theirs.
template <int count>
__device__ __forceinline__ void total_parts(const double* parts, std::size_t chunks,
                                            double (&totals)[count]) {
  double* const shared = shared_memory<double>();
  cooperative_groups::this_grid().sync();
  if (threadIdx.x < warp_threads) {
#pragma unroll
    for (int k = 0; k < count; ++k) {
      const double total = warp_sum_of(parts + k * chunks, chunks);
      if (lane_index() == 0) shared[k] = total;
    }
  }
  __syncthreads();
#pragma unroll
  for (int k = 0; k < count; ++k) totals[k] = shared[k];
  __syncthreads();
}

template <class Retraction, int count>
__device__ __forceinline__ bool exact_sums_in_float(const double (&totals)[count]) {
  bool exact = Retraction::well_conditioned(totals);
#pragma unroll
  for (int k = 0; k < Retraction::square_count; ++k) exact &= exact_in_float(totals[k]);
  return exact;
}

template <class Retraction, class Update, int count>
__device__ __forceinline__ StepError find_error(const double (&totals)[count], const Update& update,
                                                bool lr_usable) {
  bool finite = true;
#pragma unroll
  for (int k = 0; k < Retraction::sum_count; ++k) finite &= is_finite(totals[k]);
  if (!lr_usable) return StepError::learning_rate;
  if (!finite) return StepError::not_finite;
  if (totals[Retraction::sum_count] == 0.0) return StepError::zero_weights;
  if (!(totals[0] > 0.0)) return StepError::center;
  return update.usable() ? StepError::none : StepError::far_from_radius;
}

template <class T, class Update>
__device__ __forceinline__ void update_chunks(const StepJob<T>& job, const Update& update,
                                              const ChunkPacks<T>& packs) {
  job.chunks.each([&](std::size_t chunk, bool first) {
    const auto move = [&](std::size_t j, Pack<T> w, const Pack<T>& g) {
#pragma unroll
      for (int i = 0; i < Pack<T>::width; ++i) w.value[i] = update(w.value[i], g.value[i]);
      store_pack(job.weights, job.chunks.pack_at(chunk, j), job.size, job.aligned, w);
    };
    if (first) {
#pragma unroll
      for (std::size_t j = 0; j < kept; ++j) {
        if (j < job.chunks.packs_per_lane()) move(j, packs.weights[j], packs.grad[j]);
      }
    }
#pragma unroll 4
    for (std::size_t j = first ? kept : 0; j < job.chunks.packs_per_lane(); ++j) {
      const std::size_t at = job.chunks.pack_at(chunk, j);
      move(j, load_pack(job.weights, at, job.size, job.aligned),
           load_pack(job.grad, at, job.size, job.aligned));
    }
  });
}

template <class Retraction, class T>
__global__ void __launch_bounds__(most_threads, 1) step_kernel(const StepJob<T> job) {
  constexpr int count = Retraction::sum_count + flags;
  const double lr = job.lr_on_device != nullptr ? *job.lr_on_device : job.lr;
  const T narrow_lr = static_cast<T>(lr);
  double totals[count];
  ChunkPacks<T> packs;
  sum_chunks<Retraction, T, T>(job, narrow_lr, job.parts, packs);
  total_parts(job.parts, job.chunks.count(), totals);
  if constexpr (sizeof(T) == 4) {
    if (!exact_sums_in_float<Retraction>(totals)) {
      double* const again = job.parts + count * job.chunks.count();
      sum_chunks<Retraction, T, double>(job, narrow_lr, again, packs);
      total_parts(again, job.chunks.count(), totals);
    }
  }
  const bool lr_usable = narrow_lr > T{0} && is_finite(narrow_lr);
  const auto update = Retraction::template update<T>(totals, lr, job.radius);
  const StepError error = find_error<Retraction>(totals, update, lr_usable);
  if (error != StepError::none) {
    if (blockIdx.x == 0 && threadIdx.x == 0 && *job.status == 0)
      *job.status = static_cast<std::int64_t>(error);
    return;
  }
  if (totals[Retraction::sum_count + 1] == 0.0) return;  // a gradient of zeros: the weights stay, to the bit
  update_chunks(job, update, packs);
}

template <class Retraction, class T>
void step(const TensorView& weights, const TensorView& grad, const StepArguments& arguments) {
  const VectorView<T> w = device_vector<T>(weights);
  if (w.size == 0)
    throw std::invalid_argument("weights: all elements are zero; a point of the sphere is required");
  const T radius = static_cast<T>(arguments.radius);
  if (!(radius > T{0} && is_finite(radius))) {
    throw std::invalid_argument("radius: must be positive and finite in the weights' dtype");
  }
  const unsigned threads = arguments.threads;
  require_threads(threads, most_threads);
  StepJob<T> job{};
  job.chunks = Chunks<T>(w.size, most_chunks);
  job.weights = w.data;
  job.grad = device_array<T>(grad, w.size);
  if (overlap(job.weights, job.grad, w.size)) {
    throw std::invalid_argument("grad: shares memory with weights; they must lie apart");
  }
  job.size = w.size;
  job.aligned = is_aligned(job.weights) && is_aligned(job.grad);
  job.lr = arguments.lr;
  job.lr_on_device = optional_array<double>(arguments.lr_on_device, 1);
  job.radius = arguments.radius;
  job.parts = device_array<double>(arguments.workspace, step_workspace_size());
  job.status = device_array<std::int64_t>(arguments.status, 1);

  const auto kernel = &step_kernel<Retraction, T>;
  const std::size_t shared = (Retraction::sum_count + flags) * sizeof(double);
  const std::size_t blocks = std::min(job.chunks.blocks(threads), blocks_at_once(kernel, threads, shared));
  launch_cooperative({"projected_sgd_step", blocks, threads, shared},
                     reinterpret_cast<cudaStream_t>(arguments.stream), kernel, job);
}

template <class Retraction>
void step_of_dtype(const TensorView& weights, const TensorView& grad, const StepArguments& arguments) {
  if (weights.scalar_type() == ScalarType::float32) {
    step<Retraction, float>(weights, grad, arguments);
  } else {
    step<Retraction, double>(weights, grad, arguments);
  }
}

}  // namespace

std::size_t step_workspace_size() { return 2 * (Exponential::sum_count + flags) * most_chunks; }

void projected_sgd_step(const TensorView& weights, const TensorView& grad, const StepArguments& arguments) {
  step_of_dtype<Projection>(weights, grad, arguments);
}

void exponential_sgd_step(const TensorView& weights, const TensorView& grad, const StepArguments& arguments) {
  step_of_dtype<Exponential>(weights, grad, arguments);
}

}  // namespace pythermo::cuda
