#include <cstdio>
#include <memory>

#include "cli.h"
#include "names.h"
#include "print.h"

namespace dvs::cli {
namespace {

int list_nodes(Cli& cli) {
  const auto answer = cli.ask("list the nodes", "/v1/nodes");
  if (!answer) return cli.failure();
  if (cli.json) return print_json(*answer), kDone;
  print_table(list_of(*answer, "nodes"),
              {{"NODE", "name"},
               {"ID", "id"},
               {"STATE", "state"},
               {"LINK", "link"},
               {"ADDRESS", "address"},
               {"PORT", "port"},
               {"DCS", "dcs"}},
              "No nodes.");
  return kDone;
}

int leave(Cli& cli, const std::string& node) {
  const auto answer = cli.change("remove node " + node, "DELETE", "/v1/nodes/" + url_encode(node));
  if (!answer) return cli.failure();
  if (cli.json) return print_json(*answer), kDone;
  std::printf("%s has left the cluster.\n", node.c_str());
  return kDone;
}

}  // namespace

void add_node_commands(CLI::App& node, Cli& cli) {
  add_command(node, cli, "ls", "List the cluster's nodes",
              "  dvs node ls\n"
              "  dvs node ls --json",
              [&cli] { return list_nodes(cli); });

  auto name = std::make_shared<std::string>();
  auto* leaving = add_command(node, cli, "leave", "Take a node out of the cluster",
                              "  dvs dc shrink DC0 n3 && dvs node leave n3",
                              [&cli, name] { return leave(cli, *name); });
  leaving->add_option("NODE", *name, "A node that no DC spans")
      ->required()
      ->type_name("")
      ->check(name_check());
}

}  // namespace dvs::cli
