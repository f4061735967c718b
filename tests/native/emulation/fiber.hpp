// A function that can be left in its middle and entered again there, on a stack of its own.
#pragma once

#include <cstddef>
#include <memory>
#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace emulation {

class Fiber {
 public:
  Fiber();

  void start(void (*entry)());
  void enter();   // from the scheduler into the fiber, until that calls leave()
  void arrive();  // called first thing in a fiber
  void leave(bool for_good);

 private:
  std::unique_ptr<std::byte[]> stack_;
#if defined(__x86_64__)
  void *top_ = nullptr, *outside_ = nullptr;
#else
  ucontext_t context_{}, outside_{};
#endif
#if defined(__SANITIZE_ADDRESS__)
  void* fake_ = nullptr;
  const void* outside_stack_ = nullptr;
  std::size_t outside_bytes_ = 0;
#endif
};

}  // namespace emulation
