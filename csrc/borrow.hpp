// From Python's DLPack capsules to tensor views.
#pragma once

#include <pybind11/pybind11.h>

#include "tensor_view.hpp"

namespace pythermo {

// Borrows the tensor of a capsule, which stays the owner.
inline TensorView borrow(const pybind11::capsule& capsule, const char* name) {
  const auto* managed = capsule.get_pointer<dlpack::ManagedTensor>();
  return {managed->tensor, name};
}

}  // namespace pythermo
