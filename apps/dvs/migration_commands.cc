#include <cmath>
#include <cstdio>
#include <memory>

#include "cli.h"
#include "migrate.h"
#include "names.h"
#include "print.h"

namespace dvs::cli {
namespace {

int list_migrations(Cli& cli) {
  const auto answer = cli.ask("list the migrations", "/v1/migrations");
  if (!answer) return cli.failure();
  if (cli.json) return print_json(*answer), kDone;
  Json rows = list_of(*answer, "migrations");
  for (auto& row : rows) {
    if (!row.is_object()) continue;
    row["started"] = local_time(row, "started_ns");
    row["total"] = milliseconds(row, "migration_ms");
    row["frozen"] = milliseconds(row, "frozen_ms");
  }
  print_table(rows,
              {{"ID", "id"},
               {"STARTED", "started"},
               {"DC", "dc"},
               {"ENDPOINTS", "endpoints"},
               {"SOURCE", "source"},
               {"TARGET", "target"},
               {"STATE", "state"},
               {"TOTAL", "total"},
               {"FROZEN", "frozen"},
               {"REASON", "reason"}},
              "No migrations.");
  return kDone;
}

int show_migration(Cli& cli, const std::string& id) {
  auto answer = cli.ask("show migration " + id, "/v1/migrations/" + url_encode(id));
  if (!answer) return cli.failure();
  if (cli.json) return print_json(*answer), kDone;
  print_facts(*answer, {{"Migration", "id"},
                        {"State", "state"},
                        {"Reason", "reason"},
                        {"DC", "dc"},
                        {"Endpoints", "endpoints"},
                        {"Task", "task"},
                        {"Source", "source"},
                        {"Target", "target"},
                        {"File server", "file_server"},
                        {"Memory", "memory"},
                        {"Coordinator", "coordinator"},
                        {"Pid", "pid"}});
  std::printf("%-11s  %s\n", "Started", local_time(*answer, "started_ns").c_str());
  print_times(*answer);
  return kDone;
}

void add_migrate(CLI::App& app, Cli& cli) {
  auto options = std::make_shared<MigrateOptions>();
  auto* command = add_command(
      app, cli, "migrate", "Move a running process to another node",
      "  dvs migrate DC0/11 --to n2\n"
      "  dvs migrate DC0/11 --to n2 --algorithm pre-copy --timeout 60 --on-timeout force\n"
      "  dvs migrate DC0/11 --to n2 --algorithm file-server --file-server n3\n"
      "Algorithms:\n"
      "  total-copy    stops the process and copies its memory then\n"
      "  pre-copy      copies it in rounds while the process runs, and then what changed\n"
      "  on-demand     lets it run at the target at once; its memory follows as it is used\n"
      "  non-freezing  copies it while the process runs; of what has changed only what is\n"
      "                in use holds it up, the rest follows\n"
      "  file-server   as pre-copy, to a third node; from there as it is used\n"
      "  auto          chooses, and goes from pre-copy to on-demand if rounds do not help\n"
      "While memory follows, the process depends on the node that has it.\n"
      "Interrupting this command does not stop the migration: `dvs migration cancel` does.",
      [&cli, options] { return migrate(cli, *options); });
  command->add_option("ENDPOINT", options->endpoint, "Of the process: DC/NUMBER")
      ->required()
      ->type_name("")
      ->check(endpoint_name_check());
  command->add_option("--to", options->target, "The node it shall move to")
      ->required()
      ->check(name_check())
      ->type_name("NAME");
  command->add_option("--algorithm", options->algorithm, "When memory is copied: see above")
      ->capture_default_str()
      ->type_name("NAME");
  command
      ->add_option("--max-downtime", options->max_downtime_ms,
                   "Copy until the rest can be sent in so many milliseconds")
      ->check(range_check(1, 60'000))
      ->capture_default_str()
      ->type_name("MS");
  command->add_option("--file-server", options->file_server, "The node that keeps the memory")
      ->check(name_check())
      ->type_name("NODE");
  command
      ->add_option("--compress", options->compress,
                   "Memory on its way: auto (while the link is what it waits for), none, lz4, zstd")
      ->check(CLI::IsMember({"auto", "none", "lz4", "zstd"}))
      ->capture_default_str()
      ->type_name("HOW");
  command
      ->add_option("--patience", options->patience_s,
                   "End the process when memory it waits for does not come for so many seconds")
      ->check(range_check(0.1, 86400))
      ->capture_default_str()
      ->type_name("S");
  command
      ->add_option("--bandwidth", options->bandwidth,
                   "Copy at most so much per second while the process runs, e.g. 100MiB")
      ->transform(CLI::AsSizeValue(false))
      ->type_name("RATE");
  command->add_option("--timeout", options->timeout_s, "Roll back after so many seconds")
      ->check(range_check(0.001, 86400))
      ->type_name("S");
  command
      ->add_option("--on-timeout", options->on_timeout,
                   "While it is still copying: cancel, or force it to stop for the rest")
      ->check(CLI::IsMember({"cancel", "force"}))
      ->capture_default_str()
      ->type_name("WHAT");
}

int cancel_migration(Cli& cli, const std::string& id) {
  HttpCall call;
  call.method = "POST";
  call.target = "/v1/migrations/" + url_encode(id) + "/cancel";
  const auto answer = cli.exchange("cancel migration " + id, std::move(call));
  if (!answer) return cli.failure();
  if (cli.json) return print_json(*answer), kDone;
  std::printf("Migration %s is canceled: %s runs on %s as before.\n", id.c_str(),
              cell(*answer, "endpoints").c_str(), cell(*answer, "source").c_str());
  return kDone;
}

}  // namespace

void add_migration_commands(CLI::App& app, Cli& cli) {
  add_migrate(app, cli);
  CLI::App& group = *add_group(app, "migration", "Migrations, now and before");
  add_command(group, cli, "ls", "List migrations, newest first",
              "  dvs migration ls\n"
              "  dvs migration ls --json",
              [&cli] { return list_migrations(cli); });
  auto id = std::make_shared<std::string>();
  auto* show =
      add_command(group, cli, "show", "Show one migration and what its phases took",
                  "  dvs migration show m-17", [&cli, id] { return show_migration(cli, *id); });
  auto* watch = add_command(
      group, cli, "watch", "Follow a migration until it has ended",
      "  dvs migration watch m-17\n"
      "  dvs migration watch m-17 --json   (as when it is not on a terminal: a line per change)",
      [&cli, id] { return watch_migration(cli, *id); });
  auto* cancel =
      add_command(group, cli, "cancel", "Roll a migration back, if it is not decided yet",
                  "  dvs migration cancel m-17", [&cli, id] { return cancel_migration(cli, *id); });
  for (auto* command : {show, watch, cancel}) {
    command->add_option("ID", *id, "The migration's id")->required()->type_name("");
  }
}

}  // namespace dvs::cli
