// The k smallest of many candidates, in little more room than they need.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <span>

#include "../knn.hpp"
#include "knn_loops.hpp"

namespace pythermo::cpu {

// What is kept of a neighbour: its squared distance alone, or its index as well.
template <class Candidate>
Candidate candidate(double squared, std::size_t index);
template <>
inline double candidate<double>(double squared, std::size_t) {
  return squared;
}
template <>
inline knn::Neighbour candidate<knn::Neighbour>(double squared, std::size_t index) {
  return {squared, static_cast<std::int64_t>(index)};
}
inline double squared_of(double candidate) { return candidate; }
inline double squared_of(const knn::Neighbour& candidate) { return candidate.squared; }

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
    if (count_ >= k && !(squared_of(limit_) < std::numeric_limits<double>::infinity())) select(room, k);
  }

  // The candidates kept, at least k if that many finite ones were offered; in no order.
  std::span<Candidate> kept(std::span<Candidate> room) const { return room.first(count_); }

 private:
  void select(std::span<Candidate> room, std::size_t k) {
    if (count_ < k) return;
    std::nth_element(room.begin(), room.begin() + (k - 1), room.begin() + count_);
    count_ = k;
    limit_ = room[k - 1];
  }

  std::size_t count_;
  Candidate limit_;
};

}  // namespace pythermo::cpu
