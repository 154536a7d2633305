// dvs: the command line of a Distributed Virtualization System.
#include <cstdio>

#include "cli.h"

namespace dvs::cli {
namespace {

constexpr const char* kFooter =
    "dvsd is looked for at --socket, --api ($DVS_API), $DVS_SOCKET, /run/dvs/dvsd.sock, and then "
    "among the nodes of\n"
    "the cluster on this machine (/var/lib/dvs/local; $DVS_CLUSTER names another directory, and\n"
    "then only its nodes are asked).\n"
    "\n"
    "Exit status:\n"
    "  0  done; a migration: committed\n"
    "  1  internal error\n"
    "  2  bad command line\n"
    "  3  refused before anything started: not found, in use, denied, unsupported, ...\n"
    "  4  a migration was rolled back: everything is as before\n"
    "  5  the outcome is unknown: see `dvs migration show`, `dvs ps`\n"
    "  6  dvsd cannot be reached\n"
    "  7  a migration was committed, and the process ended since its memory could not be had\n"
    "  8  dvs recover: something needs attention\n"
    "\n"
    "Examples:\n"
    "  dvs check && dvs up\n"
    "  dvs dc create DC0 --nodes n1,n2,n3\n"
    "  dvs run --dc DC0 --node n1 --endpoint 11 -- sleep 1000\n"
    "  dvs migrate DC0/11 --to n2\n"
    "  dvs migrate --help";

// "dvs node join" for the command that was being read when the error was found.
std::string command_read(const CLI::App* app) {
  const auto subcommands = app->get_subcommands();
  if (subcommands.empty()) return app->get_name();
  return app->get_name() + " " + command_read(subcommands.front());
}

void set_up(CLI::App& app, Cli& cli) {
  app.set_version_flag("--version", "dvs " DVS_VERSION);
  app.add_flag("--json", cli.json, "Print JSON");
  app.add_option("--socket", cli.socket, "dvsd's socket")->type_name("PATH");
  app.add_option("--api", cli.api, "A dvsd elsewhere (dvsd --api), instead of a socket")
      ->envname("DVS_API")
      ->type_name("https://HOST:PORT");
  app.add_option("--ca", cli.trust.authority, "The cluster's authority: its ca.pem")
      ->envname("DVS_CA")
      ->type_name("FILE");
  auto* cert = app.add_option("--cert", cli.trust.certificate, "Your certificate")
                   ->envname("DVS_CERT")
                   ->type_name("FILE");
  app.add_option("--key", cli.trust.key, "Its key")->envname("DVS_KEY")->type_name("FILE");
  app.add_option("--token-file", cli.token_file, "Your token, instead of a certificate")
      ->envname("DVS_TOKEN_FILE")
      ->type_name("FILE")
      ->excludes(cert);
  app.require_subcommand(1);
  app.footer(kFooter);
  CLI::App& node = *add_group(app, "node", "The cluster's nodes");
  add_node_commands(node, cli);
  add_dc_commands(app, cli);
  add_process_commands(app, cli);
  add_migration_commands(app, cli);
  add_check_command(app, cli);
  add_recover_command(app, cli);
  add_cluster_commands(app, node, cli);
  add_authority_commands(app, cli);
}

int run(int argc, char** argv) {
  CLI::App app("Runs programs in distributed containers and moves them between nodes.", "dvs");
  Cli cli;
  set_up(app, cli);
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& asked) {  // --help, --version
    return app.exit(asked);
  } catch (const CLI::ParseError& error) {
    std::fprintf(stderr, "dvs: %s\nSee `%s --help`.\n", error.what(), command_read(&app).c_str());
    return kBadCommandLine;
  }
  return cli.action();
}

}  // namespace
}  // namespace dvs::cli

int main(int argc, char** argv) { return dvs::cli::run(argc, argv); }
