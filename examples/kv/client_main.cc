// kv-client: the store at the command line.
//   dvs run --dc DC0 --node n2 -- .../kv-client put colour green
#include <CLI/CLI.hpp>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>

#include "soak.h"

namespace {

struct Words {
  std::string key, value, expected, prefix;
  kv::SoakOptions soak;
};

int print(const std::string& text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  return std::putchar('\n') == EOF ? 1 : 0;
}

int tell(const char* command, int error) {
  if (error == OK) return 0;
  std::fprintf(stderr, "kv-client: %s: %s\n", command, kv::reason(error));
  return error == kv::kNoSuchKey || error == kv::kChanged ? 2 : 1;
}

using Run = std::function<int(const kv::Client&, int self)>;

// Adds the commands; the one that is given sets `run`.
void add_commands(CLI::App& app, Words& w, Run& run) {
  const auto add = [&](const char* name, const char* help, Run action) {
    CLI::App* command = app.add_subcommand(name, help);
    command->callback([&run, action = std::move(action)] { run = action; });
    return command;
  };
  auto* put = add("put", "Store a value", [&w](const kv::Client& client, int) {
    return tell("put", client.put(w.key, w.value).error());
  });
  put->add_option("key", w.key)->required();
  put->add_option("value", w.value)->required();

  auto* get = add("get", "Print a value", [&w](const kv::Client& client, int) {
    const auto value = client.get(w.key);
    return value ? print(*value) : tell("get", value.error());
  });
  get->add_option("key", w.key)->required();

  auto* gone = add("delete", "Remove a key", [&w](const kv::Client& client, int) {
    return tell("delete", client.remove(w.key).error());
  });
  gone->add_option("key", w.key)->required();

  auto* cas =
      add("cas", "Replace a value, if it is the expected one", [&w](const kv::Client& client, int) {
        return tell("cas", client.compare_and_swap(w.key, w.expected, w.value).error());
      });
  cas->add_option("key", w.key)->required();
  cas->add_option("expected", w.expected)->required();
  cas->add_option("value", w.value)->required();

  auto* list = add("list", "Print the keys, in order", [&w](const kv::Client& client, int) {
    const auto keys = client.list(w.prefix);
    if (!keys) return tell("list", keys.error());
    for (const std::string& key : *keys) print(key);
    return 0;
  });
  list->add_option("prefix", w.prefix, "Only those that begin so");

  add("count", "Print how many keys there are, and their and the values' bytes",
      [](const kv::Client& client, int) {
        const auto total = client.count();
        if (!total) return tell("count", total.error());
        return print(std::to_string(total->keys) + " keys, " + std::to_string(total->bytes) +
                     " bytes");
      });

  auto* soak = add("soak", "Use the store, check every answer, until SIGTERM",
                   [&w](const kv::Client& client, int self) {
                     return kv::soak(client, self, w.soak) == 0 ? 0 : 1;
                   });
  soak->add_option("--requests", w.soak.requests, "Stop after so many");
  soak->add_option("--seed", w.soak.seed, "Of the sequence of requests")->capture_default_str();
  soak->add_option("--longest", w.soak.longest, "Longest value, bytes")
      ->check(CLI::Range(size_t{1}, kv::kMaxLength))
      ->capture_default_str();
}

}  // namespace

int main(int argc, char** argv) {
  int server = kv::kEndpoint;
  int seconds = 30;
  Words words;
  Run run;
  CLI::App app(
      "Uses a kv-server of its distributed container. Exit status: 0, 1 for an error, 2 when the\n"
      "key is not there or its value is not the expected one.",
      "kv-client");
  app.add_option("--server", server, "The server's endpoint")->capture_default_str();
  app.add_option("--patience", seconds, "How long to wait for each answer, s")
      ->check(CLI::Range(1, 3600))
      ->capture_default_str();
  app.require_subcommand(1);
  add_commands(app, words, run);
  CLI11_PARSE(app, argc, argv);

  const auto self = dvk::Endpoint::given(std::chrono::seconds(10));  // `dvs run` chose it
  if (!self) {
    std::fprintf(stderr, "kv-client: no endpoint: %s\n", self.error_name());
    return 1;
  }
  return run(kv::Client(*self, server, std::chrono::seconds(seconds)), self->number());
}
