#define _GNU_SOURCE 1
#include "celide.h"
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <string.h>

static uint32_t table[8][256];

__attribute__((constructor(101))) static void fill_table(void) {
  for (uint32_t i = 0; i < 256; i++) {
    uint32_t c = i;
    for (int k = 0; k < 8; k++) c = (c >> 1) ^ (0x82F63B78u & (0u - (c & 1)));
    table[0][i] = c;
  }
  for (uint32_t i = 0; i < 256; i++)
    for (int t = 1; t < 8; t++) table[t][i] = (table[t - 1][i] >> 8) ^ table[0][table[t - 1][i] & 0xFF];
}

static uint32_t crc_table(uint32_t c, const uint8_t *p, size_t n) {
  while (n >= 8) {
    uint64_t w;
    memcpy(&w, p, 8);
    w ^= c;
    c = table[7][w & 0xFF] ^ table[6][(w >> 8) & 0xFF] ^ table[5][(w >> 16) & 0xFF] ^ table[4][(w >> 24) & 0xFF] ^
        table[3][(w >> 32) & 0xFF] ^ table[2][(w >> 40) & 0xFF] ^ table[1][(w >> 48) & 0xFF] ^ table[0][w >> 56];
    p += 8;
    n -= 8;
  }
  while (n--) c = (c >> 8) ^ table[0][(c ^ *p++) & 0xFF];
  return c;
}

#if defined(__x86_64__)
#include <nmmintrin.h>
__attribute__((target("sse4.2"))) static uint32_t crc_hw(uint32_t c, const uint8_t *p, size_t n) {
  uint64_t c64 = c;
  while (n >= 32) {
    uint64_t w[4];
    memcpy(w, p, 32);
    c64 = _mm_crc32_u64(c64, w[0]);
    c64 = _mm_crc32_u64(c64, w[1]);
    c64 = _mm_crc32_u64(c64, w[2]);
    c64 = _mm_crc32_u64(c64, w[3]);
    p += 32;
    n -= 32;
  }
  uint32_t r = (uint32_t)c64;
  while (n--) r = _mm_crc32_u8(r, *p++);
  return r;
}

// One chain waits three cycles for each step; the four quarters of a block at once keep the unit busy.
static uint32_t behind_quarter(uint32_t c);
__attribute__((target("sse4.2"))) static uint32_t crc_hw_block(uint32_t c, const uint8_t *p) {
  uint64_t a = c, b = 0, d = 0, e = 0;
  for (size_t i = 0; i < 1024; i += 8) {
    uint64_t w[4];
    for (int k = 0; k < 4; k++) memcpy(w + k, p + 1024 * k + i, 8);
    a = _mm_crc32_u64(a, w[0]);
    b = _mm_crc32_u64(b, w[1]);
    d = _mm_crc32_u64(d, w[2]);
    e = _mm_crc32_u64(e, w[3]);
  }
  c = behind_quarter((uint32_t)a) ^ (uint32_t)b;
  c = behind_quarter(c) ^ (uint32_t)d;
  return behind_quarter(c) ^ (uint32_t)e;
}
#define BLOCKS 1
static int has_hw(void) { return __builtin_cpu_supports("sse4.2"); }
#elif defined(__aarch64__) && defined(__ARM_FEATURE_CRC32)
#include <arm_acle.h>
static uint32_t crc_hw(uint32_t c, const uint8_t *p, size_t n) {
  while (n >= 8) {
    uint64_t w;
    memcpy(&w, p, 8);
    c = __crc32cd(c, w);
    p += 8;
    n -= 8;
  }
  while (n--) c = __crc32cb(c, *p++);
  return c;
}
static int has_hw(void) { return 1; }
#else
static uint32_t crc_hw(uint32_t c, const uint8_t *p, size_t n) { return crc_table(c, p, n); }
static int has_hw(void) { return 0; }
#endif

