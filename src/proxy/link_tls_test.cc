// Links inside TLS: what they carry, and whom they keep out.
#include <openssl/ssl.h>

#include <filesystem>
#include <future>

#include "proxy/link_testing.h"
#include "tls/authority.h"
#include "tls/client.h"

namespace dvs::link_testing {
namespace {

class LinkTlsTest : public LinkTest {
 protected:
  LinkTlsTest() : dir_(std::filesystem::temp_directory_path() / "dvs-tls-test-XXXXXX") {
    DVS_CHECK(::mkdtemp(dir_.data()) != nullptr);
    make_cluster("one");
  }
  ~LinkTlsTest() override { std::filesystem::remove_all(dir_); }

  void make_cluster(const std::string& name) {
    const Status made = tls::make_authority(dir_ + "/" + name, name);
    ASSERT_TRUE(made.ok()) << made.error().message();
  }
  tls::Files certify(const std::string& cluster, const std::string& node) {
    const std::string to = dir_ + "/" + cluster + "-nodes";
    const Status made = tls::certify(dir_ + "/" + cluster, node, to);
    EXPECT_TRUE(made.ok()) << made.error().message();
    return {to + "/ca.pem", to + "/" + node + ".pem", to + "/" + node + ".key"};
  }
  // The files of an identity stay, so that it can be loaded again.
  std::shared_ptr<tls::Identity> identity(const std::string& cluster, const std::string& node) {
    tls::Files files = certify(cluster, node);
    files.revoked = dir_ + "/" + cluster + "/crl.pem";
    auto loaded = tls::Identity::load(files, node);
    EXPECT_TRUE(loaded.ok()) << loaded.error().message();
    return loaded.ok() ? *loaded : nullptr;
  }
  void give_identities() {
    low.options.tls = identity("one", "n1");
    high.options.tls = identity("one", "n2");
  }
  void revoke(const std::string& node) { EXPECT_TRUE(tls::revoke(dir_ + "/one", node).ok()); }
  // Both try for a while; then an honest node comes up at once.
  void expect_no_link() {
    low.open();
    high.open();
    low.links->expect(2, "n2", loopback(), high.links->port());
    high.links->expect(1, "n1", loopback(), low.links->port());
    Node third(executor, 0);
    third.options.tls = identity("one", "n0");
    third.open();
    run_for(executor, milliseconds(100));
    EXPECT_EQ(low.ups, 0);
    EXPECT_EQ(high.ups, 0);
    third.links->expect(2, "n2", loopback(), high.links->port());
    high.links->expect(0, "n0", loopback(), 1);
    EXPECT_TRUE(run_until(executor, [&] { return third.up[2] && high.up[0]; }));
    EXPECT_EQ(low.ups, 0);
    high.close();  // before who is told of it goes
  }

