#include <cstdio>
#include <memory>

#include "cli.h"
#include "logs.h"
#include "names.h"
#include "print.h"

namespace dvs::cli {
namespace {

struct RunOptions {
  std::string dc, node, cwd;
  std::optional<int64_t> endpoint;
  std::vector<std::string> env, argv;
};

int run(Cli& cli, const RunOptions& options) {
  Json body = {{"node", options.node}, {"argv", options.argv}};
  if (options.endpoint) body["endpoint"] = *options.endpoint;
  if (!options.env.empty()) body["env"] = options.env;
  if (!options.cwd.empty()) body["cwd"] = options.cwd;
  const auto answer = cli.change("run " + options.argv[0] + " in " + options.dc, "POST",
                                 "/v1/dcs/" + url_encode(options.dc) + "/processes", body);
  if (!answer) return cli.failure();
  if (cli.json) return print_json(*answer), kDone;
  const std::string endpoint = cell(*answer, "endpoint");
  const std::string where = "on " + cell(*answer, "node") + ", pid " + cell(*answer, "pid") +
                            ", task " + cell(*answer, "task");
  std::printf("%s%s runs %s\n", options.dc.c_str(), endpoint == "-" ? "" : ("/" + endpoint).c_str(),
              where.c_str());
  return kDone;
}

int list_processes(Cli& cli, const std::string& dc) {
  const auto answer =
      cli.ask("list the processes", "/v1/processes" + (dc.empty() ? "" : "?dc=" + url_encode(dc)));
  if (!answer) return cli.failure();
  if (cli.json) return print_json(*answer), kDone;
  print_table(list_of(*answer, "processes"),
              {{"DC", "dc"},
               {"ENDPOINT", "endpoint"},
               {"NODE", "node"},
               {"STATE", "state"},
               {"KIND", "kind"},
               {"PID", "pid"},
               {"TID", "tid"},
               {"EPOCH", "epoch"},
               {"TASK", "task"},
               {"COMMAND", "command"}},
              "No processes.");
  return kDone;
}

int kill_endpoint(Cli& cli, const std::string& text, const std::string& signal) {
  const EndpointName name = *parse_endpoint_name(text);
  const auto answer = cli.change(
      "signal " + text, "POST",
      "/v1/dcs/" + url_encode(name.dc) + "/endpoints/" + std::to_string(name.endpoint) + "/kill",
      {{"signal", *parse_signal(signal)}});
  if (!answer) return cli.failure();
  if (cli.json) return print_json(*answer), kDone;
  std::printf("Sent %s to %s.\n", signal.c_str(), text.c_str());
  return kDone;
}

void add_run(CLI::App& app, Cli& cli) {
  auto options = std::make_shared<RunOptions>();
  auto* command =
      add_command(app, cli, "run", "Start a program in a DC",
                  "  dvs run --dc DC0 --node n1 --endpoint 11 -- counter-server\n"
                  "  dvs run --dc DC0 --node n2 --env LANG=C --cwd /tmp -- sh -c 'echo $LANG'",
                  [&cli, options] { return run(cli, *options); });
  command->add_option("--dc", options->dc, "The DC")
      ->required()
      ->check(name_check())
      ->type_name("NAME");
  command->add_option("--node", options->node, "The node")
      ->required()
      ->check(name_check())
      ->type_name("NAME");
  command->add_option("--endpoint", options->endpoint, "Bind its first thread to this endpoint")
      ->check(range_check(0, 1e9))
      ->type_name("E");
  command->add_option("--env", options->env, "A variable of its environment; may be repeated")
      ->check(assignment_check())
      ->type_name("K=V")
      ->allow_extra_args(false);
  command->add_option("--cwd", options->cwd, "Its working directory")->type_name("PATH");
  command->add_option("COMMAND", options->argv, "The program and its arguments, after --")
      ->required()
      ->type_name("");
}

void add_ps(CLI::App& app, Cli& cli) {
  auto dc = std::make_shared<std::string>();
  auto* command = add_command(app, cli, "ps", "List the processes of all nodes",
                              "  dvs ps\n"
                              "  dvs ps --dc DC0 --json",
                              [&cli, dc] { return list_processes(cli, *dc); });
  command->add_option("--dc", *dc, "Only of this DC")->check(name_check())->type_name("NAME");
}

void add_logs(CLI::App& app, Cli& cli) {
  auto options = std::make_shared<LogsOptions>();
  auto* command =
      add_command(app, cli, "logs", "Show what a process wrote to stdout and stderr",
                  "  dvs logs DC0/11\n"
                  "  dvs logs DC0/11 --tail 20 -f    # the last 20 lines and what follows",
                  [&cli, options] { return show_logs(cli, *options); });
  command->add_option("ENDPOINT", options->endpoint, "Of the process: DC/NUMBER")
      ->required()
      ->type_name("")
      ->check(endpoint_name_check());
  command->add_flag("-f,--follow", options->follow, "Go on until the process ends");
  command->add_option("--tail", options->tail, "Only the last N lines")
      ->check(range_check(0, 1e9))
      ->type_name("N");
}

void add_kill(CLI::App& app, Cli& cli) {
  auto endpoint = std::make_shared<std::string>();
  auto signal = std::make_shared<std::string>("TERM");
  auto* command =
      add_command(app, cli, "kill", "Send a signal to a process",
                  "  dvs kill DC0/11\n"
                  "  dvs kill DC0/11 --signal KILL",
                  [&cli, endpoint, signal] { return kill_endpoint(cli, *endpoint, *signal); });
  command->add_option("ENDPOINT", *endpoint, "Of the process: DC/NUMBER")
      ->required()
      ->type_name("")
      ->check(endpoint_name_check());
  command->add_option("--signal", *signal, "Name or number")
      ->check(signal_check())
      ->type_name("S")
      ->capture_default_str();
}

}  // namespace

void add_process_commands(CLI::App& app, Cli& cli) {
  add_run(app, cli);
  add_ps(app, cli);
  add_logs(app, cli);
  add_kill(app, cli);
}

}  // namespace dvs::cli
