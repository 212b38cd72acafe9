/* Builds a net out of the nodes that other programs do not use, for images of floats, and runs it on every ISA that is
 * here against plain loops; then what the model says of its nodes, and the times that they take.
 *
 *   floats -> float_conv -> codes -> dilated conv with a clamp -> signs -> transposed conv -> + codes -> means, as floats
 *   and as codes -> dequantize -> add -> up_sample -> float_linear
 *
 * All numbers are multiples of small powers of two, so every sum is exact in any order, and results must be equal.
 */

#include "refused.h"
#include "taps.h"

enum { IMAGES = 3, H = 6, W = 5, C = 3, O = 16, MID = 24, MEANS_H = 4, MEANS_W = 3, CLASSES = 10 };
enum { PIXELS = IMAGES * H * W, POOLED = IMAGES * MEANS_H * MEANS_W, BIG = POOLED * 6, NODES = 13, OUTPUTS = 8 };

static const shape STEM = {0, QC_TERNARY, 0, 0, H, W, C, O, 1, {3, 3}, {1, 1}, {1, 1}, {1, 1, 1, 1}, {0, 0}};
static const shape DOWN = {0, QC_BIPOLAR, 0, 0, H, W, O, MID, 1, {3, 3}, {2, 2}, {2, 2}, {2, 2, 2, 2}, {0, 0}};
static const shape UP = {1, QC_TERNARY, 0, 0, 3, 3, MID, O, 1, {3, 3}, {2, 2}, {1, 1}, {1, 1, 1, 1}, {1, 0}};

/* Filters, and scales and biases of the channels. */
typedef struct weights {
  packed filters;
  float *scale, *bias;
} weights;

static weights new_weights(int32_t encoding, size_t n, size_t k, uint32_t seed) {
  weights w;
  size_t i;
  w.filters = random_packed(encoding, n, k, seed);
  w.scale = (float *)room(n, sizeof(float));
  w.bias = (float *)room(n, sizeof(float));
  for (i = 0; i < n; i++) {
    w.scale[i] = (float)(1 + next_random(&seed) % 4) / 64.0f * (i % 3 == 0 ? -1.0f : 1.0f);
    w.bias[i] = ((float)(next_random(&seed) % 17) - 8.0f) / 8.0f;
  }
  return w;
}

static void free_weights(weights w) {
  free_packed(w.filters);
  free(w.scale);
  free(w.bias);
}

static qc_quantizer relu(int32_t bits, float alpha) {
  qc_quantizer q;
  OK(qc_quantizer_init(sizeof q, &q));
  q.kind = QC_RELU;
  q.bits = bits;
  q.alpha = alpha;
  return q;
}

static qc_finish new_finish(const float *scale, const float *bias, int32_t output, int32_t function, int32_t residual) {
  qc_finish f;
  OK(qc_finish_init(sizeof f, &f));
  f.output = output;
  f.function = function;
  f.residual = residual;
  f.scale = scale;
  f.bias = bias;
  return f;
}

static qc_weight_only_options weight_only(const weights *w, size_t n, size_t k, int32_t granularity) {
  qc_weight_only_options options;
  OK(qc_weight_only_options_init(sizeof options, &options));
  options.weight_encoding = w->filters.encoding;
  options.n = n;
  options.k = k;
  options.weights = w->filters.words;
  options.weight_words = w->filters.n_words;
  options.scales = w->scale;
  options.n_scales = granularity == QC_PER_TENSOR ? 1 : n;
  options.scale_granularity = granularity;
  options.bias = w->bias;
  return options;
}

/* The layers of the net, and what its loops make of the images: nodes 1 .. 12, the codes as the numbers that they are. */
typedef struct net {
  weights stem, down, up, last;
  double image[PIXELS * C], stem_out[PIXELS * O], codes[PIXELS * O], down_out[IMAGES * 9 * MID];
  double signs[IMAGES * 9 * MID], up_out[PIXELS * O], sum[PIXELS * O], means[POOLED * O], coarse[POOLED * O];
  double floats[POOLED * O], both[POOLED * O], big[BIG * O], logits[IMAGES * CLASSES];
} net;

