// Writes real encodings, one file each, into DIR/TARGET: what the corpus began with.
#include <cstdio>

#include "base/base64.h"
#include "base/file.h"
#include "directory/etcd_json.h"
#include "directory/records.h"
#include "dvk/node_view.h"
#include "proxy/link_hello.h"
#include "wire/compression.h"
#include "wire/frame.h"
#include "wire/operation.h"

namespace {

using namespace dvs;  // NOLINT(google-build-using-namespace)

std::string root;
bool good = true;

void seed(const std::string& target, const std::string& name, const std::string& bytes) {
  const std::string dir = root + "/" + target;
  good &= make_dirs(dir).ok() && replace_file(dir + "/seed-" + name, bytes).ok();
}

void frames() {
  std::string stream;
  for (auto type : {wire::FrameType::kHello, wire::FrameType::kPing, wire::FrameType::kControl,
                    wire::FrameType::kOperation, wire::FrameType::kImage}) {
    wire::append_frame(stream, type, std::string(static_cast<size_t>(type) * 3, 'x'));
  }
  seed("frame", "whole", std::string(1, '\xfe') + stream);
  seed("frame", "pieces", std::string(1, '\x06') + stream);
  seed("frame", "body", std::string(1, '\x09') + "{\"id\":1}" + stream);
}

void operations() {
  for (int type = 1; type <= 10; ++type) {
    wire::Operation operation;
    operation.type = static_cast<wire::OperationType>(type);
    operation.dcid = 1;
    operation.slot = 40;
    operation.incarnation = 77;
    operation.number = 1ull << 33;
    operation.kind = 2;
    operation.peer = 11;
    operation.epoch = 3;
    operation.length = 4096;
    operation.data = Bytes("window");
    seed("operation", std::to_string(type), wire::encode_operation(operation));
  }
}

void compressed() {
  std::string text;
  while (text.size() < 5000) text += "and again";
  const auto packed = wire::compress("head", text);
  if (packed) seed("compression", "text", packed->head + std::string(packed->bulk.view()));
}

void capsules() {
  dvk::RegionSpec spec;
  spec.slots = 128;
  const auto region = dvk::Region::anonymous(spec);
  if (!region.ok()) return;
  for (int number : {5, 6, 70}) {
    const dvk::Identity identity{number,       1,  1, 0, dvk::Kind::kLocal, 100 + number,
                                 100 + number, "p"};
    if (!dvk::bind(*region, region->slot_of(number), identity)) return;
  }
  const uint32_t server = region->slot_of(5);
  const uint32_t client = region->slot_of(6);
  seed("capsule", "empty", dvk::encode_capsule({}));
  seed("capsule", "idle", dvk::encode_capsule(dvk::extract(*region, {server, client})));
  dvk::Descriptor& d = region->at(client);
  d.tx_kind.store(static_cast<uint32_t>(dvk::OpKind::kSendRec));
  d.tx_peer.store(5);
  d.rx.store(
      dvk::RxWord{dvk::RxPhase::kWaiting, dvk::RxMode::kAnswer, static_cast<uint16_t>(server), 0, 7}
          .pack());
  d.tx.store(dvk::TxWord{dvk::TxPhase::kTaken, 0, 1ull << 40 | 5}.pack());
  region->notifies(server).set(client);
  seed("capsule", "debt", dvk::encode_capsule(dvk::extract(*region, {server})));
  seed("capsule", "client", dvk::encode_capsule(dvk::extract(*region, {client})));
}

void regions() {
  dvk::RegionSpec spec;
  spec.slots = 128;
  spec.dc_name = "lab";
  const auto region = dvk::Region::anonymous(spec);
  if (!region.ok()) return;
  const std::string header(reinterpret_cast<const char*>(&region->header()), 128);
  seed("region", "good", std::string(2, '\0') + header);
  seed("region", "short", std::string("\x10\0", 2) + header);
}

void records() {
  const auto json = [](char what, const std::string& name, const std::string& text) {
    seed("records", name, std::string(1, what) + text);
  };
  json(0, "hello", encode_hello({"lab", 2, "n2", 7, 1}));
  json(1, "node", to_json(NodeRecord{"n1", 1, "10.0.0.1", 7000, 9}).dump());
  json(2, "dc", to_json(DcRecord{"lab", 3, {"n1", "n2"}}).dump());
  json(3, "part", to_json(PartRecord{false, "no room"}).dump());
  json(4, "endpoint", to_json(EndpointRecord{40, 1, 2, 10, 11, "echo", "46-7b"}).dump());
  MigrationRecord migration;
  migration.id = "m1";
  migration.dc = "lab";
  migration.source = "n1";
  migration.target = "n2";
  migration.slots = {40, 41};
  migration.endpoints = {5, 6};
  migration.phases["freeze"] = 1.5;
  json(5, "migration", to_json(migration).dump());
  const std::string header = R"("header":{"revision":"7"})";
  const std::string kv =
      R"({"key":"YQ==","value":"Yg==","mod_revision":"7","create_revision":"6","lease":"5"})";
  json(6, "txn", "{" + header + R"(,"succeeded":true})");
  json(6, "range", "{" + header + R"(,"kvs":[)" + kv + "]}");
  json(6, "watch", "{\"result\":{" + header + R"(,"events":[{"type":"DELETE","kv":)" + kv + "}]}}");
  json(6, "error", R"({"error":{"grpc_code":11,"message":"compacted"}})");
  json(7, "base64", base64_encode("some bytes"));
}

void requests() {
  seed("http", "get", "GET /v1/nodes?a=b%20c HTTP/1.1\r\nHost: x\r\n\r\n");
  seed("http", "post",
       "POST /v1/dcs/lab/endpoints/%31/kill HTTP/1.1\r\nContent-Length: 13\r\n\r\n{\"signal\": 9}");
  seed("http", "chunked",
       "DELETE /v1/dcs/lab HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n");
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  root = argv[1];
  frames();
  operations();
  compressed();
  capsules();
  regions();
  records();
  requests();
  if (!good) std::fprintf(stderr, "cannot write below %s\n", argv[1]);
  return good ? 0 : 1;
}
