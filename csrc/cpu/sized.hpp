// Flat arrays of a size that is known beforehand.
#pragma once

#include "../tensor_view.hpp"

namespace pythermo::cpu {

template <class Element>
Element* sized(const TensorView& view, std::size_t size) {
  return view.sized_on<Element>(dlpack::DeviceType::cpu, size);
}

// Null for an array that is empty, which means that it is not asked for.
template <class Element>
Element* optional(const TensorView& view, std::size_t size) {
  return view.cpu_vector<Element>().size == 0 ? nullptr : sized<Element>(view, size);
}

}  // namespace pythermo::cpu
