/* Every way for models to be refused: loading, running, and node after node of building.
 *
 *   model_errors FILE IMAGES
 */

#include <math.h>

#include "refused.h"

static void models(const char *path, const char *images_path) {
  size_t len, n_bytes, n = UNTOUCHED, n_logits, image, i;
  uint8_t *bytes = read_file(path, &len), *images = read_file(images_path, &n_bytes);
  qc_model *none = (qc_model *)&n, *model = NULL;
  qc_workspace *no_workspace = (qc_workspace *)&n, *workspace = NULL, *empty = NULL;
  qc_model_info info;
  qc_memory memory;
  qc_node_info node;
  qc_value_type type;
  qc_output output;
  float seconds[1] = {0};
  float *logits;
  size_t cuts[] = {0, 1, 8, 100};
  char buf[8];

  IS_NULL(qc_model_load(NULL, &none), "path");
  IS_NULL(qc_model_load(path, NULL), "model");
  REFUSED(qc_model_load("no/such/file.qcore", &none), QC_ERROR_IO, "no/such/file.qcore");
  REFUSED(qc_model_load(images_path, &none), QC_ERROR_FORMAT, images_path);
  IS_NULL(qc_model_load_memory(NULL, len, &none), "bytes");
  IS_NULL(qc_model_load_memory(bytes, len, NULL), "model");
  for (i = 0; i < sizeof cuts / sizeof *cuts; i++) {
    REFUSED(qc_model_load_memory(bytes, cuts[i], &none), QC_ERROR_FORMAT, "not a whole");
  }
  REFUSED(qc_model_load_memory(bytes, len - 1, &none), QC_ERROR_FORMAT, "not a whole");
  REFUSED(qc_model_load_memory(NULL, 0, &none), QC_ERROR_FORMAT, "the model's bytes");
  REFUSED(qc_model_load_memory((const uint8_t *)"GIF89a and more", 15, &none), QC_ERROR_FORMAT,
          "not a whole");
  bytes[len - 1] ^= 1;
  REFUSED(qc_model_load_memory(bytes, len, &none), QC_ERROR_FORMAT, "damaged");
  bytes[len - 1] ^= 1;
  CHECK(none == (qc_model *)&n);

  OK(qc_model_load_memory(bytes, len, &model));
  memset(&info, 0, sizeof info);
  IS_NULL(qc_model_get_info(NULL, &info), "model");
  IS_NULL(qc_model_get_info(model, NULL), "info");
  BAD(qc_model_get_info(model, &info), "struct_size is 0");
  CHECK(info.height == 0);
  info.struct_size = sizeof info;
  OK(qc_model_get_info(model, &info));
  image = info.height * info.width * info.channels;
  IS_NULL(qc_model_describe(NULL, buf, sizeof buf, &n), "model");
  IS_NULL(qc_model_describe(model, NULL, 1, &n), "buf");
  IS_NULL(qc_model_describe(model, buf, sizeof buf, NULL), "length");
  IS_NULL(qc_workspace_new(NULL, 1, 1, QC_MODE_LATENCY, &no_workspace), "model");
  IS_NULL(qc_workspace_new(model, 1, 1, QC_MODE_LATENCY, NULL), "workspace");
  BAD(qc_workspace_new(model, SIZE_MAX, 1, QC_MODE_LATENCY, &no_workspace), "images is");
  BAD(qc_workspace_new(model, 1, SIZE_MAX, QC_MODE_THROUGHPUT, &no_workspace), "is");
  BAD(qc_workspace_new(model, 1, 1, 2, &no_workspace), "mode is 2");
  IS_NULL(qc_workspace_bytes(NULL, &n), "workspace");
  memory.struct_size = 8;
  BAD(qc_model_memory(model, 1, 1, QC_MODE_LATENCY, &memory), "struct_size is 8");
  memory.struct_size = sizeof memory;
  IS_NULL(qc_model_memory(NULL, 1, 1, QC_MODE_LATENCY, &memory), "model");
  IS_NULL(qc_model_memory(model, 1, 1, QC_MODE_LATENCY, NULL), "memory");
  BAD(qc_model_memory(model, SIZE_MAX, 1, QC_MODE_LATENCY, &memory), "images is");
  BAD(qc_model_memory(model, 1, 1, 2, &memory), "mode is 2");
  IS_NULL(qc_model_save(NULL, path), "model");
  IS_NULL(qc_model_save(model, NULL), "path");
  REFUSED(qc_model_save(model, "no/such/folder/net.qcore"), QC_ERROR_IO, "no/such/folder");
  IS_NULL(qc_model_to_bytes(NULL, bytes, len, &n), "model");
  IS_NULL(qc_model_to_bytes(model, NULL, len, &n), "bytes");
  IS_NULL(qc_model_to_bytes(model, bytes, len, NULL), "length");
  type.struct_size = 0;
  BAD(qc_model_input_type(model, &type), "struct_size is 0");
  type.struct_size = sizeof type;
  IS_NULL(qc_model_input_type(NULL, &type), "model");
  IS_NULL(qc_model_input_type(model, NULL), "value_type");
  BAD(qc_model_output_type(model, 1, &type), "index is 1; expected below 1");
  node.struct_size = sizeof node;
  IS_NULL(qc_model_node(NULL, 0, &node, &type), "model");
  IS_NULL(qc_model_node(model, 0, NULL, &type), "info");
  BAD(qc_model_node(model, info.nodes, &node, NULL), "index is");
  BAD(qc_model_describe_node(model, info.nodes, buf, sizeof buf, &n), "index is");
  BAD(qc_model_predict(model, 1, seconds, info.nodes + 1), "n_nodes is");
  BAD(qc_model_predict(model, 0, seconds, info.nodes), "images is 0");
  IS_NULL(qc_model_predict(model, 1, NULL, info.nodes), "seconds");
  CHECK(n == UNTOUCHED && no_workspace == (qc_workspace *)&n);

  OK(qc_workspace_new(model, 2, 1, QC_MODE_LATENCY, &workspace));
  OK(qc_workspace_new(model, 0, 1, QC_MODE_LATENCY, &empty));
  n_logits = n_bytes / image * info.outputs;
  logits = (float *)room(n_logits, sizeof(float));
  logits[0] = 7;
  IS_NULL(qc_model_run(NULL, images, n_bytes, logits, n_logits, workspace, NULL), "model");
  IS_NULL(qc_model_run(model, NULL, n_bytes, logits, n_logits, workspace, NULL), "images");
  IS_NULL(qc_model_run(model, images, n_bytes, NULL, n_logits, workspace, NULL), "logits");
  IS_NULL(qc_model_run(model, images, n_bytes, logits, n_logits, NULL, NULL), "workspace");
  BAD(qc_model_run(model, images, n_bytes - 1, logits, n_logits, workspace, NULL), "images is");
  BAD(qc_model_run(model, images, n_bytes, logits, n_logits - 1, workspace, NULL), "logits is");
  BAD(qc_model_run(model, images, n_bytes, logits, n_logits, empty, NULL), "workspace is");
  if (info.bits < 8) {
    /* In the last image, so that batches before it are in order. */
    uint8_t last = images[n_bytes - 1];
    images[n_bytes - 1] = 255;
    BAD(qc_model_run(model, images, n_bytes, logits, n_logits, workspace, NULL), "images is 255");
    images[n_bytes - 1] = last;
  }
  output.data = logits;
  output.len = n_logits;
  IS_NULL(qc_model_run_outputs(model, NULL, n_bytes, &output, 1, workspace, NULL), "images");
  IS_NULL(qc_model_run_outputs(model, images, n_bytes, NULL, 1, workspace, NULL), "outputs");
  BAD(qc_model_run_outputs(model, images, n_bytes, &output, 0, workspace, NULL), "n_outputs is 0");
  output.len--;
  BAD(qc_model_run_outputs(model, images, n_bytes, &output, 1, workspace, NULL), "out is");
  BAD(qc_model_run_f32(model, logits, image, logits, info.outputs, workspace, NULL), "images is f32");
  BAD(qc_model_profile(model, images, n_bytes, 1, seconds, 1, workspace, NULL), "n_nodes is 1");
  CHECK(logits[0] == 7);
  OK(qc_model_run(model, images, n_bytes, logits, n_logits, workspace, NULL));

  qc_model_free(model);
  qc_workspace_free(workspace);
  qc_workspace_free(empty);
  free(bytes);
  free(images);
  free(logits);
}

