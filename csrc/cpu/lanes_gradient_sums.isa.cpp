#include "../lanes_gradient_sums.hpp"

#include "lanes.hpp"

namespace pythermo::cpu::PYTHERMO_ISA {

void add_gradient_sums(const MemberSums& sums, std::size_t size) {
  constexpr std::size_t lanes = register_lanes<float>;
  using Doubled = Vector<double, lanes>;
  Doubled squared{}, distance{};
  for (std::size_t i = 0; i < size * lanes; i += lanes) {
    const Doubled g = __builtin_convertvector(load_members(sums.grad + i), Doubled);
    const Doubled apart = sums.center == nullptr ? g : g - load<lanes>(sums.center + i);
    squared += g * g;
    distance += apart * apart;
    if (sums.total != nullptr) store(load<lanes>(sums.total + i) + g, sums.total + i);
  }
  store(squared, sums.squared);
  store(distance, sums.distance);
}

}  // namespace pythermo::cpu::PYTHERMO_ISA
