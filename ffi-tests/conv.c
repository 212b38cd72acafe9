/* A small residual net by hand, on every ISA that is here, against loops over plain integers and floats:
 *
 *   bytes -> 3x3 stride 2 -> codes -> 3x3 depthwise -> codes -> 3x3 + residual -> signs -> max-pool -> mean -> linear
 *
 * Prints the ISAs that it ran on.
 */

#include "check.h"

enum { IMAGES = 3, SIDE = 11, SMALL = 6, POOLED = 3, C0 = 3, C = 40, CLASSES = 10 };

/* A layer as the loops see it. */
typedef struct layer {
  size_t side, channels, output_channels, kernel, stride, padding, groups, out_side;
  int32_t pad, zero_point;
  packed filters;
  float *scale, *bias, *slope;
} layer;

static float number(uint32_t *seed) {
  return (float)((int32_t)(next_random(seed) >> 9 & 1023) - 511) / 512.0f;
}

static float *numbers(size_t n, float factor, uint32_t seed) {
  float *x = (float *)room(n, sizeof(float));
  size_t i;
  for (i = 0; i < n; i++) x[i] = number(&seed) * factor;
  return x;
}

static layer new_layer(size_t side, size_t channels, size_t o, size_t kernel, size_t stride, size_t groups,
                       int32_t weights, float factor, uint32_t seed) {
  layer l;
  l.side = side;
  l.channels = channels;
  l.output_channels = o;
  l.kernel = kernel;
  l.stride = stride;
  l.padding = kernel / 2;
  l.groups = groups;
  l.out_side = (side + 2 * l.padding - kernel) / stride + 1;
  l.pad = QC_PAD_ZERO;
  l.zero_point = 0;
  l.filters = random_packed(weights, o, kernel * kernel * channels / groups, seed);
  l.scale = numbers(o, factor, seed + 1);
  l.bias = numbers(o, 1, seed + 2);
  l.slope = numbers(o, 1, seed + 3);
  return l;
}

static void free_layer(layer l) {
  free_packed(l.filters);
  free(l.scale);
  free(l.bias);
  free(l.slope);
}

/* The sums [IMAGES, out_side, out_side, O] of images of integers. */
static int32_t *sums_of(const layer *l, const int32_t *x) {
  size_t o = l->output_channels, per_group = l->channels / l->groups;
  int32_t *out = (int32_t *)room(IMAGES * l->out_side * l->out_side * o, sizeof(int32_t)), *at = out;
  int32_t outside = l->pad == QC_PAD_PLUS_ONE ? 1 : l->pad == QC_PAD_MINUS_ONE ? -1 : 0;
  size_t image, y, z, n, ky, kx, c;
  for (image = 0; image < IMAGES; image++)
    for (y = 0; y < l->out_side; y++)
      for (z = 0; z < l->out_side; z++)
        for (n = 0; n < o; n++) {
          int32_t sum = 0;
          const int32_t *w = l->filters.values + n * l->kernel * l->kernel * per_group;
          for (ky = 0; ky < l->kernel; ky++)
            for (kx = 0; kx < l->kernel; kx++) {
              size_t iy = y * l->stride + ky - l->padding, ix = z * l->stride + kx - l->padding;
              for (c = 0; c < per_group; c++, w++) {
                size_t channel = n / (o / l->groups) * per_group + c;
                sum += *w * (iy < l->side && ix < l->side
                                 ? x[((image * l->side + iy) * l->side + ix) * l->channels + channel] - l->zero_point
                                 : outside);
              }
            }
          *at++ = sum;
        }
  return out;
}

/* prelu(scale sum + bias) + residual, each step rounded. */
static float finished(const layer *l, int32_t sum, size_t n, float residual) {
  volatile float product = (float)sum * l->scale[n], y = product + l->bias[n];
  if (y < 0) y = y * l->slope[n];
  y = y + residual;
  return y;
}

static int32_t level(float y, float alpha, int32_t max) {
  int32_t code = 0;
  while (code < max && y > (float)code * alpha) code++;
  return code;
}

static qc_conv2d *new_conv(const layer *l, int32_t activation, const qc_finish *finish, const char *isa) {
  qc_conv2d_options options;
  qc_conv2d *conv = NULL;
  size_t height, width, i;
  OK(qc_conv2d_options_init(sizeof options, &options));
  options.weight_encoding = l->filters.encoding;
  options.activation_encoding = activation;
  options.channels = l->channels;
  options.output_channels = l->output_channels;
  options.height = options.width = l->side;
  for (i = 0; i < 2; i++) options.kernel[i] = l->kernel, options.stride[i] = l->stride;
  for (i = 0; i < 4; i++) options.padding[i] = l->padding;
  options.groups = l->groups;
  options.pad = l->pad;
  options.zero_point = l->zero_point;
  options.filters = l->filters.words;
  options.filter_words = l->filters.n_words;
  options.finish = finish;
  options.isa = isa;
  OK(qc_conv2d_new(&options, &conv));
  CHECK(conv != NULL);
  OK(qc_conv2d_output_size(conv, &height, &width));
  CHECK(height == l->out_side && width == l->out_side);
  return conv;
}

