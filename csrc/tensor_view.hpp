// A typed, checked view of a DLPack tensor: the only gate into native code.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

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

// What lies at equal steps, of so many elements.
template <class T>
struct StridedView {
  T* data;
  std::size_t stride;
};

// Rows [count, points, dim] whose elements lie side by side; strides in elements.
template <class T>
struct RowsView {
  T* data;
  std::size_t count, points, dim;
  std::size_t count_stride, point_stride;
};

class TensorView {
 public:
  // `name` is the argument's name in messages; it must outlive the view. `index`: in a list of several.
  TensorView(const dlpack::Tensor& tensor, const char* name, int index = -1)
      : tensor_(tensor), name_(name), index_(index) {}

  const char* name() const { return name_; }

  // Which tensor of a list it is, or nothing: " of tensor 2, of shape [3, 4],".
  std::string place_in_list() const {
    return index_ < 0 ? "" : " of tensor " + std::to_string(index_) + ", of shape " + shape_text() + ",";
  }

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

  // The elements of a contiguous 1-D tensor whose scalar type is T.
  template <class T>
  VectorView<T> vector_on(dlpack::DeviceType device) const {
    T* data = data_on<T>(device, 1);
    require_adjacent_elements();
    return {data, static_cast<std::size_t>(tensor_.shape[0])};
  }
  template <class T>
  VectorView<T> cpu_vector() const {
    return vector_on<T>(dlpack::DeviceType::cpu);
  }

  // The elements of a tensor of any shape and order of its axes, in the order of memory, where they lie side
  // by side.
  template <class T>
  VectorView<T> memory_on(dlpack::DeviceType device) const {
    T* const data = typed_data_on<T>(device);
    const std::size_t size = element_count();
    if (size > 0 && !is_dense()) fail("its elements must lie side by side in memory");
    return {data, size};
  }

  void require_layout_of(const TensorView& other) const {
    if (!std::equal(tensor_.shape, tensor_.shape + tensor_.ndim, other.tensor_.shape,
                    other.tensor_.shape + other.tensor_.ndim)) {
      fail("must have the shape " + other.shape_text() + ", not " + shape_text());
    }
    for (int axis = 0; axis < tensor_.ndim; ++axis) {
      if (tensor_.shape[axis] > 1 && stride(axis) != other.stride(axis) && element_count() > 0) {
        fail(std::string("must have the strides of ") + other.name_);
      }
    }
    require_device_of(other);
  }

  void require_device_of(const TensorView& other) const {
    if (tensor_.device.index != other.tensor_.device.index) {
      fail("lies on another device than the arguments before it");
    }
  }

  // The sizes of the `ndim` dimensions.
  std::vector<std::size_t> sizes(int ndim) const {
    require_dimensions(ndim);
    return {tensor_.shape, tensor_.shape + ndim};
  }

  // The elements of a contiguous tensor of any shape.
  template <class T>
  T* array_on(dlpack::DeviceType device) const {
    T* const data = typed_data_on<T>(device);
    require_contiguous_from(0);
    return data;
  }

  // The elements of a tensor that is contiguous but for gaps between those of its first axis.
  template <class T>
  StridedView<T> contiguous_each_on(dlpack::DeviceType device) const {
    T* const data = typed_data_on<T>(device);
    require_contiguous_from(1);
    if (stride(0) < 0) fail("must not have a negative stride");
    return {data, static_cast<std::size_t>(stride(0))};
  }

  template <class T>
  T* array() const {
    return array_on<T>(dlpack::DeviceType::cpu);
  }

  // Those of one that has `size` elements.
  template <class T>
  T* sized_on(dlpack::DeviceType device, std::size_t size) const {
    const VectorView<T> vector = vector_on<T>(device);
    if (vector.size != size) {
      fail("has " + std::to_string(vector.size) + " elements, not " + std::to_string(size));
    }
    return vector.data;
  }

