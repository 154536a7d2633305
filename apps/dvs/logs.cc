#include "logs.h"

#include <cstdio>
#include <thread>

#include "base/base64.h"
#include "names.h"
#include "print.h"

namespace dvs::cli {
namespace {

constexpr size_t kPiece = 256 << 10;
constexpr auto kPollInterval = std::chrono::milliseconds(200);

class LogReader {
 public:
  LogReader(Cli& cli, const LogsOptions& options) : cli_(cli), options_(options) {
    const EndpointName name = *parse_endpoint_name(options.endpoint);
    target_ =
        "/v1/dcs/" + url_encode(name.dc) + "/endpoints/" + std::to_string(name.endpoint) + "/logs";
  }

  int run() {
    bool at_start = true;
    while (true) {
      if (!next_piece()) return cli_.failure();
      if (!data_.empty()) {
        print_piece(at_start);
        continue;
      }
      if (at_start && options_.tail) print_tail();
      at_start = false;
      if (!options_.follow || !running_) return finish();
      std::this_thread::sleep_for(kPollInterval);
    }
  }

 private:
  bool next_piece() {
    auto answer =
        cli_.ask("show the logs of " + options_.endpoint,
                 target_ + "?offset=" + std::to_string(offset_) + "&max=" + std::to_string(kPiece) +
                     (cli_.json ? "" : "&encoding=base64"));
    if (!answer) return false;
    auto data = json_get<std::string>(*answer, "data");
    if (data.ok() && !cli_.json) data = base64_decode(*data);
    const auto end = json_get<uint64_t>(*answer, "end");
    const auto running = json_get_or<bool>(*answer, "running", false);
    if (!data.ok() || !end.ok() || !running.ok()) {
      cli_.fail("show the logs of " + options_.endpoint,
                Error(Code::kCorrupt, "dvsd's answer makes no sense"), kInternalError);
      return false;
    }
    data_ = *data;
    offset_ = *end;
    running_ = *running;
    answer_ = std::move(*answer);
    return true;
  }

  void print_piece(bool at_start) {
    if (cli_.json) return print_json(answer_);
    if (at_start && options_.tail) return keep_tail();
    std::fwrite(data_.data(), 1, data_.size(), stdout);
    std::fflush(stdout);
  }

  // Keeps what belongs to the last lines seen so far. A line's end that comes last ends a line, it
  // does not begin one.
  void keep_tail() {
    kept_ += data_;
    size_t begin = kept_.size() - (kept_.ends_with('\n') ? 1 : 0);
    size_t lines = 0;
    while (begin > 0 && (kept_[begin - 1] != '\n' || ++lines < *options_.tail)) --begin;
    kept_.erase(0, begin);
  }

  void print_tail() {
    if (*options_.tail > 0) std::fwrite(kept_.data(), 1, kept_.size(), stdout);
    std::fflush(stdout);
    kept_.clear();
  }

  int finish() {
    if (!options_.follow) return kDone;
    if (cli_.json) return print_json(answer_), kDone;
    const std::string exit = cell(answer_, "exit");
    std::fprintf(stderr, "dvs: %s has ended%s\n", options_.endpoint.c_str(),
                 exit == "-" ? "" : (" (" + exit + ")").c_str());
    return kDone;
  }

  Cli& cli_;
  const LogsOptions& options_;
  std::string target_;
  uint64_t offset_ = 0;
  // The last answer, and its parts.
  Json answer_;
  std::string data_;
  bool running_ = false;
  std::string kept_;  // for --tail
};

}  // namespace

int show_logs(Cli& cli, const LogsOptions& options) { return LogReader(cli, options).run(); }

}  // namespace dvs::cli
