// Distances between points of many coordinates, a block of pairs at a time; each pair once.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <mutex>
#include <span>
#include <vector>

#include "../knn.hpp"
#include "clouds.hpp"
#include "parallel.hpp"
#include "poll.hpp"
#include "smallest.hpp"

namespace pythermo::cpu {

// A thread's memory for one block of pairs.
class BlockScratch {
 public:
  BlockScratch()
      : squared_(block_points * block_points), bytes_(PYTHERMO_DISPATCH(isa::block_scratch_bytes()) + 64) {}

  // Squared distances from `rows` points of one cloud to `columns` points of the same.
  template <class T>
  double* compute(const Cloud<T>& cloud, std::size_t row, std::size_t rows, std::size_t column,
                  std::size_t columns) {
    auto* aligned =
        reinterpret_cast<std::byte*>((reinterpret_cast<std::uintptr_t>(bytes_.data()) + 63) / 64 * 64);
    PYTHERMO_DISPATCH(isa::block_distances(cloud.point(row), rows, cloud.point(column), columns, cloud.stride,
                                           cloud.dim, squared_.data(), aligned));
    return squared_.data();
  }

 private:
  std::vector<double> squared_;
  std::vector<std::byte> bytes_;
};

inline std::size_t blocks_of(std::size_t points) { return (points + block_points - 1) / block_points; }

// The t-th of the pairs (i, j), i <= j < blocks, ordered by i.
inline std::pair<std::size_t, std::size_t> block_pair(std::size_t t, std::size_t blocks) {
  const auto before = [&](std::size_t i) { return i * blocks - i * (i - 1) / 2; };  // pairs of smaller i
  const double twice = 2.0 * static_cast<double>(blocks) + 1.0;
  const double root = std::sqrt(std::max(twice * twice - 8.0 * static_cast<double>(t), 0.0));
  auto i = static_cast<std::size_t>(std::max((twice - root) / 2.0, 0.0));
  i = std::min(i, blocks - 1);
  while (i > 0 && before(i) > t) --i;
  while (i + 1 < blocks && before(i + 1) <= t) ++i;
  return {i, i + t - before(i)};
}

// Calls visit(c, i, rows, j, columns, squared) for every block of pairs of each cloud: squared[a *
// block_points + b] belongs to the points i + a and j + b. A block with itself is filled, with infinity from
// a point to itself.
template <class T, class Visit>
void for_each_block(const Clouds<T>& clouds, int threads, Poll& poll, const Visit& visit) {
  const std::size_t blocks = blocks_of(clouds.points), pairs = blocks * (blocks + 1) / 2;
  const std::size_t tasks = clouds.clouds * pairs;
  std::vector<BlockScratch> scratch(workers_for(tasks, threads));
  parallel_tasks(tasks, threads, [&](std::size_t task, std::size_t worker) {
    const auto [a, b] = block_pair(task % pairs, blocks);
    const std::size_t i = a * block_points, rows = std::min(block_points, clouds.points - i);
    const std::size_t j = b * block_points, columns = std::min(block_points, clouds.points - j);
    double* squared = scratch[worker].compute(clouds.cloud(task / pairs), i, rows, j, columns);
    if (a == b) {
      for (std::size_t p = 0; p < rows; ++p) {
        squared[p * block_points + p] = std::numeric_limits<double>::infinity();
        for (std::size_t q = 0; q < p; ++q) squared[p * block_points + q] = squared[q * block_points + p];
      }
    }
    visit(task / pairs, i, rows, j, columns, squared);
    return poll.check();
  });
}

// Calls visit(i, rows, j, columns, squared) for every block of pairs of the `rows_count` points from
// `first_row` on with those from `first_column` on, which are others.
template <class T, class Visit>
void for_each_block_between(const Cloud<T>& cloud, std::size_t first_row, std::size_t row_count,
                            std::size_t first_column, std::size_t column_count, int threads, Poll& poll,
                            const Visit& visit) {
  const std::size_t across = blocks_of(column_count), tasks = blocks_of(row_count) * across;
  std::vector<BlockScratch> scratch(workers_for(tasks, threads));
  parallel_tasks(tasks, threads, [&](std::size_t task, std::size_t worker) {
    const std::size_t down = task / across * block_points, right = task % across * block_points;
    const std::size_t rows = std::min(block_points, row_count - down);
    const std::size_t columns = std::min(block_points, column_count - right);
    const std::size_t i = first_row + down, j = first_column + right;
    visit(i, rows, j, columns, scratch[worker].compute(cloud, i, rows, j, columns));
    return poll.check();
  });
}

// Brings a matrix [points, points] of squared distances up to date, infinity on its diagonal, after the
// `changed` points from `first` on have changed.
template <class T>
void update_matrix(const Cloud<T>& cloud, std::size_t first, std::size_t changed, double* matrix, int threads,
                   Poll& poll) {
  const std::size_t n = cloud.points, end = first + changed;
  const auto write = [&](std::size_t i, std::size_t rows, std::size_t j, std::size_t columns,
                         const double* squared) {
    for (std::size_t p = 0; p < rows; ++p) {
      std::copy_n(squared + p * block_points, columns, matrix + (i + p) * n + j);
    }
    for (std::size_t q = 0; q < columns; ++q) {
      for (std::size_t p = 0; p < rows; ++p) {
        matrix[(j + q) * n + i + p] = squared[p * block_points + q];
      }
    }
  };
  const Clouds<T> among{cloud.point(first), 1, changed, cloud.dim, 0, cloud.stride};
  for_each_block(among, threads, poll,
                 [&](std::size_t, std::size_t i, std::size_t rows, std::size_t j, std::size_t columns,
                     const double* squared) { write(first + i, rows, first + j, columns, squared); });
  for_each_block_between(cloud, first, changed, 0, first, threads, poll, write);
  for_each_block_between(cloud, first, changed, end, n - end, threads, poll, write);
}

// Calls finish(cloud, index, candidates) for each point; `candidates` hold its k nearest. Points that are not
// finite have fewer.
template <class Candidate, class T, class Finish>
void nearest_in_blocks(const Clouds<T>& clouds, std::size_t k, int threads, Poll& poll,
                       const Finish& finish) {
  const std::size_t n = clouds.points, room_each = Smallest<Candidate>::room_for(k, block_points);
  // As many small clouds at once as keep all threads at work.
  const std::size_t pairs = blocks_of(n) * (blocks_of(n) + 1) / 2;
  const std::size_t wanted = 8 * static_cast<std::size_t>(std::max(threads, 1));
  const std::size_t at_once = std::min((wanted + pairs - 1) / pairs, clouds.clouds);
  std::vector<Candidate> room(at_once * n * room_each);
  std::vector<Smallest<Candidate>> nearest(at_once * n);
  std::vector<std::mutex> locks(at_once * blocks_of(n));
  const auto room_of = [&](std::size_t point) {
    return std::span(room).subspan(point * room_each, room_each);
  };
  for (std::size_t begin = 0; begin < clouds.clouds; begin += at_once) {
    const std::size_t here = std::min(at_once, clouds.clouds - begin);
    for (auto& one : nearest) one.start();
    // Offers points from `other` on to those from `mine` on: squared[a * down + b * across].
    const auto offer = [&](std::size_t c, std::size_t mine, std::size_t my_count, std::size_t other,
                           std::size_t other_count, const double* squared, std::size_t down,
                           std::size_t across) {
      const std::lock_guard lock(locks[c * blocks_of(n) + mine / block_points]);
      for (std::size_t a = 0; a < my_count; ++a) {
        const std::size_t point = c * n + mine + a;
        nearest[point].offer(
            squared + a * down, across, other_count, [&](std::size_t b) { return other + b; }, room_of(point),
            k);
      }
    };
    const Clouds<T> group{clouds.cloud(begin).data, here, n, clouds.dim, clouds.cloud_stride,
                          clouds.point_stride};
    for_each_block(group, threads, poll,
                   [&](std::size_t c, std::size_t i, std::size_t rows, std::size_t j, std::size_t columns,
                       const double* squared) {
                     offer(c, i, rows, j, columns, squared, block_points, 1);
                     if (i != j) offer(c, j, columns, i, rows, squared, 1, block_points);
                   });
    parallel_tasks(here * n, threads, [&](std::size_t point, std::size_t) {
      const auto found = nearest[point].kept(room_of(point));
      std::sort(found.begin(), found.end());  // for they came in any order
      finish(begin + point / n, point % n, found);
      return poll.check();
    });
  }
}

}  // namespace pythermo::cpu
