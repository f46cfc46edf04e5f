// Without _GNU_SOURCE, as in the Glibc module of Swift: a second shape of fd_set would not import beside it.
#include <curl/curl.h>
// curl_easy_setopt and curl_easy_getinfo are variadic, which Swift cannot call: one function per argument type.

static inline CURLcode elide_curl_set_long(CURL *h, CURLoption o, long v) { return curl_easy_setopt(h, o, v); }
static inline CURLcode elide_curl_set_string(CURL *h, CURLoption o, const char *v) { return curl_easy_setopt(h, o, v); }
static inline CURLcode elide_curl_set_pointer(CURL *h, CURLoption o, void *v) { return curl_easy_setopt(h, o, v); }
typedef size_t (*elide_curl_sink)(char *bytes, size_t size, size_t count, void *context);
static inline CURLcode elide_curl_set_sink(CURL *h, elide_curl_sink f, void *context) {
  CURLcode c = curl_easy_setopt(h, CURLOPT_WRITEFUNCTION, f);
  return c != CURLE_OK ? c : curl_easy_setopt(h, CURLOPT_WRITEDATA, context);
}
static inline long elide_curl_response_code(CURL *h) {
  long code = 0;
  curl_easy_getinfo(h, CURLINFO_RESPONSE_CODE, &code);
  return code;
}