/* Windows of 2 x 2 pixels, every second one, from one pixel outside on: 1, 2 or 4 of them are inside. */
static qc_window mean_window(void) {
  qc_window window;
  OK(qc_window_init(sizeof window, &window));
  window.kernel[0] = window.kernel[1] = window.stride[0] = window.stride[1] = 2;
  window.padding[0] = window.padding[1] = window.padding[2] = 1;
  return window;
}

static qc_model *build(const net *n, const char *isa, int all) {
  qc_value_type image;
  qc_model_builder *builder = NULL;
  qc_model *model = NULL;
  qc_weight_only_options floats;
  qc_conv2d_options options;
  qc_quantizer u4 = relu(4, 0.5f), fine = relu(4, 0.25f), u2 = relu(2, 0.5f), sign;
  qc_finish finish;
  qc_window window;
  size_t made[NODES], outputs[OUTPUTS] = {1, 3, 5, 6, 7, 8, 11, 12}, logits = 12, i;
  float ones[O], zeros[O];
  for (i = 0; i < O; i++) ones[i] = 1, zeros[i] = 0;
  OK(qc_quantizer_init(sizeof sign, &sign));
  OK(qc_value_type_init(sizeof image, &image));
  image.height = H;
  image.width = W;
  image.channels = C;
  image.kind = QC_KIND_F32;
  OK(qc_model_builder_new(&image, isa, &builder));

  OK(qc_window_init(sizeof window, &window));
  window.kernel[0] = window.kernel[1] = 3;
  for (i = 0; i < 4; i++) window.padding[i] = 1;
  floats = weight_only(&n->stem, O, columns_of(&STEM), QC_PER_CHANNEL);
  OK(qc_model_builder_name(builder, "stem"));
  OK(qc_model_builder_float_conv(builder, 0, &floats, &window, &made[1]));
  OK(qc_model_builder_quantize(builder, made[1], &u4, &made[2]));

  finish = new_finish(n->down.scale, n->down.bias, QC_OUT_F32, QC_FUNCTION_CLAMP, QC_RESIDUAL_NONE);
  finish.low = -1.0f;
  finish.high = 1.5f;
  options = conv_options(&DOWN, n->down.filters, &finish);
  OK(qc_model_builder_conv(builder, made[2], &options, &made[3]));
  OK(qc_model_builder_quantize(builder, made[3], &sign, &made[4]));
  finish = new_finish(n->up.scale, n->up.bias, QC_OUT_F32, QC_FUNCTION_RELU, QC_RESIDUAL_NONE);
  options = conv_options(&UP, n->up.filters, &finish);
  OK(qc_model_builder_conv(builder, made[4], &options, &made[5]));

  finish = new_finish(ones, zeros, QC_OUT_CODES, QC_FUNCTION_CLAMP, QC_RESIDUAL_BEFORE);
  finish.low = 0.25f;
  finish.high = 3.0f;
  finish.quantizer = &fine;
  OK(qc_model_builder_add(builder, made[5], made[2], 0.5f, &finish, &made[6]));
  window = mean_window();
  OK(qc_model_builder_average_pool(builder, made[6], &window, 0.25f, NULL, &made[7]));
  OK(qc_model_builder_average_pool(builder, made[6], &window, 0.25f, &u2, &made[8]));
  OK(qc_model_builder_dequantize(builder, made[8], 0.75f, &made[9]));
  finish = new_finish(ones, zeros, QC_OUT_F32, QC_FUNCTION_RELU, QC_RESIDUAL_AFTER);
  OK(qc_model_builder_add(builder, made[7], made[9], 1.0f, &finish, &made[10]));
  OK(qc_model_builder_up_sample(builder, made[10], 2, 3, &made[11]));
  floats = weight_only(&n->last, CLASSES, BIG / IMAGES * O, QC_PER_TENSOR);
  OK(qc_model_builder_float_linear(builder, made[11], &floats, &made[12]));
  for (i = 1; i < NODES; i++) CHECK(made[i] == i);
  OK(qc_model_builder_build(builder, all ? outputs : &logits, all ? OUTPUTS : 1, &model));
  qc_model_builder_free(builder);
  return model;
}

static double level(double y, double alpha, int32_t max) {
  int32_t code = 0;
  while (code < max && y > code * alpha) code++;
  return code;
}

static double clamp(double y, double low, double high) { return y < low ? low : y > high ? high : y; }

