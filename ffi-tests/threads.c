/* Many threads share a plan, a model and a pool; one workspace is not for two of them.
 *
 *   threads FILE IMAGES
 */

#define _POSIX_C_SOURCE 200809L

#include "check.h"

#include <pthread.h>
#include <sched.h>

enum { THREADS = 8, ROUNDS = 20, M = 40, N = 70, K = 300 };

typedef struct shared {
  qc_gemm *gemm;
  packed activations;
  int32_t *sums;
  qc_model *model;
  qc_workspace *workspace;
  qc_pool *pool;
  uint8_t *images;
  size_t n_bytes, n_logits, count;
  float *logits;
} shared;

static void *own_workspaces(void *argument) {
  const shared *all = (const shared *)argument;
  int32_t out[M * N], scratch[M];
  float *logits = (float *)room(all->n_logits, sizeof(float));
  qc_workspace *workspace = NULL;
  int round;
  /* Each thread has its own text, and starts without one. */
  CHECK(strlen(qc_last_error()) == 0);
  OK(qc_workspace_new(all->model, 50, 2, QC_MODE_LATENCY, &workspace));
  for (round = 0; round < ROUNDS; round++) {
    const qc_pool *pool = round % 2 ? all->pool : NULL;
    OK(qc_gemm_run_i32(all->gemm, all->activations.words, all->activations.n_words, M, 0, M, out,
                       M * N, scratch, M, pool));
    CHECK(memcmp(out, all->sums, sizeof out) == 0);
    OK(qc_model_run(all->model, all->images, all->n_bytes, logits, all->n_logits, workspace, pool));
    CHECK(memcmp(logits, all->logits, all->n_logits * sizeof(float)) == 0);
  }
  CHECK(strlen(qc_last_error()) == 0);
  qc_workspace_free(workspace);
  free(logits);
  return NULL;
}

/* Runs until some have gone through; tells how many were refused because another thread was inside. */
static void *one_workspace(void *argument) {
  const shared *all = (const shared *)argument;
  float *logits = (float *)room(all->n_logits, sizeof(float));
  uintptr_t refused = 0;
  int done = 0;
  while (done < ROUNDS) {
    int32_t status = qc_model_run(all->model, all->images, all->n_bytes, logits, all->n_logits,
                                  all->workspace, NULL);
    if (status == QC_ERROR_BUSY) {
      CHECK(strstr(qc_last_error(), "workspace") != NULL);
      refused++;
    } else {
      CHECK(status == QC_OK);
      CHECK(memcmp(logits, all->logits, all->n_logits * sizeof(float)) == 0);
      done++;
    }
    sched_yield();
  }
  free(logits);
  return (void *)refused;
}

static uintptr_t in_all(void *(*work)(void *), shared *all) {
  pthread_t threads[THREADS];
  uintptr_t sum = 0;
  int i;
  for (i = 0; i < THREADS; i++) CHECK(pthread_create(&threads[i], NULL, work, all) == 0);
  for (i = 0; i < THREADS; i++) {
    void *result;
    CHECK(pthread_join(threads[i], &result) == 0);
    sum += (uintptr_t)result;
  }
  return sum;
}

int main(int argc, char **argv) {
  shared all;
  packed weights = random_packed(QC_BIPOLAR, N, K, 1);
  qc_model_info info;
  uintptr_t refused;

  CHECK(argc == 3);
  all.activations = random_packed(QC_U4, M, K, 2);
  all.sums = naive_product(all.activations.values, weights.values, M, N, K);
  all.gemm = new_gemm(weights, QC_BIPOLAR, QC_U4, N, K, NULL, NULL, NULL);
  OK(qc_model_load(argv[1], &all.model));
  info.struct_size = sizeof info;
  OK(qc_model_get_info(all.model, &info));
  all.images = read_file(argv[2], &all.n_bytes);
  all.count = all.n_bytes / (info.height * info.width * info.channels);
  all.n_logits = all.count * info.outputs;
  all.logits = (float *)room(all.n_logits, sizeof(float));
  OK(qc_workspace_new(all.model, all.count, 2, QC_MODE_THROUGHPUT, &all.workspace));
  OK(qc_model_run(all.model, all.images, all.n_bytes, all.logits, all.n_logits, all.workspace,
                  NULL));
  OK(qc_pool_new(2, &all.pool));

  in_all(own_workspaces, &all);
  refused = in_all(one_workspace, &all);
  /* After all that it works as before. */
  OK(qc_model_run(all.model, all.images, all.n_bytes, all.logits, all.n_logits, all.workspace,
                  all.pool));
  printf("threads: %d, runs refused: %lu\n", THREADS, (unsigned long)refused);

  qc_gemm_free(all.gemm);
  qc_model_free(all.model);
  qc_workspace_free(all.workspace);
  qc_pool_free(all.pool);
  free(all.sums);
  free(all.images);
  free(all.logits);
  free_packed(all.activations);
  free_packed(weights);
  return 0;
}
