// Nearest neighbors among points of few coordinates: the points are sorted into leaves, boxes of equally
// many points; a point is compared to all points of the leaves that may hold a neighbor.
#pragma once

#include <algorithm>
#include <cstddef>
#include <limits>
#include <numeric>
#include <optional>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include "../knn.hpp"
#include "clouds.hpp"
#include "parallel.hpp"
#include "poll.hpp"
#include "smallest.hpp"

namespace pythermo::cpu {

class Leaves {
 public:
  // Halves the points across the longest side of their box until a leaf holds them. They must be finite.
  template <class T>
  explicit Leaves(const Cloud<T>& cloud)
      : points_(cloud.points),
        dim_(cloud.dim),
        count_((cloud.points + leaf_points - 1) / leaf_points),
        order_(cloud.points),
        coordinates_(count_ * dim_ * leaf_points, std::numeric_limits<double>::infinity()),
        low_(count_ * dim_, std::numeric_limits<double>::infinity()),
        high_(count_ * dim_, -std::numeric_limits<double>::infinity()) {
    std::iota(order_.begin(), order_.end(), std::size_t{0});
    halve(cloud, 0, points_);
    for (std::size_t place = 0; place < points_; ++place) {
      const T* x = cloud.point(order_[place]);
      const std::size_t leaf = place / leaf_points;
      for (std::size_t d = 0; d < dim_; ++d) {
        coordinates_[(leaf * dim_ + d) * leaf_points + place % leaf_points] = x[d];
        low_[leaf * dim_ + d] = std::min<double>(low_[leaf * dim_ + d], x[d]);
        high_[leaf * dim_ + d] = std::max<double>(high_[leaf * dim_ + d], x[d]);
      }
    }
    least_.resize(count_);
    by_least_.resize(count_);
    std::iota(by_least_.begin(), by_least_.end(), std::size_t{0});
    for (std::size_t leaf = 0; leaf < count_; ++leaf) {
      const auto first = order_.begin() + static_cast<std::ptrdiff_t>(leaf * leaf_points);
      least_[leaf] = *std::min_element(first, first + static_cast<std::ptrdiff_t>(size(leaf)));
    }
    std::sort(by_least_.begin(), by_least_.end(),
              [&](std::size_t a, std::size_t b) { return least_[a] < least_[b]; });
  }

  std::size_t count() const { return count_; }
  std::size_t size(std::size_t leaf) const { return std::min(points_ - leaf * leaf_points, leaf_points); }
  std::size_t index(std::size_t leaf, std::size_t i) const { return order_[leaf * leaf_points + i]; }
  const double* coordinates(std::size_t leaf) const { return &coordinates_[leaf * dim_ * leaf_points]; }
  // The leaves in the order of their least indices, and that index.
  std::size_t by_least_index(std::size_t rank) const { return by_least_[rank]; }
  std::size_t least_index(std::size_t leaf) const { return least_[leaf]; }

  // Squared distance between two leaves' boxes.
  double squared_distance(std::size_t a, std::size_t b) const {
    return squared_gap(&low_[a * dim_], &high_[a * dim_], b);
  }
  // Squared distance from a point to a leaf's box.
  double squared_distance(const double* x, std::size_t leaf) const { return squared_gap(x, x, leaf); }

 private:
  // Not more than the squared distance of any two points, as it is rounded.
  double squared_gap(const double* low, const double* high, std::size_t leaf) const {
    double sum = 0.0;
    for (std::size_t d = 0; d < dim_; ++d) {
      const double below = low_[leaf * dim_ + d] - high[d], above = low[d] - high_[leaf * dim_ + d];
      const double gap = std::max(std::max(below, above), 0.0);
      sum += gap * gap;
    }
    return sum * (1.0 - 0x1p-53 * static_cast<double>(2 * dim_ + 4));
  }

  template <class T>
  void halve(const Cloud<T>& cloud, std::size_t first, std::size_t last) {
    const std::size_t leaves = (last - first + leaf_points - 1) / leaf_points;
    if (leaves <= 1) return;
    const std::pair<T, std::size_t> longest = longest_side(cloud, first, last);
    const std::size_t side = longest.second, middle = first + leaves / 2 * leaf_points;
    const auto at = [&](std::size_t place) { return order_.begin() + static_cast<std::ptrdiff_t>(place); };
    if (!(longest.first > 0)) {  // all are equal: leaves of consecutive indices
      std::sort(at(first), at(last));
      return;
    }
    std::nth_element(at(first), at(middle), at(last), [&](std::size_t a, std::size_t b) {
      return cloud.point(a)[side] < cloud.point(b)[side];
    });
    halve(cloud, first, middle);
    halve(cloud, middle, last);
  }

  template <class T>
  std::pair<T, std::size_t> longest_side(const Cloud<T>& cloud, std::size_t first, std::size_t last) const {
    std::vector<T> low(cloud.point(order_[first]), cloud.point(order_[first]) + dim_), high = low;
    for (std::size_t place = first; place < last; ++place) {
      const T* x = cloud.point(order_[place]);
      for (std::size_t d = 0; d < dim_; ++d) {
        low[d] = std::min(low[d], x[d]);
        high[d] = std::max(high[d], x[d]);
      }
    }
    std::size_t side = 0;
    for (std::size_t d = 1; d < dim_; ++d) {
      if (high[d] - low[d] > high[side] - low[side]) side = d;
    }
    return {high[side] - low[side], side};
  }

