// Runs signatures of a .tflite through TensorFlow Lite's C API: run_tflite BIONIC_FOLDER LIBRARY MODEL.
//
// Reads calls on stdin, writes results on stdout, until stdin ends:
//   call     SIGNATURE INPUTS OUTPUTS\n, then for each input NAME BYTES\n and its bytes, then for each output NAME\n
//   result   for each output BYTES\n and its bytes
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

// The headers in the AAR do not compile by themselves, so: what this program calls.
typedef struct TfLiteModel TfLiteModel;
typedef struct TfLiteInterpreter TfLiteInterpreter;
typedef struct TfLiteInterpreterOptions TfLiteInterpreterOptions;
typedef struct TfLiteSignatureRunner TfLiteSignatureRunner;
typedef struct TfLiteTensor TfLiteTensor;

static void *library;

static void fail(const char *what, const char *name) {
  fprintf(stderr, "run_tflite: %s %s\n", what, name);
  exit(1);
}

static void *function(const char *name) {
  void *found = dlsym(library, name);
  if (!found) fail("the library has no", name);
  return found;
}

#define CALL(type, name, ...) ((type)function(#name))(__VA_ARGS__)

static void load(const char *folder, const char *path) {
  const char *names[] = {"libc.so", "libm.so", "libdl.so", "liblog.so"};
  for (int i = 0; i < 4; ++i) {
    char place[512];
    snprintf(place, sizeof place, "%s/%s", folder, names[i]);
    if (!dlopen(place, RTLD_NOW | RTLD_GLOBAL)) fail("cannot load", dlerror());
  }
  library = dlopen(path, RTLD_NOW);
  if (!library) fail("cannot load", dlerror());
}

static void read_input(TfLiteSignatureRunner *runner) {
  char name[64];
  size_t bytes;
  if (scanf("%63s %zu", name, &bytes) != 2 || getchar() != '\n') fail("bad input of", "a call");
  TfLiteTensor *tensor = CALL(TfLiteTensor * (*)(TfLiteSignatureRunner *, const char *), TfLiteSignatureRunnerGetInputTensor, runner, name);
  if (!tensor) fail("no input", name);
  if (CALL(size_t (*)(const TfLiteTensor *), TfLiteTensorByteSize, tensor) != bytes) fail("another size of", name);
  void *data = CALL(void *(*)(const TfLiteTensor *), TfLiteTensorData, tensor);
  if (fread(data, 1, bytes, stdin) != bytes) fail("too few bytes of", name);
}

static void write_output(TfLiteSignatureRunner *runner) {
  char name[64];
  if (scanf("%63s", name) != 1 || getchar() != '\n') fail("bad output of", "a call");
  const TfLiteTensor *tensor = CALL(const TfLiteTensor *(*)(TfLiteSignatureRunner *, const char *), TfLiteSignatureRunnerGetOutputTensor, runner, name);
  if (!tensor) fail("no output", name);
  const size_t bytes = CALL(size_t (*)(const TfLiteTensor *), TfLiteTensorByteSize, tensor);
  printf("%zu\n", bytes);
  fwrite(CALL(void *(*)(const TfLiteTensor *), TfLiteTensorData, tensor), 1, bytes, stdout);
}

int main(int count, char **arguments) {
  if (count != 4) fail("usage: run_tflite", "BIONIC_FOLDER LIBRARY MODEL");
  load(arguments[1], arguments[2]);
  fprintf(stderr, "TensorFlow Lite %s\n", CALL(const char *(*)(void), TfLiteVersion));
  TfLiteModel *model = CALL(TfLiteModel * (*)(const char *), TfLiteModelCreateFromFile, arguments[3]);
  if (!model) fail("no model", arguments[3]);
  TfLiteInterpreterOptions *options = CALL(TfLiteInterpreterOptions * (*)(void), TfLiteInterpreterOptionsCreate);
  CALL(void (*)(TfLiteInterpreterOptions *, int), TfLiteInterpreterOptionsSetNumThreads, options, 1);
  TfLiteInterpreter *interpreter = CALL(TfLiteInterpreter * (*)(TfLiteModel *, TfLiteInterpreterOptions *), TfLiteInterpreterCreate, model, options);
  if (!interpreter) fail("no interpreter for", arguments[3]);
  char name[64];
  int inputs, outputs;
  while (scanf("%63s %d %d", name, &inputs, &outputs) == 3 && getchar() == '\n') {
    TfLiteSignatureRunner *runner = CALL(TfLiteSignatureRunner * (*)(TfLiteInterpreter *, const char *), TfLiteInterpreterGetSignatureRunner, interpreter, name);
    if (!runner || CALL(int (*)(TfLiteSignatureRunner *), TfLiteSignatureRunnerAllocateTensors, runner)) fail("no signature", name);
    while (inputs--) read_input(runner);
    if (CALL(int (*)(TfLiteSignatureRunner *), TfLiteSignatureRunnerInvoke, runner)) fail("cannot run", name);
    while (outputs--) write_output(runner);
    fflush(stdout);
  }
  return 0;
}
