#include "../knn.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <functional>
#include <span>
#include <stdexcept>
#include <type_traits>
#include <vector>

#include "../checks.hpp"
#include "knn_blocks.hpp"
#include "knn_leaves.hpp"
#include "sized.hpp"

namespace pythermo::cpu {
namespace {

// Up to here, leaves are faster than blocks.
constexpr std::size_t most_leaf_dim = 16;

template <class Call>
auto with_clouds(const TensorView& points, const Call& call) {
  if (points.scalar_type() == ScalarType::float32) return call(clouds_of<float>(points));
  return call(clouds_of<double>(points));
}

template <class T>
std::optional<BadRow> first_bad_row(const Clouds<T>& clouds) {
  for (std::size_t c = 0; c < clouds.clouds; ++c) {
    for (std::size_t i = 0; i < clouds.points; ++i) {
      if (!is_finite(clouds.cloud(c).point(i), clouds.dim)) return BadRow{c, i};
    }
  }
  return std::nullopt;
}

template <class T>
std::optional<BadRow> explain_missing(const Clouds<T>& clouds) {
  const auto bad = first_bad_row(clouds);
  if (!bad) throw std::invalid_argument("points: too far apart, their squared distances overflow");
  return bad;
}

// Points are sorted into leaves by comparisons, which NaN would upset; blocks find it in the distances.
template <class T>
std::optional<BadRow> bad_for_leaves(const Clouds<T>& clouds) {
  return clouds.dim <= most_leaf_dim ? first_bad_row(clouds) : std::nullopt;
}

// A matrix [points, points] is worth its memory where the candidates would fill as much.
bool fits_a_matrix(std::size_t points, std::size_t k, std::size_t dim) {
  return dim > most_leaf_dim && Smallest<double>::room_for(k, block_points) >= points;
}

// A matrix [points, points] of squared distances, from which a range of points is left out.
struct SquaredDistances {
  const double* data;
  std::size_t points;
  std::size_t without = 0, without_end = 0;
};

// Calls finish(index, candidates) for each point with all its distances.
template <class Candidate, class Finish>
void nearest_in_matrix(const SquaredDistances& squared, int threads, Poll& poll, const Finish& finish) {
  const std::size_t n = squared.points;
  std::vector<std::vector<Candidate>> rows;
  for (std::size_t w = 0; w < workers_for(n, threads); ++w) rows.emplace_back(n + widest_vector);
  parallel_tasks(n, threads, [&](std::size_t i, std::size_t worker) {
    if (squared.without <= i && i < squared.without_end) return true;
    Candidate* const kept = rows[worker].data();
    std::size_t count = 0;
    const auto keep = [&](std::size_t first, std::size_t last) {
      for (std::size_t j = first; j < last; ++j) {
        const double value = squared.data[i * n + j];
        kept[count] = candidate<Candidate>(value, j);
        count += value < std::numeric_limits<double>::infinity() ? 1 : 0;
      }
    };
    keep(0, squared.without);
    keep(squared.without_end, n);
    finish(i, std::span(kept, count));
    return poll.check();
  });
}

// Calls finish(cloud, index, candidates) for each point; where all is well `candidates` hold its k nearest.
template <class Candidate, class T, class Finish>
void nearest(const Clouds<T>& clouds, std::size_t k, int threads, Poll& poll, const Finish& finish) {
  if (clouds.dim <= most_leaf_dim) {
    nearest_in_leaves<Candidate>(clouds, k, threads, poll, finish);
  } else if (fits_a_matrix(clouds.points, k, clouds.dim)) {
    std::vector<double> matrix(clouds.points * clouds.points);
    for (std::size_t c = 0; c < clouds.clouds; ++c) {
      update_matrix(clouds.cloud(c), 0, clouds.points, matrix.data(), threads, poll);
      nearest_in_matrix<Candidate>(SquaredDistances{matrix.data(), clouds.points}, threads, poll,
                                   [&](std::size_t i, std::span<Candidate> found) { finish(c, i, found); });
    }
  } else {
    nearest_in_blocks<Candidate>(clouds, k, threads, poll, finish);
  }
}

// Up to so many neighbors, they are sorted by counting.
constexpr std::size_t few_candidates = 160;

// The k smallest candidates in order.
template <class Candidate>
std::span<Candidate> sorted(std::span<Candidate> candidates, std::size_t k) {
  select_smallest(candidates, k);
  const auto nearest = candidates.first(k);
  std::sort(nearest.begin(), nearest.end());
  return nearest;
}

void write_distances(std::span<double> found, std::size_t k, double* distances) {
  if (k <= few_candidates) {
    select_smallest(found, k);
    PYTHERMO_DISPATCH(isa::sort_few(found.data(), k, distances));
  } else {
    std::ranges::copy(sorted(found, k), distances);
  }
  for (std::size_t j = 0; j < k; ++j) distances[j] = std::sqrt(distances[j]);
}

void write_neighbors(std::span<knn::Neighbor> found, std::size_t k, double* distances,
                     std::int64_t* indices) {
  const auto nearest_k = sorted(found, k);
  for (std::size_t j = 0; j < k; ++j) {
    distances[j] = std::sqrt(nearest_k[j].squared);
    indices[j] = nearest_k[j].index;
  }
}

// Adds up distances to a power over the k smallest candidates, for each k of ks, which ascend.
class SumSmallest {
 public:
  SumSmallest(const std::vector<std::size_t>& ks, double gamma) : ks_(ks), gamma_(gamma) {}

