// Normalization, pooling and ReLU against plain loops, at the edges of vectors and of the pooling, on every
// instruction set and thread count. Built with sanitizers: arrays are allocated to their exact size.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "batch_norm_relu.hpp"
#include "instruction_sets.hpp"
#include "testing.hpp"

using namespace pythermo;

namespace {

constexpr double eps = 1e-12;

struct Shape {
  std::size_t images, height, width, channels, pool;

  std::size_t at(std::size_t image, std::size_t y, std::size_t x) const {
    return ((image * height + y) * width + x) * channels;
  }
  Shape pooled() const { return {images, height / pool, width / pool, channels, 1}; }
  std::vector<std::int64_t> rows() const {
    return {static_cast<std::int64_t>(images), static_cast<std::int64_t>(height * width),
            static_cast<std::int64_t>(channels)};
  }
};

// One channel after the other, as the formulas are written.
void check_channel(const Shape& shape, const std::vector<double>& x, const std::vector<double>& output,
                   const std::vector<double>& grad, const std::vector<double>& grad_x, std::size_t c,
                   double bound, const std::string& what) {
  const Shape small = shape.pooled();
  const double count = static_cast<double>(shape.images * shape.height * shape.width);
  double mean = 0, variance = 0;
  for (std::size_t i = c; i < x.size(); i += shape.channels) mean += x[i] / count;
  for (std::size_t i = c; i < x.size(); i += shape.channels) {
    variance += (x[i] - mean) * (x[i] - mean) / count;
  }
  const double scale = 1 / std::sqrt(variance + eps);
  std::vector<double> routed(x.size(), 0.0);
  bool right = true;
  for (std::size_t n = 0; n < shape.images; ++n) {
    for (std::size_t h = 0; h < small.height; ++h) {
      for (std::size_t w = 0; w < small.width; ++w) {
        std::size_t largest = shape.at(n, h * shape.pool, w * shape.pool) + c;
        for (std::size_t j = 0; j < shape.pool * shape.pool; ++j) {
          const std::size_t i =
              shape.at(n, h * shape.pool + j / shape.pool, w * shape.pool + j % shape.pool) + c;
          if (x[i] > x[largest]) largest = i;
        }
        const std::size_t o = small.at(n, h, w) + c;
        const double y = std::max((x[largest] - mean) * scale, 0.0);
        right &= std::fabs(output[o] - y) <= bound;
        if (y > 0) routed[largest] = grad[o];
      }
    }
  }
  check(right, what + "outputs");
  double mean_grad = 0, slope = 0;
  for (std::size_t i = c; i < x.size(); i += shape.channels) {
    mean_grad += routed[i] / count;
    slope += routed[i] * (x[i] - mean) * scale / count;
  }
  right = true;
  for (std::size_t i = c; i < x.size(); i += shape.channels) {
    const double expected = (routed[i] - mean_grad - (x[i] - mean) * scale * slope) * scale;
    right &= std::fabs(grad_x[i] - expected) <= bound * std::max(1.0, scale);
  }
  check(right, what + "gradients");
}

template <class T>
void check_images(const Shape& shape, int threads) {
  const std::string what = std::to_string(shape.images) + " x " + std::to_string(shape.height) + " x " +
                           std::to_string(shape.width) + " x " + std::to_string(shape.channels) + ", pool " +
                           std::to_string(shape.pool) + ", " + std::to_string(sizeof(T)) + " bytes, ";
  std::mt19937_64 engine(shape.channels);
  std::normal_distribution<double> normal;
  Array<T> x(shape.rows()), grad_x(shape.rows()), output(shape.pooled().rows()), grad(shape.pooled().rows());
  Array<T> statistics({static_cast<std::int64_t>(2 * shape.channels)});
  for (T& value : x.values) value = static_cast<T>(normal(engine));
  for (T& value : grad.values) value = static_cast<T>(normal(engine));
  cpu::batch_norm_relu(x.view("x"), shape.width, shape.pool, true, eps, output.view("output"),
                       statistics.view("statistics"), threads);
  cpu::batch_norm_relu_backward(x.view("x"), shape.width, shape.pool, true, output.view("output"),
                                statistics.view("statistics"), grad.view("grad"), grad_x.view("grad_x"),
                                threads);
  const auto wide = [](const Array<T>& array) {
    return std::vector<double>(array.values.begin(), array.values.end());
  };
  for (std::size_t c = 0; c < shape.channels; ++c) {
    check_channel(shape, wide(x), wide(output), wide(grad), wide(grad_x), c, sizeof(T) == 4 ? 1e-5 : 1e-13,
                  what);
  }
}

template <class Call>
void check_refused(const Call& call, const std::string& expected) {
  try {
    call();
    check(false, "not refused: " + expected);
  } catch (const std::invalid_argument& error) {
    check(std::string(error.what()).find(expected) != std::string::npos, error.what());
  }
}

void check_refusals() {
  Array<float> x({2, 12, 3}), output({2, 2, 3}), other({2, 3, 3}), statistics({6}), few({5});
  const auto run = [&](std::size_t width, std::size_t pool, Array<float>& out, Array<float>& constants) {
    cpu::batch_norm_relu(x.view("x"), width, pool, true, eps, out.view("output"),
                         constants.view("statistics"), 1);
  };
  run(4, 2, output, statistics);
  check_refused([&] { run(5, 2, output, statistics); }, "x: must have whole rows of the width");
  check_refused([&] { run(0, 2, output, statistics); }, "x: must have whole rows of the width");
  check_refused([&] { run(4, 3, output, statistics); }, "pool: must be 1 or 2");
  check_refused([&] { run(4, 2, other, statistics); }, "output: must have");
  check_refused([&] { run(4, 1, output, statistics); }, "output: must have");
  check_refused([&] { run(4, 2, output, few); }, "statistics: has 5 elements, not 6");
  const auto run_back = [&](Array<float>& grad, Array<float>& grad_x) {
    cpu::batch_norm_relu_backward(x.view("x"), 4, 2, true, output.view("output"),
                                  statistics.view("statistics"), grad.view("grad"), grad_x.view("grad_x"), 1);
  };
  Array<float> grad_x({2, 12, 3});
  run_back(output, grad_x);
  check_refused([&] { run_back(other, grad_x); }, "grad: must have");
  check_refused([&] { run_back(output, output); }, "grad_x: must have");
  for (const auto& shape : {std::vector<std::int64_t>{0, 12, 3}, {2, 0, 3}}) {
    Array<float> empty(shape);
    check_refused(
        [&] {
          cpu::batch_norm_relu(empty.view("x"), 4, 1, true, eps, empty.view("output"),
                               statistics.view("statistics"), 1);
        },
        "x: must have pixels");
  }
}

}  // namespace

int main() {
  on_each_instruction_set([&](const char*) {
    for (const int threads : {1, 3}) {
      for (const std::size_t channels : {1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 40}) {
        for (const std::size_t pool : {1, 2}) {
          for (const auto& [height, width] : {std::pair{2, 2}, {3, 2}, {2, 3}, {5, 7}}) {
            const Shape shape{4, static_cast<std::size_t>(height), static_cast<std::size_t>(width), channels,
                              pool};
            check_images<float>(shape, threads);
            check_images<double>(shape, threads);
          }
        }
      }
    }
  });
  check_refusals();
  std::printf(failures == 0 ? "all passed\n" : "%d failed\n", failures);
  return failures == 0 ? 0 : 1;
}
