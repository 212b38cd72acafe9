/* Builds a small residual net by hand, runs it, and saves it.
 *
 *   residual_net IMAGES THREADS FILE      THREADS 0: without a pool
 *
 * Writes the model to FILE, describes it, and prints the logits of an image a line, in hexadecimal. `residual_net.rs` builds
 * the same net, from the same seeds.
 */

#include "check.h"

enum { HEIGHT = 9, WIDTH = 5, CLASSES = 10 };

static qc_model_builder *builder;

static float *numbers(size_t n, float factor, uint32_t seed) {
  float *x = (float *)room(n, sizeof(float));
  size_t i;
  for (i = 0; i < n; i++) {
    x[i] = (float)((int32_t)(next_random(&seed) >> 9 & 1023) - 511) / 512.0f * factor;
  }
  return x;
}

/* What is the same for all layers; `factor` is the largest scale. */
typedef struct layer {
  size_t x, channels, kernel, stride;
  int32_t weights;
  float factor;
  int32_t function, output;
  const qc_quantizer *quantizer;
  int32_t residual_at;
  size_t residual;
  float residual_scale;
  int32_t pad;
} layer;

/* Adds a convolution, or a linear layer if the kernel is 0. */
static size_t add(layer l, uint32_t seed) {
  qc_conv2d_options options;
  qc_finish finish;
  qc_value_type type;
  packed filters;
  size_t made = 0, k, size = l.kernel > 0 ? l.kernel : 1;
  float *scale = numbers(l.channels, l.factor, seed + 1), *bias = numbers(l.channels, 1, seed + 2);
  float *slope = numbers(l.channels, 1, seed + 3), *before = numbers(l.channels, 1, seed + 4);
  float *after = numbers(l.channels, 1, seed + 5);

  type.struct_size = sizeof type;
  OK(qc_model_builder_type_of(builder, l.x, &type));
  k = size * size * type.channels * (l.kernel > 0 ? 1 : type.height * type.width);
  filters = random_packed(l.weights, l.channels, k, seed);

  OK(qc_finish_init(sizeof finish, &finish));
  finish.output = l.output;
  finish.function = l.function;
  finish.residual = l.residual_at;
  finish.scale = scale;
  finish.bias = bias;
  finish.slope = slope;
  finish.before = before;
  finish.after = after;
  finish.quantizer = l.quantizer;

  OK(qc_conv2d_options_init(sizeof options, &options));
  options.weight_encoding = l.weights;
  options.output_channels = l.channels;
  options.kernel[0] = options.kernel[1] = size;
  if (l.kernel > 0) {
    options.stride[0] = options.stride[1] = l.stride;
    options.padding[0] = options.padding[1] = options.padding[2] = options.padding[3] = size / 2;
  }
  options.pad = l.pad;
  options.filters = filters.words;
  options.filter_words = filters.n_words;
  options.finish = &finish;
  if (l.kernel == 0) {
    OK(qc_model_builder_linear(builder, l.x, &options, &made));
  } else if (l.residual_at == QC_RESIDUAL_NONE) {
    OK(qc_model_builder_conv(builder, l.x, &options, &made));
  } else {
    OK(qc_model_builder_conv_residual(builder, l.x, &options, l.residual, l.residual_scale, &made));
  }
  /* The model has copies of all. */
  memset(scale, 0xFF, l.channels * sizeof(float));
  memset(filters.words, 0xFF, filters.n_words * sizeof(uint32_t));
  free_packed(filters);
  free(scale);
  free(bias);
  free(slope);
  free(before);
  free(after);
  return made;
}

/* The net; `outputs` 1: the logits, 2: the stream before them too. */
static qc_model *build(size_t n_outputs) {
  qc_value_type image;
  qc_quantizer levels, signs, bytes;
  qc_window window;
  qc_model *model = NULL;
  size_t x, y, shortcut, stream, outputs[2], pair[2];
  layer l;

  OK(qc_value_type_init(sizeof image, &image));
  image.height = HEIGHT;
  image.width = WIDTH;
  image.channels = 3;
  OK(qc_model_builder_new(&image, NULL, &builder));

  OK(qc_quantizer_init(sizeof signs, &signs));
  OK(qc_quantizer_init(sizeof levels, &levels));
  levels.kind = QC_RELU;
  levels.bits = 2;
  levels.alpha = 0.5f;
  OK(qc_quantizer_init(sizeof bytes, &bytes));
  bytes.kind = QC_SYMMETRIC;
  bytes.bits = 8;
  bytes.alpha = 1.0f / 64.0f;

  /* The stem: 40 channels of two bits, then half of the pixels. */
  memset(&l, 0, sizeof l);
  l.channels = 40;
  l.kernel = 3;
  l.stride = 1;
  l.weights = QC_S4;
  l.factor = 0.001f;
  l.function = QC_FUNCTION_RELU;
  l.output = QC_OUT_CODES;
  l.quantizer = &levels;
  OK(qc_model_builder_name(builder, "stem"));
  x = add(l, 100);
  CHECK(x == 1);
  OK(qc_window_init(sizeof window, &window));
  window.kernel[0] = window.kernel[1] = 2;
  window.stride[0] = window.stride[1] = 2;
  OK(qc_model_builder_max_pool(builder, x, &window, &x));

  /* A block around which the codes go. */
  l.x = x;
  l.weights = QC_BIPOLAR;
  l.factor = 0.1f;
  l.function = QC_FUNCTION_PRELU;
  y = add(l, 200);
  l.x = y;
  l.function = QC_FUNCTION_RELU;
  l.residual_at = QC_RESIDUAL_BEFORE;
  l.residual = x;
  l.residual_scale = 0.5f;
  x = add(l, 300);

  /* A block of half the size, around which a convolution of one pixel goes, in floats of 16 bits. */
  l.residual_at = QC_RESIDUAL_NONE;
  l.x = x;
  l.channels = 64;
  l.kernel = 1;
  l.stride = 2;
  l.output = QC_OUT_F16;
  l.function = QC_FUNCTION_IDENTITY;
  l.quantizer = NULL;
  shortcut = add(l, 400);
  l.kernel = 3;
  l.output = QC_OUT_CODES;
  l.quantizer = &signs;
  y = add(l, 500);
  l.x = y;
  l.stride = 1;
  l.weights = QC_TERNARY;
  l.pad = QC_PAD_PLUS_ONE;
  l.function = QC_FUNCTION_RPRELU;
  l.output = QC_OUT_BF16;
  l.residual_at = QC_RESIDUAL_AFTER;
  l.residual = shortcut;
  l.residual_scale = 1.0f;
  stream = add(l, 600);

  /* Its signs beside those inside of the block, their mean, and the classes. */
  OK(qc_model_builder_quantize(builder, stream, &signs, &x));
  pair[0] = y;
  pair[1] = x;
  OK(qc_model_builder_concat(builder, pair, 2, &x));
  OK(qc_model_builder_global_average_pool(builder, x, 1.0f, NULL, &x));
  OK(qc_model_builder_quantize_bytes(builder, x, &bytes, &x));
  memset(&l, 0, sizeof l);
  l.x = x;
  l.channels = CLASSES;
  l.weights = QC_S8;
  l.factor = 0.001f;
  l.output = QC_OUT_F32;
  OK(qc_model_builder_name(builder, "classes"));
  outputs[0] = add(l, 700);
  outputs[1] = stream;
  OK(qc_model_builder_build(builder, outputs, n_outputs, &model));
  qc_model_builder_free(builder);
  return model;
}

