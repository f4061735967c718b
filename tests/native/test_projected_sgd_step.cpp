// The step kernels against a plain loop in long double, on every instruction set and thread count.
// Built with sanitizers: vectors are allocated to their exact size, so that a read beyond is caught.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "cpu/parallel.hpp"
#include "instruction_sets.hpp"
#include "projected_sgd_step.hpp"

using namespace pythermo;

namespace {

int failures = 0;

void check(bool holds, const std::string& what) {
  if (holds) return;
  std::printf("FAILED: %s\n", what.c_str());
  ++failures;
}

template <class T>
TensorView view(std::vector<T>& values, std::int64_t& size, const char* name) {
  size = static_cast<std::int64_t>(values.size());
  dlpack::Tensor tensor{};
  tensor.data = values.data();
  tensor.device = {dlpack::DeviceType::cpu, 0};
  tensor.ndim = 1;
  tensor.dtype = {dlpack::TypeCode::floating, 8 * sizeof(T), 1};
  tensor.shape = &size;
  return {tensor, name};
}

using Step = void (*)(const Tensors&, const OptionalTensors&, double, double, int);

constexpr Step all_steps[] = {&cpu::projected_sgd_step, &cpu::exponential_sgd_step, &cpu::fixed_lr_step,
                              &cpu::fixed_elr_step};

template <class T>
void run(Step step, std::vector<T>& weights, std::vector<T>& grad, double lr, double radius, int threads) {
  std::int64_t weight_size, grad_size;
  step({view(weights, weight_size, "weights")}, {view(grad, grad_size, "grad")}, lr, radius, threads);
}

// The step on parts of the vectors, each in memory of its own, one of them without gradient; the weights put
// together.
template <class T>
std::vector<T> run_on_parts(Step step, const std::vector<T>& weights, const std::vector<T>& grad,
                            const std::vector<std::size_t>& sizes, std::size_t missing, int threads) {
  std::vector<std::vector<T>> parts[2];
  std::vector<std::int64_t> shapes(2 * sizes.size());
  Tensors views;
  OptionalTensors grads;
  std::size_t begin = 0;
  for (std::size_t i = 0; i < sizes.size(); begin += sizes[i++]) {
    for (const auto& [which, whole] : {std::pair{0, &weights}, std::pair{1, &grad}}) {
      const auto first = whole->begin() + static_cast<std::ptrdiff_t>(begin);
      parts[which].emplace_back(first, first + static_cast<std::ptrdiff_t>(sizes[i]));
    }
  }
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    views.push_back(view(parts[0][i], shapes[2 * i], "weights"));
    grads.emplace_back();
    if (i != missing) grads.back().emplace(view(parts[1][i], shapes[2 * i + 1], "grad"));
  }
  step(views, grads, 0.01, 1.5, threads);
  std::vector<T> moved;
  for (const auto& part : parts[0]) moved.insert(moved.end(), part.begin(), part.end());
  return moved;
}

template <class T>
std::vector<long double> plain_projection(const std::vector<T>& w, const std::vector<T>& g, double lr,
                                          double radius) {
  std::vector<long double> moved(w.size());
  long double squared = 0;
  for (std::size_t i = 0; i < w.size(); ++i) {
    moved[i] = static_cast<long double>(w[i]) - static_cast<long double>(static_cast<T>(lr)) * g[i];
    squared += moved[i] * moved[i];
  }
  for (auto& value : moved) value *= radius / std::sqrt(squared);
  return moved;
}

template <class T>
std::vector<long double> plain_exponential(const std::vector<T>& w, const std::vector<T>& g, double lr,
                                           double radius) {
  long double ww = 0, wg = 0, tt = 0;
  for (std::size_t i = 0; i < w.size(); ++i) {
    ww += static_cast<long double>(w[i]) * w[i];
    wg += static_cast<long double>(w[i]) * g[i];
  }
  std::vector<long double> tangent(w.size()), moved(w.size());
  for (std::size_t i = 0; i < w.size(); ++i) {
    tangent[i] = g[i] - wg / ww * w[i];
    tt += tangent[i] * tangent[i];
  }
  const long double angle = lr * std::sqrt(tt) / radius;
  for (std::size_t i = 0; i < w.size(); ++i) {
    moved[i] =
        radius * (std::cos(angle) * w[i] / std::sqrt(ww) - std::sin(angle) * tangent[i] / std::sqrt(tt));
  }
  return moved;
}