  std::size_t points_, dim_, count_;
  std::vector<std::size_t> order_, least_, by_least_;
  std::vector<double> coordinates_, low_, high_;
};

// What a thread needs to find neighbors in leaves.
template <class Candidate>
class LeafSearch {
 public:
  LeafSearch(std::size_t k, std::size_t dim, std::size_t most_leaves)
      : k_(k), room_(Smallest<Candidate>::room_for(k, leaf_points)), x_(dim), squared_(leaf_points) {
    by_distance_.reserve(most_leaves);
  }

  // Calls finish(index, candidates) for each point of a leaf.
  template <class Finish>
  void search(const Leaves& leaves, std::size_t leaf, const Finish& finish) {
    by_distance_.clear();
    for (std::size_t place = 0; place < leaves.count(); ++place) {
      const std::size_t other = leaf_at(leaves, place);
      if (other != leaf) by_distance_.emplace_back(leaves.squared_distance(leaf, other), place);
    }
    sorted_ = 0;
    for (std::size_t i = 0; i < leaves.size(leaf); ++i) {
      const double* coordinates = leaves.coordinates(leaf) + i;
      for (std::size_t d = 0; d < x_.size(); ++d) x_[d] = coordinates[d * leaf_points];
      search_from(leaves, leaf, i);
      finish(leaves.index(leaf, i), smallest_.kept(room_));
    }
  }

 private:
  static constexpr bool with_indices = !std::is_same_v<Candidate, double>;
  // Leaves that are sorted at once, by their distance.
  static constexpr std::size_t sorted_at_once = 32;

  void search_from(const Leaves& leaves, std::size_t leaf, std::size_t self) {
    smallest_.start();
    PYTHERMO_DISPATCH(isa::leaf_distances(x_.data(), leaves.coordinates(leaf), x_.size(), squared_.data()));
    squared_[self] = std::numeric_limits<double>::infinity();
    offer(leaves, leaf);
    for (std::size_t i = 0; i < by_distance_.size(); ++i) {
      if (i == sorted_) sort_more();
      const double limit = squared_of(smallest_.limit());
      if (by_distance_[i].first > limit) return;
      const std::size_t other = leaf_at(leaves, by_distance_[i].second);
      if (limit == 0.0 && none_before(smallest_.limit(), leaves.least_index(other))) return;
      if (leaves.squared_distance(x_.data(), other) > limit) continue;
      PYTHERMO_DISPATCH(
          isa::leaf_distances(x_.data(), leaves.coordinates(other), x_.size(), squared_.data()));
      offer(leaves, other);
    }
  }

  // Where indices decide among points at the same distance, leaves at the same distance come in the order of
  // their least indices.
  static std::size_t leaf_at(const Leaves& leaves, std::size_t place) {
    return with_indices ? leaves.by_least_index(place) : place;
  }

  // Whether no duplicate with such an index or a higher one comes before the k-th, which is a duplicate too.
  static bool none_before(const Candidate& limit, std::size_t index) {
    return !(candidate<Candidate>(0.0, index) < limit);
  }

  void offer(const Leaves& leaves, std::size_t leaf) {
    smallest_.offer(
        squared_.data(), 1, leaves.size(leaf), [&](std::size_t i) { return leaves.index(leaf, i); },
        std::span(room_), k_);
  }

  void sort_more() {
    const auto first = by_distance_.begin() + static_cast<std::ptrdiff_t>(sorted_);
    sorted_ = std::min(sorted_ + sorted_at_once, by_distance_.size());
    const auto last = by_distance_.begin() + static_cast<std::ptrdiff_t>(sorted_);
    if (last != by_distance_.end()) std::nth_element(first, last, by_distance_.end());
    std::sort(first, last);
  }

  std::size_t k_;
  std::vector<Candidate> room_;
  std::vector<double> x_, squared_;
  std::vector<std::pair<double, std::size_t>> by_distance_;
  std::size_t sorted_ = 0;
  Smallest<Candidate> smallest_;
};

// Calls finish(cloud, index, candidates) for each point of finite clouds; `candidates` hold its k nearest.
template <class Candidate, class T, class Finish>
void nearest_in_leaves(const Clouds<T>& clouds, std::size_t k, int threads, Poll& poll,
                       const Finish& finish) {
  const std::size_t leaves_each = (clouds.points + leaf_points - 1) / leaf_points;
  const std::size_t tasks = clouds.clouds * leaves_each;
  std::vector<LeafSearch<Candidate>> searches;
  searches.reserve(workers_for(tasks, threads));
  for (std::size_t worker = 0; worker < workers_for(tasks, threads); ++worker) {
    searches.emplace_back(k, clouds.dim, leaves_each);
  }
  // Sorted by one thread per cloud, many clouds at a time.
  const std::size_t at_once = 4 * static_cast<std::size_t>(std::max(threads, 1));
  for (std::size_t begin = 0; begin < clouds.clouds; begin += at_once) {
    const std::size_t here = std::min(at_once, clouds.clouds - begin);
    std::vector<std::optional<Leaves>> leaves(here);
    for (std::size_t c = 0; c < here; ++c) leaves[c].emplace(clouds.cloud(begin + c));
    parallel_tasks(here * leaves_each, threads, [&](std::size_t task, std::size_t worker) {
      const std::size_t c = task / leaves_each;
      searches[worker].search(*leaves[c], task % leaves_each, [&](std::size_t i, std::span<Candidate> found) {
        finish(begin + c, i, found);
      });
      return poll.check();
    });
  }
}

}  // namespace pythermo::cpu
