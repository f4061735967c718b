// Elements of a flat array, 16 bytes at a time.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

namespace pythermo::cuda {

template <class T>
struct alignas(16) Pack {
  static constexpr int width = 16 / sizeof(T);
  T value[width];
};

template <class T>
bool is_aligned(const T* data) {
  return reinterpret_cast<std::uintptr_t>(data) % sizeof(Pack<T>) == 0;
}

// Elements from `at` on, zeros beyond `size`; `aligned` where `data` is.
template <class T>
__device__ __forceinline__ Pack<T> load_pack(const T* data, std::size_t at, std::size_t size, bool aligned) {
  if (aligned && at + Pack<T>::width <= size) return *reinterpret_cast<const Pack<T>*>(data + at);
  Pack<T> pack;
#pragma unroll
  for (int i = 0; i < Pack<T>::width; ++i) pack.value[i] = at + i < size ? data[at + i] : T{0};
  return pack;
}

template <class T>
__device__ __forceinline__ void store_pack(T* data, std::size_t at, std::size_t size, bool aligned,
                                           const Pack<T>& pack) {
  if (aligned && at + Pack<T>::width <= size) {
    *reinterpret_cast<Pack<T>*>(data + at) = pack;
    return;
  }
#pragma unroll
  for (int i = 0; i < Pack<T>::width; ++i) {
    if (at + i < size) data[at + i] = pack.value[i];
  }
}

}  // namespace pythermo::cuda
