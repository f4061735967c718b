// The step's loops over one block of elements, built for each instruction set.
#pragma once

#include <cstddef>

#include "../projected_sgd_step.hpp"
#include "instruction_set.hpp"

namespace pythermo::cpu {

struct BlockSums {
  double sums[3];
  bool weights_nonzero, grad_nonzero;
};

// clang-format off
PYTHERMO_FOR_EACH_ISA(
  // Adds up in lanes of type Lane: double, or float in short runs whose sums are added up in double.
  template <class Retraction, class T, class Lane>
  BlockSums sum_block(const T* weights, const T* grad, std::size_t size, double lr);

  template <class Update, class T>
  void update_block(T* weights, const T* grad, std::size_t size, const Update& update);
)
// clang-format on

}  // namespace pythermo::cpu
