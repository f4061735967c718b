// The CUDA kernels, emulated, against plain loops at the edges of packs, warps and chunks, in several orders
// of turns. Built with sanitizers: arrays are allocated to their exact size.
#include <algorithm>
#include <cmath>
#include <random>

#include "batch_norm_relu.hpp"
#include "emulation.hpp"
#include "gradient_sums.hpp"
#include "knn.hpp"
#include "projected_sgd_step.hpp"
#include "sketch.hpp"
#include "testing.hpp"

using namespace pythermo;

namespace {

template <class T>
Array<T> normal_of_shape(std::vector<std::int64_t> shape, unsigned seed) {
  Array<T> array(std::move(shape));
  std::mt19937_64 generator(seed);
  std::normal_distribution<double> deviate;
  for (T& value : array.values) value = static_cast<T>(deviate(generator));
  return array;
}

template <class T>
Array<T> normal(std::size_t size, unsigned seed) {
  return normal_of_shape<T>({static_cast<std::int64_t>(size)}, seed);
}

constexpr std::size_t sizes[] = {1, 2, 3, 4, 5, 127, 128, 129, 511, 512, 513, 1000, 4097, 100003};
constexpr std::uint64_t schedules[] = {emulation::forward, emulation::backward, 2};

template <class T>
void projected_step(std::size_t size, unsigned threads) {
  const Array<T> start = normal<T>(size, 1);
  Array<T> weights = start, grad = normal<T>(size, 2);
  Array<double> none({0}), workspace({static_cast<std::int64_t>(cuda::step_workspace_size(1))});
  Array<std::int64_t> status({1});
  const double lr = 0.25;
  cuda::projected_sgd_step(
      {weights.view("weights")}, {grad.view("grad")},
      {lr, none.view("lr"), 2.0, workspace.view("workspace"), status.view("status"), 0, threads});
  long double squared = 0;
  for (std::size_t i = 0; i < size; ++i) {
    const long double moved = static_cast<long double>(start.values[i]) - lr * grad.values[i];
    squared += moved * moved;
  }
  const double tolerance = sizeof(T) == 4 ? 1e-6 : 1e-14;
  for (std::size_t i = 0; i < size; ++i) {
    const long double moved = static_cast<long double>(start.values[i]) - lr * grad.values[i];
    const double expected = static_cast<double>(2.0L * moved / std::sqrt(squared));
    if (std::fabs(static_cast<double>(weights.values[i]) - expected) <= tolerance) continue;
    check(false, "step of " + std::to_string(size) + " weights, " + std::to_string(threads) + " threads");
    return;
  }
  check(status.values[0] == 0, "the status of a step that was made");
}

template <class T>
void refused_step() {
  Array<T> weights = normal<T>(1000, 1), grad = normal<T>(1000, 2);
  grad.values[999] = std::numeric_limits<T>::infinity();
  const auto before = weights.values;
  Array<double> none({0}), workspace({static_cast<std::int64_t>(cuda::step_workspace_size(1))});
  Array<std::int64_t> status({1});
  cuda::projected_sgd_step(
      {weights.view("weights")}, {grad.view("grad")},
      {0.1, none.view("lr"), 1.0, workspace.view("workspace"), status.view("status"), 0, 64});
  check(status.values[0] == static_cast<std::int64_t>(StepError::not_finite), "the status of a refused step");
  check(weights.values == before, "weights after a refused step");
}

template <class T>
void gradient_sums(std::size_t size, unsigned threads) {
  Array<T> grad = normal<T>(size, 3);
  Array<double> center = normal<double>(size, 4), total = normal<double>(size, 5), sums({2}),
                workspace({static_cast<std::int64_t>(cuda::gradient_workspace_size())});
  Array<std::int64_t> counter({1});
  const auto before = total.values;
  cuda::gradient_sums(grad.view("grad"), center.view("center"), total.view("total"), sums.view("sums"),
                      workspace.view("workspace"), counter.view("counter"), 0, threads);
  long double squared = 0, distance = 0;
  bool added = true;
  for (std::size_t i = 0; i < size; ++i) {
    const long double g = grad.values[i], apart = g - center.values[i];
    squared += g * g;
    distance += apart * apart;
    added &= total.values[i] == before[i] + static_cast<double>(grad.values[i]);
  }
  const auto close = [](double found, long double expected) {
    return std::fabs(found - static_cast<double>(expected)) <= 1e-13 * static_cast<double>(expected);
  };
  check(close(sums.values[0], squared) && close(sums.values[1], distance),
        "sums of a gradient of " + std::to_string(size) + " elements");
  check(added, "the total of gradients");
  check(counter.values[0] == 0, "the counter of blocks after a launch");
}

// Beside the CPU's kernel.
template <class T>
void batch_norm_relu(std::int64_t images, std::int64_t height, std::int64_t width, std::int64_t channels,
                     std::int64_t pool) {
  const std::vector<std::int64_t> whole{images, height * width, channels};
  const std::vector<std::int64_t> pooled{images, (height / pool) * (width / pool), channels};
  Array<T> x = normal_of_shape<T>(whole, 8), grad = normal_of_shape<T>(pooled, 9);
  Array<double> workspace(
      {static_cast<std::int64_t>(cuda::batch_norm_relu_workspace_size(images * height * width, channels))});
  struct Results {
    Array<T> output, statistics, grad_x;
  };
  const auto compute = [&](bool on_cuda) {
    Results to{Array<T>(pooled), Array<T>({2 * channels}), Array<T>(whole)};
    const auto x_view = x.view("x"), output = to.output.view("output"),
               statistics = to.statistics.view("statistics"), grad_view = grad.view("grad"),
               grad_x = to.grad_x.view("grad_x"), room = workspace.view("workspace");
    if (on_cuda) {
      cuda::batch_norm_relu(x_view, width, pool, true, 1e-12, output, statistics, room, 0);
      cuda::batch_norm_relu_backward(x_view, width, pool, true, output, statistics, grad_view, grad_x, room,
                                     0);
    } else {
      cpu::batch_norm_relu(x_view, width, pool, true, 1e-12, output, statistics, 1);
      cpu::batch_norm_relu_backward(x_view, width, pool, true, output, statistics, grad_view, grad_x, 1);
    }
    return to;
  };
  const Results found = compute(true), expected = compute(false);
  const auto close = [](const Array<T>& one, const Array<T>& other) {
    for (std::size_t i = 0; i < one.values.size(); ++i) {
      if (!(std::fabs(one.values[i] - other.values[i]) <= (sizeof(T) == 4 ? 1e-5 : 1e-13))) return false;
    }
    return true;
  };
  const std::string what = " of " + std::to_string(images) + " x " + std::to_string(height) + " x " +
                           std::to_string(width) + " x " + std::to_string(channels);
  check(close(found.output, expected.output), "normalized images" + what);
  check(close(found.statistics, expected.statistics), "statistics" + what);
  check(close(found.grad_x, expected.grad_x), "gradients of images" + what);
}

struct KnnCase {
  std::int64_t clouds, points, dim;
  std::size_t k, longest_sorted, bytes;
};

// The others of a cloud's point, from the nearest on.
template <class T>
std::vector<std::pair<double, std::int64_t>> others(const T* cloud, const KnnCase& of, std::int64_t i) {
  std::vector<std::pair<double, std::int64_t>> found;
  for (std::int64_t j = 0; j < of.points; ++j) {
    long double squared = 0;
    for (std::int64_t d = 0; d < of.dim; ++d) {
      const long double apart = static_cast<long double>(cloud[i * of.dim + d]) - cloud[j * of.dim + d];
      squared += apart * apart;
    }
    if (j != i) found.emplace_back(static_cast<double>(std::sqrt(squared)), j);
  }
  std::sort(found.begin(), found.end());
  return found;
}

template <class T>
void nearest_neighbors(const KnnCase& of) {
  Array<T> points = normal_of_shape<T>({of.clouds, of.points, of.dim}, 6);
  const auto ks = static_cast<std::int64_t>(of.k);
  Array<double> distances({of.clouds * of.points * ks}), sums({of.clouds * 2}), from_matrix({2});
  Array<std::int64_t> indices({of.clouds * of.points * ks}), status({1});
  status.values[0] = cuda::knn_status::fine;
  const auto size = [&](std::size_t count) {
    return static_cast<std::int64_t>(
        cuda::knn_workspace_size(of.clouds, of.points, of.dim, of.k, count, of.longest_sorted, of.bytes));
  };
  Array<double> workspace({size(0)}), sums_workspace({size(2)});
  const cuda::KnnArguments arguments{workspace.view("workspace"), status.view("status"), 0, 64,
                                     of.longest_sorted};
  cuda::knn_distances(points.view("points"), of.k, distances.view("distances"), indices.view("indices"),
                      arguments);
  const std::string what = " of " + std::to_string(of.points) + " points in " + std::to_string(of.dim) +
                           " dimensions, k = " + std::to_string(of.k);
  bool close = true, same = true;
  std::vector<double> expected(of.clouds);
  for (std::int64_t row = 0; row < of.clouds * of.points; ++row) {
    const auto near = others(&points.values[row / of.points * of.points * of.dim], of, row % of.points);
    for (std::int64_t j = 0; j < ks; ++j) {
      const double found = distances.values[row * ks + j];
      close &= std::fabs(found - near[j].first) <= (sizeof(T) == 4 ? 1e-6 : 1e-14) * near[j].first;
      same &= indices.values[row * ks + j] == near[j].second;
      expected[row / of.points] += near[j].first;
    }
  }
  check(close, "distances" + what);
  check(same, "indices" + what);

  const std::vector<std::size_t> both{1, of.k};
  cuda::KnnArguments with_sums = arguments;
  with_sums.workspace = sums_workspace.view("workspace");
  cuda::knn_distance_sums(points.view("points"), both, 1.0, sums.view("sums"), with_sums);
  for (std::int64_t c = 0; c < of.clouds; ++c) {
    check(std::fabs(sums.values[2 * c + 1] / expected[c] - 1.0) < 1e-6, "sums" + what);
  }
  if (of.clouds > 1) return;
  Array<double> matrix({of.points * of.points});
  const std::size_t room = std::max(cuda::knn_matrix_workspace_size(of.points, of.k, 2, of.longest_sorted),
                                    cuda::knn_update_workspace_size(of.points, of.points, of.dim));
  Array<double> matrix_workspace({static_cast<std::int64_t>(room)});
  with_sums.workspace = matrix_workspace.view("workspace");
  const std::size_t n = of.points;
  cuda::update_squared_distances(points.view("points"), 0, n, matrix.view("matrix"), with_sums);
  cuda::update_squared_distances(points.view("points"), n / 3, (n + 2) / 3, matrix.view("matrix"), with_sums);
  cuda::matrix_distance_sums(matrix.view("matrix"), both, 1.0, 0, 0, from_matrix.view("sums"), with_sums);
  check(from_matrix.values == sums.values, "sums from the matrix" + what);
  check(status.values[0] == cuda::knn_status::fine, "the status" + what);
}

void sketch(std::size_t size, std::int64_t sums) {
  Array<float> weights = normal<float>(size, 7);
  Array<double> out({sums});
  cuda::sketch(weights.view("weights"), out.view("out"), 1, 0);
  long double found = 0, expected = 0;  // all signs squared
  for (const double sum : out.values) found += static_cast<long double>(sum) * sum;
  for (const float weight : weights.values) expected += static_cast<long double>(weight) * weight;
  if (sums >= static_cast<std::int64_t>(size)) {
    check(std::fabs(found - expected) <= 1e-12L * expected, "a sketch with a place for each weight");
  }
}

}  // namespace