template <class T>
std::vector<long double> plain_decay(const std::vector<T>& w, const std::vector<T>& g, long double eta,
                                     double weight_decay) {
  std::vector<long double> moved(w.size());
  for (std::size_t i = 0; i < w.size(); ++i) moved[i] = w[i] - eta * (g[i] + weight_decay * w[i]);
  return moved;
}

template <class T>
std::vector<long double> plain_fixed_lr(const std::vector<T>& w, const std::vector<T>& g, double lr,
                                        double weight_decay) {
  return plain_decay(w, g, lr, weight_decay);
}

template <class T>
std::vector<long double> plain_fixed_elr(const std::vector<T>& w, const std::vector<T>& g, double lr,
                                         double weight_decay) {
  long double squared = 0;
  for (const T value : w) squared += static_cast<long double>(value) * value;
  return plain_decay(w, g, lr * squared, weight_decay);
}

template <class T>
std::vector<T> normal(std::size_t size, unsigned seed, double scale) {
  std::mt19937_64 engine(seed);
  std::normal_distribution<double> draw;
  std::vector<T> values(size);
  for (auto& value : values) value = static_cast<T>(scale * draw(engine));
  return values;
}

// A weight of size 1/sqrt(n) passes three roundings and a scale rounded to T: 4 units in the last place
// of the largest weight are allowed.
template <class T>
void check_against_plain(std::size_t size) {
  for (const auto& [step, plain, name] :
       {std::tuple{&cpu::projected_sgd_step, &plain_projection<T>, "projection"},
        std::tuple{&cpu::exponential_sgd_step, &plain_exponential<T>, "exponential"},
        std::tuple{&cpu::fixed_lr_step, &plain_fixed_lr<T>, "fixed lr"},
        std::tuple{&cpu::fixed_elr_step, &plain_fixed_elr<T>, "fixed elr"}}) {
    if (size == 1 && step == &cpu::exponential_sgd_step) continue;  // no tangent in one dimension
    const auto start = normal<T>(size, 1, 1.0 / std::sqrt(static_cast<double>(size)));
    auto grad = normal<T>(size, 2, 1.0);
    const auto expected = plain(start, grad, 0.01, 1.5);
    std::vector<T> first;
    on_each_instruction_set([&](const std::string& instruction_set) {
      for (const int threads : {1, 2, 3, 8}) {
        auto weights = start;
        run(step, weights, grad, 0.01, 1.5, threads);
        if (first.empty()) first = weights;
        check(std::memcmp(first.data(), weights.data(), size * sizeof(T)) == 0,
              std::string(name) + ": other bits on " + instruction_set + ", size " + std::to_string(size));
        long double largest = 0, error = 0;
        for (std::size_t i = 0; i < size; ++i) {
          largest = std::fmax(largest, std::fabs(expected[i]));
          error = std::fmax(error, std::fabs(expected[i] - weights[i]));
        }
        check(error <= 4 * largest * std::numeric_limits<T>::epsilon(),
              std::string(name) + ": error " + std::to_string(static_cast<double>(error / largest)) +
                  ", size " + std::to_string(size));
      }
    });
  }
}

