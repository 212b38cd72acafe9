/* Every way to be refused: the status, the argument's name in the text, results left alone. */

#include "refused.h"

#include <math.h>

static void texts(void) {
  size_t length = UNTOUCHED;
  char buf[4] = "abc";
  CHECK(strlen(qc_last_error()) == 0);
  OK(qc_last_error_copy(buf, sizeof buf, &length));
  CHECK(length == 0 && buf[0] == 0);
  IS_NULL(qc_last_error_copy(buf, sizeof buf, NULL), "length");
  IS_NULL(qc_last_error_copy(NULL, 4, &length), "buf");
  CHECK(length == 0);
  OK(qc_last_error_copy(buf, sizeof buf, &length));
  CHECK(strcmp(buf, "buf") == 0 && length == strlen("buf is NULL"));
  CHECK(strcmp(qc_version(), QCORE_VERSION) == 0);
  CHECK(strcmp(qc_status_name(QC_OK), "QC_OK") == 0);
  CHECK(strcmp(qc_status_name(QC_ERROR_POISONED), "QC_ERROR_POISONED") == 0);
  CHECK(strcmp(qc_status_name(12345), "unknown status") == 0);
}

static void isas_and_pools(void) {
  size_t count = UNTOUCHED;
  qc_isa_info info;
  qc_pool *pool = (qc_pool *)&info;
  memset(&info, 0, sizeof info);
  IS_NULL(qc_isa_count(NULL), "count");
  IS_NULL(qc_isa_get(0, NULL), "info");
  BAD(qc_isa_get(0, &info), "struct_size is 0");
  info.struct_size = sizeof info - 1;
  BAD(qc_isa_get(0, &info), "struct_size");
  info.struct_size = sizeof info;
  BAD(qc_isa_get(99, &info), "index is 99");
  CHECK(info.name == NULL);
  IS_NULL(qc_pool_new(1, NULL), "pool");
  BAD(qc_pool_new(1025, &pool), "threads is 1025");
  CHECK(pool == (qc_pool *)&info);
  IS_NULL(qc_pool_threads(NULL, &count), "pool");
  OK(qc_pool_new(1, &pool));
  IS_NULL(qc_pool_threads(pool, NULL), "threads");
  qc_pool_free(pool);
  CHECK(count == UNTOUCHED);
}

static void packing(void) {
  int32_t values[4] = {1, -1, 1, 0}, back[4] = {7, 7, 7, 7};
  uint32_t words[4] = {9, 9, 9, 9};
  size_t n = UNTOUCHED;
  int32_t unknown[] = {0, -1, 3, 10, 19, 20, 29, INT32_MAX, INT32_MIN};
  size_t i;
  for (i = 0; i < sizeof unknown / sizeof *unknown; i++) {
    BAD(qc_packed_words(unknown[i], 1, 1, &n), "encoding is");
    BAD(qc_pack(unknown[i], 1, 1, values, words, 1), "encoding is");
    BAD(qc_unpack(unknown[i], 1, 1, words, 1, back, 1), "encoding is");
  }
  IS_NULL(qc_packed_words(QC_BIPOLAR, 1, 1, NULL), "words");
  BAD(qc_packed_words(QC_BIPOLAR, SIZE_MAX, SIZE_MAX, &n), "rows x cols");
  CHECK(n == UNTOUCHED);
  IS_NULL(qc_pack(QC_BIPOLAR, 1, 3, NULL, words, 1), "values");
  IS_NULL(qc_pack(QC_BIPOLAR, 1, 3, values, NULL, 1), "words");
  BAD(qc_pack(QC_BIPOLAR, 1, 3, values, words, 2), "n_words is 2");
  BAD(qc_pack(QC_BIPOLAR, 1, 3, values, words, 0), "n_words is 0");
  BAD(qc_pack(QC_BIPOLAR, 1, 4, values, words, 1), "values is 0 at [0, 3]");
  BAD(qc_pack(QC_BIPOLAR, SIZE_MAX, 2, values, words, 1), "rows x cols");
  BAD(qc_pack(QC_BIPOLAR, 1, 3, values, (uint32_t *)((char *)words + 1), 1), "words is at address");
  BAD(qc_pack(QC_BIPOLAR, 1, 3, values, words, SIZE_MAX / 4), "words is");
  CHECK(words[0] == 9 && words[1] == 9);
  OK(qc_pack(QC_BIPOLAR, 0, 3, NULL, NULL, 0));
  IS_NULL(qc_unpack(QC_BIPOLAR, 1, 3, NULL, 1, back, 3), "words");
  IS_NULL(qc_unpack(QC_BIPOLAR, 1, 3, words, 1, NULL, 3), "values");
  BAD(qc_unpack(QC_BIPOLAR, 1, 3, words, 2, back, 3), "n_words is 2");
  BAD(qc_unpack(QC_BIPOLAR, 1, 3, words, 1, back, 4), "n_values is 4");
  BAD(qc_unpack(QC_BIPOLAR, 1, 3, words, 1, back, 3), "words is with bits set behind column 3");
  words[0] = 1;
  words[1] = 2;
  BAD(qc_unpack(QC_TERNARY, 1, 3, words, 2, back, 3), "ternary");
  CHECK(back[0] == 7 && back[3] == 7);
}

