// Flat arrays of a size that is known beforehand.
#pragma once

#include <stdexcept>
#include <string>

#include "../tensor_view.hpp"

namespace pythermo::cpu {

template <class Element>
Element* sized(const TensorView& view, std::size_t size) {
  const VectorView<Element> vector = view.cpu_vector<Element>();
  if (vector.size != size) {
    throw std::invalid_argument(std::string(view.name()) + ": has " + std::to_string(vector.size) +
                                " elements, not " + std::to_string(size));
  }
  return vector.data;
}

// Null for an array that is empty, which means that it is not asked for.
template <class Element>
Element* optional(const TensorView& view, std::size_t size) {
  return view.cpu_vector<Element>().size == 0 ? nullptr : sized<Element>(view, size);
}

}  // namespace pythermo::cpu
