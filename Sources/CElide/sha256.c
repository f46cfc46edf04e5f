// SHA-256 (FIPS 180-4) of two messages at once. One stream of the SHA instructions waits for itself: each
// round pair needs the one before. Two streams in turn fill the gaps, for nearly twice the bytes a second.
#include "celide.h"
#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>

static const uint32_t K[64] __attribute__((aligned(64))) = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

// The instructions keep the state as ABEF and CDGH, most significant lane first.
typedef struct {
  __m128i abef, cdgh;
} lane;

#define SHA __attribute__((target("sha,ssse3,sse4.1"), always_inline)) static inline

SHA void rounds(lane *s, __m128i words) {
  s->cdgh = _mm_sha256rnds2_epu32(s->cdgh, s->abef, words);
  s->abef = _mm_sha256rnds2_epu32(s->abef, s->cdgh, _mm_shuffle_epi32(words, 0x0E));
}

/// Words 4i+16...4i+19 of the message schedule from the four groups before them.
SHA __m128i schedule(__m128i a, __m128i b, __m128i c, __m128i d) {
  return _mm_sha256msg2_epu32(_mm_add_epi32(_mm_sha256msg1_epu32(a, b), _mm_alignr_epi8(d, c, 4)), d);
}

__attribute__((target("sha,ssse3,sse4.1"))) static void compress_two(lane *x, lane *y, const uint8_t *p, const uint8_t *q) {
  const __m128i swap = _mm_set_epi64x(0x0c0d0e0f08090a0bULL, 0x0405060700010203ULL);
  lane a = *x, b = *y;
  __m128i v[4], w[4];
  for (int i = 0; i < 4; i++) {
    v[i] = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(p + 16 * i)), swap);
    w[i] = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(q + 16 * i)), swap);
  }
#pragma clang loop unroll(full)
  for (int i = 0; i < 16; i++) {
    const __m128i k = _mm_load_si128((const __m128i *)(K + 4 * i));
    rounds(&a, _mm_add_epi32(v[i & 3], k));
    rounds(&b, _mm_add_epi32(w[i & 3], k));
    if (i < 12) {
      v[i & 3] = schedule(v[i & 3], v[(i + 1) & 3], v[(i + 2) & 3], v[(i + 3) & 3]);
      w[i & 3] = schedule(w[i & 3], w[(i + 1) & 3], w[(i + 2) & 3], w[(i + 3) & 3]);
    }
  }
  x->abef = _mm_add_epi32(x->abef, a.abef);
  x->cdgh = _mm_add_epi32(x->cdgh, a.cdgh);
  y->abef = _mm_add_epi32(y->abef, b.abef);
  y->cdgh = _mm_add_epi32(y->cdgh, b.cdgh);
}

__attribute__((target("sha,ssse3,sse4.1"))) static void store(const lane *s, uint8_t *out) {
  uint32_t low[4], high[4];
  _mm_storeu_si128((__m128i *)low, s->abef);   // F E B A
  _mm_storeu_si128((__m128i *)high, s->cdgh);  // H G D C
  const uint32_t h[8] = {low[3], low[2], high[3], high[2], low[1], low[0], high[1], high[0]};
  for (int i = 0; i < 8; i++) {
    const uint32_t big = __builtin_bswap32(h[i]);
    memcpy(out + 4 * i, &big, 4);
  }
}

/// What is left of a message behind its whole groups, a one bit, zeros, and the length in bits: one or two groups more.
static size_t tail(uint8_t *out, const uint8_t *rest, size_t length) {
  const size_t n = length & 63, end = n < 56 ? 64 : 128;
  memset(out, 0, 128);
  memcpy(out, rest, n);
  out[n] = 0x80;
  const uint64_t bits = __builtin_bswap64((uint64_t)length * 8);
  memcpy(out + end - 8, &bits, 8);
  return end;
}

__attribute__((target("sha,ssse3,sse4.1"))) static void hash_two(
    const uint8_t *p, size_t np, const uint8_t *q, size_t nq, uint8_t *first, uint8_t *second) {
  const __m128i abef = _mm_set_epi32(0x6a09e667, (int)0xbb67ae85, 0x510e527f, (int)0x9b05688c);
  const __m128i cdgh = _mm_set_epi32(0x3c6ef372, (int)0xa54ff53a, 0x1f83d9ab, 0x5be0cd19);
  lane x = {abef, cdgh}, y = {abef, cdgh};
  const size_t wp = np & ~(size_t)63, wq = nq & ~(size_t)63, both = wp < wq ? wp : wq;
  size_t at = 0;
  for (; at < both; at += 64) compress_two(&x, &y, p + at, q + at);
  lane idle = x;
  for (size_t i = at; i < wp; i += 64) compress_two(&x, &idle, p + i, p + i);
  for (size_t i = at; i < wq; i += 64) compress_two(&y, &idle, q + i, q + i);
  uint8_t tails[2][128];
  const size_t ep = tail(tails[0], p + wp, np), eq = tail(tails[1], q + wq, nq);
  for (at = 0; at < ep || at < eq; at += 64)
    compress_two(at < ep ? &x : &idle, at < eq ? &y : &idle, tails[0] + (at < ep ? at : 0), tails[1] + (at < eq ? at : 0));
  store(&x, first);
  store(&y, second);
}

static int has_sha(void) {
  unsigned a, b, c, d;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return 0;
  return (b >> 29 & 1) && __builtin_cpu_supports("ssse3") && __builtin_cpu_supports("sse4.1");
}

int elide_sha256_two(const void *p, size_t np, const void *q, size_t nq, void *first, void *second) {
  static int can = -1;
  if (__atomic_load_n(&can, __ATOMIC_RELAXED) < 0) __atomic_store_n(&can, has_sha(), __ATOMIC_RELAXED);
  if (!__atomic_load_n(&can, __ATOMIC_RELAXED)) return 0;
  hash_two(p, np, q, nq, first, second);
  return 1;
}
#else
int elide_sha256_two(const void *p, size_t np, const void *q, size_t nq, void *first, void *second) {
  (void)p, (void)np, (void)q, (void)nq, (void)first, (void)second;
  return 0;
}
#endif
