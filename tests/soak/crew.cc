#include "soak/crew.h"

#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>

namespace dvs::soak {
namespace {

constexpr int kFirstClient = 20;
constexpr std::chrono::seconds kLimit{40};  // longer than a request may take

}  // namespace

Crew::Crew(const Cluster& cluster, const Options& options, std::string programs,
           std::string scratch)
    : cluster_(cluster),
      options_(options),
      programs_(std::move(programs)),
      scratch_(std::move(scratch)),
      checker_(static_cast<size_t>(options.servers), static_cast<size_t>(options.memory_mib)
                                                         << 20) {}

Crew::~Crew() {
  over_ = true;
  if (reader_.joinable()) reader_.join();
}

Result<History*> Crew::make_history(const std::string& path) const {
  History* history = map_history(path, true);
  if (history == nullptr) return errno_error(path);
  return history;
}

Status Crew::start() {
  for (int i = 0; i < options_.servers; ++i) DVS_TRY(start_server(i));
  for (const std::string& node : cluster_.nodes()) DVS_TRY(start_client(node));
  reader_ = std::thread([this] {
    while (!over_) {
      checker_.read();
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  });
  return {};
}

Status Crew::start_server(int index) {
  const auto& nodes = cluster_.nodes();
  const std::string path = scratch_ + "/server" + std::to_string(index);
  DVS_ASSIGN(History * history, make_history(path));
  checker_.set_server(static_cast<size_t>(index), history);
  const int endpoint = kFirstServer + index;
  DVS_ASSIGN(Cluster::Started process,
             cluster_.run(nodes[static_cast<size_t>(index) % nodes.size()], endpoint,
                          {programs_ + "/dvs-soak-server", path,
                           std::to_string(options_.memory_mib << 20)}));
  servers_.push_back({endpoint, std::move(process)});
  return {};
}

Status Crew::start_client(const std::string& node) {
  const auto& nodes = cluster_.nodes();
  Client client;
  client.id = ++last_id_;
  client.endpoint =
      kFirstClient + static_cast<int>(std::find(nodes.begin(), nodes.end(), node) - nodes.begin());
  client.path = scratch_ + "/client" + std::to_string(client.id);
  DVS_ASSIGN(client.history, make_history(client.path));
  DVS_TRY(cluster_.run(node, client.endpoint,
                       {programs_ + "/dvs-soak-client", client.path, std::to_string(client.id),
                        std::to_string(options_.servers), std::to_string(options_.pause_us)}));
  checker_.add_client(client.id, client.history);
  clients_[node] = client;
  return {};
}

Status Crew::end_client(const std::string& node) {
  const Client client = clients_.at(node);
  DVS_TRY(cluster_.signal(client.endpoint, SIGTERM));
  if (!await([&] { return client.history->closed.load() != 0; }, kLimit)) {
    return Error(Code::kTimeout, "the client of " + node + " does not end");
  }
  checker_.read();
  checker_.remove_client(client.id);
  ::munmap(client.history, sizeof(History));
  ::unlink(client.path.c_str());
  clients_.erase(node);
  const auto unbound = [&] { return cluster_.place(client.endpoint).empty(); };
  if (await(unbound, kLimit)) return {};
  return Error(Code::kTimeout, "the client of " + node + " stays bound");
}

Status Crew::end_clients() {
  while (!clients_.empty()) DVS_TRY(end_client(clients_.begin()->first));
  return {};
}

}  // namespace dvs::soak
