/* Multiplies packed weights with floats on every ISA that is here, against loops in the order that the header gives.
 *
 * Prints the ISAs that it ran on.
 */

#include "check.h"

#include <math.h>

/* A float in (-1, 1) that a half and a bfloat16 hold too. */
static float coarse(uint32_t *seed) {
  return (float)((int32_t)(next_random(seed) >> 9 & 255) - 127) / 128.0f;
}

static uint16_t brain_of(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return (uint16_t)(bits >> 16);
}

static uint16_t half_of(float x) {
  int exponent;
  float fraction;
  if (x == 0) return 0;
  fraction = frexpf(fabsf(x), &exponent);
  return (uint16_t)((x < 0 ? 0x8000 : 0) | (exponent + 14) << 10 |
                    ((int)(fraction * 2048.0f) & 1023));
}

typedef struct problem {
  size_t m, n, k, group, n_scales;
  int32_t encoding, granularity, scale_type;
  packed w;
  float *a, *scales, *bias, *expected;
  uint16_t *short_scales;
} problem;

/* Two columns from c on of row i and channel j, as one summand; 0 behind K. */
static float pair_of(const problem *p, size_t i, size_t j, size_t c) {
  const int32_t *w = p->w.values + j * p->k;
  const float *a = p->a + i * p->k;
  volatile float first = c < p->k ? (float)w[c] * a[c] : 0.0f;
  return c + 1 < p->k ? fmaf((float)w[c + 1], a[c + 1], first) : first;
}

/* Columns that are added as one. */
static size_t summand(int32_t encoding) {
  switch (encoding) {
    case QC_BIPOLAR:
    case QC_U1:
    case QC_S1:
      return 4;
    case QC_TERNARY:
    case QC_U2:
    case QC_S2:
      return 2;
    default:
      return 1;
  }
}

static void solve(problem *p) {
  size_t i, j, c;
  size_t group = p->granularity == QC_PER_GROUP ? p->group : p->k;
  size_t groups = p->granularity == QC_PER_GROUP ? (p->k + group - 1) / group : 1;
  p->expected = (float *)room(p->m * p->n, sizeof(float));
  for (i = 0; i < p->m; i++) {
    for (j = 0; j < p->n; j++) {
      float total = 0;
      size_t g;
      for (g = 0; g < groups; g++) {
        float sum = 0;
        size_t at = p->granularity == QC_PER_TENSOR ? 0 : j * groups + g;
        for (c = g * group; c < p->k && c < (g + 1) * group; c += summand(p->encoding)) {
          volatile float four;
          switch (summand(p->encoding)) {
            case 4:
              four = pair_of(p, i, j, c) + pair_of(p, i, j, c + 2);
              sum += four;
              break;
            case 2:
              sum += pair_of(p, i, j, c);
              break;
            default:
              sum = fmaf((float)p->w.values[j * p->k + c], p->a[i * p->k + c], sum);
          }
        }
        total = fmaf(p->scales[at], sum, total);
      }
      {
        volatile float result = total + (p->bias ? p->bias[j] : 0.0f);
        p->expected[i * p->n + j] = result;
      }
    }
  }
}

static void compare(const problem *p, const float *out, size_t begin, size_t end) {
  size_t i, count = (end - begin) * p->n;
  CHECK(out[0] == -12345.0f && out[count + 1] == -12345.0f);
  for (i = 0; i < count; i++) CHECK(out[i + 1] == p->expected[begin * p->n + i]);
}

static void rows_of(const problem *p, const qc_weight_only *plan, size_t begin, size_t end,
                    const qc_pool *pool) {
  size_t i, count = (end - begin) * p->n, len, all = p->m * p->k;
  float *out = (float *)room(count + 2, sizeof(float)), *scratch;
  uint16_t *shorts = (uint16_t *)room(all, sizeof(uint16_t));
  OK(qc_weight_only_scratch_len(plan, end - begin, &len));
  scratch = (float *)room(len, sizeof(float));
  out[0] = out[count + 1] = -12345.0f;
  OK(qc_weight_only_run_f32(plan, p->a, all, p->m, begin, end, out + 1, count, scratch, len, pool));
  compare(p, out, begin, end);
  for (i = 0; i < all; i++) shorts[i] = half_of(p->a[i]);
  OK(qc_weight_only_run_f16(plan, shorts, all, p->m, begin, end, out + 1, count, scratch, len, pool));
  compare(p, out, begin, end);
  for (i = 0; i < all; i++) shorts[i] = brain_of(p->a[i]);
  OK(qc_weight_only_run_bf16(plan, shorts, all, p->m, begin, end, out + 1, count, scratch, len, pool));
  compare(p, out, begin, end);
  if (count > 0) {
    CHECK(qc_weight_only_run_f32(plan, p->a, all, p->m, begin, end, out + 1, count, scratch, len - 1,
                                 pool) == QC_ERROR_ARGUMENT);
    CHECK(strncmp(qc_last_error(), "scratch is", 10) == 0);
    CHECK(qc_weight_only_run_f32(plan, p->a, all, p->m, begin, p->m + 1, out + 1, count, scratch, len,
                                 pool) == QC_ERROR_ARGUMENT);
    /* No elements need no pointer. */
    CHECK(qc_weight_only_run_f32(plan, NULL, all, p->m, begin, end, out + 1, count, scratch, len,
                                 pool) == (all > 0 ? QC_ERROR_NULL : QC_OK));
  }
  free(out);
  free(shorts);
  free(scratch);
}