  void operator()(std::span<double> squared, double* sums) const {
    double few[few_candidates];
    if (ks_.back() <= few_candidates) {
      select_smallest(squared, ks_.back());
      PYTHERMO_DISPATCH(isa::sort_few(squared.data(), ks_.back(), few));
      squared = std::span(few);
    } else {
      split(squared, 0, std::span(ks_));
    }
    double sum = 0.0;
    std::size_t done = 0;
    for (std::size_t which = 0; which < ks_.size(); ++which) {
      sum += sum_of_powers(squared.subspan(done, ks_[which] - done));
      done = ks_[which];
      sums[which] = sum;
    }
  }

 private:
  // Orders the candidates so far that the k smallest come first, for each k; `before` others precede them.
  static void split(std::span<double> squared, std::size_t before, std::span<const std::size_t> ks) {
    if (ks.empty()) return;
    const std::size_t middle = ks.size() / 2, at = ks[middle] - before;
    select_smallest(squared, at);
    split(squared.first(at), before, ks.first(middle));
    split(squared.subspan(at), ks[middle], ks.subspan(middle + 1));
  }

  double sum_of_powers(std::span<const double> squared) const {
    double sum = 0.0;
    if (gamma_ == 1.0) {
      for (const double value : squared) sum += std::sqrt(value);
    } else {
      for (const double value : squared) sum += std::pow(value, gamma_ / 2.0);
    }
    return sum;
  }

