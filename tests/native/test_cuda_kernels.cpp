// The CUDA kernels, emulated, against plain loops at the edges of packs, warps and chunks, in several orders
// of turns. Built with sanitizers: arrays are allocated to their exact size.
#include <cmath>
#include <random>

#include "cuda/gradient_sums.hpp"
#include "cuda/projected_sgd_step.hpp"
#include "emulation.hpp"
#include "testing.hpp"

using namespace pythermo;

namespace {

template <class T>
Array<T> normal(std::size_t size, unsigned seed) {
  Array<T> array({static_cast<std::int64_t>(size)});
  std::mt19937_64 generator(seed);
  std::normal_distribution<double> deviate;
  for (T& value : array.values) value = static_cast<T>(deviate(generator));
  return array;
}

constexpr std::size_t sizes[] = {1, 2, 3, 4, 5, 127, 128, 129, 511, 512, 513, 1000, 4097, 100003};
constexpr std::uint64_t schedules[] = {emulation::forward, emulation::backward, 2};

template <class T>
void projected_step(std::size_t size, unsigned threads) {
  const Array<T> start = normal<T>(size, 1);
  Array<T> weights = start, grad = normal<T>(size, 2);
  Array<double> none({0}), workspace({static_cast<std::int64_t>(cuda::step_workspace_size())});
  Array<std::int64_t> status({1});
  const double lr = 0.25;
  cuda::projected_sgd_step(
      weights.view("weights"), grad.view("grad"),
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
  Array<double> none({0}), workspace({static_cast<std::int64_t>(cuda::step_workspace_size())});
  Array<std::int64_t> status({1});
  cuda::projected_sgd_step(
      weights.view("weights"), grad.view("grad"),
      {0.1, none.view("lr"), 1.0, workspace.view("workspace"), status.view("status"), 0, 64});
  check(status.values[0] == static_cast<std::int64_t>(cuda::StepError::not_finite),
        "the status of a refused step");
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
    refused_step<float>();
    refused_step<double>();
  }
  std::printf(failures == 0 ? "all passed\n" : "%d failed\n", failures);
  return failures == 0 ? 0 : 1;
}
