/* What the small programs share. Each is as its authors would write it for the original's calls,
 * runs in a DC, and tells by its exit status (and its last line, for `dvs logs`) whether all was
 * right. */
#ifndef TESTS_PROGRAMS_PROGRAM_H
#define TESTS_PROGRAMS_PROGRAM_H

#include <dvk/dvk.h>
#include <dvk/dvk_compat.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define PATIENCE_MS 20000

/* Ends the program, and says where, unless `condition` holds. */
#define CHECK(condition)                                                            \
  do {                                                                              \
    if (!(condition)) {                                                             \
      printf("BAD: %s:%d: %s, pid %d\n", __FILE__, __LINE__, #condition, getpid()); \
      exit(EXIT_FAILURE);                                                           \
    }                                                                               \
  } while (0)
/* The same of a call that must answer `right`. */
#define CHECK_RC(call, right)                                                            \
  do {                                                                                   \
    const int rc_ = (int)(call);                                                         \
    if (rc_ != (right)) {                                                                \
      printf("BAD: %s:%d: %s is %d, not %d\n", __FILE__, __LINE__, #call, rc_, (right)); \
      exit(EXIT_FAILURE);                                                                \
    }                                                                                    \
  } while (0)

static inline void begin(int argc, int arguments, const char* usage) {
  setvbuf(stdout, NULL, _IOLBF, 0);
  if (argc - 1 == arguments) return;
  fprintf(stderr, "usage: %s\n", usage);
  exit(2);
}

static inline int passed(const char* name) {
  printf("PASS %s\n", name);
  return EXIT_SUCCESS;
}

static inline int my_dc(void) {
  dc_usr_t dc;
  CHECK_RC(dvk_getdcinfo(-1, &dc), OK);
  return dc.dc_dcid;
}

static inline void bind_to(int endpoint) { CHECK_RC(dvk_bind(my_dc(), endpoint), endpoint); }

static inline message make(int type, int number) {
  message m;
  memset(&m, 0, sizeof m);
  m.m_type = type;
  m.m1_i1 = number;
  return m;
}

/* The parent of processes that must all end well. */
static inline void reap(pid_t pid) {
  int status = 0;
  CHECK(waitpid(pid, &status, 0) == pid);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == EXIT_SUCCESS);
}

/* Bytes that differ from place to place and from `seed` to `seed`. */
static inline char pattern(size_t i, int seed) {
  return (char)(i * 31 + i / 251 + (size_t)seed * 101);
}
static inline void fill(char* bytes, size_t count, int seed) {
  for (size_t i = 0; i < count; ++i) bytes[i] = pattern(i, seed);
}
static inline int is_filled(const char* bytes, size_t count, int seed) {
  for (size_t i = 0; i < count; ++i) {
    if (bytes[i] != pattern(i, seed)) return 0;
  }
  return 1;
}

#endif
