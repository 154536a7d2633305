#include <cstdio>
#include <memory>

#include "cli.h"
#include "names.h"
#include "print.h"

namespace dvs::cli {
namespace {

struct DcOptions {
  std::string name;
  std::string node;
  std::vector<std::string> nodes;
  uint32_t endpoints = 0;
  uint32_t servers = 0;
  bool force = false;
};

std::string dc_target(const std::string& dc) { return "/v1/dcs/" + url_encode(dc); }

int list_dcs(Cli& cli) {
  const auto answer = cli.ask("list the DCs", "/v1/dcs");
  if (!answer) return cli.failure();
  if (cli.json) return print_json(*answer), kDone;
  print_table(list_of(*answer, "dcs"),
              {{"DC", "name"},
               {"ID", "id"},
               {"ENDPOINTS", "endpoints"},
               {"BOUND", "bound"},
               {"NODES", "nodes"}},
              "No DCs. Create one with `dvs dc create`.");
  return kDone;
}

// Prints the DC that create, extend and shrink answer with.
int print_dc(Cli& cli, const std::optional<Json>& answer) {
  if (!answer) return cli.failure();
  if (cli.json) return print_json(*answer), kDone;
  std::printf("%s spans %s.\n", cell(*answer, "name").c_str(), cell(*answer, "nodes").c_str());
  return kDone;
}

int create_dc(Cli& cli, const DcOptions& options) {
  Json body = {{"name", options.name}, {"nodes", options.nodes}};
  if (options.endpoints != 0) body["endpoints"] = options.endpoints;
  if (options.servers != 0) body["servers"] = options.servers;
  return print_dc(cli, cli.change("create DC " + options.name, "POST", "/v1/dcs", body));
}

int remove_dc(Cli& cli, const DcOptions& options) {
  const std::string target = dc_target(options.name) + (options.force ? "?force=1" : "");
  const auto answer = cli.change("remove DC " + options.name, "DELETE", target);
  if (!answer) return cli.failure();
  if (cli.json) return print_json(*answer), kDone;
  std::printf("%s is gone.\n", options.name.c_str());
  return kDone;
}

int extend_dc(Cli& cli, const DcOptions& options) {
  return print_dc(cli, cli.change("extend DC " + options.name + " to node " + options.node, "POST",
                                  dc_target(options.name) + "/nodes", {{"node", options.node}}));
}

int shrink_dc(Cli& cli, const DcOptions& options) {
  return print_dc(cli,
                  cli.change("take node " + options.node + " from DC " + options.name, "DELETE",
                             dc_target(options.name) + "/nodes/" + url_encode(options.node)));
}

void add_create(CLI::App& group, Cli& cli) {
  auto options = std::make_shared<DcOptions>();
  auto* command = add_command(group, cli, "create", "Create a DC on some nodes",
                              "  dvs dc create DC0 --nodes n1,n2,n3\n"
                              "  dvs dc create big --nodes n1,n2 --endpoints 4096",
                              [&cli, options] { return create_dc(cli, *options); });
  command->add_option("DC", options->name, "Its name")
      ->required()
      ->type_name("")
      ->check(name_check());
  command->add_option("--nodes", options->nodes, "The nodes it spans")
      ->required()
      ->delimiter(',')
      ->allow_extra_args(false)
      ->check(name_check())
      ->type_name("A,B");
  command->add_option("--endpoints", options->endpoints, "Size of its table (default 1024)")
      ->check(range_check(1, 1e9))
      ->type_name("N");
  command
      ->add_option("--servers", options->servers,
                   "Endpoints 0 to N-1 are servers', who may make every call (default 29);\n"
                   "those above are user processes', who ask servers (dvk_sendrec)")
      ->check(range_check(1, 1e9))
      ->type_name("N");
}

void add_remove(CLI::App& group, Cli& cli) {
  auto options = std::make_shared<DcOptions>();
  auto* command = add_command(group, cli, "rm", "Remove a DC",
                              "  dvs dc rm DC0\n"
                              "  dvs dc rm DC0 --force    # ends the processes in it",
                              [&cli, options] { return remove_dc(cli, *options); });
  command->add_option("DC", options->name, "Its name")
      ->required()
      ->type_name("")
      ->check(name_check());
  command->add_flag("--force", options->force, "End the processes that live in it");
}

void add_resize(CLI::App& group, Cli& cli, const std::string& verb, const std::string& description,
                int (*action)(Cli&, const DcOptions&)) {
  auto options = std::make_shared<DcOptions>();
  auto* command = add_command(group, cli, verb, description, "  dvs dc " + verb + " DC0 n4",
                              [&cli, options, action] { return action(cli, *options); });
  command->add_option("DC", options->name, "The DC")
      ->required()
      ->type_name("")
      ->check(name_check());
  command->add_option("NODE", options->node, "The node")
      ->required()
      ->type_name("")
      ->check(name_check());
}

}  // namespace

void add_dc_commands(CLI::App& app, Cli& cli) {
  CLI::App& group = *add_group(app, "dc", "Distributed containers");
  add_command(group, cli, "ls", "List the DCs", "  dvs dc ls", [&cli] { return list_dcs(cli); });
  add_create(group, cli);
  add_remove(group, cli);
  add_resize(group, cli, "extend", "Let a DC span one more node", extend_dc);
  add_resize(group, cli, "shrink", "Take a node, where none of its endpoints live, from a DC",
             shrink_dc);
}

}  // namespace dvs::cli
