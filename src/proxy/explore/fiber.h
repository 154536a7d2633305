// A function on a stack of its own, run and stopped by hand within one thread: how tests have many
// processes and dvsds at once and still decide every switch between them.
#pragma once

#include <ucontext.h>

#include <csetjmp>
#include <cstddef>
#include <functional>
#include <memory>

namespace dvs::explore {

class Fiber {
 public:
  explicit Fiber(std::function<void()> body);
  // One that has not ended is abandoned as a killed process is: nothing on its stack is destroyed.
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  // Runs it until it yields or ends. REQUIRES: not done(), not called from inside a fiber.
  void resume();
  bool done() const { return done_; }

  static Fiber* current();
  // Back to whoever resumed the current fiber. REQUIRES: inside a fiber.
  static void yield();

 private:
  static void enter();

  std::function<void()> body_;
  std::unique_ptr<char[]> stack_;
  ucontext_t context_{};  // where it begins
  jmp_buf suspended_{};
  jmp_buf resumer_{};
  bool begun_ = false;
  bool done_ = false;
};

}  // namespace dvs::explore