static void quantizers(void) {
  float x[3] = {1, 2, 3};
  uint16_t h[3] = {0, 0, 0};
  uint32_t words[8] = {9, 9, 9, 9, 9, 9, 9, 9};
  float alphas[] = {0.0f, -1.0f, 1e31f, 1e-31f, 0, 0};
  int32_t bits[] = {0, 9, -1, INT32_MIN};
  size_t i;
  qc_quantizer q, good;
  struct {
    qc_quantizer known;
    size_t more;
  } newer;
  alphas[4] = NAN;
  alphas[5] = INFINITY;
  IS_NULL(qc_quantizer_init(sizeof q, NULL), "quantizer");
  memset(&q, 0x55, sizeof q);
  BAD(qc_quantizer_init(sizeof q - 1, &q), "struct_size");
  CHECK(q.kind == 0x55555555);
  OK(qc_quantizer_init(sizeof q, &q));
  CHECK(q.struct_size == sizeof q && q.kind == QC_SIGN && q.bits == 1 && q.alpha == 1.0f);
  q.kind = QC_RELU;
  q.bits = 2;
  good = q;
  IS_NULL(qc_quantize_f32(NULL, 1, 3, &good, words, 2, NULL), "x");
  IS_NULL(qc_quantize_f16(NULL, 1, 3, &good, words, 2, NULL), "x");
  IS_NULL(qc_quantize_bf16(NULL, 1, 3, &good, words, 2, NULL), "x");
  IS_NULL(qc_quantize_f32(x, 1, 3, NULL, words, 2, NULL), "quantizer");
  IS_NULL(qc_quantize_f16(h, 1, 3, NULL, words, 2, NULL), "quantizer");
  IS_NULL(qc_quantize_bf16(h, 1, 3, NULL, words, 2, NULL), "quantizer");
  IS_NULL(qc_quantize_f32(x, 1, 3, &good, NULL, 2, NULL), "words");
  IS_NULL(qc_quantize_f16(h, 1, 3, &good, NULL, 2, NULL), "words");
  IS_NULL(qc_quantize_bf16(h, 1, 3, &good, NULL, 2, NULL), "words");
  BAD(qc_quantize_f32(x, 1, 3, &good, words, 3, NULL), "n_words is 3");
  BAD(qc_quantize_f32(x, SIZE_MAX, SIZE_MAX, &good, words, 2, NULL), "rows x cols");
  BAD(qc_quantize_f32((const float *)((const char *)x + 2), 1, 2, &good, words, 2, NULL), "x is at");
  for (i = 0; i < sizeof alphas / sizeof *alphas; i++) {
    q = good;
    q.alpha = alphas[i];
    BAD(qc_quantize_f32(x, 1, 3, &q, words, 2, NULL), "alpha is");
  }
  for (i = 0; i < sizeof bits / sizeof *bits; i++) {
    q = good;
    q.bits = bits[i];
    BAD(qc_quantize_f16(h, 1, 3, &q, words, 2, NULL), "bits is");
  }
  q = good;
  q.kind = 6;
  BAD(qc_quantize_f32(x, 1, 3, &q, words, 2, NULL), "kind is 6");
  q.kind = QC_SYMMETRIC;
  q.bits = 1;
  BAD(qc_quantize_f32(x, 1, 3, &q, words, 1, NULL), "bits is 1");
  q.bits = 2;
  q.alpha = 0;
  BAD(qc_quantize_f32(x, 1, 3, &q, words, 2, NULL), "scale is 0");
  q = good;
  q.kind = QC_AFFINE;
  q.zero_point = 4;
  BAD(qc_quantize_f32(x, 1, 3, &q, words, 2, NULL), "zero is 4");
  q = good;
  q.reserved = 1;
  BAD(qc_quantize_f32(x, 1, 3, &q, words, 2, NULL), "reserved is 1");
  {
    uint8_t bytes[3] = {9, 9, 9};
    float scales[1] = {9};
    int32_t zeros[1] = {9};
    q = good;
    IS_NULL(qc_quantize_bytes_f32(NULL, 1, 3, &q, bytes, 3, NULL), "x");
    IS_NULL(qc_quantize_bytes_f16(h, 1, 3, NULL, bytes, 3, NULL), "quantizer");
    IS_NULL(qc_quantize_bytes_bf16(h, 1, 3, &q, NULL, 3, NULL), "bytes");
    BAD(qc_quantize_bytes_f32(x, 1, 3, &q, bytes, 2, NULL), "n_bytes is 2");
    q.kind = QC_SIGN;
    BAD(qc_quantize_bytes_f32(x, 1, 3, &q, bytes, 3, NULL), "quantizer is bipolar");
    IS_NULL(qc_quantize_rows_f32(NULL, 1, 3, QC_SYMMETRIC, QC_S8, words, 8, scales, zeros, NULL), "x");
    IS_NULL(qc_quantize_rows_f32(x, 1, 3, QC_SYMMETRIC, QC_S8, NULL, 8, scales, zeros, NULL), "words");
    IS_NULL(qc_quantize_rows_f32(x, 1, 3, QC_SYMMETRIC, QC_S8, words, 8, NULL, zeros, NULL), "scales");
    IS_NULL(qc_quantize_rows_f32(x, 1, 3, QC_AFFINE, QC_S8, words, 8, scales, NULL, NULL),
            "zero_points");
    BAD(qc_quantize_rows_f32(x, 1, 3, QC_SYMMETRIC, QC_S8, words, 7, scales, zeros, NULL),
        "n_words is 7");
    BAD(qc_quantize_rows_f16(h, 1, 3, QC_SYMMETRIC, QC_U8, words, 8, scales, zeros, NULL),
        "encoding is u8");
    BAD(qc_quantize_rows_bf16(h, 1, 3, QC_AFFINE, QC_TERNARY, words, 2, scales, zeros, NULL),
        "encoding is ternary");
    BAD(qc_quantize_rows_f32(x, 1, 3, QC_RELU, QC_U8, words, 8, scales, zeros, NULL), "kind is 2");
    IS_NULL(qc_quantize_rows_bytes_f32(x, 1, 3, QC_AFFINE, QC_U8, NULL, 3, scales, zeros, NULL),
            "bytes");
    BAD(qc_quantize_rows_bytes_f16(h, 1, 3, QC_AFFINE, QC_U8, bytes, 4, scales, zeros, NULL),
        "n_bytes is 4");
    BAD(qc_quantize_rows_bytes_bf16(h, 1, 3, QC_AFFINE, 99, bytes, 3, scales, zeros, NULL),
        "encoding is 99");
    CHECK(bytes[0] == 9 && bytes[2] == 9 && scales[0] == 9 && zeros[0] == 9);
  }
  q = good;
  q.rounding = 0;
  BAD(qc_quantize_f32(x, 1, 3, &q, words, 2, NULL), "rounding is 0");
  q = good;
  q.struct_size = 8;
  BAD(qc_quantize_f32(x, 1, 3, &q, words, 2, NULL), "struct_size is 8");
  /* A newer header's struct is fine as long as what is new in it is not used. */
  OK(qc_quantizer_init(sizeof newer, &newer.known));
  CHECK(newer.known.struct_size == sizeof newer && newer.more == 0);
  newer.more = 1;
  BAD(qc_quantize_f32(x, 1, 3, &newer.known, words, 1, NULL), "quantizer is");
  CHECK(words[0] == 9 && words[7] == 9);
  newer.more = 0;
  OK(qc_quantize_f32(x, 1, 3, &newer.known, words, 1, NULL));
  CHECK(words[0] == 7);
}

