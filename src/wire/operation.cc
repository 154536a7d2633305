#include "wire/operation.h"

#include "wire/codec.h"

namespace dvs::wire {
namespace {

// One description of the fields for both directions.
template <typename Codec, typename Op>
void each_field(Codec& codec, Op& op) {
  using T = OperationType;
  switch (op.type) {
    case T::kRequest:
      codec.integer(op.kind);
      codec.integer(op.peer);
      codec.integer(op.peer_incarnation);
      codec.integer(op.epoch);
      codec.integer(op.value);
      codec.message_bytes(op.m);
      break;
    case T::kAck:
      codec.integer(op.rc);
      break;
    case T::kAnswer:
      codec.integer(op.kind);
      codec.message_bytes(op.m);
      break;
    case T::kMoved:
      codec.integer(op.epoch);
      break;
    case T::kRetry:
      codec.integer(op.step);
      break;
    case T::kCancel:
      codec.integer(op.peer);
      codec.integer(op.peer_incarnation);
      codec.integer(op.epoch);
      break;
    case T::kCopyRead:
      codec.integer(op.peer);
      codec.integer(op.epoch);
      codec.integer(op.home_epoch);
      codec.integer(op.step);
      codec.integer(op.offset);
      codec.integer(op.address);
      codec.integer(op.length);
      break;
    case T::kCopyWrite:
      codec.integer(op.peer);
      codec.integer(op.epoch);
      codec.integer(op.home_epoch);
      codec.integer(op.step);
      codec.integer(op.offset);
      codec.integer(op.address);
      codec.bytes(op.data);
      break;
    case T::kCopyData:
      codec.integer(op.rc);
      codec.integer(op.step);
      codec.integer(op.offset);
      codec.bytes(op.data);
      break;
    case T::kCopyAck:
      codec.integer(op.rc);
      codec.integer(op.step);
      codec.integer(op.offset);
      break;
  }
}

struct Encoder {
  Writer out;
  template <typename T>
  void integer(T value) {
    out.put(value);
  }
  void message_bytes(const message& m) {
    out.put_bytes({reinterpret_cast<const char*>(&m), sizeof m});
  }
  void bytes(const Bytes& data) { out.put(static_cast<uint32_t>(data.size())); }  // itself: last
};

struct Decoder {
  const Bytes& body;
  Reader in{body.view()};
  template <typename T>
  void integer(T& value) {
    value = in.get<T>();
  }
  void message_bytes(message& m) {
    const auto raw = in.get_bytes(sizeof m);
    if (raw.size() == sizeof m) __builtin_memcpy(&m, raw.data(), sizeof m);
  }
  void bytes(Bytes& data) {
    const auto size = in.get<uint32_t>();
    if (in.get_bytes(size).size() == size) data = body.after(body.size() - size);
  }
};

template <typename Codec, typename Op>
void common_fields(Codec& codec, Op& op) {
  codec.integer(op.dcid);
  codec.integer(op.slot);
  codec.integer(op.incarnation);
  codec.integer(op.number);
}

}  // namespace

std::string encode_operation_head(const Operation& operation) {
  Encoder encoder;
  encoder.integer(static_cast<uint8_t>(operation.type));
  common_fields(encoder, operation);
  each_field(encoder, operation);
  return encoder.out.take();
}

std::string encode_operation(const Operation& operation) {
  const bool has_data =
      operation.type == OperationType::kCopyData || operation.type == OperationType::kCopyWrite;
  const std::string head = encode_operation_head(operation);
  return has_data ? head + std::string(operation.data.view()) : head;
}

Result<Operation> decode_operation(const Bytes& body) {
  Decoder decoder{body};
  uint8_t type = 0;
  decoder.integer(type);
  if (type < 1 || type > 10) return Error(Code::kCorrupt, "unknown operation");
  Operation operation;
  operation.type = static_cast<OperationType>(type);
  common_fields(decoder, operation);
  each_field(decoder, operation);
  if (!decoder.in.done()) return Error(Code::kCorrupt, "an operation of the wrong length");
  return operation;
}

}  // namespace dvs::wire