/* Runs and ends a plan, image by image or all at once; `bytes` or `words` is NULL. `element` is that of the output. */
static void run(qc_conv2d *conv, const uint8_t *bytes, const uint32_t *words, size_t len,
                const qc_residual *residual, void *out, size_t out_len, size_t element, const qc_pool *pool) {
  size_t scratch_len, image, each = residual ? IMAGES : 1, part = out_len / IMAGES * each;
  int32_t *scratch;
  char text[300];
  size_t length;
  OK(qc_conv2d_describe(conv, text, sizeof text, &length));
  CHECK(length == strlen(text));
  OK(qc_conv2d_scratch_len(conv, pool, &scratch_len));
  scratch = (int32_t *)room(scratch_len, sizeof(int32_t));
  for (image = 0; image < IMAGES; image += each) {
    char *to = (char *)out + image * part * element;
    if (bytes) {
      OK(qc_conv2d_run_bytes(conv, bytes, len, IMAGES, image, image + each, residual, to, part, scratch,
                             scratch_len, pool));
    } else {
      OK(qc_conv2d_run(conv, words, len, IMAGES, image, image + each, residual, to, part, scratch,
                       scratch_len, pool));
    }
  }
  free(scratch);
  qc_conv2d_free(conv);
}

static packed new_codes(int32_t encoding, size_t rows, size_t cols) {
  packed p;
  p.encoding = encoding;
  p.count = rows * cols;
  p.values = (int32_t *)room(p.count, sizeof(int32_t));
  OK(qc_packed_words(encoding, rows, cols, &p.n_words));
  p.words = (uint32_t *)room(p.n_words, sizeof(uint32_t));
  memset(p.words, 0xA5, p.n_words * sizeof(uint32_t));
  return p;
}

/* Unpacks `p` and compares it with its values. */
static void same_codes(packed p, size_t rows, size_t cols) {
  int32_t *back = (int32_t *)room(p.count, sizeof(int32_t));
  size_t i;
  OK(qc_unpack(p.encoding, rows, cols, p.words, p.n_words, back, p.count));
  for (i = 0; i < p.count; i++) CHECK(back[i] == p.values[i]);
  free(back);
}

static qc_finish new_finish(const layer *l, int32_t output, const qc_quantizer *q) {
  qc_finish f;
  OK(qc_finish_init(sizeof f, &f));
  CHECK(f.output == QC_OUT_I32 && f.residual == QC_RESIDUAL_NONE);
  f.output = output;
  f.function = QC_FUNCTION_PRELU;
  f.scale = l->scale;
  f.bias = l->bias;
  f.slope = l->slope;
  f.quantizer = q;
  return f;
}

/* The nearest multiple of the step, at most `most` of them either way. */
static int32_t nearest(float x, float step, int32_t most) {
  double scaled = x * (1.0f / step);
  int32_t whole = (int32_t)(scaled + (scaled < 0 ? -0.5 : 0.5));
  return whole > most ? most : whole < -most ? -most : whole;
}

