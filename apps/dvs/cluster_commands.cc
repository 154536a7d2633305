// `dvs up`, `dvs down`: a cluster on this machine; `dvs node join`, also to a real one.
#include <cctype>
#include <cstdio>
#include <memory>

#include "base/file.h"
#include "cli.h"
#include "enroll/enroll.h"
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

// ---- nodes that join

struct Joining {
  std::string name;
  std::string token, token_file;
  std::string from;
  std::string output = ".";
};

int join_local(Cli& cli, const std::string& name) {
  const auto joined = local::join(cluster_dir(), name);
  if (!joined.ok()) {
    return cli.fail("join node " + name, joined.error(), exit_status_of(joined.error()));
  }
  if (cli.json) return print_json(Json::object()), kDone;
  std::printf("%s has joined the cluster.\n", name.c_str());
  return kDone;
}

Result<enroll::Token> find_token(const Joining& joining) {
  std::string text = joining.token;
  if (!joining.token_file.empty()) {
    const bool standard = joining.token_file == "-";
    DVS_ASSIGN(text, read_file(standard ? "/dev/stdin" : joining.token_file));
    while (!text.empty() && std::isspace(static_cast<unsigned char>(text.back())) != 0) {
      text.pop_back();
    }
  }
  DVS_ASSIGN(enroll::Token token, enroll::parse_token(text));
  if (!joining.name.empty() && joining.name != token.node) {
    return Error(Code::kInvalid, "the token is for " + token.node);
  }
  return token;
}

int print_certificate(Cli& cli, const std::string& node, const std::string& dir) {
  const std::string base = dir + "/";
  const Json files = {{"authority", base + "ca.pem"},
                      {"certificate", base + node + ".pem"},
                      {"key", base + node + ".key"},
                      {"revoked", base + "crl.pem"}};
  if (cli.json) return print_json(files), kDone;
  std::printf(
      "%s has its certificate. Its dvsd takes\n"
      "  --tls-ca %s --tls-cert %s --tls-key %s --tls-crl %s\n",
      node.c_str(), printable(files.at("authority")).c_str(),
      printable(files.at("certificate")).c_str(), printable(files.at("key")).c_str(),
      printable(files.at("revoked")).c_str());
  return kDone;
}

// With a token, this machine gets a certificate of a real cluster.
int join(Cli& cli, const Joining& joining) {
  const bool has_token = !joining.token.empty() || !joining.token_file.empty();
  if (!has_token && joining.name.empty()) {
    return cli.fail("join", Error(Code::kInvalid, "give NODE, --token or --token-file"),
                    kBadCommandLine);
  }
  if (!has_token) return join_local(cli, joining.name);
  const auto token = find_token(joining);
  const auto from = parse_https_target(joining.from);
  Status joined = token.ok() ? Status() : Status(token.error());
  if (joined.ok() && !from.ok()) joined = from.error().context("--from");
  if (joined.ok()) joined = enroll::join(*from, *token, joining.output);
  if (!joined.ok()) {
    return cli.fail("get a certificate", joined.error(), exit_status_of(joined.error()));
  }
  return print_certificate(cli, token->node, joining.output);
}

int renew(Cli& cli, const Joining& joining) {
  const auto from = parse_https_target(joining.from);
  const Status renewed = from.ok() ? enroll::renew(*from, joining.name, joining.output)
                                   : Status(from.error().context("--from"));
  if (!renewed.ok()) {
    return cli.fail("renew the certificate of " + joining.name, renewed.error(),
                    exit_status_of(renewed.error()));
  }
  return print_certificate(cli, joining.name, joining.output);
}

void add_join_commands(CLI::App& node, Cli& cli) {
  auto joining = std::make_shared<Joining>();
  auto* join_command = add_command(
      node, cli, "join",
      "Add a node to the cluster on this machine, or start it again; with a token: make this "
      "machine a node of a real cluster",
      "  dvs node join n4\n"
      "  dvs node join --token-file token --from 10.0.0.9:7443 --output /etc/dvs",
      [&cli, joining] { return join(cli, *joining); });
  join_command->add_option("NODE", joining->name, "Its name; that of the token")
      ->type_name("")
      ->check(name_check());
  auto* from = join_command->add_option("--from", joining->from, "Where the authority answers")
                   ->type_name("ADDRESS:PORT");
  auto* token = join_command->add_option("--token", joining->token, "From `dvs cluster token`")
                    ->type_name("TOKEN")
                    ->needs(from);
  join_command
      ->add_option("--token-file", joining->token_file,
                   "The same, in a file that others cannot read; -: standard input")
      ->type_name("FILE")
      ->needs(from)
      ->excludes(token);
  join_command->add_option("--output", joining->output, "Where its key and certificate go")
      ->type_name("DIR");

  auto* renew_command = add_command(
      node, cli, "renew", "Get a new certificate for this node's key, and the revocation list",
      "  dvs node renew n4 --from 10.0.0.9:7443 --output /etc/dvs && systemctl reload dvsd",
      [&cli, joining] { return renew(cli, *joining); });
  renew_command->add_option("NODE", joining->name, "This node's name")
      ->required()
      ->type_name("")
      ->check(name_check());
  renew_command->add_option("--from", joining->from, "Where the authority answers")
      ->required()
      ->type_name("ADDRESS:PORT");
  renew_command->add_option("--output", joining->output, "Where its key and certificate are")
      ->type_name("DIR");
}

}  // namespace

void add_cluster_commands(CLI::App& app, CLI::App& node, Cli& cli) {
  auto options = std::make_shared<local::UpOptions>();
  options->tls = true;
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
  starting->add_flag("!--plain", options->tls,
                     "Links between nodes without TLS; else with certificates made for this "
                     "cluster");
  starting->add_flag("--faults", options->faults, "Let tests break it on purpose (dvsd --faults)");

  add_command(app, cli, "down", "End the cluster on this machine and all that runs in it",
              "  dvs down", [&cli] { return down(cli); });

  add_join_commands(node, cli);
}

}  // namespace dvs::cli
