#include "options.h"

#undef NONE  // of dvk.h; CLI11 has one of its own
#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <filesystem>

#include "directory/records.h"

namespace dvs::daemon {
namespace {

void add_options(CLI::App& app, Options& options) {
  app.add_option("--name", options.node.name, "name of this node, unique in the cluster")
      ->required();
  app.add_option("--cluster", options.node.cluster, "name of the cluster")->required();
  app.add_option("--listen", options.listen, "ADDRESS:PORT for links; other nodes connect here")
      ->required();
  app.add_option("--etcd", options.etcd.endpoints, "URLs of etcd, e.g. https://10.0.0.1:2379")
      ->required()
      ->delimiter(',');
  app.add_option("--etcd-ca", options.etcd.tls.authority,
                 "certificate (PEM) of the authority of etcd's certificate; default: the system's");
  app.add_option("--etcd-cert", options.etcd.tls.certificate,
                 "certificate (PEM) by which etcd knows this node");
  app.add_option("--etcd-key", options.etcd.tls.key, "its private key (PEM)");
  app.add_option("--run-dir", options.node.run_dir, "where this node keeps its state (a tmpfs)")
      ->capture_default_str();
  app.add_option("--socket", options.socket, "unix socket of the API")->capture_default_str();
  app.add_option(
      "--group", options.group,
      "group whose members may use the socket, and so do everything; default: its owner");
  app.add_option("--api", options.api_listen, "ADDRESS:PORT for the API inside TLS");
  app.add_option("--api-tokens", options.api_tokens,
                 "file of tokens for it, a line each: SHA256 ROLE NAME")
      ->check(CLI::ExistingFile);
  app.add_option("--criu", options.criu, "path of criu >= 4.2")->envname("DVS_CRIU");
  app.add_flag("--compress-links", options.node.compress_links,
               "compress large transfers to other nodes (for networks slower than about 4 Gbit/s)");
  app.add_option("--tls-ca", options.tls.authority,
                 "links are TLS: certificate (PEM) of the cluster's authority");
  app.add_option("--tls-cert", options.tls.certificate, "certificate (PEM) of this node");
  app.add_option("--tls-key", options.tls.key, "its private key (PEM)");
  app.add_option("--tls-crl", options.tls.revoked,
                 "the authority's list of revoked certificates (PEM); read again, like the other "
                 "files, at SIGHUP");
  app.add_flag("--plain", options.plain,
               "links without TLS: whoever reaches them is believed to be any node");
  app.add_flag("!--no-batching", options.node.batch_links,
               "write each message to other nodes by itself (to measure what batching brings)");
  app.add_option("--dc-writable", options.node.dc_writable,
                 "directory of this node that its DCs may write; the rest is read-only to them")
      ->check(CLI::ExistingDirectory);
  app.add_option("--dc-show", options.node.dc_shown,
                 "directory below /tmp, /var/tmp, /run or /dev that its DCs see, read-only; by "
                 "default they have their own of those")
      ->check(CLI::ExistingDirectory);
  app.add_option("--dc-hide", options.node.dc_hidden,
                 "path that its DCs do not see; nor do they see the directories of private keys");
  app.add_flag("--faults", options.node.faults, "allow fault points to be armed (tests only)");
  app.footer(
      "Example:\n  dvsd --name n1 --cluster lab --listen 10.0.0.1:7000 --etcd "
      "https://10.0.0.9:2379 "
      "\\\n    --tls-ca ca.pem --tls-cert n1.pem --tls-key n1.key");
}

Result<Address> split(const std::string& option, const std::string& text) {
  const Error bad(Code::kInvalid, option + " takes ADDRESS:PORT, not '" + text + "'");
  const size_t colon = text.rfind(':');
  if (colon == std::string::npos) return bad;
  Address address{text.substr(0, colon), 0};
  const char* const end = text.data() + text.size();
  const auto [stop, failed] = std::from_chars(text.data() + colon + 1, end, address.port);
  if (failed != std::errc() || stop != end || colon + 1 == text.size()) return bad;
  return address;
}

// Nobody gets links without proof of who is who by having forgotten an option.
Status check_protection(const Options& options) {
  if (options.tls.empty() && !options.plain) {
    return Error(
        Code::kInvalid,
        "links need protection: give this node's certificate with --tls-ca, --tls-cert and "
        "--tls-key (see `dvs cluster --help`), or say --plain on a network that you trust");
  }
  if (!options.tls.empty() && options.plain) {
    return Error(Code::kInvalid, "--plain and --tls-... exclude each other");
  }
  if (options.plain && !options.api_listen.empty()) {
    return Error(Code::kInvalid, "--api needs certificates");
  }
  if (options.etcd.tls.certificate.empty() != options.etcd.tls.key.empty()) {
    return Error(Code::kInvalid, "--etcd-cert and --etcd-key belong together");
  }
  if (options.api_listen.empty() && !options.api_tokens.empty()) {
    return Error(Code::kInvalid, "--api-tokens needs --api");
  }
  return {};
}

// Programs of DCs are root there and read the node's files: not the keys by which it is a node. Not
// the file alone is hidden, since a new one takes its place at each renewal.
Status hide_key(const std::string& option, const std::string& key, NodeConfig& node) {
  if (key.empty()) return {};
  std::error_code missing;
  const auto real = std::filesystem::canonical(key, missing);
  if (missing) return {};  // to load it fails, and says why
  for (const auto& path : {std::filesystem::absolute(key), real}) {
    const std::string dir = path.parent_path().lexically_normal();
    if (std::count(dir.begin(), dir.end(), '/') < 2 && dir != "/root") {
      return Error(Code::kInvalid, option + ": put " + key +
                                       " into a directory of its own, e.g. /etc/dvs: programs of "
                                       "DCs are not to see that, and need " +
                                       dir);
    }
    node.dc_hidden.insert(node.dc_hidden.begin(), dir);
  }
  return {};
}

}  // namespace

Status check(Options& options) {
  DVS_ASSIGN(const Address links, split("--listen", options.listen));
  options.node.listen_address = links.address;
  options.node.listen_port = links.port;
  if (!options.api_listen.empty()) {
    DVS_ASSIGN(options.api, split("--api", options.api_listen));
  }
  if (!is_name(options.node.name)) {
    return Error(Code::kInvalid, "--name: 1 to 15 letters, digits, '-' or '_'");
  }
  DVS_TRY(check_protection(options));
  DVS_TRY(hide_key("--tls-key", options.tls.key, options.node));
  return hide_key("--etcd-key", options.etcd.tls.key, options.node);
}

std::optional<int> parse(int argc, char** argv, Options& options) {
  CLI::App app("The daemon of a DVS node");
  add_options(app, options);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error);
  }
  return std::nullopt;
}

}  // namespace dvs::daemon
