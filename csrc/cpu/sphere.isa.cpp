#include "lanes.hpp"
// The vectors' primitives come first: random.hpp and sphere.hpp look them up where they are defined.
#include "sphere_loops.hpp"

namespace pythermo::cpu::PYTHERMO_ISA {
namespace {

using sphere::Protocol, sphere::extent, sphere::Measured;

// Samples up to this number are looked up by selections, which is cheaper than loads lane by lane.
constexpr std::size_t few_samples = 8;

// Steps between two questions whether to go on.
constexpr std::uint64_t slice = 8192;

// Vectors of chains that advance together: while one waits for its divisions, the others compute.
template <int D>
constexpr std::size_t pack_vectors = D > 0 ? 4 : 1;

template <class T, int D>
PYTHERMO_INLINE void look_up(const T* table, std::size_t samples, Words index, Lanes<T>* x, std::size_t dim) {
  if (D > 0 && samples <= few_samples) {
    for (std::size_t d = 0; d < extent<D>(dim); ++d) x[d] = Lanes<T>{} + table[d * samples];
    for (std::size_t i = 1; i < samples; ++i) {
      const Mask here = index == i;
      for (std::size_t d = 0; d < extent<D>(dim); ++d) {
        x[d] = select(here, Lanes<T>{} + table[d * samples + i], x[d]);
      }
    }
    return;
  }
  for (std::size_t d = 0; d < extent<D>(dim); ++d) {
    Lanes<T> found{};
    for (std::size_t l = 0; l < lane_count; ++l) found[l] = table[d * samples + index[l]];
    x[d] = found;
  }
}

// Samples drawn with replacement: the words of one position serve four draws.
template <std::size_t K>
struct IidDraws {
  std::uint64_t seed, samples;
  const Words* replica;
  RandomWords<Words> words[K];
  std::uint64_t position = ~std::uint64_t{0};

  PYTHERMO_INLINE void prepare(std::uint64_t draw) {
    if (draw >> 2 == position) return;
    position = draw >> 2;
    for (std::size_t k = 0; k < K; ++k) {
      words[k] = random_words(seed, Stream::batches, replica[k], position);
    }
  }

  PYTHERMO_INLINE Words index(std::size_t k, std::uint64_t draw) {
    return index_below(words[k].word[draw & 3], samples);
  }
};

// Samples of a random permutation per epoch, made as it is used (Fisher and Yates): the draw at place j of
// an epoch swaps it with a place from j on. What does not fill a last batch is left out.
template <std::size_t K>
struct EpochDraws {
  IidDraws<K> random;
  std::uint64_t per_epoch;
  Words* order;  // [K * samples]
  std::uint64_t next = ~std::uint64_t{0};

  PYTHERMO_INLINE void prepare(std::uint64_t draw) {
    const std::uint64_t place = draw % per_epoch;
    if (draw != next || place == 0) restart(draw - place, draw);
    next = draw + 1;
    random.prepare(draw);
  }

  PYTHERMO_INLINE Words index(std::size_t k, std::uint64_t draw) {
    const std::uint64_t place = draw % per_epoch;
    Words* own = order + k * random.samples;
    const Words from = index_below(random.words[k].word[draw & 3], random.samples - place) + place;
    for (std::size_t l = 0; l < lane_count; ++l) {
      const std::uint64_t chosen = own[from[l]][l];
      own[from[l]][l] = own[place][l];
      own[place][l] = chosen;
    }
    return own[place];
  }

  // Makes the permutation anew up to a place in the middle of an epoch.
  void restart(std::uint64_t first, std::uint64_t draw) {
    for (std::size_t k = 0; k < K; ++k) {
      for (std::uint64_t i = 0; i < random.samples; ++i) order[k * random.samples + i] = Words{} + i;
    }
    for (std::uint64_t past = first; past < draw; ++past) {
      random.prepare(past);
      for (std::size_t k = 0; k < K; ++k) index(k, past);
    }
  }
};

// Gradients of batches: the mean of 2 <x, u> x, of which `radial` is the part along u.
template <class T, int D, std::size_t K, class Draws>
struct QuadraticGradients {
  sphere::Quadratics<T> system;
  std::uint64_t batch_size;
  Draws draws;
  Lanes<T>* sample;  // scratch [dim]

