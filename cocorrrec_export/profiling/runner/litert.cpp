// Runs one signature of a .tflite file with LiteRT and prints what it cost; the same options and output as
// executorch.cpp.
//
// Assumes
//   - libLiteRt.so of an ai-edge-litert 2.3 wheel, which comes without headers: the prototypes below are ours. Of its
//     structures only LiteRtRankedTensorType is looked into; its size is what the library was compiled with.
//   - tensors of float32 and int32 of fixed shape. A file orders the tensors of a signature as it likes, so their names
//     are given in the order of the raw bytes: --input-names ids,candidates --output-names scores;
//   - the CPU, through XNNPACK. LiteRT tells its log level to nobody: its log goes to stderr.
// LiteRT reports no planned memory; that figure is 0. With --trace its profiler is on, so such a run is not for timing;
// the trace is one JSON object: calls, and for each kind of operator how many ran in all calls and their microseconds.

#include <map>

#include "common.h"

extern "C" {
typedef int LiteRtStatus;  // 0: ok
typedef struct LiteRtEnvironmentT* LiteRtEnvironment;
typedef struct LiteRtModelT* LiteRtModel;
typedef struct LiteRtSignatureT* LiteRtSignature;
typedef struct LiteRtTensorT* LiteRtTensor;
typedef struct LiteRtOptionsT* LiteRtOptions;
typedef struct LiteRtOpaqueOptionsT* LiteRtOpaqueOptions;
typedef struct LiteRtCompiledModelT* LiteRtCompiledModel;
typedef struct LiteRtTensorBufferT* LiteRtTensorBuffer;
typedef struct LiteRtTensorBufferRequirementsT* LiteRtTensorBufferRequirements;
typedef size_t LiteRtParamIndex;
typedef struct {
  int32_t element_type;  // 1: float32, 2: int32
  uint32_t rank_and_flags;
  int32_t dimensions[8];
  uint32_t strides[8];
} LiteRtRankedTensorType;
static_assert(sizeof(LiteRtRankedTensorType) == 72, "another structure than the library's");
typedef struct LiteRtProfilerT* LiteRtProfiler;
typedef struct {
  const char* tag;
  int32_t type;  // bits, 2: an operator, 4 and 8: one inside a delegate
  uint64_t start_us, elapsed_us, memory[6], metadata[2];
  int32_t source;
} LiteRtEvent;
static_assert(sizeof(LiteRtEvent) == 104, "another structure than the library's");

LiteRtStatus LiteRtCreateEnvironment(int options, const void* values, LiteRtEnvironment*);
LiteRtStatus LiteRtCreateModelFromFile(LiteRtEnvironment, const char* path, LiteRtModel*);
LiteRtStatus LiteRtGetNumModelSignatures(LiteRtModel, LiteRtParamIndex*);
LiteRtStatus LiteRtGetModelSignature(LiteRtModel, LiteRtParamIndex, LiteRtSignature*);
LiteRtStatus LiteRtGetSignatureKey(LiteRtSignature, const char**);
LiteRtStatus LiteRtGetNumSignatureInputs(LiteRtSignature, LiteRtParamIndex*);
LiteRtStatus LiteRtGetNumSignatureOutputs(LiteRtSignature, LiteRtParamIndex*);
LiteRtStatus LiteRtGetSignatureInputName(LiteRtSignature, LiteRtParamIndex, const char**);
LiteRtStatus LiteRtGetSignatureOutputName(LiteRtSignature, LiteRtParamIndex, const char**);
LiteRtStatus LiteRtGetSignatureInputTensorByIndex(LiteRtSignature, LiteRtParamIndex, LiteRtTensor*);
LiteRtStatus LiteRtGetSignatureOutputTensorByIndex(LiteRtSignature, LiteRtParamIndex, LiteRtTensor*);
LiteRtStatus LiteRtGetRankedTensorType(LiteRtTensor, LiteRtRankedTensorType*);
LiteRtStatus LiteRtCreateOptions(LiteRtOptions*);
LiteRtStatus LiteRtSetOptionsHardwareAccelerators(LiteRtOptions, int accelerators);  // 1: CPU
LiteRtStatus LiteRtCreateOpaqueOptions(const char* name, void* payload, void (*destroy)(void*), LiteRtOpaqueOptions*);
LiteRtStatus LiteRtAddOpaqueOptions(LiteRtOptions, LiteRtOpaqueOptions);
LiteRtStatus LiteRtCreateCompiledModel(LiteRtEnvironment, LiteRtModel, LiteRtOptions, LiteRtCompiledModel*);
LiteRtStatus LiteRtGetCompiledModelInputBufferRequirements(LiteRtCompiledModel, LiteRtParamIndex signature,
                                                           LiteRtParamIndex, LiteRtTensorBufferRequirements*);
LiteRtStatus LiteRtGetCompiledModelOutputBufferRequirements(LiteRtCompiledModel, LiteRtParamIndex signature,
                                                            LiteRtParamIndex, LiteRtTensorBufferRequirements*);
LiteRtStatus LiteRtCreateManagedTensorBufferFromRequirements(LiteRtEnvironment, const LiteRtRankedTensorType*,
                                                             LiteRtTensorBufferRequirements, LiteRtTensorBuffer*);
LiteRtStatus LiteRtLockTensorBuffer(LiteRtTensorBuffer, void** address, int mode);  // 0: read, 1: write
LiteRtStatus LiteRtUnlockTensorBuffer(LiteRtTensorBuffer);
LiteRtStatus LiteRtCompiledModelGetProfiler(LiteRtCompiledModel, LiteRtProfiler*);
LiteRtStatus LiteRtStartProfiler(LiteRtProfiler);
LiteRtStatus LiteRtStopProfiler(LiteRtProfiler);
LiteRtStatus LiteRtGetNumProfilerEvents(LiteRtProfiler, int*);
LiteRtStatus LiteRtGetProfilerEvents(LiteRtProfiler, int, LiteRtEvent*);
LiteRtStatus LiteRtRunCompiledModel(LiteRtCompiledModel, LiteRtParamIndex signature, size_t inputs, LiteRtTensorBuffer*,
                                    size_t outputs, LiteRtTensorBuffer*);
}

