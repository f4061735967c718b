// A vector that lies in pieces: weights and gradients of many tensors, one after the other in the order
// given.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <vector>

#include "portable.hpp"
#include "tensor_view.hpp"

namespace pythermo {

using Tensors = std::vector<TensorView>;
using OptionalTensors = std::vector<std::optional<TensorView>>;

// One tensor's elements, in the order of its memory.
template <class T>
struct Segment {
  T* weights;
  const T* grad;           // null where it is zero
  std::size_t begin, end;  // its places in the whole vector

  PYTHERMO_INLINE std::size_t size() const { return end - begin; }
};

// The segment that has a place of the whole vector, among consecutive ones that have it.
template <class T>
PYTHERMO_INLINE std::size_t segment_with(std::size_t place, const Segment<T>* segments, std::size_t count) {
  std::size_t first = 0;
  while (count > 1) {
    const std::size_t half = count / 2;
    if (segments[first + half].begin <= place) {
      first += half;
      count -= half;
    } else {
      count = half;
    }
  }
  return first;
}

template <class T>
class Segments {
 public:
  // Throws std::invalid_argument for tensors that are not dense in memory, of different dtypes or devices,
  // or that share memory where one of them is written, and for a gradient laid out otherwise than its
  // weights.
  Segments(const Tensors& weights, const OptionalTensors& grads, dlpack::DeviceType device) {
    if (weights.size() != grads.size()) throw std::invalid_argument("grad: one for each tensor of weights");
    all_.reserve(weights.size());
    for (std::size_t i = 0; i < weights.size(); ++i) {
      const VectorView<T> w = weights[i].template memory_on<T>(device);
      const T* grad = nullptr;
      if (grads[i].has_value()) {
        grad = grads[i]->template memory_on<T>(device).data;
        grads[i]->require_layout_of(weights[i]);
      }
      weights[i].require_device_of(weights[0]);
      if (w.size > 0) all_.push_back({w.data, grad, size_, size_ + w.size});
      size_ += w.size;
    }
    require_apart();
  }

  std::size_t size() const { return size_; }
  const std::vector<Segment<T>>& all() const { return all_; }

  const Segment<T>* at(std::size_t place) const {
    return all_.data() + segment_with(place, all_.data(), all_.size());
  }

  // The weights in the place of the gradients.
  Segments of_weights() const {
    Segments same = *this;
    for (Segment<T>& segment : same.all_) segment.grad = segment.weights;
    return same;
  }

 private:
  static std::uintptr_t address(const T* data) { return reinterpret_cast<std::uintptr_t>(data); }

  void require_apart() const {
    std::vector<Segment<T>> sorted = all_;
    std::sort(sorted.begin(), sorted.end(), [](const Segment<T>& a, const Segment<T>& b) {
      return address(a.weights) < address(b.weights);
    });
    for (std::size_t i = 1; i < sorted.size(); ++i) {
      if (address(sorted[i - 1].weights + sorted[i - 1].size()) > address(sorted[i].weights)) {
        throw std::invalid_argument("weights: two tensors share memory; each must have its own");
      }
    }
    for (const Segment<T>& segment : all_) {
      if (segment.grad == nullptr) continue;
      const auto after = std::partition_point(sorted.begin(), sorted.end(), [&](const Segment<T>& other) {
        return address(other.weights + other.size()) <= address(segment.grad);
      });
      if (after != sorted.end() && address(after->weights) < address(segment.grad + segment.size())) {
        throw std::invalid_argument("grad: shares memory with weights; they must lie apart");
      }
    }
  }

  std::vector<Segment<T>> all_;  // without the empty ones
  std::size_t size_ = 0;
};

}  // namespace pythermo
