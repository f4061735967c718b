// SGD of small systems on the sphere: the arithmetic of one chain, or of one chain per lane of a vector.
//
// Real is a number (float, double) or a vector of them, Number its element type. Space is the coordinates of
// a point, which one thread goes through, or the lanes of a warp together. `direction` is the point w / |w|,
// at which each system gives a gradient y of its loss on the unit sphere; the part of y that is tangent there
// counts: t = y - <y, direction> direction.
#pragma once

#include <cstddef>
#include <cstdint>

#include "elementary.hpp"
#include "protocols.hpp"
#include "random.hpp"

namespace pythermo::sphere {

// Indices in one thread: D of them, or as many as `size` says where D is 0.
template <int D>
class Indices {
 public:
  class Iterator {
   public:
    PYTHERMO_INLINE constexpr explicit Iterator(std::size_t at) : at_(at) {}
    PYTHERMO_INLINE constexpr std::size_t operator*() const { return at_; }
    PYTHERMO_INLINE constexpr bool operator!=(Iterator end) const { return at_ != end.at_; }
    PYTHERMO_INLINE constexpr Iterator& operator++() {
      ++at_;
      return *this;
    }

   private:
    std::size_t at_;
  };

  PYTHERMO_INLINE constexpr explicit Indices(std::size_t size) : size_(size) {}
  PYTHERMO_INLINE constexpr std::size_t size() const { return D > 0 ? D : size_; }
  PYTHERMO_INLINE constexpr Iterator begin() const { return Iterator(0); }
  PYTHERMO_INLINE constexpr Iterator end() const { return Iterator(size()); }

 private:
  std::size_t size_;
};

// All coordinates in one thread.
template <int D>
class Coordinates : public Indices<D> {
 public:
  using Indices<D>::Indices, Indices<D>::size;

  // Sums over many coordinates run in four parts, which do not wait for each other.
  template <class Term>
  PYTHERMO_INLINE auto sum(const Term& term) const {
    auto sum = term(0);
    if constexpr (D > 0) {
      for (std::size_t d = 1; d < D; ++d) sum += term(d);
    } else {
      const auto zero = sum - sum;
      decltype(sum) parts[4] = {sum, zero, zero, zero};
      std::size_t d = 1;
      for (; d + 4 <= size(); d += 4) {
        for (std::size_t k = 0; k < 4; ++k) parts[k] += term(d + k);
      }
      for (; d < size(); ++d) parts[0] += term(d);
      sum = (parts[0] + parts[1]) + (parts[2] + parts[3]);
    }
    return sum;
  }

  PYTHERMO_INLINE constexpr Coordinates<(D > 1 ? D - 1 : 0)> but_last() const {
    return Coordinates<(D > 1 ? D - 1 : 0)>(size() - 1);
  }

  // Pairs of coordinates that random numbers are drawn for together.
  PYTHERMO_INLINE constexpr Indices<(D + 1) / 2> pairs() const {
    return Indices<(D + 1) / 2>((size() + 1) / 2);
  }

  PYTHERMO_INLINE constexpr bool owns(std::size_t) const { return true; }

  template <class Real>
  PYTHERMO_INLINE Real last(const Real* vector) const {
    return vector[size() - 1];
  }

  // Where a sample's coordinate lies in the table: the samples' lie side by side.
  PYTHERMO_INLINE constexpr std::size_t place(std::size_t sample, std::size_t d, std::size_t samples) const {
    return d * samples + sample;
  }
};

template <class Left, class Right, class Space>
PYTHERMO_INLINE auto dot(const Left* a, const Right* b, Space space) {
  return space.sum([=](std::size_t d) { return a[d] * b[d]; });
}

// --- moves ------------------------------------------------------------------------------------------------

// How a step on the unit sphere returns to it.
enum class Retraction { projection, exponential };

// Where a chain is when it moves: its weights w, their direction and norm (the weights themselves and 1 on
// the sphere), and the gradient y there, of which `radial` is the part along the direction.
template <class Real>
struct Position {
  Real *w, *direction, *y;
  Real norm, radial;
};

// w <- v / |v| with v = w - lr t.
struct Projection {
  static constexpr bool in_full_space = false;

