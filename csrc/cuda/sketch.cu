#include "../sketch.hpp"
#include "launch.hpp"

namespace pythermo::cuda {
namespace {

constexpr unsigned threads = 256;

// One thread adds up one sum, in the order of the weights' rows.
template <class T>
__global__ void __launch_bounds__(threads) sketch_kernel(const T* weights, std::size_t size, double* sums,
                                                         std::size_t sum_count, std::uint64_t seed) {
  const std::size_t s = std::size_t{blockIdx.x} * threads + threadIdx.x;
  if (s >= sum_count) return;
  double sum = 0.0;
  for (std::size_t start = 0; start < size; start += sum_count) {
    const std::uint64_t shift = sketch_shift(seed, start / sum_count, sum_count);
    const std::size_t place = start + (s >= shift ? s - shift : s + sum_count - shift);
    if (place < size) sum += with_sign(weights[place], sketch_signs(seed, place), place);
  }
  sums[s] = sum;
}

template <class T>
void run(const TensorView& weights, const VectorView<double>& sums, std::uint64_t seed,
         std::uintptr_t stream) {
  const VectorView<T> w = device_vector<T>(weights);
  launch({"sketch", (sums.size + threads - 1) / threads, threads}, reinterpret_cast<cudaStream_t>(stream),
         &sketch_kernel<T>, w.data, w.size, sums.data, sums.size, seed);
}

}  // namespace

void sketch(const TensorView& weights, const TensorView& out, std::uint64_t seed, std::uintptr_t stream) {
  const VectorView<double> sums = device_vector<double>(out);
  if (sums.size == 0) throw std::invalid_argument("out: must not be empty");
  if (weights.scalar_type() == ScalarType::float32) {
    run<float>(weights, sums, seed, stream);
  } else {
    run<double>(weights, sums, seed, stream);
  }
}

}  // namespace pythermo::cuda
