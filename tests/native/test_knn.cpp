// Nearest neighbors against a plain loop at the edges of leaves, blocks, tiles and runs, on every
// instruction set and thread count, and the sketch. Built with sanitizers: arrays are allocated to their
// exact size.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "instruction_sets.hpp"
#include "knn.hpp"
#include "sketch.hpp"
#include "testing.hpp"

using namespace pythermo;

namespace {

bool go_on() { return true; }

template <class T>
std::vector<std::vector<double>> sorted_distances(const Array<T>& points) {
  const std::size_t n = static_cast<std::size_t>(points.shape[1]),
                    dim = static_cast<std::size_t>(points.shape[2]);
  std::vector<std::vector<double>> rows(n);
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t j = 0; j < n; ++j) {
      long double sum = 0;
      for (std::size_t d = 0; d < dim; ++d) {
        const long double difference = static_cast<long double>(points.values[i * dim + d]) -
                                       static_cast<long double>(points.values[j * dim + d]);
        sum += difference * difference;
      }
      if (i != j) rows[i].push_back(static_cast<double>(std::sqrt(sum)));
    }
    std::sort(rows[i].begin(), rows[i].end());
  }
  return rows;
}

template <class T>
void check_cloud(std::size_t n, std::size_t dim, std::size_t k, int threads) {
  const std::string what = "n = " + std::to_string(n) + ", D = " + std::to_string(dim) +
                           ", k = " + std::to_string(k) + ", " + std::to_string(sizeof(T)) + " bytes, ";
  const auto in_shape = [](std::size_t size) { return static_cast<std::int64_t>(size); };
  std::mt19937_64 engine(n * 1000 + dim);
  std::normal_distribution<double> normal;
  Array<T> points({1, in_shape(n), in_shape(dim)});
  for (T& value : points.values) value = static_cast<T>(normal(engine));
  const auto expected = sorted_distances(points);
  const double bound = sizeof(T) == 4 ? 1e-6 : 1e-14;
  const auto close = [&](double a, double b) { return std::fabs(a - b) <= bound * b; };

  Array<double> distances({in_shape(n * k)}), again({in_shape(n * k)}), nothing({0});
  Array<std::int64_t> indices({in_shape(n * k)}), none({0});
  cpu::knn_distances(points.view("points"), k, distances.view("distances"), indices.view("indices"), threads,
                     go_on);
  cpu::knn_distances(points.view("points"), k, again.view("distances"), none.view("indices"), threads, go_on);
  check(distances.values == again.values, what + "distances differ with and without indices");
  bool right = true;
  for (std::size_t i = 0; i < n * k; ++i) {
    right &= close(distances.values[i], expected[i / k][i % k]);
    right &=
        indices.values[i] >= 0 && indices.values[i] < in_shape(n) && indices.values[i] != in_shape(i / k);
  }
  check(right, what + "distances");

  const std::vector<std::size_t> ks = k == 1 ? std::vector<std::size_t>{1} : std::vector<std::size_t>{1, k};
  Array<double> sums({in_shape(ks.size())}), from_matrix({in_shape(ks.size())}), matrix({in_shape(n * n)});
  cpu::knn_distance_sums(points.view("points"), ks, 1.0, sums.view("sums"), threads, go_on);
  std::fill(matrix.values.begin(), matrix.values.end(), -1.0);
  cpu::update_squared_distances(points.view("points"), 0, n, matrix.view("matrix"), threads, go_on);
  const auto before = matrix.values;
  cpu::update_squared_distances(points.view("points"), n / 3, (n + 2) / 3, matrix.view("matrix"), threads,
                                go_on);
  check(before == matrix.values, what + "an update of unchanged points changes the matrix");
  cpu::matrix_distance_sums(matrix.view("matrix"), ks, 1.0, 0, 0, from_matrix.view("sums"), threads, go_on);
  for (std::size_t which = 0; which < ks.size(); ++which) {
    long double sum = 0;
    for (const auto& row : expected) {
      for (std::size_t j = 0; j < ks[which]; ++j) sum += row[j];
    }
    const auto whole = static_cast<double>(sum);
    check(close(sums.values[which], whole) && close(from_matrix.values[which], whole), what + "sums");
  }

  points.values[n / 2 * dim + dim - 1] = std::numeric_limits<T>::quiet_NaN();
  const auto bad = cpu::knn_distances(points.view("points"), k, distances.view("distances"),
                                      none.view("indices"), threads, go_on);
  check(bad && bad->cloud == 0 && bad->point == n / 2, what + "NaN is not found");
}

template <class T>
void check_sketch() {
  for (const std::int64_t dim : {1, 5, 127, 128, 129, 1000}) {
    for (const std::int64_t size : {1, 7, 128, 300}) {
      Array<T> weights({dim});
      Array<double> out({size});
      for (std::size_t i = 0; i < weights.values.size(); ++i)
        weights.values[i] = static_cast<T>(std::ldexp(1, i % 20));
      cpu::sketch(weights.view("weights"), out.view("out"), 5);
      double parity = 0, all = 0;
      for (const double sum : out.values) parity += sum;
      for (const T weight : weights.values) all += static_cast<double>(weight);
      // Signs change a sum of whole numbers by even ones.
      check(std::fmod(parity - all, 2.0) == 0.0, "a sketch loses weights");
    }
  }
}

}  // namespace

int main() {
  on_each_instruction_set([&](const char*) {
    for (const int threads : {1, 3}) {
      for (const std::size_t n : {2, 6, 7, 65, 72, 73, 145}) {
        for (const std::size_t dim : {1, 3, 16, 17, 33}) {
          for (const std::size_t k : {std::size_t{1}, n / 2, n - 1}) {
            check_cloud<float>(n, dim, k, threads);
            check_cloud<double>(n, dim, k, threads);
          }
        }
      }
      for (const std::size_t dim : {447, 449, 471, 473, 900}) {
        check_cloud<float>(9, dim, 4, threads);
        check_cloud<double>(9, dim, 4, threads);
      }
      check_cloud<float>(300, 40, 20, threads);  // too many points for a matrix
    }
  });
  check_sketch<float>();
  check_sketch<double>();
  std::printf(failures == 0 ? "all passed\n" : "%d failed\n", failures);
  return failures == 0 ? 0 : 1;
}
