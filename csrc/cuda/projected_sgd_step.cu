#include <cooperative_groups.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <string>
#include <type_traits>
#include <vector>

#include "../projected_sgd_step.hpp"
#include "launch.hpp"
#include "step_items.cuh"

namespace pythermo::cuda {
namespace {

constexpr std::size_t most_bundles = 128;

// Beside a retraction's sums: whether a bundle has a weight, or an element of the gradient, other than 0.
constexpr int flags = 2;

// In float at most this many packs are added up before they go over into double.
constexpr unsigned run = 8;

template <class T>
struct StepJob : ItemSource<T> {
  double lr;
  const double* lr_on_device;
  double parameter;  // radius, or weight decay
  double* parts;     // [2, sums + flags, bundles]
  std::int64_t* status;
};

template <class T>
struct SegmentBatch {
  Segment<T> segments[few_segments];
  std::size_t count;
  Segment<T>* to;
};

template <class T>
__global__ void write_segments(const __grid_constant__ SegmentBatch<T> batch) {
  for (std::size_t i = threadIdx.x; i < batch.count; i += blockDim.x) batch.to[i] = batch.segments[i];
}

// Whether there was a number other than 0.
template <class T>
class Nonzero {
 public:
  __device__ __forceinline__ void add(T value) {
    Word word;
    memcpy(&word, &value, sizeof word);
    bits_ |= word;
  }
  __device__ __forceinline__ bool found() const { return bits_ << 1 != 0; }  // but for the sign

 private:
  using Word = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;
  Word bits_ = 0;
};

// The sums of a strand of a bundle.
template <class Retraction, class T, class Lane>
class StrandSums {
 public:
  static constexpr int count = Retraction::sum_count;