  template <class Real, class Number, class Space>
  PYTHERMO_INLINE static void move(const Position<Real>& at, Real lr, Number /*weight_decay*/, Space space) {
    Real* const w = at.w;
    const Real* const y = at.y;
    const Real keep = at.radial * lr + 1;
    for (const std::size_t d : space) w[d] = keep * w[d] - lr * y[d];
    const Real scale = 1 / square_root(dot(w, w, space));
    for (const std::size_t d : space) w[d] = w[d] * scale;
  }
};

// Along the great circle in the direction -t by the angle lr |t|. What rounding does to the norm is undone
// by the first order of a division by it.
struct Exponential {
  static constexpr bool in_full_space = false;

  template <class Real, class Number, class Space>
  PYTHERMO_INLINE static void move(const Position<Real>& at, Real lr, Number /*weight_decay*/, Space space) {
    Real *const w = at.w, *const y = at.y;
    for (const std::size_t d : space) y[d] = y[d] - at.radial * w[d];
    const Real length = square_root(dot(y, y, space));
    auto sine = to_double(length), cosine = sine;
    sine_cosine(to_double(lr) * to_double(length), sine, cosine);
    Real along, keep;
    from_double(sine, along);
    from_double(cosine, keep);
    along = select(length > 0, along / length, lr);
    for (const std::size_t d : space) w[d] = keep * w[d] - along * y[d];
    const Real scale = (3 - dot(w, w, space)) / 2;
    for (const std::size_t d : space) w[d] = w[d] * scale;
  }
};

// w <- w - step (t / |w| + decay w), with the protocol's step. The gradient of a scale-invariant loss at w is
// 1 / |w| times that on the unit sphere.
template <class Protocol>
struct FullSpace {
  static constexpr bool in_full_space = true;

  template <class Real, class Number, class Space>
  PYTHERMO_INLINE static void move(const Position<Real>& at, Real lr, Number weight_decay, Space space) {
    const Real step = Protocol::step_size(lr, at.norm);
    const Real along = step / at.norm, keep = 1 - step * weight_decay;
    for (const std::size_t d : space) {
      at.w[d] = keep * at.w[d] - along * (at.y[d] - at.radial * at.direction[d]);
    }
  }
};

// Calls call(Move{}) with the move that a protocol, by its place in the list, and a retraction make.
template <class Call>
void with_move(int protocol, Retraction retraction, const Call& call) {
  protocols::All::at(protocol, [&]<class Protocol>(Protocol) {
    if constexpr (Protocol::in_full_space) {
      call(FullSpace<Protocol>{});
    } else if (retraction == Retraction::projection) {
      call(Projection{});
    } else {
      call(Exponential{});
    }
  });
}

// The weights' norm, and their direction beside them: the protocols of full space need both.
template <class Real, class Space>
PYTHERMO_INLINE Real find_direction(const Real* w, Real* direction, Space space) {
  const Real norm = square_root(dot(w, w, space)), inverse = 1 / norm;
  for (const std::size_t d : space) direction[d] = w[d] * inverse;
  return norm;
}

// --- systems ----------------------------------------------------------------------------------------------

template <class Real>
struct Measured {
  Real loss, full_grad_norm, mean_grad_norm, snr;
};

// f_i(w) = <x_i, w>^2 / |w|^2, L the mean of f_i over the samples, whose vectors lie in a table.
template <class Number, class Space>
struct Quadratics {
  Space space;
  const Number* table;
  std::size_t samples;

  PYTHERMO_INLINE Number element(std::size_t sample, std::size_t d) const {
    return table[space.place(sample, d, samples)];
  }

  // Adds `factor` / 2 times the gradient of the sample x: `factor` <x, u> x, of which `radial` is the part
  // along the direction u.
  template <class Real>
  PYTHERMO_INLINE void add_gradient(const Real* x, const Real* direction, Number factor, Real* y,
                                    Real& radial) const {
    const Real a = dot(x, direction, space), scaled = factor * a;
    radial += scaled * a;
    for (const std::size_t d : space) y[d] += scaled * x[d];
  }

  // The loss of each sample is the square of this.
  template <class Real>
  PYTHERMO_INLINE Real projection(const Real* direction, std::size_t sample) const {
    return space.sum([=, this](std::size_t d) { return direction[d] * element(sample, d); });
  }

  template <class Real>
  PYTHERMO_INLINE Real loss(const Real* direction) const {
    const Real first = projection(direction, 0);
    Real sum = first * first;
    for (std::size_t i = 1; i < samples; ++i) {
      const Real a = projection(direction, i);
      sum += a * a;
    }
    return sum / static_cast<Number>(samples);
  }

