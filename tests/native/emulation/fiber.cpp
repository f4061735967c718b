#include "fiber.hpp"

#include <algorithm>
#include <cstdint>
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

namespace emulation {
namespace {

#if defined(__x86_64__)
// Saves the registers that a function must keep and the stack pointer, and takes up another's. ucontext does
// the same with two system calls, twenty times as slowly.
extern "C" void pythermo_switch_stack(void** from, void* to);
asm(R"(
.text
.type pythermo_switch_stack, @function
pythermo_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size pythermo_switch_stack, .-pythermo_switch_stack
)");
#endif

constexpr std::size_t stack_bytes = 128 * 1024;

}  // namespace

Fiber::Fiber() : stack_(new std::byte[stack_bytes]) {}

void Fiber::start(void (*entry)()) {
#if defined(__x86_64__)
  auto top = (reinterpret_cast<std::uintptr_t>(stack_.get()) + stack_bytes) / 16 * 16;
  auto* words = reinterpret_cast<void**>(top) - 8;  // six registers, the entry, and what it would return to
  std::fill_n(words, 8, nullptr);
  words[6] = reinterpret_cast<void*>(entry);
  top_ = words;
#else
  getcontext(&context_);
  context_.uc_stack.ss_sp = stack_.get();
  context_.uc_stack.ss_size = stack_bytes;
  makecontext(&context_, entry, 0);
#endif
}

void Fiber::enter() {
#if defined(__SANITIZE_ADDRESS__)
  void* fake = nullptr;
  __sanitizer_start_switch_fiber(&fake, stack_.get(), stack_bytes);
#endif
#if defined(__x86_64__)
  pythermo_switch_stack(&outside_, top_);
#else
  swapcontext(&outside_, &context_);
#endif
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
#endif
}

void Fiber::arrive() {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(fake_, &outside_stack_, &outside_bytes_);
#endif
}

void Fiber::leave(bool for_good) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(for_good ? nullptr : &fake_, outside_stack_, outside_bytes_);
#else
  (void)for_good;
#endif
#if defined(__x86_64__)
  pythermo_switch_stack(&top_, outside_);
#else
  swapcontext(&context_, &outside_);
#endif
  arrive();
}

}  // namespace emulation
