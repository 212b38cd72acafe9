/* Trains a net on the built-in digits by a recipe: by whole epochs, then step by step with batches of its own; stops half-way,
 * resumes, freezes, runs the frozen model; then everything that is to be refused.
 *
 *   train FOLDER THREADS [quick]      THREADS 0: without a pool; quick: few images, and nothing is asked of the accuracy
 *
 * Leaves whole.safetensors, the checkpoint of the run by whole epochs, and model.safetensors in the folder. Prints one line.
 */

#include "refused.h"

#include <math.h>

/* The recipe of both runs, as changes to the default. */
static const char *const CHANGES =
    "arch = \"64-32\"\nbits_a = 2\nfloat_epochs = 2\nepochs = 4\nbatch = 50\nrule = \"binary-connect\"\n";

enum { SIDE = 28, PIXELS = SIDE * SIDE, CLASSES = 10, BATCH = 50, EPOCHS = 6, SEED = 5 };

typedef struct data {
  uint8_t *images, *labels;
  size_t count;
} data;

static data digits(int32_t half, size_t count) {
  data d;
  d.images = (uint8_t *)room(count, PIXELS);
  d.labels = (uint8_t *)room(count, 1);
  d.count = count;
  OK(qc_digits(SEED, half, count, d.images, d.labels, NULL));
  return d;
}

static void free_data(data d) {
  free(d.images);
  free(d.labels);
}

static qc_trainer_options options_for(size_t images) {
  qc_trainer_options options;
  OK(qc_trainer_options_init(sizeof options, &options));
  CHECK(options.struct_size == sizeof options && options.height == SIDE && options.seed == 0);
  options.images = images;
  options.seed = SEED;
  return options;
}

static qc_trainer *new_trainer(const char *changes, size_t images) {
  qc_trainer_options options = options_for(images);
  qc_trainer *trainer = NULL;
  OK(qc_trainer_new(NULL, changes, &options, &trainer));
  CHECK(trainer != NULL);
  return trainer;
}

static qc_trainer_info info_of(qc_trainer *trainer) {
  qc_trainer_info info;
  info.struct_size = sizeof info;
  OK(qc_trainer_get_info(trainer, &info));
  CHECK(info.struct_size == sizeof info);
  return info;
}

/* FOLDER/name */
static const char *path_in(const char *folder, const char *name, char *path, size_t len) {
  CHECK((size_t)snprintf(path, len, "%s/%s", folder, name) < len);
  return path;
}

static int same_files(const char *a, const char *b) {
  size_t a_len, b_len;
  uint8_t *a_bytes = read_file(a, &a_len), *b_bytes = read_file(b, &b_len);
  int same = a_len == b_len && memcmp(a_bytes, b_bytes, a_len) == 0;
  free(a_bytes);
  free(b_bytes);
  return same;
}

/* All epochs that are left, whole. */
static void epochs(qc_trainer *trainer, data train, size_t count, const qc_pool *pool) {
  size_t done = info_of(trainer).epoch, i;
  for (i = 0; i < count; i++) {
    qc_epoch_report report;
    report.struct_size = sizeof report;
    OK(qc_trainer_epoch(trainer, train.images, train.labels, train.count, &report, pool));
    CHECK(report.struct_size == sizeof report && report.epoch == done + i + 1);
    CHECK(report.epochs == EPOCHS && report.steps == train.count / BATCH);
    CHECK(report.phase == (report.epoch <= 2 ? QC_PHASE_FLOAT : QC_PHASE_QUANTIZED));
    CHECK(report.more == (report.epoch < EPOCHS) && report.loss > 0 && report.lr > 0);
    CHECK((report.flip_ratio > 0) == (report.phase == QC_PHASE_QUANTIZED));
  }
}

