#include "../knn.hpp"

#include <algorithm>

#include "lanes.hpp"

namespace pythermo::cpu::PYTHERMO_ISA {
namespace {

template <class T>
using Register = Vector<T, register_lanes<T>>;

// A tile of pairs whose sums stay in registers: 32 of them, or 16, of which a row and a difference need four.
#if defined(__AVX512F__)
constexpr std::size_t tile_a = 6, tile_b = 4;
#else
constexpr std::size_t tile_a = 6, tile_b = 2;
#endif
static_assert(block_points % tile_a == 0 && block_points % tile_b == 0);

// Coordinates whose squares are added up in lanes of T before they go over into double. The rows of a tile
// stay in the first cache that long, and those of two blocks in the second.
template <class T>
constexpr std::size_t run = (knn::run_length<T> - 1) * register_lanes<T>;

// The sum of runs of double, in lanes, and what its roundings have lost.
template <class T>
struct LaneSums {
  Doubles sum, lost;

  PYTHERMO_INLINE void start(Doubles terms) {
    sum = terms;
    lost = Doubles{};
  }
  PYTHERMO_INLINE void add(Doubles terms) {
    const Doubles next = sum + terms, grown = next - sum;
    lost += (sum - (next - grown)) + (terms - grown);
    sum = next;
  }
  PYTHERMO_INLINE double total() const { return sum_of_lanes(sum + lost); }
};

// The sum of runs of float, whose own roundings are so much larger that it needs no such account.
template <>
struct LaneSums<float> {
  Doubles sum;

  static PYTHERMO_INLINE Doubles halved(Register<float> terms) {
    Floats halves[2];
    __builtin_memcpy(halves, &terms, sizeof halves);
    return to_double(halves[0] + halves[1]);
  }
  PYTHERMO_INLINE void start(Register<float> terms) { sum = halved(terms); }
  PYTHERMO_INLINE void add(Register<float> terms) { sum += halved(terms); }
  PYTHERMO_INLINE double total() const { return sum_of_lanes(sum); }
};

template <class T>
struct Tile {
  const T *a[tile_a], *b[tile_b];

  PYTHERMO_INLINE void add_squares(std::size_t at, Register<T> (&sums)[tile_a][tile_b]) const {
    Register<T> right[tile_b];
#pragma GCC unroll 8
    for (std::size_t j = 0; j < tile_b; ++j) right[j] = load<register_lanes<T>>(b[j] + at);
#pragma GCC unroll 8
    for (std::size_t i = 0; i < tile_a; ++i) {
      const Register<T> left = load<register_lanes<T>>(a[i] + at);
#pragma GCC unroll 8
      for (std::size_t j = 0; j < tile_b; ++j) {
        const Register<T> difference = left - right[j];
        sums[i][j] += difference * difference;
      }
    }
  }

  // The same for the last coordinates, fewer than there are lanes.
  PYTHERMO_INLINE void add_last_squares(std::size_t at, std::size_t count,
                                        Register<T> (&sums)[tile_a][tile_b]) const {
    T padded[tile_a + tile_b][register_lanes<T>] = {};
    Tile last;
    for (std::size_t i = 0; i < tile_a; ++i) {
      std::copy_n(a[i] + at, count, padded[i]);
      last.a[i] = padded[i];
    }
    for (std::size_t j = 0; j < tile_b; ++j) {
      std::copy_n(b[j] + at, count, padded[tile_a + j]);
      last.b[j] = padded[tile_a + j];
    }
    last.add_squares(0, sums);
  }

