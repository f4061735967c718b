// The instruction sets that the vector loops (*.isa.cpp) are built for, and the one in use.
#pragma once

#include <cstddef>
#include <span>
#include <string>

namespace pythermo::cpu {

enum class InstructionSet { baseline, x86_64_v2, x86_64_v3, x86_64_v4 };

// Doubles in a vector of any of them, at most.
constexpr std::size_t widest_vector = 8;

const char* name_of(InstructionSet set);

// Built into this library, the least first.
std::span<const InstructionSet> built_instruction_sets();

// The best one that this processor has, unless `choose_instruction_set` named another.
InstructionSet chosen_instruction_set();

// For tests and measurements: throws std::invalid_argument for a set not built or not supported here.
void choose_instruction_set(const std::string& name);

}  // namespace pythermo::cpu

// PYTHERMO_FOR_EACH_ISA declares functions in one namespace per instruction set;
// PYTHERMO_DISPATCH evaluates an expression in which `isa` is the namespace of the chosen one.
#if defined(PYTHERMO_X86_64_LEVELS)
#define PYTHERMO_FOR_EACH_ISA(...) \
  namespace x86_64_v2 {            \
  __VA_ARGS__                      \
  }                                \
  namespace x86_64_v3 {            \
  __VA_ARGS__                      \
  }                                \
  namespace x86_64_v4 {            \
  __VA_ARGS__                      \
  }
#define PYTHERMO_DISPATCH(...)                           \
  ([&] {                                                 \
    switch (::pythermo::cpu::chosen_instruction_set()) { \
      case ::pythermo::cpu::InstructionSet::x86_64_v4: { \
        namespace isa = ::pythermo::cpu::x86_64_v4;      \
        return __VA_ARGS__;                              \
      }                                                  \
      case ::pythermo::cpu::InstructionSet::x86_64_v3: { \
        namespace isa = ::pythermo::cpu::x86_64_v3;      \
        return __VA_ARGS__;                              \
      }                                                  \
      default: {                                         \
        namespace isa = ::pythermo::cpu::x86_64_v2;      \
        return __VA_ARGS__;                              \
      }                                                  \
    }                                                    \
  }())
#else
#define PYTHERMO_FOR_EACH_ISA(...) \
  namespace baseline {             \
  __VA_ARGS__                      \
  }
#define PYTHERMO_DISPATCH(...)                 \
  ([&] {                                       \
    namespace isa = ::pythermo::cpu::baseline; \
    return __VA_ARGS__;                        \
  }())
#endif