static void gemms(void) {
  packed w = random_packed(QC_BIPOLAR, 2, 40, 1), a = random_packed(QC_U2, 3, 40, 2);
  float scale[2] = {1, 2}, bias[2] = {0, 0}, floats[6] = {7, 7, 7, 7, 7, 7};
  int32_t out[6] = {7, 7, 7, 7, 7, 7}, sums[6], scratch[3];
  uint8_t bytes[120] = {0};
  qc_gemm_options good, o;
  qc_gemm *none = (qc_gemm *)out, *gemm, *exact;
  size_t n = UNTOUCHED, max_k;
  char buf[8];

  IS_NULL(qc_gemm_options_init(sizeof good, NULL), "options");
  BAD(qc_gemm_options_init(5000, &good), "struct_size is 5000");
  OK(qc_gemm_options_init(sizeof good, &good));
  good.activation_encoding = QC_U2;
  good.n = 2;
  good.k = 40;
  good.weights = w.words;
  good.weight_words = w.n_words;
  good.scale = scale;
  good.bias = bias;
  IS_NULL(qc_gemm_new(NULL, &none), "options");
  IS_NULL(qc_gemm_new(&good, NULL), "gemm");
  o = good, o.struct_size = 1;
  BAD(qc_gemm_new(&o, &none), "struct_size is 1");
  o = good, o.weights = NULL;
  IS_NULL(qc_gemm_new(&o, &none), "weights");
  o = good, o.scale = NULL;
  IS_NULL(qc_gemm_new(&o, &none), "scale");
  o = good, o.bias = NULL;
  IS_NULL(qc_gemm_new(&o, &none), "bias");
  o = good, o.weight_words = 3;
  BAD(qc_gemm_new(&o, &none), "weight_words is 3");
  o = good, o.n = SIZE_MAX;
  BAD(qc_gemm_new(&o, &none), "n x k");
  o = good, o.weight_encoding = 77;
  BAD(qc_gemm_new(&o, &none), "weight_encoding is 77");
  o = good, o.activation_encoding = 0;
  BAD(qc_gemm_new(&o, &none), "activation_encoding is 0");
  o = good, o.activation_encoding = QC_TERNARY;
  BAD(qc_gemm_new(&o, &none), "activation is ternary");
  o = good, o.isa = "sse9";
  REFUSED(qc_gemm_new(&o, &none), QC_ERROR_ISA, "the ISA 'sse9'");
  o = good, o.zero_point = 4;
  BAD(qc_gemm_new(&o, &none), "zero_point is 4; expected 0 or an integer of u2");
  o = good, o.reserved = 1;
  BAD(qc_gemm_new(&o, &none), "reserved is 1");
  o = good, o.scales = scale, o.n_scales = 1;
  BAD(qc_gemm_new(&o, &none), "scale is not NULL");
  o.scale = NULL, o.n_scales = 2;
  BAD(qc_gemm_new(&o, &none), "scales is 2 elements long; expected 1");
  o.scale_type = 3;
  BAD(qc_gemm_new(&o, &none), "scale_type is 3");
  o.scale_type = QC_F32, o.scale_granularity = 3;
  BAD(qc_gemm_new(&o, &none), "scale_granularity is 3");
  o.scale_granularity = QC_PER_GROUP;
  BAD(qc_gemm_new(&o, &none), "group is 0; expected a multiple of 32");
  o.group = 32;
  BAD(qc_gemm_new(&o, &none), "scales is 2 elements long; expected 4");
  o.scales = (const char *)scale + 1;
  BAD(qc_gemm_new(&o, &none), "a multiple of 4");
  IS_NULL(qc_gemm_supports(NULL, QC_BIPOLAR, QC_U2, QC_PER_TENSOR, 0, NULL), "methods");
  BAD(qc_gemm_supports(NULL, 99, QC_U2, QC_PER_TENSOR, 0, out), "weight_encoding is 99");
  BAD(qc_gemm_supports(NULL, QC_BIPOLAR, 99, QC_PER_TENSOR, 0, out), "activation_encoding is 99");
  BAD(qc_gemm_supports(NULL, QC_BIPOLAR, QC_U2, 9, 0, out), "scale_granularity is 9");
  REFUSED(qc_gemm_supports("sse9", QC_BIPOLAR, QC_U2, QC_PER_TENSOR, 0, out), QC_ERROR_ISA,
          "the ISA 'sse9'");
  CHECK(out[0] == 7);
  OK(qc_gemm_supports(NULL, QC_BIPOLAR, QC_TERNARY, QC_PER_TENSOR, 0, out));
  CHECK(out[0] == 0);
  OK(qc_gemm_supports("portable", QC_BIPOLAR, QC_U2, QC_PER_GROUP, 33, out));
  CHECK(out[0] == 0);
  out[0] = 7;
  IS_NULL(qc_gemm_max_k_affine(QC_S8, QC_S8, -128, NULL), "k");
  BAD(qc_gemm_max_k_affine(QC_S8, QC_S8, -129, &n), "zero_point is -129");
  BAD(qc_gemm_max_k_affine(99, QC_S8, 0, &n), "weight_encoding is 99");
  BAD(qc_gemm_max_k_affine(QC_S8, 99, 0, &n), "activation_encoding is 99");
  OK(qc_gemm_max_k(QC_BIPOLAR, QC_U8, &max_k));
  CHECK(max_k == 8421504);
  o = good, o.activation_encoding = QC_U8, o.k = max_k + 1, o.n = o.weight_words = 0;
  BAD(qc_gemm_new(&o, &none), "K is 8421505");
  w.words[1] |= 0x80000000u;
  BAD(qc_gemm_new(&good, &none), "weights is with bits set behind column 40");
  w.words[1] &= 0xFFu;
  CHECK(none == (qc_gemm *)out);
  IS_NULL(qc_gemm_max_k(QC_BIPOLAR, QC_U8, NULL), "k");
  BAD(qc_gemm_max_k(QC_BIPOLAR, QC_TERNARY, &n), "activation is ternary");
  BAD(qc_gemm_max_k(QC_BIPOLAR, 99, &n), "activation_encoding is 99");

  OK(qc_gemm_new(&good, &gemm));
  o = good, o.scale = o.bias = NULL;
  OK(qc_gemm_new(&o, &exact));
  IS_NULL(qc_gemm_scratch_len(NULL, 3, &n), "gemm");
  IS_NULL(qc_gemm_scratch_len(gemm, 3, NULL), "len");
  IS_NULL(qc_gemm_describe(NULL, buf, sizeof buf, &n), "gemm");
  IS_NULL(qc_gemm_describe(gemm, NULL, 1, &n), "buf");
  IS_NULL(qc_gemm_describe(gemm, buf, sizeof buf, NULL), "length");
  CHECK(n == UNTOUCHED);

#define RUN(g, words, n_words, m, begin, end, out, out_len, scratch, scratch_len) \
  qc_gemm_run_i32(g, words, n_words, m, begin, end, out, out_len, scratch, scratch_len, NULL)
#define RUN_F(g, words, n_words, m, begin, end, out, out_len, scratch, scratch_len) \
  qc_gemm_run_f32(g, words, n_words, m, begin, end, out, out_len, scratch, scratch_len, NULL)
  IS_NULL(RUN(NULL, a.words, a.n_words, 3, 0, 3, out, 6, scratch, 3), "gemm");
  IS_NULL(RUN(gemm, NULL, a.n_words, 3, 0, 3, out, 6, scratch, 3), "words");
  IS_NULL(RUN(gemm, a.words, a.n_words, 3, 0, 3, NULL, 6, scratch, 3), "out");
  IS_NULL(RUN(gemm, a.words, a.n_words, 3, 0, 3, out, 6, NULL, 3), "scratch");
  IS_NULL(RUN_F(NULL, a.words, a.n_words, 3, 0, 3, floats, 6, scratch, 3), "gemm");
  IS_NULL(RUN_F(gemm, NULL, a.n_words, 3, 0, 3, floats, 6, scratch, 3), "words");
  IS_NULL(RUN_F(gemm, a.words, a.n_words, 3, 0, 3, NULL, 6, scratch, 3), "out");
  IS_NULL(RUN_F(gemm, a.words, a.n_words, 3, 0, 3, floats, 6, NULL, 3), "scratch");
  BAD(RUN(gemm, a.words, a.n_words - 1, 3, 0, 3, out, 6, scratch, 3), "n_words is 11");
  BAD(RUN(gemm, a.words, a.n_words, 4, 0, 3, out, 6, scratch, 3), "n_words is 12");
  BAD(RUN(gemm, a.words, a.n_words, SIZE_MAX, 0, 3, out, 6, scratch, 3), "m x k");
  BAD(RUN(gemm, a.words, a.n_words, 3, 0, 4, out, 6, scratch, 3), "row_begin..row_end is 0..4");
  BAD(RUN(gemm, a.words, a.n_words, 3, 2, 1, out, 6, scratch, 3), "row_begin..row_end is 2..1");
  BAD(RUN(gemm, a.words, a.n_words, 3, 0, 3, out, 5, scratch, 3), "out is 5");
  /* Two bits of activations and one of weights: no scratch for packed codes, and none of what is given is wrong. */
  OK(RUN(gemm, a.words, a.n_words, 3, 0, 3, sums, 6, NULL, 0));
  BAD(RUN_F(gemm, a.words, a.n_words, 3, 0, 3, floats, 5, scratch, 3), "out is 5");
  IS_NULL(qc_gemm_scratch_len_bytes(NULL, 3, &n), "gemm");
  IS_NULL(qc_gemm_scratch_len_bytes(gemm, 3, NULL), "len");
#define RUN_BYTES(bytes, n_bytes, scratch_len) \
  qc_gemm_run_bytes_i32(gemm, bytes, n_bytes, 3, 0, 3, out, 6, scratch, scratch_len, NULL)
  IS_NULL(RUN_BYTES(NULL, 120, 3), "bytes");
  BAD(RUN_BYTES(bytes, 119, 3), "bytes is 119");
  BAD(RUN_BYTES(bytes, 120, 3), "scratch is 3");
  bytes[77] = 9;
  BAD(RUN_BYTES(bytes, 120, 3), "bytes is 9 at 77");
  BAD(qc_gemm_run_bytes_f32(exact, bytes, 119, 3, 0, 3, floats, 6, scratch, 3, NULL), "bytes");
  BAD(RUN_F(exact, a.words, a.n_words, 3, 0, 3, floats, 6, scratch, 3), "epilogue is none");
  {
    float row_scale[3] = {1, 1, 1};
    int32_t zero_point[3] = {0, 4, 0};
#define RUN_ROWS(g, words, row_scale, zero_point, out) \
  qc_gemm_run_rows_f32(g, words, a.n_words, row_scale, zero_point, 3, 0, 3, out, 6, scratch, 3, NULL)
    IS_NULL(RUN_ROWS(NULL, a.words, row_scale, NULL, floats), "gemm");
    IS_NULL(RUN_ROWS(gemm, NULL, row_scale, NULL, floats), "words");
    IS_NULL(RUN_ROWS(gemm, a.words, NULL, NULL, floats), "row_scale");
    IS_NULL(RUN_ROWS(gemm, a.words, row_scale, NULL, NULL), "out");
    BAD(RUN_ROWS(gemm, a.words, row_scale, zero_point, floats), "row zero point is 4");
    BAD(RUN_ROWS(exact, a.words, row_scale, NULL, floats), "epilogue is none");
#define RUN_ROWS_BYTES(g, bytes, n_bytes, row_scale) \
  qc_gemm_run_rows_bytes_f32(g, bytes, n_bytes, row_scale, NULL, 3, 0, 3, floats, 6, scratch, 3, NULL)
    IS_NULL(RUN_ROWS_BYTES(NULL, bytes, 120, row_scale), "gemm");
    IS_NULL(RUN_ROWS_BYTES(gemm, NULL, 120, row_scale), "bytes");
    IS_NULL(RUN_ROWS_BYTES(gemm, bytes, 120, NULL), "row_scale");
    BAD(RUN_ROWS_BYTES(gemm, bytes, 119, row_scale), "bytes is 119");
  }
  a.words[1] |= 0x80000000u;
  BAD(RUN(gemm, a.words, a.n_words, 3, 0, 3, out, 6, scratch, 3), "behind column 40 in row 0");
  CHECK(out[0] == 7 && out[5] == 7 && floats[0] == 7 && floats[5] == 7);
  qc_gemm_free(gemm);
  qc_gemm_free(exact);
  free_packed(w);
  free_packed(a);
}

