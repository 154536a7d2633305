#include "migrate.h"

#include <spdlog/fmt/fmt.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <thread>

#include "names.h"
#include "print.h"

namespace dvs::cli {
namespace {

// Every phase ends within the migration's time-out, so more silence than this means trouble.
constexpr auto kSilenceAfterTimeout = std::chrono::seconds(60);
constexpr auto kSilence = std::chrono::minutes(10);

double number(const Json& json, const char* key) {
  const auto value = json_get_or<double>(json, key, 0);
  return value.ok() ? *value : 0;
}

// "round 2: 12 MiB of 1.0 GiB changed, 40 MiB/s; sends 900 MiB/s; down for 13 ms if stopped now"
std::string describe_round(const Json& round) {
  return fmt::format(
      "round {:.0f}: {} of {} changed, {}/s; sends {}/s; down for {:.0f} ms if stopped now",
      number(round, "round"), bytes(number(round, "changed_bytes")),
      bytes(number(round, "memory_bytes")), bytes(number(round, "changed_bytes_per_second")),
      bytes(number(round, "bytes_per_second")), number(round, "expected_downtime_ms"));
}

// Shows the events of a migration while it runs: one line that changes on a terminal, else a line
// per phase, with --json the events themselves.
class Progress {
 public:
  Progress(Cli& cli, std::string title)
      : cli_(cli), tty_(::isatty(STDOUT_FILENO) == 1), title_(std::move(title)) {}

  void on_event(const Json& event) {
    seen_ = true;
    if (cli_.json) return print_json(event);
    const std::string kind = cell(event, "event");
    if (kind == "phase") on_phase(event);
    if (kind == "round") on_round(event);
    if (kind == "progress" && tty_) on_progress(event);
  }

  // Whether the migration had begun to tell of itself.
  bool seen() const { return seen_; }

 private:
  void on_phase(const Json& event) {
    phase_ = cell(event, "phase");
    at_ = milliseconds(event, "t_ms");
    if (tty_) return redraw("");
    std::printf("%12s  %s\n", at_.c_str(), phase_.c_str());
    std::fflush(stdout);
  }

  void on_progress(const Json& event) {
    const auto sent = json_get<double>(event, "sent");
    const auto total = json_get<double>(event, "total");
    if (sent.ok() && total.ok()) redraw("  " + bytes(*sent) + " of " + bytes(*total));
  }

  void on_round(const Json& event) {
    const std::string text = describe_round(event);
    if (tty_) return redraw("  " + text);
    std::printf("%12s  %s\n", milliseconds(event, "t_ms").c_str(), text.c_str());
    std::fflush(stdout);
  }

  void redraw(const std::string& more) {
    cli_.draw_line(title_ + "  " + at_ + "  " + phase_ + more);
  }

