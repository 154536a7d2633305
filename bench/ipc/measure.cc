// bench-ipc-measure: one measurement of one transport. Starts the workers, itself or through a
// launcher (nsenter, dvs run), measures them and prints what came out as one line of JSON.
#include <sched.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <sstream>
#include <vector>

#include "base/json.h"
#include "ipc/control.h"
#include "ipc/die.h"
#include "ipc/groups.h"
#include "ipc/unix.h"

namespace dvs::bench {
namespace {

constexpr std::chrono::seconds kStartLimit{20};
constexpr int kLookMs = 100;  // between looks whether it has failed

// Where workers may run.
constexpr const char* kFree = "free";    // as the kernel likes
constexpr const char* kApart = "apart";  // the server on processor 1, clients on 0 (and 1 by turns)
constexpr const char* kTogether = "together";  // all on processor 0

struct Options {
  std::string transport, pattern, directory, worker, address;
  std::string server_launcher, client_launcher;  // words before the worker's command line
  int clients = 1;
  int groups = 1;
  size_t bytes = 64;
  int idle_us = 0;
  double seconds = 0.5;
  std::string pin = kFree;
  uint32_t slots = 0;  // of the regions that are made for the workers; 0: they have one
  int bound = 0;
  std::vector<pid_t> watched;
};

struct Worker {
  UniqueFd control;
  pid_t pid = 0;
};

// A server and its clients.
struct Group {
  Worker server;
  std::vector<Worker> clients;
};

double cpu_ns(pid_t pid) {
  clockid_t clock = 0;
  timespec used{};
  if (::clock_getcpuclockid(pid, &clock) != 0 || ::clock_gettime(clock, &used) != 0) {
    die_plainly("process " + std::to_string(pid) + " has gone");
  }
  return static_cast<double>(used.tv_sec) * 1e9 + static_cast<double>(used.tv_nsec);
}

class Measurement {
 public:
  explicit Measurement(Options options)
      : options_(std::move(options)),
        control_path_(options_.directory + "/control"),
        listener_(listen_unix(kControlType, control_path_)) {
    for (int group = 0; options_.slots > 0 && group < options_.groups; ++group) {
      regions_.push_back(make_region(options_.directory, group, options_.slots, options_.bound));
    }
  }

  Json run();
  void end();

 private:
  void start_group(int number);
  Worker start(int group, int index, const std::string& address);
  void launch(int group, int index) const;
  std::vector<std::string> command(int group, int index) const;
  int cpu_for(int index) const;
  std::vector<Outcome> measure();
  Json cpu() const;

