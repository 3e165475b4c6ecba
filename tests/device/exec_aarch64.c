/* Preloaded into the test device's shell: programs for aarch64 are started under qemu, which the kernel would do too if
   binfmt_misc were set up for it on the whole machine. A shell execs by execve alone. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int is_aarch64(const char *path) {
  unsigned char header[20];
  int file = open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0) return 0;
  ssize_t got = read(file, header, sizeof header);
  close(file);
  return got == (ssize_t)sizeof header && memcmp(header, "\177ELF", 4) == 0 && header[18] == 183 && header[19] == 0;
}

int execve(const char *path, char *const argv[], char *const envp[]) {
  int (*real)(const char *, char *const[], char *const[]) = dlsym(RTLD_NEXT, "execve");
  if (!is_aarch64(path)) return real(path, argv, envp);
  int count = 0;
  while (argv[count]) count++;
  char **emulated = calloc(count + 5, sizeof *emulated);
  const char *qemu = getenv("TEST_DEVICE_QEMU");
  emulated[0] = (char *)qemu;
  emulated[1] = "-cpu";
  emulated[2] = "cortex-a76"; /* the default emulates SVE and SME too, and is twelve times slower */
  emulated[3] = (char *)path;
  for (int i = 1; i < count; i++) emulated[3 + i] = argv[i];
  /* The emulated loader would complain about this library, which is not for its processor. */
  int variables = 0, kept = 0;
  while (envp[variables]) variables++;
  char **environment = calloc(variables + 1, sizeof *environment);
  for (int i = 0; i < variables; i++)
    if (strncmp(envp[i], "LD_PRELOAD=", 11) != 0) environment[kept++] = envp[i];
  return real(qemu, emulated, environment);
}
