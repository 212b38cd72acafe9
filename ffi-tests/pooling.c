/* Pools over every kind of element, on every ISA that is here, against loops over the windows: codes in planes and in
 * bytes, floats of 32 and of 16 bits, NaN among them.
 *
 * Prints the ISAs that it ran on.
 */

#include "refused.h"

enum { IMAGES = 3, H = 7, W = 6, C = 37, KH = 3, KW = 2, OH = 3, OW = 5 };
enum { LEN = IMAGES * H * W * C, OUT = IMAGES * OH * OW * C };

/* Above and to the right there is a pad. */
static const size_t STRIDE[2] = {2, 1}, DILATION[2] = {1, 2}, PADDING[4] = {1, 0, 0, 1};
static const float SCALE = 0.37f;

/* The elements as floats, which hold all of them exactly, and what the loops make of them. */
typedef struct pooled {
  float x[LEN], greatest[OUT], means[OUT];
} pooled;

/* Max: a NaN is less than every float. Mean: a sum in order, each step rounded, times scale / count. */
static void by_loops(pooled *p) {
  size_t image, y, x, c, ky, kx, i = 0;
  for (image = 0; image < IMAGES; image++)
    for (y = 0; y < OH; y++)
      for (x = 0; x < OW; x++)
        for (c = 0; c < C; c++, i++) {
          volatile float sum = 0, factor;
          float best = 0;
          size_t count = 0;
          for (ky = 0; ky < KH; ky++)
            for (kx = 0; kx < KW; kx++) {
              size_t iy = y * STRIDE[0] + ky * DILATION[0] - PADDING[0];
              size_t ix = x * STRIDE[1] + kx * DILATION[1] - PADDING[1];
              float v;
              if (iy >= H || ix >= W) continue;
              v = p->x[((image * H + iy) * W + ix) * C + c];
              if (count == 0 || best != best || v > best) best = v;
              sum = sum + v;
              count++;
            }
          CHECK(count > 0);
          factor = SCALE / (float)count;
          p->greatest[i] = best;
          p->means[i] = sum * factor;
        }
}

static int same(float a, float b) { return a == b || (a != a && b != b); }

static qc_window new_window(int32_t encoding, const char *isa) {
  qc_window window;
  OK(qc_window_init(sizeof window, &window));
  window.encoding = encoding;
  window.channels = C;
  window.height = H;
  window.width = W;
  window.kernel[0] = KH;
  window.kernel[1] = KW;
  memcpy(window.stride, STRIDE, sizeof STRIDE);
  memcpy(window.dilation, DILATION, sizeof DILATION);
  memcpy(window.padding, PADDING, sizeof PADDING);
  window.isa = isa;
  return window;
}

/* Both means of `len` elements of a kind, and their codes of two bits, ceil(mean / 0.25) in 0 .. 3. */
static void means(const qc_window *window, int32_t kind, const void *input, size_t len, const pooled *right,
                  const qc_pool *pool) {
  qc_average_pool *plan = NULL;
  qc_quantizer levels;
  float *out = (float *)room(OUT, sizeof(float));
  int32_t *codes = (int32_t *)room(OUT, sizeof(int32_t));
  uint32_t *words;
  size_t n_words, i;
  OK(qc_average_pool_new(window, &plan));
  memset(out, 0xA5, OUT * sizeof(float));
  OK(qc_average_pool_run_kind_f32(plan, kind, input, len, IMAGES, SCALE, out, OUT, pool));
  for (i = 0; i < OUT; i++) CHECK(same(out[i], right->means[i]));

  OK(qc_quantizer_init(sizeof levels, &levels));
  levels.kind = QC_RELU;
  levels.bits = 2;
  levels.alpha = 0.25f;
  OK(qc_packed_words(QC_U2, IMAGES * OH * OW, C, &n_words));
  words = (uint32_t *)room(n_words, sizeof(uint32_t));
  memset(words, 0xA5, n_words * sizeof(uint32_t));
  OK(qc_average_pool_run_kind_codes(plan, kind, input, len, IMAGES, SCALE, &levels, words, n_words, pool));
  OK(qc_unpack(QC_U2, IMAGES * OH * OW, C, words, n_words, codes, OUT));
  for (i = 0; i < OUT; i++) {
    int32_t code = 0;
    while (code < 3 && right->means[i] > 0.25f * (float)code) code++;
    CHECK(codes[i] == code);
  }

  BAD(qc_average_pool_run_kind_f32(plan, kind, input, len - 1, IMAGES, SCALE, out, OUT, pool), "len is");
  BAD(qc_average_pool_run_kind_f32(plan, kind, input, len, IMAGES, SCALE, out, OUT - 1, pool), "out is");
  BAD(qc_average_pool_run_kind_f32(plan, QC_KIND_I32, input, LEN, IMAGES, SCALE, out, OUT, pool), "kind is 3");
  IS_NULL(qc_average_pool_run_kind_f32(plan, kind, NULL, len, IMAGES, SCALE, out, OUT, pool), "input");
  free(out);
  free(codes);
  free(words);
  qc_average_pool_free(plan);
}