  // Adds the squares of the coordinates from `start` to before `stop`, a run of them.
  PYTHERMO_INLINE void add_run(std::size_t start, std::size_t stop,
                               LaneSums<T> (&totals)[tile_a][tile_b]) const {
    const std::size_t rest = (stop - start) % register_lanes<T>;
    Register<T> sums[tile_a][tile_b] = {};
    for (std::size_t at = start; at < stop - rest; at += register_lanes<T>) add_squares(at, sums);
    if (rest > 0) add_last_squares(stop - rest, rest, sums);
#pragma GCC unroll 8
    for (std::size_t i = 0; i < tile_a; ++i) {
#pragma GCC unroll 8
      for (std::size_t j = 0; j < tile_b; ++j) {
        if (start == 0) {
          totals[i][j].start(sums[i][j]);
        } else {
          totals[i][j].add(sums[i][j]);
        }
      }
    }
  }
};

double squared_distance_in_double(const float* a, const float* b, std::size_t dim) {
  double sum = 0.0;
  for (std::size_t i = 0; i < dim; ++i) {
    const double difference = static_cast<double>(a[i]) - static_cast<double>(b[i]);
    sum += difference * difference;
  }
  return sum;
}

}  // namespace

std::size_t block_scratch_bytes() { return block_points * block_points * sizeof(LaneSums<double>); }

template <class T>
void block_distances(const T* a, std::size_t count_a, const T* b, std::size_t count_b, std::size_t stride,
                     std::size_t dim, double* squared, std::byte* scratch) {
  auto* const totals = reinterpret_cast<LaneSums<T>(*)[tile_a][tile_b]>(scratch);
  const auto for_each_tile = [&](const auto& visit) {
    auto* total = totals;
    for (std::size_t i = 0; i < count_a; i += tile_a) {
      for (std::size_t j = a == b ? i / tile_b * tile_b : 0; j < count_b; j += tile_b) visit(i, j, *total++);
    }
  };
  for (std::size_t start = 0; start < dim; start += run<T>) {
    std::size_t fetched = 0;
    for_each_tile([&](std::size_t i, std::size_t j, auto& total) {
      const std::size_t row = fetched++;
      if (row < count_a + count_b) {
        const T* next = (row < count_a ? a + row * stride : b + (row - count_a) * stride) + start + run<T>;
        for (std::size_t k = 0; k < run<T>; k += 64 / sizeof(T)) __builtin_prefetch(next + k, 0, 2);
      }
      Tile<T> rows;  // beyond the last row, the last row again
      for (std::size_t k = 0; k < tile_a; ++k) rows.a[k] = a + std::min(i + k, count_a - 1) * stride;
      for (std::size_t k = 0; k < tile_b; ++k) rows.b[k] = b + std::min(j + k, count_b - 1) * stride;
      rows.add_run(start, std::min(start + run<T>, dim), total);
    });
  }
  for_each_tile([&](std::size_t i, std::size_t j, const auto& total) {
    for (std::size_t p = i; p < std::min(i + tile_a, count_a); ++p) {
      for (std::size_t q = a == b ? std::max(j, p + 1) : j; q < std::min(j + tile_b, count_b); ++q) {
        double value = total[p - i][q - j].total();
        if constexpr (sizeof(T) == 4) {
          if (!knn::exact_in<T>(value, dim)) {
            value = squared_distance_in_double(a + p * stride, b + q * stride, dim);
          }
        }
        squared[p * block_points + q] = value;
      }
    }
  });
}

void leaf_distances(const double* x, const double* leaf, std::size_t dim, double* squared) {
  constexpr std::size_t vectors = 4;
  for (std::size_t start = 0; start < leaf_points; start += vectors * lane_count) {
    Doubles sums[vectors];
#pragma GCC unroll 8
    for (std::size_t v = 0; v < vectors; ++v) sums[v] = Doubles{};
    for (std::size_t d = 0; d < dim; ++d) {
#pragma GCC unroll 8
      for (std::size_t v = 0; v < vectors; ++v) {
        const Doubles difference = load<lane_count>(leaf + d * leaf_points + start + v * lane_count) - x[d];
        sums[v] += difference * difference;
      }
    }
    for (std::size_t v = 0; v < vectors; ++v) {
      store(sums[v], squared + start + v * lane_count);
    }
  }
}

// By counting how many values are smaller than each, or equal and before it: for up to some hundred values
// faster than comparing and exchanging them, which no processor can foresee.
void sort_few(const double* values, std::size_t count, double* sorted) {
  Mask lane;
  for (std::size_t l = 0; l < lane_count; ++l) lane[l] = static_cast<std::int64_t>(l);
  for (std::size_t start = 0; start < count; start += lane_count) {
    const Doubles mine = load<lane_count>(values + start);
    const std::size_t stop = std::min(start + lane_count, count);
    Mask rank{};
    for (std::size_t j = 0; j < start; ++j) rank -= values[j] <= mine;
    for (std::size_t j = start; j < stop; ++j) {
      rank -= (values[j] < mine) | ((values[j] == mine) & (static_cast<std::int64_t>(j - start) < lane));
    }
    for (std::size_t j = stop; j < count; ++j) rank -= values[j] < mine;
    for (std::size_t l = 0; l < stop - start; ++l) sorted[rank[l]] = mine[l];
  }
}

template void block_distances(const float*, std::size_t, const float*, std::size_t, std::size_t, std::size_t,
                              double*, std::byte*);
template void block_distances(const double*, std::size_t, const double*, std::size_t, std::size_t,
                              std::size_t, double*, std::byte*);

}  // namespace pythermo::cpu::PYTHERMO_ISA
