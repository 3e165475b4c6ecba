// What a library for Android asks of Android's C library, on top of glibc, so that the very library of an APK runs in
// tests on Linux. imports.py writes the libc.so that jumps here, or to glibc where the two agree. Tests only.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// bionic's stdin, stdout and stderr are places in one array; libraries take their addresses and never read them.
enum { STREAM_BYTES = 152 };
static char *streams;

static FILE *host_stream(void *stream) {
  const ptrdiff_t place = (char *)stream - streams;
  return place == 0                  ? stdin
         : place == STREAM_BYTES     ? stdout
         : place == 2 * STREAM_BYTES ? stderr
                                     : (FILE *)stream;
}

int *bionic___errno(void) { return &errno; }

size_t bionic___strlen_chk(const char *text, size_t size) {
  const size_t length = strlen(text);
  if (length >= size) abort();
  return length;
}

int bionic___system_property_get(const char *name, char *value) {
  (void)name;
  *value = 0;
  return 0;
}

void bionic_android_set_abort_message(const char *message) { fprintf(stderr, "abort: %s\n", message); }

int bionic___android_log_vprint(int priority, const char *tag, const char *format, va_list values) {
  fprintf(stderr, "%d %s: ", priority, tag);
  vfprintf(stderr, format, values);
  return fputc('\n', stderr);
}

int bionic_vfprintf(void *stream, const char *format, va_list values) {
  return vfprintf(host_stream(stream), format, values);
}

int bionic_fprintf(void *stream, const char *format, ...) {
  va_list values;
  va_start(values, format);
  const int written = vfprintf(host_stream(stream), format, values);
  va_end(values);
  return written;
}

int bionic_fputc(int c, void *stream) { return fputc(c, host_stream(stream)); }
int bionic_fflush(void *stream) { return fflush(stream ? host_stream(stream) : NULL); }
int bionic_fileno(void *stream) { return fileno(host_stream(stream)); }

size_t bionic_fwrite(const void *data, size_t size, size_t count, void *stream) {
  return fwrite(data, size, count, host_stream(stream));
}

long bionic_sysconf(int name) {
  switch (name) {  // the numbers of bionic's <bits/sysconf.h>
    case 39:
    case 40: return sysconf(_SC_PAGESIZE);
    case 96: return sysconf(_SC_NPROCESSORS_CONF);
    case 97: return sysconf(_SC_NPROCESSORS_ONLN);
  }
  fprintf(stderr, "bionic.c: no sysconf(%d)\n", name);
  abort();
}

// Fills the table of a generated libc.so: names, one after another, each ended by 0.
void bionic_fill(const char *name, void **table, char *standard_streams) {
  void *self = dlopen("libbionic.so", RTLD_LAZY | RTLD_NOLOAD);
  void *c = dlopen("libc.so.6", RTLD_LAZY), *math = dlopen("libm.so.6", RTLD_LAZY);
  streams = standard_streams;
  for (; *name; name += strlen(name) + 1, ++table) {
    char own[128];
    snprintf(own, sizeof own, "bionic_%s", name);
    *table = dlsym(self, own);
    if (!*table) *table = dlsym(c, name);
    if (!*table) *table = dlsym(math, name);
    if (!*table) {
      fprintf(stderr, "bionic.c: no %s\n", name);
      abort();
    }
  }
}
