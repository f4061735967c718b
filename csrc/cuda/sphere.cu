#include <algorithm>
#include <type_traits>
#include <utility>

#include "../sphere_arrays.hpp"
#include "launch.hpp"
#include "sphere_chains.cuh"
#include "sphere_draws.cuh"

namespace pythermo::cuda {
namespace {

constexpr unsigned most_threads = 256;
constexpr std::size_t most_shared_bytes = 48 * 1024;  // what every device grants without being asked

// --- systems ----------------------------------------------------------------------------------------------

template <class Chain>
using Quadratics = sphere::Quadratics<typename Chain::Number, typename Chain::Space>;
template <class Chain>
using IsotropicNoise = sphere::IsotropicNoise<typename Chain::Number, typename Chain::Space>;

template <class System, class Chain, class T>
__device__ __forceinline__ System system_of(const Chain& chain, const SphereJob<T>& job,
                                            const SphereMemory<T>& memory) {
  if constexpr (std::is_same_v<System, IsotropicNoise<Chain>>) {
    return {chain.space, job.sigma};
  } else {
    return {chain.space, memory.table, job.samples};
  }
}

// --- gradients --------------------------------------------------------------------------------------------

template <class Chain, class Draws>
struct QuadraticGradients {
  Quadratics<Chain> system;
  std::uint64_t batch_size;
  Draws draws;

  template <class T>
  __device__ __forceinline__ QuadraticGradients(const SphereJob<T>& job, const SphereMemory<T>& memory,
                                                const Chain& chain, std::uint64_t from)
      : system(system_of<Quadratics<Chain>>(chain, job, memory)),
        batch_size(job.batch_size),
        draws(job, chain, from) {}

  // Leaves the gradient in chain.y and returns its part along the direction.
  template <class T>
  __device__ __forceinline__ T operator()(std::uint64_t step, Chain& chain, const T* direction) {
    const T factor = T{2} / static_cast<T>(batch_size);
    T radial = 0;
    for (const std::size_t d : chain.space) chain.y[d] = 0;
    for (std::uint64_t b = 0; b < batch_size; ++b) {
      const T* const x = chain.look_up(system, draws.index(chain, step * batch_size + b));
      system.add_gradient(x, direction, factor, &chain.y[0], radial);
    }
    return radial;
  }
};

template <class Chain>
struct NoisyGradients {
  IsotropicNoise<Chain> system;
  std::uint64_t seed, replica;

  template <class T>
  __device__ __forceinline__ NoisyGradients(const SphereJob<T>& job, const SphereMemory<T>& memory,
                                            const Chain& chain, std::uint64_t)
      : system(system_of<IsotropicNoise<Chain>>(chain, job, memory)),
        seed(job.seed),
        replica(static_cast<std::uint64_t>(job.replica[chain.index])) {}

