// `dvs cluster init` and `dvs cluster certify`: who is a node of the cluster.
#include <cstdio>
#include <memory>

#include "cli.h"
#include "names.h"
#include "print.h"
#include "tls/authority.h"

namespace dvs::cli {
namespace {

struct Options {
  std::string directory;
  std::string cluster = "dvs";
  std::string node;
  std::string output;
  int days = 365;
};

int init(Cli& cli, const Options& options) {
  const Status made = tls::make_authority(options.directory, options.cluster);
  if (!made.ok()) {
    return cli.fail("make an authority", made.error(), exit_status_of(made.error()));
  }
  if (cli.json) return print_json({{"directory", options.directory}}), kDone;
  std::printf(
      "The authority of cluster %s is in %s.\n"
      "Whoever has its %s can make nodes of the cluster: keep it, and keep it to yourself.\n",
      options.cluster.c_str(), printable(options.directory).c_str(), tls::kAuthorityKey);
  return kDone;
}

int certify(Cli& cli, const Options& options) {
  const std::string output = options.output.empty() ? "." : options.output;
  const Status made = tls::certify(options.directory, options.node, output, options.days);
  if (!made.ok()) {
    return cli.fail("certify node " + options.node, made.error(), exit_status_of(made.error()));
  }
  const std::string base = output + "/" + options.node;
  const Json files = {{"authority", output + "/" + tls::kAuthorityCertificate},
                      {"certificate", base + ".pem"},
                      {"key", base + ".key"}};
  if (cli.json) return print_json(files), kDone;
  std::printf(
      "Move these to %s, and start its dvsd with\n  --tls-ca %s --tls-cert %s --tls-key %s\n",
      options.node.c_str(), printable(files.at("authority")).c_str(),
      printable(files.at("certificate")).c_str(), printable(files.at("key")).c_str());
  return kDone;
}

}  // namespace

void add_authority_commands(CLI::App& app, Cli& cli) {
  CLI::App& group = *add_group(app, "cluster", "The cluster's certificate authority");
  auto options = std::make_shared<Options>();
  auto* initing = add_command(group, cli, "init", "Make the authority that certifies the nodes",
                              "  dvs cluster init ~/dvs-authority --name lab",
                              [&cli, options] { return init(cli, *options); });
  initing->add_option("DIR", options->directory, "Where it is to be")->required()->type_name("");
  initing->add_option("--name", options->cluster, "The cluster's name")
      ->check(name_check())
      ->capture_default_str();

  auto* certifying = add_command(group, cli, "certify", "Make a node's certificate and key",
                                 "  dvs cluster certify ~/dvs-authority n1 --output /etc/dvs",
                                 [&cli, options] { return certify(cli, *options); });
  certifying->add_option("DIR", options->directory, "The authority")->required()->type_name("");
  certifying->add_option("NODE", options->node, "The node's name")
      ->required()
      ->type_name("")
      ->check(name_check());
  certifying->add_option("--output", options->output, "Where to (default: here)")->type_name("DIR");
  certifying->add_option("--days", options->days, "How long it is good")
      ->check(range_check(1, 3650))
      ->type_name("N")
      ->capture_default_str();
}

}  // namespace dvs::cli
