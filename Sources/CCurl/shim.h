// Without _GNU_SOURCE, as in the Glibc module of Swift: a second shape of fd_set would not import beside it.
#include <curl/curl.h>
// curl_easy_setopt and curl_easy_getinfo are variadic, which Swift cannot call: one function per argument type.

static inline CURLcode elide_curl_set_long(CURL *h, CURLoption o, long v) { return curl_easy_setopt(h, o, v); }
static inline CURLcode elide_curl_set_offset(CURL *h, CURLoption o, long long v) { return curl_easy_setopt(h, o, (curl_off_t)v); }
static inline CURLcode elide_curl_set_string(CURL *h, CURLoption o, const char *v) { return curl_easy_setopt(h, o, v); }
static inline CURLcode elide_curl_set_pointer(CURL *h, CURLoption o, void *v) { return curl_easy_setopt(h, o, v); }
typedef size_t (*elide_curl_sink)(char *bytes, size_t size, size_t count, void *context);
static inline CURLcode elide_curl_set_sink(CURL *h, elide_curl_sink f, void *context) {
  CURLcode c = curl_easy_setopt(h, CURLOPT_WRITEFUNCTION, f);
  return c != CURLE_OK ? c : curl_easy_setopt(h, CURLOPT_WRITEDATA, context);
}
static inline CURLcode elide_curl_set_headers_sink(CURL *h, elide_curl_sink f, void *context) {
  CURLcode c = curl_easy_setopt(h, CURLOPT_HEADERFUNCTION, f);
  return c != CURLE_OK ? c : curl_easy_setopt(h, CURLOPT_HEADERDATA, context);
}
static inline CURLcode elide_curl_set_source(CURL *h, elide_curl_sink f, void *context) {
  CURLcode c = curl_easy_setopt(h, CURLOPT_READFUNCTION, f);
  return c != CURLE_OK ? c : curl_easy_setopt(h, CURLOPT_READDATA, context);
}
// Called before each request that goes out on a connection, also when libcurl sends one a second time.
typedef int (*elide_curl_gate)(void *context, char *to, char *from, int to_port, int from_port);
static inline CURLcode elide_curl_set_gate(CURL *h, elide_curl_gate f, void *context) {
  CURLcode c = curl_easy_setopt(h, CURLOPT_PREREQFUNCTION, f);
  return c != CURLE_OK ? c : curl_easy_setopt(h, CURLOPT_PREREQDATA, context);
}
// Told of each connection that is made, and asked to close it.
static inline CURLcode elide_curl_set_sockets(
    CURL *h, curl_sockopt_callback opened, curl_closesocket_callback close, void *context) {
  CURLcode c = curl_easy_setopt(h, CURLOPT_SOCKOPTFUNCTION, opened);
  if (c == CURLE_OK) c = curl_easy_setopt(h, CURLOPT_SOCKOPTDATA, context);
  if (c == CURLE_OK) c = curl_easy_setopt(h, CURLOPT_CLOSESOCKETFUNCTION, close);
  return c != CURLE_OK ? c : curl_easy_setopt(h, CURLOPT_CLOSESOCKETDATA, context);
}
static inline CURLMcode elide_curl_multi_set_long(CURLM *m, CURLMoption o, long v) { return curl_multi_setopt(m, o, v); }
static inline long elide_curl_response_code(CURL *h) {
  long code = 0;
  curl_easy_getinfo(h, CURLINFO_RESPONSE_CODE, &code);
  return code;
}
