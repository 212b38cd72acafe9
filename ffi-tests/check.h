/* What the programs share: checks that name their line, numbers from a seed, a naive product. */

#ifndef CHECK_H
#define CHECK_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "qcore.h"

#define CHECK(condition)                                                      \
  do {                                                                        \
    if (!(condition)) {                                                       \
      fprintf(stderr, "%s:%d: %s\nthe last error: %s\n", __FILE__, __LINE__,  \
              #condition, qc_last_error());                                   \
      exit(1);                                                                \
    }                                                                         \
  } while (0)

#define OK(call) CHECK((call) == QC_OK)

/* malloc that does not fail, and that gives a pointer even for no bytes. */
static inline void *room(size_t count, size_t size) {
  void *memory = malloc(count * size + 1);
  CHECK(memory != NULL);
  return memory;
}

static inline uint32_t next_random(uint32_t *state) {
  *state ^= *state << 13;
  *state ^= *state >> 17;
  *state ^= *state << 5;
  return *state;
}

/* A random integer of an encoding. */
static inline int32_t random_value(int32_t encoding, uint32_t *state) {
  uint32_t r = next_random(state) >> 7;
  if (encoding == QC_BIPOLAR) return (int32_t)(r % 2) * 2 - 1;
  if (encoding == QC_TERNARY) return (int32_t)(r % 3) - 1;
  if (encoding >= QC_S1) {
    int bits = encoding - QC_S1 + 1;
    return (int32_t)(r % (1u << bits)) - (1 << (bits - 1));
  }
  return (int32_t)(r % (1u << (encoding - QC_U1 + 1)));
}

/* Integers and their packed words. */
typedef struct packed {
  int32_t *values;
  uint32_t *words;
  size_t n_words;
  int32_t encoding;
  size_t count;
} packed;

static inline packed random_packed(int32_t encoding, size_t rows, size_t cols, uint32_t seed) {
  packed p;
  size_t i;
  p.encoding = encoding;
  p.count = rows * cols;
  p.values = (int32_t *)room(rows * cols, sizeof(int32_t));
  for (i = 0; i < rows * cols; i++) p.values[i] = random_value(encoding, &seed);
  OK(qc_packed_words(encoding, rows, cols, &p.n_words));
  p.words = (uint32_t *)room(p.n_words, sizeof(uint32_t));
  memset(p.words, 0xA5, p.n_words * sizeof(uint32_t));
  OK(qc_pack(encoding, rows, cols, p.values, p.words, p.n_words));
  return p;
}

static inline void free_packed(packed p) {
  free(p.values);
  free(p.words);
}

/* The whole product [m, n], one multiplication after the other. */
static inline int32_t *naive_product(const int32_t *a, const int32_t *w, size_t m, size_t n,
                                     size_t k) {
  int32_t *out = (int32_t *)room(m * n, sizeof(int32_t));
  size_t i, j, c;
  for (i = 0; i < m; i++) {
    for (j = 0; j < n; j++) {
      int32_t sum = 0;
      for (c = 0; c < k; c++) sum += a[i * k + c] * w[j * k + c];
      out[i * n + j] = sum;
    }
  }
  return out;
}

static inline qc_gemm *new_gemm(packed weights, int32_t weight, int32_t activation, size_t n, size_t k,
                                const float *scale, const float *bias, const char *isa) {
  qc_gemm_options options;
  qc_gemm *gemm = NULL;
  OK(qc_gemm_options_init(sizeof options, &options));
  options.weight_encoding = weight;
  options.activation_encoding = activation;
  options.n = n;
  options.k = k;
  options.weights = weights.words;
  options.weight_words = weights.n_words;
  options.scale = scale;
  options.bias = bias;
  options.isa = isa;
  OK(qc_gemm_new(&options, &gemm));
  CHECK(gemm != NULL);
  return gemm;
}

/* The bytes of a file. */
static inline uint8_t *read_file(const char *path, size_t *len) {
  FILE *file = fopen(path, "rb");
  uint8_t *bytes;
  long end;
  CHECK(file != NULL);
  CHECK(fseek(file, 0, SEEK_END) == 0);
  end = ftell(file);
  CHECK(end >= 0);
  rewind(file);
  bytes = (uint8_t *)room((size_t)end, 1);
  CHECK(fread(bytes, 1, (size_t)end, file) == (size_t)end);
  fclose(file);
  *len = (size_t)end;
  return bytes;
}

#endif
