// One SGD step, on the sphere of a given radius or with weight decay in full space: the arithmetic of one
// element, and of the few numbers that the whole vector shares.
//
// A retraction brings the point w - lr * g back to the sphere; a protocol in full space has none and shrinks
// the weights instead. Each is two passes over the elements:
//   terms    what one element adds to the sums from which the shared numbers come;
//   Update   the new weight, once they are known.
#pragma once

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>

#include "cpu/instruction_set.hpp"
#include "elementary.hpp"
#include "portable.hpp"
#include "protocols.hpp"
#include "segments.hpp"

namespace pythermo {

template <class T>
PYTHERMO_INLINE bool is_finite(T x) {
  return x - x == T{0};
}

// Whether a number that is not negative is neither zero nor subnormal nor infinite.
PYTHERMO_INLINE bool is_normal(float x) { return x >= 0x1p-126f && is_finite(x); }
PYTHERMO_INLINE bool is_normal(double x) { return x >= 0x1p-1022 && is_finite(x); }

// Within these bounds a sum of squares in float has lost nothing to overflow or underflow.
PYTHERMO_INLINE bool exact_in_float(double sum_of_squares) {
  return sum_of_squares > 1e-25 && sum_of_squares < 1e30;
}

// Why a step was not made. On a CUDA device nothing is read back to the host: this is left in a status word.
enum class StepError : std::int64_t {
  none = 0,
  not_finite = 1,       // an element, or the squared length of the step
  zero_weights = 2,     // weights without a direction
  origin = 3,           // the step on the sphere ends at its center
  far_from_radius = 4,  // the norm is too far from the radius for the weights' dtype
  learning_rate = 5,    // negative, or not finite in the weights' dtype
  norm_lost = 6,        // weight decay and learning rate take the weights through the origin, or to infinity
  parameter = 7,        // a radius or weight decay that the step does not allow
};

// What steps on the sphere share. Beside the learning rate they take its radius.
struct OnSphere {
  static constexpr const char* parameter = "radius";
  static constexpr const char* allowed = "must be positive and finite in the weights' dtype";
  static constexpr bool moves_without_gradient = false;
  static constexpr StepError without_length = StepError::origin;
  static constexpr StepError unusable = StepError::far_from_radius;

  template <class T>
  PYTHERMO_INLINE static bool allows(T radius) {
    return radius > T{0} && is_finite(radius);
  }
};

// w <- radius * v / |v| with v = w - lr * g.
struct Projection : OnSphere {
  static constexpr int sum_count = 1, square_count = 1;  // |v|^2

  template <class T>
  PYTHERMO_INLINE static void terms(T w, T g, T lr, T (&terms)[sum_count]) {
    const T v = w - lr * g;
    terms[0] = v * v;
  }

  PYTHERMO_INLINE static bool well_conditioned(const double*) { return true; }

  template <class T>
  struct Update {
    T lr, scale;
    PYTHERMO_INLINE bool usable() const { return is_normal(scale); }
    PYTHERMO_INLINE T operator()(T w, T g) const { return (w - lr * g) * scale; }
  };

  template <class T>
  PYTHERMO_INLINE static Update<T> update(const double* sums, double lr, double radius) {
    return {static_cast<T>(lr), static_cast<T>(radius / std::sqrt(sums[0]))};
  }
};

// |g|^2, read from the gradient alone.
struct SquaredNorm {
  static constexpr int sum_count = 1, square_count = 1;

  template <class T>
  PYTHERMO_INLINE static void terms(T /*w*/, T g, T /*lr*/, T (&terms)[sum_count]) {
    terms[0] = g * g;
  }
};

// Along the great circle in the direction -t, t the tangent part of g, by the arc length lr * |t|:
// w <- radius * (cos(a) w / |w| - sin(a) t / |t|) with the angle a = lr * |t| / radius.
struct Exponential : OnSphere {
  static constexpr int sum_count = 3, square_count = 2;  // |w|^2, |g|^2, <w, g>

  template <class T>
  PYTHERMO_INLINE static void terms(T w, T g, T /*lr*/, T (&terms)[sum_count]) {
    terms[0] = w * w;
    terms[1] = g * g;
    terms[2] = w * g;
  }

  // Whether little of |t|^2 = |g|^2 - <w, g>^2 / |w|^2 is lost by cancellation.
  PYTHERMO_INLINE static bool well_conditioned(const double* sums) {
    return sums[1] * sums[0] - sums[2] * sums[2] > 0.1 * sums[1] * sums[0];
  }

  template <class T>
  struct Update {
    T weight_factor, grad_factor;
    PYTHERMO_INLINE bool usable() const { return is_finite(weight_factor) && is_finite(grad_factor); }
    PYTHERMO_INLINE T operator()(T w, T g) const { return weight_factor * w - grad_factor * g; }
  };

  template <class T>
  PYTHERMO_INLINE static Update<T> update(const double* sums, double lr, double radius) {
    const double radial = sums[2] / sums[0];  // t = g - radial * w
    const double tangent = std::sqrt(std::fmax(sums[1] - radial * sums[2], 0.0));
    const double angle = lr * tangent / radius;
    double sine, cosine;
    sine_cosine(angle, sine, cosine);
    const double along = tangent > 0.0 ? radius * sine / tangent : 0.0;
    return {static_cast<T>(radius * cosine / std::sqrt(sums[0]) + along * radial), static_cast<T>(along)};
  }
};

// w <- w - eta (g + weight_decay w), where the protocol makes eta of the learning rate and |w|. That of a
// scale-invariant loss has <w, g> = 0, so that |w|^2 becomes f^2 |w|^2 + eta^2 |g|^2 with f = 1 - eta
// weight_decay.
template <class Protocol>
struct WeightDecay {
  static constexpr const char* parameter = "weight_decay";
  static constexpr const char* allowed = "must be finite in the weights' dtype and not negative";
  static constexpr bool moves_without_gradient = true;
  static constexpr StepError without_length = StepError::zero_weights;
  static constexpr StepError unusable = StepError::norm_lost;
  static constexpr int sum_count = 2, square_count = 2;  // |w|^2, |g|^2

