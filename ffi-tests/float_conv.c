/* Convolutions of float images by packed filters on every ISA that is here, against plain loops.
 *
 * Images, scales and biases are small integers over powers of two, so that floats are exact in any order. Prints the ISAs
 * that it ran on.
 */

#include "check.h"

enum { MAX_IMAGES = 2 };

typedef struct problem {
  size_t h, w, c, o, groups, kernel[2], stride[2], dilation[2], padding[4], extra[2];
  int transposed;
  int32_t encoding;
} problem;

static float small(uint32_t *seed) { return (float)(next_random(seed) >> 9 & 15) - 7.0f; }

/* The 16 bits of a small integer as bfloat16 and as a half. */
static uint16_t brain_of(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return (uint16_t)(bits >> 16);
}

static uint16_t half_of(float x) {
  uint32_t bits;
  if (x == 0) return 0;
  memcpy(&bits, &x, sizeof bits);
  return (uint16_t)((bits >> 16 & 0x8000) | ((bits >> 23 & 255) - 112) << 10 | (bits >> 13 & 1023));
}

/* The input along an axis that tap `tap` reads for output `at`, or -1. */
static long input_of(const problem *p, int axis, size_t at, size_t tap) {
  long stride = (long)p->stride[axis], step = (long)(tap * p->dilation[axis]);
  long size = (long)(axis ? p->w : p->h), from;
  if (p->transposed) {
    from = (long)at + (long)p->padding[axis] - step;
    if (from < 0 || from % stride != 0) return -1;
    from /= stride;
  } else {
    from = (long)at * stride + step - (long)p->padding[axis];
  }
  return from >= 0 && from < size ? from : -1;
}

static float *solve(const problem *p, const float *x, size_t images, const int32_t *filters,
                    const float *scales, const float *bias, size_t oh, size_t ow) {
  size_t each = p->c / p->groups, k = p->kernel[0] * p->kernel[1] * each;
  size_t n = images * oh * ow * p->o, i, column;
  float *out = (float *)room(n, sizeof(float));
  for (i = 0; i < n; i++) {
    size_t channel = i % p->o, at_x = i / p->o % ow, at_y = i / p->o / ow % oh;
    const float *image = x + i / (oh * ow * p->o) * p->h * p->w * p->c;
    float sum = 0;
    for (column = 0; column < k; column++) {
      size_t tap = column / each, first = channel / (p->o / p->groups) * each;
      long y = input_of(p, 0, at_y, tap / p->kernel[1]);
      long across = input_of(p, 1, at_x, tap % p->kernel[1]);
      if (y < 0 || across < 0) continue;
      sum += (float)filters[channel * k + column] *
             image[((size_t)y * p->w + (size_t)across) * p->c + first + column % each];
    }
    out[i] = scales[channel] * sum + bias[channel];
  }
  return out;
}

/* The floats of a model whose only node is the convolution; ISA and image there follow from the model. */
static void as_a_model(const char *isa, const problem *p, const qc_float_conv2d_options *options,
                       const float *x, size_t images, float *out, size_t count, const qc_pool *pool) {
  qc_value_type image;
  qc_model_builder *builder = NULL;
  qc_model *model = NULL;
  qc_workspace *workspace = NULL;
  size_t value = 99;
  OK(qc_value_type_init(sizeof image, &image));
  image.kind = QC_KIND_F32;
  image.height = p->h;
  image.width = p->w;
  image.channels = p->c;
  OK(qc_model_builder_new(&image, isa, &builder));
  OK(qc_model_builder_float_conv2d(builder, 0, options, &value));
  OK(qc_model_builder_build(builder, &value, 1, &model));
  qc_model_builder_free(builder);
  OK(qc_workspace_new(model, images, pool ? 3 : 0, QC_MODE_LATENCY, &workspace));
  OK(qc_model_run_f32(model, x, images * p->h * p->w * p->c, out, count, workspace, pool));
  qc_workspace_free(workspace);
  qc_model_free(model);
}

