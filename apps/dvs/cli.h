// What the commands of `dvs` share: options that all of them have, exit statuses, how dvsd is
// asked and how failures are told.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <optional>
#include <string>

#include "api/http_server.h"

namespace dvs::cli {

// Documented in docs/cli.md and `dvs --help`: never renumber.
enum ExitStatus : int {
  kDone = 0,           // done; a migration: committed
  kInternalError = 1,  // a defect, or a failure nobody planned for
  kBadCommandLine = 2,
  kRefused = 3,         // refused before anything started
  kRolledBack = 4,      // a migration was rolled back: everything is as before
  kUnknownOutcome = 5,  // the answer was cut off or came too late
  kUnreachable = 6,     // no dvsd to ask
  kMemoryLost = 7,      // a migration: committed, and ended since its memory could not be had
  kNeedsAttention = 8,  // dvs recover: there is something that it has not mended
};

// Of an error that dvsd, or a library, gave as its answer.
ExitStatus exit_status_of(const Error& error);

class Cli {
 public:
  std::string socket;           // --socket
  std::string api;              // --api: a dvsd elsewhere, instead of a socket
  tls::Trust trust;             // --ca, --cert, --key
  std::string token_file;       // --token-file
  bool json = false;            // --json
  std::function<int()> action;  // of the command that was named

  // GET: the answer, or nothing after fail(). `what` completes "cannot ...".
  std::optional<Json> ask(const std::string& what, const std::string& target);
  // The same for requests that change something; a null body: none.
  std::optional<Json> change(const std::string& what, const std::string& method,
                             const std::string& target, Json body = nullptr);
  // The same, with the call's own limits and listener; whom it goes to is filled in.
  std::optional<Json> exchange(const std::string& what, HttpCall call);

  // Says "dvs: cannot WHAT: MESSAGE" on stderr, with --json also {"error"} on stdout. Returns
  // `status`, which failure() gives from then on.
  int fail(const std::string& what, const Error& error, ExitStatus status);
  int failure() const { return failure_; }

  // A line that is drawn again and again on the terminal (stdout); cleared before anything else
  // is printed.
  void draw_line(const std::string& text);
  void clear_line();

 private:
  Status choose_dvsd(HttpCall& call) const;

  int failure_ = kInternalError;
  bool line_drawn_ = false;
};

// Adds a command with the options that every command has. `examples`: lines for its --help.
CLI::App* add_command(CLI::App& parent, Cli& cli, const std::string& name,
                      const std::string& description, const std::string& examples,
                      std::function<int()> action);
// Adds a word that only has commands below it (`dvs node`).
CLI::App* add_group(CLI::App& parent, const std::string& name, const std::string& description);

void add_cluster_commands(CLI::App& app, CLI::App& node,
                          Cli& cli);                   // up, down, node join, node renew
void add_authority_commands(CLI::App& app, Cli& cli);  // cluster init, cluster certify
void add_node_commands(CLI::App& node, Cli& cli);
void add_dc_commands(CLI::App& app, Cli& cli);
void add_process_commands(CLI::App& app, Cli& cli);  // run, ps, logs, kill
void add_migration_commands(CLI::App& app, Cli& cli);
void add_check_command(CLI::App& app, Cli& cli);
void add_recover_command(CLI::App& app, Cli& cli);

// The local cluster's directory: $DVS_CLUSTER or the default.
std::string cluster_dir();

}  // namespace dvs::cli
