#include "../lanes_gradient_sums.hpp"
#include "lane_sums.cuh"

namespace pythermo::cuda {
namespace {

constexpr unsigned sum_count = 2;  // |g|^2 and |g - center|^2

struct SumsJob {
  LaneWeights grad;
  const double* center;  // null: 0
  double* total;         // null: nothing is added to it
  std::size_t splits;
  double *parts, *sums;
};

__global__ void __launch_bounds__(lane_threads) gradient_sums_kernel(const SumsJob job) {
  write_weight_sums<sum_count>(job.grad, job.splits, job.parts,
                               [&](std::size_t at, double (&sums)[sum_count]) {
                                 const double g = job.grad.data[at];
                                 const double apart = job.center == nullptr ? g : g - job.center[at];
                                 sums[0] += g * g;
                                 sums[1] += apart * apart;
                                 if (job.total != nullptr) job.total[at] += g;
                               });
}

__global__ void __launch_bounds__(lane_threads) finish_gradient_sums_kernel(const SumsJob job) {
  const std::size_t at = thread_of_grid(), size = job.grad.groups * sum_count * member_lanes;
  if (at < size) job.sums[at] = sum_of_parts(job.parts, job.splits, size, at);
}

}  // namespace

std::size_t lanes_gradient_sums_workspace_size(const TensorView& grad) {
  return weight_sums_size<sum_count>(lane_weights(grad));
}

void lanes_gradient_sums(const TensorView& grad, const TensorView& center, const TensorView& total,
                         const TensorView& sums, const TensorView& workspace, std::uintptr_t stream) {
  const LaneWeights own = lane_weights(grad);
  const std::size_t size = own.lines() * member_lanes, found = own.groups * sum_count * member_lanes;
  const SumsJob job{own,
                    optional_array<double>(center, size),
                    optional_array<double>(total, size),
                    weight_splits(own.size),
                    device_array<double>(workspace, weight_sums_size<sum_count>(own)),
                    device_array<double>(sums, found)};
  const auto on_stream = reinterpret_cast<cudaStream_t>(stream);
  launch(weight_sums_shape<sum_count>("gradient_sums", own), on_stream, &gradient_sums_kernel, job);
  launch(one_thread_each("finish_gradient_sums", found), on_stream, &finish_gradient_sums_kernel, job);
}

}  // namespace pythermo::cuda