/* A convolution of 4 x 4 pixels of 3 channels of 8 bits, refused for one thing after the other. */
static void building(void) {
  qc_model_builder *builder = NULL;
  qc_value_type image;
  qc_conv2d_options conv;
  qc_weight_only_options weights;
  qc_finish finish;
  qc_quantizer signs, levels;
  qc_window window;
  qc_model *model = NULL;
  packed filters = random_packed(QC_BIPOLAR, 8, 27, 5), square = random_packed(QC_BIPOLAR, 8, 8, 6);
  float scale[8] = {1, 1, 1, 1, 1, 1, 1, 1}, bias[8] = {0}, bad[8] = {0};
  size_t value = UNTOUCHED, x = 0, stream = 0, halves = 0, values[9] = {0};
  char seen[64];

  OK(qc_value_type_init(sizeof image, &image));
  image.height = 4;
  image.width = 4;
  image.channels = 3;
  IS_NULL(qc_model_builder_new(NULL, NULL, &builder), "image");
  IS_NULL(qc_model_builder_new(&image, NULL, NULL), "builder");
  REFUSED(qc_model_builder_new(&image, "sse9", &builder), QC_ERROR_ISA, "sse9");
  image.kind = 9;
  BAD(qc_model_builder_new(&image, NULL, &builder), "kind is 9");
  image.kind = QC_KIND_PLANES;
  BAD(qc_model_builder_new(&image, NULL, &builder), "image is");
  image.kind = QC_KIND_BYTES;
  image.encoding = 99;
  BAD(qc_model_builder_new(&image, NULL, &builder), "encoding is 99");
  image.encoding = QC_U8;
  image.height = 0;
  BAD(qc_model_builder_new(&image, NULL, &builder), "height is 0");
  image.height = 4;
  CHECK(builder == NULL);
  OK(qc_model_builder_new(&image, NULL, &builder));
  IS_NULL(qc_model_builder_type_of(builder, 0, NULL), "value_type");
  BAD(qc_model_builder_type_of(builder, 1, &image), "value is 1");
  IS_NULL(qc_model_builder_name(builder, NULL), "name");
  BAD(qc_model_builder_name(builder, "\xff\xfe"), "UTF-8");

  OK(qc_quantizer_init(sizeof signs, &signs));
  OK(qc_quantizer_init(sizeof levels, &levels));
  levels.kind = QC_RELU;
  levels.bits = 2;
  OK(qc_finish_init(sizeof finish, &finish));
  finish.output = QC_OUT_CODES;
  finish.scale = scale;
  finish.bias = bias;
  finish.quantizer = &signs;
  OK(qc_conv2d_options_init(sizeof conv, &conv));
  conv.output_channels = 8;
  conv.kernel[0] = conv.kernel[1] = 3;
  conv.filters = filters.words;
  conv.filter_words = filters.n_words;
  conv.finish = &finish;
  IS_NULL(qc_model_builder_conv(NULL, 0, &conv, &value), "builder");
  IS_NULL(qc_model_builder_conv(builder, 0, NULL, &value), "options");
  IS_NULL(qc_model_builder_conv(builder, 0, &conv, NULL), "value");
  BAD(qc_model_builder_conv(builder, 1, &conv, &value), "x is 1");
  conv.filter_words--;
  BAD(qc_model_builder_conv(builder, 0, &conv, &value), "filter_words is");
  conv.filter_words++;
  conv.groups = 0;
  BAD(qc_model_builder_conv(builder, 0, &conv, &value), "groups is 0");
  conv.groups = 1;
  conv.pad = QC_PAD_PLUS_ONE;
  OK(qc_model_builder_name(builder, "stem"));
  BAD(qc_model_builder_conv(builder, 0, &conv, &value), "conv stem");
  conv.pad = QC_PAD_ZERO;
  finish.residual = QC_RESIDUAL_BEFORE;
  BAD(qc_model_builder_conv(builder, 0, &conv, &value), "residual is");
  BAD(qc_model_builder_conv_residual(builder, 0, &conv, 7, 1, &value), "residual is 7");
  BAD(qc_model_builder_conv_residual(builder, 0, &conv, 0, 1, &value), "residual is");
  finish.residual = QC_RESIDUAL_NONE;
  BAD(qc_model_builder_linear(builder, 0, &conv, &value), "options is those of a convolution");
  bad[3] = NAN;
  finish.bias = bad;
  BAD(qc_model_builder_conv(builder, 0, &conv, &value), "bias is NaN at 3");
  finish.bias = bias;
  CHECK(value == UNTOUCHED);
  OK(qc_model_builder_conv(builder, 0, &conv, &x));
  CHECK(x == 1);
  finish.output = QC_OUT_F32;
  OK(qc_model_builder_conv(builder, 0, &conv, &stream));

  /* Floats where codes are wanted, and the other way round. */
  conv.kernel[0] = conv.kernel[1] = 1;
  conv.filters = square.words;
  BAD(qc_model_builder_conv(builder, stream, &conv, &value), "conv");
  BAD(qc_model_builder_quantize(builder, x, &signs, &value), "quantize");
  IS_NULL(qc_model_builder_quantize(builder, stream, NULL, &value), "quantizer");
  BAD(qc_model_builder_quantize_bytes(builder, stream, &signs, &value), "sign");
  BAD(qc_model_builder_dequantize(builder, stream, 1, &value), "dequantize");
  BAD(qc_model_builder_dequantize(builder, x, INFINITY, &value), "scale is inf");
  OK(qc_weight_only_options_init(sizeof weights, &weights));
  weights.n = 8;
  weights.k = 27;
  weights.weights = filters.words;
  weights.weight_words = filters.n_words;
  weights.scales = scale;
  weights.n_scales = 1;
  OK(qc_window_init(sizeof window, &window));
  finish.output = QC_OUT_F16;
  OK(qc_model_builder_apply(builder, stream, &finish, &halves));
  OK(qc_model_builder_type_of(builder, halves, &image));
  CHECK(image.kind == QC_KIND_F16 && image.encoding == 0 && image.channels == 8);
  BAD(qc_model_builder_float_linear(builder, x, &weights, &value), "expected f32, f16 or bf16");
  BAD(qc_model_builder_dequantize(builder, halves, 1, &value), "expected codes");
  finish.output = QC_OUT_F32;
  window.kernel[0] = 9;
  IS_NULL(qc_model_builder_float_conv(builder, stream, NULL, &window, &value), "weights");
  IS_NULL(qc_model_builder_float_conv(builder, stream, &weights, NULL, &value), "window");
  BAD(qc_model_builder_float_conv(builder, stream, &weights, &window, &value), "float_conv");
  BAD(qc_model_builder_float_linear(builder, stream, &weights, &value), "is 27");
  BAD(qc_model_builder_max_pool(builder, x, &window, &value), "max_pool");
  BAD(qc_model_builder_average_pool(builder, x, &window, 1, NULL, &value), "average_pool");
  window.kernel[0] = 1;
  window.reserved = 1;
  BAD(qc_model_builder_max_pool(builder, x, &window, &value), "reserved is 1");
  levels.kind = QC_SYMMETRIC;
  levels.bits = 1;
  BAD(qc_model_builder_global_average_pool(builder, x, 1, &levels, &value), "bits is 1");
  values[0] = x;
  values[1] = stream;
  BAD(qc_model_builder_concat(builder, values, 2, &value), "concat");
  BAD(qc_model_builder_concat(builder, NULL, 0, &value), "concat");
  IS_NULL(qc_model_builder_concat(builder, NULL, 1, &value), "values");
  BAD(qc_model_builder_up_sample(builder, x, 0, 1, &value), "up_sample");
  BAD(qc_model_builder_flatten(builder, 17, &value), "x is 17");
  IS_NULL(qc_model_builder_apply(builder, x, NULL, &value), "finish");
  BAD(qc_model_builder_add(builder, x, 9, 1, &finish, &value), "b is 9");
  CHECK(value == UNTOUCHED);

  IS_NULL(qc_model_builder_build(builder, NULL, 1, &model), "outputs");
  BAD(qc_model_builder_build(builder, NULL, 0, &model), "n_outputs is 0");
  BAD(qc_model_builder_build(builder, values, 9, &model), "n_outputs is 9");
  values[1] = 4;
  BAD(qc_model_builder_build(builder, values, 2, &model), "outputs is 4");
  IS_NULL(qc_model_builder_build(builder, values, 1, NULL), "model");
  CHECK(model == NULL);
  OK(qc_model_builder_build(builder, &stream, 1, &model));
  BAD(qc_model_builder_flatten(builder, x, &value), "builder is built already");
  BAD(qc_model_builder_build(builder, &stream, 1, &model), "builder is built already");
  CHECK(strstr(qc_last_error(), "used up") != NULL);
  OK(qc_model_describe_node(model, 1, seen, sizeof seen, &value));
  CHECK(strncmp(seen, "conv", 4) == 0);
  qc_model_free(model);
  qc_model_builder_free(builder);
  free_packed(filters);
  free_packed(square);
}

int main(int argc, char **argv) {
  CHECK(argc == 3);
  qc_model_free(NULL);
  qc_workspace_free(NULL);
  qc_model_builder_free(NULL);
  models(argv[1], argv[2]);
  building();
  printf("model_errors: all refused by name\n");
  return 0;
}
