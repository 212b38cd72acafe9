/* Loads a model, from its file and from memory, and runs images through it.
 *
 *   model FILE IMAGES THREADS      THREADS 0: without a pool
 *
 * Prints the ISA and the shapes, then a line an image: its class and its logits in hexadecimal.
 */

#include "check.h"

int main(int argc, char **argv) {
  qc_model *model = NULL, *again = NULL;
  qc_workspace *workspace = NULL, *small = NULL;
  qc_pool *pool = NULL;
  qc_model_info info;
  uint8_t *bytes, *images;
  size_t n_bytes, len, count, n_logits, i, j, length;
  float *logits, *others;
  char *text;
  size_t threads;

  CHECK(argc == 4);
  threads = (size_t)atoi(argv[3]);
  if (threads > 0) OK(qc_pool_new(threads, &pool));
  OK(qc_model_load(argv[1], &model));
  bytes = read_file(argv[1], &len);
  OK(qc_model_load_memory(bytes, len, &again));
  memset(bytes, 0, len);
  free(bytes);

  info.struct_size = sizeof info;
  OK(qc_model_get_info(model, &info));
  CHECK(info.struct_size == sizeof info);
  printf("%s %zux%zux%zu u%zu -> %zu, %zu nodes, %zu of %zu bytes\n", info.isa, info.height,
         info.width, info.channels, info.bits, info.outputs, info.nodes, info.packed_bytes,
         info.float_bytes);
  OK(qc_model_describe(model, NULL, 0, &length));
  text = (char *)room(length, 1);
  OK(qc_model_describe(model, text, length + 1, &length));
  CHECK(strlen(text) == length);
  fputs(text, stdout);
  free(text);

  images = read_file(argv[2], &n_bytes);
  count = n_bytes / (info.height * info.width * info.channels);
  n_logits = count * info.outputs;
  logits = (float *)room(n_logits, sizeof(float));
  others = (float *)room(n_logits, sizeof(float));
  OK(qc_workspace_new(model, count, threads, QC_MODE_LATENCY, &workspace));
  OK(qc_model_run(model, images, n_bytes, logits, n_logits, workspace, pool));

  /* The one from memory, a few images at a time, with a workspace of its twin that has gone. */
  OK(qc_workspace_new(model, 3, threads, QC_MODE_THROUGHPUT, &small));
  qc_model_free(model);
  OK(qc_model_run(again, images, n_bytes, others, n_logits, small, NULL));
  CHECK(memcmp(logits, others, n_logits * sizeof(float)) == 0);
  OK(qc_model_run(again, NULL, 0, NULL, 0, small, pool));

  for (i = 0; i < count; i++) {
    size_t best = 0;
    for (j = 1; j < info.outputs; j++) {
      if (logits[i * info.outputs + j] > logits[i * info.outputs + best]) best = j;
    }
    printf("%zu:", best);
    for (j = 0; j < info.outputs; j++) printf(" %a", (double)logits[i * info.outputs + j]);
    printf("\n");
  }
  free(images);
  free(logits);
  free(others);
  qc_workspace_free(workspace);
  qc_workspace_free(small);
  qc_model_free(again);
  qc_pool_free(pool);
  return 0;
}
