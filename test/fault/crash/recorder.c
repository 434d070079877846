/*
 * Loaded with LD_PRELOAD: writes down, in order, every change to files below HF_RECORD_FOLDER, to HF_RECORD_TRACE.
 * One entry: u32 operation, u32 bytes of name, u32 bytes of data, u32 zero, u64 offset or size; name; data.
 * A sync of the folder itself has an empty name. A rename's data is the new name.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { CREATE = 1, WRITE, RESIZE, SYNC, UNLINK, RENAME };
#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static int trace = -1;
static const char *folder;
static pthread_mutex_t order = PTHREAD_MUTEX_INITIALIZER;

__attribute__((constructor)) static void begin(void) {
  const char *path = getenv("HF_RECORD_TRACE");
  folder = getenv("HF_RECORD_FOLDER");
  if (folder == NULL || path == NULL) return;
  trace = (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

/* The name below the folder, "" for the folder itself, NULL for anything else. */
static const char *below(const char *path) {
  if (trace < 0 || path == NULL) return NULL;
  size_t length = strlen(folder);
  if (strncmp(path, folder, length) != 0) return NULL;
  if (path[length] == 0) return path + length;
  return path[length] == '/' ? path + length + 1 : NULL;
}

static const char *below_fd(int fd, char *path, size_t size) {
  char link[64];
  if (trace < 0) return NULL;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, size - 1);
  if (length <= 0) return NULL;
  path[length] = 0;
  return below(path);
}

static void note(uint32_t operation, const char *name, const void *data, size_t size, uint64_t at) {
  uint32_t head[6] = {operation, (uint32_t)strlen(name), (uint32_t)size, 0, 0, 0};
  memcpy(head + 4, &at, sizeof at);
  struct iovec parts[3] = {
      {head, sizeof head}, {(void *)name, head[1]}, {(void *)data, size}};
  pthread_mutex_lock(&order);
  if (syscall(SYS_writev, trace, parts, 3) != (ssize_t)(sizeof head + head[1] + size)) abort();
  pthread_mutex_unlock(&order);
}

static void note_fd(uint32_t operation, int fd, const void *data, ssize_t size, off_t at) {
  char path[4096];
  const char *name = size < 0 ? NULL : below_fd(fd, path, sizeof path);
  if (name == NULL) return;
  if (at < 0) at = lseek(fd, 0, SEEK_CUR) - size;
  note(operation, name, data, (size_t)size, (uint64_t)at);
}

static int opened(int fd, const char *path, int flags, int existed) {
  const char *name = fd < 0 ? NULL : below(path);
  if (name == NULL) return fd;
  if ((flags & O_CREAT) && !existed) note(CREATE, name, NULL, 0, 0);
  else if (flags & O_TRUNC) note(RESIZE, name, NULL, 0, 0);
  return fd;
}
#define OPEN(name)                                          \
  int name(const char *path, int flags, ...) {              \
    va_list rest;                                           \
    va_start(rest, flags);                                  \
    mode_t mode = va_arg(rest, mode_t);                     \
    va_end(rest);                                           \
    int existed = below(path) != NULL && access(path, F_OK) == 0; \
    return opened(NEXT(name)(path, flags, mode), path, flags, existed); \
  }
OPEN(open)
OPEN(open64)

ssize_t write(int fd, const void *bytes, size_t size) {
  ssize_t done = NEXT(write)(fd, bytes, size);
  note_fd(WRITE, fd, bytes, done, -1);
  return done;
}
ssize_t pwrite(int fd, const void *bytes, size_t size, off_t at) {
  ssize_t done = NEXT(pwrite)(fd, bytes, size, at);
  note_fd(WRITE, fd, bytes, done, at);
  return done;
}
ssize_t pwrite64(int fd, const void *bytes, size_t size, off64_t at) {
  ssize_t done = NEXT(pwrite64)(fd, bytes, size, at);
  note_fd(WRITE, fd, bytes, done, at);
  return done;
}
#define CHANGES(name, parameters, arguments, operation, at) \
  int name parameters {                                     \
    int result = NEXT(name) arguments;                      \
    if (result == 0) note_fd(operation, fd, NULL, 0, at);   \
    return result;                                          \
  }
CHANGES(fsync, (int fd), (fd), SYNC, 0)
CHANGES(fdatasync, (int fd), (fd), SYNC, 0)
CHANGES(ftruncate, (int fd, off_t size), (fd, size), RESIZE, size)
CHANGES(ftruncate64, (int fd, off64_t size), (fd, size), RESIZE, size)

int unlink(const char *path) {
  int result = NEXT(unlink)(path);
  const char *name = below(path);
  if (result == 0 && name != NULL) note(UNLINK, name, NULL, 0, 0);
  return result;
}
int rename(const char *from, const char *to) {
  int result = NEXT(rename)(from, to);
  const char *name = below(from), *new_name = below(to);
  if (result == 0 && name != NULL && new_name != NULL)
    note(RENAME, name, new_name, strlen(new_name), 0);
  return result;
}
