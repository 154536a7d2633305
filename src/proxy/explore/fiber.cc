#include "proxy/explore/fiber.h"

#include <utility>
#include <vector>

#include "base/check.h"

namespace dvs::explore {
namespace {

constexpr size_t kStackSize = 256 * 1024;

Fiber* running = nullptr;

// Stacks are used again: a fresh one costs page faults.
std::vector<std::unique_ptr<char[]>>& stack_pool() {
  static std::vector<std::unique_ptr<char[]>> pool;
  return pool;
}

std::unique_ptr<char[]> take_stack() {
  auto& pool = stack_pool();
  if (pool.empty()) return std::unique_ptr<char[]>(new char[kStackSize]);
  auto stack = std::move(pool.back());
  pool.pop_back();
  return stack;
}

}  // namespace

Fiber::Fiber(std::function<void()> body) : body_(std::move(body)), stack_(take_stack()) {
  getcontext(&context_);
  context_.uc_stack.ss_sp = stack_.get();
  context_.uc_stack.ss_size = kStackSize;
  context_.uc_link = nullptr;
  makecontext(&context_, &Fiber::enter, 0);
}

Fiber::~Fiber() { stack_pool().push_back(std::move(stack_)); }

Fiber* Fiber::current() { return running; }

void Fiber::enter() {
  running->body_();
  running->done_ = true;
  yield();
}

// swapcontext() saves the signal mask too, by a system call each time: it is for the first entry.
void Fiber::resume() {
  DVS_CHECK(running == nullptr && !done_);
  running = this;
  if (_setjmp(resumer_) != 0) return;
  if (std::exchange(begun_, true)) _longjmp(suspended_, 1);
  setcontext(&context_);
}

void Fiber::yield() {
  Fiber* self = std::exchange(running, nullptr);
  if (_setjmp(self->suspended_) == 0) _longjmp(self->resumer_, 1);
}

}  // namespace dvs::explore