/* The greatest of `len` elements of a kind, into `out_len` of `size` bytes, which the caller frees. */
static void *greatest(const qc_window *window, int32_t kind, const void *input, size_t len, size_t out_len,
                      size_t size, const qc_pool *pool) {
  qc_max_pool *plan = NULL;
  void *out = room(out_len, size);
  OK(qc_max_pool_new(window, &plan));
  memset(out, 0xA5, out_len * size);
  OK(qc_max_pool_run_kind(plan, kind, input, len, IMAGES, out, out_len, pool));
  BAD(qc_max_pool_run_kind(plan, kind, input, len - 1, IMAGES, out, out_len, pool), "len is");
  BAD(qc_max_pool_run_kind(plan, kind, input, len, IMAGES, out, out_len - 1, pool), "out");
  BAD(qc_max_pool_run_kind(plan, QC_KIND_I32, input, LEN, IMAGES, out, out_len, pool), "kind is 3");
  IS_NULL(qc_max_pool_run_kind(plan, kind, input, len, IMAGES, NULL, out_len, pool), "out");
  qc_max_pool_free(plan);
  return out;
}

static void codes(int32_t encoding, const char *isa, const qc_pool *pool) {
  qc_window window = new_window(encoding, isa);
  packed x = random_packed(encoding, IMAGES * H * W, C, 7);
  pooled *p = (pooled *)room(1, sizeof *p);
  uint8_t *bytes = (uint8_t *)room(LEN, 1), *out;
  int32_t *back = (int32_t *)room(OUT, sizeof(int32_t));
  uint32_t *words;
  size_t n_words, i;
  for (i = 0; i < LEN; i++) p->x[i] = (float)x.values[i], bytes[i] = (uint8_t)x.values[i];
  by_loops(p);

  OK(qc_packed_words(encoding, IMAGES * OH * OW, C, &n_words));
  words = (uint32_t *)greatest(&window, QC_KIND_PLANES, x.words, x.n_words, n_words, sizeof *words, pool);
  OK(qc_unpack(encoding, IMAGES * OH * OW, C, words, n_words, back, OUT));
  for (i = 0; i < OUT; i++) CHECK((float)back[i] == p->greatest[i]);
  means(&window, QC_KIND_PLANES, x.words, x.n_words, p, pool);
  if (encoding != QC_BIPOLAR) {
    int is_signed = encoding >= QC_S1;
    out = (uint8_t *)greatest(&window, QC_KIND_BYTES, bytes, LEN, OUT, 1, pool);
    for (i = 0; i < OUT; i++) CHECK((is_signed ? (float)(int8_t)out[i] : (float)out[i]) == p->greatest[i]);
    means(&window, QC_KIND_BYTES, bytes, LEN, p, pool);
    free(out);
  }
  free(words);
  free(back);
  free(bytes);
  free(p);
  free_packed(x);
}

static uint32_t bits_of(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}

/* The 16 bits of a float that they hold exactly, NaN, 0 or a normal number, and back. */
static uint16_t narrow(int32_t kind, float x) {
  uint32_t bits = bits_of(x);
  if (kind == QC_KIND_BF16) return (uint16_t)(bits >> 16);
  if (x != x) return 0x7E00;
  if (x == 0) return 0;
  return (uint16_t)((bits >> 16 & 0x8000) | (((bits >> 23 & 255) - 112) << 10) | (bits >> 13 & 1023));
}