  __device__ __forceinline__ void add(const Pack<T>& w, const Pack<T>& g, Lane lr) {
#pragma unroll
    for (int i = 0; i < Pack<T>::width; ++i) {
      Lane terms[count];
      Retraction::template terms<Lane>(w.value[i], g.value[i], lr, terms);
#pragma unroll
      for (int k = 0; k < count; ++k) partial_[k][i] += terms[k];
      weight_.add(w.value[i]);
      grad_.add(g.value[i]);
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

  // To [sums + flags, strands].
  __device__ __forceinline__ void write(double* sums, unsigned strand) const {
#pragma unroll
    for (int k = 0; k < count; ++k) {
      const double sum = warp_sum(sums_[k]);
      if (lane_index() == 0) sums[k * strands + strand] = sum;
    }
    const bool weight = __any_sync(all_lanes, weight_.found()), grad = __any_sync(all_lanes, grad_.found());
    if (lane_index() == 0) {
      sums[count * strands + strand] = weight ? 1.0 : 0.0;
      sums[(count + 1) * strands + strand] = grad ? 1.0 : 0.0;
    }
  }

 private:
  Lane partial_[count][Pack<T>::width] = {};
  double sums_[count] = {};
  Nonzero<T> weight_, grad_;
};

// Behind the slots: a block's sums [bundles of the block, sums + flags, strands], and then the totals.
template <class T>
__device__ __forceinline__ double* sums_of_block(const StepJob<T>& job) {
  return shared_memory<double>() + job.slots * (item_bytes<T> / sizeof(double));
}

template <class Retraction, class T, class Lane>
__device__ __forceinline__ void sum_items(const StepJob<T>& job, Lane lr) {
  each_of_warp(strands, [&](unsigned strand) {
    Items<T> items(job, strand);
    double* to = sums_of_block(job);
    StrandSums<Retraction, T, Lane> sums;
    unsigned j = 0;
    items.read([&](unsigned, const Pack<T>& w, const Pack<T>& g) {
      sums.add(w, g, lr);
      const bool last = ++j == items.packs();
      if (last || j % run == 0) sums.end_run();
      if (!last) return;
      sums.write(to, strand);
      to += (Retraction::sum_count + flags) * strands;
      sums = {};
      j = 0;
    });
  });
}

// Adds up the strands of a bundle, and the bundles once all blocks have written theirs.
template <int count, class T>
__device__ __forceinline__ void total_sums(const StepJob<T>& job, double* parts, double (&totals)[count]) {
  const double* const sums = sums_of_block(job);
  const unsigned own = Items<T>::bundles_of_block(job);
  const std::size_t bundles = job.bundles.count();
  double* const shared = sums_of_block(job) + own * count * strands;
  __syncthreads();
  each_of_warp(own * count, [&](unsigned i) {
    const double sum = warp_sum_of(sums + i * strands, strands);
    if (lane_index() == 0) parts[i % count * bundles + blockIdx.x + i / count * gridDim.x] = sum;
  });
  cooperative_groups::this_grid().sync();
  each_of_warp(count, [&](unsigned k) {
    const double total = warp_sum_of(parts + k * bundles, bundles);
    if (lane_index() == 0) shared[k] = total;
  });
  __syncthreads();
#pragma unroll
  for (int k = 0; k < count; ++k) totals[k] = shared[k];
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
  if (!(totals[0] > 0.0)) return Retraction::without_length;
  return update.usable() ? StepError::none : Retraction::unusable;
}

template <class T, class Update>
__device__ __forceinline__ void update_items(const StepJob<T>& job, const Update& update) {
  each_of_warp(strands, [&](unsigned strand) {
    Items<T> items(job, strand);
    Places<T> places(job);
    items.read_again([&](unsigned t, Pack<T> w, const Pack<T>& g) {
#pragma unroll
      for (int i = 0; i < Pack<T>::width; ++i) w.value[i] = update(w.value[i], g.value[i]);
      places.store(items.place(t), w);
    });
  });
}

template <class Retraction, class T>
__global__ void __launch_bounds__(most_threads, 1) step_kernel(const __grid_constant__ StepJob<T> job) {
  constexpr int count = Retraction::sum_count + flags;
  const double lr = job.lr_on_device != nullptr ? *job.lr_on_device : job.lr;
  const T narrow_lr = static_cast<T>(lr);
  if (narrow_lr == T{0} && !(lr < 0.0)) return;
  double totals[count];
  sum_items<Retraction, T, T>(job, narrow_lr);
  total_sums(job, job.parts, totals);
  if constexpr (sizeof(T) == 4) {
    if (!exact_sums_in_float<Retraction>(totals)) {
      sum_items<Retraction, T, double>(job, narrow_lr);
      total_sums(job, job.parts + count * job.bundles.count(), totals);
    }
  }
  const bool lr_usable = lr > 0.0 && is_finite(narrow_lr);
  const auto update = Retraction::template update<T>(totals, lr, job.parameter);
  const StepError error = find_error<Retraction>(totals, update, lr_usable);
  if (error != StepError::none) {
    if (blockIdx.x == 0 && threadIdx.x == 0 && *job.status == 0)
      *job.status = static_cast<std::int64_t>(error);
    return;
  }
  // A gradient of zeros: on the sphere the weights stay, to the bit.
  if (!Retraction::moves_without_gradient && totals[Retraction::sum_count + 1] == 0.0) return;
  update_items(job, update);
}

constexpr std::size_t parts_size = 2 * (Exponential::sum_count + flags) * most_bundles;

// Puts the segments into the job, or into the workspace behind the parts.
template <class T>
void give_segments(const std::vector<Segment<T>>& segments, cudaStream_t stream, StepJob<T>& job) {
  job.segment_count = segments.size();
  if (segments.size() <= few_segments) {
    std::copy(segments.begin(), segments.end(), job.few);
    return;
  }
  Segment<T>* const table = reinterpret_cast<Segment<T>*>(job.parts + parts_size);
  for (std::size_t first = 0; first < segments.size(); first += few_segments) {
    SegmentBatch<T> batch{{}, std::min(few_segments, segments.size() - first), table + first};
    std::copy_n(segments.begin() + static_cast<std::ptrdiff_t>(first), batch.count, batch.segments);
    launch({"write_segments", 1, few_segments}, stream, &write_segments<T>, batch);
  }
  job.many = table;
}

template <class Retraction, class T>
void step(const Tensors& weights, const OptionalTensors& grads, const StepArguments& arguments) {
  const Segments<T> segments(weights, grads, device_type);
  if (segments.size() == 0) {
    throw std::invalid_argument("weights: all elements are zero; they must have a direction");
  }
  if (!Retraction::allows(static_cast<T>(arguments.parameter))) {
    throw std::invalid_argument(std::string(Retraction::parameter) + ": " + Retraction::allowed);
  }
  const unsigned threads = arguments.threads;
  require_threads(threads, most_threads);
  const auto stream = reinterpret_cast<cudaStream_t>(arguments.stream);
  StepJob<T> job{};
  job.bundles = StepBundles<T>(segments.size(), most_bundles);
  job.size = segments.size();
  job.lr = arguments.lr;
  job.lr_on_device = optional_array<double>(arguments.lr_on_device, 1);
  job.parameter = arguments.parameter;
  job.parts = device_array<double>(arguments.workspace, step_workspace_size(weights.size()));
  job.status = device_array<std::int64_t>(arguments.status, 1);
  give_segments(segments.all(), stream, job);

  constexpr std::size_t count = Retraction::sum_count + flags;
  const std::size_t blocks = std::min(job.bundles.count(), multiprocessors());
  const std::size_t bundles_each = (job.bundles.count() + blocks - 1) / blocks;
  const std::size_t sums_bytes = (bundles_each * strands + 1) * count * sizeof(double);
  const std::size_t useful = bundles_each * job.bundles.packs_per_lane();
  const std::size_t fitting = (most_shared_bytes() - sums_bytes) / item_bytes<T>;
  job.slots = static_cast<unsigned>(std::max<std::size_t>(ring, std::min(useful, fitting)));
  const std::size_t shared = job.slots * item_bytes<T> + sums_bytes;
  const auto kernel = &step_kernel<Retraction, T>;
  allow_shared_bytes(kernel, shared);
  launch_cooperative({"projected_sgd_step", blocks, threads, shared}, stream, kernel, job);
}

template <class Retraction>
void step_of_dtype(const Tensors& weights, const OptionalTensors& grads, const StepArguments& arguments) {
  if (!weights.empty() && weights[0].scalar_type() == ScalarType::float32) {
    step<Retraction, float>(weights, grads, arguments);
  } else {
    step<Retraction, double>(weights, grads, arguments);
  }
}

}  // namespace

std::size_t step_workspace_size(std::size_t tensors) {
  static_assert(sizeof(Segment<float>) == 4 * sizeof(double) &&
                sizeof(Segment<double>) == 4 * sizeof(double));
  // Powers of two, so that few sizes are asked for.
  return tensors <= few_segments ? parts_size : parts_size + 4 * std::bit_ceil(tensors);
}

void projected_sgd_step(const Tensors& weights, const OptionalTensors& grads,
                        const StepArguments& arguments) {
  step_of_dtype<Projection>(weights, grads, arguments);
}

void exponential_sgd_step(const Tensors& weights, const OptionalTensors& grads,
                          const StepArguments& arguments) {
  step_of_dtype<Exponential>(weights, grads, arguments);
}

void fixed_lr_step(const Tensors& weights, const OptionalTensors& grads, const StepArguments& arguments) {
  step_of_dtype<WeightDecay<protocols::FixedLr>>(weights, grads, arguments);
}

void fixed_elr_step(const Tensors& weights, const OptionalTensors& grads, const StepArguments& arguments) {
  step_of_dtype<WeightDecay<protocols::FixedElr>>(weights, grads, arguments);
}

}  // namespace pythermo::cuda
