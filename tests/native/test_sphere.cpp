// The random numbers against published vectors, the elementary functions against long double, and the
// simulator's grouping of chains, on every instruction set and thread count. Built with sanitizers: arrays
// are allocated to their exact size.
#include <cmath>
#include <cstdio>
#include <cstring>
#include <numbers>
#include <random>
#include <string>
#include <vector>

#include "instruction_sets.hpp"
#include "sphere_arrays.hpp"

using namespace pythermo;

namespace {

int failures = 0;

void check(bool holds, const std::string& what) {
  if (holds) return;
  std::printf("FAILED: %s\n", what.c_str());
  ++failures;
}

// The known answers of Random123, the generator's reference implementation.
void check_philox() {
  struct Known {
    std::uint64_t counter[4], key, words[4];
  };
  const Known known[] = {
      {{0, 0, 0, 0}, 0, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
      {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
       0xffffffffffffffff,
       {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
      {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
       0x299f31d0a4093822,
       {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
  };
  for (const auto& [c, key, expected] : known) {
    const auto found = philox<std::uint64_t>(c[0], c[1], c[2], c[3], key);
    for (int i = 0; i < 4; ++i) check(found.word[i] == expected[i], "philox: another word than published");
  }
}

void check_elementary() {
  std::mt19937_64 engine(1);
  std::uniform_real_distribution<double> uniform(0.0, 1.0);
  long double log_error = 0, turn_error = 0, angle_error = 0;
  for (int i = 0; i < 200000; ++i) {
    const double u = uniform(engine), x = i % 2 == 0 ? 1 - u : std::ldexp(1 - u, -static_cast<int>(50 * u));
    const long double expected = std::log(static_cast<long double>(x));
    if (expected != 0) {
      log_error = std::fmax(log_error, std::fabs((logarithm(x) - expected) / expected));
    }
    double sine, cosine;
    sine_cosine_of_turns(u, sine, cosine);
    const long double angle = 2 * std::numbers::pi_v<long double> * u;
    turn_error = std::fmax(turn_error, std::fabs(sine - std::sin(angle)));
    turn_error = std::fmax(turn_error, std::fabs(cosine - std::cos(angle)));
    const double large = i % 3 == 0 ? u : 1e4 * u;
    sine_cosine(large, sine, cosine);
    angle_error = std::fmax(angle_error, std::fabs(sine - std::sin(static_cast<long double>(large))));
    angle_error = std::fmax(angle_error, std::fabs(cosine - std::cos(static_cast<long double>(large))));
  }
  check(log_error < 0x1p-51, "logarithm: relative error " + std::to_string(static_cast<double>(log_error)));
  check(turn_error < 0x1p-51, "sine of turns: error " + std::to_string(static_cast<double>(turn_error)));
  check(angle_error < 0x1p-51, "sine: error " + std::to_string(static_cast<double>(angle_error)));
  check(logarithm(1.0) == 0.0, "logarithm(1) is not 0");
}

// A flat array and its view.
template <class T>
struct Array {
  std::vector<T> values;
  const char* name;
  std::int64_t size = static_cast<std::int64_t>(values.size());

  TensorView view() {
    dlpack::Tensor tensor{};
    tensor.data = values.data();
    tensor.device = {dlpack::DeviceType::cpu, 0};
    tensor.ndim = 1;
    tensor.dtype = {std::is_integral_v<T> ? dlpack::TypeCode::signed_int : dlpack::TypeCode::floating,
                    8 * sizeof(T), 1};
    tensor.shape = &size;
    return {tensor, name};
  }
};

// What a run leaves behind, in one list.
template <class T>
std::vector<double> simulated(std::size_t chains, std::size_t dim, std::size_t samples, bool epochs,
                              const std::string& protocol, sphere::Retraction retraction, int threads) {
  const std::size_t window = 3;
  std::mt19937_64 engine(7);
  std::normal_distribution<double> normal;
  const auto unit_rows = [&](std::size_t rows) {
    std::vector<T> values(rows * dim);
    for (std::size_t row = 0; row < rows; ++row) {
      double squared = 0;
      std::vector<double> draw(dim);
      for (auto& value : draw) {
        value = normal(engine);
        squared += value * value;
      }
      for (std::size_t d = 0; d < dim; ++d)
        values[row * dim + d] = static_cast<T>(draw[d] / std::sqrt(squared));
    }
    return values;
  };
  const std::vector<T> rows = unit_rows(samples);
  Array<T> vectors{std::vector<T>(dim * samples), "vectors"};
  for (std::size_t i = 0; i < samples; ++i) {
    for (std::size_t d = 0; d < dim; ++d) vectors.values[d * samples + i] = rows[i * dim + d];
  }
  Array<T> weights{unit_rows(chains), "weights"};
  Array<T> lr{std::vector<T>(chains, T(0.05)), "lr"};
  Array<std::int64_t> replica{std::vector<std::int64_t>(chains), "replica"};
  for (std::size_t i = 0; i < chains; ++i) replica.values[i] = static_cast<std::int64_t>(i);
  Array<std::int64_t> measure_at{{0, 5, 20}, "measure_at"};
  const std::size_t measured = measure_at.values.size();
  const auto doubles = [&](const char* name, std::size_t size) {
    return Array<double>{std::vector<double>(size), name};
  };
  auto loss = doubles("loss", chains * measured), full = doubles("full_grad_norm", chains * measured);
  auto mean = doubles("mean_grad_norm", chains * measured), snr = doubles("snr", chains * measured);
  auto window_mean = doubles("window_mean", chains), variance = doubles("window_variance", chains);
  auto window_loss = doubles("window_loss", chains * window);
  Array<T> weights_at{std::vector<T>(chains * measured * dim), "weights_at"};
  Array<T> trajectory{std::vector<T>(chains * window * dim), "trajectory"};
  const SphereSettings settings{.dim = dim,
                                .sigma = 0.5,
                                .batch_size = samples == 0 ? 1u : 2u,
                                .epochs = epochs,
                                .seed = 3,
                                .protocol = protocols::All::place_of(protocol),
                                .retraction = retraction,
                                .weight_decay = 0.01,
                                .first_step = 0,
                                .last_step = 20,
                                .window = window,
                                .stride = 4};
  cpu::simulate_sphere(settings,
                       {vectors.view(), weights.view(), lr.view(), replica.view(), measure_at.view(),
                        loss.view(), full.view(), mean.view(), snr.view(), weights_at.view(),
                        window_mean.view(), variance.view(), window_loss.view(), trajectory.view()},
                       threads, [] { return true; });
  std::vector<double> all;
  for (const auto* part : {&loss, &full, &mean, &snr, &window_mean, &variance, &window_loss}) {
    all.insert(all.end(), part->values.begin(), part->values.end());
  }
  for (const auto* part : {&weights, &weights_at, &trajectory}) {
    all.insert(all.end(), part->values.begin(), part->values.end());
  }
  for (const double value : all) check(std::isfinite(value), "simulate: a result is not finite");
  return all;
}

template <class T>
void check_simulator() {
  using sphere::Retraction;
  const std::pair<const char*, Retraction> moves[] = {{"sphere", Retraction::projection},
                                                      {"sphere", Retraction::exponential},
                                                      {"fixed-lr", Retraction::projection},
                                                      {"fixed-elr", Retraction::projection}};
  for (const std::size_t dim : {2, 3, 4, 5, 17}) {
    for (const std::size_t samples : {0, 2, 11}) {
      for (const bool epochs : {false, true}) {
        if (epochs && samples == 0) continue;
        for (const auto& [protocol, retraction] : moves) {
          for (const std::size_t chains : {1, 7, 33}) {
            std::vector<double> first;
            on_each_instruction_set([&](const std::string& instruction_set) {
              for (const int threads : {1, 3}) {
                const auto found = simulated<T>(chains, dim, samples, epochs, protocol, retraction, threads);
                if (first.empty()) first = found;
                check(std::memcmp(first.data(), found.data(), first.size() * sizeof(double)) == 0,
                      std::string("simulate: other bits on ") + instruction_set +
                          ", D = " + std::to_string(dim) + ", " + std::to_string(chains) + " chains");
              }
            });
          }
        }
      }
    }
  }
}

}  // namespace

int main() {
  check_philox();
  check_elementary();
  check_simulator<double>();
  check_simulator<float>();
  std::printf("%d failures\n", failures);
  return failures == 0 ? 0 : 1;
}