  PYTHERMO_INLINE void operator()(std::uint64_t step, const Lanes<T>* direction, Lanes<T>* y,
                                  Lanes<T>* radial) {
    const std::size_t dim = extent<D>(system.dim);
    const T factor = T{2} / static_cast<T>(batch_size);
    for (std::size_t k = 0; k < K; ++k) {
      radial[k] = Lanes<T>{};
      for (std::size_t d = 0; d < dim; ++d) y[k * dim + d] = Lanes<T>{};
    }
    for (std::uint64_t b = 0; b < batch_size; ++b) {
      const std::uint64_t draw = step * batch_size + b;
      draws.prepare(draw);
      for (std::size_t k = 0; k < K; ++k) {
        Lanes<T> local[D > 0 ? D : 1];
        Lanes<T>* x = D > 0 ? local : sample;
        look_up<T, D>(system.table, system.samples, draws.index(k, draw), x, dim);
        const Lanes<T> a = sphere::dot<D>(x, direction + k * dim, dim);
        const Lanes<T> scaled = factor * a;
        radial[k] += scaled * a;
        for (std::size_t d = 0; d < dim; ++d) y[k * dim + d] += scaled * x[d];
      }
    }
  }
};

// The gradient (0, ..., 0, 1) of the loss and its noise.
template <class T, int D, std::size_t K>
struct NoisyGradients {
  sphere::IsotropicNoise<T> system;
  std::uint64_t seed;
  const Words* replica;

  PYTHERMO_INLINE void operator()(std::uint64_t step, const Lanes<T>* direction, Lanes<T>* y,
                                  Lanes<T>* radial) {
    const std::size_t dim = extent<D>(system.dim), pairs = (dim + 1) / 2;
    for (std::size_t k = 0; k < K; ++k) {
      for (std::size_t pair = 0; pair < pairs; ++pair) {
        const auto words = random_words(seed, Stream::batches, replica[k], step * pairs + pair);
        Doubles first, second;
        normal_pair(words, first, second);
        Lanes<T> noise;
        from_double(first, noise);
        y[k * dim + 2 * pair] = system.sigma * noise;
        from_double(second, noise);
        if (2 * pair + 1 < dim) y[k * dim + 2 * pair + 1] = system.sigma * noise;
      }
      y[k * dim + dim - 1] += T{1};
      radial[k] = sphere::dot<D>(y + k * dim, direction + k * dim, dim);
    }
  }
};

// Moves K vectors of chains from one step to another.
template <class T, int D, std::size_t K, Protocol protocol, class Gradients>
void advance(const SphereJob<T>& job, std::uint64_t from, std::uint64_t to, const Lanes<T>* lr,
             Gradients& gradients, Lanes<T>* weights, Lanes<T>* scratch) {
  constexpr bool free = protocol == Protocol::fixed_lr;
  constexpr std::size_t held = D > 0 ? K * D : 1;
  const std::size_t dim = extent<D>(job.dim);
  Lanes<T> own_w[held], own_y[held], own_direction[free ? held : 1], radial[K], radius[K];
  Lanes<T>* w = D > 0 ? own_w : weights;
  Lanes<T>* y = D > 0 ? own_y : scratch;
  Lanes<T>* direction = free ? (D > 0 ? own_direction : scratch + K * dim) : w;
  if constexpr (D > 0) {
    for (std::size_t i = 0; i < held; ++i) w[i] = weights[i];
  }
  const bool effective = job.protocol == Protocol::fixed_elr;
  for (std::uint64_t step = from; step < to; ++step) {
    if constexpr (free) {
      for (std::size_t k = 0; k < K; ++k) {
        radius[k] = square_root(sphere::dot<D>(w + k * dim, w + k * dim, dim));
        const Lanes<T> inverse = 1 / radius[k];
        for (std::size_t d = 0; d < dim; ++d) direction[k * dim + d] = w[k * dim + d] * inverse;
      }
    }
    gradients(step, direction, y, radial);
    for (std::size_t k = 0; k < K; ++k) {
      Lanes<T>* const own = w + k * dim;
      if constexpr (protocol == Protocol::projection) {
        sphere::move_by_projection<D>(own, y + k * dim, radial[k], lr[k], dim);
      } else if constexpr (protocol == Protocol::exponential) {
        sphere::move_by_exponential<D>(own, y + k * dim, radial[k], lr[k], dim);
      } else {
        sphere::move_in_full_space<D>(own, direction + k * dim, y + k * dim, radial[k], radius[k], lr[k],
                                      job.weight_decay, effective, dim);
      }
    }
  }
  if constexpr (D > 0) {
    for (std::size_t i = 0; i < held; ++i) weights[i] = w[i];
  }
}

// Chains side by side: their weights in lanes, and where their results go.
template <class T, int D, std::size_t K>
struct Pack {
  const SphereJob<T>& job;
  std::size_t first, count;  // chains
  Lanes<T>* weights;         // [K * dim]
  Lanes<T>* direction;       // scratch [dim]
  Lanes<T>* scratch;         // [dim]
  Lanes<T> lr[K];
  Words replica[K];
  Doubles mean[K], squares[K];  // of the window's losses

