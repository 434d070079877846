/*
 * Loaded with LD_PRELOAD: makes flushes and writes of chosen files fail or take long.
 * HF_SHIM_MATCH: part of the path concerned. HF_SHIM_CONTROL: a file read before each call, its words obeyed:
 * "fsync-eio", "write-enospc", "fsync-ms=N", "fsync-rare-ms=N" (every fiftieth flush), "fsync-hang" (until it is gone),
 * "look-hang" (statx of such a path, as Node asks for it, likewise).
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static int concerned(int fd) {
  const char *match = getenv("HF_SHIM_MATCH");
  char link[64], path[4096];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, sizeof path - 1);
  if (match == NULL || length <= 0) return 0;
  path[length] = 0;
  return strstr(path, match) != NULL;
}

static void control(char *words, size_t size) {
  const char *file = getenv("HF_SHIM_CONTROL");
  words[0] = 0;
  if (file == NULL) return;
  int fd = (int)syscall(SYS_openat, AT_FDCWD, file, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return;
  ssize_t length = syscall(SYS_read, fd, words, size - 1);
  syscall(SYS_close, fd);
  words[length > 0 ? length : 0] = 0;
}

static int flush_fails(int fd) {
  char words[256];
  if (!concerned(fd)) return 0;
  control(words, sizeof words);
  for (; strstr(words, "fsync-hang") != NULL; control(words, sizeof words)) usleep(50000);
  const char *slow = strstr(words, "fsync-ms=");
  const char *rare = strstr(words, "fsync-rare-ms=");
  static unsigned flushes = 0;
  if (rare != NULL && __sync_add_and_fetch(&flushes, 1) % 50 == 0) slow = rare + 5;
  if (slow != NULL) usleep((useconds_t)atoi(slow + 9) * 1000);
  if (strstr(words, "fsync-eio") == NULL) return 0;
  errno = EIO;
  return 1;
}

static int write_fails(int fd) {
  char words[256];
  if (!concerned(fd)) return 0;
  control(words, sizeof words);
  if (strstr(words, "write-enospc") == NULL) return 0;
  errno = ENOSPC;
  return 1;
}

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
int fsync(int fd) { return flush_fails(fd) ? -1 : NEXT(fsync)(fd); }
int fdatasync(int fd) { return flush_fails(fd) ? -1 : NEXT(fdatasync)(fd); }
ssize_t write(int fd, const void *bytes, size_t size) {
  return write_fails(fd) ? -1 : NEXT(write)(fd, bytes, size);
}
ssize_t pwrite(int fd, const void *bytes, size_t size, off_t at) {
  return write_fails(fd) ? -1 : NEXT(pwrite)(fd, bytes, size, at);
}
ssize_t pwrite64(int fd, const void *bytes, size_t size, off64_t at) {
  return write_fails(fd) ? -1 : NEXT(pwrite64)(fd, bytes, size, at);
}
/* Node has no other way to statx. */
long syscall(long number, ...) {
  static __typeof__(&syscall) next = NULL;
  if (next == NULL) next = NEXT(syscall);
  long given[6];
  va_list rest;
  va_start(rest, number);
  for (int at = 0; at < 6; at++) given[at] = va_arg(rest, long);
  va_end(rest);
  const char *match = getenv("HF_SHIM_MATCH"), *path = (const char *)given[1];
  if (number == SYS_statx && match != NULL && path != NULL && strstr(path, match) != NULL) {
    char words[256];
    for (control(words, sizeof words); strstr(words, "look-hang") != NULL; control(words, sizeof words)) usleep(50000);
  }
  return next(number, given[0], given[1], given[2], given[3], given[4], given[5]);
}
