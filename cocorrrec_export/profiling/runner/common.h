// What both runners share: options, raw tensor files, memory of the process, the measuring loop and the one JSON object.
//
// It assumes Linux with glibc (/proc/self/status, mallinfo2), a little-endian machine, and C++17. A runner includes it and defines one class
// with the members that `measure` uses.

#pragma once

#include <malloc.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

namespace runner {

struct Options {
  std::string model, entry, inputs, outputs, trace;
  std::string input_names, output_names;  // in the order of the raw bytes; for runtimes that order tensors themselves
  long iterations = 0;  // timed calls
  long warmup = 0;      // calls before them
  long threads = 1;
};

// Text that may stand in a JSON string.
inline std::string plain(const char* text) {
  std::string safe;
  for (const char* c = text; *c; c++) safe += (*c == '"' || *c == '\\' || (unsigned char)*c < 32) ? '\'' : *c;
  return safe;
}

// Every failure ends here: one JSON object that says so, and exit code 1.
[[noreturn]] inline void fail(const char* format, ...) {
  char text[600];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  printf("\n{\"runner\": 1, \"ok\": false, \"error\": \"%s\"}\n", plain(text).c_str());
  fflush(stdout);
  _Exit(1);
}

inline long number(const char* name, const char* text) {
  char* end = nullptr;
  long value = strtol(text, &end, 10);
  if (!*text || *end || value < 0 || value > 10000000) fail("%s must be a number from 0 to 10000000, got %s", name, text);
  return value;
}

inline Options parse(int argc, char** argv) {
  Options o;
  for (int i = 1; i < argc; i += 2) {
    std::string name = argv[i];
    if (i + 1 == argc) fail("%s needs a value", argv[i]);
    const char* value = argv[i + 1];
    if (name == "--model") o.model = value;
    else if (name == "--entry") o.entry = value;
    else if (name == "--inputs") o.inputs = value;
    else if (name == "--outputs") o.outputs = value;
    else if (name == "--trace") o.trace = value;
    else if (name == "--input-names") o.input_names = value;
    else if (name == "--output-names") o.output_names = value;
    else if (name == "--iterations") o.iterations = number(argv[i], value);
    else if (name == "--warmup") o.warmup = number(argv[i], value);
    else if (name == "--threads") o.threads = number(argv[i], value);
    else fail("unknown option %s", argv[i]);
  }
  if (o.model.empty() || o.entry.empty() || o.inputs.empty() || o.outputs.empty())
    fail("--model, --entry, --inputs and --outputs must be given");
  if (o.threads < 1) fail("--threads must be at least 1");
  return o;
}

inline std::vector<uint8_t> read_file(const std::string& path) {
  FILE* file = fopen(path.c_str(), "rb");
  if (!file) fail("cannot read %s: %s", path.c_str(), strerror(errno));
  std::vector<uint8_t> bytes;
  uint8_t block[1 << 16];
  for (size_t n; (n = fread(block, 1, sizeof block, file)) > 0;) bytes.insert(bytes.end(), block, block + n);
  if (ferror(file)) fail("cannot read %s: %s", path.c_str(), strerror(errno));
  fclose(file);
  return bytes;
}

inline void write_file(const std::string& path, const void* data, size_t size) {
  remove(path.c_str());
  FILE* file = fopen(path.c_str(), "wb");
  if (!file || fwrite(data, 1, size, file) != size || fflush(file) != 0)
    fail("cannot write %s: %s", path.c_str(), strerror(errno));
  fclose(file);
}

// Kilobytes: highest resident set so far, resident set now, its anonymous part and its mapped files. Bytes: what malloc
// has given out, which no page size rounds.
struct Memory {
  long peak = 0, resident = 0, anonymous = 0, mapped = 0, threads = 0;
  size_t heap = 0;
};

inline size_t heap_bytes() {
  struct mallinfo2 heap = mallinfo2();
  return heap.uordblks + heap.hblkhd;
}

inline Memory memory() {
  Memory m;
  FILE* file = fopen("/proc/self/status", "r");
  if (!file) fail("cannot read /proc/self/status: %s", strerror(errno));
  for (char line[256]; fgets(line, sizeof line, file);) {
    sscanf(line, "VmHWM: %ld", &m.peak);
    sscanf(line, "VmRSS: %ld", &m.resident);
    sscanf(line, "RssAnon: %ld", &m.anonymous);
    sscanf(line, "RssFile: %ld", &m.mapped);
    sscanf(line, "Threads: %ld", &m.threads);
  }
  fclose(file);
  m.heap = heap_bytes();
  return m;
}

inline int64_t now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

inline void print_memory(const char* stage, const Memory& m, bool last) {
  printf("\"%s\": {\"peak_kb\": %ld, \"resident_kb\": %ld, \"anonymous_kb\": %ld, \"mapped_kb\": %ld, "
         "\"heap_bytes\": %zu}%s",
         stage, m.peak, m.resident, m.anonymous, m.mapped, m.heap, last ? "" : ", ");
}

// Load, first call, every case once with its outputs written, warm up, time, report.
//
// The inputs file holds cases one after the other, each the raw bytes of all inputs in the order of the entry point;
// the outputs file gets the same of all outputs. A call is timed from the inputs in memory to the outputs in memory;
// timed calls go through the cases in turn.
template <class Program>
int measure(int argc, char** argv) {
  Memory idle = memory();
  Options o = parse(argc, argv);
  remove(o.outputs.c_str());  // what a crash leaves must not look like a success
  std::vector<uint8_t> inputs = read_file(o.inputs);
  std::vector<int64_t> samples;
  samples.reserve(o.iterations);
  Memory before = memory();

  int64_t start = now_ns();
  Program program(o);
  int64_t load_ns = now_ns() - start;
  Memory loaded = memory();

  size_t in = program.input_bytes(), out = program.output_bytes();
  if (in == 0 || inputs.empty() || inputs.size() % in)
    fail("%s has %zu bytes, not a multiple of the %zu that one call of %s takes", o.inputs.c_str(), inputs.size(), in,
         o.entry.c_str());
  size_t cases = inputs.size() / in;
  size_t own = heap_bytes();
  std::vector<uint8_t> outputs(cases * out), scratch(out);
  own = heap_bytes() - own;  // the measuring loop's, not the program's
  start = now_ns();
  program.call(inputs.data(), outputs.data());
  int64_t first_call_ns = now_ns() - start;
  Memory called = memory();
  called.heap -= own;
  for (size_t i = 1; i < cases; i++) program.call(&inputs[i * in], &outputs[i * out]);
  write_file(o.outputs, outputs.data(), outputs.size());

  for (long i = 0; i < o.warmup; i++) program.call(&inputs[i % cases * in], scratch.data());
  for (long i = 0; i < o.iterations; i++) {
    start = now_ns();
    program.call(&inputs[i % cases * in], scratch.data());
    samples.push_back(now_ns() - start);
  }
  program.finish();
  Memory end = memory();
  end.heap -= own;

  printf("\n{\"runner\": 1, \"ok\": true, \"entry_point\": \"%s\", \"threads\": %ld, \"process_threads\": %ld, \"cases\": %zu, \"load_ns\": %lld, "
         "\"first_call_ns\": %lld, \"planned_bytes\": %lld, \"program_bytes\": %lld, \"memory\": {",
         o.entry.c_str(), o.threads, end.threads, cases, (long long)load_ns, (long long)first_call_ns,
         (long long)program.planned_bytes(), (long long)program.program_bytes());
  print_memory("idle", idle, false);
  print_memory("before_load", before, false);
  print_memory("loaded", loaded, false);
  print_memory("first_call", called, false);
  print_memory("end", end, true);
  printf("}, \"latency_ns\": [");
  for (size_t i = 0; i < samples.size(); i++) printf("%s%lld", i ? ", " : "", (long long)samples[i]);
  printf("], \"complete\": true}\n");
  if (fflush(stdout)) return 1;
  _Exit(0);  // a thread pool's destructor has nothing to say any more
}

}  // namespace runner
