#include "emulation.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <exception>
#include <memory>
#include <numeric>
#include <random>
#include <sstream>
#include <stdexcept>
#include <vector>

#include "fiber.hpp"

namespace emulation {
namespace {

enum class Wait { nothing, block, grid, warp, finished };

struct Block;

struct Thread {
  std::unique_ptr<Fiber> fiber;
  Identity identity;
  Block* block;
  unsigned index;  // within the block
  Wait wait;
  // of a warp operation
  unsigned mask, source;
  const char* operation;
  bool votes;
  std::uint64_t word;
  double left, right;  // what it brings to a product
  // of copies
  struct Copy {
    void* to;
    const void* from;
    std::size_t bytes;
  };
  std::vector<std::vector<Copy>> closed;
  std::vector<Copy> open;
};

struct Block {
  std::vector<Thread> threads;
  std::unique_ptr<std::byte[]> shared;
};

std::uint64_t schedule = forward, passed = 0;
int double_ratio = 64, most_shared = 100 * 1024;
bool all_at_once = false;  // a cooperative launch
std::mt19937_64 generator;
const std::function<void()>* running_kernel = nullptr;
Thread* current = nullptr;
std::string failure;
std::vector<std::unique_ptr<Fiber>> spare_fibers;

void run_thread() {
  current->fiber->arrive();
  try {
    (*running_kernel)();
  } catch (const std::exception& error) {
    failure = error.what();
  }
  current->wait = Wait::finished;
  current->fiber->leave(true);
}

void wait_for(Wait what) {
  current->wait = what;
  ++passed;
  current->fiber->leave(false);
}

std::vector<std::size_t> order_of_turns(std::size_t count) {
  std::vector<std::size_t> order(count);
  std::iota(order.begin(), order.end(), std::size_t{0});
  if (schedule == backward) std::reverse(order.begin(), order.end());
  if (schedule > backward) std::shuffle(order.begin(), order.end(), generator);
  return order;
}

std::string name_of(const Thread& thread) {
  std::ostringstream text;
  const auto& id = thread.identity;
  text << "thread " << thread.index << " of block (" << id.block.x << ", " << id.block.y << ")";
  return text.str();
}

// The lanes of a warp that are waiting for the same operation, if all of them have come; else 0.
unsigned complete_mask(const Block& block, unsigned first, const Thread& thread) {
  const unsigned mask = thread.mask;
  for (unsigned l = 0; l < warp_size; ++l) {
    if ((mask >> l & 1u) == 0) continue;
    if (first + l >= block.threads.size()) return 0;
    const Thread& other = block.threads[first + l];
    if (other.wait != Wait::warp || other.mask != mask) return 0;
    if (std::strcmp(other.operation, thread.operation) != 0) return 0;
  }
  return mask;
}

// Gives the lanes of a mask what they have come for.
void complete_operation(Block& block, unsigned first, unsigned mask) {
  std::uint64_t words[warp_size];
  unsigned votes = 0;
  for (unsigned l = 0; l < warp_size; ++l) {
    words[l] = ~std::uint64_t{0};  // of a lane that takes no part: not a number
    if ((mask >> l & 1u) == 0) continue;
    words[l] = block.threads[first + l].word;
    if (words[l] != 0) votes |= 1u << l;
  }
  for (unsigned l = 0; l < warp_size; ++l) {
    if ((mask >> l & 1u) == 0) continue;
    Thread& thread = block.threads[first + l];
    thread.word = thread.votes ? votes : words[thread.source];
    thread.wait = Wait::nothing;
  }
}

bool release_warps(Block& block) {
  bool released = false;
  for (unsigned first = 0; first < block.threads.size(); first += warp_size) {
    for (unsigned l = 0; l < warp_size && first + l < block.threads.size(); ++l) {
      const Thread& thread = block.threads[first + l];
      if (thread.wait != Wait::warp) continue;
      const unsigned mask = complete_mask(block, first, thread);
      if (mask == 0) continue;
      complete_operation(block, first, mask);
      released = true;
    }
  }
  return released;
}

// Lets the threads go on that wait for a barrier to which all have come but those that have returned.
bool release_barrier(const std::vector<Thread*>& threads, Wait barrier) {
  bool some = false;
  for (const Thread* thread : threads) {
    if (thread->wait == barrier)
      some = true;
    else if (thread->wait != Wait::finished)
      return false;
  }
  for (Thread* thread : threads) {
    if (thread->wait == barrier) thread->wait = Wait::nothing;
  }
  return some;
}

std::string describe_deadlock(const std::vector<Thread*>& threads) {
  for (const Thread* thread : threads) {
    if (thread->wait == Wait::warp) {
      std::ostringstream text;
      text << name_of(*thread) << " waits at " << thread->operation << " with the mask 0x" << std::hex
           << thread->mask << " for lanes that do not come";
      return text.str();
    }
  }
  for (const Thread* thread : threads) {
    if (thread->wait == Wait::block || thread->wait == Wait::grid) {
      return name_of(*thread) + " waits at a barrier to which others do not come";
    }
  }
  return "threads wait for nothing";
}

void take_turns(std::vector<Block>& blocks) {
  std::vector<Thread*> all;
  for (Block& block : blocks) {
    for (Thread& thread : block.threads) all.push_back(&thread);
  }
  const auto of_block = [](Block& block) {
    std::vector<Thread*> threads;
    for (Thread& thread : block.threads) threads.push_back(&thread);
    return threads;
  };
  for (;;) {
    bool ran = false;
    for (const std::size_t i : order_of_turns(all.size())) {
      if (all[i]->wait != Wait::nothing) continue;
      current = all[i];
      current->fiber->enter();
      current = nullptr;
      ran = true;
      if (!failure.empty()) return;
    }
    bool released = false;
    for (Block& block : blocks) {
      released |= release_warps(block);
      released |= release_barrier(of_block(block), Wait::block);
    }
    if (!released) released = release_barrier(all, Wait::grid);
    if (ran || released) continue;
    const bool finished =
        std::all_of(all.begin(), all.end(), [](const Thread* t) { return t->wait == Wait::finished; });
    if (!finished) failure = describe_deadlock(all);
    return;
  }
}

Block make_block(dim3 index, dim3 grid, dim3 size, std::size_t shared_bytes) {
  Block block;
  block.shared.reset(new std::byte[shared_bytes]);
  std::memset(block.shared.get(), 0xff, shared_bytes);
  block.threads.resize(std::size_t{size.x} * size.y * size.z);
  for (unsigned t = 0; t < block.threads.size(); ++t) {
    Thread& thread = block.threads[t];
    thread.identity = {{t % size.x, t / size.x % size.y, t / (size.x * size.y)}, index, size, grid};
    thread.index = t;
    thread.wait = Wait::nothing;
    if (spare_fibers.empty()) spare_fibers.push_back(std::make_unique<Fiber>());
    thread.fiber = std::move(spare_fibers.back());
    spare_fibers.pop_back();
    thread.fiber->start(&run_thread);
  }
  return block;
}

void run_blocks(std::vector<Block>& blocks) {
  for (Block& block : blocks) {
    for (Thread& thread : block.threads) thread.block = &block;
  }
  take_turns(blocks);
  for (Block& block : blocks) {
    for (Thread& thread : block.threads) spare_fibers.push_back(std::move(thread.fiber));
  }
}

Thread& caller(const char* operation) {
  if (current == nullptr) throw std::logic_error(std::string(operation) + " outside of a kernel");
  return *current;
}

void begin_warp_operation(unsigned mask, const char* operation) {
  Thread& thread = caller(operation);
  if ((mask >> lane() & 1u) == 0) {
    std::ostringstream text;
    text << name_of(thread) << " calls " << operation << " with the mask 0x" << std::hex << mask
         << ", which lacks its own lane";
    fail(text.str());
  }
  thread.mask = mask;
  thread.operation = operation;
}

}  // namespace

const Identity& identity() { return caller("threadIdx").identity; }

void set_schedule(std::uint64_t chosen) {
  schedule = chosen;
  generator.seed(chosen);
}

std::uint64_t barriers_passed() { return passed; }

void set_single_to_double_ratio(int ratio) { double_ratio = ratio; }
int single_to_double_ratio() { return double_ratio; }
void set_most_shared_bytes(int bytes) { most_shared = bytes; }
int most_shared_bytes() { return most_shared; }

std::string run(const std::function<void()>& kernel, dim3 grid, dim3 block, std::size_t shared_bytes,
                bool cooperative) {
  running_kernel = &kernel;
  all_at_once = cooperative;
  failure.clear();
  const std::size_t count = std::size_t{grid.x} * grid.y * grid.z;
  std::vector<Block> together;
  for (const std::size_t b : order_of_turns(count)) {
    const dim3 index{static_cast<unsigned>(b % grid.x), static_cast<unsigned>(b / grid.x % grid.y),
                     static_cast<unsigned>(b / (std::size_t{grid.x} * grid.y))};
    together.push_back(make_block(index, grid, block, shared_bytes));
    if (cooperative && together.size() < count) continue;
    run_blocks(together);
    together.clear();
    if (!failure.empty()) break;
  }
  running_kernel = nullptr;
  return failure;
}

std::byte* shared_memory() { return caller("shared memory").block->shared.get(); }
void synchronize_block() {
  caller("__syncthreads");
  wait_for(Wait::block);
}
void synchronize_grid() {
  if (!all_at_once)
    fail(name_of(caller("grid.sync")) + " calls grid.sync in a launch that is not cooperative");
  wait_for(Wait::grid);
}

void fail(const std::string& what) { throw std::runtime_error(what); }

std::uint64_t exchange(unsigned mask, std::uint64_t word, unsigned source, const char* operation) {
  begin_warp_operation(mask, operation);
  current->votes = false;
  current->word = word;
  current->source = source;
  wait_for(Wait::warp);
  return current->word;
}

unsigned ballot(unsigned mask, bool predicate, const char* operation) {
  begin_warp_operation(mask, operation);
  current->votes = true;
  current->word = predicate ? 1 : 0;
  wait_for(Wait::warp);
  return static_cast<unsigned>(current->word);
}

unsigned lane() { return caller("lane").index % warp_size; }

void add_product_8x8x4(double a, double b, double& first, double& second) {
  constexpr unsigned depth = 4;
  const char* const operation = "mma.sync.m8n8k4";
  Thread& thread = caller(operation);
  thread.left = a;
  thread.right = b;
  ballot(0xffffffffu, true, operation);  // all have brought theirs
  const Thread* const warp = thread.block->threads.data() + thread.index / warp_size * warp_size;
  const unsigned row = lane() / depth, column = lane() % depth * 2;
  for (unsigned k = 0; k < depth; ++k) {
    first = std::fma(warp[row * depth + k].left, warp[column * depth + k].right, first);
    second = std::fma(warp[row * depth + k].left, warp[(column + 1) * depth + k].right, second);
  }
  ballot(0xffffffffu, true, operation);  // all have taken them
}

void copy_later(void* to, const void* from, std::size_t bytes) {
  caller("an asynchronous copy").open.push_back({to, from, bytes});
}

void close_copies() {
  Thread& thread = caller("a commit of copies");
  thread.closed.push_back(std::move(thread.open));
  thread.open.clear();
}

void wait_for_copies(unsigned but_last) {
  Thread& thread = caller("a wait for copies");
  while (thread.closed.size() > but_last) {
    for (const auto& copy : thread.closed.front()) std::memcpy(copy.to, copy.from, copy.bytes);
    thread.closed.erase(thread.closed.begin());
  }
}

}  // namespace emulation
