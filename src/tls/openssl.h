// What the files of tls/ share of OpenSSL: owning pointers, reading and writing, and its errors as
// ours. Internal to tls/.
#pragma once

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <memory>
#include <string>

#include "base/result.h"
#include "tls/subject.h"

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
using Request = std::unique_ptr<X509_REQ, Freed<X509_REQ_free>>;
using RevokedList = std::unique_ptr<X509_CRL, Freed<X509_CRL_free>>;
using Number = std::unique_ptr<BIGNUM, Freed<BN_free>>;
using Integer = std::unique_ptr<ASN1_INTEGER, Freed<ASN1_INTEGER_free>>;
using Time = std::unique_ptr<ASN1_TIME, Freed<ASN1_TIME_free>>;
using Extension = std::unique_ptr<X509_EXTENSION, Freed<X509_EXTENSION_free>>;
using File = std::unique_ptr<BIO, Freed<BIO_free>>;
using Context = std::unique_ptr<SSL_CTX, Freed<SSL_CTX_free>>;
using Store = std::unique_ptr<X509_STORE, Freed<X509_STORE_free>>;
using StoreContext = std::unique_ptr<X509_STORE_CTX, Freed<X509_STORE_CTX_free>>;

struct Pair {
  Certificate certificate;
  Key key;
};

// Of the last call that failed; what OpenSSL has queued is used up.
std::string why();
Error failed(const std::string& what);

// Empty names are missing ones, or such as no node and no unit could have.
Subject subject_of(const X509* certificate);

// From files and from text, in PEM. kInvalid: they are none. A key's file must not be readable by
// others (kDenied).
Result<Certificate> read_certificate(const std::string& path);
Result<Key> read_key(const std::string& path);
Result<RevokedList> read_revoked(const std::string& path);
Result<Certificate> parse_certificate(const std::string& text);
Result<Request> parse_request(const std::string& text);
Result<RevokedList> parse_revoked(const std::string& text);

Result<std::string> to_pem(const X509* certificate);
Result<std::string> to_pem(const X509_REQ* request);
Result<std::string> to_pem(const X509_CRL* list);
Result<std::string> to_pem(const EVP_PKEY* key);

std::string fingerprint_of(const X509* certificate);

Result<Key> make_key();
bool set_name(X509_NAME* name, const Subject& subject);
bool signed_by(const X509* certificate, const X509* authority);
bool is_of_key(const X509* certificate, EVP_PKEY* key);

// By the authority in that directory, for its own server; written nowhere. (authority.cc)
Result<Pair> certify_server(const std::string& directory);

}  // namespace dvs::tls
