#include "lanes.hpp"
// The vectors' primitives come first: random.hpp and sphere.hpp look them up where they are defined.
#include "../sphere_job.hpp"

namespace pythermo::cpu::PYTHERMO_ISA {
namespace {

using sphere::Coordinates, sphere::Measured;

// Samples up to this number are looked up by selections, which is cheaper than loads lane by lane.
constexpr std::size_t few_samples = 8;

// Steps between two questions whether to go on.
constexpr std::uint64_t slice = 8192;

// Vectors of chains that advance together: while one waits for its divisions, the others compute.
template <int D>
constexpr std::size_t pack_vectors = D > 0 ? 4 : 1;

template <class T, int D>
using Quadratics = sphere::Quadratics<T, Coordinates<D>>;
template <class T, int D>
using IsotropicNoise = sphere::IsotropicNoise<T, Coordinates<D>>;

template <class T, int D>
PYTHERMO_INLINE void look_up(const Quadratics<T, D>& system, Words index, Lanes<T>* x) {
  if (D > 0 && system.samples <= few_samples) {
    for (const std::size_t d : system.space) x[d] = Lanes<T>{} + system.element(0, d);
    for (std::size_t i = 1; i < system.samples; ++i) {
      const Mask here = index == i;
      for (const std::size_t d : system.space) {
        x[d] = select(here, Lanes<T>{} + system.element(i, d), x[d]);
      }
    }
    return;
  }
  for (const std::size_t d : system.space) {
    Lanes<T> found{};
    for (std::size_t l = 0; l < lane_count; ++l) found[l] = system.element(index[l], d);
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
    if (draw_position(draw) == position) return;
    position = draw_position(draw);
    for (std::size_t k = 0; k < K; ++k) {
      words[k] = random_words(seed, Stream::batches, replica[k], position);
    }
  }

  PYTHERMO_INLINE Words index(std::size_t k, std::uint64_t draw) {
    return index_below(words[k].word[draw_word(draw)], samples);
  }
};

// The permutation of the chain in one lane.
struct LaneOrder {
  Words* order;
  std::size_t lane;

  PYTHERMO_INLINE std::uint64_t get(std::uint64_t i) const { return order[i][lane]; }
  PYTHERMO_INLINE void set(std::uint64_t i, std::uint64_t sample) const { order[i][lane] = sample; }
};

// Samples of a random permutation per epoch.
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
    const Words from = shuffled_from(random.words[k].word[draw_word(draw)], place, random.samples);
    for (std::size_t l = 0; l < lane_count; ++l) swap_to(LaneOrder{own, l}, place, from[l]);
    return own[place];
  }

