// Without _GNU_SOURCE, as in the Glibc module of Swift: a second shape of fd_set would not import beside it.
#include <lmdb.h>
