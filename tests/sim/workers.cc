#include "workers.h"

#include <poll.h>
#include <spdlog/fmt/fmt.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstring>

#include "base/check.h"
#include "base/file.h"
#include "base/json.h"
#include "base/unique_fd.h"

namespace dvs::sim {
namespace {

constexpr int kTellEveryMs = 10'000;

// What the workers share.
struct Shared {
  std::atomic<uint64_t> handed_out{0};
  std::atomic<uint64_t> done{0};
  std::atomic<uint64_t> failures{0};
  std::atomic<bool> stopped{false};
};

// Whoever is told to end, by a signal, tells the others; each ends after its seed.
Shared* the_shared = nullptr;
void stop(int) { the_shared->stopped = true; }

// Runs seeds until there are no more. `at` is where it is.
Outcome work(const Seeds& seeds, Shared& shared, std::atomic<uint64_t>& at) {
  Outcome outcome;
  while (shared.failures < seeds.most_failures && !shared.stopped) {
    const uint64_t next = shared.handed_out++;
    if (next >= seeds.number) break;
    at = seeds.first + next;
    World world({at, seeds.bug, seeds.trace});
    const std::string why = world.run();
    outcome.tally.add(world.tally());
    ++shared.done;
    if (why.empty()) continue;
    ++shared.failures;
    outcome.failures.push_back({at, why});
  }
  return outcome;
}

Json to_json(const Outcome& outcome) {
  const Tally& t = outcome.tally;
  Json json = {{"seeds", t.seeds},
               {"requests", t.requests},
               {"answered", t.answered},
               {"migrations", t.migrations},
               {"committed", t.committed},
               {"rolled_back", t.rolled_back},
               {"lost_memory", t.lost_memory},
               {"processes_lost", t.processes_lost},
               {"faults", t.faults},
               {"points", t.points},
               {"recovery_ns", t.recovery_ns},
               {"steps", Json::object()},
               {"failures", Json::array()}};
  for (const auto& [step, number] : t.steps) {
    json["steps"][std::to_string(step - kSteps.data())] = number;
  }
  for (const Failure& each : outcome.failures) json["failures"].push_back({each.seed, each.why});
  return json;
}

void add(Outcome& sum, const Json& json) {
  Tally t;
  t.seeds = json["seeds"];
  t.requests = json["requests"];
  t.answered = json["answered"];
  t.migrations = json["migrations"];
  t.committed = json["committed"];
  t.rolled_back = json["rolled_back"];
  t.lost_memory = json["lost_memory"];
  t.processes_lost = json["processes_lost"];
  t.faults = json["faults"].get<decltype(t.faults)>();
  t.points = json["points"].get<decltype(t.points)>();
  t.recovery_ns = json["recovery_ns"].get<decltype(t.recovery_ns)>();
  for (const auto& [step, number] : json["steps"].items()) {
    t.steps[&kSteps.at(std::stoul(step))] = number;
  }
  sum.tally.add(t);
  for (const Json& each : json["failures"]) sum.failures.push_back({each[0], each[1]});
}

struct Worker {
  pid_t pid = 0;
  UniqueFd result;  // its Outcome as JSON
  std::string text;
};

class Workers {
 public:
  explicit Workers(const Seeds& seeds) : seeds_(seeds), workers_(seeds.jobs) {
    const size_t size = sizeof(Shared) + seeds.jobs * sizeof(std::atomic<uint64_t>);
    void* mapped = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    DVS_CHECK(mapped != MAP_FAILED);
    shared_ = new (mapped) Shared;
    the_shared = shared_;
    for (const int signal : {SIGINT, SIGTERM}) std::signal(signal, stop);
    at_ = reinterpret_cast<std::atomic<uint64_t>*>(shared_ + 1);
    for (unsigned i = 0; i < seeds.jobs; ++i) new (&at_[i]) std::atomic<uint64_t>(0);
  }

  Outcome run() {
    for (size_t i = 0; i < workers_.size(); ++i) start(i);
    const auto began = std::chrono::steady_clock::now();
    auto told = began;
    for (bool all = false; !all;) {
      all = read_results();
      const auto now = std::chrono::steady_clock::now();
      if (!seeds_.progress || now - told < std::chrono::milliseconds(kTellEveryMs)) continue;
      told = now;
      const std::chrono::duration<double> passed = now - began;
      std::fprintf(stderr, "%lu of %lu seeds, %lu failed, %.0f a second\n", shared_->done.load(),
                   seeds_.number, shared_->failures.load(),
                   static_cast<double>(shared_->done.load()) / passed.count());
    }
    Outcome sum;
    for (size_t i = 0; i < workers_.size(); ++i) finish(i, sum);
    std::sort(sum.failures.begin(), sum.failures.end(),
              [](const Failure& a, const Failure& b) { return a.seed < b.seed; });
    return sum;
  }

 private:
  void start(size_t index) {
    int ends[2];
    DVS_CHECK(::pipe2(ends, O_CLOEXEC) == 0);
    Worker& worker = workers_[index];
    worker.result.reset(ends[0]);
    const UniqueFd mine(ends[1]);
    std::fflush(nullptr);
    worker.pid = ::fork();
    DVS_CHECK(worker.pid >= 0);
    if (worker.pid > 0) return;
    ::prctl(PR_SET_PDEATHSIG, SIGTERM);
    const Outcome outcome = work(seeds_, *shared_, at_[index]);
    const std::string text = to_text(to_json(outcome));
    for (size_t sent = 0; sent < text.size();) {
      const ssize_t count = ::write(mine.get(), text.data() + sent, text.size() - sent);
      if (count <= 0) ::_exit(1);
      sent += static_cast<size_t>(count);
    }
    ::_exit(0);
  }

  // Until something comes, or it is time to tell. True: all have ended.
  bool read_results() {
    std::vector<pollfd> polled;
    for (const Worker& each : workers_) polled.push_back({each.result.get(), POLLIN, 0});
    DVS_CHECK(::poll(polled.data(), polled.size(), kTellEveryMs) >= 0 || errno == EINTR);
    for (size_t i = 0; i < workers_.size(); ++i) {
      if (polled[i].revents == 0) continue;
      char buffer[64 * 1024];
      const ssize_t count = ::read(workers_[i].result.get(), buffer, sizeof buffer);
      if (count > 0) workers_[i].text.append(buffer, static_cast<size_t>(count));
      if (count <= 0) workers_[i].result.reset();
    }
    return std::all_of(workers_.begin(), workers_.end(),
                       [](const Worker& each) { return !each.result.valid(); });
  }

  void finish(size_t index, Outcome& sum) {
    int status = 0;
    DVS_CHECK(::waitpid(workers_[index].pid, &status, 0) == workers_[index].pid);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
      return add(sum, *parse_json(workers_[index].text));
    }
    static_cast<void>(remove_tree(World::files_of(workers_[index].pid)));
    const std::string how = WIFSIGNALED(status) ? ::strsignal(WTERMSIG(status)) : "exit";
    sum.failures.push_back({at_[index], "the simulator crashed: " + how});
  }

  const Seeds& seeds_;
  std::vector<Worker> workers_;
  Shared* shared_ = nullptr;  // until this process ends
  std::atomic<uint64_t>* at_ = nullptr;
};

}  // namespace

Outcome run_seeds(const Seeds& seeds) {
  if (seeds.jobs > 1) return Workers(seeds).run();
  Shared shared;
  std::atomic<uint64_t> at{0};
  return work(seeds, shared, at);
}

}  // namespace dvs::sim
