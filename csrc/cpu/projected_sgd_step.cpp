#include "../projected_sgd_step.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include "parallel.hpp"

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

// Calls work(begin, size) for every block, on threads, and adds up what it returns in the blocks' order.
template <class Work>
Sums over_blocks(std::size_t size, int threads, const Work& work) {
  const std::size_t blocks = blocks_of(size);
  std::vector<Sums> parts(blocks);
  parallel_for(blocks, threads_for(blocks, threads), [&](std::size_t first, std::size_t last) {
    for (std::size_t block = first; block < last; ++block) {
      const std::size_t begin = block * block_size;
      parts[block] = work(begin, std::min(block_size, size - begin));
    }
  });
  Sums total{};
  for (const Sums& part : parts) {
    for (std::size_t k = 0; k < total.size(); ++k) total[k] += part[k];
  }
  return total;
}

template <class Retraction, class Lane, class T>
Sums sum_all(const Segments<T>& segments, double lr, int threads) {
  return over_blocks(segments.size(), threads, [&](std::size_t begin, std::size_t size) {
    return PYTHERMO_DISPATCH(isa::sum_block<Retraction, T, Lane>(segments.at(begin), begin, size, lr));
  });
}

template <class Retraction, class T>
Sums update_and_sum_all(const Segments<T>& segments, double lr,
                        const typename Retraction::template Update<T>& update, int threads) {
  return over_blocks(segments.size(), threads, [&](std::size_t begin, std::size_t size) {
    return PYTHERMO_DISPATCH(
        isa::update_and_sum_block<Retraction, T>(segments.at(begin), begin, size, lr, update));
  });
}

template <class T, class Update>
void update_all(const Segments<T>& segments, const Update& update, int threads) {
  over_blocks(segments.size(), threads, [&](std::size_t begin, std::size_t size) {
    PYTHERMO_DISPATCH(isa::update_block(segments.at(begin), begin, size, update));
    return Sums{};
  });
}

std::string text_of(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%g", value);
  return text;
}

template <class T>
void require_finite(const TensorView& tensor) {
  const auto values = tensor.memory_on<T>(dlpack::DeviceType::cpu);
  for (std::size_t i = 0; i < values.size; ++i) {
    if (std::isfinite(values.data[i])) continue;
    throw std::invalid_argument(std::string(tensor.name()) + ": element " + std::to_string(i) +
                                tensor.place_in_list() + " is " + text_of(values.data[i]) +
                                "; all elements must be finite");
  }
}

template <class T>
void require_learning_rate(double value) {
  if (std::isfinite(static_cast<T>(value)) && value >= 0.0) return;
  throw std::invalid_argument("lr: must be finite in the weights' dtype and not negative, not " +
                              text_of(value));
}

template <class Retraction, class T>
void require_parameter(double value) {
  if (Retraction::allows(static_cast<T>(value))) return;
  throw std::invalid_argument(std::string(Retraction::parameter) + ": " + Retraction::allowed + ", not " +
                              text_of(value));
}

// Found at the first element nearly always; the sign of a zero does not count.
template <class T>
bool all_zero(const T* values, std::size_t size) {
  return values == nullptr || std::all_of(values, values + size, [](T value) { return value == T{0}; });
}

// What is wrong with a whole vector; of single numbers the first that is wrong is named instead.
[[noreturn]] void refuse(StepError error) {
  const char* message = "weights: all elements are zero; they must have a direction";
  if (error == StepError::origin) message = "grad: the step ends at the origin, which has no direction";
  if (error == StepError::far_from_radius) {
    message = "weights: their norm is too far from the radius for their dtype";
  }
  if (error == StepError::norm_lost) {
    message =
        "lr and weight_decay: the step takes the weights through the origin or to infinity, "
        "and their norm is lost; take a smaller lr";
  }
  throw std::invalid_argument(message);
}

// One step, and what it works on.
template <class T>
class Step {
 public:
  Step(const Tensors& weights, const OptionalTensors& grads, double lr, double parameter, int threads)
      : weights_(weights),
        grads_(grads),
        segments_(weights, grads, dlpack::DeviceType::cpu),
        lr_(lr),
        parameter_(parameter),
        threads_(threads) {
    require_learning_rate<T>(lr);
  }

  template <class Retraction>
  void make() const {
    require_parameter<Retraction, T>(parameter_);
    if (static_cast<T>(lr_) == T{0}) return;
    if (every([](const Segment<T>& one) { return all_zero(one.weights, one.size()); })) {
      refuse(StepError::zero_weights);
    }
    if (!Retraction::moves_without_gradient &&
        every([](const Segment<T>& one) { return all_zero(one.grad, one.size()); })) {
      return;
    }
    if constexpr (std::is_same_v<Retraction, Projection> && std::is_same_v<T, float>) {
      if (segments_.size() >= predicted_norm_size && make_by_predicted_norm()) return;
    }
    make_after_sums<Retraction>();
  }

