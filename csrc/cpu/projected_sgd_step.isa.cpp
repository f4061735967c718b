#include "lanes.hpp"
#include "projected_sgd_step_loops.hpp"

namespace pythermo::cpu::PYTHERMO_ISA {
namespace {

// The same number of lanes for every instruction set, so that sums have the same bits on each.
constexpr std::size_t lanes = 32;

// At most this many elements are added up in one lane before it goes over into double: in float the
// relative error of a sum of squares stays below 32 * 2^-24 = 2e-6, and is 1e-8 typically.
constexpr std::size_t run = lanes * 32;

// Adds up a block in lanes, one run after the other; visit(start, stop) is called after each run.
template <class Retraction, class T, class Lane, class Visit>
PYTHERMO_INLINE Sums sum_and_visit(const T* weights, const T* grad, std::size_t size, double lr,
                                   Visit visit) {
  constexpr int count = Retraction::sum_count;
  const Lane lane_lr = static_cast<Lane>(static_cast<T>(lr));
  double sums[count][lanes] = {};

  for (std::size_t start = 0; start < size; start += run) {
    const std::size_t stop = start + run < size ? start + run : size;
    const std::size_t whole = start + (stop - start) / lanes * lanes;
    Lane partial[count][lanes] = {};
    const auto add = [&](std::size_t i, std::size_t lane) {
      Lane terms[count];
      Retraction::template terms<Lane>(weights[i], grad[i], lane_lr, terms);
      for (int k = 0; k < count; ++k) partial[k][lane] += terms[k];
    };
    for (std::size_t i = start; i < whole; i += lanes) {
      for (std::size_t l = 0; l < lanes; ++l) add(i + l, l);
    }
    for (std::size_t i = whole; i < stop; ++i) add(i, i - whole);
    for (int k = 0; k < count; ++k) {
      for (std::size_t l = 0; l < lanes; ++l) sums[k][l] += partial[k][l];
    }
    visit(start, stop);
  }

  Sums total{};
  for (int k = 0; k < count; ++k) total[k] = sum_of_lanes(sums[k]);
  return total;
}

}  // namespace

template <class Retraction, class T, class Lane>
Sums sum_block(const T* weights, const T* grad, std::size_t size, double lr) {
  return sum_and_visit<Retraction, T, Lane>(weights, grad, size, lr, [](std::size_t, std::size_t) {});
}

template <class Update, class T>
void update_block(T* weights, const T* grad, std::size_t size, const Update& update) {
  const Update local = update;
  for (std::size_t i = 0; i < size; ++i) weights[i] = local(weights[i], grad[i]);
}

template <class Retraction, class T>
Sums update_and_sum_block(T* weights, const T* grad, std::size_t size, double lr,
                          const typename Retraction::template Update<T>& update) {
  return sum_and_visit<Retraction, T, T>(weights, grad, size, lr, [=](std::size_t start, std::size_t stop) {
    update_block(weights + start, grad + start, stop - start, update);
  });
}

#define PYTHERMO_INSTANTIATE(Retraction)                                                                  \
  template Sums sum_block<Retraction, float, float>(const float*, const float*, std::size_t, double);     \
  template Sums sum_block<Retraction, float, double>(const float*, const float*, std::size_t, double);    \
  template Sums sum_block<Retraction, double, double>(const double*, const double*, std::size_t, double); \
  template void update_block(float*, const float*, std::size_t, const Retraction::Update<float>&);        \
  template void update_block(double*, const double*, std::size_t, const Retraction::Update<double>&);

PYTHERMO_INSTANTIATE(Projection)
template Sums update_and_sum_block<Projection, float>(float*, const float*, std::size_t, double,
                                                      const Projection::Update<float>&);
template Sums sum_block<SquaredNorm, float, float>(const float*, const float*, std::size_t, double);
template Sums sum_block<SquaredNorm, float, double>(const float*, const float*, std::size_t, double);
PYTHERMO_INSTANTIATE(Exponential)

}  // namespace pythermo::cpu::PYTHERMO_ISA
