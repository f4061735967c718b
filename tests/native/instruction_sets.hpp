// The native tests on every instruction set.
#pragma once

#include <stdexcept>

#include "cpu/instruction_set.hpp"

namespace pythermo {

// Calls body(name) with each one chosen that this processor has.
template <class Body>
void on_each_instruction_set(const Body& body) {
  for (const auto set : cpu::built_instruction_sets()) {
    try {
      cpu::choose_instruction_set(cpu::name_of(set));
    } catch (const std::invalid_argument&) {
      continue;
    }
    body(cpu::name_of(set));
  }
}

}  // namespace pythermo