int main() {
  for (const std::uint64_t schedule : schedules) {
    emulation::set_schedule(schedule);
    for (const std::size_t size : sizes) {
      for (const unsigned threads : {32u, 256u}) {
        projected_step<float>(size, threads);
        projected_step<double>(size, threads);
        gradient_sums<float>(size, threads);
        gradient_sums<double>(size, threads);
      }
    }
    for (const KnnCase& of :
         {KnnCase{1, 3, 1, 2, 2048, 0}, KnnCase{3, 7, 3, 6, 2048, 0}, KnnCase{2, 65, 30, 5, 2048, 0},
          KnnCase{1, 129, 29, 128, 2048, 1 << 20}, KnnCase{2, 65, 17, 6, 8, 0},
          KnnCase{1, 70, 57, 69, 16, 1 << 20}, KnnCase{1, 70, 1100, 6, 2048, 1 << 20}}) {
      nearest_neighbors<float>(of);
      nearest_neighbors<double>(of);
    }
    emulation::set_single_to_double_ratio(2);
    nearest_neighbors<float>({1, 70, 129, 6, 2048, 1 << 20});
    nearest_neighbors<float>({1, 65, 1100, 64, 2048, 1 << 20});
    emulation::set_single_to_double_ratio(64);
    for (const std::int64_t pool : {1, 2}) {
      for (const std::int64_t channels : {1, 4, 6, 33, 257}) {
        batch_norm_relu<float>(3, 5, 4, channels, pool);
        batch_norm_relu<double>(2, 4, 6, channels, pool);
      }
      batch_norm_relu<float>(3, 30, 30, 8, pool);
    }
    sketch(5, 1);
    sketch(1000, 7);
    sketch(1000, 1003);
    refused_step<float>();
    refused_step<double>();
  }
  std::printf(failures == 0 ? "all passed\n" : "%d failed\n", failures);
  return failures == 0 ? 0 : 1;
}
