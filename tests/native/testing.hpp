// What the native tests share.
#pragma once

#include <cstdint>
#include <cstdio>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "tensor_view.hpp"

namespace pythermo {

inline int failures = 0;

inline void check(bool holds, const std::string& what) {
  if (holds) return;
  std::printf("FAILED: %s\n", what.c_str());
  ++failures;
}

// A DLPack tensor over a vector.
template <class T>
struct Array {
  std::vector<T> values;
  std::vector<std::int64_t> shape;

  explicit Array(std::vector<std::int64_t> sizes) : shape(std::move(sizes)) {
    std::size_t size = 1;
    for (const std::int64_t side : shape) size *= static_cast<std::size_t>(side);
    values.resize(size);
  }

  TensorView view(const char* name) {
    dlpack::Tensor tensor{};
    tensor.data = values.data();
    tensor.device = {dlpack::DeviceType::cpu, 0};
    tensor.ndim = static_cast<int>(shape.size());
    const bool whole = std::is_same_v<T, std::int64_t>;
    tensor.dtype = {whole ? dlpack::TypeCode::signed_int : dlpack::TypeCode::floating, 8 * sizeof(T), 1};
    tensor.shape = shape.data();
    return {tensor, name};
  }
};

}  // namespace pythermo
