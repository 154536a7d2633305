// What the files of tls/ share of OpenSSL: owning pointers, and its errors as ours. Internal to
// tls/.
#pragma once

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <memory>
#include <string>

#include "base/result.h"

namespace dvs::tls {

template <auto kFree>
struct Freed {
  template <typename T>
  void operator()(T* object) const {
    kFree(object);
  }
};
using Key = std::unique_ptr<EVP_PKEY, Freed<EVP_PKEY_free>>;
using Certificate = std::unique_ptr<X509, Freed<X509_free>>;
using Number = std::unique_ptr<BIGNUM, Freed<BN_free>>;
using Extension = std::unique_ptr<X509_EXTENSION, Freed<X509_EXTENSION_free>>;
using File = std::unique_ptr<BIO, Freed<BIO_free>>;

// Of the last call that failed; what OpenSSL has queued is used up.
std::string why();
Error failed(const std::string& what);

// The common name; empty if there is none, or one that no node could have.
std::string name_of(const X509* certificate);

Result<Certificate> read_certificate(const std::string& path);
Result<Key> read_key(const std::string& path);

}  // namespace dvs::tls