static void convolve(const char *isa, problem p, size_t images, const qc_pool *pool) {
  size_t k = p.kernel[0] * p.kernel[1] * (p.c / p.groups), n_floats = images * p.h * p.w * p.c;
  size_t i, oh, ow, len, count, n_words, length;
  uint32_t seed = 99, *words, *expected_words;
  packed filters = random_packed(p.encoding, p.o, k, 7);
  float *x = (float *)room(n_floats, sizeof(float)), *scales = (float *)room(p.o, sizeof(float));
  float *bias = (float *)room(p.o, sizeof(float)), *out, *scratch, *expected;
  uint16_t *shorts = (uint16_t *)room(n_floats, sizeof(uint16_t));
  int32_t *signs;
  qc_weight_only_options weights;
  qc_float_conv2d_options options;
  qc_float_conv2d *conv = NULL;
  qc_quantizer sign;
  qc_finish finish;
  qc_residual residual;
  char text[300];

  for (i = 0; i < n_floats; i++) x[i] = small(&seed);
  for (i = 0; i < p.o; i++) scales[i] = 0.25f * (float)(1 << (i & 3));
  for (i = 0; i < p.o; i++) bias[i] = small(&seed) + 0.5f;
  OK(qc_weight_only_options_init(sizeof weights, &weights));
  weights.weight_encoding = p.encoding;
  weights.n = p.o;
  weights.k = k;
  weights.weights = filters.words;
  weights.weight_words = filters.n_words;
  weights.scales = scales;
  weights.n_scales = p.o;
  weights.scale_granularity = QC_PER_CHANNEL;
  weights.bias = bias;
  weights.isa = isa;
  OK(qc_float_conv2d_options_init(sizeof options, &options));
  options.filters = &weights;
  options.channels = p.c;
  options.height = p.h;
  options.width = p.w;
  memcpy(options.kernel, p.kernel, sizeof p.kernel);
  memcpy(options.stride, p.stride, sizeof p.stride);
  memcpy(options.dilation, p.dilation, sizeof p.dilation);
  memcpy(options.padding, p.padding, sizeof p.padding);
  memcpy(options.output_padding, p.extra, sizeof p.extra);
  options.groups = p.groups;
  options.transposed = p.transposed;
  OK(qc_float_conv2d_new(&options, &conv));
  OK(qc_float_conv2d_describe(conv, text, sizeof text, &length));
  CHECK(length == strlen(text) && strncmp(text, isa, strlen(isa)) == 0);
  OK(qc_float_conv2d_output_size(conv, &oh, &ow));
  expected = solve(&p, x, images, filters.values, scales, bias, oh, ow);
  count = images * oh * ow * p.o;

  /* Floats of every type. */
  OK(qc_float_conv2d_scratch_len(conv, images, pool, &len));
  scratch = (float *)room(len, sizeof(float));
  out = (float *)room(count + 1, sizeof(float));
  out[count] = -12345.0f;
  OK(qc_float_conv2d_run_f32(conv, x, n_floats, NULL, out, count, scratch, len, pool));
  for (i = 0; i < count; i++) CHECK(out[i] == expected[i]);
  memset(out, 0, count * sizeof(float));
  for (i = 0; i < n_floats; i++) shorts[i] = half_of(x[i]);
  OK(qc_float_conv2d_run_f16(conv, shorts, n_floats, NULL, out, count, scratch, len, pool));
  for (i = 0; i < count; i++) CHECK(out[i] == expected[i]);
  memset(out, 0, count * sizeof(float));
  for (i = 0; i < n_floats; i++) shorts[i] = brain_of(x[i]);
  OK(qc_float_conv2d_run_bf16(conv, shorts, n_floats, NULL, out, count, scratch, len, pool));
  for (i = 0; i < count; i++) CHECK(out[i] == expected[i]);
  CHECK(out[count] == -12345.0f);
  CHECK(qc_float_conv2d_run_f32(conv, x, n_floats, NULL, out, count - 1, scratch, len, pool) ==
        QC_ERROR_ARGUMENT);
  CHECK(strncmp(qc_last_error(), "out is", 6) == 0);
  CHECK(qc_float_conv2d_run_f32(conv, x, n_floats - 1, NULL, out, count, scratch, len, pool) ==
        QC_ERROR_ARGUMENT);
  CHECK(qc_float_conv2d_run_f32(conv, NULL, n_floats, NULL, out, count, scratch, len, pool) ==
        QC_ERROR_NULL);
  qc_float_conv2d_free(conv);
  conv = NULL;
  free(scratch);
  memset(out, 0, count * sizeof(float));
  as_a_model(isa, &p, &options, x, images, out, count, pool);
  for (i = 0; i < count; i++) CHECK(out[i] == expected[i]);

  /* The signs of y - x + 1 / 4 with a residual x, packed; y is a multiple of 1 / 4, so that no sum is rounded. */
  OK(qc_quantizer_init(sizeof sign, &sign));
  sign.kind = QC_SIGN;
  OK(qc_finish_init(sizeof finish, &finish));
  OK(qc_residual_init(sizeof residual, &residual));
  for (i = 0; i < p.o; i++) scales[i] = 1.0f;
  for (i = 0; i < p.o; i++) bias[i] = 0.25f;
  finish.output = QC_OUT_CODES;
  finish.quantizer = &sign;
  finish.scale = scales;
  finish.bias = bias;
  finish.residual = QC_RESIDUAL_AFTER;
  finish.function = QC_FUNCTION_RELU;
  for (i = 0; i < count; i++) out[i] = small(&seed);
  residual.floats = out;
  residual.len = count;
  {
    /* The filters' own scales and bias, as they were. */
    float *own = (float *)room(2 * p.o, sizeof(float));
    seed = 99;
    for (i = 0; i < n_floats; i++) (void)small(&seed);
    for (i = 0; i < p.o; i++) own[i] = 0.25f * (float)(1 << (i & 3));
    for (i = 0; i < p.o; i++) own[p.o + i] = small(&seed) + 0.5f;
    weights.scales = own;
    weights.bias = own + p.o;
    options.finish = &finish;
    OK(qc_float_conv2d_new(&options, &conv));
    free(own);
  }
  signs = (int32_t *)room(count, sizeof(int32_t));
  for (i = 0; i < count; i++) {
    float y = expected[i] + 0.25f;
    y = (y > 0 ? y : 0) + out[i];
    signs[i] = y >= 0 ? 1 : -1;
  }
  OK(qc_packed_words(QC_BIPOLAR, count / p.o, p.o, &n_words));
  words = (uint32_t *)room(n_words, sizeof(uint32_t));
  expected_words = (uint32_t *)room(n_words, sizeof(uint32_t));
  OK(qc_pack(QC_BIPOLAR, count / p.o, p.o, signs, expected_words, n_words));
  OK(qc_float_conv2d_scratch_len(conv, images, pool, &len));
  scratch = (float *)room(len, sizeof(float));
  OK(qc_float_conv2d_run_f32(conv, x, n_floats, &residual, words, n_words, scratch, len, pool));
  CHECK(memcmp(words, expected_words, n_words * sizeof(uint32_t)) == 0);
  CHECK(qc_float_conv2d_run_f32(conv, x, n_floats, NULL, words, n_words, scratch, len, pool) ==
        QC_ERROR_ARGUMENT);
  CHECK(strncmp(qc_last_error(), "residual is", 11) == 0);
  qc_float_conv2d_free(conv);

  free(scratch);
  free(words);
  free(expected_words);
  free(signs);
  free(x);
  free(out);
  free(expected);
  free(scales);
  free(bias);
  free(shorts);
  free_packed(filters);
}

