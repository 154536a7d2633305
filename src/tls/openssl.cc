#include "tls/openssl.h"

#include <sys/stat.h>

#include <cstring>

#include "base/file.h"

namespace dvs::tls {

std::string why() {
  const unsigned long code = ERR_peek_last_error();
  const char* reason = code == 0 ? nullptr : ERR_reason_error_string(code);
  ERR_clear_error();
  return reason == nullptr ? "unknown reason" : reason;
}

Error failed(const std::string& what) { return Error(Code::kInvalid, what + ": " + why()); }

std::string name_of(const X509* certificate) {
  if (certificate == nullptr) return {};
  char name[65];  // as long as X.520 allows
  const int length = X509_NAME_get_text_by_NID(X509_get_subject_name(certificate), NID_commonName,
                                               name, sizeof name);
  if (length <= 0 || std::strlen(name) != static_cast<size_t>(length)) return {};
  return name;
}

namespace {

Result<File> open(const std::string& path) {
  File file(BIO_new_file(path.c_str(), "r"));
  if (file == nullptr) return failed("cannot open " + path);
  return file;
}

}  // namespace

Result<Certificate> read_certificate(const std::string& path) {
  DVS_ASSIGN(const File file, open(path));
  Certificate certificate(PEM_read_bio_X509(file.get(), nullptr, nullptr, nullptr));
  if (certificate == nullptr) return failed(path + " is not a certificate (PEM)");
  return certificate;
}

Result<Key> read_key(const std::string& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) == 0 && (info.st_mode & 077) != 0) {
    return Error(Code::kDenied, path + " can be read by others; make it 0600");
  }
  DVS_ASSIGN(const File file, open(path));
  // (An empty password: nobody is asked for one.)
  Key key(PEM_read_bio_PrivateKey(file.get(), nullptr, nullptr, const_cast<char*>("")));
  if (key == nullptr) return failed(path + " is not a private key (PEM, without password)");
  return key;
}

}  // namespace dvs::tls
