// The few things that Swift cannot say: CRC-32C by instruction, atomic access to words in shared memory,
// and C variadics and macros that the importer drops.
#ifndef CELIDE_H
#define CELIDE_H
#include <stddef.h>
#include <stdint.h>

/// CRC-32C (Castagnoli, RFC 3720 appendix B.4) of `length` bytes, continuing from `seed` (0 to begin). Uses SSE4.2 or
/// the ARMv8 CRC instructions where present, and a table otherwise.
uint32_t elide_crc32c(uint32_t seed, const void *bytes, size_t length);

/// CRC-32C of each of `count` neighbouring blocks of 4096 bytes, from seed 0, written to `out` in host order.
void elide_crc32c_blocks(const void *bytes, size_t count, void *out);

/// How many of these blocks match `expected`, up to the first that does not.
size_t elide_crc32c_matching(const void *bytes, size_t count, const uint32_t *expected);

/// How many of `count` neighbouring blocks, of which the first is block r of its segment, are what their words say, up to
/// the first that is not. A word is the CRC-32C of r (little-endian) and the block, continuing from `seed`, 0 stored as
/// 0xFFFFFFFF; `words` points at that of the first block, in shared memory.
size_t elide_words_matching(uint32_t seed, uint32_t r, const void *bytes, size_t count, const void *words);

/// Copies `count` blocks of 4096 bytes out of a mapped file and checks the copies as `elide_words_matching` does; how many
/// are right, up to the first that is not, or -1 when the file could not be read. `elide_catch_bus_errors` comes first.
int64_t elide_copy_matching(void *to, const void *from, size_t count, uint32_t seed, uint32_t r, const void *words);

/// The same for blocks whose plain CRC-32C, from seed 0, is `expected`.
int64_t elide_copy_matching_crcs(void *to, const void *from, size_t count, const uint32_t *expected);

/// Neighbouring blocks of a mapped file: `words` are what `elide_copy_matching` wants, or plain CRCs.
struct elide_piece {
  const void *from;
  const void *words;
  uint32_t count, seed, r, are_crcs;
};

/// Copies pieces one behind the other, each as the two calls above do; how many blocks are right, up to the first that is not or
/// cannot be read.
int64_t elide_copy_pieces(void *to, const struct elide_piece *pieces, size_t count);

/// The same without copying: how many blocks are right where they lie.
int64_t elide_check_pieces(const struct elide_piece *pieces, size_t count);

/// Copies bytes of a mapped file; -1 when it could not be read.
int elide_copy_mapped(void *to, const void *from, size_t length);

/// From now on a SIGBUS inside these five calls ends that call; any other goes to whoever had it before.
void elide_catch_bus_errors(void);

/// SHA-256 of two messages at once, into 32 bytes each. 0, and nothing is written, where the processor has no instructions
/// for it.
int elide_sha256_two(const void *p, size_t np, const void *q, size_t nq, void *first, void *second);

/// 1 when all `length` bytes are zero.
int elide_is_zero(const void *bytes, size_t length);

static inline uint64_t elide_load_acquire_u64(const void *p) { return __atomic_load_n((const uint64_t *)p, __ATOMIC_ACQUIRE); }
static inline void elide_store_release_u64(void *p, uint64_t v) { __atomic_store_n((uint64_t *)p, v, __ATOMIC_RELEASE); }
static inline uint32_t elide_load_acquire_u32(const void *p) { return __atomic_load_n((const uint32_t *)p, __ATOMIC_ACQUIRE); }
static inline void elide_store_release_u32(void *p, uint32_t v) { __atomic_store_n((uint32_t *)p, v, __ATOMIC_RELEASE); }

/// Adds to a counter that others read at any time; orders nothing.
static inline void elide_add_u64(void *p, uint64_t v) { __atomic_fetch_add((uint64_t *)p, v, __ATOMIC_RELAXED); }

/// C++'s operator delete, for an object that a C++ library made with new and offers no function to free. The object's
/// destructor does not run: it must hold nothing by then.
static inline void elide_cxx_delete(void *p) {
  extern void _ZdlPv(void *);
  _ZdlPv(p);
}

/// Names the calling thread, as `top -H` and core dumps show it; 15 bytes are kept.
void elide_name_thread(const char *name);

/// The calling thread lets others go first (nice 10): for good, since only root may take it back.
void elide_step_back(void);

// Linux calls that Glibc's Swift module leaves out, since they need _GNU_SOURCE. Results and errno as the calls give them.
int elide_fallocate(int fd, int64_t length);
void elide_start_writeback(int fd, int64_t offset, int64_t length);
/// A hint for memory that is about to be touched: `p` is page aligned.
void elide_want_huge_pages(void *p, size_t length);
int elide_eventfd(void);
int64_t elide_getrandom(void *bytes, size_t length);
/// Sends [offset, offset+length) of a file, pages as they are where the socket can; how many bytes, or -1.
int64_t elide_sendfile(int socket, int file, uint64_t offset, size_t length);

/// What happened to a polled descriptor: the key it was added with, and the bits of epoll(7).
struct elide_event {
  uint64_t key;
  uint32_t events;
};
enum { ELIDE_READABLE = 0x1, ELIDE_WRITABLE = 0x4, ELIDE_FAILED = 0x8, ELIDE_HUNG_UP = 0x10 };
enum { ELIDE_ADD = 1, ELIDE_REMOVE = 2, ELIDE_CHANGE = 3 };
int elide_epoll_create(void);
int elide_epoll_control(int epoll, int operation, int fd, uint32_t events, uint64_t key);
/// At most 64 events at a time.
int elide_epoll_wait(int epoll, struct elide_event *events, int capacity, int milliseconds);
/// The next connection, non-blocking and closed on exec.
int elide_accept(int listener);
#endif