static void weight_only(void) {
  uint32_t words[2] = {1, 2};
  float scales[2] = {1, 2};
  qc_weight_only_options good, o;
  qc_weight_only *none = NULL;
  OK(qc_weight_only_options_init(sizeof good, &good));
  CHECK(good.scale_granularity == QC_PER_TENSOR && good.scale_type == QC_F32 && good.reserved == 0);
  good.n = 2, good.k = 5, good.weights = words, good.weight_words = 2;
  good.scales = scales, good.n_scales = 2, good.scale_granularity = QC_PER_CHANNEL;
  o = good, o.reserved = 1;
  BAD(qc_weight_only_new(&o, &none), "reserved is 1");
  o = good, o.scale_type = 3;
  BAD(qc_weight_only_new(&o, &none), "scale_type is 3");
  o = good, o.scale_granularity = 3;
  BAD(qc_weight_only_new(&o, &none), "scale_granularity is 3");
  o.scale_granularity = QC_PER_TENSOR;
  BAD(qc_weight_only_new(&o, &none), "scales is 2 elements long; expected 1");
  o.scale_granularity = QC_PER_GROUP;
  BAD(qc_weight_only_new(&o, &none), "group is 0; expected a multiple of 32");
  o = good, o.n_scales = 1;
  BAD(qc_weight_only_new(&o, &none), "scales is 1 elements long; expected 2");
  CHECK(none == NULL);
}

