// SGD of small systems on the sphere: the arithmetic of one chain, or of one chain per lane of a vector.
//
// Real is a number (float, double) or a vector of them, Number its element type. D is the dimension, 0 where
// it is known at run time only. `direction` is the point w / |w|, at which each system gives a gradient y of
// its loss on the unit sphere; the part of y that is tangent there counts: t = y - <y, direction> direction.
#pragma once

#include <cstddef>
#include <cstdint>

#include "elementary.hpp"
#include "random.hpp"

namespace pythermo::sphere {

enum class Protocol { projection, exponential, fixed_lr, fixed_elr };

template <int D>
PYTHERMO_INLINE constexpr std::size_t extent(std::size_t dim) {
  return D > 0 ? D : dim;
}

// Sums over many coordinates run in four parts, which do not wait for each other.
template <int D, class Real, class Left>
PYTHERMO_INLINE Real sum_of(std::size_t dim, const Left& term) {
  Real sum = term(0);
  if constexpr (D > 0) {
    for (std::size_t d = 1; d < D; ++d) sum += term(d);
  } else {
    const Real zero = sum - sum;
    Real parts[4] = {sum, zero, zero, zero};
    std::size_t d = 1;
    for (; d + 4 <= dim; d += 4) {
      for (std::size_t k = 0; k < 4; ++k) parts[k] += term(d + k);
    }
    for (; d < dim; ++d) parts[0] += term(d);
    sum = (parts[0] + parts[1]) + (parts[2] + parts[3]);
  }
  return sum;
}

template <int D, class Real>
PYTHERMO_INLINE Real dot(const Real* a, const Real* b, std::size_t dim) {
  return sum_of<D, Real>(dim, [=](std::size_t d) { return a[d] * b[d]; });
}

// --- moves ------------------------------------------------------------------------------------------------

// w <- v / |v| with v = w - lr t.
template <int D, class Real>
PYTHERMO_INLINE void move_by_projection(Real* w, const Real* y, Real radial, Real lr, std::size_t dim) {
  const Real keep = radial * lr + 1;
  for (std::size_t d = 0; d < extent<D>(dim); ++d) w[d] = keep * w[d] - lr * y[d];
  const Real scale = 1 / square_root(dot<D>(w, w, dim));
  for (std::size_t d = 0; d < extent<D>(dim); ++d) w[d] = w[d] * scale;
}

// Along the great circle in the direction -t by the angle lr |t|. What rounding does to the norm is undone
// by the first order of a division by it.
template <int D, class Real>
PYTHERMO_INLINE void move_by_exponential(Real* w, Real* y, Real radial, Real lr, std::size_t dim) {
  for (std::size_t d = 0; d < extent<D>(dim); ++d) y[d] = y[d] - radial * w[d];
  const Real length = square_root(dot<D>(y, y, dim));
  auto sine = to_double(length), cosine = sine;
  sine_cosine(to_double(lr) * to_double(length), sine, cosine);
  Real along, keep;
  from_double(sine, along);
  from_double(cosine, keep);
  along = select(length > 0, along / length, lr);
  for (std::size_t d = 0; d < extent<D>(dim); ++d) w[d] = keep * w[d] - along * y[d];
  const Real scale = (3 - dot<D>(w, w, dim)) / 2;
  for (std::size_t d = 0; d < extent<D>(dim); ++d) w[d] = w[d] * scale;
}

// w <- w - step (t / |w| + decay w), with the step lr, or lr |w|^2 at a fixed effective learning rate. The
// gradient of a scale-invariant loss at w is 1 / |w| times that on the unit sphere.
template <int D, class Real, class Number>
PYTHERMO_INLINE void move_in_full_space(Real* w, const Real* direction, const Real* y, Real radial,
                                        Real radius, Real lr, Number decay, bool effective, std::size_t dim) {
  const Real step = effective ? lr * (radius * radius) : lr;
  const Real along = step / radius, keep = 1 - step * decay;
  for (std::size_t d = 0; d < extent<D>(dim); ++d) {
    w[d] = keep * w[d] - along * (y[d] - radial * direction[d]);
  }
}

// --- systems
// ------------------------------------------------------------------------------------------------

template <class Real>
struct Measured {
  Real loss, full_grad_norm, mean_grad_norm, snr;
};

// f_i(w) = <x_i, w>^2 / |w|^2, L the mean of f_i over the samples. The vectors lie by coordinate:
// x_i[d] = table[d * samples + i].
template <class Number>
struct Quadratics {
  const Number* table;
  std::size_t samples, dim;

