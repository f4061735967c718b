// SGD of many chains of a small system on the sphere, on the CPU.
#pragma once

#include <cstdint>
#include <functional>

#include "../random.hpp"
#include "../sphere_arrays.hpp"

namespace pythermo::cpu {

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
