#include <cooperative_groups.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <string>
#include <type_traits>
#include <vector>

#include "../projected_sgd_step.hpp"
#include "bundles.cuh"
#include "launch.hpp"
#include "packs.cuh"
#include "warp.cuh"

namespace pythermo::cuda {
namespace {

// A block has a multiprocessor to itself: what shared memory holds of weights and gradient, 30 MB on the
// large devices, is read once.
constexpr unsigned most_threads = 512;
constexpr unsigned strands = most_threads / warp_threads;
constexpr std::size_t most_bundles = 128;

// Beside a retraction's sums: whether a bundle has a weight, or an element of the gradient, other than 0.
constexpr int flags = 2;

// In float at most this many packs are added up before they go over into double.
constexpr unsigned run = 8;

// Items that arrive in shared memory while others are used.
constexpr unsigned ring = 3;

template <class T>
using StepBundles = Bundles<Pack<T>::width, strands>;

// An item is a pack of weights and one of the gradient for each thread.
template <class T>
constexpr std::size_t item_bytes = 2 * most_threads * sizeof(Pack<T>);

// So many segments come with the launch, in its arguments; more are written to the workspace first.
constexpr std::size_t few_segments = 32;

template <class T>
struct StepJob {
  Segment<T> few[few_segments];
  const Segment<T>* many;  // null where there are few
  std::size_t segment_count;
  std::size_t size;
  StepBundles<T> bundles;
  unsigned slots;  // for items in shared memory, at least `ring`
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

// Weights and gradients by their places in the whole vector, a pack at a time.
template <class T>
class Places {
 public:
  __device__ __forceinline__ explicit Places(const StepJob<T>& job)
      : segments_(job.many != nullptr ? job.many : job.few),
        count_(job.segment_count),
        size_(job.size),
        last_(segments_[0]) {}

  // Begins to copy the packs from a place on into shared memory, zeros beyond the end.
  __device__ __forceinline__ void copy(std::size_t at, T* weights, T* grad) {
    constexpr std::size_t width = Pack<T>::width;
    if (at < size_) {
      const Segment<T>& one = segment_at(at);
      const T* const from = one.weights + (at - one.begin);
      const T* const grad_from = one.grad == nullptr ? nullptr : one.grad + (at - one.begin);
      if (at + width <= one.end && is_aligned(from) && is_aligned(grad_from)) {
        __pipeline_memcpy_async(weights, from, sizeof(Pack<T>));
        if (grad_from != nullptr) {
          __pipeline_memcpy_async(grad, grad_from, sizeof(Pack<T>));
        } else {
          *reinterpret_cast<Pack<T>*>(grad) = {};
        }
        return;
      }
    }
#pragma unroll 1
    for (std::size_t i = 0; i < width; ++i) copy_one(at + i, weights + i, grad + i);
  }

  __device__ __forceinline__ void store(std::size_t at, const Pack<T>& pack) {
    if (at >= size_) return;
    const Segment<T>& one = segment_at(at);
    T* const to = one.weights + (at - one.begin);
    if (at + Pack<T>::width <= one.end && is_aligned(to)) {
      *reinterpret_cast<Pack<T>*>(to) = pack;
      return;
    }
#pragma unroll
    for (int i = 0; i < Pack<T>::width; ++i) {
      if (at + i >= size_) return;
      const Segment<T>& own = segment_at(at + i);
      own.weights[at + i - own.begin] = pack.value[i];
    }
  }

 private:
  __device__ __forceinline__ void copy_one(std::size_t at, T* weight, T* grad) {
    *weight = *grad = T{0};
    if (at >= size_) return;
    const Segment<T>& one = segment_at(at);
    __pipeline_memcpy_async(weight, one.weights + (at - one.begin), sizeof(T));
    if (one.grad != nullptr) __pipeline_memcpy_async(grad, one.grad + (at - one.begin), sizeof(T));
  }

  // Mostly that of the place before, for places that follow each other.
  __device__ __forceinline__ const Segment<T>& segment_at(std::size_t at) {
    if (at < last_.begin || at >= last_.end) last_ = segments_[segment_with(at, segments_, count_)];
    return last_;
  }