class Program {
 public:
  explicit Program(const runner::Options& o) : options_(o) {
    check(LiteRtCreateEnvironment(0, nullptr, &environment_), "cannot start LiteRT");
    size_t before = runner::heap_bytes();
    check(LiteRtCreateModelFromFile(environment_, o.model.c_str(), &model_), "cannot load " + o.model);
    program_bytes_ = runner::heap_bytes() - before;
    LiteRtSignature signature = find_signature();
    LiteRtOptions options;
    check(LiteRtCreateOptions(&options), "no options");
    check(LiteRtSetOptionsHardwareAccelerators(options, 1), "no CPU");
    add(options, "xnnpack", "num_threads = " + std::to_string(o.threads));
    if (!o.trace.empty()) add(options, "runtime_options_string", "enable_profiling = true");
    check(LiteRtCreateCompiledModel(environment_, model_, options, &compiled_), "cannot compile " + o.model);
    if (!o.trace.empty()) {
      check(LiteRtCompiledModelGetProfiler(compiled_, &profiler_), "no profiler");
      check(LiteRtStartProfiler(profiler_), "LiteRT did not make a profiler");
    }
    inputs_ = tensors(signature, true, o.input_names);
    outputs_ = tensors(signature, false, o.output_names);
  }

  size_t input_bytes() const { return inputs_.bytes; }
  size_t output_bytes() const { return outputs_.bytes; }
  int64_t planned_bytes() const { return 0; }
  int64_t program_bytes() const { return program_bytes_; }

  void finish() {
    if (!profiler_) return;
    check(LiteRtStopProfiler(profiler_), "cannot stop the profiler");
    int count = 0;
    check(LiteRtGetNumProfilerEvents(profiler_, &count), "no number of events");
    if (count == 0) runner::fail("LiteRT traced nothing");
    std::vector<LiteRtEvent> events(count);
    check(LiteRtGetProfilerEvents(profiler_, count, events.data()), "no events");
    std::map<std::pair<std::string, bool>, std::pair<long, uint64_t>> kinds;  // operators of all calls, microseconds
    for (const LiteRtEvent& event : events) {
      if (!(event.type & (2 | 4 | 8))) continue;
      auto& kind = kinds[{event.tag, event.type != 2}];
      kind.first++;
      kind.second += event.elapsed_us;
    }
    std::string text = "{\"calls\": " + std::to_string(calls_) + ", \"kinds\": [";
    const char* comma = "";
    for (const auto& [key, sums] : kinds) {
      text += std::string(comma) + "[\"" + runner::plain(key.first.c_str()) + "\", " + (key.second ? "true" : "false") +
              ", " + std::to_string(sums.first) + ", " + std::to_string(sums.second) + "]";
      comma = ", ";
    }
    text += "]}";
    runner::write_file(options_.trace, text.data(), text.size());
  }

  void call(const uint8_t* in, uint8_t* out) {
    calls_++;
    for (size_t i : inputs_.order) in = copy(inputs_, i, const_cast<uint8_t*>(in), true);
    check(LiteRtRunCompiledModel(compiled_, signature_, inputs_.buffers.size(), inputs_.buffers.data(),
                                 outputs_.buffers.size(), outputs_.buffers.data()),
          "the signature " + options_.entry + " failed");
    for (size_t i : outputs_.order) out = copy(outputs_, i, out, false);
  }