static float widen(int32_t kind, uint16_t half) {
  uint32_t bits = (uint32_t)half << 16;
  float x;
  if (kind == QC_KIND_F16) {
    uint32_t exponent = half >> 10 & 31;
    bits = (uint32_t)(half & 0x8000) << 16 | (uint32_t)(half & 1023) << 13;
    if (exponent > 0) bits |= (exponent == 31 ? 255 : exponent + 112) << 23;
  }
  memcpy(&x, &bits, sizeof x);
  return x;
}

static void floats(const char *isa, const qc_pool *pool) {
  /* The encoding of a window does not count for floats. */
  qc_window window = new_window(QC_U4, isa);
  pooled *p = (pooled *)room(1, sizeof *p);
  uint16_t *halves = (uint16_t *)room(LEN, sizeof(uint16_t)), *short_out;
  uint32_t seed = 9, nan_bits = 0x7FC00000;
  int32_t kind;
  float *out, nan;
  size_t i;
  memcpy(&nan, &nan_bits, sizeof nan);

  for (i = 0; i < LEN; i++) p->x[i] = ((float)(next_random(&seed) >> 8) - 8388608.0f) / 4000000.0f;
  for (i = 0; i < LEN; i += 101) p->x[i] = nan;
  by_loops(p);
  out = (float *)greatest(&window, QC_KIND_F32, p->x, LEN, OUT, sizeof *out, pool);
  for (i = 0; i < OUT; i++) CHECK(same(out[i], p->greatest[i]));
  means(&window, QC_KIND_F32, p->x, LEN, p, pool);
  free(out);

  /* Numbers of seven bits, which both kinds hold. */
  for (kind = QC_KIND_F16; kind <= QC_KIND_BF16; kind++) {
    for (i = 0; i < LEN; i++) {
      p->x[i] = i % 101 == 0 ? nan : ((float)(next_random(&seed) >> 25) - 63.0f) / 16.0f;
      halves[i] = narrow(kind, p->x[i]);
      CHECK(same(widen(kind, halves[i]), p->x[i]));
    }
    by_loops(p);
    short_out = (uint16_t *)greatest(&window, kind, halves, LEN, OUT, sizeof *short_out, pool);
    for (i = 0; i < OUT; i++) CHECK(same(widen(kind, short_out[i]), p->greatest[i]));
    means(&window, kind, halves, LEN, p, pool);
    free(short_out);
  }
  free(halves);
  free(p);
}

/* Bytes that are no codes of the window's encoding. */
static void foreign_bytes(void) {
  qc_window window = new_window(QC_U2, NULL);
  qc_max_pool *plan = NULL;
  uint8_t *bytes = (uint8_t *)room(LEN, 1), *out = (uint8_t *)room(OUT, 1);
  memset(bytes, 3, LEN);
  bytes[5] = 4;
  OK(qc_max_pool_new(&window, &plan));
  BAD(qc_max_pool_run_kind(plan, QC_KIND_BYTES, bytes, LEN, IMAGES, out, OUT, NULL), "input is 4 at 5");
  qc_max_pool_free(plan);
  free(bytes);
  free(out);
}

int main(void) {
  static const int32_t encodings[] = {QC_BIPOLAR, QC_U1, QC_U3, QC_U8, QC_S1, QC_S4, QC_S8};
  size_t isas, i, j;
  qc_pool *pool = NULL;
  OK(qc_pool_new(2, &pool));
  OK(qc_isa_count(&isas));
  foreign_bytes();
  printf("pooling:");
  for (i = 0; i < isas; i++) {
    qc_isa_info info;
    info.struct_size = sizeof info;
    OK(qc_isa_get(i, &info));
    if (!info.available) continue;
    printf(" %s", info.name);
    for (j = 0; j < sizeof encodings / sizeof *encodings; j++) {
      codes(encodings[j], info.name, NULL);
      codes(encodings[j], info.name, pool);
    }
    floats(info.name, NULL);
    floats(info.name, pool);
  }
  qc_pool_free(pool);
  printf("\n");
  return 0;
}
