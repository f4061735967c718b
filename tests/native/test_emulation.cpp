// The emulation of CUDA must be able to fail: kernels with planted faults, and the same without.
#include <cmath>
#include <cstring>

#include "cuda/launch.hpp"
#include "cuda/warp.cuh"
#include "testing.hpp"
#if defined(__SANITIZE_ADDRESS__)
#include <sys/wait.h>
#include <unistd.h>
#endif
#include <cooperative_groups.h>
#include <cuda_pipeline_primitives.h>

using namespace pythermo;
using namespace pythermo::cuda;

namespace {

constexpr std::uint64_t schedules[] = {emulation::forward, emulation::backward, 2, 3};

// Runs a kernel in each order of turns; returns the first error, or whether all results were right.
template <class... Parameters, class... Arguments>
std::string run(const LaunchShape& shape, bool cooperative, void (*kernel)(Parameters...),
                std::vector<float>& out, const std::vector<float>& expected, Arguments... arguments) {
  for (const std::uint64_t schedule : schedules) {
    emulation::set_schedule(schedule);
    out.assign(out.size(), -1.0f);
    try {
      if (cooperative) {
        launch_cooperative(shape, nullptr, kernel, out.data(), arguments...);
      } else {
        launch(shape, nullptr, kernel, out.data(), arguments...);
      }
    } catch (const std::exception& error) {
      return error.what();
    }
    for (std::size_t i = 0; i < out.size(); ++i) {
      if (!(out[i] == expected[i])) return "wrong result";
    }
  }
  return "right";
}

void expect(const std::string& found, const std::string& part, const char* what) {
  check(found.find(part) != std::string::npos, std::string(what) + ": " + found);
}

// --- a sum over a block by halving, in shared memory
// ---------------------------------------------------------

template <bool barrier_before_reading, bool barrier_between>
__global__ void halving(float* out) {
  float* const shared = shared_memory<float>();
  shared[threadIdx.x] = static_cast<float>(threadIdx.x);
  if (barrier_before_reading) __syncthreads();
  for (unsigned half = blockDim.x / 2; half > 0; half /= 2) {
    if (threadIdx.x < half) shared[threadIdx.x] += shared[threadIdx.x + half];
    if (barrier_between) __syncthreads();
  }
  if (threadIdx.x == 0) out[blockIdx.x] = shared[0];
}

void barriers() {
  std::vector<float> out(3), sums(3, 64.0f * 63.0f / 2.0f);
  const LaunchShape shape{"halving", 3, 64, 64 * sizeof(float)};
  expect(run(shape, false, &halving<true, true>, out, sums), "right", "a sum with all barriers");
  expect(run(shape, false, &halving<false, true>, out, sums), "wrong", "no barrier before reading");
  expect(run(shape, false, &halving<true, false>, out, sums), "wrong", "no barrier between halvings");
}

template <bool all_come>
__global__ void divergent_barrier(float* out) {
  if (all_come || threadIdx.x < 32) {
    __syncthreads();
  } else {
    __syncwarp();
    __shfl_sync(all_lanes, 1, 0);
    cooperative_groups::this_grid().sync();
  }
  out[threadIdx.x] = 1.0f;
}

void barriers_that_not_all_reach() {
  std::vector<float> out(64), ones(64, 1.0f);
  const LaunchShape shape{"divergent_barrier", 1, 64};
  expect(run(shape, false, &divergent_barrier<true>, out, ones), "right", "a barrier that all reach");
  expect(run(shape, true, &divergent_barrier<false>, out, ones), "waits at a barrier to which others do not",
         "a barrier that half of the block reaches");
}

// --- warps
// --------------------------------------------------------------------------------------------------

template <unsigned mask, unsigned callers>
__global__ void warp_total(float* out) {
  if ((callers >> threadIdx.x & 1u) == 0) return;
  float value = static_cast<float>(threadIdx.x);
  for (int bits = 1; bits < 32; bits *= 2) value += __shfl_xor_sync(mask, value, bits);
  out[threadIdx.x] = value;
}

void masks() {
  std::vector<float> out(32), sums(32, 496.0f);
  const LaunchShape shape{"warp_total", 1, 32};
  expect(run(shape, false, &warp_total<all_lanes, all_lanes>, out, sums), "right", "a full mask");
  expect(run(shape, false, &warp_total<0xffffu, all_lanes>, out, sums), "lacks its own lane", "half a mask");
  expect(run(shape, false, &warp_total<all_lanes, 0xffffu>, out, sums), "for lanes that do not come",
         "lanes that have returned");
}

__global__ void read_a_lane_outside_the_mask(float* out) {
  if (threadIdx.x < 16) out[threadIdx.x] = __shfl_sync(0xffffu, 1.0f, 20);
}

void lanes_outside_the_mask() {
  std::vector<float> out(16), ones(16, 1.0f);
  expect(run({"read_a_lane_outside_the_mask", 1, 32}, false, &read_a_lane_outside_the_mask, out, ones),
         "wrong", "the value of a lane outside the mask is not a number");
}

// --- shared memory, copies, the grid
// ----------------------------------------------------------------------------

template <int beyond>
__global__ void neighbor(float* out) {
  float* const shared = shared_memory<float>();
  shared[threadIdx.x] = 1.0f;
  __syncthreads();
  out[threadIdx.x] = shared[threadIdx.x + beyond];
}

__global__ void never_written(float* out) { out[threadIdx.x] = shared_memory<float>()[threadIdx.x]; }

void shared_memory_is_exact() {
  std::vector<float> out(32), ones(32, 1.0f);
  const LaunchShape shape{"neighbor", 1, 32, 32 * sizeof(float)};
  expect(run(shape, false, &neighbor<0>, out, ones), "right", "reads within shared memory");
  expect(run({"never_written", 1, 32, 32 * sizeof(float)}, false, &never_written, out, ones), "wrong",
         "shared memory that was never written is not a number");
#if defined(__SANITIZE_ADDRESS__)
  int pipe_ends[2];
  check(pipe(pipe_ends) == 0, "a pipe");
  const pid_t child = fork();
  if (child == 0) {
    dup2(pipe_ends[1], STDERR_FILENO);
    run(shape, false, &neighbor<1>, out, ones);
    _exit(0);
  }
  close(pipe_ends[1]);
  std::string said;
  char part[4096];
  for (ssize_t n; (n = read(pipe_ends[0], part, sizeof part)) > 0;)
    said.append(part, static_cast<std::size_t>(n));
  close(pipe_ends[0]);
  int status = 0;
  waitpid(child, &status, 0);
  check(!WIFEXITED(status) || WEXITSTATUS(status) != 0, "the sanitizer stops a read one beyond");
  expect(said, "heap-buffer-overflow", "what the sanitizer says of a read one beyond");
#else
  std::printf("not built with the address sanitizer: a read beyond shared memory was not tried\n");
#endif
}

template <bool wait>
__global__ void copied(float* out, const float* from) {
  float* const shared = shared_memory<float>();
  __pipeline_memcpy_async(shared + threadIdx.x, from + threadIdx.x, sizeof(float));
  __pipeline_commit();
  if (wait) __pipeline_wait_prior(0);
  __syncthreads();
  out[threadIdx.x] = shared[31 - threadIdx.x];
}

void copies() {
  std::vector<float> out(32), from(32, 7.0f), expected(32, 7.0f);
  const LaunchShape shape{"copied", 1, 32, 32 * sizeof(float)};
  const float* source = from.data();
  expect(run(shape, false, &copied<true>, out, expected, source), "right", "a copy that is waited for");
  expect(run(shape, false, &copied<false>, out, expected, source), "wrong", "a copy that is not");
}

__global__ void grid_total(float* out, float* parts) {
  parts[blockIdx.x] = static_cast<float>(blockIdx.x + 1);
  cooperative_groups::this_grid().sync();
  float sum = 0.0f;
  for (unsigned b = 0; b < gridDim.x; ++b) sum += parts[b];
  out[blockIdx.x] = sum;
}

void grids() {
  std::vector<float> out(5), parts(5), sums(5, 15.0f);
  const LaunchShape shape{"grid_total", 5, 1};
  float* const room = parts.data();
  expect(run(shape, true, &grid_total, out, sums, room), "right", "a barrier of the grid");
  expect(run(shape, false, &grid_total, out, sums, room), "not cooperative", "one in a common launch");
  expect(run({"grid_total", 5, 2000}, true, &grid_total, out, sums, room), "kernel grid_total (5 x 1 blocks",
         "a launch that CUDA refuses");
}

}  // namespace

int main() {
  barriers();
  barriers_that_not_all_reach();
  masks();
  lanes_outside_the_mask();
  shared_memory_is_exact();
  copies();
  grids();
  std::printf(failures == 0 ? "all passed\n" : "%d failed\n", failures);
  return failures == 0 ? 0 : 1;
}
