// `dvs up`, `dvs down` and `dvs node join`: a cluster on this machine.
#include <cstdio>
#include <memory>

#include "cli.h"
#include "local/local_cluster.h"
#include "names.h"
#include "print.h"

namespace dvs::cli {
namespace {

void tell(const std::string& line) { std::fprintf(stderr, "%s\n", printable(line).c_str()); }

Json to_json(const std::string& dir, const local::Info& info) {
  Json nodes = Json::array();
  for (const auto& node : info.nodes) {
    nodes.push_back({{"name", node.name}, {"address", node.address}, {"socket", node.socket}});
  }
  return {{"cluster", info.cluster}, {"dir", dir}, {"nodes", std::move(nodes)}};
}

int up(Cli& cli, local::UpOptions options) {
  options.dir = cluster_dir();
  if (!cli.json) options.progress = tell;
  const auto started = local::up(options);
  if (!started.ok()) {
    return cli.fail("start a cluster", started.error(), exit_status_of(started.error()));
  }
  const auto info = local::info(options.dir);
  if (!info.ok()) return cli.fail("start a cluster", info.error(), kInternalError);
  const Json json = to_json(options.dir, *info);
  if (cli.json) return print_json(json), kDone;
  print_table(json.at("nodes"), {{"NODE", "name"}, {"ADDRESS", "address"}, {"SOCKET", "socket"}},
              "No nodes.");
  return kDone;
}

int down(Cli& cli) {
  const auto ended = local::down(cluster_dir());
  if (!ended.ok()) return cli.fail("end the cluster", ended.error(), exit_status_of(ended.error()));
  if (cli.json) return print_json(Json::object()), kDone;
  std::printf("No cluster runs in %s any more.\n", cluster_dir().c_str());
  return kDone;
}

int join(Cli& cli, const std::string& name) {
  const auto joined = local::join(cluster_dir(), name);
  if (!joined.ok()) {
    return cli.fail("join node " + name, joined.error(), exit_status_of(joined.error()));
  }
  if (cli.json) return print_json(Json::object()), kDone;
  std::printf("%s has joined the cluster.\n", name.c_str());
  return kDone;
}

}  // namespace

void add_cluster_commands(CLI::App& app, CLI::App& node, Cli& cli) {
  auto options = std::make_shared<local::UpOptions>();
  auto* starting = add_command(app, cli, "up", "Start a cluster on this machine",
                               "  dvs up\n"
                               "  dvs up --nodes 5\n"
                               "  DVS_CLUSTER=/srv/other dvs up    # a second one, elsewhere",
                               [&cli, options] { return up(cli, *options); });
  starting->add_option("--nodes", options->nodes, "How many nodes: n1, n2, ...")
      ->check(range_check(1, local::kMaxLocalNodes))
      ->type_name("N")
      ->capture_default_str();
  starting
      ->add_option("--dvsd-arg", options->dvsd_args,
                   "Added to the command line of each dvsd, e.g. --dvsd-arg=--compress-links")
      ->type_name("ARG")
      ->allow_extra_args(false);
  starting
      ->add_option("--dc-writable", options->dc_writable,
                   "Directory of this machine that programs of DCs may write; the rest is "
                   "read-only to them")
      ->check(CLI::ExistingDirectory);
  starting
      ->add_option("--run-size", options->run_bytes,
                   "Limit of each node's /run, where memory of moving processes waits, e.g. 4GiB")
      ->transform(CLI::AsSizeValue(false))
      ->type_name("SIZE")
      ->default_str("512MiB");
  starting->add_flag("--tls", options->tls,
                     "Links between nodes inside TLS, with certificates made for this cluster");
  starting->add_flag("--faults", options->faults, "Let tests break it on purpose (dvsd --faults)");

  add_command(app, cli, "down", "End the cluster on this machine and all that runs in it",
              "  dvs down", [&cli] { return down(cli); });

  auto name = std::make_shared<std::string>();
  auto* joining =
      add_command(node, cli, "join", "Add a node to the cluster on this machine, or start it again",
                  "  dvs node join n4", [&cli, name] { return join(cli, *name); });
  joining->add_option("NODE", *name, "Its name")->required()->type_name("")->check(name_check());
}

}  // namespace dvs::cli