  template <class T>
  __device__ __forceinline__ T operator()(std::uint64_t step, Chain& chain, const T* direction) {
    system.draw_gradient(seed, replica, step, &chain.y[0]);
    return sphere::dot(&chain.y[0], direction, chain.space);
  }
};

// --- kernels ----------------------------------------------------------------------------------------------

template <class Chain, class Gradients, class Move, class T>
__global__ void __launch_bounds__(most_threads, 1)
    advance_kernel(const SphereJob<T> job, const SphereMemory<T> memory, std::uint64_t from,
                   std::uint64_t to) {
  constexpr bool free = Move::in_full_space;
  if (Chain::own_index() >= job.chains) return;
  Chain chain(job, memory);
  Gradients gradients(job, memory, chain, from);
  const T lr = job.lr[chain.index];
  T *const w = &chain.w[0], *const y = &chain.y[0], *const direction = free ? &chain.direction[0] : w;
  for (std::uint64_t step = from; step < to; ++step) {
    T norm = 1;
    if constexpr (free) norm = sphere::find_direction(w, direction, chain.space);
    const T radial = gradients(step, chain, direction);
    Move::move(sphere::Position<T>{w, direction, y, norm, radial}, lr, job.weight_decay, chain.space);
  }
  for (const std::size_t d : chain.space) job.weights[chain.index * chain.space.size() + d] = w[d];
}

// Returns 1 / |w|; on the sphere, where that is 1 to rounding, 1.
template <class Chain, class T>
__device__ __forceinline__ T find_direction(const SphereJob<T>& job, Chain& chain) {
  T *const w = &chain.w[0], *const direction = &chain.direction[0];
  if (job.in_full_space) return 1 / sphere::find_direction(w, direction, chain.space);
  for (const std::size_t d : chain.space) direction[d] = w[d];
  return 1;
}

// The weights, as the row of a target [chains, rows, dim].
template <class Chain, class T>
__device__ __forceinline__ void write_weights(const Chain& chain, T* target, std::size_t rows,
                                              std::size_t row) {
  if (target == nullptr) return;
  T* const own = target + (chain.index * rows + row) * chain.space.size();
  for (const std::size_t d : chain.space) own[d] = chain.w[d];
}

template <class Chain, class System, class T>
__global__ void __launch_bounds__(most_threads, 1)
    measure_kernel(const SphereJob<T> job, const SphereMemory<T> memory, std::size_t row) {
  if (Chain::own_index() >= job.chains) return;
  Chain chain(job, memory);
  write_weights(chain, job.weights_at, job.measured, row);
  if (!job.measures_system()) return;
  const System system = system_of<System>(chain, job, memory);
  const T inverse_radius = find_direction(job, chain);
  const auto found = system.measure(&chain.direction[0], inverse_radius, &chain.y[0]);
  const auto write = [&](double* target, T value) {
    if (target != nullptr && chain.leads()) target[chain.index * job.measured + row] = value;
  };
  write(job.loss, found.loss);
  write(job.full_grad_norm, found.full_grad_norm);
  write(job.mean_grad_norm, found.mean_grad_norm);
  write(job.snr, found.snr);
}

// The moments lie in window_mean and window_variance until the last sample.
template <class Chain, class System, class T>
__global__ void __launch_bounds__(most_threads, 1)
    window_kernel(const SphereJob<T> job, const SphereMemory<T> memory, std::size_t row) {
  if (Chain::own_index() >= job.chains) return;
  Chain chain(job, memory);
  write_weights(chain, job.trajectory, job.window, row);
  const System system = system_of<System>(chain, job, memory);
  find_direction(job, chain);
  const double loss = system.loss(&chain.direction[0]);
  if (!chain.leads()) return;
  const std::size_t i = chain.index;
  sphere::Moments<double> moments{0.0, 0.0};
  if (row > 0) moments = {job.window_mean[i], job.window_variance[i]};
  moments.add(loss, row);
  job.window_mean[i] = moments.mean;
  const bool last = row + 1 == job.window;
  job.window_variance[i] = last ? moments.squares / static_cast<double>(job.window) : moments.squares;
  if (job.window_loss != nullptr) job.window_loss[i * job.window + row] = loss;
}

// From a table by coordinate to one by sample.
template <class T>
__global__ void transpose_kernel(const T* table, std::size_t samples, std::size_t dim, T* rows) {
  const std::size_t at = thread_of_grid();
  if (at < samples * dim) rows[at] = table[at % dim * samples + at / dim];
}

// --- the choice of kernels --------------------------------------------------------------------------------

template <class T>
struct SphereKernels {
  void (*advance)(SphereJob<T>, SphereMemory<T>, std::uint64_t, std::uint64_t);
  void (*measure)(SphereJob<T>, SphereMemory<T>, std::size_t);
  void (*sample_window)(SphereJob<T>, SphereMemory<T>, std::size_t);
  unsigned threads_per_chain;
};

template <class Chain, class System, class Gradients, class T>
SphereKernels<T> kernels_by_protocol(const SphereJob<T>& job) {
  SphereKernels<T> kernels{nullptr, &measure_kernel<Chain, System, T>, &window_kernel<Chain, System, T>,
                           Chain::threads};
  sphere::with_move(job.protocol, job.retraction,
                    [&]<class Move>(Move) { kernels.advance = &advance_kernel<Chain, Gradients, Move, T>; });
  return kernels;
}

template <class Chain, class T>
SphereKernels<T> kernels_by_system(const SphereJob<T>& job) {
  using System = Quadratics<Chain>;
  if (job.samples == 0) {
    return kernels_by_protocol<Chain, IsotropicNoise<Chain>, NoisyGradients<Chain>, T>(job);
  }
  if (job.epochs) {
    return kernels_by_protocol<Chain, System, QuadraticGradients<Chain, EpochDraws>, T>(job);
  }
  return kernels_by_protocol<Chain, System, QuadraticGradients<Chain, IidDraws>, T>(job);
}

constexpr std::size_t most_dims_per_thread = 4;

template <class T>
SphereKernels<T> kernels_for(const SphereJob<T>& job) {
  switch (job.dim) {
    case 2:
      return kernels_by_system<ThreadChain<T, 2>>(job);
    case 3:
      return kernels_by_system<ThreadChain<T, 3>>(job);
    case most_dims_per_thread:
      return kernels_by_system<ThreadChain<T, most_dims_per_thread>>(job);
    default:
      return kernels_by_system<WarpChain<T>>(job);
  }
}

// --- the host's side --------------------------------------------------------------------------------------

std::size_t divide_up(std::size_t a, std::size_t b) { return (a + b - 1) / b; }

// Of the vectors of a block's chains: 0 where they lie in registers, or do not fit into shared memory.
std::size_t shared_bytes(std::size_t dim, std::size_t element_bytes, unsigned threads) {
  if (dim <= most_dims_per_thread) return 0;
  const std::size_t bytes = threads / warp_threads * vectors_per_warp * dim * element_bytes;
  return bytes <= most_shared_bytes ? bytes : 0;
}

// Of float64 elements, one part after the other; 0 for what is not needed.
struct WorkspaceParts {
  std::size_t table = 0, vectors = 0, order = 0;

