#include "recover.h"

#include <algorithm>
#include <cstdio>
#include <memory>
#include <set>

#include "base/clock.h"
#include "cli.h"
#include "print.h"

namespace dvs::cli {
namespace {

constexpr int64_t kSecond = 1'000'000'000;
constexpr int64_t kPatience = 60 * kSecond;

std::string text_of(const Json& object, const char* key) {
  const auto text = json_get_or<std::string>(object, key, "");
  return text.ok() ? *text : "";
}

bool is_true(const Json& object, const char* key) {
  const auto value = json_get_or<bool>(object, key, false);
  return value.ok() && *value;
}

int64_t age_ns(const Json& migration, int64_t now_ns) {
  const auto started = json_get_or<int64_t>(migration, "started_ns", 0);
  return started.ok() && *started > 0 ? now_ns - *started : 0;
}

std::string seconds(int64_t ns) { return std::to_string(ns / kSecond) + " s"; }

class Search {
 public:
  Search(const Json& nodes, int64_t now_ns) : now_ns_(now_ns) {
    for (const Json& node : nodes) {
      if (text_of(node, "state") == "up") up_.insert(text_of(node, "name"));
    }
  }

  void look_at_node(const Json& node);
  void look_at_dc(const Json& dc);
  void look_at_migration(const Json& migration);
  std::vector<Finding> found() { return std::move(found_); }

 private:
  bool is_up(const std::string& node) const { return up_.count(node) != 0; }
  // "n1 is down", "n1 and n2 are down", or "both nodes are up".
  std::string state_of_both(const Json& migration) const;
  void look_at_open(const Json& migration, Finding finding);
  void look_at_owed(const Json& migration, Finding finding);

