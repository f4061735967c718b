#include "projected_sgd_step.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "projected_sgd_step_loops.hpp"
#include "thread_pool.hpp"

namespace pythermo::cpu {
namespace {

// Large enough that a block's overhead vanishes and the processor's prefetching gets going.
constexpr std::size_t block_size = 32768;

// Waking a second thread takes some microseconds: as long as one needs for this many blocks.
constexpr std::size_t blocks_per_thread = 2;

// Within these bounds a sum of squares in float has lost nothing to overflow or underflow.
constexpr double least_float_sum = 1e-25, largest_float_sum = 1e30;

int threads_for(std::size_t blocks, int threads) {
  const std::size_t useful = blocks / blocks_per_thread;
  return useful < static_cast<std::size_t>(threads) ? static_cast<int>(useful) : threads;
}

template <class Retraction, class T, class Lane>
BlockSums sum_all(VectorView<T> weights, VectorView<T> grad, double lr, int threads) {
  const std::size_t blocks = (weights.size + block_size - 1) / block_size;
  std::vector<BlockSums> parts(blocks);
  parallel_for(blocks, threads_for(blocks, threads), [&](std::size_t first, std::size_t last) {
    for (std::size_t block = first; block < last; ++block) {
      const std::size_t start = block * block_size;
      const std::size_t size = std::min(block_size, weights.size - start);
      parts[block] = PYTHERMO_DISPATCH(
          isa::sum_block<Retraction, T, Lane>(weights.data + start, grad.data + start, size, lr));
    }
  });
  BlockSums total{};
  for (const BlockSums& part : parts) {
    for (int k = 0; k < Retraction::sum_count; ++k) total.sums[k] += part.sums[k];
    total.weights_nonzero |= part.weights_nonzero;
    total.grad_nonzero |= part.grad_nonzero;
  }
  return total;
}

// Backwards: the last elements of the first pass are still in the cache, and its first ones will be
// for the next step.
template <class T, class Update>
void update_all(VectorView<T> weights, VectorView<T> grad, const Update& update, int threads) {
  const std::size_t blocks = (weights.size + block_size - 1) / block_size;
  parallel_for(blocks, threads_for(blocks, threads), [&](std::size_t first, std::size_t last) {
    for (std::size_t block = last; block-- > first;) {
      const std::size_t start = block * block_size;
      const std::size_t size = std::min(block_size, weights.size - start);
      PYTHERMO_DISPATCH(isa::update_block(weights.data + start, grad.data + start, size, update));
    }
  });
}

template <class T>
void require_finite(VectorView<T> values, const char* name) {
  for (std::size_t i = 0; i < values.size; ++i) {
    if (std::isfinite(values.data[i])) continue;
    throw std::invalid_argument(std::string(name) + ": element " + std::to_string(i) + " is " +
                                std::to_string(values.data[i]) +
                                "; all elements must be finite (the weights are unchanged)");
  }
}

template <class T>
void require_positive(double value, const char* name) {
  if (std::isfinite(static_cast<T>(value)) && static_cast<T>(value) > T{0}) return;
  throw std::invalid_argument(std::string(name) +
                              ": must be positive and finite in the weights' dtype, not " +
                              std::to_string(value));
}

template <class T>
void require_apart(VectorView<T> weights, VectorView<T> grad) {
  const auto begin_w = reinterpret_cast<std::uintptr_t>(weights.data);
  const auto begin_g = reinterpret_cast<std::uintptr_t>(grad.data);
  const std::uintptr_t bytes = weights.size * sizeof(T);
  if (begin_w < begin_g + bytes && begin_g < begin_w + bytes) {
    throw std::invalid_argument("grad: shares memory with weights; they must lie apart");
  }
}

template <class Retraction>
bool exact_enough(const BlockSums& total) {
  for (int k = 0; k < Retraction::square_count; ++k) {
    if (!(total.sums[k] > least_float_sum && total.sums[k] < largest_float_sum)) return false;
  }
  return true;
}

template <class Retraction, class T>
void step(VectorView<T> weights, VectorView<T> grad, double lr, double radius, int threads) {
  if (grad.size != weights.size) {
    throw std::invalid_argument("grad: has " + std::to_string(grad.size) + " elements, but weights has " +
                                std::to_string(weights.size));
  }
  require_apart(weights, grad);
  require_positive<T>(lr, "lr");
  require_positive<T>(radius, "radius");

  BlockSums total = sum_all<Retraction, T, T>(weights, grad, lr, threads);
  if (!total.weights_nonzero) {
    throw std::invalid_argument("weights: all elements are zero; a point of the sphere is required");
  }
  if constexpr (sizeof(T) == 4) {
    if (!exact_enough<Retraction>(total)) total = sum_all<Retraction, T, double>(weights, grad, lr, threads);
  }
  for (int k = 0; k < Retraction::sum_count; ++k) {
    if (std::isfinite(total.sums[k])) continue;
    require_finite(weights, "weights");
    require_finite(grad, "grad");
    throw std::invalid_argument("grad: the squared length of the step overflows");
  }
  if (!total.grad_nonzero) return;
  if (!(total.sums[0] > 0.0)) {
    throw std::invalid_argument("grad: the step ends in the centre of the sphere, which has no direction");
  }

  const auto update = Retraction::template update<T>(total.sums, lr, radius);
  if (!update.usable()) {
    throw std::invalid_argument("weights: their norm is too far from the radius for their dtype");
  }
  update_all(weights, grad, update, threads);
}

template <class Retraction>
void step(const TensorView& weights, const TensorView& grad, double lr, double radius, int threads) {
  if (weights.scalar_type() == ScalarType::float32) {
    step<Retraction>(weights.cpu_vector<float>(), grad.cpu_vector<float>(), lr, radius, threads);
  } else {
    step<Retraction>(weights.cpu_vector<double>(), grad.cpu_vector<double>(), lr, radius, threads);
  }
}

}  // namespace

void projected_sgd_step(const TensorView& weights, const TensorView& grad, double lr, double radius,
                        int threads) {
  step<Projection>(weights, grad, lr, radius, threads);
}

void exponential_sgd_step(const TensorView& weights, const TensorView& grad, double lr, double radius,
                          int threads) {
  step<Exponential>(weights, grad, lr, radius, threads);
}

}  // namespace pythermo::cpu
