#include "migrate.h"

#include <spdlog/fmt/fmt.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>

#include "names.h"
#include "print.h"

namespace dvs::cli {
namespace {

// Every phase ends within the migration's time-out, so more silence than this means trouble.
constexpr auto kSilenceAfterTimeout = std::chrono::seconds(60);
constexpr auto kSilence = std::chrono::minutes(10);

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

  void redraw(const std::string& more) {
    cli_.draw_line(title_ + "  " + at_ + "  " + phase_ + more);
  }

  Cli& cli_;
  const bool tty_;
  const std::string title_;
  std::string phase_, at_;
  bool seen_ = false;
};

HttpCall request_of(const MigrateOptions& options) {
  const EndpointName name = *parse_endpoint_name(options.endpoint);
  HttpCall call;
  call.method = "POST";
  call.target = "/v1/migrations";
  call.body = {{"dc", name.dc}, {"endpoint", name.endpoint}, {"target", options.target}};
  call.silence = kSilence;
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
  for (const char* phase :
       {"preflight", "freeze", "dump", "transfer", "restore", "decide", "resume"}) {
    const auto phases = json_get_or<Json>(record, "phases", Json::object());
    const std::string time = milliseconds(*phases, phase);
    if (time != "-") std::printf("  %-9s  %12s\n", phase, time.c_str());
  }
  std::printf("  %-9s  %12s\n  %-9s  %12s\n", "total", milliseconds(record, "migration_ms").c_str(),
              "frozen", milliseconds(record, "frozen_ms").c_str());
  const auto image = json_get<double>(record, "image_bytes");
  if (image.ok()) std::printf("  %-9s  %12s\n", "image", bytes(*image).c_str());
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