  std::size_t dim() const { return extent<D>(job.dim); }

  void load() {
    for (std::size_t lane = 0; lane < K * lane_count; ++lane) {
      const std::size_t chain = first + (lane < count ? lane : count - 1);
      const std::size_t k = lane / lane_count, l = lane % lane_count;
      lr[k][l] = job.lr[chain];
      replica[k][l] = static_cast<std::uint64_t>(job.replica[chain]);
      mean[k][l] = squares[k][l] = 0;
      for (std::size_t d = 0; d < dim(); ++d) weights[k * dim() + d][l] = job.weights[chain * dim() + d];
    }
  }

  // Calls write(chain, k, l) for each chain.
  template <class Write>
  PYTHERMO_INLINE void each_chain(const Write& write) const {
    for (std::size_t lane = 0; lane < count; ++lane) {
      write(first + lane, lane / lane_count, lane % lane_count);
    }
  }

  void write_weights(T* target, std::size_t rows, std::size_t row) const {
    each_chain([&](std::size_t chain, std::size_t k, std::size_t l) {
      for (std::size_t d = 0; d < dim(); ++d) {
        target[(chain * rows + row) * dim() + d] = weights[k * dim() + d][l];
      }
    });
  }

  PYTHERMO_INLINE Lanes<T> find_direction(std::size_t k) {
    const Lanes<T>* w = weights + k * dim();
    const Lanes<T> inverse = 1 / square_root(sphere::dot<D>(w, w, dim()));
    const bool free = job.protocol == Protocol::fixed_lr || job.protocol == Protocol::fixed_elr;
    for (std::size_t d = 0; d < dim(); ++d) direction[d] = free ? w[d] * inverse : w[d];
    return free ? inverse : Lanes<T>{} + 1;
  }

  template <class System>
  void measure(const System& system, std::size_t row) {
    for (std::size_t k = 0; k < K; ++k) {
      const Lanes<T> inverse_radius = find_direction(k);
      const Measured<Lanes<T>> found = system.template measure<D>(direction, inverse_radius, scratch);
      const auto write = [&](double* target, Lanes<T> values) {
        if (target == nullptr) return;
        for (std::size_t l = 0; l < lane_count && k * lane_count + l < count; ++l) {
          target[(first + k * lane_count + l) * job.measured + row] = values[l];
        }
      };
      write(job.loss, found.loss);
      write(job.full_grad_norm, found.full_grad_norm);
      write(job.mean_grad_norm, found.mean_grad_norm);
      write(job.snr, found.snr);
    }
    if (job.weights_at != nullptr) write_weights(job.weights_at, job.measured, row);
  }

  template <class System>
  void sample_window(const System& system, std::size_t row) {
    for (std::size_t k = 0; k < K; ++k) {
      find_direction(k);
      const Doubles loss = to_double(system.template loss<D>(direction));
      const Doubles apart = loss - mean[k];
      mean[k] += apart / static_cast<double>(row + 1);
      squares[k] += apart * (loss - mean[k]);
      if (job.window_loss == nullptr) continue;
      for (std::size_t l = 0; l < lane_count && k * lane_count + l < count; ++l) {
        job.window_loss[(first + k * lane_count + l) * job.window + row] = loss[l];
      }
    }
    if (job.trajectory != nullptr) write_weights(job.trajectory, job.window, row);
  }