  // Makes the permutation anew up to a place in the middle of an epoch.
  void restart(std::uint64_t first, std::uint64_t draw) {
    for (std::size_t k = 0; k < K; ++k) {
      for (std::size_t l = 0; l < lane_count; ++l) {
        begin_shuffle(LaneOrder{order + k * random.samples, l}, random.samples);
      }
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
  Quadratics<T, D> system;
  std::uint64_t batch_size;
  Draws draws;
  Lanes<T>* sample;  // scratch [dim]

  PYTHERMO_INLINE void operator()(std::uint64_t step, const Lanes<T>* direction, Lanes<T>* y,
                                  Lanes<T>* radial) {
    const std::size_t dim = system.space.size();
    const T factor = T{2} / static_cast<T>(batch_size);
    for (std::size_t k = 0; k < K; ++k) {
      radial[k] = Lanes<T>{};
      for (const std::size_t d : system.space) y[k * dim + d] = Lanes<T>{};
    }
    for (std::uint64_t b = 0; b < batch_size; ++b) {
      const std::uint64_t draw = step * batch_size + b;
      draws.prepare(draw);
      for (std::size_t k = 0; k < K; ++k) {
        Lanes<T> local[D > 0 ? D : 1];
        Lanes<T>* x = D > 0 ? local : sample;
        look_up<T, D>(system, draws.index(k, draw), x);
        system.add_gradient(x, direction + k * dim, factor, y + k * dim, radial[k]);
      }
    }
  }
};

// The gradient of the loss and its noise, of which `radial` is the part along the direction.
template <class T, int D, std::size_t K>
struct NoisyGradients {
  IsotropicNoise<T, D> system;
  std::uint64_t seed;
  const Words* replica;

  PYTHERMO_INLINE void operator()(std::uint64_t step, const Lanes<T>* direction, Lanes<T>* y,
                                  Lanes<T>* radial) {
    const std::size_t dim = system.space.size();
    for (std::size_t k = 0; k < K; ++k) {
      system.draw_gradient(seed, replica[k], step, y + k * dim);
      radial[k] = sphere::dot(y + k * dim, direction + k * dim, system.space);
    }
  }
};

// Moves K vectors of chains from one step to another.
template <class T, int D, std::size_t K, class Move, class Gradients>
void advance(const SphereJob<T>& job, std::uint64_t from, std::uint64_t to, const Lanes<T>* lr,
             Gradients& gradients, Lanes<T>* weights, Lanes<T>* scratch) {
  constexpr bool free = Move::in_full_space;
  constexpr std::size_t held = D > 0 ? K * D : 1;
  const Coordinates<D> space(job.dim);
  const std::size_t dim = space.size();
  Lanes<T> own_w[held], own_y[held], own_direction[free ? held : 1], radial[K], norm[K];
  Lanes<T>* w = D > 0 ? own_w : weights;
  Lanes<T>* y = D > 0 ? own_y : scratch;
  Lanes<T>* direction = free ? (D > 0 ? own_direction : scratch + K * dim) : w;
  if constexpr (D > 0) {
    for (std::size_t i = 0; i < held; ++i) w[i] = weights[i];
  }
  for (std::uint64_t step = from; step < to; ++step) {
    if constexpr (free) {
      for (std::size_t k = 0; k < K; ++k) {
        norm[k] = sphere::find_direction(w + k * dim, direction + k * dim, space);
      }
    }
    gradients(step, direction, y, radial);
    for (std::size_t k = 0; k < K; ++k) {
      const sphere::Position<Lanes<T>> at{w + k * dim, direction + k * dim, y + k * dim,
                                          free ? norm[k] : Lanes<T>{} + 1, radial[k]};
      Move::move(at, lr[k], job.weight_decay, space);
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
  sphere::Moments<Doubles> moments[K];  // of the window's losses

  Coordinates<D> space() const { return Coordinates<D>(job.dim); }
  std::size_t dim() const { return space().size(); }

  void load() {
    for (std::size_t lane = 0; lane < K * lane_count; ++lane) {
      const std::size_t chain = first + (lane < count ? lane : count - 1);
      const std::size_t k = lane / lane_count, l = lane % lane_count;
      lr[k][l] = job.lr[chain];
      replica[k][l] = static_cast<std::uint64_t>(job.replica[chain]);
      moments[k].mean[l] = moments[k].squares[l] = 0;
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

  // Returns 1 / |w|; on the sphere, where that is 1 to rounding, 1.
  PYTHERMO_INLINE Lanes<T> find_direction(std::size_t k) {
    const Lanes<T>* w = weights + k * dim();
    if (job.in_full_space) return 1 / sphere::find_direction(w, direction, space());
    for (const std::size_t d : space()) direction[d] = w[d];
    return Lanes<T>{} + 1;
  }

  template <class System>
  void measure(const System& system, std::size_t row) {
    for (std::size_t k = 0; k < K && job.measures_system(); ++k) {
      const Lanes<T> inverse_radius = find_direction(k);
      const Measured<Lanes<T>> found = system.measure(direction, inverse_radius, scratch);
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
      const Doubles loss = to_double(system.loss(direction));
      moments[k].add(loss, row);
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
      job.window_mean[chain] = moments[k].mean[l];
      job.window_variance[chain] = moments[k].squares[l] / static_cast<double>(job.window);
    });
  }
};

template <class Move, class T, int D, std::size_t K, class Gradients>
bool run(Pack<T, D, K>& pack, Gradients& gradients, Lanes<T>* scratch, const Question& go_on) {
  const bool finished = run_events(
      pack.job, slice, [&](std::size_t row) { pack.measure(gradients.system, row); },
      [&](std::size_t row) { pack.sample_window(gradients.system, row); },
      [&](std::uint64_t from, std::uint64_t to) {
        advance<T, D, K, Move>(pack.job, from, to, pack.lr, gradients, pack.weights, scratch);
      },
      [&] { return go_on.ask(go_on.context); });
  if (finished) pack.finish();
  return finished;
}

template <class T, int D, std::size_t K, class Gradients>
bool run_by_protocol(Pack<T, D, K>& pack, Gradients& gradients, Lanes<T>* scratch, const Question& go_on) {
  bool finished = false;
  sphere::with_move(pack.job.protocol, pack.job.retraction,
                    [&]<class Move>(Move) { finished = run<Move>(pack, gradients, scratch, go_on); });
  return finished;
}

// Scratch of a pack: the weights, gradients and directions of its vectors, three vectors [dim], and the
// epochs' permutations.
template <class T, int D>
std::size_t scratch_vectors(const SphereJob<T>& job) {
  return 3 * pack_vectors<D> * job.dim + 3 * job.dim + (job.epochs ? pack_vectors<D> * job.samples : 0);
}

template <class T, int D>
bool run_packs(const SphereJob<T>& job, std::size_t first, std::size_t last, std::byte* scratch,
               const Question& go_on) {
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
        job, chain, left < K * lane_count ? left : K * lane_count, weights, direction, measuring, {}, {}, {}};
    pack.load();
    bool finished;
    if (job.samples == 0) {
      NoisyGradients<T, D, K> gradients{{pack.space(), job.sigma}, job.seed, pack.replica};
      finished = run_by_protocol(pack, gradients, moving, go_on);
    } else {
      const Quadratics<T, D> system{pack.space(), job.table, job.samples};
      IidDraws<K> iid{job.seed, job.samples, pack.replica, {}};
      if (job.epochs) {
        QuadraticGradients<T, D, K, EpochDraws<K>> gradients{
            system, job.batch_size, {iid, job.draws_per_epoch(), free}, sample};
        finished = run_by_protocol(pack, gradients, moving, go_on);
      } else {
        QuadraticGradients<T, D, K, IidDraws<K>> gradients{system, job.batch_size, iid, sample};
        finished = run_by_protocol(pack, gradients, moving, go_on);
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
bool simulate_chains(const SphereJob<T>& job, std::size_t first, std::size_t last, std::byte* scratch,
                     const Question& go_on) {
  switch (job.dim) {
    case 2:
      return run_packs<T, 2>(job, first, last, scratch, go_on);
    case 3:
      return run_packs<T, 3>(job, first, last, scratch, go_on);
    case 4:
      return run_packs<T, 4>(job, first, last, scratch, go_on);
    default:
      return run_packs<T, 0>(job, first, last, scratch, go_on);
  }
}

template std::size_t sphere_scratch_bytes<float>(const SphereJob<float>&);
template std::size_t sphere_scratch_bytes<double>(const SphereJob<double>&);
template bool simulate_chains<float>(const SphereJob<float>&, std::size_t, std::size_t, std::byte*,
                                     const Question&);
template bool simulate_chains<double>(const SphereJob<double>&, std::size_t, std::size_t, std::byte*,
                                      const Question&);

}  // namespace pythermo::cpu::PYTHERMO_ISA
