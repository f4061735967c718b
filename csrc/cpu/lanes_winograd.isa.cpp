#include "../lanes_winograd.hpp"

#include "lanes_tiles.hpp"

namespace pythermo::cpu::PYTHERMO_ISA {
namespace {

// What along a row is taken from `before` pixels before its begin on, and the points that it gives.
template <class Row>
struct FromImages;
template <class Row>
struct FromGradients;
template <class Row>
struct FromWeights;

// What points give: pixels of a row, or three taps.
template <class Row>
struct ToImages;
template <class Row>
struct ToWeights;

// Points of polynomials, and what their values at +-a and +-b are divided by, so that they interpolate.
constexpr float a = 0.75f, b = 1.5f, a2 = a * a, b2 = b * b;
constexpr float of_zero = 1 / (a2 * b2), of_a = 1 / (2 * a2 * (a2 - b2)), of_b = 1 / (2 * b2 * (b2 - a2));

template <>
struct FromImages<Quads> {
  static constexpr std::size_t taken = 6, before = 1;

  static PYTHERMO_INLINE void apply(const Members (&x)[6], Members (&v)[6]) {
    const Members even_a = x[4] - b2 * x[2], odd_a = x[3] - b2 * x[1];
    const Members even_b = x[4] - a2 * x[2], odd_b = x[3] - a2 * x[1];
    v[0] = a2 * b2 * x[0] + (x[4] - (a2 + b2) * x[2]);
    v[1] = even_a + a * odd_a;
    v[2] = even_a - a * odd_a;
    v[3] = even_b + b * odd_b;
    v[4] = even_b - b * odd_b;
    v[5] = a2 * b2 * x[1] + (x[5] - (a2 + b2) * x[3]);
  }
};

template <>
struct FromGradients<Quads> {
  static constexpr std::size_t taken = 4, before = 0;

  static PYTHERMO_INLINE void apply(const Members (&y)[4], Members (&v)[6]) {
    const Members even_a = y[0] + a2 * y[2], odd_a = y[1] + a2 * y[3];
    const Members even_b = y[0] + b2 * y[2], odd_b = y[1] + b2 * y[3];
    v[0] = y[0];
    v[1] = even_a + a * odd_a;
    v[2] = even_a - a * odd_a;
    v[3] = even_b + b * odd_b;
    v[4] = even_b - b * odd_b;
    v[5] = y[3];
  }
};

template <>
struct FromWeights<Quads> {
  static PYTHERMO_INLINE void apply(const Members (&w)[3], Members (&v)[6]) {
    const Members even_a = of_a * (w[0] + a2 * w[2]), odd_a = of_a * a * w[1];
    const Members even_b = of_b * (w[0] + b2 * w[2]), odd_b = of_b * b * w[1];
    v[0] = of_zero * w[0];
    v[1] = even_a + odd_a;
    v[2] = even_a - odd_a;
    v[3] = even_b + odd_b;
    v[4] = even_b - odd_b;
    v[5] = w[2];
  }
};

template <>
struct ToImages<Quads> {
  static PYTHERMO_INLINE void apply(const Members (&s)[6], Members (&y)[4]) {
    const Members even_a = s[1] + s[2], odd_a = s[1] - s[2];
    const Members even_b = s[3] + s[4], odd_b = s[3] - s[4];
    y[0] = s[0] + even_a + even_b;
    y[1] = a * odd_a + b * odd_b;
    y[2] = a2 * even_a + b2 * even_b;
    y[3] = a2 * a * odd_a + b2 * b * odd_b + s[5];
  }
};

template <>
struct ToWeights<Quads> {
  static PYTHERMO_INLINE void apply(const Members (&s)[6], Members (&w)[3]) {
    const Members even_a = of_a * (s[1] + s[2]), odd_a = of_a * a * (s[1] - s[2]);
    const Members even_b = of_b * (s[3] + s[4]), odd_b = of_b * b * (s[3] - s[4]);
    w[0] = of_zero * s[0] + even_a + even_b;
    w[1] = odd_a + odd_b;
    w[2] = a2 * even_a + b2 * even_b + s[5];
  }
};

template <>
struct FromImages<Pairs> {
  static constexpr std::size_t taken = 2, before = 0;

  static PYTHERMO_INLINE void apply(const Members (&x)[2], Members (&v)[3]) {
    v[0] = x[0];
    v[1] = x[1];
    v[2] = x[0] + x[1];
  }
};

template <>
struct FromGradients<Pairs> {
  static constexpr std::size_t taken = 2, before = 0;