/* scale x sum + bias of a layer of `n` channels. */
static void scaled(const shape *s, const weights *w, const double *x, double *out, size_t len) {
  double *sums = sums_of(s, IMAGES, w->filters.values, x);
  size_t i;
  for (i = 0; i < len; i++) out[i] = w->scale[i % s->o] * sums[i] + w->bias[i % s->o];
  free(sums);
}

static void by_loops(net *n) {
  size_t image, y, x, c, ky, kx, i;
  scaled(&STEM, &n->stem, n->image, n->stem_out, PIXELS * O);
  for (i = 0; i < PIXELS * O; i++) n->codes[i] = level(n->stem_out[i], 0.5, 15);
  scaled(&DOWN, &n->down, n->codes, n->down_out, IMAGES * 9 * MID);
  for (i = 0; i < IMAGES * 9 * MID; i++) {
    n->down_out[i] = clamp(n->down_out[i], -1.0, 1.5);
    n->signs[i] = n->down_out[i] >= 0 ? 1 : -1;
  }
  scaled(&UP, &n->up, n->signs, n->up_out, PIXELS * O);
  for (i = 0; i < PIXELS * O; i++) {
    n->up_out[i] = clamp(n->up_out[i], 0, 1e9);
    n->sum[i] = level(clamp(n->up_out[i] + 0.5 * n->codes[i], 0.25, 3.0), 0.25, 15);
  }
  for (image = 0, i = 0; image < IMAGES; image++)
    for (y = 0; y < MEANS_H; y++)
      for (x = 0; x < MEANS_W; x++)
        for (c = 0; c < O; c++, i++) {
          double sum = 0;
          int count = 0;
          for (ky = 0; ky < 2; ky++)
            for (kx = 0; kx < 2; kx++) {
              size_t iy = 2 * y + ky - 1, ix = 2 * x + kx - 1;
              if (iy >= H || ix >= W) continue;
              sum += n->sum[((image * H + iy) * W + ix) * O + c];
              count++;
            }
          n->means[i] = sum * 0.25 / count;
          n->coarse[i] = level(n->means[i], 0.5, 3);
          n->floats[i] = 0.75 * n->coarse[i];
          n->both[i] = n->means[i] + n->floats[i];
        }
  for (image = 0, i = 0; image < IMAGES; image++)
    for (y = 0; y < 2 * MEANS_H; y++)
      for (x = 0; x < 3 * MEANS_W; x++)
        for (c = 0; c < O; c++, i++)
          n->big[i] = n->both[((image * MEANS_H + y / 2) * MEANS_W + x / 3) * O + c];
  for (image = 0; image < IMAGES; image++)
    for (c = 0; c < CLASSES; c++) {
      const size_t k = BIG / IMAGES * O;
      double sum = 0;
      for (i = 0; i < k; i++) sum += n->last.filters.values[c * k + i] * n->big[image * k + i];
      n->logits[image * CLASSES + c] = n->last.scale[0] * sum + n->last.bias[c];
    }
}

static void same(const float *got, const double *right, size_t len) {
  size_t i;
  for (i = 0; i < len; i++) CHECK((double)got[i] == right[i]);
}

static void same_codes(int32_t encoding, const uint32_t *words, size_t n_words, size_t rows, const double *right) {
  int32_t *back = (int32_t *)room(rows * O, sizeof(int32_t));
  size_t i;
  OK(qc_unpack(encoding, rows, O, words, n_words, back, rows * O));
  for (i = 0; i < rows * O; i++) CHECK(back[i] == right[i]);
  free(back);
}