static void convolutions(void) {
  packed w = random_packed(QC_BIPOLAR, 2, 9 * 5, 1), x = random_packed(QC_U2, 2 * 16, 5, 2);
  float two[2] = {1, -1}, out[16], floats[16] = {0};
  uint8_t bytes[160] = {0};
  int32_t *scratch, thresholds[6] = {0, 0, 1, 1, 2, 2}, sign[2] = {1, -1};
  qc_conv2d_options good, o;
  qc_finish finish, f;
  qc_residual residual, r;
  qc_quantizer q;
  qc_conv2d *none = (qc_conv2d *)out, *conv = NULL, *adds = NULL;
  size_t n = UNTOUCHED, m = UNTOUCHED, need, all;
  char buf[8];

  IS_NULL(qc_conv2d_options_init(sizeof good, NULL), "options");
  IS_NULL(qc_finish_init(sizeof finish, NULL), "finish");
  IS_NULL(qc_residual_init(sizeof residual, NULL), "residual");
  BAD(qc_conv2d_options_init(8, &good), "struct_size is 8");
  OK(qc_quantizer_init(sizeof q, &q));
  OK(qc_finish_init(sizeof finish, &finish));
  finish.output = QC_OUT_F32;
  finish.scale = finish.bias = two;
  OK(qc_conv2d_options_init(sizeof good, &good));
  CHECK(good.height == 1 && good.kernel[1] == 1 && good.stride[0] == 1 && good.groups == 1);
  good.activation_encoding = QC_U2;
  good.height = good.width = 4;
  good.channels = 5;
  good.output_channels = 2;
  good.kernel[0] = good.kernel[1] = 3;
  good.filters = w.words;
  good.filter_words = w.n_words;
  good.finish = &finish;
  IS_NULL(qc_conv2d_new(NULL, &none), "options");
  IS_NULL(qc_conv2d_new(&good, NULL), "conv");
#define REFUSES(change, names) o = good, change, BAD(qc_conv2d_new(&o, &none), names)
  REFUSES(o.struct_size = 1, "struct_size is 1");
  REFUSES(o.weight_encoding = 77, "weight_encoding is 77");
  REFUSES(o.activation_encoding = 0, "activation_encoding is 0");
  REFUSES(o.activation_encoding = QC_TERNARY, "activation is ternary");
  REFUSES(o.pad = 3, "pad is 3");
  REFUSES(o.pad = QC_PAD_PLUS_ONE, "expected zero, or bipolar activations");
  REFUSES(o.zero_point = 4, "zero_point is 4; expected 0 or an integer of u2");
  REFUSES(o.reserved = 1, "reserved is 1");
  REFUSES(o.transposed = 2, "transposed is 2");
  REFUSES(o.output_padding[1] = 1, "output_padding is [0, 1]");
  REFUSES((o.transposed = 1, o.output_padding[1] = 1), "output padding is 1");
  REFUSES((o.transposed = 1, o.pad = 1), "pad is 1; expected QC_PAD_ZERO");
  REFUSES(o.groups = 0, "groups is 0");
  REFUSES(o.groups = 2, "groups is 2");
  REFUSES(o.stride[0] = 0, "stride is 0");
  REFUSES(o.height = 2, "kernel is 3 pixels long");
  REFUSES(o.width = SIZE_MAX, "width is");
  REFUSES(o.padding[3] = SIZE_MAX, "padding is");
  REFUSES(o.filter_words = 3, "filter_words is 3");
  REFUSES(o.output_channels = SIZE_MAX, "O x KH x KW x C / groups");
  o = good, o.filters = NULL;
  IS_NULL(qc_conv2d_new(&o, &none), "filters");
  o = good, o.isa = "sse9";
  REFUSED(qc_conv2d_new(&o, &none), QC_ERROR_ISA, "the ISA 'sse9'");
#define UNFINISHED(change, status, names)                       \
  o = good, o.finish = &f, f = finish, change,                  \
  REFUSED(qc_conv2d_new(&o, &none), status, names)
  UNFINISHED(f.struct_size = 1, QC_ERROR_ARGUMENT, "struct_size is 1");
  UNFINISHED(f.output = 6, QC_ERROR_ARGUMENT, "output is 6");
  UNFINISHED(f.function = 5, QC_ERROR_ARGUMENT, "function is 5");
  UNFINISHED(f.residual = 3, QC_ERROR_ARGUMENT, "residual is 3");
  UNFINISHED(f.scale = NULL, QC_ERROR_NULL, "scale is NULL");
  UNFINISHED(f.bias = NULL, QC_ERROR_NULL, "bias is NULL");
  UNFINISHED(f.function = QC_FUNCTION_PRELU, QC_ERROR_NULL, "slope is NULL");
  UNFINISHED((f.function = QC_FUNCTION_CLAMP, f.low = 1), QC_ERROR_ARGUMENT, "clamp is 1 to 0");
  UNFINISHED(f.output = QC_OUT_CODES, QC_ERROR_NULL, "quantizer is NULL");
  UNFINISHED((f.output = QC_OUT_BYTES, f.quantizer = &q), QC_ERROR_ARGUMENT, "bytes of the sign");
  UNFINISHED(f.thresholds = thresholds, QC_ERROR_ARGUMENT, "output is 1");
  UNFINISHED((f.thresholds = thresholds, f.output = QC_OUT_CODES), QC_ERROR_ARGUMENT, "scale is not NULL");
  f.scale = NULL;
  IS_NULL(qc_conv2d_new(&o, &none), "sign");
  f.sign = sign;
  f.threshold_encoding = QC_S4;
  BAD(qc_conv2d_new(&o, &none), "encoding is s4");
  f.threshold_encoding = QC_U2;
  thresholds[5] = 0;
  BAD(qc_conv2d_new(&o, &none), "thresholds is falling at level 2, channel 1");
  q.kind = 99;
  UNFINISHED((f.output = QC_OUT_CODES, f.quantizer = &q), QC_ERROR_ARGUMENT, "kind is 99");
  CHECK(none == (qc_conv2d *)out);

  OK(qc_conv2d_new(&good, &conv));
  f = finish, f.residual = QC_RESIDUAL_BEFORE, o = good, o.finish = &f;
  OK(qc_conv2d_new(&o, &adds));
  IS_NULL(qc_conv2d_output_size(NULL, &n, &m), "conv");
  IS_NULL(qc_conv2d_output_size(conv, NULL, &m), "height");
  IS_NULL(qc_conv2d_output_size(conv, &n, NULL), "width");
  IS_NULL(qc_conv2d_scratch_len(NULL, NULL, &n), "conv");
  IS_NULL(qc_conv2d_scratch_len(conv, NULL, NULL), "len");
  IS_NULL(qc_conv2d_describe(NULL, buf, sizeof buf, &n), "conv");
  IS_NULL(qc_conv2d_describe(conv, NULL, 1, &n), "buf");
  IS_NULL(qc_conv2d_describe(conv, buf, sizeof buf, NULL), "length");
  CHECK(n == UNTOUCHED && m == UNTOUCHED);
  OK(qc_conv2d_scratch_len(conv, NULL, &need));
  OK(qc_conv2d_scratch_len(adds, NULL, &all));
  scratch = (int32_t *)room(need > all ? need : all, sizeof(int32_t));
  out[0] = 7;
#define CONV(g, words, n_words, images, begin, end, residual, out, out_len, scratch, len) \
  qc_conv2d_run(g, words, n_words, images, begin, end, residual, out, out_len, scratch, len, NULL)
  IS_NULL(CONV(NULL, x.words, x.n_words, 2, 0, 2, NULL, out, 16, scratch, need), "conv");
  IS_NULL(CONV(conv, NULL, x.n_words, 2, 0, 2, NULL, out, 16, scratch, need), "words");
  IS_NULL(CONV(conv, x.words, x.n_words, 2, 0, 2, NULL, NULL, 16, scratch, need), "out");
  IS_NULL(CONV(conv, x.words, x.n_words, 2, 0, 2, NULL, out, 16, NULL, need), "scratch");
  BAD(CONV(conv, x.words, x.n_words - 1, 2, 0, 2, NULL, out, 16, scratch, need), "n_words is 63");
  BAD(CONV(conv, x.words, x.n_words, SIZE_MAX, 0, 2, NULL, out, 16, scratch, need), "images x H x W");
  BAD(CONV(conv, x.words, x.n_words, 2, 0, 3, NULL, out, 16, scratch, need), "image_begin..image_end is 0..3");
  BAD(CONV(conv, x.words, x.n_words, 2, 2, 1, NULL, out, 16, scratch, need), "image_begin..image_end is 2..1");
  BAD(CONV(conv, x.words, x.n_words, 2, 0, 2, NULL, out, 15, scratch, need), "out is 15");
  BAD(CONV(conv, x.words, x.n_words, 2, 0, 2, NULL, out, 16, scratch, need - 1), "scratch is");
  BAD(CONV(adds, x.words, x.n_words, 2, 0, 2, NULL, out, 16, scratch, all), "residual is none");
  OK(qc_residual_init(sizeof residual, &residual));
  BAD(CONV(adds, x.words, x.n_words, 2, 0, 2, &residual, out, 16, scratch, all), "residual is none or several");
  residual.floats = floats;
  residual.len = 16;
  BAD(CONV(conv, x.words, x.n_words, 2, 0, 2, &residual, out, 16, scratch, need), "residual is given");
  r = residual, r.len = 15;
  BAD(CONV(adds, x.words, x.n_words, 2, 0, 2, &r, out, 16, scratch, all), "residual is 15");
  r = residual, r.words = x.words;
  BAD(CONV(adds, x.words, x.n_words, 2, 0, 2, &r, out, 16, scratch, all), "residual is none or several");
  r = residual, r.bf16 = (const uint16_t *)floats;
  BAD(CONV(adds, x.words, x.n_words, 2, 0, 2, &r, out, 16, scratch, all), "residual is none or several");
  r.floats = NULL, r.len = 15;
  BAD(CONV(adds, x.words, x.n_words, 2, 0, 2, &r, out, 16, scratch, all), "residual is 15");
  r = residual, r.words = x.words, r.floats = NULL;
  BAD(CONV(adds, x.words, x.n_words, 2, 0, 2, &r, out, 16, scratch, all), "residual is 16; expected 8");
  r.words = NULL, r.bytes = bytes;
  BAD(CONV(adds, x.words, x.n_words, 2, 0, 2, &r, out, 16, scratch, all), "residual is bipolar");
  r.encoding = 99;
  BAD(CONV(adds, x.words, x.n_words, 2, 0, 2, &r, out, 16, scratch, all), "residual encoding is 99");
#define CONV_BYTES(g, bytes, n_bytes) \
  qc_conv2d_run_bytes(g, bytes, n_bytes, 2, 0, 2, NULL, out, 16, scratch, need, NULL)
  IS_NULL(CONV_BYTES(NULL, bytes, 160), "conv");
  IS_NULL(CONV_BYTES(conv, NULL, 160), "bytes");
  BAD(CONV_BYTES(conv, bytes, 159), "bytes is 159");
  bytes[77] = 4;
  BAD(CONV_BYTES(conv, bytes, 160), "bytes is 4 at 77");
  CHECK(out[0] == 7);
  OK(CONV(adds, x.words, x.n_words, 2, 0, 2, &residual, out, 16, scratch, all));
  qc_conv2d_free(conv);
  qc_conv2d_free(adds);
  free(scratch);
  free_packed(w);
  free_packed(x);
}