static void product(const char *isa, int32_t encoding, int32_t scale_type, int32_t granularity, size_t group,
                    size_t m, size_t n, size_t k, const qc_pool *pool) {
  size_t n_scales = granularity == QC_PER_TENSOR    ? 1
                    : granularity == QC_PER_CHANNEL ? n
                                                    : n * ((k + group - 1) / group);
  problem p;
  qc_weight_only_options options;
  qc_weight_only *plan = NULL;
  char text[300];
  size_t i, length;
  uint32_t seed = 77;
  p.m = m;
  p.n = n;
  p.k = k;
  p.group = group;
  p.granularity = granularity;
  p.n_scales = n_scales;
  p.encoding = encoding;
  p.scale_type = scale_type;
  p.w = random_packed(encoding, n, k, 5);
  p.a = (float *)room(m * k, sizeof(float));
  p.scales = (float *)room(n_scales, sizeof(float));
  p.short_scales = (uint16_t *)room(n_scales, sizeof(uint16_t));
  p.bias = n % 2 ? NULL : (float *)room(n, sizeof(float));
  for (i = 0; i < m * k; i++) p.a[i] = coarse(&seed);
  for (i = 0; i < n_scales; i++) {
    p.scales[i] = coarse(&seed);
    p.short_scales[i] = scale_type == QC_F16 ? half_of(p.scales[i]) : brain_of(p.scales[i]);
  }
  for (i = 0; p.bias && i < n; i++) p.bias[i] = 0.7f - 0.1f * (float)i;
  solve(&p);

  OK(qc_weight_only_options_init(sizeof options, &options));
  options.weight_encoding = encoding;
  options.scale_type = scale_type;
  options.n = n;
  options.k = k;
  options.weights = p.w.words;
  options.weight_words = p.w.n_words;
  options.scales = scale_type == QC_F32 ? (const void *)p.scales : (const void *)p.short_scales;
  options.n_scales = n_scales;
  options.group = group;
  options.scale_granularity = granularity;
  options.bias = p.bias;
  options.isa = isa;
  OK(qc_weight_only_new(&options, &plan));
  CHECK(plan != NULL);
  /* The plan has its own copy of everything. */
  memset(p.w.words, 0xFF, p.w.n_words * sizeof(uint32_t));
  OK(qc_weight_only_describe(plan, text, sizeof text, &length));
  CHECK(length == strlen(text) && strncmp(text, isa, strlen(isa)) == 0);
  rows_of(&p, plan, 0, m, pool);
  rows_of(&p, plan, m / 3, m - 1, pool);
  rows_of(&p, plan, m / 2, m / 2, pool);
  qc_weight_only_free(plan);
  free(p.a);
  free(p.scales);
  free(p.short_scales);
  free(p.bias);
  free(p.expected);
  free_packed(p.w);
}

static void refusals(void) {
  qc_weight_only_options options;
  qc_weight_only *plan = NULL;
  uint32_t words[2] = {0, 0};
  float scales[2] = {1, 1};
  OK(qc_weight_only_options_init(sizeof options, &options));
  options.n = 2;
  options.k = 5;
  options.weights = words;
  options.weight_words = 2;
  options.scales = scales;
  options.scale_granularity = QC_PER_CHANNEL;
  options.n_scales = 3;
  CHECK(qc_weight_only_new(&options, &plan) == QC_ERROR_ARGUMENT && plan == NULL);
  options.n_scales = 2;
  options.scale_granularity = QC_PER_GROUP;
  options.group = 31;
  CHECK(qc_weight_only_new(&options, &plan) == QC_ERROR_ARGUMENT && plan == NULL);
  options.group = 0;
  CHECK(qc_weight_only_new(&options, &plan) == QC_ERROR_ARGUMENT && plan == NULL);
  options.scale_granularity = QC_PER_TENSOR;
  CHECK(qc_weight_only_new(&options, &plan) == QC_ERROR_ARGUMENT && plan == NULL);
  options.scale_granularity = QC_PER_CHANNEL;
  options.scale_type = 9;
  CHECK(qc_weight_only_new(&options, &plan) == QC_ERROR_ARGUMENT && plan == NULL);
  options.scale_type = QC_F32;
  options.scales = NULL;
  CHECK(qc_weight_only_new(&options, &plan) == QC_ERROR_NULL && plan == NULL);
  CHECK(qc_weight_only_new(NULL, &plan) == QC_ERROR_NULL);
  qc_weight_only_free(NULL);
}

int main(void) {
  int32_t weights[] = {QC_BIPOLAR, QC_U1, QC_TERNARY, QC_U2, QC_S4, QC_U8, QC_S8};
  size_t isas, i, w;
  qc_pool *pool = NULL;
  refusals();
  OK(qc_pool_new(3, &pool));
  OK(qc_isa_count(&isas));
  printf("weight_only:");
  for (i = 0; i < isas; i++) {
    qc_isa_info info;
    info.struct_size = sizeof info;
    OK(qc_isa_get(i, &info));
    if (!info.available) continue;
    printf(" %s", info.name);
    for (w = 0; w < sizeof weights / sizeof *weights; w++) {
      product(info.name, weights[w], QC_F32, QC_PER_TENSOR, 0, 3, 37, 100, NULL);
      product(info.name, weights[w], QC_F16, QC_PER_CHANNEL, 0, 19, 20, 33, pool);
      product(info.name, weights[w], QC_BF16, QC_PER_GROUP, 32, 14, 18, 100, pool);
    }
    /* One channel: a scale of its own is not one for all. */
    product(info.name, QC_U2, QC_F32, QC_PER_CHANNEL, 0, 2, 1, 40, NULL);
    product(info.name, QC_TERNARY, QC_F32, QC_PER_CHANNEL, 0, 2, 3, 0, NULL);
  }
  qc_pool_free(pool);
  printf("\n");
  return 0;
}