static void pooling(const char *isa, packed signs, const qc_pool *pool) {
  qc_window window;
  qc_max_pool *max_pool = NULL;
  qc_average_pool *mean = NULL;
  qc_quantizer q;
  packed most = new_codes(QC_BIPOLAR, IMAGES * POOLED * POOLED, C), coarse;
  float means[IMAGES * C], back[IMAGES * POOLED * POOLED * C];
  size_t image, y, x, c, i, height, width;
  layer last = new_layer(1, C, CLASSES, 1, 1, 1, QC_S4, 0.01f, 90);
  OK(qc_window_init(sizeof window, &window));
  window.channels = C;
  window.height = window.width = SMALL;
  window.isa = isa;
  for (i = 0; i < 2; i++) window.kernel[i] = 3, window.stride[i] = 2;
  window.padding[0] = window.padding[1] = 1;
  OK(qc_max_pool_new(&window, &max_pool));
  OK(qc_max_pool_output_size(max_pool, &height, &width));
  CHECK(height == POOLED && width == POOLED);
  for (image = 0, i = 0; image < IMAGES; image++)
    for (y = 0; y < POOLED; y++)
      for (x = 0; x < POOLED; x++)
        for (c = 0; c < C; c++, i++) {
          size_t ky, kx;
          most.values[i] = -1;
          for (ky = 0; ky < 3; ky++)
            for (kx = 0; kx < 3; kx++) {
              size_t iy = 2 * y + ky - 1, ix = 2 * x + kx - 1;
              if (iy < SMALL && ix < SMALL && signs.values[((image * SMALL + iy) * SMALL + ix) * C + c] > 0)
                most.values[i] = 1;
            }
        }
  OK(qc_max_pool_run(max_pool, signs.words, signs.n_words, IMAGES, most.words, most.n_words, pool));
  same_codes(most, IMAGES * POOLED * POOLED, C);
  qc_max_pool_free(max_pool);

  OK(qc_dequantize_f32(QC_BIPOLAR, IMAGES * POOLED * POOLED, C, most.words, most.n_words, 0.75f, back,
                       IMAGES * POOLED * POOLED * C, pool));
  for (i = 0; i < IMAGES * POOLED * POOLED * C; i++) CHECK(back[i] == 0.75f * (float)most.values[i]);

  OK(qc_window_init(sizeof window, &window));
  window.channels = C;
  window.isa = isa;
  window.height = window.width = window.kernel[0] = window.kernel[1] = POOLED;
  OK(qc_average_pool_new(&window, &mean));
  OK(qc_average_pool_output_size(mean, &height, &width));
  CHECK(height == 1 && width == 1);
  OK(qc_average_pool_run_f32(mean, most.words, most.n_words, IMAGES, 0.5f, means, IMAGES * C, pool));
  OK(qc_quantizer_init(sizeof q, &q));
  q.kind = QC_RELU;
  q.bits = 4;
  q.alpha = 0.04f;
  coarse = new_codes(QC_U4, IMAGES, C);
  OK(qc_average_pool_run_codes(mean, most.words, most.n_words, IMAGES, 0.5f, &q, coarse.words,
                               coarse.n_words, pool));
  for (image = 0; image < IMAGES; image++)
    for (c = 0; c < C; c++) {
      int32_t sum = 0;
      for (i = 0; i < POOLED * POOLED; i++) sum += most.values[(image * POOLED * POOLED + i) * C + c];
      CHECK(means[image * C + c] == (float)sum * (0.5f / (POOLED * POOLED)));
      coarse.values[image * C + c] = level(means[image * C + c], 0.04f, 15);
    }
  same_codes(coarse, IMAGES, C);
  {
    /* Signed codes of the means, none of which lies halfway. */
    packed s3 = new_codes(QC_S3, IMAGES, C);
    q.kind = QC_SYMMETRIC;
    q.bits = 3;
    q.alpha = 0.07f;
    OK(qc_average_pool_run_codes(mean, most.words, most.n_words, IMAGES, 0.5f, &q, s3.words, s3.n_words, pool));
    for (i = 0; i < IMAGES * C; i++) s3.values[i] = nearest(means[i], 0.07f, 3);
    same_codes(s3, IMAGES, C);
    free_packed(s3);
  }
  qc_average_pool_free(mean);

  {
    /* A linear layer to its sums: nothing follows them. */
    int32_t logits[IMAGES * CLASSES], *expected = sums_of(&last, coarse.values);
    run(new_conv(&last, QC_U4, NULL, isa), NULL, coarse.words, coarse.n_words, NULL, logits,
        IMAGES * CLASSES, sizeof *logits, pool);
    for (i = 0; i < IMAGES * CLASSES; i++) CHECK(logits[i] == expected[i]);
    free(expected);
  }
  free_layer(last);
  free_packed(most);
  free_packed(coarse);
}