 private:
  static void add(LiteRtOptions options, const char* name, const std::string& text) {
    LiteRtOpaqueOptions opaque;  // LiteRT frees the text, and ignores an option under another name without a word
    check(LiteRtCreateOpaqueOptions(name, strdup(text.c_str()), free, &opaque), std::string("no options ") + name);
    check(LiteRtAddOpaqueOptions(options, opaque), std::string("no options ") + name);
  }

  // The tensors of one side in the file's order, and the order of the raw bytes as indices into it.
  struct Side {
    std::vector<LiteRtTensorBuffer> buffers;
    std::vector<size_t> sizes, order;
    size_t bytes = 0;
  };

  LiteRtSignature find_signature() {
    LiteRtParamIndex count = 0;
    check(LiteRtGetNumModelSignatures(model_, &count), "no signatures");
    for (signature_ = 0; signature_ < count; signature_++) {
      LiteRtSignature signature;
      const char* key = nullptr;
      check(LiteRtGetModelSignature(model_, signature_, &signature), "no signature");
      check(LiteRtGetSignatureKey(signature, &key), "no name of a signature");
      if (options_.entry == key) return signature;
    }
    runner::fail("%s has no signature %s", options_.model.c_str(), options_.entry.c_str());
  }

  Side tensors(LiteRtSignature signature, bool input, const std::string& names) {
    Side side;
    std::map<std::string, size_t> index;
    LiteRtParamIndex count = 0;
    check(input ? LiteRtGetNumSignatureInputs(signature, &count) : LiteRtGetNumSignatureOutputs(signature, &count),
          "no tensors");
    for (size_t i = 0; i < count; i++) {
      const char* name = nullptr;
      LiteRtTensor tensor;
      LiteRtRankedTensorType type;
      LiteRtTensorBufferRequirements requirements;
      LiteRtTensorBuffer buffer;
      check(input ? LiteRtGetSignatureInputName(signature, i, &name) : LiteRtGetSignatureOutputName(signature, i, &name),
            "a tensor has no name");
      check(input ? LiteRtGetSignatureInputTensorByIndex(signature, i, &tensor)
                  : LiteRtGetSignatureOutputTensorByIndex(signature, i, &tensor),
            std::string("no tensor ") + name);
      check(LiteRtGetRankedTensorType(tensor, &type), std::string("no type of ") + name);
      if (type.element_type != 1 && type.element_type != 2) runner::fail("%s is neither float32 nor int32", name);
      size_t bytes = 4;
      for (uint32_t d = 0; d < (type.rank_and_flags & 0x7f) && d < 8; d++) bytes *= size_t(type.dimensions[d]);
      check(input ? LiteRtGetCompiledModelInputBufferRequirements(compiled_, signature_, i, &requirements)
                  : LiteRtGetCompiledModelOutputBufferRequirements(compiled_, signature_, i, &requirements),
            std::string("no requirements of ") + name);
      check(LiteRtCreateManagedTensorBufferFromRequirements(environment_, &type, requirements, &buffer),
            std::string("no buffer for ") + name);
      index[name] = i;
      side.buffers.push_back(buffer);
      side.sizes.push_back(bytes);
      side.bytes += bytes;
    }
    for (size_t start = 0; start <= names.size();) {
      size_t end = std::min(names.find(',', start), names.size());
      auto found = index.find(names.substr(start, end - start));
      if (found == index.end()) runner::fail("%s has no tensor %s", options_.entry.c_str(), names.substr(start, end - start).c_str());
      side.order.push_back(found->second);
      start = end + 1;
    }
    if (side.order.size() != count) runner::fail("%s has %zu tensors, %zu were named", options_.entry.c_str(), size_t(count), side.order.size());
    return side;
  }

  static uint8_t* copy(Side& side, size_t i, uint8_t* bytes, bool in) {
    void* address = nullptr;
    check(LiteRtLockTensorBuffer(side.buffers[i], &address, in ? 1 : 0), "cannot lock a buffer");
    memcpy(in ? address : bytes, in ? bytes : address, side.sizes[i]);
    check(LiteRtUnlockTensorBuffer(side.buffers[i]), "cannot unlock a buffer");
    return bytes + side.sizes[i];
  }

  static void check(LiteRtStatus status, const std::string& what) {
    if (status) runner::fail("%s: LiteRT status %d", what.c_str(), status);
  }

  runner::Options options_;
  LiteRtEnvironment environment_ = nullptr;
  LiteRtModel model_ = nullptr;
  LiteRtCompiledModel compiled_ = nullptr;
  LiteRtProfiler profiler_ = nullptr;
  LiteRtParamIndex signature_ = 0;
  long calls_ = 0;
  int64_t program_bytes_ = 0;
  Side inputs_, outputs_;
};

int main(int argc, char** argv) { return runner::measure<Program>(argc, argv); }
