// Linked into the libc.so that imports.py writes: has its table filled when it is loaded.
extern const char names[] __attribute__((visibility("hidden")));
extern void *table[] __attribute__((visibility("hidden")));
extern char __sF[];
void bionic_fill(const char *, void **, char *);
__attribute__((constructor)) static void fill(void) { bionic_fill(names, table, __sF); }