static void pools_of_codes(void) {
  packed x = random_packed(QC_U2, 2 * 16, 5, 2);
  uint32_t out[8] = {9};
  float means[40] = {9};
  qc_window good, w;
  qc_quantizer q;
  qc_max_pool *no_max = (qc_max_pool *)out, *most = NULL;
  qc_average_pool *no_mean = (qc_average_pool *)out, *mean = NULL;
  size_t n = UNTOUCHED, m = UNTOUCHED;
  IS_NULL(qc_window_init(sizeof good, NULL), "window");
  OK(qc_window_init(sizeof good, &good));
  good.encoding = QC_U2;
  good.channels = 5;
  good.height = good.width = 4;
  good.kernel[0] = good.kernel[1] = 3;
  IS_NULL(qc_max_pool_new(NULL, &no_max), "window");
  IS_NULL(qc_max_pool_new(&good, NULL), "max_pool");
  IS_NULL(qc_average_pool_new(NULL, &no_mean), "window");
  IS_NULL(qc_average_pool_new(&good, NULL), "average_pool");
#define NO_POOL(change, names)                     \
  w = good, change;                                \
  BAD(qc_max_pool_new(&w, &no_max), names);        \
  BAD(qc_average_pool_new(&w, &no_mean), names)
  NO_POOL(w.struct_size = 1, "struct_size is 1");
  NO_POOL(w.encoding = 99, "encoding is 99");
  NO_POOL(w.encoding = QC_TERNARY, "encoding is ternary");
  NO_POOL(w.reserved = 1, "reserved is 1");
  NO_POOL(w.stride[1] = 0, "stride is 0");
  NO_POOL(w.padding[0] = 3, "padding is");
  NO_POOL(w.height = 2, "kernel is 3");
  w = good, w.isa = "sse9";
  REFUSED(qc_max_pool_new(&w, &no_max), QC_ERROR_ISA, "the ISA 'sse9'");
  CHECK(no_max == (qc_max_pool *)out && no_mean == (qc_average_pool *)out);
  OK(qc_max_pool_new(&good, &most));
  OK(qc_average_pool_new(&good, &mean));
  IS_NULL(qc_max_pool_output_size(NULL, &n, &m), "max_pool");
  IS_NULL(qc_max_pool_output_size(most, NULL, &m), "height");
  IS_NULL(qc_max_pool_output_size(most, &n, NULL), "width");
  IS_NULL(qc_average_pool_output_size(NULL, &n, &m), "average_pool");
  IS_NULL(qc_average_pool_output_size(mean, &n, NULL), "width");
  CHECK(n == UNTOUCHED && m == UNTOUCHED);
  IS_NULL(qc_max_pool_run(NULL, x.words, x.n_words, 2, out, 8, NULL), "max_pool");
  IS_NULL(qc_max_pool_run(most, NULL, x.n_words, 2, out, 8, NULL), "words");
  IS_NULL(qc_max_pool_run(most, x.words, x.n_words, 2, NULL, 16, NULL), "out");
  BAD(qc_max_pool_run(most, x.words, 63, 2, out, 8, NULL), "n_words is 63");
  BAD(qc_max_pool_run(most, x.words, x.n_words, 2, out, 8, NULL), "out_len is 8");
  BAD(qc_max_pool_run(most, x.words, x.n_words, SIZE_MAX, out, 8, NULL), "images x H x W");
  OK(qc_quantizer_init(sizeof q, &q));
  IS_NULL(qc_average_pool_run_f32(NULL, x.words, x.n_words, 2, 1, means, 40, NULL), "average_pool");
  IS_NULL(qc_average_pool_run_f32(mean, NULL, x.n_words, 2, 1, means, 40, NULL), "words");
  IS_NULL(qc_average_pool_run_f32(mean, x.words, x.n_words, 2, 1, NULL, 40, NULL), "out");
  BAD(qc_average_pool_run_f32(mean, x.words, x.n_words, 2, 1, means, 39, NULL), "out is 39");
  IS_NULL(qc_average_pool_run_codes(mean, x.words, x.n_words, 2, 1, NULL, out, 8, NULL), "quantizer");
  BAD(qc_average_pool_run_codes(mean, x.words, x.n_words, 2, 1, &q, out, 7, NULL), "out_len is 7");
  q.kind = QC_SYMMETRIC;
  BAD(qc_average_pool_run_codes(mean, x.words, x.n_words, 2, 1, &q, out, 8, NULL), "bits is 1");
  q.bits = 2;
  BAD(qc_average_pool_run_codes(mean, x.words, x.n_words, 2, 1, &q, out, 8, NULL), "out_len is 8");
  IS_NULL(qc_dequantize_f32(QC_U2, 32, 5, NULL, 64, 1, means, 160, NULL), "words");
  IS_NULL(qc_dequantize_f32(QC_U2, 32, 5, x.words, 64, 1, NULL, 160, NULL), "out");
  BAD(qc_dequantize_f32(99, 32, 5, x.words, 64, 1, means, 40, NULL), "encoding is 99");
  BAD(qc_dequantize_f32(QC_U2, 32, 5, x.words, 63, 1, means, 40, NULL), "n_words is 63");
  BAD(qc_dequantize_f32(QC_U2, 32, 5, x.words, 64, 1, means, 40, NULL), "out is 40");
  CHECK(out[0] == 9 && means[0] == 9);
  qc_max_pool_free(most);
  qc_average_pool_free(mean);
  free_packed(x);
}

int main(void) {
  qc_pool_free(NULL);
  qc_gemm_free(NULL);
  qc_conv2d_free(NULL);
  qc_max_pool_free(NULL);
  qc_average_pool_free(NULL);
  texts();
  isas_and_pools();
  packing();
  quantizers();
  gemms();
  weight_only();
  convolutions();
  pools_of_codes();
  printf("errors: all refused by name\n");
  return 0;
}
