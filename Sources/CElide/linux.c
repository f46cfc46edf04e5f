#define _GNU_SOURCE 1
#include "celide.h"
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/sendfile.h>

void elide_name_thread(const char *name) {
  char kept[16];
  strncpy(kept, name, 15);
  kept[15] = 0;
  pthread_setname_np(pthread_self(), kept);
}

// On Linux a nice value is a thread's own.
void elide_step_back(void) { setpriority(PRIO_PROCESS, 0, 10); }

int elide_fallocate(int fd, int64_t length) { return fallocate(fd, 0, 0, length); }
void elide_start_writeback(int fd, int64_t offset, int64_t length) {
  sync_file_range(fd, offset, length, SYNC_FILE_RANGE_WRITE);
}
void elide_want_huge_pages(void *p, size_t length) { madvise(p, length, MADV_HUGEPAGE); }
int elide_eventfd(void) { return eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC); }
int64_t elide_getrandom(void *bytes, size_t length) { return getrandom(bytes, length, 0); }
int64_t elide_sendfile(int socket, int file, uint64_t offset, size_t length) {
  off_t at = (off_t)offset;
  return sendfile(socket, file, &at, length);
}