  // The loss of each sample is the square of this.
  template <int D, class Real>
  PYTHERMO_INLINE Real projection(const Real* direction, std::size_t sample) const {
    return sum_of<D, Real>(dim,
                           [=, this](std::size_t d) { return direction[d] * table[d * samples + sample]; });
  }

  template <int D, class Real>
  PYTHERMO_INLINE Real loss(const Real* direction) const {
    Real sum = direction[0] - direction[0];
    for (std::size_t i = 0; i < samples; ++i) {
      const Real a = projection<D>(direction, i);
      sum += a * a;
    }
    return sum / static_cast<Number>(samples);
  }

  // Gradients are 2 a_i (x_i - a_i w) with a_i = <x_i, w>. All is divided by the largest |a_i| first, so that
  // the SNR is right where its squares are no longer numbers: near an optimum with loss 0. `mean` is scratch.
  template <int D, class Real>
  PYTHERMO_INLINE Measured<Real> measure(const Real* direction, Real inverse_radius, Real* mean) const {
    const Real zero = direction[0] - direction[0];
    Real largest = zero;
    for (std::size_t i = 0; i < samples; ++i) {
      const Real a = projection<D>(direction, i);
      const Real size = select(a < 0, -a, a);
      largest = select(size > largest, size, largest);
    }
    const Real unit = select(largest > 0, largest, zero + 1);
    Real squares = zero;
    for (std::size_t d = 0; d < extent<D>(dim); ++d) mean[d] = zero;
    for (std::size_t i = 0; i < samples; ++i) {
      const Real a = projection<D>(direction, i) / unit;
      squares += a * a;
      for (std::size_t d = 0; d < extent<D>(dim); ++d) mean[d] += a * table[d * samples + i];
    }
    const Number count = static_cast<Number>(samples);
    for (std::size_t d = 0; d < extent<D>(dim); ++d) {
      mean[d] = (mean[d] - unit * squares * direction[d]) * (2 / count);
    }
    Real norms = zero, noise = zero;
    for (std::size_t i = 0; i < samples; ++i) {
      const Real a = projection<D>(direction, i), twice = 2 * (a / unit);
      const auto grad = [=, this](std::size_t d) {
        return twice * (table[d * samples + i] - a * direction[d]);
      };
      norms += square_root(sum_of<D, Real>(dim, [=](std::size_t d) { return grad(d) * grad(d); }));
      noise += sum_of<D, Real>(dim, [=](std::size_t d) { return (grad(d) - mean[d]) * (grad(d) - mean[d]); });
    }
    const Real full = square_root(dot<D>(mean, mean, dim)), scale = unit * inverse_radius;
    return {unit * unit * (squares / count), full * scale, norms / count * scale,
            full / square_root(noise / count)};
  }
};

// L(w) = 1 + w_D / |w|, with isotropic noise of standard deviation sigma in each tangent direction.
template <class Number>
struct IsotropicNoise {
  std::size_t dim;
  Number sigma;

  // Near the minimum, where w_D / |w| is -1 to rounding, from the other coordinates.
  template <int D, class Real>
  PYTHERMO_INLINE Real loss(const Real* direction) const {
    const Real last = direction[dim - 1];
    return select(last < 0, squared_sine<D>(direction) / (1 - last), 1 + last);
  }

  // In the place of the mean norm of noisy gradients stands 1 / |w|, from which the caller makes it.
  template <int D, class Real>
  PYTHERMO_INLINE Measured<Real> measure(const Real* direction, Real inverse_radius, Real*) const {
    const Real zero = direction[0] - direction[0], sine = square_root(squared_sine<D>(direction));
    const Real noise = square_root(zero + static_cast<Number>(dim - 1)) * sigma;
    return {loss<D>(direction), sine * inverse_radius, inverse_radius, sine / noise};
  }

 private:
  template <int D, class Real>
  PYTHERMO_INLINE Real squared_sine(const Real* direction) const {
    constexpr int rest = D > 1 ? D - 1 : 0;
    return sum_of<rest, Real>(dim - 1, [=](std::size_t d) { return direction[d] * direction[d]; });
  }
};

}  // namespace pythermo::sphere
