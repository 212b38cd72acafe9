/* What the programs of errors share: a call must give this status and this text. */

#ifndef REFUSED_H
#define REFUSED_H

#include "check.h"

/* A result that was never written. */
#define UNTOUCHED ((size_t)0xDEAD)

static inline void refused(int line, int32_t got, int32_t status, const char *names) {
  char copy[64];
  size_t length;
  if (got != status || strstr(qc_last_error(), names) == NULL) {
    fprintf(stderr, "line %d: %s (%s), expected %s and '%s'\n", line, qc_status_name(got),
            qc_last_error(), qc_status_name(status), names);
    exit(1);
  }
  OK(qc_last_error_copy(copy, sizeof copy, &length));
  CHECK(length == strlen(qc_last_error()) && strncmp(copy, qc_last_error(), strlen(copy)) == 0);
  CHECK(strlen(copy) == (length < sizeof copy ? length : sizeof copy - 1));
}

#define REFUSED(call, status, names) refused(__LINE__, (call), (status), (names))
#define IS_NULL(call, name) REFUSED(call, QC_ERROR_NULL, name " is NULL")
#define BAD(call, names) REFUSED(call, QC_ERROR_ARGUMENT, names)

#endif
