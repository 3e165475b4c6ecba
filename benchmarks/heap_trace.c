// What a program takes from the heap, and who took it: a library for LD_PRELOAD.
//
// Writes to the file that HEAP_TRACE names: "A function bytes address library", "F address", and "S" each time the
// program asks for its heap's size, which the runners do at their stages. Assumes glibc.

#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_memalign(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void __libc_free(void *);

static int file = -1;
static __thread int busy;  // what a note itself takes is not noted

__attribute__((constructor)) static void begin(void) {
  const char *path = getenv("HEAP_TRACE");
  if (path) file = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
}

static void note(char what, const char *function, size_t bytes, const void *address, const void *caller) {
  if (file < 0 || busy) return;
  busy = 1;
  Dl_info info;
  const char *library = "?";
  if (caller && dladdr(caller, &info) && info.dli_fname) {
    const char *slash = strrchr(info.dli_fname, '/');
    library = slash ? slash + 1 : info.dli_fname;
  }
  char line[300];
  int length = snprintf(line, sizeof line, "%c %s %zu %p %s\n", what, function, bytes, address, library);
  if (write(file, line, length) != length) file = -1;
  busy = 0;
}

#define CALLER __builtin_return_address(0)

void *malloc(size_t bytes) {
  void *p = __libc_malloc(bytes);
  note('A', "malloc", bytes, p, CALLER);
  return p;
}

void *calloc(size_t count, size_t bytes) {
  void *p = __libc_calloc(count, bytes);
  note('A', "calloc", count * bytes, p, CALLER);
  return p;
}

void *realloc(void *old, size_t bytes) {
  if (old) note('F', "realloc", 0, old, NULL);
  void *p = __libc_realloc(old, bytes);
  note('A', "realloc", bytes, p, CALLER);
  return p;
}

void *aligned_alloc(size_t alignment, size_t bytes) {
  void *p = __libc_memalign(alignment, bytes);
  note('A', "aligned_alloc", bytes, p, CALLER);
  return p;
}

int posix_memalign(void **p, size_t alignment, size_t bytes) {
  *p = __libc_memalign(alignment, bytes);
  note('A', "posix_memalign", bytes, *p, CALLER);
  return *p ? 0 : 12;
}

void free(void *p) {
  if (p) note('F', "free", 0, p, NULL);
  __libc_free(p);
}

struct mallinfo2 mallinfo2(void) {
  static struct mallinfo2 (*real)(void);
  if (!real) real = (struct mallinfo2(*)(void))dlsym(RTLD_NEXT, "mallinfo2");
  note('S', "stage", 0, NULL, NULL);
  return real();
}
