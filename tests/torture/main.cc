// Many processes that use all calls of libdvk at once and are killed at random, by the thousand:
// nobody who survives may hang, and no message may be lost, come twice or go astray.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <cstdlib>
#include <random>

#include "torture/harness.h"

namespace {

using namespace dvs::torture;  // NOLINT(google-build-using-namespace)

int torture(Options options) {
  if (const char* seed = std::getenv("DVS_SEED"); seed != nullptr) {
    options.seed = std::strtoull(seed, nullptr, 10);
  } else {
    options.seed = std::random_device()();
  }
  std::printf("DVS_SEED=%llu\n", static_cast<unsigned long long>(options.seed));
  std::fflush(stdout);
  const std::string path = "/dev/shm/dvs-torture." + std::to_string(::getpid());
  auto region = dvs::dvk::Region::create(path, dvs::dvk::RegionSpec{});
  if (!region.ok()) {
    std::fprintf(stderr, "%s\n", region.error().message().c_str());
    return 2;
  }
  // What libdvk has mapped here, every worker inherits, as from a fork in an application.
  ::setenv("DVK_REGION", path.c_str(), 1);
  dc_usr_t dc;
  const int found = dvk_getdcinfo(-1, &dc);
  ::unlink(path.c_str());
  Ledger* ledger = Ledger::create(options.seed);
  if (found != OK || ledger == nullptr) {
    std::fprintf(stderr, "cannot begin: %d\n", found);
    return 2;
  }
  return Harness(options, std::move(*region), *ledger).run() ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Kills processes that talk by M3-IPC, and looks whether the others mind.");
  Options options;
  app.add_option("--kills", options.kills, "How many")->capture_default_str();
  app.add_option("--seconds", options.seconds, "At most this long; 0: as long as it takes")
      ->capture_default_str();
  app.add_flag("--progress", options.progress, "Say every few seconds how far it is");
  CLI11_PARSE(app, argc, argv);
  return torture(options);
}
