#include "thread_pool.hpp"

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

namespace pythermo::cpu {
namespace {

// A worker spins this often before it sleeps: about as long as waking it would take.
constexpr int spins_before_sleep = 1000;

inline void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

struct Job {
  std::size_t count;
  int parts;
  detail::RangeFunction function;
  const void* body;

  void run_part(int part) const {
    const auto bound = [&](int p) { return count * static_cast<std::size_t>(p) / parts; };
    if (bound(part) < bound(part + 1)) function(body, bound(part), bound(part + 1));
  }
};

class ThreadPool {
 public:
  // False when the pool is busy with another caller's job.
  bool try_run(const Job& job) {
    if (busy_.exchange(true)) return false;
    while (static_cast<int>(workers_.size()) < job.parts - 1) {
      const int part = static_cast<int>(workers_.size()) + 1;
      workers_.emplace_back([this, part, seen = generation_.load()] { work(part, seen); });
    }
    {
      const std::lock_guard lock(mutex_);
      job_ = job;
      unfinished_.store(static_cast<int>(workers_.size()));
      generation_.fetch_add(1);
    }
    wake_.notify_all();
    job.run_part(0);
    for (int spin = 0; unfinished_.load() != 0 && spin < spins_before_sleep; ++spin) pause();
    if (unfinished_.load() != 0) {
      std::unique_lock lock(mutex_);
      done_.wait(lock, [this] { return unfinished_.load() == 0; });
    }
    busy_.store(false);
    return true;
  }

 private:
  void work(int part, unsigned seen) {
    while (true) {
      for (int spin = 0; generation_.load() == seen && spin < spins_before_sleep; ++spin) pause();
      Job job;
      {
        std::unique_lock lock(mutex_);
        wake_.wait(lock, [&] { return generation_.load() != seen; });
        seen = generation_.load();
        job = job_;
      }
      if (part < job.parts) job.run_part(part);
      if (unfinished_.fetch_sub(1) == 1) {
        const std::lock_guard lock(mutex_);
        done_.notify_one();
      }
    }
  }

  std::atomic<bool> busy_{false};
  std::mutex mutex_;
  std::condition_variable wake_, done_;
  std::atomic<unsigned> generation_{0};
  std::atomic<int> unfinished_{0};
  Job job_{};
  std::vector<std::thread> workers_;
};

// Lives until the process ends: its threads may not outlive it.
ThreadPool* pool = nullptr;
std::once_flag fork_handler_once;

ThreadPool& shared_pool() {
  static std::mutex making;
  const std::lock_guard lock(making);
  if (pool == nullptr) pool = new ThreadPool;
  // A forked child has none of the threads: it forgets the pool (leaking it) and makes its own.
  std::call_once(fork_handler_once, [] { pthread_atfork(nullptr, nullptr, [] { pool = nullptr; }); });
  return *pool;
}

}  // namespace

void detail::run_in_parts(std::size_t count, int threads, RangeFunction function, const void* body) {
  const int parts = static_cast<int>(std::min<std::size_t>(std::max(threads, 1), count));
  if (parts > 1 && shared_pool().try_run({count, parts, function, body})) return;
  if (count > 0) function(body, 0, count);
}

}  // namespace pythermo::cpu
