// Runs one method of an ExecuTorch program and prints what it cost: the program that cocorr-profile pushes to a phone.
//
//   runner --model scn.pte --entry rank --inputs in.bin --outputs out.bin --iterations 200 --warmup 20 --threads 1
//
// Assumes
//   - the libraries and headers of an executorch 1.5 wheel: libexecutorch, _etdump and _threadpool are linked;
//     _backend_xnnpack, _kernels_optimized and _kernels_quantized only register themselves and must be kept by the
//     linker (--no-as-needed). The compiler's std::string and std::variant must be those of libstdc++.
//   - tensors of float32 and int32 of fixed shape; inputs and outputs as raw bytes, see common.h;
//   - the whole file is read into memory, as ExecuTorch's Android and iOS bindings do by default.
// Writes one JSON object as the last line of stdout; ExecuTorch's own log goes to stderr. Exit code 0 only with
// "complete": true. With --trace every call is recorded in an ETDump, so such a run is not for timing.

#include <executorch/devtools/etdump/etdump_flatcc.h>
#include <executorch/extension/module/module.h>
#include <executorch/extension/tensor/tensor.h>
#include <executorch/runtime/platform/runtime.h>

#include <memory>

#include "common.h"

// The wheel ships this library without its header.
namespace executorch::extension::threadpool {
class ThreadPool {
 public:
  bool _unsafe_reset_threadpool(uint32_t threads);
};
ThreadPool* get_threadpool();
}  // namespace executorch::extension::threadpool

using executorch::aten::ScalarType;
using executorch::etdump::ETDumpGen;
using executorch::extension::Module;
using executorch::extension::TensorPtr;
using executorch::runtime::Error;
using executorch::runtime::EValue;

class Program {
 public:
  explicit Program(const runner::Options& o) : options_(o) {
    executorch::extension::threadpool::get_threadpool()->_unsafe_reset_threadpool(uint32_t(o.threads));
    std::unique_ptr<ETDumpGen> tracer;
    if (!o.trace.empty()) tracer = std::make_unique<ETDumpGen>();
    tracer_ = tracer.get();
    module_ = std::make_unique<Module>(o.model, Module::LoadMode::File, std::move(tracer));
    check(module_->load(), "cannot load " + o.model);
    auto meta = module_->method_meta(o.entry);
    if (!meta.ok()) runner::fail("%s has no method %s", o.model.c_str(), o.entry.c_str());
    check(module_->load_method(o.entry), "cannot load the method " + o.entry);
    for (size_t i = 0; i < meta->num_memory_planned_buffers(); i++) planned_ += meta->memory_planned_buffer_size(i).get();
    for (size_t i = 0; i < meta->num_inputs(); i++) add_input(meta->input_tensor_meta(i), i);
    for (size_t i = 0; i < meta->num_outputs(); i++) {
      auto tensor = meta->output_tensor_meta(i);
      if (!tensor.ok()) runner::fail("output %zu of %s is no tensor", i, o.entry.c_str());
      output_bytes_ += tensor->nbytes();
    }
  }

  size_t input_bytes() const { return input_bytes_; }
  size_t output_bytes() const { return output_bytes_; }
  int64_t planned_bytes() const { return planned_; }

  void call(const uint8_t* in, uint8_t* out) {
    for (auto& input : inputs_) {
      memcpy(input->mutable_data_ptr(), in, input->nbytes());
      in += input->nbytes();
    }
    auto result = module_->execute(options_.entry, values_);
    if (!result.ok()) check(result.error(), "the method " + options_.entry + " failed");
    for (const EValue& value : *result) {
      const auto& tensor = value.toTensor();
      memcpy(out, tensor.const_data_ptr(), tensor.nbytes());
      out += tensor.nbytes();
    }
  }

  void finish() {
    if (!tracer_) return;
    auto dump = tracer_->get_etdump_data();
    if (!dump.buf || !dump.size) runner::fail("ExecuTorch traced nothing");
    runner::write_file(options_.trace, dump.buf, dump.size);
    free(dump.buf);
  }

 private:
  template <class Meta>
  void add_input(const Meta& meta, size_t index) {
    if (!meta.ok()) runner::fail("input %zu of %s is no tensor", index, options_.entry.c_str());
    ScalarType type = meta->scalar_type();
    if (type != ScalarType::Float && type != ScalarType::Int)
      runner::fail("input %zu of %s is neither float32 nor int32", index, options_.entry.c_str());
    std::vector<executorch::aten::SizesType> sizes(meta->sizes().begin(), meta->sizes().end());
    std::vector<uint8_t> zeros(meta->nbytes());
    input_bytes_ += zeros.size();
    inputs_.push_back(executorch::extension::make_tensor_ptr(sizes, std::move(zeros), {}, {}, type));
    values_.emplace_back(inputs_.back());
  }

  static void check(Error error, const std::string& what) {
    if (error == Error::Ok) return;
    runner::fail("%s: ExecuTorch error 0x%x%s", what.c_str(), unsigned(error),
                 error == Error::NotFound            ? ", a backend is not in this runner"
                 : error == Error::OperatorMissing   ? ", an operator is not in this runner"
                 : error == Error::InvalidProgram    ? ", not a program of this version, or a damaged one"
                 : error == Error::AccessFailed      ? ", the file cannot be read"
                                                     : "");
  }

  runner::Options options_;
  ETDumpGen* tracer_ = nullptr;
  std::unique_ptr<Module> module_;
  std::vector<TensorPtr> inputs_;
  std::vector<EValue> values_;
  size_t input_bytes_ = 0, output_bytes_ = 0;
  int64_t planned_ = 0;
};

int main(int argc, char** argv) {
  executorch::runtime::runtime_init();
  return runner::measure<Program>(argc, argv);
}
