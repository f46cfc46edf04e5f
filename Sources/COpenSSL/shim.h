// Without _GNU_SOURCE, as in the Glibc module of Swift: a second shape of fd_set would not import beside it.
#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/sha.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/pem.h>
#include <openssl/x509_vfy.h>
#include <openssl/x509v3.h>

// What OpenSSL has as macros, which do not import. Results are those of the macros.
static inline void elide_tls_restrict(SSL_CTX *context) {
  SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
  SSL_CTX_set_options(
      context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_NO_TICKET | SSL_OP_CIPHER_SERVER_PREFERENCE);
  SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_num_tickets(context, 0);
  SSL_CTX_set_dh_auto(context, 1);
}
static inline void elide_tls_maximum_version(SSL_CTX *context, int version) {
  SSL_CTX_set_max_proto_version(context, version);
}
static inline long elide_bio_pending(BIO *bio) { return BIO_pending(bio); }
/// Where the bytes of a memory BIO lie, and how many they are.
static inline long elide_bio_bytes(BIO *bio, char **bytes) { return BIO_get_mem_data(bio, bytes); }
/// An empty memory BIO that says "try again", not "the end".
static inline BIO *elide_bio_memory(void) {
  BIO *bio = BIO_new(BIO_s_mem());
  if (bio) BIO_set_mem_eof_return(bio, -1);
  return bio;
}
