#include "api/router.h"

#include <gtest/gtest.h>

namespace dvs {
namespace {

using Params = std::vector<std::string>;

class RouterTest : public ::testing::Test {
 protected:
  void add(const std::string& method, const std::string& path) {
    router_.add(method, path,
                [this, path](HttpRequest, std::shared_ptr<Responder>) { called_ = path; });
  }
  // The path of the route that was found, or what was wrong.
  std::string route(const std::string& method, const std::string& target) {
    request_ = HttpRequest{};
    request_.method = method;
    const auto match = router_.route(target, request_);
    if (!match.ok()) return "error: " + match.error().message();
    if (match->handler == nullptr) return "allowed: " + match->allowed;
    (*match->handler)({}, nullptr);
    return called_;
  }

  Router router_;
  HttpRequest request_;
  std::string called_;
};

TEST_F(RouterTest, ParamsStandForOneSegmentAndAreDecoded) {
  add("POST", "/v1/dcs/{}/endpoints/{}/kill");
  EXPECT_EQ(route("POST", "/v1/dcs/a%20b%2Fc/endpoints/7/kill"), "/v1/dcs/{}/endpoints/{}/kill");
  EXPECT_EQ(request_.params, (Params{"a b/c", "7"}));
  EXPECT_EQ(route("POST", "/v1/dcs/x/y/endpoints/7/kill"), "allowed: ");
  EXPECT_EQ(route("POST", "/v1/dcs//endpoints/7/kill"), "allowed: ");
}

TEST_F(RouterTest, AFixedSegmentWinsOverAParameter) {
  add("GET", "/v1/{}/all");
  add("GET", "/v1/{}/{}");
  add("GET", "/v1/dcs/all");
  EXPECT_EQ(route("GET", "/v1/dcs/all"), "/v1/dcs/all");
  EXPECT_EQ(route("GET", "/v1/nodes/all"), "/v1/{}/all");
  EXPECT_EQ(route("GET", "/v1/nodes/n1"), "/v1/{}/{}");
}

TEST_F(RouterTest, QueryIsDecoded) {
  add("GET", "/v1/processes");
  EXPECT_EQ(route("GET", "/v1/processes?dc=a%26b&flag&&x=1=2"), "/v1/processes");
  EXPECT_EQ(request_.query,
            (std::map<std::string, std::string>{{"dc", "a&b"}, {"flag", ""}, {"x", "1=2"}}));
  EXPECT_EQ(request_.path, "/v1/processes");
}

TEST_F(RouterTest, AWrongMethodNamesThoseThatExist) {
  add("GET", "/v1/dcs");
  add("POST", "/v1/dcs");
  EXPECT_EQ(route("DELETE", "/v1/dcs"), "allowed: GET, POST");
}

TEST_F(RouterTest, BrokenTargetsAreRefused) {
  add("GET", "/v1/dcs/{}");
  for (const char* target :
       {"", "v1/dcs/x", "*", "/v1/dcs/%", "/v1/dcs/%4", "/v1/dcs/%zz", "/v1/dcs/x?a=%f"}) {
    EXPECT_EQ(route("GET", target).substr(0, 6), "error:") << target;
  }
}

TEST(Url, EncodingIsUndoneByDecoding) {
  std::string all;
  for (int c = 0; c < 256; ++c) all += static_cast<char>(c);
  const std::string encoded = url_encode(all);
  EXPECT_EQ(encoded.find_first_of(" /?&#"), std::string::npos);
  EXPECT_EQ(*url_decode(encoded), all);
  EXPECT_EQ(url_encode("n-1_a"), "n-1_a");
}

}  // namespace
}  // namespace dvs