static void net(const char *isa, const qc_pool *pool) {
  size_t i, len = IMAGES * SIDE * SIDE * C0, pixels = IMAGES * SMALL * SMALL;
  uint8_t *image = (uint8_t *)room(len, 1), *shorts = (uint8_t *)room(pixels * C, 1);
  int32_t *pixel_values = (int32_t *)room(len, sizeof(int32_t)), *sums;
  float *floats = (float *)room(pixels * C, sizeof(float));
  uint16_t *brains = (uint16_t *)room(pixels * C, sizeof(uint16_t));
  uint32_t seed = 5;
  qc_quantizer relu2, sign, s8;
  qc_finish finish;
  qc_residual residual;
  packed first = new_codes(QC_U2, pixels, C), second = new_codes(QC_BIPOLAR, pixels, C);
  packed third = new_codes(QC_BIPOLAR, pixels, C);
  layer a = new_layer(SIDE, C0, C, 3, 2, 1, QC_S4, 0.0003f, 10);
  layer b = new_layer(SMALL, C, C, 3, 1, C, QC_TERNARY, 0.2f, 30);
  layer d = new_layer(SMALL, C, C, 3, 1, 1, QC_BIPOLAR, 0.02f, 50);
  for (i = 0; i < len; i++) pixel_values[i] = image[i] = (uint8_t)(next_random(&seed) >> 11);
  OK(qc_quantizer_init(sizeof sign, &sign));
  relu2 = sign;
  relu2.kind = QC_RELU;
  relu2.bits = 2;
  relu2.alpha = 0.25f;
  s8 = sign;
  s8.kind = QC_SYMMETRIC;
  s8.bits = 8;
  s8.alpha = 0.0625f;

  /* Bytes whose zero is 100, and not that of the pad's bits, to codes of two bits. */
  a.zero_point = 100;
  finish = new_finish(&a, QC_OUT_CODES, &relu2);
  sums = sums_of(&a, pixel_values);
  for (i = 0; i < first.count; i++) {
    first.values[i] = level(finished(&a, sums[i], i % C, 0), 0.25f, 3);
  }
  run(new_conv(&a, QC_U8, &finish, isa), image, NULL, len, NULL, first.words, first.n_words,
      sizeof(uint32_t), pool);
  same_codes(first, pixels, C);
  free(sums);

  /* Depthwise, to signs; codes whose zero is 1. */
  b.zero_point = 1;
  finish = new_finish(&b, QC_OUT_CODES, &sign);
  sums = sums_of(&b, first.values);
  for (i = 0; i < second.count; i++) {
    second.values[i] = finished(&b, sums[i], i % C, 0) >= 0 ? 1 : -1;
  }
  run(new_conv(&b, QC_U2, &finish, isa), NULL, first.words, first.n_words, NULL, second.words,
      second.n_words, sizeof(uint32_t), pool);
  same_codes(second, pixels, C);
  free(sums);

  /* The codes of the first layer come back in; outputs of every kind, and every pad. */
  OK(qc_residual_init(sizeof residual, &residual));
  residual.words = first.words;
  residual.len = first.n_words;
  residual.encoding = QC_U2;
  residual.scale = 0.25f;
  for (d.pad = QC_PAD_MINUS_ONE; d.pad >= QC_PAD_ZERO; d.pad--) {
    sums = sums_of(&d, second.values);
    finish = new_finish(&d, QC_OUT_CODES, &sign);
    finish.residual = QC_RESIDUAL_AFTER;
    for (i = 0; i < third.count; i++) {
      floats[i] = finished(&d, sums[i], i % C, 0.25f * (float)first.values[i]);
      third.values[i] = floats[i] >= 0 ? 1 : -1;
    }
    run(new_conv(&d, QC_BIPOLAR, &finish, isa), NULL, second.words, second.n_words, &residual, third.words,
        third.n_words, sizeof(uint32_t), pool);
    same_codes(third, pixels, C);
    free(sums);
  }
  finish.output = QC_OUT_F32;
  d.pad = QC_PAD_ZERO;
  {
    float *out = (float *)room(pixels * C, sizeof(float)), *added = (float *)room(pixels * C, sizeof(float));
    run(new_conv(&d, QC_BIPOLAR, &finish, isa), NULL, second.words, second.n_words, &residual, out,
        pixels * C, sizeof(float), pool);
    for (i = 0; i < pixels * C; i++) CHECK(out[i] == floats[i]);
    /* The same residual as floats, and as bytes. */
    for (i = 0; i < pixels * C; i++) added[i] = 0.25f * (float)first.values[i];
    residual.words = NULL;
    residual.floats = added;
    residual.len = pixels * C;
    finish.output = QC_OUT_BF16;
    run(new_conv(&d, QC_BIPOLAR, &finish, isa), NULL, second.words, second.n_words, &residual, brains,
        pixels * C, sizeof(uint16_t), pool);
    for (i = 0; i < pixels * C; i++) {
      uint32_t bits;
      memcpy(&bits, &floats[i], sizeof bits);
      CHECK(brains[i] == (uint16_t)((bits + 0x7FFF + (bits >> 16 & 1)) >> 16));
    }
    /* As floats of 16 bits: 0, 1/4, 1/2 and 3/4. */
    residual.floats = NULL;
    residual.f16 = brains;
    finish.output = QC_OUT_F32;
    for (i = 0; i < pixels * C; i++) {
      static const uint16_t halves[4] = {0, 0x3400, 0x3800, 0x3A00};
      brains[i] = halves[first.values[i]];
    }
    run(new_conv(&d, QC_BIPOLAR, &finish, isa), NULL, second.words, second.n_words, &residual, out,
        pixels * C, sizeof(float), pool);
    for (i = 0; i < pixels * C; i++) CHECK(out[i] == floats[i]);
    residual.f16 = NULL;
    residual.bf16 = brains;
    for (i = 0; i < pixels * C; i++) {
      static const uint16_t halves[4] = {0, 0x3E80, 0x3F00, 0x3F40};
      brains[i] = halves[first.values[i]];
    }
    memset(out, 0, pixels * C * sizeof *out);
    run(new_conv(&d, QC_BIPOLAR, &finish, isa), NULL, second.words, second.n_words, &residual, out,
        pixels * C, sizeof(float), pool);
    for (i = 0; i < pixels * C; i++) CHECK(out[i] == floats[i]);
    residual.bf16 = NULL;
    for (i = 0; i < pixels * C; i++) shorts[i] = (uint8_t)first.values[i];
    residual.bytes = shorts;
    finish.output = QC_OUT_BYTES;
    finish.quantizer = &s8;
    {
      uint8_t *bytes = (uint8_t *)room(pixels * C, 1);
      run(new_conv(&d, QC_BIPOLAR, &finish, isa), NULL, second.words, second.n_words, &residual, bytes,
          pixels * C, 1, pool);
      for (i = 0; i < pixels * C; i++) {
        float scaled = floats[i] * 16.0f;
        float apart = scaled - (float)(int8_t)bytes[i];
        CHECK((apart <= 0.5f && apart >= -0.5f) || (int8_t)bytes[i] == (scaled > 0 ? 127 : -127));
      }
      free(bytes);
    }
    free(out);
    free(added);
  }
  {
    /* Signed codes in planes, with the residual of before, and the layer behind them that takes them in. */
    packed s4 = new_codes(QC_S4, pixels, C);
    qc_quantizer four = s8;
    four.bits = 4;
    four.alpha = 0.07f;
    finish.output = QC_OUT_CODES;
    finish.quantizer = &four;
    for (i = 0; i < s4.count; i++) s4.values[i] = nearest(floats[i], 0.07f, 7);
    run(new_conv(&d, QC_BIPOLAR, &finish, isa), NULL, second.words, second.n_words, &residual, s4.words,
        s4.n_words, sizeof(uint32_t), pool);
    same_codes(s4, pixels, C);
    sums = sums_of(&d, s4.values);
    {
      int32_t *out = (int32_t *)room(pixels * C, sizeof(int32_t));
      run(new_conv(&d, QC_S4, NULL, isa), NULL, s4.words, s4.n_words, NULL, out, pixels * C, sizeof *out, pool);
      for (i = 0; i < pixels * C; i++) CHECK(out[i] == sums[i]);
      free(out);
    }
    free(sums);
    free_packed(s4);
  }
  {
    /* Thresholds as a file holds them: sum > 3 in half of the channels, -sum > 3 in the others. */
    int32_t thresholds[C], signs[C];
    for (i = 0; i < C; i++) thresholds[i] = 3, signs[i] = i % 2 ? -1 : 1;
    OK(qc_finish_init(sizeof finish, &finish));
    finish.output = QC_OUT_CODES;
    finish.thresholds = thresholds;
    finish.sign = signs;
    sums = sums_of(&d, second.values);
    for (i = 0; i < third.count; i++) third.values[i] = sums[i] * signs[i % C] > 3 ? 1 : -1;
    run(new_conv(&d, QC_BIPOLAR, &finish, isa), NULL, second.words, second.n_words, NULL, third.words,
        third.n_words, sizeof(uint32_t), pool);
    same_codes(third, pixels, C);
    free(sums);
  }
  pooling(isa, third, pool);
  free_layer(a);
  free_layer(b);
  free_layer(d);
  free_packed(first);
  free_packed(second);
  free_packed(third);
  free(image);
  free(shorts);
  free(pixel_values);
  free(floats);
  free(brains);
}

int main(void) {
  size_t isas, i;
  qc_pool *pool = NULL;
  OK(qc_pool_new(2, &pool));
  OK(qc_isa_count(&isas));
  printf("conv:");
  for (i = 0; i < isas; i++) {
    qc_isa_info info;
    info.struct_size = sizeof info;
    OK(qc_isa_get(i, &info));
    if (!info.available) continue;
    printf(" %s", info.name);
    net(info.name, NULL);
    net(info.name, pool);
  }
  qc_pool_free(pool);
  printf("\n");
  return 0;
}