// However a vector is divided, the step has the bits that it has on the whole.
template <class T>
void check_divided(std::size_t size, unsigned seed) {
  std::mt19937_64 engine(seed);
  const auto start = normal<T>(size, 1, 1.0 / std::sqrt(static_cast<double>(size)));
  auto grad = normal<T>(size, 2, 1.0);
  std::vector<std::size_t> sizes;
  for (std::size_t left = size; left > 0; left -= sizes.back()) {
    const std::size_t most[] = {1, 40, 1100, 40000, size / 3 + 1};
    sizes.push_back(std::min<std::size_t>(left, 1 + engine() % most[engine() % 5]));
  }
  const std::size_t missing = engine() % sizes.size();
  std::size_t begin = 0;
  for (std::size_t i = 0; i < missing; ++i) begin += sizes[i];
  if (sizes.size() > 1) {
    std::fill_n(grad.begin() + static_cast<std::ptrdiff_t>(begin), sizes[missing], T{0});
  }
  for (const Step step : all_steps) {
    auto expected = start;
    run(step, expected, grad, 0.01, 1.5, 1);
    on_each_instruction_set([&](const std::string& instruction_set) {
      for (const int threads : {1, 3}) {
        const auto moved =
            run_on_parts(step, start, grad, sizes, sizes.size() > 1 ? missing : sizes.size(), threads);
        check(std::memcmp(moved.data(), expected.data(), size * sizeof(T)) == 0,
              "other bits on " + std::to_string(sizes.size()) + " parts of " + std::to_string(size) +
                  ", seed " + std::to_string(seed) + ", " + instruction_set);
      }
    });
  }
}

template <class T>
void check_refused(std::vector<T> weights, std::vector<T> grad, const std::string& expected) {
  for (const Step step : all_steps) {
    auto changed = weights;
    try {
      run(step, changed, grad, 0.1, 1.0, 2);
      check(false, "not refused: " + expected);
    } catch (const std::invalid_argument& error) {
      check(std::string(error.what()).find(expected) != std::string::npos,
            "message '" + std::string(error.what()) + "' lacks '" + expected + "'");
    }
    check(changed.empty() || std::memcmp(changed.data(), weights.data(), weights.size() * sizeof(T)) == 0,
          "weights changed by a refused step");
  }
}

void check_thread_pool() {
  std::vector<std::thread> callers;
  for (int caller = 0; caller < 4; ++caller) {
    callers.emplace_back([] {
      for (std::size_t round = 0; round < 200; ++round) {
        std::vector<int> visits(round, 0);
        cpu::parallel_for(round, 1 + static_cast<int>(round % 5), [&](std::size_t first, std::size_t last) {
          for (std::size_t i = first; i < last; ++i) ++visits[i];
        });
        for (const int count : visits) check(count == 1, "parallel_for: an index not visited once");
      }
    });
  }
  for (auto& caller : callers) caller.join();
}

}  // namespace

int main() {
  for (const std::size_t size : {1,   2,    7,    15,   16,   17,   31,    32,    33,    255,   256,
                                 257, 1000, 1023, 1024, 1025, 4096, 32767, 32768, 32769, 200001}) {
    check_against_plain<float>(size);
    check_against_plain<double>(size);
  }
  for (unsigned seed = 0; seed < 4; ++seed) {
    for (const std::size_t size : {2, 33, 1025, 5000, 32769, 100003}) {
      check_divided<float>(size, seed);
      check_divided<double>(size, seed);
    }
  }
  check_divided<float>((std::size_t{1} << 22) + 5, 1);  // by a predicted norm
  const float nan = std::numeric_limits<float>::quiet_NaN(), inf = std::numeric_limits<float>::infinity();
  check_refused<float>({1, 0, 0}, {0, nan, 0}, "grad: element 1 is nan");
  check_refused<float>({1, 0, 0}, {0, 0, -inf}, "grad: element 2 is -inf");
  check_refused<float>({1, nan, 0}, {0, 0, 1}, "weights: element 1 is nan");
  check_refused<double>({0, -0.0}, {1, 1}, "weights: all elements are zero");
  check_refused<double>({}, {}, "weights: all elements are zero");
  check_refused<double>({1, 0}, {1, 1, 1}, "grad: must have the shape [2], not [3]");
  check_thread_pool();
  std::printf("%d failures\n", failures);
  return failures == 0 ? 0 : 1;
}