  Cli& cli_;
  const bool tty_;
  const std::string title_;
  std::string phase_, at_;
  bool seen_ = false;
};

bool is_lost(const Json& record) { return cell(record, "memory") == "lost"; }

HttpCall request_of(const MigrateOptions& options) {
  const EndpointName name = *parse_endpoint_name(options.endpoint);
  HttpCall call;
  call.method = "POST";
  call.target = "/v1/migrations";
  call.body = {{"dc", name.dc},
               {"endpoint", name.endpoint},
               {"target", options.target},
               {"algorithm", options.algorithm},
               {"max_downtime_ms", options.max_downtime_ms},
               {"patience_ms", std::llround(options.patience_s * 1000)},
               {"compress", options.compress},
               {"on_timeout", options.on_timeout}};
  call.silence = kSilence;
  if (!options.file_server.empty()) call.body["file_server"] = options.file_server;
  if (options.bandwidth) call.body["bandwidth"] = *options.bandwidth;
  if (options.timeout_s) {
    const auto timeout = std::chrono::milliseconds(std::llround(*options.timeout_s * 1000));
    call.body["timeout_ms"] = timeout.count();
    call.silence = timeout + kSilenceAfterTimeout;
  }
  return call;
}

void print_committed(const MigrateOptions& options, const Json& record) {
  std::printf("%s runs on %s now: migration %s took %s, frozen for %s.\n", options.endpoint.c_str(),
              options.target.c_str(), cell(record, "id").c_str(),
              milliseconds(record, "migration_ms").c_str(),
              milliseconds(record, "frozen_ms").c_str());
  const Json& endpoints = list_of(record, "endpoints");
  if (endpoints.size() > 1) {
    std::printf("Endpoints of the process: %s\n", cell(record, "endpoints").c_str());
  }
  print_times(record);
}

int tell_end(Cli& cli, const MigrateOptions& options, const Json& record) {
  const std::string id = cell(record, "id");
  const std::string state = cell(record, "state");
  if (state == "committed" && is_lost(record)) {
    std::fprintf(stderr, "dvs: %s moved to %s: %s (migration %s)\n", options.endpoint.c_str(),
                 options.target.c_str(), cell(record, "reason").c_str(), id.c_str());
    return kMemoryLost;
  }
  if (state == "committed") {
    if (!cli.json) print_committed(options, record);
    return kDone;
  }
  if (state == "rolledback") {
    std::fprintf(stderr,
                 "dvs: %s was not migrated to %s: %s. It runs on %s as before (migration %s, "
                 "rolled back).\n",
                 options.endpoint.c_str(), options.target.c_str(), cell(record, "reason").c_str(),
                 cell(record, "source").c_str(), id.c_str());
    return kRolledBack;
  }
  std::fprintf(stderr,
               "dvs: the outcome of migrating %s is not known yet: run `dvs migration show %s`\n",
               options.endpoint.c_str(), id.c_str());
  return kUnknownOutcome;
}

}  // namespace

void print_times(const Json& record) {
  for (const char* phase : {"preflight", "copy", "freeze", "sync", "dump", "transfer", "restore",
                            "decide", "resume", "fill"}) {
    const auto phases = json_get_or<Json>(record, "phases", Json::object());
    const std::string time = milliseconds(*phases, phase);
    if (time != "-") std::printf("  %-9s  %12s\n", phase, time.c_str());
  }
  std::printf("  %-9s  %12s\n  %-9s  %12s\n", "total", milliseconds(record, "migration_ms").c_str(),
              "frozen", milliseconds(record, "frozen_ms").c_str());
  const auto image = json_get<double>(record, "image_bytes");
  if (image.ok()) std::printf("  %-9s  %12s\n", "image", bytes(*image).c_str());
  const std::string algorithm = cell(record, "algorithm");
  if (algorithm == "-") return;
  std::printf("  %-9s  %12s\n", "memory", bytes(number(record, "memory_bytes")).c_str());
  if (const double owed = number(record, "owed_bytes"); owed > 0) {
    std::printf("  %-9s  %12s\n", "on demand", bytes(owed).c_str());
  }
  if (const double faults = number(record, "faults"); faults > 0) {
    std::printf("  %-9s  %12.0f  (99 %% within %.1f ms)\n", "faults", faults,
                number(record, "fault_p99_ms"));
  }
  std::printf("  %s: %s\n", algorithm.c_str(), cell(record, "why").c_str());
}

int watch_migration(Cli& cli, const std::string& id) {
  constexpr auto kLookEvery = std::chrono::milliseconds(200);
  const bool machine = cli.json || ::isatty(STDOUT_FILENO) != 1;
  std::string shown;
  for (;;) {
    const auto answer = cli.ask("watch migration " + id, "/v1/migrations/" + url_encode(id));
    if (!answer) return cli.clear_line(), cli.failure();
    const std::string state = cell(*answer, "state");
    const bool owed = cell(*answer, "memory") == "owed";
    const bool open = state == "copying" || state == "active" || owed;
    const auto progress = json_get_or<Json>(*answer, "progress", Json::object());
    std::string line = state;
    if (open && progress.ok() && progress->contains("phase")) line = cell(*progress, "phase");
    const double total = progress.ok() ? number(*progress, "total") : 0;
    if (open && total > 0) {
      line +=
          fmt::format("  {:.0f} % of {}", 100 * number(*progress, "sent") / total, bytes(total));
    }
    if (open && number(*progress, "seconds_left") > 0) {
      line += fmt::format(", {}/s, {:.1f} s left", bytes(number(*progress, "rate")),
                          number(*progress, "seconds_left"));
    }
    if (open && number(*progress, "round") > 0) line += "  " + describe_round(*progress);
    if (machine && (line != shown || !open)) print_json(*answer);
    if (!machine && open) cli.draw_line(line);
    std::fflush(stdout);
    shown = line;
    if (!open) {
      cli.clear_line();
      if (!machine) print_times(*answer);
      if (is_lost(*answer)) {
        std::fprintf(stderr, "dvs: %s\n", cell(*answer, "reason").c_str());
        return kMemoryLost;
      }
      return state == "committed" ? kDone : kRolledBack;
    }
    std::this_thread::sleep_for(kLookEvery);
  }
}

int migrate(Cli& cli, const MigrateOptions& options) {
  Progress progress(cli, options.endpoint + " -> " + options.target);
  HttpCall call = request_of(options);
  call.on_event = [&progress](const Json& event) { progress.on_event(event); };
  const auto answer = cli.exchange("migrate " + options.endpoint, std::move(call));
  cli.clear_line();
  if (!answer && progress.seen()) {
    std::fprintf(stderr, "dvs: it had begun: see how it ended with `dvs migration ls`\n");
    return kUnknownOutcome;
  }
  if (!answer) return cli.failure();
  const auto record = json_get<Json>(*answer, "migration");
  return tell_end(cli, options, record.ok() ? *record : Json::object());
}

}  // namespace dvs::cli
