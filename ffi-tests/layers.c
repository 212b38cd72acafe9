/* Layers beside the everyday ones, on every ISA that is here, against loops over plain integers: dilation, transposed
 * convolutions with output padding, a clamp; and batch norm folded into scale and bias.
 *
 * Prints the ISAs that it ran on.
 */

#include "refused.h"
#include "taps.h"

#include <math.h>

enum { IMAGES = 2 };

static const shape SHAPES[] = {
    /* A dilated convolution whose axes have nothing in common. */
    {0, QC_TERNARY, QC_U3, 0, 9, 12, 20, 12, 2, {3, 2}, {1, 2}, {2, 3}, {2, 0, 1, 3}, {0, 0}},
    /* The usual way to double an image. */
    {1, QC_BIPOLAR, QC_BIPOLAR, 0, 5, 4, 40, 33, 1, {3, 3}, {2, 2}, {1, 1}, {1, 1, 1, 1}, {1, 1}},
    /* All at once: groups, dilation, unequal strides, a zero point, no padding on one side. */
    {1, QC_S4, QC_S8, 5, 4, 5, 10, 6, 2, {2, 3}, {3, 2}, {2, 1}, {1, 0, 2, 1}, {2, 0}},
    /* Depthwise. */
    {1, QC_U2, QC_U4, 0, 6, 3, 35, 35, 35, {3, 2}, {2, 3}, {1, 2}, {0, 1, 1, 0}, {1, 2}},
};

static qc_conv2d *new_conv(const shape *s, packed filters, const qc_finish *finish, const char *isa) {
  qc_conv2d_options options = conv_options(s, filters, finish);
  qc_conv2d *conv = NULL;
  options.isa = isa;
  OK(qc_conv2d_new(&options, &conv));
  return conv;
}

/* Both forms of the images, to elements of four bytes. */
static void run(const qc_conv2d *conv, packed x, const uint8_t *bytes, void *out, size_t len, const void *expected,
                const qc_pool *pool) {
  size_t scratch_len;
  int32_t *scratch;
  OK(qc_conv2d_scratch_len(conv, pool, &scratch_len));
  scratch = (int32_t *)room(scratch_len, sizeof(int32_t));
  memset(out, 0xA5, len * 4);
  OK(qc_conv2d_run(conv, x.words, x.n_words, IMAGES, 0, IMAGES, NULL, out, len, scratch, scratch_len, pool));
  CHECK(memcmp(out, expected, len * 4) == 0);
  if (x.encoding != QC_BIPOLAR) {
    memset(out, 0xA5, len * 4);
    OK(qc_conv2d_run_bytes(conv, bytes, x.count, IMAGES, 0, IMAGES, NULL, out, len, scratch, scratch_len, pool));
    CHECK(memcmp(out, expected, len * 4) == 0);
  }
  free(scratch);
}

static void layer(const shape *s, const char *isa, const qc_pool *pool) {
  size_t pixels = IMAGES * s->height * s->width, size[2], height, width, len, i;
  packed filters = random_packed(s->weights, s->o, columns_of(s), 11);
  packed x = random_packed(s->activations, pixels, s->channels, 12);
  uint8_t *bytes = (uint8_t *)room(x.count, 1);
  double *wide = (double *)room(x.count, sizeof(double)), *exact;
  int32_t *sums, *integers;
  float *scale = (float *)room(s->o, sizeof(float)), *bias = (float *)room(s->o, sizeof(float));
  float *clamped, *floats;
  qc_finish finish;
  qc_conv2d *conv;
  size_t low = 0, high = 0;

  for (i = 0; i < x.count; i++) wide[i] = x.values[i];
  exact = sums_of(s, IMAGES, filters.values, wide);
  output_of(s, size);
  len = IMAGES * size[0] * size[1] * s->o;
  sums = (int32_t *)room(len, sizeof(int32_t));
  for (i = 0; i < len; i++) sums[i] = (int32_t)exact[i];
  integers = (int32_t *)room(len, sizeof(int32_t));
  floats = (float *)room(len, sizeof(float));
  clamped = (float *)room(len, sizeof(float));
  for (i = 0; i < x.count; i++) bytes[i] = (uint8_t)x.values[i];
  for (i = 0; i < s->o; i++) {
    scale[i] = ((float)(i % 7) - 3.0f) / 64.0f;
    bias[i] = ((float)(i % 5) - 2.0f) / 16.0f;
  }
  for (i = 0; i < len; i++) {
    volatile float product = (float)sums[i] * scale[i % s->o], y = product + bias[i % s->o];
    clamped[i] = y < -0.25f ? -0.25f : y > 0.5f ? 0.5f : y;
    low += y < -0.25f;
    high += y > 0.5f;
  }
  /* The clamp bites on both sides, and not everywhere. */
  CHECK(low > 0 && high > 0 && low + high < len);

  conv = new_conv(s, filters, NULL, isa);
  OK(qc_conv2d_output_size(conv, &height, &width));
  CHECK(height == size[0] && width == size[1]);
  run(conv, x, bytes, integers, len, sums, pool);
  qc_conv2d_free(conv);

  OK(qc_finish_init(sizeof finish, &finish));
  finish.output = QC_OUT_F32;
  finish.function = QC_FUNCTION_CLAMP;
  finish.low = -0.25f;
  finish.high = 0.5f;
  finish.scale = scale;
  finish.bias = bias;
  conv = new_conv(s, filters, &finish, isa);
  run(conv, x, bytes, floats, len, clamped, pool);
  qc_conv2d_free(conv);

  free(integers);
  free(floats);
  free(clamped);
  free(scale);
  free(bias);
  free(sums);
  free(exact);
  free(wide);
  free(bytes);
  free_packed(filters);
  free_packed(x);
}

