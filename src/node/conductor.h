// The conductor: owns a node's state and routes what happens to whom it concerns. One thread.
//   membership.cc   identity, lease, which nodes there are
//   conductor.cc    the directory's news, frames, DC parts
//   services.cc     what other nodes may ask of this one
//   routes.cc       what the CLI may ask of any node
#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>

#include "directory/presence.h"
#include "migrate/coordinator.h"
#include "node/context.h"
#include "node/dc_part.h"

namespace dvs {

class Conductor : private Cluster::Listener, private Peers {
 public:
  Conductor(Executor& executor, Doorbells& doorbells, NodeConfig config, Store& store,
            Engine& engine, Cgroups cgroups);
  ~Conductor() override;

  // Joins the cluster: reads the directory, takes an identity and a lease, opens links and the
  // DC parts that an earlier dvsd left. `done` when the node is up. Then routes may be added.
  void start(Done<bool> done);
  void add_routes(HttpServer& server);
  // What add_routes() adds.
  struct ApiRoute {
    Role role;
    const char* method;
    const char* path;
  };
  static std::vector<ApiRoute> api_routes();
  // After the identity of its links was loaded again: ends those that would not be made now.
  void recheck_links();

 private:
  using Reply = std::shared_ptr<Responder>;
  struct Route;  // routes.cc

  // membership.cc
  void load(Done<bool> done);
  void take_identity(Done<bool> done, int attempt);
  void learn_cpu();
  void join(Done<bool> done);
  int64_t earlier_lease() const;
  Status on_lease();
  void leave(const std::string& node, Done<bool> done);

  // conductor.cc
  Status open_links_and_parts();
  void on_frame(NodeId peer, const wire::Frame& frame);
  void close_part(const std::string& name, const std::shared_ptr<DcPart>& part);
  void close_left_parts();
  void open_part(const DcRecord& record);
  void publish_part(const std::string& dc, const PartRecord& part);
  std::shared_ptr<DcPart> part(const std::string& dc) const;
  bool spans_this_node(const DcRecord* dc) const;  // null: it does not
  std::shared_ptr<DcPart> part_by_id(int dcid) const;
  std::optional<NodeId> id_of(const std::string& node) const;
  void on_node(const std::string& name) override;
  void on_dc(const std::string& name) override;
  void on_part(const std::string& dc, const std::string& node) override;
  void on_endpoint(const std::string& dc, uint32_t slot) override;
  void on_migration(const std::string& id, const MigrationRecord* before) override;
  void on_revoked() override;

  // Peers
  void call(const std::string& node, const std::string& call, Json args,
            std::chrono::milliseconds timeout, Done<Json> done) override;
  // Likewise, for as long as a person would wait.
  void call(const std::string& node, const std::string& call, Json args, Done<Json> done);

  // services.cc
  using PartService = std::function<void(const std::shared_ptr<DcPart>& dc, const Json& args,
                                         const Done<Json>& reply)>;
  Rpc::Handler with_part(PartService service);
  void serve_part(const PartService& service, const Json& args, const Done<Json>& reply);
  void add_services();
  void add_process_services();
  void add_preflight_services();
  void add_participant_services();
  void add_coordinator_services();
  void create_dc(const DcRecord& record, Done<bool> done);
  void change_dc(const std::string& name, const std::function<Result<DcRecord>(DcRecord)>& change,
                 std::vector<Compare> compares, Done<bool> done);
  void remove_dc(const std::string& name, bool force, Done<bool> done);
  void await_parts(const std::string& dc, int64_t until_ns, Done<bool> done);
  void await_no_parts(const std::string& dc, int64_t until_ns, Done<bool> done);
  void await_nodes(const std::vector<std::string>& nodes, int64_t until_ns, Done<bool> done);
  Status check_nodes(const std::vector<std::string>& nodes) const;
  Result<std::pair<std::string, uint32_t>> locate(const std::string& dc, int endpoint) const;

  // routes.cc
  static const Route kRoutes[];
  Json dc_json(const DcRecord& record) const;
  void get_node(const HttpRequest& request, Reply reply);
  void get_nodes(const HttpRequest& request, Reply reply);
  void delete_node(const HttpRequest& request, Reply reply);
  void post_revoked(const HttpRequest& request, Reply reply);
  void get_dcs(const HttpRequest& request, Reply reply);
  void post_dc(const HttpRequest& request, Reply reply);
  void delete_dc(const HttpRequest& request, Reply reply);
  void post_dc_node(const HttpRequest& request, Reply reply);
  void delete_dc_node(const HttpRequest& request, Reply reply);
  void post_process(const HttpRequest& request, Reply reply);
  void get_processes(const HttpRequest& request, Reply reply);
  void post_kill(const HttpRequest& request, Reply reply);
  void get_logs(const HttpRequest& request, Reply reply);
  void post_migration(const HttpRequest& request, Reply reply);
  void get_migrations(const HttpRequest& request, Reply reply);
  void get_migration(const HttpRequest& request, Reply reply);
  Status check_node_of(const DcRecord& dc, const std::string& node) const;
  void cancel_migration(const HttpRequest& request, Reply reply);
  void post_fault(const HttpRequest& request, Reply reply);

  EventLoopScheduler scheduler_;
  Faults faults_;
  Cluster cluster_;
  NodeContext context_;
  boost::asio::thread_pool aside_{1};
  std::unique_ptr<Rpc> rpc_;
  std::unique_ptr<Links> links_;
  std::unique_ptr<Coordinator> coordinator_;
  Presence presence_;
  std::map<std::string, std::shared_ptr<DcPart>> parts_;
  // DCs of which a part is just made, or unmade, here: then the record is looked at again.
  std::set<std::string> opening_;
  std::set<std::string> closing_;
};

}  // namespace dvs
