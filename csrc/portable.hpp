// Marks for functions in headers that the host compiler, nvcc and every instruction set share.
#pragma once

// Always inlined: an out-of-line copy compiled for AVX-512 could be the one that the linker keeps,
// and would then run on machines without it.
#if defined(__CUDACC__)
#define PYTHERMO_INLINE __host__ __device__ __forceinline__
#else
#define PYTHERMO_INLINE __attribute__((always_inline)) inline
#endif
