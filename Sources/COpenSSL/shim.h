// The same feature macros as in every other module here: without, the C library's fd_set has other member names, and the
// importer refuses to see both.
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include <openssl/evp.h>
#include <openssl/sha.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