  static PYTHERMO_INLINE void apply(const Members (&y)[2], Members (&v)[3]) {
    v[0] = y[1];
    v[1] = y[0];
    v[2] = y[0] + y[1];
  }
};

template <>
struct FromWeights<Pairs> {
  static PYTHERMO_INLINE void apply(const Members (&w)[3], Members (&v)[3]) {
    v[0] = w[0] - w[1];
    v[1] = w[2] - w[1];
    v[2] = w[1];
  }
};

template <>
struct ToImages<Pairs> {
  static PYTHERMO_INLINE void apply(const Members (&s)[3], Members (&y)[2]) {
    y[0] = s[2] + s[1];
    y[1] = s[2] + s[0];
  }
};

template <>
struct ToWeights<Pairs> {
  static PYTHERMO_INLINE void apply(const Members (&s)[3], Members (&w)[3]) {
    w[0] = s[0];
    w[1] = s[2] - s[0] - s[1];
    w[2] = s[1];
  }
};

// Calls call(row, image, x, piece) for the pieces of a band, counted in each row.
template <class Row, class Call>
PYTHERMO_INLINE void each_piece(const ImageSize& size, const Band& band, const Call& call) {
  for (std::size_t row = 0; row < band.rows; ++row) {
    std::size_t piece = 0;
    for (std::size_t image = band.image; image < band.image + band.images; ++image) {
      for (std::size_t x = 0; x < size.width; x += Row::pixels, ++piece) call(row, image, x, piece);
    }
  }
}

// All channels of a piece's pixels in the cache, before their turn.
template <class Row>
PYTHERMO_INLINE void prefetch_pixels(const float* pixels, std::size_t pixel) {
#pragma GCC unroll 4
  for (std::size_t j = 0; j < Row::pixels; ++j) __builtin_prefetch(pixels + j * pixel, 1);
}

template <class Row, class From>
PYTHERMO_INLINE void to_points(const ImageSize& size, const Band& band, const float* images,
                               const Panels& panels) {
  const std::size_t pixel = size.channels * lanes, point_step = panels.points.point_step * lanes;
  alignas(64) const float zeros[lanes] = {};
  each_piece<Row>(size, band, [&](std::size_t row, std::size_t image, std::size_t x, std::size_t piece) {
    const float* const pixels = images + (image * size.height + band.row + row) * size.width * pixel;
    const float* const next = pixels + (x + From::taken - From::before) * pixel;
    float* const matrix = panels.points.vectors + row * panels.points.row_step * lanes;
    const float* source[From::taken];
    std::size_t step[From::taken];
    for (std::size_t j = 0; j < From::taken; ++j) {
      const bool inside = x + j >= From::before && x + j - From::before < size.width;
      source[j] = inside ? pixels + (x + j - From::before) * pixel : zeros;
      step[j] = inside ? lanes : 0;
    }
    for (std::size_t c = 0; c < size.channels; ++c) {
      Members taken[From::taken], given[Row::points];
#pragma GCC unroll 8
      for (std::size_t j = 0; j < From::taken; ++j) {
        taken[j] = in_register(load_members(source[j]));
        source[j] += step[j];
      }
      prefetch_pixels<Row>(next + c * lanes, pixel);
      From::apply(taken, given);
      const PanelPlace place = panels.places[panels.of_pieces ? piece : c];
      float* const to = matrix + (place.first + place.step * (panels.of_pieces ? c : piece)) * lanes;
#pragma GCC unroll 8
      for (std::size_t i = 0; i < Row::points; ++i) store(given[i], to + i * point_step);
    }
  });
}

PYTHERMO_INLINE void place(std::size_t count, std::size_t vectors, std::size_t most, PanelPlace* places) {
  each_tile(count, most, [&](std::size_t first, std::size_t size) {
    for (std::size_t i = 0; i < size; ++i) places[first + i] = {first * vectors + i, size};
  });
}

// One tile of sums, from a panel of each matrix.
template <std::size_t rows, std::size_t columns>
void sum_panels(const PointProducts& products, std::size_t matrices, const float* left, const float* right,
                float* to) {
  const std::size_t to_step = products.right_size * lanes;
  Tile<rows, columns> sums;
  products.begins ? sums.clear() : sums.load(to, to_step);
  for (; matrices > 0; --matrices) {
    const float *p = left, *q = right;
    for (const float* const end = left + products.inner_size * rows * lanes; p < end;
         p += rows * lanes, q += columns * lanes) {
      sums.add(p, lanes, q);
    }
    left += products.left.row_step * lanes;
    right += products.right.row_step * lanes;
  }
  sums.store_to(to, to_step);
}

}  // namespace

std::size_t panel_size() { return tile_rows; }

void place_left(std::size_t count, std::size_t vectors, PanelPlace* places) {
  place(count, vectors, tile_rows, places);
}

void place_right(std::size_t count, std::size_t vectors, PanelPlace* places) {
  place(count, vectors, tile_columns, places);
}

template <class Row>
void images_to_points(const ImageSize& size, const Band& band, const float* images, const Panels& panels) {
  to_points<Row, FromImages<Row>>(size, band, images, panels);
}

template <class Row>
void gradients_to_points(const ImageSize& size, const Band& band, const float* grad, const Panels& panels) {
  to_points<Row, FromGradients<Row>>(size, band, grad, panels);
}

template <class Row>
void weights_to_points(const TapWeights& weights, const Points& points) {
  const std::ptrdiff_t tap_step = weights.tap_step * std::ptrdiff_t{lanes};
  for (std::size_t ky = 0; ky < 3; ++ky) {
    const float* const tap = weights.first + static_cast<std::ptrdiff_t>(3 * ky) * tap_step;
    float* to = points.vectors + ky * points.row_step * lanes;
    each_tile(weights.to, tile_columns, [&](std::size_t first, std::size_t size) {
      for (std::size_t c = 0; c < weights.from; ++c) {
        for (std::size_t q = first; q < first + size; ++q, to += lanes) {
          const float* const source = tap + (c * weights.from_step + q * weights.to_step) * lanes;
          const Members taps[3] = {load_members(source), load_members(source + tap_step),
                                   load_members(source + 2 * tap_step)};
          Members given[Row::points];
          FromWeights<Row>::apply(taps, given);
#pragma GCC unroll 8
          for (std::size_t i = 0; i < Row::points; ++i) store(given[i], to + i * points.point_step * lanes);
        }
      }
    });
  }
}

void multiply_points(const PointProducts& products) {
  for (std::size_t point = 0; point < products.points; ++point) {
    const auto at = [&](const Points& points) { return points.vectors + point * points.point_step * lanes; };
    const float *const left = at(products.left), *const right = at(products.right);
    float* const to = at(products.to);
    each_tile(products.right_size, tile_columns, [&](std::size_t q, std::size_t size_q) {
      with_count<tile_columns>(size_q, [&](auto columns) {
        for (const ProductSum* sum = products.sums.data(); sum < products.sums.data() + products.sums.size();
             ++sum) {
          each_tile(products.left_size, tile_rows, [&](std::size_t p, std::size_t size_p) {
            with_count<tile_rows>(size_p, [&](auto rows) {
              sum_panels<rows, columns>(products, sum->count,
                                        left + (sum->left + p * products.inner_size) * lanes,
                                        right + (sum->right + q * products.inner_size) * lanes,
                                        to + (sum->to + p * products.right_size + q) * lanes);
            });
          });
        }
      });
    });
  }
}

template <class Row>
void points_to_images(const Points& points, const ImageSize& size, const Band& band, float* images) {
  const float* sums = points.vectors;
  const std::size_t pixel = size.channels * lanes;
  each_piece<Row>(size, band, [&](std::size_t row, std::size_t image, std::size_t x, std::size_t) {
    const std::size_t count = smaller(Row::pixels, size.width - x);
    float* to = images + ((image * size.height + band.row + row) * size.width + x) * pixel;
    for (std::size_t o = 0; o < size.channels; ++o, sums += lanes, to += lanes) {
      Members taken[Row::points], given[Row::pixels];
#pragma GCC unroll 8
      for (std::size_t i = 0; i < Row::points; ++i) {
        taken[i] = in_register(load_members(sums + i * points.point_step * lanes));
      }
      prefetch_pixels<Row>(to + Row::pixels * pixel, pixel);
      ToImages<Row>::apply(taken, given);
#pragma GCC unroll 8
      for (std::size_t j = 0; j < Row::pixels; ++j) {
        if (j < count) store(given[j], to + j * pixel);
      }
    }
  });
}

template <class Row>
void points_to_weights(const Points& points, std::size_t count, float* grad_weights) {
  const float* sums = points.vectors;
  for (std::size_t ky = 0; ky < 3; ++ky, grad_weights += 3 * count * lanes) {
    for (std::size_t i = 0; i < count; ++i, sums += lanes) {
      Members taken[Row::points], given[3];
#pragma GCC unroll 8
      for (std::size_t p = 0; p < Row::points; ++p)
        taken[p] = load_members(sums + p * points.point_step * lanes);
      ToWeights<Row>::apply(taken, given);
#pragma GCC unroll 8
      for (std::size_t kx = 0; kx < 3; ++kx) {
        float* const to = grad_weights + (kx * count + i) * lanes;
        store(load_members(to) + given[kx], to);
      }
    }
  }
}

#define PYTHERMO_INSTANTIATE(Row)                                                                     \
  template void images_to_points<Row>(const ImageSize&, const Band&, const float*, const Panels&);    \
  template void gradients_to_points<Row>(const ImageSize&, const Band&, const float*, const Panels&); \
  template void weights_to_points<Row>(const TapWeights&, const Points&);                             \
  template void points_to_images<Row>(const Points&, const ImageSize&, const Band&, float*);          \
  template void points_to_weights<Row>(const Points&, std::size_t, float*)
PYTHERMO_INSTANTIATE(Quads);
PYTHERMO_INSTANTIATE(Pairs);
#undef PYTHERMO_INSTANTIATE

}  // namespace pythermo::cpu::PYTHERMO_ISA