/* An epoch step by step: batches in an order that follows from `epoch`, the same for every trainer. */
static float epoch_by_steps(qc_trainer *trainer, data train, uint32_t epoch, const qc_pool *pool) {
  size_t *order = (size_t *)room(train.count, sizeof(size_t)), i, j, right = 0;
  uint8_t *images = (uint8_t *)room(BATCH, PIXELS), labels[BATCH];
  uint32_t random = 77 + epoch;
  qc_epoch_report report;
  double sum = 0;
  for (i = 0; i < train.count; i++) order[i] = i;
  for (i = train.count - 1; i > 0; i--) {
    size_t other = next_random(&random) % (i + 1), kept = order[i];
    order[i] = order[other];
    order[other] = kept;
  }
  for (i = 0; i + BATCH <= train.count; i += BATCH) {
    float loss = -1;
    size_t correct = BATCH + 1;
    for (j = 0; j < BATCH; j++) {
      memcpy(images + j * PIXELS, train.images + order[i + j] * PIXELS, PIXELS);
      labels[j] = train.labels[order[i + j]];
    }
    CHECK(info_of(trainer).step == i / BATCH);
    /* Nobody has to ask for the numbers. */
    if (i == BATCH) OK(qc_trainer_step(trainer, images, labels, BATCH, NULL, NULL, pool));
    else {
      OK(qc_trainer_step(trainer, images, labels, BATCH, &loss, &correct, pool));
      CHECK(loss >= 0 && correct <= BATCH);
      sum += loss;
      right += correct;
    }
  }
  report.struct_size = sizeof report;
  OK(qc_trainer_end_epoch(trainer, &report));
  CHECK(report.epoch == epoch && report.steps == train.count / BATCH);
  CHECK((double)report.loss >= sum / (double)report.steps && (double)report.accuracy * (double)train.count + 0.5 >= (double)right);
  free(order);
  free(images);
  return report.loss;
}

/* Whether every tensor of the two is the same, bit for bit. */
static int same_tensors(qc_trainer *a, qc_trainer *b) {
  size_t length, tensors = 0;
  char *text, *line;
  int same = 1;
  OK(qc_trainer_describe(a, NULL, 0, &length));
  text = (char *)room(length, 1);
  OK(qc_trainer_describe(a, text, length + 1, &length));
  CHECK(strlen(text) == length && strncmp(text, "64-32: images of 28 x 28 x 1 in 10 classes", 42) == 0);
  for (line = strchr(text, '\n') + 1; *line; tensors++) {
    size_t told = 0, elements;
    char *space = strchr(line, ' '), *end = strchr(line, '\n');
    float *values[2];
    CHECK(space != NULL && end != NULL && space < end);
    *space = *end = 0;
    elements = (size_t)atol(space + 1);
    values[0] = (float *)room(elements, sizeof(float));
    values[1] = (float *)room(elements, sizeof(float));
    OK(qc_trainer_tensor(a, line, values[0], elements, &told));
    OK(qc_trainer_tensor(b, line, values[1], elements, &told));
    CHECK(told == elements);
    same = same && memcmp(values[0], values[1], elements * sizeof(float)) == 0;
    free(values[0]);
    free(values[1]);
    line = end + 1;
  }
  CHECK(tensors == info_of(a).tensors && tensors > 8);
  free(text);
  return same;
}

/* The frozen model of the trainer, out of a file, gives the logits of the trainer. */
static void check_frozen(qc_trainer *trainer, data test, const char *path, const qc_pool *pool) {
  size_t n = test.count * CLASSES, i, j, right = 0, correct;
  float *logits = (float *)room(n, sizeof(float)), *again = (float *)room(n, sizeof(float)), loss;
  double sum = 0;
  qc_model *frozen = NULL, *model = NULL;
  qc_workspace *workspace = NULL;
  OK(qc_trainer_freeze(trainer, &frozen));
  OK(qc_model_save(frozen, path));
  qc_model_free(frozen);
  OK(qc_model_load(path, &model));
  OK(qc_workspace_new(model, 64, 1, QC_MODE_LATENCY, &workspace));
  OK(qc_model_run(model, test.images, test.count * PIXELS, again, n, workspace, NULL));
  OK(qc_trainer_predict(trainer, test.images, test.count, logits, n, pool));
  CHECK(memcmp(logits, again, n * sizeof(float)) == 0);
  OK(qc_trainer_evaluate(trainer, test.images, test.labels, test.count, &loss, &correct, pool));
  /* What is right, and the cross-entropy, are of these logits. */
  for (i = 0; i < test.count; i++) {
    const float *z = logits + i * CLASSES;
    size_t best = 0;
    double total = 0;
    for (j = 1; j < CLASSES; j++) {
      if (z[j] > z[best]) best = j;
    }
    for (j = 0; j < CLASSES; j++) total += exp((double)z[j] - (double)z[best]);
    sum += log(total) + (double)z[best] - (double)z[test.labels[i]];
    right += best == test.labels[i];
  }
  CHECK(right == correct && fabs(sum / (double)test.count - (double)loss) < 1e-4 * (1 + (double)loss));
  qc_workspace_free(workspace);
  qc_model_free(model);
  free(logits);
  free(again);
}

