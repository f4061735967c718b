#include "../elementary.hpp"
#include "../lanes_head.hpp"
#include "bundles.cuh"
#include "lanes.cuh"

namespace pythermo::cuda {
namespace {

using lanes::Head;
using lanes::HeadLoss;
using lanes::Pooling;

struct HeadJob {
  Head head;
  std::size_t groups;
  const float *features, *weights, *bias;  // bias: null for none
  const std::int64_t* labels;
  float* grad;         // null where it is not asked for
  double* losses;      // [groups * N, 32], of each image
  std::int64_t* hits;  // likewise
};

// One image's features [pixels, F, 32], of which a warp pools a feature.
__device__ __forceinline__ float pooled(const Head& head, const float* feature) {
  const std::size_t pixel = head.features * member_lanes;
  float value = feature[0];
  for (std::size_t p = 1; p < head.pixels; ++p) {
    const float other = feature[p * pixel];
    if (head.pooling == Pooling::mean) {
      value += other;
    } else {
      value = other > value ? other : value;
    }
  }
  return head.pooling == Pooling::mean ? value / static_cast<float>(head.pixels) : value;
}

__device__ __forceinline__ float logit(const HeadJob& job, const float* pooled_features, unsigned k) {
  const Head& head = job.head;
  const float* const weights = job.weights + k * head.features;
  float even = job.bias == nullptr ? 0.0f : job.bias[k], odd = 0.0f;
  std::size_t f = 0;
  for (; f + 2 <= head.features; f += 2) {
    even += pooled_features[f * member_lanes] * weights[f];
    odd += pooled_features[(f + 1) * member_lanes] * weights[f + 1];
  }
  if (f < head.features) even += pooled_features[f * member_lanes] * weights[f];
  return even + odd;
}

// What one image adds to a member's loss and hits; the gradients of its logits take their place.
__device__ __forceinline__ double loss_of_image(const Head& head, std::int64_t label, float* logits,
                                                std::int64_t& hit) {
  const float share = 1.0f / static_cast<float>(head.images);
  float largest = logits[0];
  std::int64_t predicted = 0;
  for (std::size_t k = 1; k < head.classes; ++k) {
    const float value = logits[k * member_lanes];
    predicted = value > largest ? static_cast<std::int64_t>(k) : predicted;
    largest = value > largest ? value : largest;
  }
  hit = predicted == label ? 1 : 0;
  const auto target = [label](std::size_t k) { return static_cast<std::int64_t>(k) == label ? 1.0f : 0.0f; };
  float sum = 0.0f, own = 0.0f;
  if (head.loss == HeadLoss::squared_error) {
    for (std::size_t k = 0; k < head.classes; ++k) {
      const float apart = logits[k * member_lanes] - target(k);
      sum += apart * apart;
      logits[k * member_lanes] = apart * (2.0f * share);
    }
    return static_cast<double>(sum);
  }
  for (std::size_t k = 0; k < head.classes; ++k) {
    const float apart = logits[k * member_lanes] - largest;
    own = target(k) != 0.0f ? apart : own;
    const float value = exponential_of_negative<float, std::int32_t>(apart);
    sum += value;
    logits[k * member_lanes] = value;
  }
  for (std::size_t k = 0; k < head.classes; ++k) {
    logits[k * member_lanes] = (logits[k * member_lanes] / sum - target(k)) * share;
  }
  return logarithm(static_cast<double>(sum)) - static_cast<double>(own);
}

// The gradients of one feature's pixels from those of the logits.
__device__ __forceinline__ void write_gradient(const HeadJob& job, std::size_t f, const float* logit_grads,
                                               const float* feature, float* grad) {
  const Head& head = job.head;
  const std::size_t pixel = head.features * member_lanes;
  float own = 0.0f;
  for (std::size_t k = 0; k < head.classes; ++k) {
    own += logit_grads[k * member_lanes] * job.weights[k * head.features + f];
  }
  if (head.pooling == Pooling::mean) {
    own = own / static_cast<float>(head.pixels);
    for (std::size_t p = 0; p < head.pixels; ++p) grad[p * pixel] = own;
    return;
  }
  const float largest = pooled(head, feature);
  for (std::size_t p = 0; p < head.pixels; ++p) {
    const bool first = feature[p * pixel] == largest;
    grad[p * pixel] = first ? own : 0.0f;
    own = first ? 0.0f : own;
  }
}

// A block for each image of a group: a warp for each feature, each class, and for the loss.
__global__ void __launch_bounds__(lane_threads) head_kernel(const HeadJob job) {
  const Head& head = job.head;
  float* const pooled_features = shared_memory<float>() + lane_index();
  float* const logits = pooled_features + head.features * member_lanes;
  const std::size_t image = blockIdx.x, size = head.pixels * head.features * member_lanes;
  const float* const features = job.features + image * size + lane_index();
  each_of_warp(static_cast<unsigned>(head.features), [&](unsigned f) {
    pooled_features[f * member_lanes] = pooled(head, features + f * member_lanes);
  });
  __syncthreads();
  each_of_warp(static_cast<unsigned>(head.classes),
               [&](unsigned k) { logits[k * member_lanes] = logit(job, pooled_features, k); });
  __syncthreads();
  if (threadIdx.x < warp_threads) {
    const std::size_t at = image * member_lanes + lane_index();
    job.losses[at] = loss_of_image(head, job.labels[at], logits, job.hits[at]);
  }
  if (job.grad == nullptr) return;
  __syncthreads();
  each_of_warp(static_cast<unsigned>(head.features), [&](unsigned f) {
    write_gradient(job, f, logits, features + f * member_lanes,
                   job.grad + image * size + f * member_lanes + lane_index());
  });
}

// A thread adds up one member's images.
__global__ void __launch_bounds__(lane_threads)
    add_images_kernel(const HeadJob job, double* losses, std::int64_t* hits) {
  const std::size_t member = thread_of_grid();
  if (member >= job.groups * member_lanes) return;
  const std::size_t first = member / member_lanes * job.head.images * member_lanes + member % member_lanes;
  double loss = 0.0;
  std::int64_t count = 0;
  for (std::size_t n = 0; n < job.head.images; ++n) {
    loss += job.losses[first + n * member_lanes];
    count += job.hits[first + n * member_lanes];
  }
  losses[member] = loss / static_cast<double>(job.head.images);
  hits[member] = count;
}

}  // namespace

std::size_t lanes_head_workspace_size(const TensorView& features) {
  const auto x = features.sizes(5);
  return 2 * x[0] * x[1] * member_lanes;
}

void lanes_head(const TensorView& features, const TensorView& weights, const TensorView& bias,
                const TensorView& labels, bool largest, bool squared_error, const TensorView& losses,
                const TensorView& hits, const TensorView& grad, const TensorView& workspace,
                std::uintptr_t stream) {
  const auto x = features.sizes(5), w = weights.sizes(2);
  require(x[4] == member_lanes, features, "must have 32 members in its last dimension");
  for (const std::size_t one : x) require(one > 0, features, "must have groups, images, pixels and features");
  require(w[1] == x[3], weights, "must have the number of features");
  require(w[0] > 0, weights, "must have classes");
  require(labels.sizes(3) == std::vector<std::size_t>{x[0], x[1], member_lanes}, labels,
          "must be one for each image and member");
  const std::size_t images = x[0] * x[1], members = x[0] * member_lanes;
  double* const of_images = device_array<double>(workspace, lanes_head_workspace_size(features));
  const HeadJob job{{x[1], x[2], x[3], w[0], largest ? Pooling::largest : Pooling::mean,
                     squared_error ? HeadLoss::squared_error : HeadLoss::cross_entropy},
                    x[0],
                    features.array_on<float>(device_type),
                    weights.array_on<float>(device_type),
                    optional_array<float>(bias, w[0]),
                    labels.array_on<std::int64_t>(device_type),
                    optional_array<float>(grad, images * x[2] * x[3] * member_lanes),
                    of_images,
                    reinterpret_cast<std::int64_t*>(of_images + images * member_lanes)};
  const std::size_t shared = (x[3] + w[0]) * member_lanes * sizeof(float);
  require(shared <= most_shared_bytes(), weights,
          "has more features and classes than a block has memory for");
  allow_shared_bytes(&head_kernel, shared);
  const auto on_stream = reinterpret_cast<cudaStream_t>(stream);
  launch({"head", images, lane_threads, shared}, on_stream, &head_kernel, job);
  launch(one_thread_each("add_images", members), on_stream, &add_images_kernel, job,
         device_array<double>(losses, members), device_array<std::int64_t>(hits, members));
}

}  // namespace pythermo::cuda
