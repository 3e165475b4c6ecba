// An exported program on a desk: a C face of ExecuTorch, for tests of the demo apps on Linux.
//
// All buffers are dense and row by row. A program may be used by one thread at a time.
#ifndef SCN_HOST_H
#define SCN_HOST_H
#include <stddef.h>
#include <stdint.h>
#ifdef __cplusplus
extern "C" {
#endif

typedef struct scn_program scn_program;

typedef enum { SCN_INPUT = 0, SCN_OUTPUT = 1 } scn_side;
typedef enum { SCN_FLOAT32 = 0, SCN_INT32 = 1 } scn_type;

typedef struct {
  scn_type type;
  int64_t bytes;
  int32_t dimensions;
  int32_t shape[8];
} scn_tensor;

// Read a program; NULL, and a sentence in `error`, if it cannot be read.
scn_program *scn_open(const char *path, int threads, char *error, size_t error_size);
void scn_close(scn_program *program);

// How many inputs or outputs a method has; -1 if there is no such method.
int scn_count(scn_program *program, const char *method, scn_side side);

// What one of them is; 0, or an error with a sentence in `error`.
int scn_describe(scn_program *program, const char *method, scn_side side, int index, scn_tensor *tensor, char *error,
                 size_t error_size);

// Run a method on all its inputs. Each size is checked against the program; 0, or an error with a sentence in `error`.
int scn_run(scn_program *program, const char *method, const void *const *inputs, const size_t *input_bytes,
            int input_count, void *const *outputs, const size_t *output_bytes, int output_count, char *error,
            size_t error_size);

#ifdef __cplusplus
}
#endif
#endif
