/* A pool from before fork(): in the child its work runs on the calling thread and ends. */

#define _POSIX_C_SOURCE 200809L

#include "check.h"

#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

enum { M = 200, N = 256, K = 1000 };

static int32_t expected[M * N], out[M * N];

int main(void) {
  packed w = random_packed(QC_BIPOLAR, N, K, 3), a = random_packed(QC_U4, M, K, 4);
  qc_gemm *gemm = new_gemm(w, QC_BIPOLAR, QC_U4, N, K, NULL, NULL, NULL);
  qc_pool *pool = NULL;
  size_t n_scratch;
  int32_t *scratch;
  pid_t child;
  int status;

  OK(qc_gemm_scratch_len(gemm, M, &n_scratch));
  scratch = (int32_t *)room(n_scratch, sizeof(int32_t));
  OK(qc_pool_new(4, &pool));
  OK(qc_gemm_run_i32(gemm, a.words, a.n_words, M, 0, M, expected, M * N, scratch, n_scratch, NULL));
  /* The workers have worked, so that what they hold is really lost in the child. */
  OK(qc_gemm_run_i32(gemm, a.words, a.n_words, M, 0, M, out, M * N, scratch, n_scratch, pool));
  CHECK(memcmp(out, expected, sizeof out) == 0);
  fflush(stdout);
  child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    qc_pool *own = NULL;
    /* A hang is a failure, not a wait. */
    alarm(20);
    memset(out, 0, sizeof out);
    OK(qc_gemm_run_i32(gemm, a.words, a.n_words, M, 0, M, out, M * N, scratch, n_scratch, pool));
    CHECK(memcmp(out, expected, sizeof out) == 0);
    qc_pool_free(pool);
    /* A pool of its own has workers again. */
    OK(qc_pool_new(2, &own));
    memset(out, 0, sizeof out);
    OK(qc_gemm_run_i32(gemm, a.words, a.n_words, M, 0, M, out, M * N, scratch, n_scratch, own));
    CHECK(memcmp(out, expected, sizeof out) == 0);
    qc_pool_free(own);
    qc_gemm_free(gemm);
    free(scratch);
    return 0;
  }
  CHECK(waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  memset(out, 0, sizeof out);
  OK(qc_gemm_run_i32(gemm, a.words, a.n_words, M, 0, M, out, M * N, scratch, n_scratch, pool));
  CHECK(memcmp(out, expected, sizeof out) == 0);
  qc_pool_free(pool);
  qc_gemm_free(gemm);
  free(scratch);
  free_packed(w);
  free_packed(a);
  printf("fork: the child is done\n");
  return 0;
}
