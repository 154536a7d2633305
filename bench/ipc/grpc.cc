// gRPC: synchronous unary calls.
#include <grpcpp/grpcpp.h>

#include <algorithm>

#include "echo.grpc.pb.h"
#include "ipc/die.h"
#include "ipc/transport.h"

namespace dvs::bench {
namespace {

std::string url_of(const Plan& plan) {
  return (plan.address.starts_with('/') ? "unix:" : "ipv4:") + plan.address;
}

class EchoService : public Echo::Service {
  grpc::Status Call(grpc::ServerContext*, const Payload* request, Payload* answer) override {
    answer->set_data(request->data());
    return grpc::Status::OK;
  }
};

void serve(const Plan& plan, const std::function<void(const std::string&)>& ready) {
  EchoService service;
  grpc::ServerBuilder builder;
  int port = -1;
  const std::string url = plan.address.starts_with('/') ? url_of(plan) : plan.address;
  builder.AddListeningPort(url, grpc::InsecureServerCredentials(), &port);
  builder.RegisterService(&service);
  const auto server = builder.BuildAndStart();
  if (server == nullptr || port <= 0) die_plainly("grpc: cannot listen at " + url);
  ready(plan.address);
  server->Wait();
}

class GrpcClient : public Client {
 public:
  explicit GrpcClient(const Plan& plan)
      : echo_(
            Echo::NewStub(grpc::CreateChannel(url_of(plan), grpc::InsecureChannelCredentials()))) {}

  void call(Message& m) override {
    grpc::ClientContext context;
    request_.set_data(m.data(), m.size());
    const auto status = echo_->Call(&context, request_, &answer_);
    if (!status.ok()) die_plainly("grpc: " + status.error_message());
    if (answer_.data().size() != m.size()) die_plainly("grpc: an answer of another size");
    std::copy(answer_.data().begin(), answer_.data().end(), m.begin());
  }

 private:
  std::unique_ptr<Echo::Stub> echo_;
  Payload request_;
  Payload answer_;
};

std::unique_ptr<Client> connect(const Plan& plan) { return std::make_unique<GrpcClient>(plan); }

}  // namespace

const Transport kGrpc{"grpc", serve, connect};

}  // namespace dvs::bench