static int hw = -1;
__attribute__((constructor)) static void find_hw(void) { hw = has_hw(); }

// What 1024 zero bytes make of a CRC, byte by byte of it; CRCs are linear, so that tells how to join two.
static uint32_t behind[4][256];
__attribute__((constructor(102))) static void fill_behind(void) {
  static const uint8_t zeros[1024];
  uint32_t bit[32];
  for (int i = 0; i < 32; i++) bit[i] = crc_table(1u << i, zeros, sizeof zeros);
  for (int t = 0; t < 4; t++)
    for (int v = 0; v < 256; v++)
      for (int i = 0; i < 8; i++)
        if (v >> i & 1) behind[t][v] ^= bit[8 * t + i];
}
static uint32_t behind_quarter(uint32_t c) {
  return behind[0][c & 0xFF] ^ behind[1][c >> 8 & 0xFF] ^ behind[2][c >> 16 & 0xFF] ^ behind[3][c >> 24];
}

uint32_t elide_crc32c(uint32_t seed, const void *bytes, size_t length) {
  uint32_t c = ~seed;
  const uint8_t *p = bytes;
#ifdef BLOCKS
  for (; hw && length >= 4096; p += 4096, length -= 4096) c = crc_hw_block(c, p);
#endif
  c = hw ? crc_hw(c, p, length) : crc_table(c, p, length);
  return ~c;
}

void elide_crc32c_blocks(const void *bytes, size_t count, void *out) {
  for (size_t i = 0; i < count; i++) {
    const uint32_t c = elide_crc32c(0, (const uint8_t *)bytes + 4096 * i, 4096);
    memcpy((uint8_t *)out + 4 * i, &c, 4);
  }
}

size_t elide_crc32c_matching(const void *bytes, size_t count, const uint32_t *expected) {
  for (size_t i = 0; i < count; i++)
    if (elide_crc32c(0, (const uint8_t *)bytes + 4096 * i, 4096) != expected[i]) return i;
  return count;
}

// The CRC that a word begins with, before its block.
static uint32_t before_block(uint32_t seed, uint32_t r) {
  const uint8_t prefix[4] = {(uint8_t)r, (uint8_t)(r >> 8), (uint8_t)(r >> 16), (uint8_t)(r >> 24)};
  return elide_crc32c(seed, prefix, 4);
}

static int is_word(uint32_t seed, uint32_t r, const void *block, const void *word) {
  const uint32_t c = elide_crc32c(before_block(seed, r), block, 4096);
  return (c ? c : 0xFFFFFFFFu) == elide_load_acquire_u32(word);
}

// Copies a block, if there is a `to`; the CRC-32C of it, continuing from `seed`. Memory takes its time for a page that nobody has
// asked for: `next`, any address, is asked for while the processor is busy with the CRC, whose block is in the cache by then.
static uint32_t copy_block(uint32_t seed, uint8_t *to, const uint8_t *from, const uint8_t *next) {
  if (to) memcpy(to, from, 4096);
  for (size_t i = 0; i < 4096; i += 64) __builtin_prefetch(next + i, 0, 2);
  return elide_crc32c(seed, to ? to : from, 4096);
}

size_t elide_words_matching(uint32_t seed, uint32_t r, const void *bytes, size_t count, const void *words) {
  for (size_t i = 0; i < count; i++)
    if (!is_word(seed, r + (uint32_t)i, (const uint8_t *)bytes + 4096 * i, (const uint8_t *)words + 4 * i)) return i;
  return count;
}