  // Gradients are 2 a_i (x_i - a_i w) with a_i = <x_i, w>. All is divided by the largest |a_i| first, so that
  // the SNR is right where its squares are no longer numbers: near an optimum with loss 0. `mean` is scratch.
  template <class Real>
  PYTHERMO_INLINE Measured<Real> measure(const Real* direction, Real inverse_radius, Real* mean) const {
    const Real zero = inverse_radius - inverse_radius;
    Real largest = zero;
    for (std::size_t i = 0; i < samples; ++i) {
      const Real a = projection(direction, i);
      const Real size = select(a < 0, -a, a);
      largest = select(size > largest, size, largest);
    }
    const Real unit = select(largest > 0, largest, zero + 1);
    Real squares = zero;
    for (const std::size_t d : space) mean[d] = zero;
    for (std::size_t i = 0; i < samples; ++i) {
      const Real a = projection(direction, i) / unit;
      squares += a * a;
      for (const std::size_t d : space) mean[d] += a * element(i, d);
    }
    const Number count = static_cast<Number>(samples);
    for (const std::size_t d : space) {
      mean[d] = (mean[d] - unit * squares * direction[d]) * (2 / count);
    }
    Real norms = zero, noise = zero;
    for (std::size_t i = 0; i < samples; ++i) {
      const Real a = projection(direction, i), twice = 2 * (a / unit);
      const auto grad = [=, this](std::size_t d) { return twice * (element(i, d) - a * direction[d]); };
      norms += square_root(space.sum([=](std::size_t d) { return grad(d) * grad(d); }));
      noise += space.sum([=](std::size_t d) { return (grad(d) - mean[d]) * (grad(d) - mean[d]); });
    }
    const Real full = square_root(dot(mean, mean, space)), scale = unit * inverse_radius;
    return {unit * unit * (squares / count), full * scale, norms / count * scale,
            full / square_root(noise / count)};
  }
};

// L(w) = 1 + w_D / |w|, with isotropic noise of standard deviation sigma in each tangent direction.
template <class Number, class Space>
struct IsotropicNoise {
  Space space;
  Number sigma;

  // The gradient (0, ..., 0, 1) of the loss and its noise at a step.
  template <class Real, class Word>
  PYTHERMO_INLINE void draw_gradient(std::uint64_t seed, Word replica, std::uint64_t step, Real* y) const {
    const std::size_t dim = space.size(), pairs = (dim + 1) / 2;
    for (const std::size_t pair : space.pairs()) {
      const auto words = random_words(seed, Stream::batches, replica, step * pairs + pair);
      decltype(to_double(*y)) first, second;
      normal_pair(words, first, second);
      Real noise;
      from_double(first, noise);
      y[2 * pair] = sigma * noise;
      from_double(second, noise);
      if (2 * pair + 1 < dim) y[2 * pair + 1] = sigma * noise;
    }
    if (space.owns(dim - 1)) y[dim - 1] += Number{1};
  }

  // Near the minimum, where w_D / |w| is -1 to rounding, from the other coordinates.
  template <class Real>
  PYTHERMO_INLINE Real loss(const Real* direction) const {
    const Real last = space.last(direction);
    return select(last < 0, squared_sine(direction) / (1 - last), 1 + last);
  }

  // In the place of the mean norm of noisy gradients stands 1 / |w|, from which the caller makes it.
  template <class Real>
  PYTHERMO_INLINE Measured<Real> measure(const Real* direction, Real inverse_radius, Real*) const {
    const Real zero = inverse_radius - inverse_radius, sine = square_root(squared_sine(direction));
    const Real noise = square_root(zero + static_cast<Number>(space.size() - 1)) * sigma;
    return {loss(direction), sine * inverse_radius, inverse_radius, sine / noise};
  }

 private:
  template <class Real>
  PYTHERMO_INLINE Real squared_sine(const Real* direction) const {
    return dot(direction, direction, space.but_last());
  }
};

// --- the window -------------------------------------------------------------------------------------------

// Mean, and sum of the squared distances from it, of values that come one by one (Welford).
template <class Real>
struct Moments {
  Real mean, squares;

  PYTHERMO_INLINE void add(Real value, std::size_t values_before) {
    const Real apart = value - mean;
    mean += apart / static_cast<double>(values_before + 1);
    squares += apart * (value - mean);
  }
};

}  // namespace pythermo::sphere
