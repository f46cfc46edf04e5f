#define _GNU_SOURCE 1
#include "celide.h"
#include <sys/epoll.h>
#include <sys/socket.h>

_Static_assert(ELIDE_READABLE == EPOLLIN && ELIDE_WRITABLE == EPOLLOUT, "");
_Static_assert(ELIDE_FAILED == EPOLLERR && ELIDE_HUNG_UP == EPOLLHUP, "");
_Static_assert(ELIDE_ADD == EPOLL_CTL_ADD && ELIDE_REMOVE == EPOLL_CTL_DEL && ELIDE_CHANGE == EPOLL_CTL_MOD, "");

int elide_epoll_create(void) { return epoll_create1(EPOLL_CLOEXEC); }

int elide_epoll_control(int epoll, int operation, int fd, uint32_t events, uint64_t key) {
  struct epoll_event event = {.events = events, .data.u64 = key};
  return epoll_ctl(epoll, operation, fd, &event);
}

int elide_epoll_wait(int epoll, struct elide_event *events, int capacity, int milliseconds) {
  struct epoll_event found[64];
  int count = epoll_wait(epoll, found, capacity < 64 ? capacity : 64, milliseconds);
  for (int i = 0; i < count; i++) events[i] = (struct elide_event){found[i].data.u64, found[i].events};
  return count;
}

int elide_accept(int listener) { return accept4(listener, 0, 0, SOCK_NONBLOCK | SOCK_CLOEXEC); }
