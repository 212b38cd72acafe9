/* Packs, quantizes and multiplies on every ISA that is here, against loops over plain integers.
 *
 * With the argument "quick" the large product is left out. Prints the ISAs that it ran on.
 */

#include "check.h"

#include <math.h>

static void packing(void) {
  int32_t encodings[18], e, bits;
  size_t shapes[][2] = {{0, 5}, {3, 0}, {1, 1}, {2, 31}, {3, 32}, {5, 33}, {2, 100}};
  size_t i, s;
  encodings[0] = QC_BIPOLAR;
  encodings[1] = QC_TERNARY;
  for (bits = 1; bits <= 8; bits++) {
    encodings[1 + bits] = QC_U1 + bits - 1;
    encodings[9 + bits] = QC_S1 + bits - 1;
  }
  for (e = 0; e < 18; e++) {
    for (s = 0; s < sizeof shapes / sizeof *shapes; s++) {
      size_t rows = shapes[s][0], cols = shapes[s][1], count = rows * cols;
      packed p = random_packed(encodings[e], rows, cols, 77);
      int32_t *back = (int32_t *)room(count, sizeof(int32_t));
      OK(qc_unpack(encodings[e], rows, cols, p.words, p.n_words, back, count));
      for (i = 0; i < count; i++) CHECK(back[i] == p.values[i]);
      free(back);
      free_packed(p);
    }
  }
  {
    /* The layout that the header promises: column k of plane p at bit k % 32. */
    int32_t values[40] = {0};
    uint32_t words[4];
    values[3] = 1;
    values[33] = 2;
    values[39] = 3;
    OK(qc_pack(QC_U2, 1, 40, values, words, 4));
    CHECK(words[0] == 1u << 3 && words[1] == 1u << 7);
    CHECK(words[2] == 0 && words[3] == (1u << 1 | 1u << 7));
  }
}

/* The code of a float by the header's words. */
static int32_t code_of(float x, const qc_quantizer *q) {
  int32_t code = 0, c;
  if (q->kind == QC_SIGN) return x >= 0 ? 1 : -1;
  for (c = 0; c < (1 << q->bits) - 1; c++) {
    volatile float step = q->rounding == QC_CEIL ? (float)c : (float)c + 0.5f;
    volatile float threshold = step * q->alpha;
    if (q->rounding == QC_CEIL ? x > threshold : x >= threshold) code++;
  }
  return code;
}

static float half_value(uint16_t h) {
  int exponent = h >> 10 & 31, mantissa = h & 1023;
  float magnitude;
  if (exponent == 31) {
    magnitude = mantissa ? NAN : INFINITY;
  } else if (exponent == 0) {
    magnitude = ldexpf((float)mantissa, -24);
  } else {
    magnitude = ldexpf((float)(mantissa + 1024), exponent - 25);
  }
  return h & 0x8000 ? -magnitude : magnitude;
}