  const int64_t now_ns_;
  std::set<std::string> up_;
  std::vector<Finding> found_;
};

void Search::look_at_node(const Json& node) {
  const std::string name = text_of(node, "name");
  if (!is_up(name)) {
    found_.push_back(
        {"node " + name,
         "it is down. Endpoints of its processes are not bound until it is back; if only its dvsd "
         "is down, the processes run on and are bound again then",
         "start dvsd there. If the node never comes back: dvs dc shrink DC " + name +
             " for each of its DCs, then dvs node leave " + name,
         ""});
  } else if (text_of(node, "link") == "down") {
    found_.push_back({"node " + name,
                      "there is no link to it from the node that was asked. Requests between the "
                      "two wait, and nothing migrates between them",
                      "look at the network between the two, and at dvsd's log for refused "
                      "certificates (dvs node renew)",
                      ""});
  }
}

void Search::look_at_dc(const Json& dc) {
  if (!dc.contains("missing") || !dc.at("missing").is_object()) return;
  for (const auto& [node, why] : dc.at("missing").items()) {
    if (!is_up(node)) continue;  // said already
    found_.push_back({"DC " + text_of(dc, "name"),
                      "it has no part on node " + node + ": " +
                          (why.is_string() ? why.get<std::string>() : std::string("unknown")),
                      "mend what it says, and restart dvsd on " + node, ""});
  }
}

std::string Search::state_of_both(const Json& migration) const {
  std::string down;
  for (const char* role : {"source", "target"}) {
    const std::string node = text_of(migration, role);
    if (!is_up(node)) down += (down.empty() ? "" : ", ") + std::string(role) + " " + node;
  }
  return down.empty() ? "source and target are up" : "down: " + down;
}

void Search::look_at_open(const Json& migration, Finding finding) {
  const int64_t age = age_ns(migration, now_ns_);
  if (is_true(migration, "manual")) {
    finding.says = "a program has begun it " + seconds(age) +
                   " ago (dvk_migr_start), and neither committed it nor rolled it back. Who calls "
                   "the endpoint waits";
  } else if (text_of(migration, "state") == "copying") {
    return;  // as long as it takes
  } else {
    finding.says = "its process has been stopped for up to " + seconds(age) +
                   ", and nobody has decided (" + state_of_both(migration) + ")";
  }
  if (age < kPatience) return;
  finding.advice = "roll it back: the process goes on where it was";
  finding.cancels = text_of(migration, "id");
  found_.push_back(std::move(finding));
}

void Search::look_at_owed(const Json& migration, Finding finding) {
  const std::string server = text_of(migration, "file_server");
  const std::string keeper = server.empty() ? text_of(migration, "source") : server;
  const std::string target = text_of(migration, "target");
  if (is_up(keeper) && is_up(target)) return;
  const auto patience_ms = json_get_or<int64_t>(migration, "patience_ms", 0);
  const std::string limit = seconds((patience_ms.ok() ? *patience_ms : 0) * 1'000'000);
  if (!is_up(target)) {
    finding.says = "its process ran on " + target +
                   ", which is down; some of its memory is still on " + keeper +
                   ", and given up when " + target + " is away for longer than " + limit;
    finding.advice = "start dvsd on " + target;
  } else {
    finding.says = "its process runs on " + target + " and needs memory that " + keeper +
                   " has, which is down. It is ended when it has waited for a page for " + limit;
    finding.advice = "bring " + keeper + " back; what it had in memory must be there still";
  }
  found_.push_back(std::move(finding));
}

void Search::look_at_migration(const Json& migration) {
  Finding finding{"migration " + text_of(migration, "id"), "", "", ""};
  const std::string state = text_of(migration, "state");
  if (state == "copying" || state == "active") return look_at_open(migration, std::move(finding));
  if (text_of(migration, "memory") == "owed") return look_at_owed(migration, std::move(finding));
  const bool both = is_up(text_of(migration, "source")) && is_up(text_of(migration, "target"));
  if (both || is_true(migration, "settled") || is_true(migration, "manual")) return;
  finding.says = "it has ended (" + state + "), and not every node has tidied up after it (" +
                 state_of_both(migration) + "). That happens when the node is back";
  found_.push_back(std::move(finding));
}

}  // namespace

std::vector<Finding> find_trouble(const Json& nodes, const Json& dcs, const Json& migrations,
                                  int64_t now_ns) {
  Search search(nodes, now_ns);
  for (const Json& node : nodes) search.look_at_node(node);
  for (const Json& dc : dcs) search.look_at_dc(dc);
  for (const Json& migration : migrations) search.look_at_migration(migration);
  return search.found();
}

Json to_json(const Finding& finding) {
  return {{"subject", finding.subject},
          {"says", finding.says},
          {"advice", finding.advice},
          {"cancels", finding.cancels}};
}

namespace {

void print_finding(const Finding& finding) {
  std::printf("%s: %s.\n", printable(finding.subject).c_str(), printable(finding.says).c_str());
  if (!finding.advice.empty()) {
    std::printf("  What to do: %s%s.\n", printable(finding.advice).c_str(),
                finding.cancels.empty() ? "" : " (dvs recover --fix)");
  }
}

// True: it is mended.
bool fix(Cli& cli, const Finding& finding) {
  if (finding.cancels.empty()) return false;
  const auto answer = cli.change("roll back migration " + finding.cancels, "POST",
                                 "/v1/migrations/" + url_encode(finding.cancels) + "/cancel");
  if (!answer) return false;
  if (!cli.json) std::printf("  Rolled back.\n");
  return true;
}

int recover(Cli& cli, bool fixes) {
  const auto nodes = cli.ask("list the nodes", "/v1/nodes");
  const auto dcs = nodes ? cli.ask("list the DCs", "/v1/dcs") : std::nullopt;
  const auto migrations = dcs ? cli.ask("list the migrations", "/v1/migrations") : std::nullopt;
  if (!migrations) return cli.failure();
  const auto findings = find_trouble(list_of(*nodes, "nodes"), list_of(*dcs, "dcs"),
                                     list_of(*migrations, "migrations"), realtime_ns());
  Json list = Json::array();
  bool left = false;
  for (const Finding& finding : findings) {
    if (!cli.json) print_finding(finding);
    const bool fixed = fixes && fix(cli, finding);
    left |= !fixed;
    list.push_back(to_json(finding));
    list.back()["fixed"] = fixed;
  }
  if (cli.json) print_json({{"findings", list}});
  if (!cli.json && findings.empty()) std::printf("Nothing needs attention.\n");
  return left ? kNeedsAttention : kDone;
}

}  // namespace

void add_recover_command(CLI::App& app, Cli& cli) {
  auto fixes = std::make_shared<bool>(false);
  auto* command = add_command(
      app, cli, "recover", "Say what needs a person, and mend what can be mended",
      "  dvs recover\n"
      "  dvs recover --fix\n"
      "What a crash leaves DVS clears up by itself. This is about the rest: nodes that stay away,\n"
      "a migration that nobody decides, memory whose keeper is gone. Exit status 8: something is "
      "left.",
      [&cli, fixes] { return recover(cli, *fixes); });
  command->add_flag("--fix", *fixes,
                    "Roll back migrations that are undecided for more than a minute");
}

}  // namespace dvs::cli
