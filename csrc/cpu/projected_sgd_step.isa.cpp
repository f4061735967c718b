#include "../projected_sgd_step.hpp"

#include "lanes.hpp"

namespace pythermo::cpu::PYTHERMO_ISA {
namespace {

// The same number of lanes for every instruction set, so that sums have the same bits on each.
constexpr std::size_t lanes = 32;

// At most this many elements are added up in one lane before it goes over into double: in float the
// relative error of a sum of squares stays below 32 * 2^-24 = 2e-6, and is 1e-8 typically.
constexpr std::size_t run = lanes * 32;

// In the place of a gradient that there is not.
template <class T>
alignas(64) constexpr T zeros[run] = {};

// Calls visit(weights, grad, size) for the parts of segments that make up `size` elements from the place
// `begin` on. `segment`, where they begin, is left where they end.
template <class T, class Visit>
PYTHERMO_INLINE void each_part(const Segment<T>*& segment, std::size_t begin, std::size_t size, Visit visit) {
  const std::size_t end = begin + size;
  while (begin < end) {
    while (segment->end <= begin) ++segment;
    const std::size_t offset = begin - segment->begin;
    std::size_t part = (segment->end < end ? segment->end : end) - begin;
    const T* grad = zeros<T>;
    if (segment->grad != nullptr) {
      grad = segment->grad + offset;
    } else if (part > run) {
      part = run;
    }
    visit(segment->weights + offset, grad, part);
    begin += part;
  }
}

// A run's weights and gradient side by side: where they lie if they do, and gathered if they do not.
template <class T>
class Run {
 public:
  const T* weights;
  const T* grad;

  PYTHERMO_INLINE void read(const Segment<T>*& segment, std::size_t begin, std::size_t size) {
    while (segment->end <= begin) ++segment;
    if (begin + size <= segment->end) {
      weights = segment->weights + (begin - segment->begin);
      grad = segment->grad == nullptr ? zeros<T> : segment->grad + (begin - segment->begin);
      return;
    }
    std::size_t done = 0;
    each_part(segment, begin, size, [&](const T* w, const T* g, std::size_t part) {
      __builtin_memcpy(gathered_[0] + done, w, part * sizeof(T));
      __builtin_memcpy(gathered_[1] + done, g, part * sizeof(T));
      done += part;
    });
    weights = gathered_[0];
    grad = gathered_[1];
  }

 private:
  alignas(64) T gathered_[2][run];
};

// Adds up a block in lanes, one run after the other; visit(segment, begin, size) is called after each run.
template <class Retraction, class T, class Lane, class Visit>
PYTHERMO_INLINE Sums sum_and_visit(const Segment<T>* segment, std::size_t begin, std::size_t size, double lr,
                                   Visit visit) {
  constexpr int count = Retraction::sum_count;
  const Lane lane_lr = static_cast<Lane>(static_cast<T>(lr));
  double sums[count][lanes] = {};
  Run<T> values;

  for (std::size_t start = 0; start < size; start += run) {
    const std::size_t length = run < size - start ? run : size - start;
    const std::size_t whole = length / lanes * lanes;
    const Segment<T>* const first = segment;
    values.read(segment, begin + start, length);
    const T* const weights = values.weights;
    const T* const grad = values.grad;
    Lane partial[count][lanes] = {};
    const auto add = [&](std::size_t i, std::size_t lane) {
      Lane terms[count];
      Retraction::template terms<Lane>(weights[i], grad[i], lane_lr, terms);
      for (int k = 0; k < count; ++k) partial[k][lane] += terms[k];
    };
    for (std::size_t i = 0; i < whole; i += lanes) {
      for (std::size_t l = 0; l < lanes; ++l) add(i + l, l);
    }
    for (std::size_t i = whole; i < length; ++i) add(i, i - whole);
    for (int k = 0; k < count; ++k) {
      for (std::size_t l = 0; l < lanes; ++l) sums[k][l] += partial[k][l];
    }
    visit(first, begin + start, length);
  }

  Sums total{};
  for (int k = 0; k < count; ++k) total[k] = sum_of_lanes(sums[k]);
  return total;
}

}  // namespace

template <class Retraction, class T, class Lane>
Sums sum_block(const Segment<T>* segment, std::size_t begin, std::size_t size, double lr) {
  return sum_and_visit<Retraction, T, Lane>(segment, begin, size, lr,
                                            [](const Segment<T>*, std::size_t, std::size_t) {});
}

template <class Update, class T>
void update_block(const Segment<T>* segment, std::size_t begin, std::size_t size, const Update& update) {
  const Update local = update;
  each_part(segment, begin, size, [&](T* weights, const T* grad, std::size_t part) {
    for (std::size_t i = 0; i < part; ++i) weights[i] = local(weights[i], grad[i]);
  });
}

template <class Retraction, class T>
Sums update_and_sum_block(const Segment<T>* segment, std::size_t begin, std::size_t size, double lr,
                          const typename Retraction::template Update<T>& update) {
  return sum_and_visit<Retraction, T, T>(segment, begin, size, lr,
                                         [=](const Segment<T>* first, std::size_t start, std::size_t length) {
                                           update_block(first, start, length, update);
                                         });
}

#define PYTHERMO_INSTANTIATE(Retraction)                                                                \
  template Sums sum_block<Retraction, float, float>(const Segment<float>*, std::size_t, std::size_t,    \
                                                    double);                                            \
  template Sums sum_block<Retraction, float, double>(const Segment<float>*, std::size_t, std::size_t,   \
                                                     double);                                           \
  template Sums sum_block<Retraction, double, double>(const Segment<double>*, std::size_t, std::size_t, \
                                                      double);                                          \
  template void update_block(const Segment<float>*, std::size_t, std::size_t,                           \
                             const Retraction::Update<float>&);                                         \
  template void update_block(const Segment<double>*, std::size_t, std::size_t,                          \
                             const Retraction::Update<double>&);

PYTHERMO_INSTANTIATE(Projection)
template Sums update_and_sum_block<Projection, float>(const Segment<float>*, std::size_t, std::size_t, double,
                                                      const Projection::Update<float>&);
template Sums sum_block<SquaredNorm, float, float>(const Segment<float>*, std::size_t, std::size_t, double);
template Sums sum_block<SquaredNorm, float, double>(const Segment<float>*, std::size_t, std::size_t, double);
PYTHERMO_INSTANTIATE(Exponential)
PYTHERMO_INSTANTIATE(WeightDecay<protocols::FixedLr>)
PYTHERMO_INSTANTIATE(WeightDecay<protocols::FixedElr>)

}  // namespace pythermo::cpu::PYTHERMO_ISA