  WorkspaceParts(std::size_t dim, bool epochs, std::size_t chains, std::size_t samples,
                 std::size_t element_bytes, unsigned threads) {
    const auto elements = [](std::size_t bytes) { return divide_up(bytes, sizeof(double)); };
    if (dim > most_dims_per_thread) {
      table = elements(samples * dim * element_bytes);
      const bool shared = shared_bytes(dim, element_bytes, threads) > 0;
      if (!shared) vectors = elements(chains * vectors_per_warp * dim * element_bytes);
    }
    if (epochs) order = elements(chains * samples * sizeof(std::uint32_t));
  }
  std::size_t size() const { return table + vectors + order; }
};

template <class T>
class Simulation {
 public:
  Simulation(const SphereJob<T>& job, const SphereLaunch& launch)
      : job_(job),
        kernels_(kernels_for(job)),
        stream_(reinterpret_cast<cudaStream_t>(launch.stream)),
        threads_(launch.threads),
        most_work_(launch.most_work),
        shared_bytes_(shared_bytes(job.dim, sizeof(T), launch.threads)) {
    const WorkspaceParts parts(job.dim, job.epochs, job.chains, job.samples, sizeof(T), threads_);
    double* const workspace = device_array<double>(launch.workspace, parts.size());
    memory_.table = job.table;
    if (parts.table > 0) transpose_table(reinterpret_cast<T*>(workspace));
    if (parts.vectors > 0) memory_.vectors = reinterpret_cast<T*>(workspace + parts.table);
    if (parts.order > 0) {
      memory_.order = reinterpret_cast<std::uint32_t*>(workspace + parts.table + parts.vectors);
    }
    blocks_ = divide_up(job.chains * kernels_.threads_per_chain, threads_);
    const std::size_t together = blocks_at_once(kernels_.advance, threads_, shared_bytes_);
    turns_ = divide_up(blocks_, std::max<std::size_t>(together, 1));
  }

  // False if it was told not to go on.
  bool run(const KeepGoing& keep_going) {
    const std::size_t turn = turns_ * work_of_vector();
    const std::uint64_t most_steps = std::max<std::uint64_t>(most_work_ / (turn * job_.batch_size), 1);
    const bool finished = run_events(
        job_, most_steps,
        [&](std::size_t row) {
          work_ += job_.measures_system() ? 5 * turn * std::max<std::size_t>(job_.samples, 1) : turn;
          launch(shape("sphere_measure"), stream_, kernels_.measure, job_, memory_, row);
        },
        [&](std::size_t row) {
          work_ += turn * std::max<std::size_t>(job_.samples, 1);
          launch(shape("sphere_window"), stream_, kernels_.sample_window, job_, memory_, row);
        },
        [&](std::uint64_t from, std::uint64_t to) {
          work_ += (to - from) * turn * job_.batch_size;
          launch(shape("sphere_advance"), stream_, kernels_.advance, job_, memory_, from, to);
        },
        [&] {
          if (work_ < most_work_) return true;
          work_ = 0;
          wait();
          return keep_going();
        });
    wait();
    return finished;
  }

 private:
  LaunchShape shape(const char* name) const { return {name, blocks_, threads_, shared_bytes_}; }

  void wait() const { check(cudaStreamSynchronize(stream_), "the simulation's kernels"); }

  // A lane's share of the work with one vector, in units of one coordinate's.
  std::size_t work_of_vector() const { return divide_up(job_.dim, kernels_.threads_per_chain); }

  void transpose_table(T* rows) {
    const std::size_t blocks = divide_up(job_.samples * job_.dim, threads_);
    launch({"sphere_transpose", blocks, threads_}, stream_, &transpose_kernel<T>, job_.table, job_.samples,
           job_.dim, rows);
    memory_.table = rows;
  }

  SphereJob<T> job_;
  SphereKernels<T> kernels_;
  cudaStream_t stream_;
  unsigned threads_;
  std::uint64_t most_work_, work_ = 0;  // since the stream was waited for
  std::size_t shared_bytes_, blocks_ = 0, turns_ = 1;
  SphereMemory<T> memory_{};
};

template <class T>
void simulate(const SphereSettings& settings, const SphereArrays& arrays, const SphereLaunch& launch,
              const KeepGoing& keep_going) {
  const SphereJob<T> job = sphere_job<T>(settings, arrays, device_type);
  if (job.chains == 0) return;
  Simulation<T>(job, launch).run(keep_going);
}

}  // namespace

std::size_t sphere_workspace_size(const SphereSettings& settings, std::size_t chains, std::size_t samples,
                                  std::size_t element_bytes, unsigned threads) {
  return WorkspaceParts(settings.dim, settings.epochs, chains, samples, element_bytes, threads).size();
}

void simulate_sphere(const SphereSettings& settings, const SphereArrays& arrays, const SphereLaunch& launch,
                     const KeepGoing& keep_going) {
  require_threads(launch.threads, most_threads);
  if (arrays.weights.scalar_type() == ScalarType::float32) {
    simulate<float>(settings, arrays, launch, keep_going);
  } else {
    simulate<double>(settings, arrays, launch, keep_going);
  }
}

}  // namespace pythermo::cuda