static double accuracy(qc_trainer *trainer, data test, const qc_pool *pool) {
  size_t correct;
  OK(qc_trainer_evaluate(trainer, test.images, test.labels, test.count, NULL, &correct, pool));
  return (double)correct / (double)test.count;
}

/* Whole epochs, and the same with a stop at each: the bits of the file. */
static double by_epochs(const char *folder, data train, data test, const qc_pool *pool) {
  char whole[512], stopped[512], model[512];
  qc_trainer *trainer = new_trainer(CHANGES, train.count);
  qc_trainer_info info = info_of(trainer);
  double reached;
  size_t i;
  CHECK(info.weights == 784 * 64 + 64 * 32 + 32 * 10 && info.parameters > info.weights);
  CHECK(info.height == SIDE && info.channels == 1 && info.classes == CLASSES && info.seed == SEED);
  CHECK(info.batch == BATCH && info.steps == train.count / BATCH && info.epochs == EPOCHS);
  CHECK(info.float_epochs == 2 && info.phase == QC_PHASE_FLOAT && !info.packed && info.isa != NULL);
  epochs(trainer, train, EPOCHS, pool);
  info = info_of(trainer);
  CHECK(info.epoch == EPOCHS && info.phase == QC_PHASE_QUANTIZED && info.packed);
  OK(qc_trainer_save(trainer, path_in(folder, "whole.safetensors", whole, sizeof whole)));
  check_frozen(trainer, test, path_in(folder, "model.safetensors", model, sizeof model), pool);
  reached = accuracy(trainer, test, pool);
  qc_trainer_free(trainer);

  path_in(folder, "stopped.safetensors", stopped, sizeof stopped);
  trainer = new_trainer(CHANGES, train.count);
  for (i = 0; i < EPOCHS; i++) {
    CHECK(info_of(trainer).epoch == i);
    /* Without the pool: threads change no bit. */
    epochs(trainer, train, 1, NULL);
    OK(qc_trainer_save(trainer, stopped));
    CHECK(same_files(whole, stopped) == (i == EPOCHS - 1));
    qc_trainer_free(trainer);
    trainer = NULL;
    OK(qc_trainer_resume(stopped, train.count, &trainer));
  }
  qc_trainer_free(trainer);
  return reached;
}

/* Step by step; the second trainer goes on from where the first was half-way. */
static double by_steps(const char *folder, data train, data test, const qc_pool *pool) {
  char half[512], ends[2][512];
  qc_trainer *first = new_trainer(CHANGES, train.count), *second = NULL;
  float first_loss = 0, last_loss = 0;
  uint32_t epoch;
  double reached;
  path_in(folder, "half.safetensors", half, sizeof half);
  path_in(folder, "first.safetensors", ends[0], sizeof ends[0]);
  path_in(folder, "second.safetensors", ends[1], sizeof ends[1]);
  for (epoch = 1; epoch <= EPOCHS; epoch++) {
    last_loss = epoch_by_steps(first, train, epoch, pool);
    if (epoch == 1) first_loss = last_loss;
    if (epoch == EPOCHS / 2) OK(qc_trainer_save(first, half));
  }
  CHECK(last_loss < first_loss);
  BAD(qc_trainer_resume(half, train.count + 1, &second), "as many as");
  CHECK(second == NULL);
  OK(qc_trainer_resume(half, train.count, &second));
  CHECK(info_of(second).epoch == EPOCHS / 2 && !same_tensors(first, second));
  for (epoch = EPOCHS / 2 + 1; epoch <= EPOCHS; epoch++) epoch_by_steps(second, train, epoch, NULL);
  CHECK(same_tensors(first, second));
  OK(qc_trainer_save(first, ends[0]));
  OK(qc_trainer_save(second, ends[1]));
  CHECK(same_files(ends[0], ends[1]) && !same_files(ends[0], half));
  check_frozen(second, test, half, pool);
  reached = accuracy(first, test, pool);
  qc_trainer_free(first);
  qc_trainer_free(second);
  return reached;
}