// A mapped file whose disk fails answers a load with SIGBUS. Only the loads below are ready for it.
static __thread sigjmp_buf *volatile way_out;
static struct sigaction before_us;
static void bus_error(int signal, siginfo_t *info, void *context) {
  if (way_out) siglongjmp(*way_out, 1);
  // Not ours: as if we had never been here, and the load is tried again.
  (void)info, (void)context;
  sigaction(signal, &before_us, NULL);
}
static void catch_bus_errors(void) {
  struct sigaction ours;
  memset(&ours, 0, sizeof ours);
  ours.sa_sigaction = bus_error;
  // Not blocked while it runs: it is left by a jump.
  ours.sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK;
  sigaction(SIGBUS, &ours, &before_us);
}
void elide_catch_bus_errors(void) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, catch_bus_errors);
}

// How many blocks of a piece are right: in their copy, or where they lie when `start` is NULL.
static size_t copy_piece(uint8_t *start, const struct elide_piece *piece, const uint8_t *next) {
  for (size_t i = 0; i < piece->count; i++) {
    uint8_t *to = start ? start + 4096 * i : NULL;
    const uint8_t *from = (const uint8_t *)piece->from + 4096 * i;
    const uint8_t *after = i + 1 < piece->count ? from + 4096 : next;
    const uint8_t *expected = (const uint8_t *)piece->words + 4 * i;
    if (piece->are_crcs) {
      uint32_t crc;
      memcpy(&crc, expected, 4);
      if (copy_block(0, to, from, after) != crc) return i;
    } else {
      const uint32_t c = copy_block(before_block(piece->seed, piece->r + (uint32_t)i), to, from, after);
      if ((c ? c : 0xFFFFFFFFu) != elide_load_acquire_u32(expected)) return i;
    }
  }
  return piece->count;
}

// `failed` when a load did; what was copied before it counts.
static int64_t copy_pieces(void *to, const struct elide_piece *pieces, size_t count, int *failed) {
  sigjmp_buf here;
  volatile int64_t done = 0;
  *failed = 1;
  if (sigsetjmp(here, 0)) {
    way_out = NULL;
    return done;
  }
  way_out = &here;
  for (size_t i = 0; i < count; i++) {
    const uint8_t *next = i + 1 < count ? pieces[i + 1].from : pieces[i].from;
    const size_t right = copy_piece(to ? (uint8_t *)to + 4096 * done : NULL, pieces + i, next);
    done += (int64_t)right;
    if (right < pieces[i].count) break;
  }
  way_out = NULL;
  *failed = 0;
  return done;
}

int64_t elide_copy_pieces(void *to, const struct elide_piece *pieces, size_t count) {
  int failed;
  return copy_pieces(to, pieces, count, &failed);
}

int64_t elide_check_pieces(const struct elide_piece *pieces, size_t count) { return elide_copy_pieces(NULL, pieces, count); }

int elide_copy_mapped(void *to, const void *from, size_t length) {
  sigjmp_buf here;
  if (sigsetjmp(here, 0)) {
    way_out = NULL;
    return -1;
  }
  way_out = &here;
  memcpy(to, from, length);
  way_out = NULL;
  return 0;
}

int64_t elide_copy_matching(void *to, const void *from, size_t count, uint32_t seed, uint32_t r, const void *words) {
  const struct elide_piece piece = {from, words, (uint32_t)count, seed, r, 0};
  int failed;
  const int64_t right = copy_pieces(to, &piece, 1, &failed);
  return failed ? -1 : right;
}

int64_t elide_copy_matching_crcs(void *to, const void *from, size_t count, const uint32_t *expected) {
  const struct elide_piece piece = {from, expected, (uint32_t)count, 0, 0, 1};
  int failed;
  const int64_t right = copy_pieces(to, &piece, 1, &failed);
  return failed ? -1 : right;
}

int elide_is_zero(const void *bytes, size_t length) {
  const uint8_t *p = bytes;
  if (length < 16) {
    for (size_t i = 0; i < length; i++)
      if (p[i]) return 0;
    return 1;
  }
  uint64_t a, b;
  memcpy(&a, p, 8);
  memcpy(&b, p + 8, 8);
  return (a | b) == 0 && memcmp(p, p + 16, length - 16) == 0;
}