/* The logits alone, then values on the way to them. */
static void runs(const net *n, const char *isa, const float *images, size_t threads, const qc_pool *pool) {
  static float stem[PIXELS * O], down[IMAGES * 9 * MID], up[PIXELS * O], means[POOLED * O], big[BIG * O];
  static float logits[IMAGES * CLASSES], again[IMAGES * CLASSES];
  static uint32_t sum[PIXELS * 4], coarse[POOLED * 2];
  const qc_output outputs[OUTPUTS] = {{stem, PIXELS * O},   {down, IMAGES * 9 * MID}, {up, PIXELS * O},
                                      {sum, PIXELS * 4},    {means, POOLED * O},      {coarse, POOLED * 2},
                                      {big, BIG * O},       {again, IMAGES * CLASSES}};
  qc_model *model = build(n, isa, 0), *all = build(n, isa, 1);
  qc_workspace *workspace = NULL;
  OK(qc_workspace_new(model, IMAGES, threads, QC_MODE_THROUGHPUT, &workspace));
  OK(qc_model_run_f32(model, images, PIXELS * C, logits, IMAGES * CLASSES, workspace, pool));
  same(logits, n->logits, IMAGES * CLASSES);
  qc_workspace_free(workspace);

  OK(qc_workspace_new(all, 2, threads, QC_MODE_LATENCY, &workspace));
  OK(qc_model_run_outputs(all, images, PIXELS * C, outputs, OUTPUTS, workspace, pool));
  same(stem, n->stem_out, PIXELS * O);
  same(down, n->down_out, IMAGES * 9 * MID);
  same(up, n->up_out, PIXELS * O);
  same_codes(QC_U4, sum, PIXELS * 4, PIXELS, n->sum);
  same(means, n->means, POOLED * O);
  same_codes(QC_U2, coarse, POOLED * 2, POOLED, n->coarse);
  same(big, n->big, BIG * O);
  same(again, n->logits, IMAGES * CLASSES);
  qc_workspace_free(workspace);
  qc_model_free(model);
  qc_model_free(all);
}

/* Multiply-accumulates and types of the nodes; packed bytes add up. */
static void nodes(const qc_model *model, const qc_model_info *about) {
  static const size_t macs[NODES] = {0, H * W * O * 27, 0, 9 * MID * 9 * O, 0, 9 * O * 9 * MID, 0, 0, 0, 0, 0, 0,
                                     CLASSES * BIG / IMAGES * O};
  static const int32_t kinds[NODES] = {QC_KIND_F32,    QC_KIND_F32, QC_KIND_PLANES, QC_KIND_F32, QC_KIND_PLANES,
                                       QC_KIND_F32,    QC_KIND_PLANES, QC_KIND_F32, QC_KIND_PLANES, QC_KIND_F32,
                                       QC_KIND_F32,    QC_KIND_F32, QC_KIND_F32};
  size_t i, packed_bytes = 0, float_bytes = 0;
  for (i = 0; i < NODES; i++) {
    qc_node_info info;
    qc_value_type type;
    info.struct_size = sizeof info;
    type.struct_size = sizeof type;
    OK(qc_model_node(model, i, &info, &type));
    CHECK(info.struct_size == sizeof info && type.struct_size == sizeof type);
    CHECK(info.macs == macs[i] && type.kind == kinds[i]);
    CHECK((info.macs == 0) == (info.packed_bytes == 0) || i == 6 || i == 10);
    packed_bytes += info.packed_bytes;
    float_bytes += info.float_bytes;
    if (i == 5) CHECK(type.height == H && type.width == W && type.channels == O);
    if (i == 8) CHECK(type.height == MEANS_H && type.width == MEANS_W && type.encoding == QC_U2);
    if (i == 11) CHECK(type.height == 2 * MEANS_H && type.width == 3 * MEANS_W);
    OK(qc_model_node(model, i, &info, NULL));
  }
  CHECK(packed_bytes == about->packed_bytes && float_bytes == about->float_bytes);
}

static size_t lines_of(const char *text) {
  size_t lines = 0;
  for (; *text; text++) lines += *text == '\n';
  return lines;
}

