// The step's loops over one block of elements, built for each instruction set.
#pragma once

#include <array>
#include <cstddef>

#include "../projected_sgd_step.hpp"
#include "instruction_set.hpp"

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