  void finish() const {
    write_weights(job.weights, 1, 0);
    if (job.window == 0) return;
    each_chain([&](std::size_t chain, std::size_t k, std::size_t l) {
      job.window_mean[chain] = mean[k][l];
      job.window_variance[chain] = squares[k][l] / static_cast<double>(job.window);
    });
  }
};

template <class T, int D, std::size_t K, Protocol protocol, class Gradients>
bool run(Pack<T, D, K>& pack, Gradients& gradients, Lanes<T>* scratch) {
  const SphereJob<T>& job = pack.job;
  std::size_t row = 0, sample = 0;
  for (std::uint64_t step = job.first_step;;) {
    if (row < job.measured && step == static_cast<std::uint64_t>(job.measure_at[row])) {
      pack.measure(gradients.system, row++);
    }
    std::uint64_t window_at = ~std::uint64_t{0};
    if (sample < job.window) window_at = job.last_step - (job.window - 1 - sample) * job.stride;
    if (step == window_at) {
      pack.sample_window(gradients.system, sample++);
      if (sample < job.window) window_at += job.stride;
    }
    if (step == job.last_step) break;

    std::uint64_t next = step + slice;
    const auto not_beyond = [&next](std::uint64_t event) { next = event < next ? event : next; };
    not_beyond(job.last_step);
    if (row < job.measured) not_beyond(static_cast<std::uint64_t>(job.measure_at[row]));
    if (sample < job.window) not_beyond(window_at);
    advance<T, D, K, protocol>(job, step, next, pack.lr, gradients, pack.weights, scratch);
    step = next;
    if (!job.keep_going(job.keep_going_context)) return false;
  }
  pack.finish();
  return true;
}

template <class T, int D, std::size_t K, class Gradients>
bool run_by_protocol(Pack<T, D, K>& pack, Gradients& gradients, Lanes<T>* scratch) {
  switch (pack.job.protocol) {
    case Protocol::projection:
      return run<T, D, K, Protocol::projection>(pack, gradients, scratch);
    case Protocol::exponential:
      return run<T, D, K, Protocol::exponential>(pack, gradients, scratch);
    default:
      return run<T, D, K, Protocol::fixed_lr>(pack, gradients, scratch);
  }
}

// Scratch of a pack: the weights, gradients and directions of its vectors, three vectors [dim], and the
// epochs' permutations.
template <class T, int D>
std::size_t scratch_vectors(const SphereJob<T>& job) {
  return 3 * pack_vectors<D> * job.dim + 3 * job.dim + (job.epochs ? pack_vectors<D> * job.samples : 0);
}

template <class T, int D>
bool run_packs(const SphereJob<T>& job, std::size_t first, std::size_t last, std::byte* scratch) {
  constexpr std::size_t K = pack_vectors<D>;
  auto* free = reinterpret_cast<Words*>(scratch);
  const auto take = [&free](std::size_t vectors) {
    auto* taken = reinterpret_cast<Lanes<T>*>(free);
    free += vectors;
    return taken;
  };
  Lanes<T>* const weights = take(K * job.dim);
  Lanes<T>* const moving = take(2 * K * job.dim);
  Lanes<T>*const direction = take(job.dim), *const measuring = take(job.dim), *const sample = take(job.dim);

  for (std::size_t chain = first; chain < last; chain += K * lane_count) {
    const std::size_t left = last - chain;
    Pack<T, D, K> pack{
        job, chain, left < K * lane_count ? left : K * lane_count, weights, direction, measuring, {}, {},
        {},  {}};
    pack.load();
    bool finished;
    if (job.samples == 0) {
      NoisyGradients<T, D, K> gradients{{job.dim, job.sigma}, job.seed, pack.replica};
      finished = run_by_protocol(pack, gradients, moving);
    } else {
      const sphere::Quadratics<T> system{job.table, job.samples, job.dim};
      IidDraws<K> iid{job.seed, job.samples, pack.replica, {}};
      if (job.epochs) {
        const std::uint64_t per_epoch = job.samples / job.batch_size * job.batch_size;
        QuadraticGradients<T, D, K, EpochDraws<K>> gradients{
            system, job.batch_size, {iid, per_epoch, free}, sample};
        finished = run_by_protocol(pack, gradients, moving);
      } else {
        QuadraticGradients<T, D, K, IidDraws<K>> gradients{system, job.batch_size, iid, sample};
        finished = run_by_protocol(pack, gradients, moving);
      }
    }
    if (!finished) return false;
  }
  return true;
}

}  // namespace

template <class T>
std::size_t sphere_scratch_bytes(const SphereJob<T>& job) {
  const std::size_t vectors = job.dim <= 4 ? scratch_vectors<T, 4>(job) : scratch_vectors<T, 0>(job);
  return vectors * sizeof(Words);
}

template <class T>
bool simulate_chains(const SphereJob<T>& job, std::size_t first, std::size_t last, std::byte* scratch) {
  switch (job.dim) {
    case 2:
      return run_packs<T, 2>(job, first, last, scratch);
    case 3:
      return run_packs<T, 3>(job, first, last, scratch);
    case 4:
      return run_packs<T, 4>(job, first, last, scratch);
    default:
      return run_packs<T, 0>(job, first, last, scratch);
  }
}

template std::size_t sphere_scratch_bytes<float>(const SphereJob<float>&);
template std::size_t sphere_scratch_bytes<double>(const SphereJob<double>&);
template bool simulate_chains<float>(const SphereJob<float>&, std::size_t, std::size_t, std::byte*);
template bool simulate_chains<double>(const SphereJob<double>&, std::size_t, std::size_t, std::byte*);

}  // namespace pythermo::cpu::PYTHERMO_ISA