  // The elements of a 3-D tensor whose scalar type is T and whose last dimension is contiguous.
  template <class T>
  RowsView<T> rows_on(dlpack::DeviceType device) const {
    T* data = data_on<T>(device, 3);
    require_adjacent_elements();
    const auto size = [&](int axis) { return static_cast<std::size_t>(tensor_.shape[axis]); };
    if (tensor_.strides == nullptr) return {data, size(0), size(1), size(2), size(1) * size(2), size(2)};
    for (int axis = 0; axis < 2; ++axis) {
      if (tensor_.strides[axis] < 0) fail("must not have a negative stride");
    }
    return {data,
            size(0),
            size(1),
            size(2),
            static_cast<std::size_t>(tensor_.strides[0]),
            static_cast<std::size_t>(tensor_.strides[1])};
  }
  template <class T>
  RowsView<T> cpu_rows() const {
    return rows_on<T>(dlpack::DeviceType::cpu);
  }

 private:
  template <class T>
  T* data_on(dlpack::DeviceType device, int ndim) const {
    T* const data = typed_data_on<T>(device);
    require_dimensions(ndim);
    return data;
  }

  void require_dimensions(int ndim) const {
    if (tensor_.ndim != ndim) {
      fail("must have " + std::to_string(ndim) + " dimensions, not " + std::to_string(tensor_.ndim));
    }
  }

  template <class T>
  T* typed_data_on(dlpack::DeviceType device) const {
    static_assert(std::is_same_v<T, float> || std::is_same_v<T, double> || std::is_same_v<T, std::int64_t>);
    if (tensor_.device.type != device) {
      fail(device == dlpack::DeviceType::cpu ? "must lie on the CPU" : "must lie on a CUDA device");
    }
    if (scalar_type() != scalar_type_of<T>) fail("has another dtype than the arguments before it");
    return reinterpret_cast<T*>(static_cast<std::byte*>(tensor_.data) + tensor_.byte_offset);
  }

  void require_contiguous_from(int first_axis) const {
    if (element_count() == 0) return;
    std::int64_t product = 1;
    for (int axis = tensor_.ndim - 1; axis >= first_axis; --axis) {
      if (tensor_.shape[axis] > 1 && stride(axis) != product) fail("must be contiguous");
      product *= tensor_.shape[axis];
    }
  }

  void require_adjacent_elements() const {
    const int last = tensor_.ndim - 1;
    if (tensor_.strides != nullptr && tensor_.shape[last] > 1 && tensor_.strides[last] != 1) {
      fail("must be contiguous, not have stride " + std::to_string(tensor_.strides[last]));
    }
  }

  std::size_t element_count() const {
    std::size_t count = 1;
    for (int axis = 0; axis < tensor_.ndim; ++axis) count *= static_cast<std::size_t>(tensor_.shape[axis]);
    return count;
  }

  std::int64_t stride(int axis) const {
    if (tensor_.strides != nullptr) return tensor_.strides[axis];
    std::int64_t product = 1;
    for (int later = axis + 1; later < tensor_.ndim; ++later) product *= tensor_.shape[later];
    return product;
  }

  // Whether the axes in some order follow each other without a gap: for each place there is one next to it.
  bool is_dense() const {
    std::int64_t next = 1;
    const auto has_stride = [&](int axis) { return tensor_.shape[axis] > 1 && stride(axis) == next; };
    const auto count = static_cast<std::int64_t>(element_count());
    while (next < count) {
      int axis = 0;
      while (axis < tensor_.ndim && !has_stride(axis)) ++axis;
      if (axis == tensor_.ndim) return false;
      next *= tensor_.shape[axis];
    }
    return true;
  }

  std::string shape_text() const {
    std::string text = "[";
    for (int axis = 0; axis < tensor_.ndim; ++axis) {
      text += (axis > 0 ? ", " : "") + std::to_string(tensor_.shape[axis]);
    }
    return text + "]";
  }

  [[noreturn]] void fail(const std::string& what) const {
    const std::string which = index_ < 0 ? "" : "tensor " + std::to_string(index_) + ": ";
    throw std::invalid_argument(std::string(name_) + ": " + which + what);
  }

  dlpack::Tensor tensor_;
  const char* name_;
  int index_;
};

// Throws std::invalid_argument, naming the tensor, unless something fits.
inline void require(bool fits, const TensorView& view, const char* what) {
  if (!fits) throw std::invalid_argument(std::string(view.name()) + ": " + what);
}

}  // namespace pythermo
