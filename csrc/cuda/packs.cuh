// Elements of a flat array, 16 bytes at a time unless said otherwise.
#pragma once

#include <cuda_pipeline_primitives.h>
#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

namespace pythermo::cuda {

template <class T, int count = 16 / sizeof(T)>
struct alignas(count * sizeof(T)) Pack {
  static constexpr int width = count;
  T value[count];
};

template <class T, int width = Pack<T>::width>
__host__ __device__ bool is_aligned(const T* data) {
  return reinterpret_cast<std::uintptr_t>(data) % sizeof(Pack<T, width>) == 0;
}

// Elements from `at` on, zeros beyond `size`; `aligned` where `data` is.
template <class T, int width = Pack<T>::width>
__device__ __forceinline__ Pack<T, width> load_pack(const T* data, std::size_t at, std::size_t size,
                                                    bool aligned) {
  if (aligned && at + width <= size) return *reinterpret_cast<const Pack<T, width>*>(data + at);
  Pack<T, width> pack;
#pragma unroll
  for (int i = 0; i < width; ++i) pack.value[i] = at + i < size ? data[at + i] : T{0};
  return pack;
}

// Begins to copy a pack into shared memory, zeros beyond the `left` elements that there are.
template <class T>
__device__ __forceinline__ void copy_pack(const T* from, std::size_t left, bool aligned, T* to) {
  if (aligned && left >= Pack<T>::width) {
    __pipeline_memcpy_async(to, from, sizeof(Pack<T>));
    return;
  }
#pragma unroll
  for (unsigned i = 0; i < Pack<T>::width; ++i) {
    if (i < left) {
      __pipeline_memcpy_async(to + i, from + i, sizeof(T));
    } else {
      to[i] = T{0};
    }
  }
}

// Waits for the copies that this thread has begun, but for those of the last groups. The warp's barrier keeps
// the compiler from reading them before.
template <unsigned but_last>
__device__ __forceinline__ void wait_for_packs() {
  __pipeline_wait_prior(but_last);
  __syncwarp();
}

}  // namespace pythermo::cuda