static void refuses_recipes(void) {
  qc_trainer_options options = options_for(100), wrong;
  qc_trainer *trainer = NULL;
  size_t length;
  char text[64];
  BAD(qc_trainer_new("lenet5-bgcd", NULL, &options, &trainer), "did you mean lenet5-bcgd?");
  REFUSED(qc_trainer_new("no/such.toml", NULL, &options, &trainer), QC_ERROR_IO, "no/such.toml");
  REFUSED(qc_trainer_new(NULL, "lr = 0.1\nepoch = 3", &options, &trainer), QC_ERROR_FORMAT,
          "changes: line 2: a field is 'epoch'");
  REFUSED(qc_trainer_new(NULL, "epoch = 3", &options, &trainer), QC_ERROR_FORMAT, "did you mean epochs?");
  REFUSED(qc_trainer_new("mlp-blaq", "optimizer = \"sgd\"", &options, &trainer), QC_ERROR_FORMAT,
          "adam with a loss-aware rule");
  BAD(qc_trainer_new(NULL, "batch = 101", &options, &trainer),
      "batch is 101; expected at most the 100 training images");
  BAD(qc_trainer_new(NULL, "max_shift = 28\nbatch = 50", &options, &trainer), "max_shift is 28");
  IS_NULL(qc_trainer_new(NULL, NULL, NULL, &trainer), "options");
  IS_NULL(qc_trainer_new(NULL, NULL, &options, NULL), "trainer");
  wrong = options;
  wrong.classes = 257;
  BAD(qc_trainer_new(NULL, NULL, &wrong, &trainer), "classes is 257");
  wrong = options;
  wrong.width = 0;
  BAD(qc_trainer_new(NULL, NULL, &wrong, &trainer), "0");
  wrong = options;
  wrong.images = 0;
  BAD(qc_trainer_new(NULL, NULL, &wrong, &trainer), "at most the 0 training images");
  wrong = options;
  wrong.struct_size = 8;
  BAD(qc_trainer_new(NULL, NULL, &wrong, &trainer), "struct_size is 8");
  IS_NULL(qc_trainer_options_init(sizeof options, NULL), "options");
  REFUSED(qc_trainer_resume("no/such/file", 100, &trainer), QC_ERROR_IO, "no/such/file");
  IS_NULL(qc_trainer_resume(NULL, 100, &trainer), "path");
  IS_NULL(qc_trainer_resume("x", 100, NULL), "trainer");
  CHECK(trainer == NULL);

  OK(qc_recipe_names(text, sizeof text, &length));
  CHECK(length > 500 && strncmp(text, "default\t", 8) == 0);
  OK(qc_recipe_text("lenet5-bcgd", text, sizeof text, &length));
  CHECK(text[0] == '#' && length > sizeof text);
  BAD(qc_recipe_text("lenet5", text, sizeof text, &length), "recipe is 'lenet5'");
  IS_NULL(qc_recipe_text(NULL, text, sizeof text, &length), "name");
  IS_NULL(qc_recipe_names(NULL, 0, NULL), "length");
}

static void refuses_digits(void) {
  uint8_t image[PIXELS], label;
  BAD(qc_digits(1, 2, 1, image, &label, NULL), "half is 2; expected QC_DIGITS_TRAIN or QC_DIGITS_TEST");
  BAD(qc_digits(1, QC_DIGITS_TEST, 0, image, &label, NULL), "count is 0; expected 1 to 10000000");
  IS_NULL(qc_digits(1, QC_DIGITS_TRAIN, 1, NULL, &label, NULL), "images");
  IS_NULL(qc_digits(1, QC_DIGITS_TRAIN, 1, image, NULL, NULL), "labels");
  OK(qc_digits(1, QC_DIGITS_TRAIN, 1, image, &label, NULL));
  CHECK(label < CLASSES);
}

