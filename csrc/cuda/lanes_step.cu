#include "../lanes_step.hpp"
#include "lane_sums.cuh"

namespace pythermo::cuda {
namespace {

// A retraction's sums, and how many weights and gradients are not 0.
template <class Retraction>
constexpr unsigned sum_count = Retraction::sum_count + 2;

// What a group's members move by, [groups, 3, 32]: the numbers of the update, and whether it is made.
struct Updates {
  float *first, *second, *moves;
};

struct StepJob {
  LaneWeights weights;
  const float* grad;
  const double* lr;
  const double* parameter;  // radius, or weight decay
  std::size_t splits;
  double* parts;
  std::int64_t* status;
  Updates updates;
};

template <class Retraction>
__global__ void __launch_bounds__(lane_threads) member_sums_kernel(const StepJob job) {
  const std::size_t group = blockIdx.x / job.splits;
  const double lr = static_cast<float>(job.lr[group * member_lanes + lane_index()]);
  write_weight_sums<sum_count<Retraction>>(job.weights, job.splits, job.parts,
                                           [&](std::size_t at, double (&sums)[sum_count<Retraction>]) {
                                             const double w = job.weights.data[at], g = job.grad[at];
                                             double terms[Retraction::sum_count];
                                             Retraction::template terms<double>(w, g, lr, terms);
#pragma unroll
                                             for (int k = 0; k < Retraction::sum_count; ++k)
                                               sums[k] += terms[k];
                                             sums[Retraction::sum_count] += w != 0.0 ? 1.0 : 0.0;
                                             sums[Retraction::sum_count + 1] += g != 0.0 ? 1.0 : 0.0;
                                           });
}

// A thread decides about one member.
template <class Retraction>
__global__ void __launch_bounds__(lane_threads) decide_kernel(const StepJob job) {
  const std::size_t member = thread_of_grid();
  const std::size_t group = member / member_lanes, lane = member % member_lanes;
  if (group >= job.weights.groups) return;
  constexpr unsigned count = sum_count<Retraction>;
  double sums[count];
#pragma unroll
  for (unsigned k = 0; k < count; ++k) {
    sums[k] = sum_of_parts(job.parts, job.splits, job.weights.groups * count * member_lanes,
                           (group * count + k) * member_lanes + lane);
  }
  const auto step = lanes::member_step<Retraction>(
      sums, job.lr[member], job.parameter[member],
      [&](bool of_weights) { return sums[Retraction::sum_count + (of_weights ? 0 : 1)] == 0.0; });
  job.status[member] = static_cast<std::int64_t>(step.error);
  job.updates.first[member] = step.first;
  job.updates.second[member] = step.second;
  job.updates.moves[member] = step.moves ? 1.0f : 0.0f;
}

template <class Retraction>
__global__ void __launch_bounds__(lane_threads) update_members_kernel(const StepJob job) {
  const std::size_t at = thread_of_grid();
  if (at >= job.weights.lines() * member_lanes) return;
  const std::size_t member = at / (job.weights.size * member_lanes) * member_lanes + lane_index();
  if (job.updates.moves[member] == 0.0f) return;
  const typename Retraction::template Update<float> update{job.updates.first[member],
                                                           job.updates.second[member]};
  job.weights.data[at] = update(job.weights.data[at], job.grad[at]);
}

std::size_t parts_size(const LaneWeights& weights) {
  return weight_sums_size<sum_count<Exponential>>(weights);
}

template <class Retraction>
void step(const TensorView& weights, const TensorView& grad, const TensorView& lr,
          const TensorView& parameter, const TensorView& status, const TensorView& workspace,
          std::uintptr_t stream) {
  const LaneWeights own = lane_weights(weights), gradient = lane_weights(grad);
  require(gradient.groups == own.groups && gradient.size == own.size, grad, "must have the shape of weights");
  const std::size_t members = own.groups * member_lanes;
  double* const parts = device_array<double>(workspace, lanes_step_workspace_size(weights));
  auto* const updates = reinterpret_cast<float*>(parts + parts_size(own));
  const StepJob job{own,
                    gradient.data,
                    device_array<double>(lr, members),
                    device_array<double>(parameter, members),
                    weight_splits(own.size),
                    parts,
                    device_array<std::int64_t>(status, members),
                    {updates, updates + members, updates + 2 * members}};
  const auto on_stream = reinterpret_cast<cudaStream_t>(stream);
  launch(weight_sums_shape<sum_count<Retraction>>("member_sums", own), on_stream,
         &member_sums_kernel<Retraction>, job);
  launch(one_thread_each("decide", members), on_stream, &decide_kernel<Retraction>, job);
  if (own.size == 0) return;
  launch(one_thread_each("update_members", own.lines() * member_lanes), on_stream,
         &update_members_kernel<Retraction>, job);
}

// |w|^2, |g|^2 and <w, g>.
constexpr unsigned product_count = Exponential::sum_count;

__global__ void __launch_bounds__(lane_threads)
    product_parts_kernel(const LaneWeights weights, const float* grad, std::size_t splits, double* parts) {
  write_weight_sums<product_count>(weights, splits, parts,
                                   [&](std::size_t at, double (&sums)[product_count]) {
                                     double terms[product_count];
                                     Exponential::terms<double>(weights.data[at], grad[at], 0.0, terms);
#pragma unroll
                                     for (unsigned k = 0; k < product_count; ++k) sums[k] += terms[k];
                                   });
}

__global__ void __launch_bounds__(lane_threads)
    add_products_kernel(const double* parts, std::size_t splits, std::size_t count, double* products) {
  const std::size_t place = thread_of_grid();
  if (place < count) products[place] = sum_of_parts(parts, splits, count, place);
}

// The numbers of a sample that a thread writes for one member, that the sectors read are used.
constexpr unsigned gathered = 8;

__global__ void __launch_bounds__(lane_threads)
    gather_kernel(const float* samples, std::size_t sample_count, std::size_t size,
                  const std::int64_t* indices, std::size_t groups, std::size_t count, float* out) {
  const std::size_t chunks = quotient_up(size, std::size_t{gathered});
  const std::size_t warp = thread_of_grid() / warp_threads, image = warp / chunks;
  if (image >= groups * count) return;
  const std::size_t first = warp % chunks * gathered, group = image / count;
  const std::int64_t index = indices[(group * member_lanes + lane_index()) * count + image % count];
  const bool there = index >= 0 && index < static_cast<std::int64_t>(sample_count);
  const float* const sample = samples + (there ? index : 0) * size;
  float* const to = out + image * size * member_lanes + lane_index();
#pragma unroll
  for (unsigned i = 0; i < gathered; ++i) {
    if (first + i < size) to[(first + i) * member_lanes] = there ? sample[first + i] : nanf("");
  }
}

}  // namespace

std::size_t lanes_step_workspace_size(const TensorView& weights) {
  const LaneWeights own = lane_weights(weights);
  return parts_size(own) + quotient_up(3 * own.groups * member_lanes * sizeof(float), sizeof(double));
}

void lanes_projected_step(const TensorView& weights, const TensorView& grad, const TensorView& lr,
                          const TensorView& radius, const TensorView& status, const TensorView& workspace,
                          std::uintptr_t stream) {
  step<Projection>(weights, grad, lr, radius, status, workspace, stream);
}

void lanes_exponential_step(const TensorView& weights, const TensorView& grad, const TensorView& lr,
                            const TensorView& radius, const TensorView& status, const TensorView& workspace,
                            std::uintptr_t stream) {
  step<Exponential>(weights, grad, lr, radius, status, workspace, stream);
}

void lanes_fixed_lr_step(const TensorView& weights, const TensorView& grad, const TensorView& lr,
                         const TensorView& weight_decay, const TensorView& status,
                         const TensorView& workspace, std::uintptr_t stream) {
  step<WeightDecay<protocols::FixedLr>>(weights, grad, lr, weight_decay, status, workspace, stream);
}

void lanes_fixed_elr_step(const TensorView& weights, const TensorView& grad, const TensorView& lr,
                          const TensorView& weight_decay, const TensorView& status,
                          const TensorView& workspace, std::uintptr_t stream) {
  step<WeightDecay<protocols::FixedElr>>(weights, grad, lr, weight_decay, status, workspace, stream);
}

void lanes_products(const TensorView& weights, const TensorView& grad, const TensorView& products,
                    const TensorView& workspace, std::uintptr_t stream) {
  const LaneWeights own = lane_weights(weights), gradient = lane_weights(grad);
  require(gradient.groups == own.groups && gradient.size == own.size, grad, "must have the shape of weights");
  const std::size_t splits = weight_splits(own.size), count = own.groups * product_count * member_lanes;
  double* const parts = device_array<double>(workspace, lanes_step_workspace_size(weights));
  double* const out = device_array<double>(products, count);
  const auto on_stream = reinterpret_cast<cudaStream_t>(stream);
  launch(weight_sums_shape<product_count>("product_parts", own), on_stream, &product_parts_kernel, own,
         gradient.data, splits, parts);
  launch(one_thread_each("add_products", count), on_stream, &add_products_kernel, parts, splits, count, out);
}

void lanes_gather(const TensorView& samples, const TensorView& indices, const TensorView& out,
                  std::uintptr_t stream) {
  const auto data = samples.sizes(2), drawn = indices.sizes(2), to = out.sizes(4);
  require(to[3] == member_lanes && to[0] * member_lanes == drawn[0], indices,
          "must be of as many members as out has");
  require(to[1] == drawn[1] && to[2] == data[1], out, "must hold what is drawn");
  const std::size_t warps = to[0] * to[1] * quotient_up(data[1], std::size_t{gathered});
  if (warps == 0) return;
  launch(one_thread_each("gather", warps * warp_threads), reinterpret_cast<cudaStream_t>(stream),
         &gather_kernel, samples.array_on<float>(device_type), data[0], data[1],
         indices.array_on<std::int64_t>(device_type), to[0], to[1], out.array_on<float>(device_type));
}

}  // namespace pythermo::cuda
