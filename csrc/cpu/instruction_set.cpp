#include "instruction_set.hpp"

#include <array>
#include <atomic>
#include <stdexcept>

namespace pythermo::cpu {
namespace {

#if defined(PYTHERMO_X86_64_LEVELS)
constexpr std::array built{InstructionSet::x86_64_v2, InstructionSet::x86_64_v3, InstructionSet::x86_64_v4};

bool supported(InstructionSet set) {
  switch (set) {
    case InstructionSet::x86_64_v4:
      return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
             __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
             __builtin_cpu_supports("avx512vl") && supported(InstructionSet::x86_64_v3);
    case InstructionSet::x86_64_v3:
      return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
             __builtin_cpu_supports("bmi2");
    default:
      return true;
  }
}
#else
constexpr std::array built{InstructionSet::baseline};

bool supported(InstructionSet) { return true; }
#endif

InstructionSet best() {
  InstructionSet found = built.front();
  for (const InstructionSet set : built) {
    if (supported(set)) found = set;
  }
  return found;
}

std::atomic<InstructionSet>& choice() {
  static std::atomic<InstructionSet> value{best()};
  return value;
}

}  // namespace

const char* name_of(InstructionSet set) {
  switch (set) {
    case InstructionSet::x86_64_v2:
      return "x86-64-v2";
    case InstructionSet::x86_64_v3:
      return "x86-64-v3";
    case InstructionSet::x86_64_v4:
      return "x86-64-v4";
    default:
      return "baseline";
  }
}

std::span<const InstructionSet> built_instruction_sets() { return built; }

InstructionSet chosen_instruction_set() { return choice().load(std::memory_order_relaxed); }

void choose_instruction_set(const std::string& name) {
  std::string usable;
  for (const InstructionSet set : built) {
    if (!supported(set)) continue;
    if (name == name_of(set)) {
      choice() = set;
      return;
    }
    usable += std::string(usable.empty() ? "" : ", ") + name_of(set);
  }
  throw std::invalid_argument("name: '" + name +
                              "' is not an instruction set usable here; these are: " + usable);
}

}  // namespace pythermo::cpu
