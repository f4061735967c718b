// A typed, checked view of a DLPack tensor: the only gate into native code.
#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <type_traits>

#include "dlpack.hpp"

namespace pythermo {

enum class ScalarType { float32, float64, int64 };

template <class T>
constexpr ScalarType scalar_type_of = ScalarType::float64;
template <>
inline constexpr ScalarType scalar_type_of<float> = ScalarType::float32;
template <>
inline constexpr ScalarType scalar_type_of<std::int64_t> = ScalarType::int64;

template <class T>
struct VectorView {
  T* data;
  std::size_t size;
};

class TensorView {
 public:
  // `name` is the argument's name in messages; it must outlive the view.
  TensorView(const dlpack::Tensor& tensor, const char* name) : tensor_(tensor), name_(name) {}

  const char* name() const { return name_; }

  ScalarType scalar_type() const {
    const auto& dtype = tensor_.dtype;
    if (dtype.code == dlpack::TypeCode::floating && dtype.lanes == 1) {
      if (dtype.bits == 32) return ScalarType::float32;
      if (dtype.bits == 64) return ScalarType::float64;
    }
    if (dtype.code == dlpack::TypeCode::signed_int && dtype.lanes == 1 && dtype.bits == 64) {
      return ScalarType::int64;
    }
    fail("the dtype must be float32, float64 or int64");
  }

  // The elements of a contiguous 1-D CPU tensor whose scalar type is T.
  template <class T>
  VectorView<T> cpu_vector() const {
    static_assert(std::is_same_v<T, float> || std::is_same_v<T, double> || std::is_same_v<T, std::int64_t>);
    if (tensor_.device.type != dlpack::DeviceType::cpu) fail("must lie on the CPU");
    if (scalar_type() != scalar_type_of<T>) fail("has another dtype than the arguments before it");
    if (tensor_.ndim != 1) fail("must have 1 dimension, not " + std::to_string(tensor_.ndim));
    const std::int64_t size = tensor_.shape[0];
    if (tensor_.strides != nullptr && size > 1 && tensor_.strides[0] != 1) {
      fail("must be contiguous, not have stride " + std::to_string(tensor_.strides[0]));
    }
    auto* bytes = static_cast<std::byte*>(tensor_.data) + tensor_.byte_offset;
    return {reinterpret_cast<T*>(bytes), static_cast<std::size_t>(size)};
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    throw std::invalid_argument(std::string(name_) + ": " + what);
  }

  dlpack::Tensor tensor_;
  const char* name_;
};

}  // namespace pythermo