  Options options_;
  std::string control_path_;
  UniqueFd listener_;
  std::vector<GroupRegion> regions_;
  std::vector<Group> groups_;
};

constexpr int kFirstEndpoint = 10;  // of the clients; servers', as every call is measured

// -1: any.
int Measurement::cpu_for(int index) const {
  if (options_.pin == kFree) return -1;
  if (options_.pin == kTogether) return 0;
  return index == kServer ? 1 : index % 2;
}

std::vector<std::string> Measurement::command(int group, int index) const {
  const bool is_server = index == kServer;
  std::istringstream launcher(is_server ? options_.server_launcher : options_.client_launcher);
  std::vector<std::string> words;
  const auto text = [](auto number) { return std::to_string(number); };
  for (std::string word; launcher >> word;) {
    words.push_back(word == "ENDPOINT" ? text(kFirstEndpoint + index) : word);
  }
  words.insert(words.end(),
               {options_.worker, "--control", control_path_, "--transport", options_.transport,
                "--pattern", options_.pattern, "--group", text(group), "--index", text(index),
                "--clients", text(options_.clients), "--bytes", text(options_.bytes), "--idle-us",
                text(options_.idle_us), "--cpu", text(cpu_for(index))});
  return words;
}

void Measurement::launch(int group, int index) const {
  std::vector<std::string> words = command(group, index);
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  const pid_t pid = ::fork();
  require(pid >= 0, "cannot fork");
  if (pid != 0) return;
  if (!regions_.empty())
    ::setenv("DVK_REGION", regions_[static_cast<size_t>(group)].path.c_str(), 1);
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  ::dup2(STDERR_FILENO, STDOUT_FILENO);  // what launchers say is not our result
  ::execvp(argv[0], argv.data());
  die(std::string("cannot run ") + argv[0]);
}

// Returns when it serves, or is ready to be told to go.
Worker Measurement::start(int group, int index, const std::string& address) {
  launch(group, index);
  Worker worker;
  const auto limit = std::chrono::steady_clock::now() + kStartLimit;
  while (!worker.control.valid()) {
    worker.control = accept_control(listener_.get(), kLookMs, worker.pid);
    int status = 0;
    if (::waitpid(-1, &status, WNOHANG) > 0 && status != 0) die_plainly("a worker has failed");
    if (std::chrono::steady_clock::now() > limit) die_plainly("a worker does not start");
  }
  receive_struct<Hello>(worker.control.get());
  if (!regions_.empty()) bind_worker(regions_[static_cast<size_t>(group)], index, worker.pid);
  send_struct<Place>(worker.control.get(), to_address(address));
  return worker;
}

void Measurement::start_group(int number) {
  Group group;
  std::string address = options_.address;
  if (address.empty()) address = options_.directory + "/server." + std::to_string(number);
  group.server = start(number, kServer, address);
  const Ready ready = receive_struct<Ready>(group.server.control.get());
  for (int index = 0; index < options_.clients; ++index) {
    group.clients.push_back(start(number, index, ready.text));
  }
  for (const Worker& client : group.clients) receive_struct<Ready>(client.control.get());
  groups_.push_back(std::move(group));
}

Json Measurement::cpu() const {
  double servers = 0;
  double clients = 0;
  double watched = 0;
  for (const Group& group : groups_) {
    servers += cpu_ns(group.server.pid);
    for (const Worker& client : group.clients) clients += cpu_ns(client.pid);
  }
  for (const pid_t pid : options_.watched) watched += cpu_ns(pid);
  return {{"server", servers}, {"client", clients}, {"daemons", watched}};
}

// Groups are measured in turn, the clients of one together.
std::vector<Outcome> Measurement::measure() {
  std::vector<Outcome> outcomes;
  const Go go{options_.seconds / options_.groups};
  for (const Group& group : groups_) {
    for (const Worker& client : group.clients) send_struct(client.control.get(), go);
    for (const Worker& client : group.clients) {
      outcomes.push_back(receive_struct<Outcome>(client.control.get()));
    }
  }
  return outcomes;
}

template <typename Member>
double median_of(const std::vector<Outcome>& outcomes, Member member) {
  std::vector<double> values;
  for (const Outcome& outcome : outcomes) values.push_back(outcome.*member);
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

Json Measurement::run() {
  for (int number = 0; number < options_.groups; ++number) start_group(number);
  const Json before = cpu();
  const std::vector<Outcome> outcomes = measure();
  const Json after = cpu();
  uint64_t calls = 0;
  double rate = 0;
  for (const Outcome& outcome : outcomes) {
    calls += outcome.calls;
    rate += static_cast<double>(outcome.calls) / outcome.elapsed_ns * 1e9 / options_.groups;
  }
  Json per_call;
  double all = 0;
  for (const auto& [name, value] : after.items()) {
    per_call[name] =
        (value.get<double>() - before[name].get<double>()) / static_cast<double>(calls);
    all += per_call[name].get<double>();
  }
  return {{"calls", calls},
          {"rate", rate},
          {"p50_ns", median_of(outcomes, &Outcome::p50_ns)},
          {"p99_ns", median_of(outcomes, &Outcome::p99_ns)},
          {"cpu_ns", all},
          {"cpu_ns_of", per_call},
          {"region_bytes", regions_.empty() ? 0 : regions_[0].region.header().total_size}};
}

// Every worker ends with its control socket; those that are our children are waited for.
void Measurement::end() {
  groups_.clear();
  while (::wait(nullptr) > 0) {
  }
}

Options parse(int argc, char** argv) {
  Options options;
  CLI::App app{"One measurement of M3-IPC or of a peer"};
  app.add_option("--transport", options.transport)->required();
  app.add_option("--pattern", options.pattern)->required();
  app.add_option("--directory", options.directory, "an empty one")->required();
  app.add_option("--address", options.address, "where the server listens; default: a file");
  app.add_option("--server-launcher", options.server_launcher);
  app.add_option("--client-launcher", options.client_launcher);
  app.add_option("--clients", options.clients)->check(CLI::Range(1, 1024));
  app.add_option("--groups", options.groups, "servers, each with so many clients, in turn")
      ->check(CLI::Range(1, 1024));
  app.add_option("--bytes", options.bytes, "of a copy");
  app.add_option("--idle-us", options.idle_us, "between calls");
  app.add_option("--seconds", options.seconds);
  app.add_option("--pin", options.pin, "free, apart or together")
      ->check(CLI::IsMember({kFree, kApart, kTogether}));
  app.add_option("--slots", options.slots, "make a region of this many for each group");
  app.add_option("--bound", options.bound, "endpoints bound in it besides the workers'");
  app.add_option("--watch", options.watched, "further processes whose CPU time counts");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    std::exit(app.exit(error));
  }
  const auto self = std::filesystem::read_symlink("/proc/self/exe");
  options.worker = self.parent_path() / "bench-ipc-worker";
  return options;
}

}  // namespace
}  // namespace dvs::bench

int main(int argc, char** argv) {
  using namespace dvs::bench;  // NOLINT(google-build-using-namespace)
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  Options options = parse(argc, argv);
  // Message queues that somebody killed leaves over go with it.
  if (options.transport == "mq") require(::unshare(CLONE_NEWIPC) == 0, "cannot unshare");
  Measurement measurement(std::move(options));
  const auto result = measurement.run();
  measurement.end();
  std::printf("%s\n", result.dump().c_str());
  return 0;
}