/* The float whose upper half this is. */
static float upper_half(uint16_t half) {
  uint32_t bits = (uint32_t)half << 16;
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

int main(int argc, char **argv) {
  qc_model *model, *both;
  qc_workspace *workspace = NULL;
  qc_pool *pool = NULL;
  qc_model_info info;
  qc_memory memory;
  qc_value_type type;
  qc_output outputs[2];
  uint8_t *images, *bytes, *saved;
  float *logits, *again;
  uint16_t *stream;
  size_t n_bytes, count, i, j, len, n_saved;
  size_t threads;

  CHECK(argc == 4);
  threads = (size_t)atoi(argv[2]);
  if (threads > 0) OK(qc_pool_new(threads, &pool));
  images = read_file(argv[1], &n_bytes);
  count = n_bytes / (HEIGHT * WIDTH * 3);
  model = build(1);
  both = build(2);

  /* The model in its file and in memory is the same. */
  OK(qc_model_save(model, argv[3]));
  OK(qc_model_to_bytes(model, NULL, 0, &len));
  bytes = (uint8_t *)room(len, 1);
  OK(qc_model_to_bytes(model, bytes, len, &len));
  saved = read_file(argv[3], &n_saved);
  CHECK(n_saved == len && memcmp(saved, bytes, len) == 0);
  free(saved);
  free(bytes);

  info.struct_size = sizeof info;
  OK(qc_model_get_info(model, &info));
  CHECK(info.inputs == HEIGHT * WIDTH * 3 && info.n_outputs == 1 && info.outputs == CLASSES);
  logits = (float *)room(count * CLASSES, sizeof(float));
  again = (float *)room(count * CLASSES, sizeof(float));
  memory.struct_size = sizeof memory;
  OK(qc_model_memory(model, count, threads, QC_MODE_THROUGHPUT, &memory));
  OK(qc_workspace_new(model, count, threads, QC_MODE_THROUGHPUT, &workspace));
  OK(qc_workspace_bytes(workspace, &len));
  CHECK(memory.workspace_bytes == len && memory.peak_bytes + memory.scratch_bytes <= len);
  CHECK(memory.peak_bytes >= count * 40 * 2 && memory.weight_bytes == info.packed_bytes);
  OK(qc_model_run(model, images, n_bytes, logits, count * CLASSES, workspace, pool));
  qc_workspace_free(workspace);

  /* Image by image, and with the stream as a second output. */
  type.struct_size = sizeof type;
  OK(qc_model_output_type(both, 1, &type));
  CHECK(type.height == 2 && type.width == 1 && type.channels == 64 && type.kind == QC_KIND_BF16);
  stream = (uint16_t *)room(count * 128, sizeof(uint16_t));
  outputs[0].data = again;
  outputs[0].len = count * CLASSES;
  outputs[1].data = stream;
  outputs[1].len = count * 128;
  OK(qc_workspace_new(both, 1, threads, QC_MODE_LATENCY, &workspace));
  OK(qc_model_run_outputs(both, images, n_bytes, outputs, 2, workspace, pool));
  CHECK(memcmp(logits, again, count * CLASSES * sizeof(float)) == 0);
  qc_workspace_free(workspace);

  printf("%s %zu nodes\n", info.isa, info.nodes);
  for (i = 0; i < count; i++) {
    for (j = 0; j < CLASSES; j++) printf(" %a", (double)logits[i * CLASSES + j]);
    for (j = 0; j < 128; j++) printf(" %a", (double)upper_half(stream[i * 128 + j]));
    printf("\n");
  }
  free(stream);
  free(again);
  free(logits);
  free(images);
  qc_model_free(model);
  qc_model_free(both);
  qc_pool_free(pool);
  return 0;
}
