#include <cstdio>

#include "check/check.h"
#include "cli.h"
#include "print.h"

namespace dvs::cli {
namespace {

int check(Cli& cli) {
  const auto features = check_host();
  const int status = is_fit(features) ? kDone : kRefused;
  const Json json = check_to_json(features);
  if (cli.json) return print_json(json), status;
  print_table(json.at("features"), {{"FEATURE", "name"}, {"STATE", "state"}, {"DETAIL", "detail"}},
              "");
  std::printf("\n");
  for (const auto& feature : features) {
    if (feature.state == FeatureState::kOk) continue;
    std::printf("%s: %s\n", feature.name.c_str(), printable(feature.remedy).c_str());
  }
  std::printf(is_fit(features) ? "This host is fit to be a node.\n"
                               : "This host is NOT fit to be a node: see what is missing.\n");
  return status;
}

}  // namespace

void add_check_command(CLI::App& app, Cli& cli) {
  add_command(app, cli, "check", "Is this host fit to be a node? Needs no dvsd.",
              "  dvs check\n"
              "  dvs check --json",
              [&cli] { return check(cli); });
}

}  // namespace dvs::cli