  template <class T>
  PYTHERMO_INLINE static bool allows(T weight_decay) {
    return weight_decay >= T{0} && is_finite(weight_decay);
  }

  template <class T>
  PYTHERMO_INLINE static void terms(T w, T g, T /*lr*/, T (&terms)[sum_count]) {
    terms[0] = w * w;
    terms[1] = g * g;
  }

  PYTHERMO_INLINE static bool well_conditioned(const double*) { return true; }

  template <class T>
  struct Update {
    T weight_factor, grad_factor;
    PYTHERMO_INLINE bool usable() const { return is_normal(weight_factor) && is_finite(grad_factor); }
    PYTHERMO_INLINE T operator()(T w, T g) const { return weight_factor * w - grad_factor * g; }
  };

  template <class T>
  PYTHERMO_INLINE static Update<T> update(const double* sums, double lr, double weight_decay) {
    const double eta = Protocol::step_size(lr, std::sqrt(sums[0]));
    const double kept = 1.0 - eta * weight_decay;
    const T longest = static_cast<T>(kept * std::sqrt(sums[0]) + eta * std::sqrt(sums[1]));
    return {is_finite(longest) ? static_cast<T>(kept) : T{0}, static_cast<T>(eta)};
  }
};

}  // namespace pythermo

// The step's loops over one block of elements, built for each instruction set.
namespace pythermo::cpu {

// Sums of a retraction's terms; those that it does not have are zero.
using Sums = std::array<double, 3>;

// clang-format off
PYTHERMO_FOR_EACH_ISA(
  // Adds up `size` elements from the place `begin` on, which lies in `segment`, in lanes of type Lane: double, or
  // float in short runs whose sums are added up in double.
  template <class Retraction, class T, class Lane>
  Sums sum_block(const Segment<T>* segment, std::size_t begin, std::size_t size, double lr);

  // The same sums, and the update of each element beside them.
  template <class Retraction, class T>
  Sums update_and_sum_block(const Segment<T>* segment, std::size_t begin, std::size_t size, double lr,
                            const typename Retraction::template Update<T>& update);

  template <class Update, class T>
  void update_block(const Segment<T>* segment, std::size_t begin, std::size_t size, const Update& update);
)
// clang-format on

}  // namespace pythermo::cpu

// The whole kernel on the CPU: checks, threads and vectors.
namespace pythermo::cpu {

// Each moves `weights`, the tensors of one vector, in place; a gradient that there is not counts as zero. The
// same bits for any number of threads and however the vector is divided into tensors. A zero gradient, or a
// learning rate of zero, leaves the weights as they are. Throws std::invalid_argument, with the weights
// untouched, for a gradient that is not finite, for weights that are all zero, and for a step that ends in
// the center; also for weights that are not finite, which may have changed where they are very many.
void projected_sgd_step(const Tensors& weights, const OptionalTensors& grads, double lr, double radius,
                        int threads);
void exponential_sgd_step(const Tensors& weights, const OptionalTensors& grads, double lr, double radius,
                          int threads);

// Without a sphere: a zero gradient leaves the weights to their decay.
void fixed_lr_step(const Tensors& weights, const OptionalTensors& grads, double lr, double weight_decay,
                   int threads);
void fixed_elr_step(const Tensors& weights, const OptionalTensors& grads, double lr, double weight_decay,
                    int threads);

}  // namespace pythermo::cpu

// The whole kernel on a CUDA device.
namespace pythermo::cuda {

// What one step needs beside its weights and gradient.
struct StepArguments {
  double lr;
  TensorView lr_on_device;  // [1] float64, which is read in the place of lr, or empty
  double parameter;         // radius, or weight decay
  TensorView workspace;     // [step_workspace_size(tensors)] float64; of one stream at a time
  TensorView status;        // [1] int64: the first StepError since it was set to 0
  std::uintptr_t stream;
  unsigned threads;  // of a block, at most 512: the same bits for any multiple of 32
};

std::size_t step_workspace_size(std::size_t tensors);

// In place, on the tensors of one vector, which may lie anywhere; a gradient that there is not counts as
// zero, and a learning rate of zero leaves the weights. The same bits however the vector is divided into
// tensors. No wait; a step that fails changes no weight. A graph that captures it keeps the tensors'
// addresses. Throws std::invalid_argument for arguments that do not fit, std::runtime_error for what CUDA
// refuses.
void projected_sgd_step(const Tensors& weights, const OptionalTensors& grads, const StepArguments& arguments);
void exponential_sgd_step(const Tensors& weights, const OptionalTensors& grads,
                          const StepArguments& arguments);
void fixed_lr_step(const Tensors& weights, const OptionalTensors& grads, const StepArguments& arguments);
void fixed_elr_step(const Tensors& weights, const OptionalTensors& grads, const StepArguments& arguments);

}  // namespace pythermo::cuda