  std::string dir_;
};

TEST_F(LinkTlsTest, FramesOfAllSizesArriveInOrderBothWays) {
  for (const bool compress : {false, true}) {
    low.options.compress = compress;
    if (!compress) give_identities();
    open_pair();
    const auto body = [](size_t i) {
      return std::to_string(i) + ":" + std::string(i * i * 7 % 300'000, static_cast<char>(i));
    };
    constexpr size_t kFrames = 300;
    for (size_t i = 0; i < kFrames; ++i) {
      ASSERT_TRUE(low.send(2, body(i)));
      ASSERT_TRUE(high.send(1, body(i)));
      if (i % 10 == 0) executor.poll();
    }
    const std::string large(wire::kMaxBody, 'L');
    ASSERT_TRUE(low.links->send(2, FrameType::kImage, large));
    ASSERT_TRUE(run_until(
        executor,
        [&] { return low.frames.size() == kFrames && high.frames.size() == kFrames + 1; }))
        << low.frames.size() << " and " << high.frames.size();
    for (size_t i = 0; i < kFrames; ++i) {
      ASSERT_TRUE(low.frames[i].body.view() == body(i)) << i;
      ASSERT_TRUE(high.frames[i].body.view() == body(i)) << i;
    }
    EXPECT_TRUE(high.frames.back().body.view() == large);
    for (Node* node : {&low, &high}) {
      node->close();
      node->frames.clear();
    }
  }
}

TEST_F(LinkTlsTest, ALinkComesBackAfterABreak) {
  give_identities();
  open_pair();
  low.links->drop(2, "a test");
  ASSERT_TRUE(run_until(executor, [&] { return low.ups == 2 && high.ups == 2; }));
  ASSERT_TRUE(low.send(2, "again"));
  EXPECT_TRUE(run_until(executor, [&] { return high.frames.size() == 1; }));
}

TEST_F(LinkTlsTest, ANodeOfAnotherAuthorityIsKeptOut) {
  make_cluster("other");
  give_identities();
  low.options.tls = identity("other", "n1");
  expect_no_link();
}

TEST_F(LinkTlsTest, ANodeThatClaimsToBeAnotherIsKeptOut) {
  give_identities();
  low.options.tls = identity("one", "n7");  // and its hello says node 1
  expect_no_link();
}

TEST_F(LinkTlsTest, AnAnswerFromAnotherNodeIsNotBelieved) {
  give_identities();
  high.options.tls = identity("one", "n7");
  low.open();
  high.open();
  low.links->expect(2, "n2", loopback(), high.links->port());
  high.links->expect(1, "n1", loopback(), low.links->port());
  run_for(executor, milliseconds(100));
  EXPECT_EQ(low.ups, 0);
}

TEST_F(LinkTlsTest, APlainNodeIsKeptOut) {
  give_identities();
  low.options.tls = nullptr;
  expect_no_link();
}

TEST_F(LinkTlsTest, ARevokedNodeIsKeptOut) {
  low.options.tls = identity("one", "n1");
  revoke("n1");
  high.options.tls = identity("one", "n2");
  expect_no_link();
}

TEST_F(LinkTlsTest, RevocationEndsTheLinkOfThatNodeOnly) {
  give_identities();
  open_pair();
  Node third(executor, 0);
  third.options.tls = identity("one", "n0");
  third.open();
  third.links->expect(2, "n2", loopback(), high.links->port());
  high.links->expect(0, "n0", loopback(), 1);
  ASSERT_TRUE(run_until(executor, [&] { return third.up[2] && high.up[0]; }));
  revoke("n1");
  ASSERT_TRUE(high.options.tls->reload().ok());
  EXPECT_TRUE(high.up[1]) << "what is there goes on until it is looked at";
  high.links->recheck();
  ASSERT_TRUE(run_until(executor, [&] { return !high.up[1]; }));
  EXPECT_NE(high.downs.back().find("certificate revoked"), std::string::npos) << high.downs.back();
  run_for(executor, milliseconds(100));  // n1 tries again
  EXPECT_FALSE(high.up[1]);
  EXPECT_TRUE(high.up[0]);
  EXPECT_EQ(third.ups, 1);
  EXPECT_TRUE(third.downs.empty());
  high.close();
}

TEST_F(LinkTlsTest, NewFilesAreUsedWithoutALinkBreaking) {
  give_identities();
  open_pair();
  const std::string old = dir_ + "/one-nodes/n2";
  ASSERT_TRUE(tls::certify(dir_ + "/one", "n2", dir_ + "/new").ok());
  revoke("n2");  // also the new one
  for (const char* end : {".key", ".pem"})
    std::filesystem::rename(dir_ + "/new/n2" + end, old + end);
  ASSERT_TRUE(high.options.tls->reload().ok());
  high.links->recheck();
  run_for(executor, milliseconds(50));
  EXPECT_EQ(high.ups, 1) << "its own certificate is for others to judge";
  EXPECT_TRUE(high.downs.empty());

  std::filesystem::remove(old + ".pem");
  EXPECT_FALSE(high.options.tls->reload().ok());
  low.links->drop(2, "a test");
  EXPECT_TRUE(run_until(executor, [&] { return low.ups == 2 && high.ups == 2; }))
      << "what could not be read changes nothing";
  ASSERT_TRUE(low.options.tls->reload().ok());
  low.links->recheck();
  ASSERT_TRUE(run_until(executor, [&] { return !low.up[2]; })) << "now n1 knows";
}

// What becomes of a connection whose hello is good, by this certificate: what was read until its
// end.
std::string say_hello(uint16_t port, const tls::Trust& trust) {
  const UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  ::inet_pton(AF_INET, loopback().c_str(), &address.sin_addr);
  if (::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0) return "!";
  auto client = tls::Client::open(fd.get(), trust);
  if (!client.ok()) return client.error().message();
  if (!(*client)->write(hello_frame(good_hello(1, 2))).ok()) return "cannot write";
  std::string answer;
  char bytes[4096];
  for (;;) {
    const auto count = (*client)->read(bytes);
    if (!count.ok() || *count == 0) return answer;
    answer.append(bytes, *count);
    if (answer.size() > wire::kHeaderSize) return answer;
  }
}

TEST_F(LinkTlsTest, AUsersCertificateMakesNoLink) {
  give_identities();
  high.open();
  high.links->expect(1, "n1", loopback(), 1);
  const std::string users = dir_ + "/users";
  const auto answer_to = [&](const std::string& unit) {
    const std::string to = users + unit;
    EXPECT_TRUE(tls::certify(dir_ + "/one", {{"n1", unit}}, to).ok());
    const tls::Trust trust{to + "/ca.pem", "", "node", to + "/n1.pem", to + "/n1.key"};
    auto answer = std::async(std::launch::async, say_hello, high.links->port(), trust);
    EXPECT_TRUE(run_until(
        executor, [&] { return answer.wait_for(milliseconds(0)) == std::future_status::ready; }));
    return answer.get();
  };
  EXPECT_EQ(answer_to("admin"), "");
  EXPECT_EQ(answer_to("authority"), "");
  EXPECT_EQ(high.ups, 0);
  EXPECT_NE(answer_to("node"), "") << "the same, but a node's";
  EXPECT_EQ(high.ups, 1);
  high.close();
}

TEST_F(LinkTlsTest, GarbageAndSilenceHoldUpNobody) {
  give_identities();
  high.options.hello = milliseconds(200);
  open_pair();
  RawPeer silent(high.links->port());
  RawPeer halting(high.links->port());
  halting.write(std::string("\x16\x03\x01\x02\x00\x01\x00", 7));  // the beginning of a handshake
  expect_refused(std::string(1000, 'x'), "garbage");
  expect_refused(hello_frame(good_hello(1, 2)), "a plain hello");
  expect_untouched();
  EXPECT_TRUE(run_until(executor, [&] { return silent.closed() && halting.closed(); }));
  expect_untouched();
}

// What a client that speaks this version at most is told; empty: it got in.
std::string refusal_of(uint16_t port, int version) {
  const std::unique_ptr<SSL_CTX, decltype(&SSL_CTX_free)> context(SSL_CTX_new(TLS_client_method()),
                                                                  &SSL_CTX_free);
  SSL_CTX_set_max_proto_version(context.get(), version);
  const std::string where = loopback() + ":" + std::to_string(port);
  const std::unique_ptr<BIO, decltype(&BIO_free_all)> connection(BIO_new_ssl_connect(context.get()),
                                                                 &BIO_free_all);
  BIO_set_conn_hostname(connection.get(), where.c_str());
  if (BIO_do_connect(connection.get()) == 1 && BIO_do_handshake(connection.get()) == 1) return "";
  return "refused";
}

TEST_F(LinkTlsTest, OlderVersionsAreRefused) {
  give_identities();
  open_pair();
  const auto attempt = [&](int version) {
    auto refused = std::async(std::launch::async, refusal_of, high.links->port(), version);
    EXPECT_TRUE(run_until(
        executor, [&] { return refused.wait_for(milliseconds(0)) == std::future_status::ready; }));
    return refused.get();
  };
  EXPECT_EQ(attempt(TLS1_2_VERSION), "refused");
  EXPECT_EQ(attempt(TLS1_3_VERSION), "") << "the handshake of its side; then it is asked who it is";
  expect_untouched();
}

// ---- a node's own files

class TlsFilesTest : public LinkTlsTest {
 protected:
  std::string refusal(const tls::Files& files, const std::string& name = "n1") {
    auto loaded = tls::Identity::load(files, name);
    return loaded.ok() ? "" : loaded.error().message();
  }
};

TEST_F(TlsFilesTest, WhatIsWrongWithThemIsSaid) {
  const tls::Files good = certify("one", "n1");
  EXPECT_EQ(refusal(good), "");
  tls::Files files = good;
  files.key.clear();
  EXPECT_EQ(refusal(files), "TLS needs all of: authority, certificate, key");
  files = good;
  files.certificate = dir_ + "/nothing";
  EXPECT_NE(refusal(files).find("cannot open " + dir_ + "/nothing"), std::string::npos);
  files.certificate = good.key;
  EXPECT_NE(refusal(files).find("is not a certificate"), std::string::npos) << refusal(files);
  files = good;
  files.key = certify("one", "n2").key;
  EXPECT_NE(refusal(files).find("is not the key of"), std::string::npos) << refusal(files);
  EXPECT_NE(refusal(good, "n9").find("is of node 'n1', this node is 'n9'"), std::string::npos);
  make_cluster("other");
  files = good;
  files.authority = dir_ + "/other/ca.pem";
  EXPECT_NE(refusal(files).find("is not signed by"), std::string::npos) << refusal(files);
  std::filesystem::permissions(good.key, std::filesystem::perms::others_read,
                               std::filesystem::perm_options::add);
  EXPECT_NE(refusal(good).find("can be read by others"), std::string::npos);
}

TEST_F(TlsFilesTest, AnExpiredCertificateIsNotUsed) {
  const std::string to = dir_ + "/old";
  ASSERT_TRUE(tls::certify(dir_ + "/one", "n1", to, -1).ok());
  EXPECT_NE(refusal({to + "/ca.pem", to + "/n1.pem", to + "/n1.key"}).find("has expired"),
            std::string::npos);
}

TEST_F(TlsFilesTest, NothingIsOverwritten) {
  EXPECT_EQ(tls::make_authority(dir_ + "/one", "one").error().code(), Code::kConflict);
  certify("one", "n1");
  const Status again = tls::certify(dir_ + "/one", "n1", dir_ + "/one-nodes");
  EXPECT_EQ(again.error().code(), Code::kConflict);
}

}  // namespace
}  // namespace dvs::link_testing
