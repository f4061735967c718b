// Clouds of points in memory that somebody else owns.
#pragma once

#include <cmath>
#include <cstddef>

#include "../tensor_view.hpp"

namespace pythermo::cpu {

template <class T>
struct Cloud {
  const T* data;
  std::size_t points, dim, stride;  // of a point, in elements

  const T* point(std::size_t i) const { return data + i * stride; }
};

template <class T>
struct Clouds {
  const T* data;
  std::size_t clouds, points, dim;
  std::size_t cloud_stride, point_stride;

  Cloud<T> cloud(std::size_t c) const { return {data + c * cloud_stride, points, dim, point_stride}; }
};

template <class T>
Clouds<T> clouds_of(const TensorView& view) {
  const RowsView<T> rows = view.cpu_rows<T>();
  return {rows.data, rows.count, rows.points, rows.dim, rows.count_stride, rows.point_stride};
}

template <class T>
bool is_finite(const T* point, std::size_t dim) {
  for (std::size_t d = 0; d < dim; ++d) {
    if (!std::isfinite(point[d])) return false;
  }
  return true;
}

}  // namespace pythermo::cpu