static float brain_value(uint16_t b) {
  uint32_t bits = (uint32_t)b << 16;
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

static void same_codes(const qc_quantizer *q, const float *x, size_t rows, size_t cols,
                       const uint32_t *words, size_t n_words) {
  int32_t encoding = q->kind == QC_SIGN ? QC_BIPOLAR : QC_U1 + q->bits - 1;
  int32_t *codes = (int32_t *)room(rows * cols, sizeof(int32_t));
  size_t i;
  OK(qc_unpack(encoding, rows, cols, words, n_words, codes, rows * cols));
  for (i = 0; i < rows * cols; i++) CHECK(codes[i] == code_of(x[i], q));
  free(codes);
}

static void quantizing(void) {
  size_t cols_of[] = {0, 1, 31, 33, 257};
  size_t c, i;
  int32_t kind, bits, rounding;
  for (c = 0; c < sizeof cols_of / sizeof *cols_of; c++) {
    size_t rows = 3, cols = cols_of[c], count = rows * cols;
    float *x = (float *)room(count, sizeof(float));
    uint16_t *h = (uint16_t *)room(count, sizeof(uint16_t));
    uint32_t seed = 99;
    for (i = 0; i < count; i++) h[i] = (uint16_t)(next_random(&seed) >> 8);
    if (count >= 3) {
      h[0] = 0x8000; /* -0.0 */
      h[1] = 0x7FFF; /* NaN */
      h[2] = 0xFC00; /* minus infinity as a half */
    }
    for (kind = QC_SIGN; kind <= QC_RELU; kind++) {
      for (bits = 1; bits <= (kind == QC_SIGN ? 1 : 8); bits++) {
        for (rounding = QC_CEIL; rounding <= QC_NEAREST; rounding++) {
          qc_quantizer q;
          uint32_t *words;
          size_t n_words;
          OK(qc_quantizer_init(sizeof q, &q));
          q.kind = kind;
          q.bits = bits;
          q.alpha = 0.3f;
          q.rounding = rounding;
          OK(qc_packed_words(kind == QC_SIGN ? QC_BIPOLAR : QC_U1 + bits - 1, rows, cols,
                             &n_words));
          words = (uint32_t *)room(n_words, sizeof(uint32_t));
          for (i = 0; i < count; i++) x[i] = half_value(h[i]);
          OK(qc_quantize_f16(h, rows, cols, &q, words, n_words, NULL));
          same_codes(&q, x, rows, cols, words, n_words);
          for (i = 0; i < count; i++) x[i] = brain_value(h[i]);
          OK(qc_quantize_bf16(h, rows, cols, &q, words, n_words, NULL));
          same_codes(&q, x, rows, cols, words, n_words);
          for (i = 0; i < count; i++) x[i] = (float)(int16_t)h[i] / 5000.0f;
          OK(qc_quantize_f32(x, rows, cols, &q, words, n_words, NULL));
          same_codes(&q, x, rows, cols, words, n_words);
          free(words);
        }
      }
    }
    free(x);
    free(h);
  }
}

/* The integer nearest to y, ties to even, between the ends; 0 for NaN. */
static int32_t nearest(float y, int32_t zero, int32_t low, int32_t high) {
  int32_t integer = y != y ? 0 : y > 1e6f ? 1000000 : y < -1e6f ? -1000000 : (int32_t)rintf(y);
  integer += zero;
  return integer < low ? low : integer > high ? high : integer;
}

/* Linear quantizers: fixed scales, and a scale for each row; planes and bytes. */
static void linear(void) {
  enum { ROWS = 3, COLS = 77, COUNT = ROWS * COLS };
  float x[COUNT];
  uint16_t h[COUNT];
  uint8_t bytes[COUNT];
  int32_t codes[COUNT], kind, bits, i, row, type;
  uint32_t seed = 5;
  uint32_t words[ROWS * 8 * 3];
  for (kind = QC_SYMMETRIC; kind <= QC_AFFINE_SIGNED; kind++) {
    for (bits = kind == QC_SYMMETRIC ? 2 : 1; bits <= 8; bits++) {
      int32_t is_signed = kind != QC_AFFINE;
      int32_t encoding = (is_signed ? QC_S1 : QC_U1) + bits - 1;
      int32_t high = is_signed ? (1 << (bits - 1)) - 1 : (1 << bits) - 1;
      int32_t low = kind == QC_SYMMETRIC ? -high : is_signed ? -high - 1 : 0;
      int32_t rows_kind = kind == QC_SYMMETRIC ? QC_SYMMETRIC : QC_AFFINE;
      for (type = 0; type < 3; type++) {
        size_t n_words;
        float scales[ROWS], again[ROWS];
        int32_t zeros[ROWS];
        qc_quantizer q;
        for (i = 0; i < COUNT; i++) {
          h[i] = (uint16_t)(next_random(&seed) >> 8);
          x[i] = type == 0   ? (float)(int16_t)h[i] / 5000.0f
                 : type == 1 ? half_value(h[i])
                             : brain_value(h[i]);
        }
        OK(qc_packed_words(encoding, ROWS, COLS, &n_words));
        CHECK(n_words <= sizeof words / sizeof *words);
        OK(qc_quantizer_init(sizeof q, &q));
        q.kind = kind;
        q.bits = bits;
        q.alpha = 0.03f;
        q.zero_point = kind == QC_SYMMETRIC ? 0 : low + 1;
        if (type == 0) OK(qc_quantize_f32(x, ROWS, COLS, &q, words, n_words, NULL));
        if (type == 1) OK(qc_quantize_f16(h, ROWS, COLS, &q, words, n_words, NULL));
        if (type == 2) OK(qc_quantize_bf16(h, ROWS, COLS, &q, words, n_words, NULL));
        if (type == 0) OK(qc_quantize_bytes_f32(x, ROWS, COLS, &q, bytes, COUNT, NULL));
        if (type == 1) OK(qc_quantize_bytes_f16(h, ROWS, COLS, &q, bytes, COUNT, NULL));
        if (type == 2) OK(qc_quantize_bytes_bf16(h, ROWS, COLS, &q, bytes, COUNT, NULL));
        OK(qc_unpack(encoding, ROWS, COLS, words, n_words, codes, COUNT));
        for (i = 0; i < COUNT; i++) {
          volatile float inverse = 1.0f / q.alpha;
          volatile float y = x[i] * inverse;
          CHECK(codes[i] == nearest(y, q.zero_point, low, high));
          CHECK(bytes[i] == (uint8_t)codes[i]);
        }
        {
          int32_t *z = kind == QC_SYMMETRIC ? NULL : zeros;
          if (z == NULL) memset(zeros, 0, sizeof zeros);
          if (type == 0)
            OK(qc_quantize_rows_f32(x, ROWS, COLS, rows_kind, encoding, words, n_words, scales, z, NULL));
          if (type == 1)
            OK(qc_quantize_rows_f16(h, ROWS, COLS, rows_kind, encoding, words, n_words, scales, z, NULL));
          if (type == 2)
            OK(qc_quantize_rows_bf16(h, ROWS, COLS, rows_kind, encoding, words, n_words, scales,
                                     z, NULL));
          if (type == 0)
            OK(qc_quantize_rows_bytes_f32(x, ROWS, COLS, rows_kind, encoding, bytes, COUNT, again,
                                          z, NULL));
          if (type == 1)
            OK(qc_quantize_rows_bytes_f16(h, ROWS, COLS, rows_kind, encoding, bytes, COUNT, again,
                                          z, NULL));
          if (type == 2)
            OK(qc_quantize_rows_bytes_bf16(h, ROWS, COLS, rows_kind, encoding, bytes, COUNT, again,
                                           z, NULL));
        }
        OK(qc_unpack(encoding, ROWS, COLS, words, n_words, codes, COUNT));
        for (row = 0; row < ROWS; row++) {
          float most = 0;
          volatile float inverse = 1.0f / scales[row];
          CHECK(scales[row] > 0 && scales[row] < INFINITY && scales[row] == again[row]);
          for (i = row * COLS; i < (row + 1) * COLS; i++) {
            volatile float y = x[i] * inverse;
            if (fabsf(x[i]) < INFINITY && fabsf(x[i]) > most) most = fabsf(x[i]);
            CHECK(codes[i] == nearest(y, zeros[row], low, high));
            CHECK(bytes[i] == (uint8_t)codes[i]);
          }
          if (kind == QC_SYMMETRIC && most > 1e-30f && most < 1e38f) {
            CHECK(scales[row] == most / (float)high);
          }
        }
      }
    }
  }
}

/* Rows begin .. end - 1 in both forms; nothing around the results is touched. */
static void rows_of(const qc_gemm *gemm, packed a, size_t m, size_t n, size_t begin, size_t end,
                    const int32_t *expected, const float *scale, const float *bias,
                    const qc_pool *pool) {
  size_t rows = end - begin, count = rows * n, scratch_len, i;
  int32_t *sums = (int32_t *)room(count + 2, sizeof(int32_t));
  float *floats = (float *)room(count + 2, sizeof(float));
  int32_t *scratch;
  OK(qc_gemm_scratch_len(gemm, rows, &scratch_len));
  scratch = (int32_t *)room(scratch_len, sizeof(int32_t));
  sums[0] = sums[count + 1] = -12345;
  floats[0] = floats[count + 1] = -12345.0f;
  OK(qc_gemm_run_i32(gemm, a.words, a.n_words, m, begin, end, sums + 1, count, scratch, scratch_len,
                     pool));
  OK(qc_gemm_run_f32(gemm, a.words, a.n_words, m, begin, end, floats + 1, count, scratch,
                     scratch_len, pool));
  if (a.encoding != QC_BIPOLAR) {
    /* The same from a byte a code. */
    int32_t *again = (int32_t *)room(count, sizeof(int32_t));
    uint8_t *bytes = (uint8_t *)room(a.count, 1);
    int32_t *room_for_bytes;
    OK(qc_gemm_scratch_len_bytes(gemm, rows, &scratch_len));
    for (i = 0; i < a.count; i++) bytes[i] = (uint8_t)a.values[i];
    room_for_bytes = (int32_t *)room(scratch_len, sizeof(int32_t));
    OK(qc_gemm_run_bytes_i32(gemm, bytes, a.count, m, begin, end, again, count, room_for_bytes,
                             scratch_len, pool));
    free(room_for_bytes);
    for (i = 0; i < count; i++) CHECK(again[i] == expected[begin * n + i]);
    free(again);
    free(bytes);
  }
  for (i = 0; i < count; i++) {
    int32_t sum = expected[begin * n + i];
    volatile float product = scale[i % n] * (float)sum;
    volatile float result = product + bias[i % n];
    CHECK(sums[i + 1] == sum);
    CHECK(floats[i + 1] == result);
  }
  CHECK(sums[0] == -12345 && sums[count + 1] == -12345);
  CHECK(floats[0] == -12345.0f && floats[count + 1] == -12345.0f);
  free(sums);
  free(floats);
  free(scratch);
}

static void product(const char *isa, int32_t weight, int32_t activation, size_t m, size_t n, size_t k,
                    const qc_pool *pool) {
  packed w = random_packed(weight, n, k, 5);
  packed a = random_packed(activation, m, k, 6);
  int32_t *expected = naive_product(a.values, w.values, m, n, k);
  float *scale = (float *)room(n, sizeof(float)), *bias = (float *)room(n, sizeof(float));
  qc_gemm *gemm;
  char text[200], cut[8];
  size_t i, length, again;
  for (i = 0; i < n; i++) {
    scale[i] = 0.013f * (float)(i + 1);
    bias[i] = 0.7f - 0.1f * (float)i;
  }
  gemm = new_gemm(w, weight, activation, n, k, scale, bias, isa);
  /* The plan has its own copy of everything. */
  memset(w.words, 0xFF, w.n_words * sizeof(uint32_t));
  OK(qc_gemm_describe(gemm, text, sizeof text, &length));
  CHECK(length == strlen(text) && strncmp(text, isa, strlen(isa)) == 0);
  OK(qc_gemm_describe(gemm, NULL, 0, &again));
  CHECK(again == length);
  OK(qc_gemm_describe(gemm, cut, sizeof cut, &again));
  CHECK(again == length && strlen(cut) == 7 && strncmp(cut, text, 7) == 0);
  rows_of(gemm, a, m, n, 0, m, expected, scale, bias, pool);
  rows_of(gemm, a, m, n, m / 3, m - 1, expected, scale, bias, pool);
  rows_of(gemm, a, m, n, m / 2, m / 2, expected, scale, bias, pool);
  qc_gemm_free(gemm);
  free(expected);
  free(scale);
  free(bias);
  free_packed(w);
  free_packed(a);
}

/* A plan with scales of a granularity and type, and with zero points, of the plan or of the rows. */
static void scaled(const char *isa, int32_t weight, int32_t activation, size_t k, int32_t granularity,
                   int32_t type, const qc_pool *pool) {
  size_t m = 5, n = 19, group = granularity == QC_PER_GROUP ? 64 : k, i, row, channel, g, c;
  size_t groups = group == 0 ? 1 : (k + group - 1) / group, n_scales, scratch_len, max_k, form;
  packed w = random_packed(weight, n, k, 7), a = random_packed(activation, m, k, 8);
  uint8_t *bytes = (uint8_t *)room(a.count, 1);
  uint16_t *halves;
  float *scales, *out = (float *)room(m * n, sizeof(float)), bias[19], row_scale[5];
  int32_t *scratch, zeros[5], methods, planned;
  if (granularity == QC_PER_GROUP && k == 0) groups = 0;
  n_scales = granularity == QC_PER_TENSOR ? 1 : granularity == QC_PER_CHANNEL ? n : n * groups;
  scales = (float *)room(n_scales, sizeof(float));
  halves = (uint16_t *)room(n_scales, sizeof(uint16_t));
  for (i = 0; i < a.count; i++) bytes[i] = (uint8_t)a.values[i];
  for (i = 0; i < n_scales; i++) {
    /* Bits that are small positive numbers in both types of 16 bits. */
    halves[i] = (uint16_t)((type == QC_F16 ? 0x2C00 : 0x3D00) + 37 * i % 512);
    scales[i] = type == QC_F16 ? half_value(halves[i])
                : type == QC_BF16 ? brain_value(halves[i]) : 0.001f * (float)(i + 1);
  }
  for (i = 0; i < n; i++) bias[i] = 0.3f * (float)i - 2.0f;
  for (i = 0; i < m; i++) row_scale[i] = 0.7f + 0.1f * (float)i;
  OK(qc_gemm_supports(isa, weight, activation, granularity, 64, &methods));
  CHECK(granularity == QC_PER_GROUP ? methods == QC_METHOD_BYTES : (methods & QC_METHOD_BITS) != 0);
  for (planned = 0; planned < 2; planned++) {
    qc_gemm_options o;
    qc_gemm *gemm;
    OK(qc_gemm_options_init(sizeof o, &o));
    o.weight_encoding = weight;
    o.activation_encoding = activation;
    o.n = n;
    o.k = k;
    o.weights = w.words;
    o.weight_words = w.n_words;
    o.isa = isa;
    o.scales = type == QC_F32 ? (const void *)scales : (const void *)halves;
    o.n_scales = n_scales;
    o.scale_type = type;
    o.scale_granularity = granularity;
    o.group = 64;
    o.bias = bias;
    for (i = 0; i < m; i++) zeros[i] = planned ? 1 : (int32_t)(i % 2);
    o.zero_point = planned;
    OK(qc_gemm_max_k_affine(weight, activation, planned, &max_k));
    CHECK(max_k >= k);
    OK(qc_gemm_new(&o, &gemm));
    OK(qc_gemm_scratch_len(gemm, m, &scratch_len));
    scratch = (int32_t *)room(scratch_len, sizeof(int32_t));
    for (form = 0; form < 3; form++) {
      /* From planes; from bytes; and without anything of the rows, which needs the plan's zero point. */
      const int32_t *of_rows = planned ? NULL : zeros;
      if ((form == 1 && activation == QC_BIPOLAR) || (form == 2 && !planned)) continue;
      memset(out, 0, m * n * sizeof(float));
      if (form == 0) {
        OK(qc_gemm_run_rows_f32(gemm, a.words, a.n_words, row_scale, of_rows, m, 0, m, out, m * n,
                                scratch, scratch_len, pool));
      } else if (form == 1) {
        int32_t *more;
        size_t len;
        OK(qc_gemm_scratch_len_bytes(gemm, m, &len));
        more = (int32_t *)room(len, sizeof(int32_t));
        OK(qc_gemm_run_rows_bytes_f32(gemm, bytes, a.count, row_scale, of_rows, m, 0, m, out, m * n,
                                      more, len, pool));
        free(more);
      } else {
        OK(qc_gemm_run_f32(gemm, a.words, a.n_words, m, 0, m, out, m * n, scratch, scratch_len,
                           pool));
      }
      for (row = 0; row < m; row++) {
        for (channel = 0; channel < n; channel++) {
          volatile float t = 0, product;
          for (g = 0; g < groups; g++) {
            size_t end = (g + 1) * group < k ? (g + 1) * group : k;
            size_t at = granularity == QC_PER_TENSOR ? 0 : channel * groups + g;
            int32_t sum = 0;
            for (c = g * group; c < end; c++) {
              sum += w.values[channel * k + c] * (a.values[row * k + c] - zeros[row]);
            }
            product = (float)sum * scales[at];
            t = t + product;
          }
          if (form != 2) t = t * row_scale[row];
          t = t + bias[channel];
          CHECK(out[row * n + channel] == t);
        }
      }
    }
    free(scratch);
    qc_gemm_free(gemm);
  }
  free(bytes);
  free(halves);
  free(scales);
  free(out);
  free_packed(w);
  free_packed(a);
}

/* So many rows that a pool splits them: the same codes and scales as on one thread. */
static void quantizing_on(const qc_pool *pool) {
  enum { ROWS = 400, COLS = 1200, COUNT = ROWS * COLS, WORDS = ROWS * 4 * 38 };
  float *x = (float *)room(COUNT, sizeof(float));
  uint32_t *words = (uint32_t *)room(2 * WORDS, sizeof(uint32_t));
  uint8_t *bytes = (uint8_t *)room(2 * COUNT, 1);
  float scales[2][ROWS];
  int32_t zeros[2][ROWS], i;
  uint32_t seed = 77;
  qc_quantizer q;
  for (i = 0; i < COUNT; i++) x[i] = (float)(int16_t)(next_random(&seed) >> 8) / 5000.0f;
  OK(qc_quantizer_init(sizeof q, &q));
  q.kind = QC_RELU;
  q.bits = 4;
  q.alpha = 0.3f;
  for (i = 0; i < 2; i++) {
    const qc_pool *on = i == 0 ? NULL : pool;
    OK(qc_quantize_f32(x, ROWS, COLS, &q, words + i * WORDS, WORDS, on));
    OK(qc_quantize_bytes_f32(x, ROWS, COLS, &q, bytes + i * COUNT, COUNT, on));
  }
  CHECK(memcmp(words, words + WORDS, WORDS * sizeof *words) == 0);
  CHECK(memcmp(bytes, bytes + COUNT, COUNT) == 0);
  for (i = 0; i < 2; i++) {
    const qc_pool *on = i == 0 ? NULL : pool;
    OK(qc_quantize_rows_f32(x, ROWS, COLS, QC_AFFINE, QC_U4, words + i * WORDS, WORDS, scales[i],
                            zeros[i], on));
    OK(qc_quantize_rows_bytes_f32(x, ROWS, COLS, QC_AFFINE, QC_U4, bytes + i * COUNT, COUNT,
                                  scales[i], zeros[i], on));
  }
  CHECK(memcmp(words, words + WORDS, WORDS * sizeof *words) == 0);
  CHECK(memcmp(bytes, bytes + COUNT, COUNT) == 0);
  CHECK(memcmp(scales[0], scales[1], sizeof scales[0]) == 0);
  CHECK(memcmp(zeros[0], zeros[1], sizeof zeros[0]) == 0);
  free(x);
  free(words);
  free(bytes);
}

int main(int argc, char **argv) {
  int quick = argc > 1 && strcmp(argv[1], "quick") == 0;
  int32_t activations[] = {QC_BIPOLAR, QC_U1, QC_U2, QC_U4, QC_U8, QC_S4, QC_S8};
  int32_t weights[] = {QC_BIPOLAR, QC_TERNARY, QC_U2, QC_S4, QC_S8};
  size_t ks[] = {0, 1, 31, 33, 1000};
  size_t isas, i, e, k, w, threads, chosen = 0;
  qc_pool *pool = NULL;

  packing();
  quantizing();
  linear();
  OK(qc_pool_new(3, &pool));
  OK(qc_pool_threads(pool, &threads));
  CHECK(threads == 3);
  quantizing_on(pool);
  OK(qc_isa_count(&isas));
  printf("gemm:");
  for (i = 0; i < isas; i++) {
    qc_isa_info info;
    info.struct_size = sizeof info;
    OK(qc_isa_get(i, &info));
    CHECK(info.struct_size == sizeof info && (info.compiled || !info.available));
    chosen += info.chosen != 0;
    if (!info.available) continue;
    printf(" %s", info.name);
    for (e = 0; e < sizeof activations / sizeof *activations; e++) {
      for (k = 0; k < sizeof ks / sizeof *ks; k++) {
        for (w = 0; w < sizeof weights / sizeof *weights; w++) {
          product(info.name, weights[w], activations[e], 19, 37, ks[k], NULL);
          product(info.name, weights[w], activations[e], 3, 1, ks[k], pool);
          scaled(info.name, weights[w], activations[e], ks[k], (int32_t)((e + w) % 3),
                 (int32_t)(k % 3), pool);
          scaled(info.name, weights[w], activations[e], ks[k], QC_PER_GROUP, (int32_t)(w % 3), NULL);
        }
      }
    }
    /* Enough work that the pool splits it. */
    if (!quick) {
      product(info.name, QC_BIPOLAR, QC_U4, 123, 200, 1000, pool);
      product(info.name, QC_S8, QC_S8, 123, 200, 1000, pool);
    }
  }
  CHECK(chosen == 1);
  qc_pool_free(pool);
  printf("\n");
  return 0;
}
