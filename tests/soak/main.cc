// dvs-soak: thousands of migrations of servers around the nodes of a local cluster under full load,
// with random faults, and a look at everything after each. Behind `make soak`.
//
// Two processes: the one that works owns the cluster (which dies with it); the other waits for it
// and for signals, and takes down what is left, whatever happened.
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <random>

#include "base/file.h"
#include "base/log.h"
#include "local/local_cluster.h"
#include "soak/crew.h"
#include "soak/run.h"

namespace dvs::soak {
namespace {

namespace fs = std::filesystem;

struct Places {
  std::string dir = DVS_SOAK_DIR;  // for the report, and logs when something was wrong
  std::string scratch;             // for the cluster and the histories; removed at the end
  std::string programs;            // the directory of this program
};

int fail(const std::string& what, const Error& error) {
  std::fprintf(stderr, "dvs-soak: %s: %s\n", what.c_str(), error.message().c_str());
  return 1;
}

// What the daemons said, for whoever wants to know what was wrong.
void keep_logs(const Places& places) {
  std::error_code ignored;
  const fs::path to = fs::path(places.dir) / "logs";
  fs::remove_all(to, ignored);
  fs::create_directories(to, ignored);
  for (const auto& entry : fs::recursive_directory_iterator(places.scratch, ignored)) {
    if (entry.path().extension() != ".log") continue;
    const std::string node = entry.path().parent_path().filename();
    fs::copy_file(entry.path(), to / (node + "-" + entry.path().filename().string()), ignored);
  }
  std::printf("The logs of the daemons: %s\n", to.c_str());
}

int soak(const Options& options, const Places& places) {
  spdlog::set_level(spdlog::level::off);  // what our own watch of etcd says when that is ended
  std::printf("Seed %llu. Starting %d nodes\n", static_cast<unsigned long long>(options.seed),
              options.nodes);
  std::fflush(stdout);
  const std::string histories = places.scratch + "/histories";
  if (const Status made = make_dirs(histories); !made.ok())
    return fail("cannot start", made.error());
  auto cluster = Cluster::start(places.scratch + "/cluster", options.nodes, histories);
  if (!cluster.ok()) return fail("cannot start the cluster", cluster.error());
  Crew crew(**cluster, options, places.programs, histories);
  if (const Status started = crew.start(); !started.ok())
    return fail("cannot start", started.error());
  Run run(**cluster, crew, options);
  const bool well = run.all();
  print(run.tally(), options);
  const std::string report = places.dir + "/soak.json";
  const Status written = replace_file(report, to_json(run.tally(), options).dump(1) + "\n");
  if (!written.ok()) return fail("cannot write the report", written.error());
  std::printf("\nThe same as JSON: %s\n", report.c_str());
  if (!well) keep_logs(places);
  std::fflush(stdout);
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

int take_down(const Places& places, int status) {
  const Status down = local::down(places.scratch + "/cluster");
  const Status removed = remove_tree(places.scratch);
  if (!down.ok()) return fail("cannot take the cluster down", down.error());
  return removed.ok() ? status : fail("cannot clean up", removed.error());
}

int supervise(const Options& options, const Places& places) {
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
    std::exit(::getppid() == parent ? soak(options, places) : 1);
  }
  return take_down(places, await_child(child));
}

// Of one that was killed together with the process that waits for it.
void remove_leftovers(const std::string& prefix) {
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(fs::path(prefix).parent_path(), error)) {
    const std::string path = entry.path();
    if (!path.starts_with(prefix)) continue;
    const pid_t owner = std::atoi(path.c_str() + prefix.size());
    if (owner <= 0 || ::kill(owner, 0) == 0) continue;
    Places left;
    left.scratch = path;
    (void)take_down(left, 0);
  }
}

Status choose_places(Places& places) {
  const std::string prefix = "/dev/shm/dvs-soak-";
  std::error_code error;
  places.programs = fs::read_symlink("/proc/self/exe", error).parent_path();
  places.dir = fs::absolute(places.dir);
  DVS_TRY(make_dirs(places.dir));
  remove_leftovers(prefix);
  places.scratch = prefix + std::to_string(::getpid());
  return make_dirs(places.scratch);
}

void add_options(CLI::App& app, Options& options, Places& places) {
  app.add_option("--migrations", options.migrations, "How many")->capture_default_str();
  app.add_option("--seed", options.seed, "Of what is planned (random)");
  app.add_option("--nodes", options.nodes)->check(CLI::Range(3, 5))->capture_default_str();
  app.add_option("--servers", options.servers, "That move")
      ->check(CLI::Range(1, 8))
      ->capture_default_str();
  app.add_option("--algorithm", options.algorithm, "Only this one (all)")
      ->check(CLI::IsMember(std::vector<std::string>(kAlgorithms.begin(), kAlgorithms.end())));
  app.add_option("--faults", options.faults, "Percentage of the rounds with a fault")
      ->check(CLI::Range(0, 100))
      ->capture_default_str();
  app.add_option("--minutes", options.minutes, "At most this long (0: as long as it takes)");
  app.add_option("--pause-us", options.pause_us, "Of each client between its requests")
      ->check(CLI::Range(0, 1'000'000))
      ->capture_default_str();
  app.add_option("--memory-mib", options.memory_mib, "Of each server")
      ->check(CLI::Range(1, 256))
      ->capture_default_str();
  app.add_option("--dir", places.dir, "For the report")->capture_default_str();
}

}  // namespace
}  // namespace dvs::soak

int main(int argc, char** argv) {
  dvs::soak::Options options;
  dvs::soak::Places places;
  options.seed = std::random_device()();
  CLI::App app("Moves servers between nodes by the thousand, under load and with faults");
  dvs::soak::add_options(app, options, places);
  CLI11_PARSE(app, argc, argv);
  if (::geteuid() != 0) {
    std::fprintf(stderr, "dvs-soak: namespaces and cgroups need root\n");
    return 1;
  }
  if (const auto chosen = dvs::soak::choose_places(places); !chosen.ok()) {
    return dvs::soak::fail("cannot start", chosen.error());
  }
  return dvs::soak::supervise(options, places);
}
