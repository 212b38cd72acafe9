/* dlopen, a pool, dlclose: the library stays mapped, so that its threads may go on.
 *
 *   unload LIBRARY
 *
 * It is not linked with the library, and so has a CHECK of its own.
 */

#define _POSIX_C_SOURCE 200809L

#include "qcore.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define CHECK(condition)                                              \
  do {                                                                \
    if (!(condition)) {                                               \
      fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
      exit(1);                                                        \
    }                                                                 \
  } while (0)

typedef int32_t (*pool_new)(size_t, qc_pool **);

static void *library;

static void *use(void *unused) {
  void *symbol = dlsym(library, "qc_pool_new");
  pool_new function;
  qc_pool *pool = NULL;
  (void)unused;
  CHECK(symbol != NULL);
  /* ISO C has no cast from an object to a function. */
  memcpy(&function, &symbol, sizeof function);
  CHECK(function(2, &pool) == QC_OK);
  CHECK(function(9999, &pool) == QC_ERROR_ARGUMENT);
  CHECK(dlclose(library) == 0);
  return NULL;
}

int main(int argc, char **argv) {
  struct timespec moment = {0, 50 * 1000 * 1000};
  pthread_t thread;
  CHECK(argc == 2);
  /* Nothing of it was used, so only the library's own mark keeps it. */
  library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
  CHECK(library != NULL && dlclose(library) == 0);
  library = dlopen(argv[1], RTLD_NOW | RTLD_NOLOAD);
  CHECK(library != NULL);
  /* The thread ends after the library is closed, and what it keeps for the thread with it. */
  CHECK(pthread_create(&thread, NULL, use, NULL) == 0);
  CHECK(pthread_join(thread, NULL) == 0);
  nanosleep(&moment, NULL);
  CHECK(dlopen(argv[1], RTLD_NOW | RTLD_NOLOAD) != NULL);
  printf("unload: still mapped\n");
  return 0;
}
