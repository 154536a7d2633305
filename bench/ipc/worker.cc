// bench-ipc-worker: one server or one client of one measurement. Started by bench-ipc-measure.
#include <sched.h>
#include <time.h>
#include <x86intrin.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstring>
#include <map>
#include <vector>

#include "ipc/control.h"
#include "ipc/die.h"
#include "ipc/histogram.h"
#include "ipc/transport.h"
#include "ipc/unix.h"

namespace dvs::bench {
namespace {

struct Options {
  Plan plan;
  std::string transport, control;
  Hello hello{};
  bool is_put = false;
  int idle_us = 0;
  int cpu = -1;
};

double now_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) * 1e9 + static_cast<double>(now.tv_nsec);
}

// What a client does again and again.
class Load {
 public:
  Load(const Options& options, Client& client) : options_(options), client_(client) {
    const bool copies = options.plan.pattern == Pattern::kCopy;
    if (copies)
      memory_ = options.is_put ? fill(options.plan.bytes) : std::vector<char>(options.plan.bytes);
  }

  void once() {
    switch (options_.plan.pattern) {
      case Pattern::kCall:
        return call();
      case Pattern::kSend:
        return client_.send(message_);
      case Pattern::kNotify:
        return client_.notify();
      case Pattern::kCopy:
        return options_.is_put ? client_.put(memory_.data(), memory_.size())
                               : client_.get(memory_.data(), memory_.size());
    }
  }

  void check_copy() const {
    if (memory_ != fill(memory_.size())) die_plainly("a copy has not copied everything");
  }

 private:
  void call() {
    ++number_;
    std::memcpy(message_.data() + kNumberAt, &number_, sizeof number_);
    client_.call(message_);
    uint64_t answered = 0;
    std::memcpy(&answered, message_.data() + kNumberAt, sizeof answered);
    if (answered != number_) die_plainly("the answer to another request");
  }

  static constexpr size_t kNumberAt = 8;  // behind source and type of an M3-IPC message

  const Options& options_;
  Client& client_;
  Message message_{};
  uint64_t number_ = 0;
  std::vector<char> memory_;
};

void pause_between(int idle_us) {
  const timespec idle{0, idle_us * 1000L};
  if (idle_us > 0) ::clock_nanosleep(CLOCK_MONOTONIC, 0, &idle, nullptr);
}

Outcome measure(Load& load, int idle_us, double seconds) {
  Histogram cycles;
  Outcome outcome{};
  const double begin = now_ns();
  const uint64_t first = __rdtsc();
  double elapsed = 0;
  while (elapsed < seconds * 1e9) {
    // The clock is read now and then only: what is measured may take less time than that.
    const uint64_t batch = std::clamp<uint64_t>(outcome.calls / 8, 1, 64);
    for (uint64_t i = 0; i < batch; ++i) {
      pause_between(idle_us);
      const uint64_t before = __rdtsc();
      load.once();
      cycles.add(__rdtsc() - before);
      ++outcome.calls;
    }
    elapsed = now_ns() - begin;
  }
  outcome.elapsed_ns = elapsed;
  const double ns_per_cycle = elapsed / static_cast<double>(__rdtsc() - first);
  outcome.p50_ns = cycles.quantile(0.5) * ns_per_cycle;
  outcome.p99_ns = cycles.quantile(0.99) * ns_per_cycle;
  return outcome;
}

void warm_up(Load& load, const Options& options) {
  constexpr double kWarmNs = 20e6;
  const double begin = now_ns();
  do {
    pause_between(options.idle_us);
    load.once();
  } while (now_ns() - begin < kWarmNs);
}

void serve(const Options& options, int control) {
  transport_named(options.transport).serve(options.plan, [&](const std::string& address) {
    send_struct(control, to_address(address));
    end_with(control);
  });
}

void ask(const Options& options, int control) {
  const auto client = transport_named(options.transport).connect(options.plan);
  Load load(options, *client);
  warm_up(load, options);
  send_struct(control, Ready{});
  const Go go = receive_struct<Go>(control);
  end_with(control);
  const Outcome outcome = measure(load, options.idle_us, go.seconds);
  load.check_copy();
  send_struct(control, outcome);
  for (;;) ::pause();
}

Options parse(int argc, char** argv) {
  Options options;
  const std::map<std::string, Pattern> patterns{{"call", Pattern::kCall},
                                                {"send", Pattern::kSend},
                                                {"notify", Pattern::kNotify},
                                                {"get", Pattern::kCopy},
                                                {"put", Pattern::kCopy}};
  std::string pattern;
  CLI::App app{"One server or client of a measurement"};
  app.add_option("--control", options.control)->required();
  app.add_option("--transport", options.transport)->required();
  app.add_option("--pattern", pattern)->required()->check(CLI::IsMember(patterns));
  app.add_option("--group", options.hello.group);
  app.add_option("--index", options.hello.index)->required();
  app.add_option("--clients", options.plan.clients);
  app.add_option("--bytes", options.plan.bytes);
  app.add_option("--idle-us", options.idle_us);
  app.add_option("--cpu", options.cpu);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    std::exit(app.exit(error));
  }
  options.plan.pattern = patterns.at(pattern);
  options.is_put = pattern == "put";
  return options;
}

void pin_to(int cpu) {
  if (cpu < 0) return;
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  require(::sched_setaffinity(0, sizeof set, &set) == 0, "cannot pin to the processor");
}

void run(Options options) {
  pin_to(options.cpu);
  const UniqueFd control = connect_unix(kControlType, options.control);
  send_struct(control.get(), options.hello);
  options.plan.address = receive_struct<Place>(control.get()).text;
  if (options.hello.index == kServer) {
    serve(options, control.get());
  } else {
    ask(options, control.get());
  }
}

}  // namespace
}  // namespace dvs::bench

int main(int argc, char** argv) {
  dvs::bench::run(dvs::bench::parse(argc, argv));
  return 0;
}
