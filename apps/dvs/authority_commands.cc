// `dvs cluster ...`: who is a node of the cluster, and who may use it.
#include <unistd.h>

#include <boost/asio/signal_set.hpp>
#include <cstdio>
#include <memory>

#include "base/file.h"
#include "cli.h"
#include "enroll/enroll.h"
#include "names.h"
#include "print.h"
#include "tls/authority.h"

namespace dvs::cli {
namespace {

struct Options {
  std::string directory;
  std::string cluster = "dvs";
  std::string name;
  std::string role = "operate";
  std::string output = ".";
  std::string listen;
  std::vector<std::string> addresses;
  int days = 365;
  uint64_t valid_s = 3600;
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

// Prints the files that were made, after `use`, which says what to do with them.
int print_files(Cli& cli, const Options& options, const std::string& use, const char* prefix) {
  const std::string base = options.output + "/" + options.name;
  const Json files = {{"authority", options.output + "/" + tls::kAuthorityCertificate},
                      {"certificate", base + ".pem"},
                      {"key", base + ".key"}};
  if (cli.json) return print_json(files), kDone;
  std::printf("%s\n  --%sca %s --%scert %s --%skey %s\n", use.c_str(), prefix,
              printable(files.at("authority")).c_str(), prefix,
              printable(files.at("certificate")).c_str(), prefix,
              printable(files.at("key")).c_str());
  return kDone;
}

Status certify_as(const Options& options, const std::string& unit) {
  return tls::certify(options.directory, {{options.name, unit}, options.days, options.addresses},
                      options.output);
}

int certify(Cli& cli, const Options& options) {
  if (const Status made = certify_as(options, tls::kNodeUnit); !made.ok()) {
    return cli.fail("certify node " + options.name, made.error(), exit_status_of(made.error()));
  }
  return print_files(cli, options, "Move these to " + options.name + ", and start its dvsd with",
                     "tls-");
}

int certify_user(Cli& cli, const Options& options) {
  if (const Status made = certify_as(options, options.role); !made.ok()) {
    return cli.fail("certify user " + options.name, made.error(), exit_status_of(made.error()));
  }
  return print_files(
      cli, options, "Give these to " + options.name + ", for dvs --api https://NODE:PORT with", "");
}

int token(Cli& cli, const Options& options) {
  const auto made =
      enroll::make_token(options.directory, options.name, std::chrono::seconds(options.valid_s));
  if (!made.ok()) return cli.fail("make a token", made.error(), exit_status_of(made.error()));
  const std::string text = enroll::to_text(*made);
  if (cli.json) return print_json({{"token", text}, {"node", made->node}}), kDone;
  std::printf("%s\n", text.c_str());
  return kDone;
}

int revoke(Cli& cli, const Options& options) {
  const auto revoked = tls::revoke(options.directory, options.name);
  const Status forgotten = enroll::forget_tokens(options.directory, options.name);
  for (const Error* error :
       {revoked.ok() ? nullptr : &revoked.error(), forgotten.ok() ? nullptr : &forgotten.error()}) {
    if (error == nullptr) continue;
    return cli.fail("revoke " + options.name, *error, exit_status_of(*error));
  }
  const std::string list = options.directory + "/" + tls::kRevoked;
  if (cli.json) return print_json({{"revoked", *revoked}, {"list", list}}), kDone;
  std::printf(
      "%d certificates of %s are called back in %s. This counts on the nodes\n"
      "once it is brought to them: dvs cluster publish %s\n",
      *revoked, options.name.c_str(), printable(list).c_str(),
      printable(options.directory).c_str());
  return kDone;
}

// Through any node, to all.
int publish(Cli& cli, const Options& options) {
  const std::string what = "publish the list of revoked certificates";
  const auto list = read_file(options.directory + "/" + tls::kRevoked);
  if (!list.ok()) return cli.fail(what, list.error(), exit_status_of(list.error()));
  if (!cli.change(what, "POST", "/v1/revoked", {{"revoked", *list}})) return cli.failure();
  if (cli.json) return print_json({{"published", true}}), kDone;
  std::printf(
      "It goes to every node that keeps a list (--tls-crl), to those that are down when they are "
      "up.\n");
  return kDone;
}

// Until it is interrupted.
int serve(Cli& cli, const Options& options) {
  const auto fail = [&](const Error& error) {
    return cli.fail("serve the authority", error, exit_status_of(error));
  };
  const auto where = parse_https_target(options.listen);
  if (!where.ok()) return fail(Error(Code::kInvalid, "--listen takes ADDRESS:PORT"));
  auto identity = tls::Identity::of_authority(options.directory);
  if (!identity.ok()) return fail(identity.error());
  Executor executor(1);
  auto server = open_https_server(executor, {where->host, where->port, *identity, nullptr});
  if (!server.ok()) return fail(server.error());
  enroll::add_routes(**server, options.directory, [](const std::string& what) {
    std::printf("%s\n", printable(what).c_str());
    std::fflush(stdout);
  });
  boost::asio::signal_set signals(executor, SIGINT, SIGTERM);
  signals.async_wait([&](const boost::system::error_code&, int) { executor.stop(); });
  std::printf("The authority answers at %s:%d.\n", where->host.c_str(), (*server)->port());
  std::fflush(stdout);
  executor.run();
  return kDone;
}

using Shared = std::shared_ptr<Options>;

CLI::App* add(CLI::App& group, Cli& cli, const Shared& options, const char* name,
              const char* description, const char* example, int (*action)(Cli&, const Options&)) {
  auto* command = add_command(group, cli, name, description, example,
                              [&cli, options, action] { return action(cli, *options); });
  command->add_option("DIR", options->directory, "The authority")->required()->type_name("");
  return command;
}

void add_name(CLI::App& command, const Shared& options, const char* name, const char* what) {
  command.add_option(name, options->name, what)->required()->type_name("")->check(name_check());
}

void add_making(CLI::App& command, const Shared& options) {
  command.add_option("--output", options->output, "Where to (default: here)")->type_name("DIR");
  command.add_option("--days", options->days, "How long it is good")
      ->check(range_check(1, 3650))
      ->type_name("N")
      ->capture_default_str();
}

}  // namespace

void add_authority_commands(CLI::App& app, Cli& cli) {
  CLI::App& group = *add_group(app, "cluster", "The cluster's certificate authority");
  auto options = std::make_shared<Options>();
  add(group, cli, options, "init", "Make the authority that certifies nodes and users",
      "  dvs cluster init ~/dvs-authority --name lab", init)
      ->add_option("--name", options->cluster, "The cluster's name")
      ->check(name_check())
      ->capture_default_str();

  auto* certifying = add(group, cli, options, "certify", "Make a node's certificate and key",
                         "  dvs cluster certify ~/dvs-authority n1 --output /etc/dvs", certify);
  add_name(*certifying, options, "NODE", "The node's name");
  add_making(*certifying, options);
  certifying
      ->add_option("--address", options->addresses,
                   "IP address at which programs that look for one find it, such as those of etcd")
      ->check(CLI::ValidIPV4)
      ->type_name("IP");

  auto* user = add(group, cli, options, "certify-user", "Make a user's certificate and key",
                   "  dvs cluster certify-user ~/dvs-authority alice --role operate", certify_user);
  add_name(*user, options, "NAME", "The user's name");
  user->add_option("--role", options->role,
                   "view: see everything; operate: run, kill and move processes too; admin: "
                   "everything")
      ->check(CLI::IsMember({"view", "operate", "admin"}))
      ->required();
  add_making(*user, options);

  auto* giving = add(group, cli, options, "token",
                     "Make a token by which one machine becomes a node (dvs node join --token)",
                     "  dvs cluster token ~/dvs-authority n4 --valid 30m", token);
  add_name(*giving, options, "NODE", "The node it is for");
  giving->add_option("--valid", options->valid_s, "How long, e.g. 30m, 2h (default: 1h)")
      ->transform(CLI::AsNumberWithUnit(
          std::map<std::string, uint64_t>{{"s", 1}, {"m", 60}, {"h", 3600}, {"d", 86400}},
          CLI::AsNumberWithUnit::CASE_SENSITIVE))
      ->type_name("TIME");

  add(group, cli, options, "serve", "Answer nodes that join or renew their certificate",
      "  dvs cluster serve ~/dvs-authority --listen 10.0.0.9:7443", serve)
      ->add_option("--listen", options->listen, "Where")
      ->required()
      ->type_name("ADDRESS:PORT");

  auto* revoking =
      add(group, cli, options, "revoke", "Call back the certificates and tokens of a node or user",
          "  dvs node leave n4 && dvs cluster revoke ~/dvs-authority n4", revoke);
  add_name(*revoking, options, "NAME", "Whose");
  add(group, cli, options, "publish", "Bring the list of what was called back to every node",
      "  dvs --api https://10.0.0.1:7444 --ca ca.pem --cert alice.pem --key alice.key "
      "\\\n    cluster publish ~/dvs-authority",
      publish);
}

}  // namespace dvs::cli
