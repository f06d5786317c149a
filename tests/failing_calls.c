/* Lets the Nth call of the C library below a folder fail. Preloaded into the processes of tests/faults.py.
 *
 * Counts over forked processes. What glibc calls itself is not seen, so opendir and readdir stand for their calls.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

struct state {
  long count, nth;
  int error;
  char root[4096], name[32];
};
static struct state *state;

/* From here on; nth 0 only counts. */
void failing_calls_arm(const char *root, long nth, int error) {
  struct state *fresh =
      mmap(NULL, sizeof *fresh, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  fresh->nth = nth;
  fresh->error = error;
  snprintf(fresh->root, sizeof fresh->root, "%s", root);
  state = fresh;
}

long failing_calls_count(void) { return state ? state->count : 0; }
const char *failing_calls_name(void) { return state ? state->name : ""; }

static int fails(const char *name, const char *path) {
  size_t length;
  if (!state || !path) return 0;
  length = strlen(state->root);
  if (strncmp(path, state->root, length) != 0 || (path[length] != '/' && path[length] != 0)) return 0;
  if (__atomic_add_fetch(&state->count, 1, __ATOMIC_SEQ_CST) != state->nth) return 0;
  snprintf(state->name, sizeof state->name, "%s", name);
  errno = state->error;
  return 1;
}

static int fails_at(const char *name, int folder, const char *path) {
  char link[64], whole[8192];
  long length;
  if (!state) return 0;
  if (path && path[0] == '/') return fails(name, path);
  if (folder < 0) return 0;
  snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
  length = syscall(SYS_readlink, link, whole, 4096);
  if (length < 0) return 0;
  snprintf(whole + length, sizeof whole - length, "%s%s", path && *path ? "/" : "", path ? path : "");
  return fails(name, whole);
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define BY_PATH(result, bad, name, parameters, arguments) \
  result name parameters { return fails(#name, path) ? bad : REAL(name) arguments; }
#define BY_FILE(result, bad, name, parameters, arguments) \
  result name parameters { return fails_at(#name, file, NULL) ? bad : REAL(name) arguments; }
#define BY_FOLDER(result, bad, name, parameters, arguments) \
  result name parameters { return fails_at(#name, file, path) ? bad : REAL(name) arguments; }
#define OPEN(name)                                                 \
  int name(const char *path, int flags, ...) {                     \
    va_list more;                                                  \
    va_start(more, flags);                                         \
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0; \
    va_end(more);                                                  \
    return fails("open", path) ? -1 : REAL(name)(path, flags, mode); \
  }
#define OPENAT(name)                                               \
  int name(int file, const char *path, int flags, ...) {           \
    va_list more;                                                  \
    va_start(more, flags);                                         \
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0; \
    va_end(more);                                                  \
    return fails_at("openat", file, path) ? -1 : REAL(name)(file, path, flags, mode); \
  }

OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)
BY_PATH(FILE *, NULL, fopen, (const char *path, const char *mode), (path, mode))
BY_PATH(FILE *, NULL, fopen64, (const char *path, const char *mode), (path, mode))
BY_FILE(ssize_t, -1, read, (int file, void *data, size_t size), (file, data, size))
BY_FILE(ssize_t, -1, pread64, (int file, void *data, size_t size, off64_t at), (file, data, size, at))
BY_FILE(ssize_t, -1, write, (int file, const void *data, size_t size), (file, data, size))
BY_FILE(ssize_t, -1, pwrite64, (int file, const void *data, size_t size, off64_t at), (file, data, size, at))
BY_FILE(ssize_t, -1, writev, (int file, const struct iovec *data, int count), (file, data, count))
BY_FILE(off64_t, -1, lseek64, (int file, off64_t at, int from), (file, at, from))
BY_FILE(int, -1, fsync, (int file), (file))
BY_FILE(int, -1, fdatasync, (int file), (file))
BY_FILE(int, -1, flock, (int file, int how), (file, how))
BY_FILE(int, -1, fstat, (int file, struct stat *facts), (file, facts))
BY_FILE(int, -1, fstat64, (int file, struct stat64 *facts), (file, facts))
BY_PATH(int, -1, stat, (const char *path, struct stat *facts), (path, facts))
BY_PATH(int, -1, stat64, (const char *path, struct stat64 *facts), (path, facts))
BY_PATH(int, -1, lstat, (const char *path, struct stat *facts), (path, facts))
BY_PATH(int, -1, lstat64, (const char *path, struct stat64 *facts), (path, facts))
BY_FOLDER(int, -1, fstatat, (int file, const char *path, struct stat *facts, int how), (file, path, facts, how))
BY_FOLDER(int, -1, fstatat64, (int file, const char *path, struct stat64 *facts, int how), (file, path, facts, how))
BY_PATH(int, -1, statvfs, (const char *path, struct statvfs *facts), (path, facts))
BY_PATH(int, -1, statvfs64, (const char *path, struct statvfs64 *facts), (path, facts))
BY_PATH(int, -1, mkdir, (const char *path, mode_t mode), (path, mode))
BY_PATH(int, -1, rmdir, (const char *path), (path))
BY_PATH(int, -1, unlink, (const char *path), (path))
BY_FOLDER(int, -1, unlinkat, (int file, const char *path, int how), (file, path, how))
BY_PATH(int, -1, access, (const char *path, int how), (path, how))
BY_PATH(int, -1, rename, (const char *path, const char *other), (path, other))
BY_FOLDER(int, -1, renameat2, (int file, const char *path, int folder, const char *other, unsigned how),
          (file, path, folder, other, how))
BY_PATH(DIR *, NULL, opendir, (const char *path), (path))
BY_FILE(DIR *, NULL, fdopendir, (int file), (file))

/* The end of a folder is no error: errno says which it is. */
struct dirent64 *readdir64(DIR *folder) {
  return fails_at("readdir", dirfd(folder), NULL) ? NULL : REAL(readdir64)(folder);
}
struct dirent *readdir(DIR *folder) {
  return fails_at("readdir", dirfd(folder), NULL) ? NULL : REAL(readdir)(folder);
}

/* As on Linux, the file is closed all the same. */
int close(int file) {
  int failed = fails_at("close", file, NULL), error = errno;
  int result = REAL(close)(file);
  if (failed) errno = error;
  return failed ? -1 : result;
}
