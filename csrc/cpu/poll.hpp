// Lets a long computation be stopped.
#pragma once

#include <atomic>
#include <chrono>
#include <thread>

#include "../keep_going.hpp"

namespace pythermo::cpu {

// Lets the calling thread ask a few times a second whether to go on, and tells all threads the answer.
class Poll {
 public:
  explicit Poll(const KeepGoing& ask) : ask_(ask) {}

  bool check() {
    if (std::this_thread::get_id() == caller_ && std::chrono::steady_clock::now() >= next_) {
      if (!ask_()) stopped_ = true;
      next_ = std::chrono::steady_clock::now() + interval;
    }
    return !stopped_;
  }

 private:
  static constexpr std::chrono::milliseconds interval{200};

  const KeepGoing& ask_;
  std::thread::id caller_ = std::this_thread::get_id();
  std::chrono::steady_clock::time_point next_ = std::chrono::steady_clock::now() + interval;
  std::atomic<bool> stopped_ = false;
};

}  // namespace pythermo::cpu
