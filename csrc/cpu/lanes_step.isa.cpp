#include "../lanes_step.hpp"

#include "lanes.hpp"

namespace pythermo::cpu::PYTHERMO_ISA {
namespace {

constexpr std::size_t lanes = register_lanes<float>;
using Doubled = Vector<double, lanes>;

}  // namespace

template <class Retraction>
void member_sums(const float* weights, const float* grad, std::size_t size, const double* lr, double* sums) {
  constexpr int count = Retraction::sum_count;
  const Doubled rate = load<lanes>(lr);
  Doubled total[count] = {};
  for (std::size_t d = 0; d < size; ++d) {
    const Doubled w = __builtin_convertvector(load_members(weights + d * lanes), Doubled);
    const Doubled g = __builtin_convertvector(load_members(grad + d * lanes), Doubled);
    Doubled terms[count];
    Retraction::template terms<Doubled>(w, g, rate, terms);
    for (int k = 0; k < count; ++k) total[k] += terms[k];
  }
  for (int k = 0; k < count; ++k) store(total[k], sums + static_cast<std::size_t>(k) * lanes);
}

template <class Retraction>
void update_members(float* weights, const float* grad, std::size_t size, const float* first,
                    const float* second, const std::int32_t* moves) {
  const typename Retraction::template Update<Members> update{load_members(first), load_members(second)};
  const Vector<std::int32_t, lanes> moved = load<lanes>(moves);
  for (std::size_t d = 0; d < size; ++d) {
    const Members w = load_members(weights + d * lanes), g = load_members(grad + d * lanes);
    store(moved ? update(w, g) : w, weights + d * lanes);
  }
}

void gather_members(const float* samples, std::size_t size, const std::int64_t* indices, std::size_t count,
                    std::size_t lane_stride, float* out) {
  for (std::size_t i = 0; i < count; ++i) {
    const float* from[lanes];
    for (std::size_t l = 0; l < lanes; ++l) {
      from[l] = samples + static_cast<std::size_t>(indices[l * lane_stride + i]) * size;
    }
    float* const to = out + i * size * lanes;
    for (std::size_t e = 0; e < size; ++e) {
      for (std::size_t l = 0; l < lanes; ++l) to[e * lanes + l] = from[l][e];
    }
  }
}

#define PYTHERMO_INSTANTIATE(Retraction)                                                                  \
  template void member_sums<Retraction>(const float*, const float*, std::size_t, const double*, double*); \
  template void update_members<Retraction>(float*, const float*, std::size_t, const float*, const float*, \
                                           const std::int32_t*);

PYTHERMO_INSTANTIATE(Projection)
PYTHERMO_INSTANTIATE(Exponential)
PYTHERMO_INSTANTIATE(WeightDecay<protocols::FixedLr>)
PYTHERMO_INSTANTIATE(WeightDecay<protocols::FixedElr>)

}  // namespace pythermo::cpu::PYTHERMO_ISA
