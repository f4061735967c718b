#include <atomic>
#include <cstdlib>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "../sphere_arrays.hpp"
#if defined(__SSE2__)
#include <xmmintrin.h>
#endif

#include "../sphere_job.hpp"
#include "parallel.hpp"
#include "poll.hpp"

namespace pythermo::cpu {
namespace {

// Chains are dealt out to threads by as many as the widest vector has lanes.
constexpr std::size_t chains_per_part = widest_vector;

// Near an optimum with loss 0 the weights shrink below the least normal number, where x86 takes a hundred
// times as long for each operation; in its lifetime they are flushed to zero there.
class FlushSubnormals {
 public:
#if defined(__SSE2__)
  FlushSubnormals() : before_(_mm_getcsr()) { _mm_setcsr(before_ | flush_to_zero | subnormals_are_zero); }
  ~FlushSubnormals() { _mm_setcsr(before_); }

 private:
  static constexpr unsigned flush_to_zero = 0x8000, subnormals_are_zero = 0x0040;
  unsigned before_;
#endif
};

struct PlainOrder {
  std::uint64_t* order;

  std::uint64_t get(std::uint64_t i) const { return order[i]; }
  void set(std::uint64_t i, std::uint64_t sample) const { order[i] = sample; }
};

template <class T>
void simulate(const SphereJob<T>& job, int threads, const KeepGoing& keep_going) {
  Poll poll(keep_going);
  const Question go_on{[](void* context) { return static_cast<Poll*>(context)->check(); }, &poll};
  const std::size_t parts = (job.chains + chains_per_part - 1) / chains_per_part;
  const std::size_t bytes = PYTHERMO_DISPATCH(isa::sphere_scratch_bytes(job));
  const std::size_t used = std::min<std::size_t>(static_cast<std::size_t>(std::max(threads, 1)), parts);
  // Allocated here, where running out of memory may be said; each thread takes the piece of its first part.
  const std::size_t piece = (bytes + 63) / 64 * 64 + 64;
  std::vector<std::byte> scratch(piece * used + 64);
  auto* aligned =
      reinterpret_cast<std::byte*>((reinterpret_cast<std::uintptr_t>(scratch.data()) + 63) / 64 * 64);
  std::atomic<std::size_t> taken = 0;
  parallel_for(parts, threads, [&](std::size_t first, std::size_t last) {
    const FlushSubnormals flush;
    std::byte* own = aligned + piece * taken++;
    const std::size_t end = std::min(last * chains_per_part, job.chains);
    PYTHERMO_DISPATCH(isa::simulate_chains(job, first * chains_per_part, end, own, go_on));
  });
}

}  // namespace

void simulate_sphere(const SphereSettings& settings, const SphereArrays& arrays, int threads,
                     const KeepGoing& keep_going) {
  if (arrays.weights.scalar_type() == ScalarType::float32) {
    simulate(sphere_job<float>(settings, arrays, dlpack::DeviceType::cpu), threads, keep_going);
  } else {
    simulate(sphere_job<double>(settings, arrays, dlpack::DeviceType::cpu), threads, keep_going);
  }
}

void sphere_indices(const TensorView& out, std::size_t replicas, std::size_t batch_size, std::size_t samples,
                    bool epochs, std::uint64_t seed, std::uint64_t first_step) {
  const auto values = out.cpu_vector<std::int64_t>();
  require(replicas > 0 && values.size % (replicas * batch_size) == 0, "out: has another size");
  require(!epochs || batch_size <= samples, "batch_size: more than there are samples");
  const std::uint64_t draws = values.size / replicas, first_draw = first_step * batch_size;
  const std::uint64_t per_epoch = draws_per_epoch(samples, batch_size);
  std::vector<std::uint64_t> permutation(epochs ? samples : 0);
  const PlainOrder order{permutation.data()};
  for (std::size_t replica = 0; replica < replicas; ++replica) {
    const std::uint64_t begin = epochs ? first_draw - first_draw % per_epoch : first_draw;
    for (std::uint64_t draw = begin; draw < first_draw + draws; ++draw) {
      const std::uint64_t word =
          random_words<std::uint64_t>(seed, Stream::batches, replica, draw_position(draw))
              .word[draw_word(draw)];
      std::uint64_t chosen;
      if (epochs) {
        const std::uint64_t place = draw % per_epoch;
        if (place == 0) begin_shuffle(order, samples);
        chosen = swap_to(order, place, shuffled_from(word, place, samples));
      } else {
        chosen = index_below(word, samples);
      }
      if (draw >= first_draw) {
        values.data[replica * draws + draw - first_draw] = static_cast<std::int64_t>(chosen);
      }
    }
  }
}

void sphere_normals(const TensorView& out, std::size_t replicas, std::size_t dim, bool start,
                    std::uint64_t seed, std::uint64_t first_step) {
  const Stream stream = start ? Stream::start : Stream::batches;
  const auto values = out.cpu_vector<double>();
  require(replicas > 0 && values.size % (replicas * dim) == 0, "out: has another size");
  const std::size_t steps = values.size / (replicas * dim), pairs = (dim + 1) / 2;
  for (std::size_t row = 0; row < replicas * steps; ++row) {
    const std::uint64_t step = first_step + row % steps;
    for (std::size_t pair = 0; pair < pairs; ++pair) {
      const auto words = random_words<std::uint64_t>(seed, stream, row / steps, step * pairs + pair);
      double normal[2];
      normal_pair(words, normal[0], normal[1]);
      for (std::size_t i = 0; i < 2 && 2 * pair + i < dim; ++i)
        values.data[row * dim + 2 * pair + i] = normal[i];
    }
  }
}

}  // namespace pythermo::cpu