static void refuses_batches(data train) {
  qc_trainer *trainer = new_trainer(CHANGES, train.count);
  qc_epoch_report report;
  qc_trainer_info info;
  qc_model *model = NULL;
  uint8_t labels[BATCH];
  float loss = -1, logits[2 * CLASSES], *tensor = NULL;
  size_t correct = UNTOUCHED, length;
  memcpy(labels, train.labels, BATCH);
  report.struct_size = sizeof report;
  IS_NULL(qc_trainer_step(NULL, train.images, labels, BATCH, &loss, &correct, NULL), "trainer");
  IS_NULL(qc_trainer_step(trainer, NULL, labels, BATCH, &loss, &correct, NULL), "images");
  IS_NULL(qc_trainer_step(trainer, train.images, NULL, BATCH, &loss, &correct, NULL), "labels");
  BAD(qc_trainer_step(trainer, train.images, labels, 0, &loss, &correct, NULL), "labels is empty");
  BAD(qc_trainer_step(trainer, train.images, labels, 1, &loss, &correct, NULL), "expected 2 or more");
  BAD(qc_trainer_step(trainer, train.images, labels, SIZE_MAX / 2, &loss, &correct, NULL), "images is");
  labels[3] = 10;
  BAD(qc_trainer_step(trainer, train.images, labels, BATCH, &loss, &correct, NULL),
      "labels is 10 at [3]; expected 0 to 9");
  BAD(qc_trainer_evaluate(trainer, train.images, labels, BATCH, &loss, &correct, NULL),
      "labels is 10 at [3]; expected 0 to 9");
  BAD(qc_trainer_epoch(trainer, train.images, labels, BATCH, &report, NULL), "labels is 10 at [3]");
  BAD(qc_trainer_epoch(trainer, train.images, train.labels, BATCH, &report, NULL), "images is 50 of");
  BAD(qc_trainer_evaluate(trainer, train.images, labels, 0, &loss, &correct, NULL), "labels is empty");
  BAD(qc_trainer_predict(trainer, train.images, 2, logits, 2 * CLASSES - 1, NULL),
      "n_logits is 19 elements long; expected 20 (count x classes)");
  IS_NULL(qc_trainer_predict(trainer, NULL, 2, logits, 2 * CLASSES, NULL), "images");
  BAD(qc_trainer_end_epoch(trainer, &report), "steps is 0; expected at least 1");
  BAD(qc_trainer_reestimate(trainer, train.images, BATCH - 1, NULL), "at least the 50 of a batch");
  BAD(qc_trainer_freeze(trainer, &model), "in float mode");
  IS_NULL(qc_trainer_freeze(trainer, NULL), "model");
  BAD(qc_trainer_tensor(trainer, "layers.0.latant", NULL, 0, &length), "did you mean layers.0.latent?");
  OK(qc_trainer_tensor(trainer, "layers.0.latent", tensor, 0, &length));
  CHECK(length == 784 * 64);
  info.struct_size = 4;
  BAD(qc_trainer_get_info(trainer, &info), "struct_size is 4");
  IS_NULL(qc_trainer_save(trainer, NULL), "path");
  IS_NULL(qc_trainer_save(NULL, "x"), "trainer");
  REFUSED(qc_trainer_save(trainer, "no/such/folder/x"), QC_ERROR_IO, "no/such/folder/x");
  CHECK(loss == -1 && correct == UNTOUCHED && model == NULL);

  /* In the middle of an epoch nothing is saved, and no epoch begins. */
  OK(qc_trainer_step(trainer, train.images, train.labels, BATCH, &loss, &correct, NULL));
  CHECK(loss > 0 && correct <= BATCH);
  BAD(qc_trainer_save(trainer, "x"), "steps is 1; expected 0: a checkpoint is taken between two epochs");
  BAD(qc_trainer_epoch(trainer, train.images, train.labels, train.count, &report, NULL),
      "steps is 1; expected 0: an epoch that has not begun");
  report.struct_size = 3;
  BAD(qc_trainer_end_epoch(trainer, &report), "struct_size is 3");
  OK(qc_trainer_reestimate(trainer, train.images, BATCH, NULL));
  OK(qc_trainer_end_epoch(trainer, NULL));
  CHECK(info_of(trainer).epoch == 1 && info_of(trainer).step == 0);
  qc_trainer_free(trainer);
  qc_trainer_free(NULL);
}

