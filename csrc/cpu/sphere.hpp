// SGD of many chains of a small system on the sphere, on the CPU.
#pragma once

#include <cstdint>
#include <functional>

#include "../sphere.hpp"
#include "../tensor_view.hpp"

namespace pythermo::cpu {

struct SphereSettings {
  std::size_t dim;
  double sigma;  // of isotropic noise
  std::size_t batch_size;
  bool epochs;
  std::uint64_t seed;
  sphere::Protocol protocol;
  double weight_decay;
  std::uint64_t first_step, last_step;
  std::size_t window, stride;
};

// Views of flat, contiguous arrays. An output that is empty is not computed.
struct SphereArrays {
  TensorView vectors;     // [dim * samples], by coordinate; empty for isotropic noise
  TensorView weights;     // [chains * dim], moved from the first step to the last
  TensorView lr;          // [chains]
  TensorView replica;     // [chains] int64: the chain's stream of random numbers
  TensorView measure_at;  // [measured] int64, ascending, after the first step (or at it) up to the last
  TensorView loss, full_grad_norm, mean_grad_norm, snr;  // [chains * measured] float64
  TensorView weights_at;                                 // [chains * measured * dim]
  TensorView window_mean, window_variance;               // [chains] float64
  TensorView window_loss;                                // [chains * window] float64
  TensorView trajectory;                                 // [chains * window * dim]
};

// Runs all chains. `poll` is called by the calling thread a few times a second; if it returns false the
// simulation stops early, with weights and outputs in no useful state. The same bits for any number of
// threads, any grouping of the chains and any instruction set. Throws std::invalid_argument for views whose
// sizes do not fit each other.
void simulate_sphere(const SphereSettings& settings, const SphereArrays& arrays, int threads,
                     const std::function<bool()>& poll);

// The indices that each replica of `out` [replicas * steps * batch_size] draws at the steps from first_step.
void sphere_indices(const TensorView& out, std::size_t replicas, std::size_t batch_size, std::size_t samples,
                    bool epochs, std::uint64_t seed, std::uint64_t first_step);

// Normal deviates [replicas * steps * dim] float64, as noise draws them at the steps from first_step.
void sphere_normals(const TensorView& out, std::size_t replicas, std::size_t dim, Stream stream,
                    std::uint64_t seed, std::uint64_t first_step);

}  // namespace pythermo::cpu
