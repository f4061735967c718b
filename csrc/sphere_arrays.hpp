// A simulation as the caller describes it, the checks that make a job of it, and what runs it on the CPU.
#pragma once

#include <cstdint>
#include <stdexcept>

#include "checks.hpp"
#include "keep_going.hpp"
#include "sphere_job.hpp"
#include "tensor_view.hpp"

namespace pythermo {

struct SphereSettings {
  std::size_t dim;
  double sigma;  // of isotropic noise
  std::size_t batch_size;
  bool epochs;
  std::uint64_t seed;
  int protocol;  // its place in protocols::All
  sphere::Retraction retraction;
  double weight_decay;
  std::uint64_t first_step, last_step;
  std::size_t window, stride;
};

// Views of flat, contiguous arrays, all on one device but measure_at. An output that is empty is not
// computed.
struct SphereArrays {
  TensorView vectors;     // [dim * samples], by coordinate; empty for isotropic noise
  TensorView weights;     // [chains * dim], moved from the first step to the last
  TensorView lr;          // [chains]
  TensorView replica;     // [chains] int64: the chain's stream of random numbers
  TensorView measure_at;  // [measured] int64 on the CPU, ascending, from the first step on up to the last
  TensorView loss, full_grad_norm, mean_grad_norm, snr;  // [chains * measured] float64
  TensorView weights_at;                                 // [chains * measured * dim]
  TensorView window_mean, window_variance;               // [chains] float64
  TensorView window_loss;                                // [chains * window] float64
  TensorView trajectory;                                 // [chains * window * dim]
};

namespace detail {

inline void require_settings(const SphereSettings& s) {
  require(s.dim >= 2, "dim: must be at least 2");
  require(s.batch_size >= 1, "batch_size: must be at least 1");
  require(s.first_step <= s.last_step, "steps: must not be negative");
  require(s.window == 0 || s.stride >= 1, "stride: must be at least 1");
  require(s.window == 0 || (s.window - 1) * s.stride <= s.last_step - s.first_step,
          "window: begins before the first step");
}

inline VectorView<std::int64_t> ascending_steps(const TensorView& view, std::uint64_t first,
                                                std::uint64_t last) {
  const auto steps = view.cpu_vector<std::int64_t>();
  for (std::size_t i = 0; i < steps.size; ++i) {
    const std::int64_t least = i == 0 ? static_cast<std::int64_t>(first) : steps.data[i - 1] + 1;
    require(least <= steps.data[i] && steps.data[i] <= static_cast<std::int64_t>(last),
            "measure_at: must ascend from the first to the last step");
  }
  return steps;
}

}  // namespace detail

// The job that settings and arrays on a device describe. Throws std::invalid_argument where they do not fit.
template <class T>
SphereJob<T> sphere_job(const SphereSettings& s, const SphereArrays& a, dlpack::DeviceType device) {
  detail::require_settings(s);
  const auto wanted = [device]<class Element>(const TensorView& view, std::size_t size, Element*& target) {
    target = view.vector_on<Element>(device).size == 0 ? nullptr : view.sized_on<Element>(device, size);
  };
  SphereJob<T> job{};
  const VectorView<T> table = a.vectors.vector_on<T>(device);
  require(table.size % s.dim == 0, "vectors: their number of elements must be a multiple of dim");
  job.table = table.data;
  job.samples = table.size / s.dim;
  require(job.samples <= 0x80000000u, "vectors: at most 2^31 samples are allowed");
  require(!s.epochs || s.batch_size <= job.samples, "batch_size: more than there are samples");
  job.dim = s.dim;
  job.sigma = static_cast<T>(s.sigma);
  job.batch_size = s.batch_size;
  job.epochs = s.epochs;
  job.seed = s.seed;
  job.protocol = s.protocol;
  job.retraction = s.retraction;
  protocols::All::at(s.protocol,
                     [&]<class Protocol>(Protocol) { job.in_full_space = Protocol::in_full_space; });
  job.weight_decay = static_cast<T>(s.weight_decay);
  job.first_step = s.first_step;
  job.last_step = s.last_step;
  const auto measure_at = detail::ascending_steps(a.measure_at, s.first_step, s.last_step);
  job.measure_at = measure_at.data;
  job.measured = measure_at.size;
  job.window = s.window;
  job.stride = s.stride;

  const std::size_t chains = a.lr.vector_on<T>(device).size, measured = chains * job.measured;
  job.chains = chains;
  job.weights = a.weights.sized_on<T>(device, chains * s.dim);
  job.lr = a.lr.sized_on<T>(device, chains);
  job.replica = a.replica.sized_on<std::int64_t>(device, chains);
  wanted(a.loss, measured, job.loss);
  wanted(a.full_grad_norm, measured, job.full_grad_norm);
  wanted(a.mean_grad_norm, measured, job.mean_grad_norm);
  wanted(a.snr, measured, job.snr);
  wanted(a.weights_at, measured * s.dim, job.weights_at);
  const std::size_t averaged = s.window > 0 ? chains : 0;
  job.window_mean = a.window_mean.sized_on<double>(device, averaged);
  job.window_variance = a.window_variance.sized_on<double>(device, averaged);
  wanted(a.window_loss, chains * s.window, job.window_loss);
  wanted(a.trajectory, chains * s.window * s.dim, job.trajectory);
  return job;
}

}  // namespace pythermo

namespace pythermo::cpu {

// Runs all chains. The same bits for any number of threads, any grouping of the chains and any instruction
// set. Throws std::invalid_argument for views whose sizes do not fit each other.
void simulate_sphere(const SphereSettings& settings, const SphereArrays& arrays, int threads,
                     const KeepGoing& keep_going);

// The indices that each replica of `out` [replicas * steps * batch_size] draws at the steps from first_step.
void sphere_indices(const TensorView& out, std::size_t replicas, std::size_t batch_size, std::size_t samples,
                    bool epochs, std::uint64_t seed, std::uint64_t first_step);

// Normal deviates [replicas * steps * dim] float64, as noise draws them at the steps from first_step, or as
// starting points are made of.
void sphere_normals(const TensorView& out, std::size_t replicas, std::size_t dim, bool start,
                    std::uint64_t seed, std::uint64_t first_step);

}  // namespace pythermo::cpu

// The same on a CUDA device.
namespace pythermo::cuda {

// What a simulation needs beside its settings and arrays.
struct SphereLaunch {
  TensorView workspace;  // [sphere_workspace_size()] float64
  std::uintptr_t stream;
  unsigned threads;  // of a block, at most 256: the same bits for any multiple of 32
  std::uint64_t
      most_work;  // of one launch: gradients of samples that a chain computes; about a microsecond each
};

// Of float64 elements, for chains of numbers of `element_bytes` in blocks of so many threads.
std::size_t sphere_workspace_size(const SphereSettings& settings, std::size_t chains, std::size_t samples,
                                  std::size_t element_bytes, unsigned threads);

// Runs all chains and waits for them, cut into launches of a fraction of a second; between them `keep_going`
// is asked, and if it returns false the simulation stops, with weights and outputs in no useful state. In up
// to four dimensions the bits are those of the CPU, but for numbers that it flushes to zero. Throws
// std::invalid_argument for arguments that do not fit, std::runtime_error for what CUDA refuses.
void simulate_sphere(const SphereSettings& settings, const SphereArrays& arrays, const SphereLaunch& launch,
                     const KeepGoing& keep_going);

}  // namespace pythermo::cuda
