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
                        {"Coordinator", "coordinator"},
                        {"Pid", "pid"}});
  std::printf("%-11s  %s\n", "Started", local_time(*answer, "started_ns").c_str());
  print_times(*answer);
  return kDone;
}

void add_migrate(CLI::App& app, Cli& cli) {
  auto options = std::make_shared<MigrateOptions>();
  auto* command =
      add_command(app, cli, "migrate", "Move a running process to another node",
                  "  dvs migrate DC0/11 --to n2\n"
                  "  dvs migrate DC0/11 --to n2 --timeout 10 --json\n"
                  "Interrupting this command does not stop the migration: see `dvs migration ls`.",
                  [&cli, options] { return migrate(cli, *options); });
  command->add_option("ENDPOINT", options->endpoint, "Of the process: DC/NUMBER")
      ->required()
      ->type_name("")
      ->check(endpoint_name_check());
  command->add_option("--to", options->target, "The node it shall move to")
      ->required()
      ->check(name_check())
      ->type_name("NAME");
  command->add_option("--timeout", options->timeout_s, "Roll back after so many seconds")
      ->check(range_check(0.001, 86400))
      ->type_name("S");
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
  show->add_option("ID", *id, "The migration's id")->required()->type_name("");
}

}  // namespace dvs::cli