/* What was measured and predicted, each by itself and side by side. */
static void times(const qc_model *model, const float *images) {
  float measured[NODES], predicted[NODES], all = 0;
  char text[6000], line[600], begin[100];
  qc_workspace *workspace = NULL;
  size_t length, i;
  OK(qc_workspace_new(model, IMAGES, 0, QC_MODE_LATENCY, &workspace));
  OK(qc_model_profile(model, images, PIXELS * C, 5, measured, NODES, workspace, NULL));
  OK(qc_model_predict(model, IMAGES, predicted, NODES));
  CHECK(measured[0] == 0);
  for (i = 0; i < NODES; i++) {
    CHECK(measured[i] >= 0 && measured[i] < 60);
    CHECK((predicted[i] > 0) == (measured[i] > 0) && predicted[i] >= 0 && predicted[i] < 1);
    all += measured[i];
  }
  CHECK(all > 0 && predicted[1] > 0);

  /* Known times in round numbers, then those that were measured. */
  for (i = 0; i < NODES; i++) measured[i] = predicted[i] = 0;
  measured[1] = 6e-6f * IMAGES;
  measured[3] = 2e-6f * IMAGES;
  predicted[1] = 1.5e-6f;
  OK(qc_model_report(model, measured, predicted, NODES, IMAGES, text, sizeof text, &length));
  CHECK(length == strlen(text) && lines_of(text) == NODES + 2);
  OK(qc_model_describe_node(model, 1, line, sizeof line, &length));
  CHECK(strncmp(line, "float_conv stem of [0], 16 x 3 x 3 x 3, ternary x f32", 53) == 0);
  CHECK(strstr(line, " -> 6 x 5 x 16 f32, 12960 MACs, ") && strstr(line, " bytes, "));
  sprintf(begin, "%11.1f  %4.0f%%  %12.1f  1: ", 6.0, 75.0, 1.5);
  CHECK(strstr(text, begin) && strncmp(strstr(text, begin) + strlen(begin), line, strlen(line)) == 0);
  sprintf(begin, "%11.1f  in all", 8.0);
  CHECK(strstr(text, begin) != NULL);
  OK(qc_model_report(model, measured, NULL, NODES, IMAGES, text, sizeof text, &length));
  CHECK(strstr(text, " 1.5 ") == NULL && lines_of(text) == NODES + 2);
  OK(qc_model_profile(model, images, PIXELS * C, 1, measured, NODES, workspace, NULL));
  OK(qc_model_report(model, measured, predicted, NODES, IMAGES, NULL, 0, &length));

  BAD(qc_model_report(model, measured, predicted, NODES, 0, text, sizeof text, &length), "images is 0");
  BAD(qc_model_report(model, measured, predicted, NODES - 1, 1, text, sizeof text, &length), "n_nodes is 12");
  IS_NULL(qc_model_report(model, NULL, predicted, NODES, 1, text, sizeof text, &length), "measured");
  IS_NULL(qc_model_report(NULL, measured, predicted, NODES, 1, text, sizeof text, &length), "model");
  IS_NULL(qc_model_report(model, measured, predicted, NODES, 1, text, sizeof text, NULL), "length");
  measured[4] = -1;
  BAD(qc_model_report(model, measured, predicted, NODES, 1, text, sizeof text, &length), "measured is -1");
  qc_workspace_free(workspace);
}

int main(void) {
  net *n = (net *)room(1, sizeof *n);
  float *images = (float *)room(PIXELS * C, sizeof(float));
  size_t isas, i;
  uint32_t seed = 77;
  qc_pool *pool = NULL;
  n->stem = new_weights(QC_TERNARY, O, columns_of(&STEM), 1);
  n->down = new_weights(QC_BIPOLAR, MID, columns_of(&DOWN), 2);
  n->up = new_weights(QC_TERNARY, O, columns_of(&UP), 3);
  n->last = new_weights(QC_S4, CLASSES, BIG / IMAGES * O, 4);
  /* The stem's sums are of few terms: larger scales. */
  for (i = 0; i < O; i++) n->stem.scale[i] *= 16;
  for (i = 0; i < PIXELS * C; i++) {
    n->image[i] = ((double)(next_random(&seed) >> 27) - 16) / 8;
    images[i] = (float)n->image[i];
  }
  by_loops(n);
  OK(qc_pool_new(2, &pool));
  OK(qc_isa_count(&isas));
  printf("nodes:");
  for (i = 0; i < isas; i++) {
    qc_isa_info info;
    qc_model_info about;
    qc_model *model;
    info.struct_size = sizeof info;
    OK(qc_isa_get(i, &info));
    if (!info.available) continue;
    printf(" %s", info.name);
    runs(n, info.name, images, 0, NULL);
    runs(n, info.name, images, 2, pool);
    model = build(n, info.name, 0);
    about.struct_size = sizeof about;
    OK(qc_model_get_info(model, &about));
    CHECK(about.nodes == NODES && about.bits == 32 && strcmp(about.isa, info.name) == 0);
    nodes(model, &about);
    times(model, images);
    qc_model_free(model);
  }
  printf("\n");
  qc_pool_free(pool);
  free_weights(n->stem);
  free_weights(n->down);
  free_weights(n->up);
  free_weights(n->last);
  free(images);
  free(n);
  return 0;
}