/* All epochs are over, or the loss is. */
static void refuses_ends(data train) {
  qc_trainer *trainer = new_trainer("arch = \"16\"\nbatch = 50\nfloat_epochs = 0\nepochs = 1", train.count);
  qc_model *model = NULL;
  float loss = -1;
  int32_t status = QC_OK;
  int i;
  OK(qc_trainer_step(trainer, train.images, train.labels, BATCH, &loss, NULL, NULL));
  OK(qc_trainer_end_epoch(trainer, NULL));
  BAD(qc_trainer_step(trainer, train.images, train.labels, BATCH, &loss, NULL, NULL),
      "epoch is 2; expected at most 1");
  BAD(qc_trainer_epoch(trainer, train.images, train.labels, train.count, NULL, NULL), "epoch is 2");
  qc_trainer_free(trainer);

  trainer = new_trainer("arch = \"16\"\nbatch = 50\nfloat_epochs = 0\nbits_w = 32", train.count);
  BAD(qc_trainer_freeze(trainer, &model), "the weights of layer 0 (linear) are floats");
  qc_trainer_free(trainer);

  trainer = new_trainer("arch = \"16\"\nbatch = 50\nlr = 1e30", train.count);
  REFUSED(qc_trainer_epoch(trainer, train.images, train.labels, train.count, NULL, NULL),
          QC_ERROR_DIVERGED, "epoch 1, step ");
  CHECK(strstr(qc_last_error(), "layer ") != NULL);
  CHECK(info_of(trainer).epoch == 0 && info_of(trainer).step == 0);
  qc_trainer_free(trainer);
  trainer = new_trainer("arch = \"16\"\nbatch = 50\nlr = 1e30", train.count);
  for (i = 0; i < 4 && status == QC_OK; i++) {
    loss = -1;
    status = qc_trainer_step(trainer, train.images, train.labels, BATCH, &loss, NULL, NULL);
  }
  CHECK(loss == -1);
  REFUSED(status, QC_ERROR_DIVERGED, "layer ");
  qc_trainer_free(trainer);
}

/* Without a pool nothing has started a thread; on Linux the system tells. */
static void check_alone(void) {
  FILE *file = fopen("/proc/self/status", "r");
  char line[256];
  int threads = 1;
  while (file != NULL && fgets(line, sizeof line, file) != NULL) sscanf(line, "Threads: %d", &threads);
  if (file != NULL) fclose(file);
  CHECK(threads == 1);
}

int main(int argc, char **argv) {
  int quick = argc == 4 && strcmp(argv[3], "quick") == 0;
  size_t count = quick ? 150 : 2000, threads;
  data train, test;
  qc_pool *pool = NULL;
  double reached[2];
  CHECK(argc == 3 || quick);
  threads = (size_t)atoi(argv[2]);
  if (threads > 0) OK(qc_pool_new(threads, &pool));
  train = digits(QC_DIGITS_TRAIN, count);
  test = digits(QC_DIGITS_TEST, quick ? 30 : 500);
  CHECK(memcmp(train.images, test.images, 30 * PIXELS) != 0);
  reached[0] = by_epochs(argv[1], train, test, pool);
  reached[1] = by_steps(argv[1], train, test, pool);
  /* A guess is right once in ten. */
  CHECK(quick || (reached[0] > 0.7 && reached[1] > 0.7));
  refuses_recipes();
  refuses_digits();
  refuses_batches(train);
  refuses_ends(train);
  if (threads == 0) check_alone();
  printf("train: %.3f by epochs, %.3f by steps\n", reached[0], reached[1]);
  free_data(train);
  free_data(test);
  qc_pool_free(pool);
  return 0;
}
