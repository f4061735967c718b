#include "../projected_sgd_step.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include "parallel.hpp"
#include "projected_sgd_step_loops.hpp"

namespace pythermo::cpu {
namespace {

// Large enough that a block's overhead vanishes and the processor's prefetching gets going.
constexpr std::size_t block_size = 32768;

// Waking a second thread takes some microseconds: as long as one needs for this many blocks.
constexpr std::size_t blocks_per_thread = 2;

// From this size on, weights and gradient together (32 MiB) are beyond the caches and come from memory.
constexpr std::size_t predicted_norm_size = std::size_t{1} << 22;

int threads_for(std::size_t blocks, int threads) {
  const std::size_t useful = blocks / blocks_per_thread;
  return useful < static_cast<std::size_t>(threads) ? static_cast<int>(useful) : threads;
}

std::size_t blocks_of(std::size_t size) { return (size + block_size - 1) / block_size; }

// Calls work(start, size) for every block, on threads, and adds up what it returns in the blocks' order.
template <class Work>
Sums over_blocks(std::size_t size, int threads, const Work& work) {
  const std::size_t blocks = blocks_of(size);
  std::vector<Sums> parts(blocks);
  parallel_for(blocks, threads_for(blocks, threads), [&](std::size_t first, std::size_t last) {
    for (std::size_t block = first; block < last; ++block) {
      const std::size_t start = block * block_size;
      parts[block] = work(start, std::min(block_size, size - start));
    }
  });
  Sums total{};
  for (const Sums& part : parts) {
    for (std::size_t k = 0; k < total.size(); ++k) total[k] += part[k];
  }
  return total;
}

template <class Retraction, class Lane, class T>
Sums sum_all(VectorView<T> weights, VectorView<T> grad, double lr, int threads) {
  return over_blocks(weights.size, threads, [&](std::size_t start, std::size_t size) {
    return PYTHERMO_DISPATCH(
        isa::sum_block<Retraction, T, Lane>(weights.data + start, grad.data + start, size, lr));
  });
}

template <class Retraction, class T>
Sums update_and_sum_all(VectorView<T> weights, VectorView<T> grad, double lr,
                        const typename Retraction::template Update<T>& update, int threads) {
  return over_blocks(weights.size, threads, [&](std::size_t start, std::size_t size) {
    return PYTHERMO_DISPATCH(
        isa::update_and_sum_block<Retraction, T>(weights.data + start, grad.data + start, size, lr, update));
  });
}

template <class T, class Update>
void update_all(VectorView<T> weights, VectorView<T> grad, const Update& update, int threads) {
  over_blocks(weights.size, threads, [&](std::size_t start, std::size_t size) {
    PYTHERMO_DISPATCH(isa::update_block(weights.data + start, grad.data + start, size, update));
    return Sums{};
  });
}

std::string text_of(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%g", value);
  return text;
}

template <class T>
void require_finite(VectorView<T> values, const char* name) {
  for (std::size_t i = 0; i < values.size; ++i) {
    if (std::isfinite(values.data[i])) continue;
    throw std::invalid_argument(std::string(name) + ": element " + std::to_string(i) + " is " +
                                text_of(values.data[i]) + "; all elements must be finite");
  }
}

template <class T>
void require_positive(double value, const char* name) {
  if (std::isfinite(static_cast<T>(value)) && static_cast<T>(value) > T{0}) return;
  throw std::invalid_argument(std::string(name) +
                              ": must be positive and finite in the weights' dtype, not " + text_of(value));
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

// Found at the first element nearly always; the sign of a zero does not count.
template <class T>
bool all_zero(VectorView<T> values) {
  return std::all_of(values.data, values.data + values.size, [](T value) { return value == T{0}; });
}

[[noreturn]] void refuse_center() {
  throw std::invalid_argument("grad: the step ends in the center of the sphere, which has no direction");
}

// Sums first, in one pass that writes nothing; then the update, in a second pass.
template <class Retraction, class T>
void step_after_sums(VectorView<T> weights, VectorView<T> grad, double lr, double radius, int threads) {
  Sums total = sum_all<Retraction, T>(weights, grad, lr, threads);
  if constexpr (sizeof(T) == 4) {
    bool exact = Retraction::well_conditioned(total.data());
    for (int k = 0; k < Retraction::square_count; ++k) exact &= exact_in_float(total[k]);
    if (!exact) total = sum_all<Retraction, double>(weights, grad, lr, threads);
  }
  for (int k = 0; k < Retraction::sum_count; ++k) {
    if (std::isfinite(total[k])) continue;
    require_finite(weights, "weights");
    require_finite(grad, "grad");
    throw std::invalid_argument("grad: the squared length of the step overflows");
  }
  if (!(total[0] > 0.0)) refuse_center();

  const auto update = Retraction::template update<T>(total.data(), lr, radius);
  if (!update.usable()) {
    throw std::invalid_argument("weights: their norm is too far from the radius for their dtype");
  }
  update_all(weights, grad, update, threads);
}

// For vectors beyond the caches, where each stream that is read costs time: the gradient alone first, which
// finds what is wrong with it; then weights and gradient, written at once with the norm that the step has if
// the weights lie on the sphere and the gradient is tangent to it, as that of a scale-invariant loss is. The
// true norm comes out of this pass; where the prediction was off by more than rounding the scale to float
// may be (2^-24), a third pass corrects it. Returns false, with nothing written, where this does not suit.
bool step_by_predicted_norm(VectorView<float> weights, VectorView<float> grad, double lr, double radius,
                            int threads) {
  const Sums gradient = sum_all<SquaredNorm, float>(grad, grad, lr, threads);
  const double moved = lr * lr * gradient[0];
  if (!exact_in_float(gradient[0]) || !(moved < 1e30) || !exact_in_float(radius * radius)) {
    return false;
  }
  const double predicted[] = {radius * radius + moved};
  const auto update = Projection::update<float>(predicted, lr, radius);
  const Sums total = update_and_sum_all<Projection>(weights, grad, lr, update, threads);
  double scale = radius / std::sqrt(total[0]) / update.scale;
  if (!exact_in_float(total[0])) {
    const double squared = sum_all<SquaredNorm, double>(weights, weights, lr, threads)[0];
    if (!std::isfinite(squared)) require_finite(weights, "weights");
    if (squared == 0.0) {
      for (std::size_t i = 0; i < weights.size; ++i) weights.data[i] = update.lr * grad.data[i];
      refuse_center();
    }
    scale = radius / std::sqrt(squared);
  }
  if (std::fabs(scale - 1.0) > 0x1p-24) {
    const Projection::Update<float> correction{0.0f, static_cast<float>(scale)};
    update_all(weights, weights, correction, threads);
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
  if (all_zero(weights)) {
    throw std::invalid_argument("weights: all elements are zero; a point of the sphere is required");
  }
  if (all_zero(grad)) return;
  if constexpr (std::is_same_v<Retraction, Projection> && std::is_same_v<T, float>) {
    if (weights.size >= predicted_norm_size && step_by_predicted_norm(weights, grad, lr, radius, threads)) {
      return;
    }
  }
  step_after_sums<Retraction>(weights, grad, lr, radius, threads);
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
