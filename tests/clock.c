/* A clock of the wall that says CLOCK_SAYS seconds since 1970, and with CLOCK_JUMPS is off by up to a million seconds
 * times that at every look. Preloaded; clocks that only grow stay as they are. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>

static time_t now(void) {
  static unsigned state;
  const char *jumps = getenv("CLOCK_JUMPS");
  long seconds = atol(getenv("CLOCK_SAYS"));
  if (jumps) {
    state = state * 1103515245u + 12345u;
    seconds += (long)((int)(state >> 8) % 1000000) * atol(jumps);
  }
  return seconds < 1 ? 1 : seconds;
}

int clock_gettime(clockid_t which, struct timespec *out) {
  static int (*real)(clockid_t, struct timespec *);
  if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
  int code = real(which, out);
  if (which == CLOCK_REALTIME || which == CLOCK_REALTIME_COARSE) out->tv_sec = now();
  return code;
}

time_t time(time_t *out) {
  time_t seconds = now();
  if (out) *out = seconds;
  return seconds;
}

int gettimeofday(struct timeval *out, void *zone) {
  (void)zone;
  if (out) {
    out->tv_sec = now();
    out->tv_usec = 5;
  }
  return 0;
}
