// no_exceptions server SELF | no_exceptions client SELF SERVER: a server and its client, for
// programs without exceptions, run-time types and allocations.
#include <cstdlib>
#include <cstring>
#include <dvk/dvk.hpp>
#include <new>

#if defined(__cpp_exceptions) || defined(__cpp_rtti)
#error "this is to be compiled with -fno-exceptions -fno-rtti"
#endif

namespace {

int allocations = 0;

}  // namespace

void* operator new(size_t bytes) {
  ++allocations;
  return std::malloc(bytes);
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }

namespace {

struct Total {
  static constexpr int kType = 2;
  long value;
};
struct Add {
  static constexpr int kType = 1;
  using Reply = Total;
  dvk::Buffer numbers;
};
struct Stop {
  static constexpr int kType = 3;
};

constexpr auto kPatience = std::chrono::seconds(10);

int serve(const dvk::Endpoint& self) {
  const auto ended = self.serve(
      [](const Add& add, dvk::Caller caller) -> dvk::Expected<Total> {
        long numbers[8] = {};
        return caller.read(add.numbers, std::as_writable_bytes(std::span(numbers)))
            .transform([&](size_t) {
              long total = 0;
              for (const long number : numbers) total += number;
              return Total{total};
            });
      },
      [](const Stop&, dvk::Caller caller) { caller.stop(); });
  return ended ? 0 : 4;
}

int ask(const dvk::Endpoint& self, int server) {
  if (dvk_wait4bindep_T(server, 10'000) < 0) return 5;
  const long numbers[] = {1, 2, 39};
  const long many[9] = {};
  const auto total = self.call(server, Add{dvk::Buffer::of(numbers)}, kPatience);
  const auto refused = self.call(server, Add{dvk::Buffer::of(many)}, kPatience);
  if (!total || total->value != 42) return 6;
  if (refused.error() != EDVSBADRANGE || !refused.from_server()) return 7;
  return self.call(server, Stop{}, kPatience) ? 0 : 8;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) return 2;
  const auto self = dvk::Endpoint::create(std::atoi(argv[2]));
  if (!self) return 3;
  allocations = 0;
  const int status = argc > 3 ? ask(*self, std::atoi(argv[3])) : serve(*self);
  return status == 0 && allocations != 0 ? 9 : status;
}
