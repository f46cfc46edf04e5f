#include "celide.h"
#include <string.h>

static uint32_t table[8][256];

__attribute__((constructor)) static void fill_table(void) {
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
  // Three independent chains of a third of a 4 KiB block would hide the latency of crc32; blocks arrive hot from the
  // socket copy, where one chain already runs at memory speed.
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

uint32_t elide_crc32c(uint32_t seed, const void *bytes, size_t length) {
  static int hw = -1;
  if (hw < 0) hw = has_hw();
  uint32_t c = ~seed;
  c = hw ? crc_hw(c, bytes, length) : crc_table(c, bytes, length);
  return ~c;
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