 private:
  template <class Holds>
  bool every(const Holds& holds) const {
    return std::all_of(segments_.all().begin(), segments_.all().end(), holds);
  }

  void require_finite_weights() const {
    for (const TensorView& tensor : weights_) require_finite<T>(tensor);
  }
  void require_finite_grads() const {
    for (const auto& tensor : grads_) {
      if (tensor.has_value()) require_finite<T>(*tensor);
    }
  }

  // Sums first, in one pass that writes nothing; then the update, in a second pass.
  template <class Retraction>
  void make_after_sums() const {
    Sums total = sum_all<Retraction, T>(segments_, lr_, threads_);
    if constexpr (sizeof(T) == 4) {
      bool exact = Retraction::well_conditioned(total.data());
      for (int k = 0; k < Retraction::square_count; ++k) exact &= exact_in_float(total[k]);
      if (!exact) total = sum_all<Retraction, double>(segments_, lr_, threads_);
    }
    for (int k = 0; k < Retraction::sum_count; ++k) {
      if (std::isfinite(total[k])) continue;
      require_finite_weights();
      require_finite_grads();
      throw std::invalid_argument("grad: the squared length of the step overflows");
    }
    if (!(total[0] > 0.0)) refuse(Retraction::without_length);

    const auto update = Retraction::template update<T>(total.data(), lr_, parameter_);
    if (!update.usable()) refuse(Retraction::unusable);
    update_all(segments_, update, threads_);
  }

  // For vectors beyond the caches, where each stream that is read costs time: the gradient alone first, which
  // finds what is wrong with it; then weights and gradient, written at once with the norm that the step has
  // if the weights lie on the sphere and the gradient is tangent to it, as that of a scale-invariant loss is.
  // The true norm comes out of this pass; where the prediction was off by more than rounding the scale to
  // float may be (2^-24), a third pass corrects it. Returns false, with nothing written, where this does not
  // suit.
  bool make_by_predicted_norm() const {
    const Sums gradient = sum_all<SquaredNorm, float>(segments_, lr_, threads_);
    const double moved = lr_ * lr_ * gradient[0];
    const double radius = parameter_;
    if (!exact_in_float(gradient[0]) || !(moved < 1e30) || !exact_in_float(radius * radius)) return false;
    const double predicted[] = {radius * radius + moved};
    const auto update = Projection::update<float>(predicted, lr_, radius);
    const Sums total = update_and_sum_all<Projection>(segments_, lr_, update, threads_);
    double scale = radius / std::sqrt(total[0]) / update.scale;
    if (!exact_in_float(total[0])) {
      const double squared = sum_all<SquaredNorm, double>(segments_.of_weights(), lr_, threads_)[0];
      if (!std::isfinite(squared)) require_finite_weights();
      if (squared == 0.0) {
        step_back(update.lr);
        refuse(StepError::origin);
      }
      scale = radius / std::sqrt(squared);
    }
    if (std::fabs(scale - 1.0) > 0x1p-24) {
      const Projection::Update<float> correction{0.0f, static_cast<float>(scale)};
      update_all(segments_.of_weights(), correction, threads_);
    }
    return true;
  }

  // From the center to where the step came from.
  void step_back(T lr) const {
    for (const Segment<T>& one : segments_.all()) {
      for (std::size_t i = 0; i < one.size(); ++i) {
        one.weights[i] = one.grad == nullptr ? T{0} : lr * one.grad[i];
      }
    }
  }

  const Tensors& weights_;
  const OptionalTensors& grads_;
  Segments<T> segments_;
  double lr_, parameter_;  // the latter radius, or weight decay
  int threads_;
};

template <class Retraction>
void step(const Tensors& weights, const OptionalTensors& grads, double lr, double parameter, int threads) {
  if (!weights.empty() && weights[0].scalar_type() == ScalarType::float32) {
    Step<float>(weights, grads, lr, parameter, threads).template make<Retraction>();
  } else {
    Step<double>(weights, grads, lr, parameter, threads).template make<Retraction>();
  }
}

}  // namespace

void projected_sgd_step(const Tensors& weights, const OptionalTensors& grads, double lr, double radius,
                        int threads) {
  step<Projection>(weights, grads, lr, radius, threads);
}

void exponential_sgd_step(const Tensors& weights, const OptionalTensors& grads, double lr, double radius,
                          int threads) {
  step<Exponential>(weights, grads, lr, radius, threads);
}

void fixed_lr_step(const Tensors& weights, const OptionalTensors& grads, double lr, double weight_decay,
                   int threads) {
  step<WeightDecay<protocols::FixedLr>>(weights, grads, lr, weight_decay, threads);
}

void fixed_elr_step(const Tensors& weights, const OptionalTensors& grads, double lr, double weight_decay,
                    int threads) {
  step<WeightDecay<protocols::FixedElr>>(weights, grads, lr, weight_decay, threads);
}

}  // namespace pythermo::cpu
