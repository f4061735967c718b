// The k smallest of many candidates, in little more room than they need.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <span>

#include "../knn.hpp"

namespace pythermo::cpu {

using knn::candidate;
using knn::squared_of;

// Brings the k smallest values to the front, in no order. A quickselect whose partition has no branch that
// the processor would have to foresee; std::nth_element, whose every other comparison it foresees wrongly,
// takes over where pivots divide badly, as among equal values.
template <class Value>
void select_smallest(std::span<Value> values, std::size_t k) {
  std::size_t low = 0, high = values.size();
  while (low < k && k < high) {
    const std::size_t count = high - low;
    if (count < 8) break;
    Value* const from = values.data() + low;
    const Value a = from[count / 4], b = from[count / 2], c = from[count - 1 - count / 4];
    const Value smaller = std::min(a, b), larger = std::max(a, b);
    const Value pivot = std::max(smaller, std::min(larger, c));
    std::size_t below = 0;
    for (std::size_t i = 0; i < count; ++i) {
      const Value value = from[i];
      from[i] = from[below];
      from[below] = value;
      below += value < pivot ? 1 : 0;
    }
    if (below == 0 || below < count / 16) break;
    if (low + below >= k) {
      high = low + below;
    } else {
      low += below;
    }
  }
  if (low < k && k < high) {
    const auto at = [&](std::size_t i) { return values.begin() + static_cast<std::ptrdiff_t>(i); };
    std::nth_element(at(low), at(k - 1), at(high));
  }
}

// Candidates are appended while they are below the k-th smallest so far, which is found anew whenever the
// room is full: the k smallest of all are among them, whatever their order.
template <class Candidate>
class Smallest {
 public:
  // Room for k more candidates than must be kept makes the selections few.
  static std::size_t room_for(std::size_t k, std::size_t at_once) { return 2 * k + at_once + widest_vector; }

  void start() {
    count_ = 0;
    limit_ = candidate<Candidate>(std::numeric_limits<double>::infinity(), 0);
  }

  // Candidates at or beyond this one are of no use.
  const Candidate& limit() const { return limit_; }

  // Offers squared[i * stride] for i < count, the i-th with the index index_of(i).
  template <class IndexOf>
  void offer(const double* squared, std::size_t stride, std::size_t count, const IndexOf& index_of,
             std::span<Candidate> room, std::size_t k) {
    if (count_ + count + widest_vector > room.size()) select(room, k);
    Candidate* const kept = room.data();
    const Candidate limit = limit_;
    std::size_t end = count_;
    for (std::size_t i = 0; i < count; ++i) {
      kept[end] = candidate<Candidate>(squared[i * stride], index_of(i));
      end += kept[end] < limit ? 1 : 0;
    }
    count_ = end;
    // A first limit from twice as many is worth its selection.
    if (count_ >= 2 * k && !(squared_of(limit_) < std::numeric_limits<double>::infinity())) select(room, k);
  }

  // The candidates kept, at least k if that many finite ones were offered; in no order.
  std::span<Candidate> kept(std::span<Candidate> room) const { return room.first(count_); }

 private:
  void select(std::span<Candidate> room, std::size_t k) {
    if (count_ < k) return;
    select_smallest(room.first(count_), k);
    count_ = k;
    limit_ = *std::max_element(room.begin(), room.begin() + static_cast<std::ptrdiff_t>(k));
  }

  std::size_t count_;
  Candidate limit_;
};

}  // namespace pythermo::cpu