  const std::vector<std::size_t>& ks_;
  double gamma_;
};

// The sums of each point [points, ks] added up in the points' order.
void add_points(std::span<const double> each, std::size_t ks, double* sums) {
  std::fill_n(sums, ks, 0.0);
  for (std::size_t i = 0; i < each.size(); ++i) sums[i % ks] += each[i];
}

}  // namespace

std::optional<BadRow> knn_distances(const TensorView& points, std::size_t k, const TensorView& distances,
                                    const TensorView& indices, int threads, const KeepGoing& keep_going) {
  return with_clouds(points, [&]<class T>(const Clouds<T>& clouds) -> std::optional<BadRow> {
    require(k >= 1 && k < clouds.points, "k: must be from 1 to n - 1");
    const std::size_t size = clouds.clouds * clouds.points * k;
    auto* const out = sized<double>(distances, size);
    auto* const which = optional<std::int64_t>(indices, size);
    Poll poll(keep_going);
    std::atomic<bool> missing = false;
    const auto place_of = [&](std::size_t c, std::size_t i) { return (c * clouds.points + i) * k; };
    if (const auto bad = bad_for_leaves(clouds)) return bad;
    if (which != nullptr) {
      nearest<knn::Neighbor>(clouds, k, threads, poll,
                             [&](std::size_t c, std::size_t i, std::span<knn::Neighbor> found) {
                               if (found.size() < k) {
                                 missing = true;
                               } else {
                                 write_neighbors(found, k, out + place_of(c, i), which + place_of(c, i));
                               }
                             });
    } else {
      nearest<double>(clouds, k, threads, poll, [&](std::size_t c, std::size_t i, std::span<double> found) {
        if (found.size() < k) {
          missing = true;
        } else {
          write_distances(found, k, out + place_of(c, i));
        }
      });
    }
    return missing && poll.check() ? explain_missing(clouds) : std::nullopt;
  });
}

std::optional<BadRow> knn_distance_sums(const TensorView& points, const std::vector<std::size_t>& ks,
                                        double gamma, const TensorView& sums, int threads,
                                        const KeepGoing& keep_going) {
  return with_clouds(points, [&]<class T>(const Clouds<T>& clouds) -> std::optional<BadRow> {
    require_ks(ks, clouds.points);
    auto* const out = sized<double>(sums, clouds.clouds * ks.size());
    Poll poll(keep_going);
    std::atomic<bool> missing = false;
    const SumSmallest sum(ks, gamma);
    const std::size_t each = clouds.points * ks.size();
    std::vector<double> parts(clouds.clouds * each);
    if (const auto bad = bad_for_leaves(clouds)) return bad;
    nearest<double>(clouds, ks.back(), threads, poll,
                    [&](std::size_t c, std::size_t i, std::span<double> found) {
                      if (found.size() < ks.back()) {
                        missing = true;
                      } else {
                        sum(found, &parts[c * each + i * ks.size()]);
                      }
                    });
    if (missing && poll.check()) return explain_missing(clouds);
    for (std::size_t c = 0; c < clouds.clouds; ++c) {
      add_points(std::span(parts).subspan(c * each, each), ks.size(), out + c * ks.size());
    }
    return std::nullopt;
  });
}

std::optional<BadRow> update_squared_distances(const TensorView& points, std::size_t first,
                                               std::size_t changed, const TensorView& matrix, int threads,
                                               const KeepGoing& keep_going) {
  return with_clouds(points, [&]<class T>(const Clouds<T>& clouds) -> std::optional<BadRow> {
    const std::size_t n = clouds.points;
    require(clouds.clouds == 1, "points: must be one cloud");
    require(first <= n && changed <= n - first, "changed: beyond the last point");
    auto* const out = sized<double>(matrix, n * n);
    for (std::size_t i = first; i < first + changed; ++i) {
      if (!is_finite(clouds.cloud(0).point(i), clouds.dim)) return BadRow{0, i};
    }
    Poll poll(keep_going);
    update_matrix(clouds.cloud(0), first, changed, out, threads, poll);
    return std::nullopt;
  });
}

void matrix_distance_sums(const TensorView& matrix, const std::vector<std::size_t>& ks, double gamma,
                          std::size_t without, std::size_t without_end, const TensorView& sums, int threads,
                          const KeepGoing& keep_going) {
  const VectorView<double> squared = matrix.cpu_vector<double>();
  const auto n = static_cast<std::size_t>(std::llround(std::sqrt(static_cast<double>(squared.size))));
  require(n * n == squared.size, "matrix: must be square");
  require(without <= without_end && without_end <= n, "without: must be a range of points");
  require_ks(ks, n - (without_end - without));
  auto* const out = sized<double>(sums, ks.size());
  Poll poll(keep_going);
  std::atomic<bool> missing = false;
  const SumSmallest sum(ks, gamma);
  std::vector<double> parts(n * ks.size());
  const SquaredDistances distances{squared.data, n, without, without_end};
  nearest_in_matrix<double>(distances, threads, poll, [&](std::size_t i, std::span<double> found) {
    if (found.size() < ks.back()) {
      missing = true;
    } else {
      sum(found, &parts[i * ks.size()]);
    }
  });
  require(!missing || !poll.check(), "points: too far apart, their squared distances overflow");
  add_points(parts, ks.size(), out);
}

}  // namespace pythermo::cpu
