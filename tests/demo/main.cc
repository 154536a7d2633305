// dvs-demo: the paper's three scenarios on a cluster of three nodes on this machine, with
// migrations that commit and migrations that are made to fail. Behind `make demo`.
//
// Two processes: the one that measures owns the cluster (which dies with it); the other waits for
// it and for signals, and takes down what is left, whatever happened.
#include <fcntl.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <filesystem>

#include "base/file.h"
#include "base/unique_fd.h"
#include "demo/report.h"
#include "local/local_cluster.h"

namespace dvs::demo {
namespace {

struct Options {
  int runs = 10;
  int scenario = 0;  // 0: all
  bool keep = false;
  bool tls = true;
  std::string dir = DVS_DEMO_DIR;
  std::string json;      // empty: DIR/report.json
  std::string programs;  // the directory of this program
  std::string cluster;   // where the cluster lives
};

int fail(const std::string& what, const Error& error) {
  std::fprintf(stderr, "dvs-demo: %s: %s\n", what.c_str(), error.message().c_str());
  return 1;
}

Series run_series(const Cluster& cluster, const Options& options, const Scenario& scenario,
                  bool commit) {
  Series series{&scenario, commit, {}};
  for (int i = 0; i < options.runs; ++i) {
    const Failure* failure =
        commit ? nullptr : &kFailures[static_cast<size_t>(i) % std::size(kFailures)];
    const RunPlan plan{scenario, failure, options.programs, options.dir};
    series.runs.push_back(run_once(cluster, plan));
    print_run(plan, i + 1, series.runs.back());
    if (!series.runs.back().cluster_usable) break;
  }
  return series;
}

int measure(const Options& options) {
  std::printf("Starting etcd and three nodes in %s\n", options.cluster.c_str());
  std::fflush(stdout);
  const auto cluster = Cluster::start(options.cluster, options.dir, options.tls);
  if (!cluster.ok()) return fail("cannot start the cluster", cluster.error());
  std::vector<Series> all;
  bool usable = true;
  for (const bool commit : {true, false}) {
    for (const Scenario& scenario : kScenarios) {
      const auto number = &scenario - kScenarios + 1;
      if (!usable || (options.scenario != 0 && options.scenario != number)) continue;
      all.push_back(run_series(*cluster, options, scenario, commit));
      usable = usable && all.back().runs.back().cluster_usable;
    }
  }
  print_table(all);
  const Status written = replace_file(options.json, report_json(all).dump(1) + "\n");
  if (!written.ok()) return fail("cannot write the report", written.error());
  std::printf("\nThe same, run by run: %s\n", options.json.c_str());
  const bool well = all_well(all);
  if (!well) std::printf("NOT as it must be: see the runs marked WRONG above.\n");
  std::fflush(stdout);
  if (options.keep && ::isatty(STDIN_FILENO)) {
    std::printf("The cluster runs on until Enter is pressed: DVS_CLUSTER=%s\n",
                options.cluster.c_str());
    (void)std::getchar();
  }
  return well ? 0 : 1;
}

sigset_t signals_of_interest() {
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGCHLD}) sigaddset(&set, signal);
  return set;
}

// The exit status of `child`, or 128 + the signal that ended it or this process's wait for it.
int await_child(pid_t child) {
  const sigset_t set = signals_of_interest();
  for (;;) {
    int status = 0;
    if (::waitpid(child, &status, WNOHANG) == child) {
      return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    }
    const int signal = ::sigwaitinfo(&set, nullptr);
    if (signal < 0 || signal == SIGCHLD) continue;
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    return 128 + signal;
  }
}

// What a run that was cut short leaves.
int take_down(const Options& options, int status) {
  const Status down = local::down(options.cluster);
  std::error_code ignored;
  std::filesystem::remove_all(options.cluster, ignored);
  for (const char* name : {"/board", "/client.json"}) ::unlink((options.dir + name).c_str());
  return down.ok() ? status : fail("cannot take the cluster down", down.error());
}

int supervise(const Options& options) {
  // Blocked before the fork, so that none is missed; the child lets itself be ended by them.
  const sigset_t set = signals_of_interest();
  ::sigprocmask(SIG_BLOCK, &set, nullptr);
  ::signal(SIGPIPE, SIG_IGN);
  const pid_t parent = ::getpid();
  const pid_t child = ::fork();
  if (child < 0) return fail("cannot start", errno_error("fork"));
  if (child == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    ::signal(SIGPIPE, SIG_DFL);
    ::sigprocmask(SIG_UNBLOCK, &set, nullptr);
    std::exit(::getppid() == parent ? measure(options) : 1);
  }
  return take_down(options, await_child(child));
}

// Only one demo at a time may use a directory: a second one would take the first one's cluster
// down. The lock goes with the returned descriptor (and with this process) and leaves no file.
Result<UniqueFd> lock(const std::string& dir) {
  UniqueFd fd(::open(dir.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.valid()) return errno_error(dir);
  if (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
    return Error(Code::kConflict, "another demo runs in " + dir + "; see --dir");
  }
  return fd;
}

// The nodes' sockets need short paths; a deep checkout gets a directory in /tmp.
Status choose_directories(Options& options) {
  constexpr size_t kLongest = 75;
  std::error_code error;
  options.programs = std::filesystem::read_symlink("/proc/self/exe", error).parent_path();
  options.dir = std::filesystem::absolute(options.dir);
  if (options.json.empty()) options.json = options.dir + "/report.json";
  DVS_TRY(make_dirs(options.dir));
  options.cluster = options.dir + "/cluster";
  if (options.cluster.size() > kLongest) {
    options.cluster = "/tmp/dvs-demo-" + std::to_string(::getpid());
  }
  return {};
}

}  // namespace
}  // namespace dvs::demo

int main(int argc, char** argv) {
  dvs::demo::Options options;
  CLI::App app(
      "Moves a server between nodes while a client keeps asking it, beside the paper's figures");
  app.add_option("--runs", options.runs, "Runs of each scenario and outcome")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  app.add_option("--scenario", options.scenario, "Only this one: 1, 2 or 3")
      ->check(CLI::Range(1, 3));
  app.add_option("--dir", options.dir, "For everything the demo writes")->capture_default_str();
  app.add_option("--json", options.json, "Where to write the report (DIR/report.json)");
  app.add_flag("--keep", options.keep, "Leave the cluster running until Enter is pressed");
  app.add_flag("!--plain", options.tls, "Links between the nodes without TLS");
  CLI11_PARSE(app, argc, argv);
  if (::geteuid() != 0) {
    std::fprintf(stderr, "dvs-demo: namespaces and cgroups need root\n");
    return 1;
  }
  if (const auto chosen = dvs::demo::choose_directories(options); !chosen.ok()) {
    return dvs::demo::fail("cannot start", chosen.error());
  }
  const auto locked = dvs::demo::lock(options.dir);
  if (!locked.ok()) return dvs::demo::fail("cannot start", locked.error());
  return dvs::demo::supervise(options);
}