  const Segment<T>* segments_;
  std::size_t count_, size_;
  Segment<T> last_;  // in registers, which a pack's address waits for the least
};

// The items of a block, one bundle after the other: the first of them come into the ring's slots, those from
// `ring` to `slots` into slots where they stay, the others follow each other through the ring. At the end the
// ring has the last ones; the way back begins with these.
template <class T>
class Items {
 public:
  __device__ __forceinline__ Items(const StepJob<T>& job, unsigned strand)
      : job_(job),
        places_(job),
        strand_(strand),
        packs_(static_cast<unsigned>(job.bundles.packs_per_lane())),
        bundles_(bundles_of_block(job)),
        count_(packs_ * bundles_),
        in_ring_(count_ < job.slots ? (count_ < ring ? count_ : ring) : ring + count_ - job.slots) {}

  __device__ __forceinline__ static unsigned bundles_of_block(const StepJob<T>& job) {
    return static_cast<unsigned>((job.bundles.count() - blockIdx.x + gridDim.x - 1) / gridDim.x);
  }

  __device__ __forceinline__ unsigned packs() const { return packs_; }

  // Calls visit(item, weights, gradient) from the first to the last.
  template <class Visit>
  __device__ __forceinline__ void read(const Visit& visit) {
#pragma unroll 1
    for (unsigned e = 0; e < ring; ++e) begin(e, e);
#pragma unroll 1
    for (unsigned t = ring; t < job_.slots; ++t) copy(t, t);
    __pipeline_commit();
#pragma unroll 1
    for (unsigned e = 0; e < ring; ++e) {
      wait_for_packs<ring>();
      use_and_follow(e, visit);
    }
    wait_for_packs<ring>();
#pragma unroll 1
    for (unsigned t = ring; t < job_.slots && t < count_; ++t) use(t, t, visit);
#pragma unroll 1
    for (unsigned e = ring; e < in_ring_; ++e) {
      wait_for_packs<ring - 1>();
      use_and_follow(e, visit);
    }
  }

  // After `read`: calls visit(item, weights, gradient) for each again, the other way round.
  template <class Visit>
  __device__ __forceinline__ void read_again(const Visit& visit) {
    unsigned e = in_ring_;
#pragma unroll 1
    for (unsigned r = 0; r < ring; ++r) {
      if (e > 0) use_again(--e, visit);
      __pipeline_commit();
    }
#pragma unroll 1
    for (unsigned t = ring; t < job_.slots && t < count_; ++t) use(t, t, visit);
#pragma unroll 1
    while (e > 0) {
      wait_for_packs<ring - 1>();
      use_again(--e, visit);
      __pipeline_commit();
    }
  }

  __device__ __forceinline__ std::size_t place(unsigned t) const {
    const unsigned bundle = bundles_ == 1 ? 0 : t / packs_;
    return job_.bundles.pack_at(blockIdx.x + std::size_t{bundle} * gridDim.x, t - bundle * packs_, strand_);
  }

 private:
  // The item that is the e-th in the ring.
  __device__ __forceinline__ unsigned item(unsigned e) const { return e < ring ? e : e - ring + job_.slots; }

  __device__ __forceinline__ T* slot(unsigned which, unsigned array) const {
    return shared_memory<T>() +
           ((which * 2 + array) * most_threads + strand_ * warp_threads + lane_index()) * Pack<T>::width;
  }

  __device__ __forceinline__ void copy(unsigned t, unsigned to) {
    if (t < count_) places_.copy(place(t), slot(to, 0), slot(to, 1));
  }
  __device__ __forceinline__ void begin(unsigned t, unsigned to) {
    copy(t, to);
    __pipeline_commit();
  }

  template <class Visit>
  __device__ __forceinline__ void use(unsigned t, unsigned from, const Visit& visit) const {
    visit(t, *reinterpret_cast<const Pack<T>*>(slot(from, 0)),
          *reinterpret_cast<const Pack<T>*>(slot(from, 1)));
  }
  template <class Visit>
  __device__ __forceinline__ void use_and_follow(unsigned e, const Visit& visit) {
    if (e < in_ring_) use(item(e), e % ring, visit);
    begin(item(e + ring), e % ring);
  }
  template <class Visit>
  __device__ __forceinline__ void use_again(unsigned e, const Visit& visit) {
    use(item(e), e % ring, visit);
    if (e >= ring) copy(item(e - ring), e % ring);
  }

  const StepJob<T>& job_;
  Places<T> places_;
  unsigned strand_, packs_, bundles_, count_, in_ring_;
};

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
  if (!(totals[0] > 0.0)) return StepError::center;
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
    throw std::invalid_argument("weights: all elements are zero; a point of the sphere is required");
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