static void refusals(void) {
  uint32_t words[2] = {0, 0};
  float one = 1;
  qc_weight_only_options weights;
  qc_float_conv2d_options options;
  qc_float_conv2d *conv = NULL;
  OK(qc_weight_only_options_init(sizeof weights, &weights));
  weights.n = 2;
  weights.k = 27;
  weights.weights = words;
  weights.weight_words = 2;
  weights.scales = &one;
  weights.n_scales = 1;
  OK(qc_float_conv2d_options_init(sizeof options, &options));
  options.height = options.width = 5;
  options.channels = 3;
  options.kernel[0] = options.kernel[1] = 3;
  CHECK(qc_float_conv2d_new(&options, &conv) == QC_ERROR_NULL && conv == NULL);
  options.filters = &weights;
  options.transposed = 2;
  CHECK(qc_float_conv2d_new(&options, &conv) == QC_ERROR_ARGUMENT && conv == NULL);
  options.transposed = 0;
  options.output_padding[1] = 1;
  CHECK(qc_float_conv2d_new(&options, &conv) == QC_ERROR_ARGUMENT && conv == NULL);
  options.output_padding[1] = 0;
  options.channels = 4;
  CHECK(qc_float_conv2d_new(&options, &conv) == QC_ERROR_ARGUMENT && conv == NULL);
  CHECK(strncmp(qc_last_error(), "columns of the filters is 27", 28) == 0);
  options.channels = 3;
  options.groups = 0;
  CHECK(qc_float_conv2d_new(&options, &conv) == QC_ERROR_ARGUMENT && conv == NULL);
  options.groups = 1;
  OK(qc_float_conv2d_new(&options, &conv));
  qc_float_conv2d_free(conv);
  qc_float_conv2d_free(NULL);
}

int main(void) {
  const problem problems[] = {
      {17, 13, 3, 20, 1, {3, 3}, {1, 1}, {1, 1}, {1, 1, 1, 1}, {0, 0}, 0, QC_BIPOLAR},
      {9, 8, 6, 8, 2, {2, 3}, {2, 1}, {1, 2}, {1, 0, 0, 2}, {0, 0}, 0, QC_S4},
      {7, 7, 5, 5, 5, {3, 3}, {1, 2}, {1, 1}, {1, 1, 1, 1}, {0, 0}, 0, QC_TERNARY},
      {14, 12, 33, 40, 1, {1, 1}, {1, 1}, {1, 1}, {0, 0, 0, 0}, {0, 0}, 0, QC_S8},
      {6, 9, 4, 6, 2, {3, 2}, {2, 3}, {1, 1}, {1, 0, 0, 1}, {1, 2}, 1, QC_U2},
  };
  size_t isas, i, j;
  qc_pool *pool = NULL;
  refusals();
  OK(qc_pool_new(3, &pool));
  OK(qc_isa_count(&isas));
  printf("float_conv:");
  for (i = 0; i < isas; i++) {
    qc_isa_info info;
    info.struct_size = sizeof info;
    OK(qc_isa_get(i, &info));
    if (!info.available) continue;
    printf(" %s", info.name);
    for (j = 0; j < sizeof problems / sizeof *problems; j++) {
      convolve(info.name, problems[j], 1, NULL);
      convolve(info.name, problems[j], MAX_IMAGES, pool);
    }
  }
  qc_pool_free(pool);
  printf("\n");
  return 0;
}