/* Slopes that end up positive, negative and zero, by gamma or by the scale before. */
static void batch_norm(void) {
  enum { N = 6 };
  static const float before[N] = {0.5f, -2.0f, 1.5f, 0.75f, -0.5f, 0.0f};
  static const float shift[N] = {1.0f, 0.25f, -2.0f, 0.5f, 3.0f, 2.0f};
  static const float gamma[N] = {2.0f, -1.0f, -0.5f, 0.0f, 4.0f, 1.0f};
  static const float beta[N] = {0.5f, 3.0f, 0.0f, -1.25f, 1.0f, -2.0f};
  static const float mean[N] = {0.25f, -1.0f, 4.0f, 8.0f, 0.0f, 1.0f};
  static const float var[N] = {3.0f, 0.0f, 0.5f, 2.0f, 15.0f, 8.0f};
  static const int signs[N] = {1, 1, -1, 0, -1, 0};
  float scale[N], bias[N];
  int32_t sum;
  size_t i;
  memcpy(scale, before, sizeof scale);
  memcpy(bias, shift, sizeof bias);
  OK(qc_fold_batch_norm(N, gamma, beta, mean, var, 0.125f, scale, bias));
  for (i = 0; i < N; i++) {
    CHECK((scale[i] > 0) - (scale[i] < 0) == signs[i]);
    for (sum = -40; sum <= 40; sum += 8) {
      double y = (double)before[i] * sum + shift[i];
      double right = gamma[i] * (y - mean[i]) / sqrt((double)var[i] + 0.125) + beta[i];
      double folded = (double)scale[i] * sum + bias[i];
      CHECK(fabs(folded - right) <= 1e-6 * (40 * fabs(scale[i]) + fabs(bias[i]) + 1));
    }
  }

  memcpy(scale, before, sizeof scale);
  BAD(qc_fold_batch_norm(N, gamma, beta, mean, var, 0.0f, scale, bias), "var is 0 at 1 with eps 0");
  IS_NULL(qc_fold_batch_norm(N, NULL, beta, mean, var, 0.1f, scale, bias), "gamma");
  IS_NULL(qc_fold_batch_norm(N, gamma, NULL, mean, var, 0.1f, scale, bias), "beta");
  IS_NULL(qc_fold_batch_norm(N, gamma, beta, NULL, var, 0.1f, scale, bias), "mean");
  IS_NULL(qc_fold_batch_norm(N, gamma, beta, mean, NULL, 0.1f, scale, bias), "var");
  IS_NULL(qc_fold_batch_norm(N, gamma, beta, mean, var, 0.1f, NULL, bias), "scale");
  IS_NULL(qc_fold_batch_norm(N, gamma, beta, mean, var, 0.1f, scale, NULL), "bias");
  CHECK(memcmp(scale, before, sizeof scale) == 0);
  OK(qc_fold_batch_norm(0, NULL, NULL, NULL, NULL, 0.1f, NULL, NULL));
}

int main(void) {
  size_t isas, i, j;
  qc_pool *pool = NULL;
  OK(qc_pool_new(2, &pool));
  OK(qc_isa_count(&isas));
  batch_norm();
  printf("layers:");
  for (i = 0; i < isas; i++) {
    qc_isa_info info;
    info.struct_size = sizeof info;
    OK(qc_isa_get(i, &info));
    if (!info.available) continue;
    printf(" %s", info.name);
    for (j = 0; j < sizeof SHAPES / sizeof *SHAPES; j++) {
      layer(&SHAPES[j], info.name, NULL);
      layer(&SHAPES[j], info.name, pool);
    }
  }
  qc_pool_free(pool);
  printf("\n");
  return 0;
}
