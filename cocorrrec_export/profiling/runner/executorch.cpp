// Runs one method of an ExecuTorch program and prints what it cost: the program that cocorr-profile pushes to a phone.
//
//   runner --model scn.pte --entry rank --inputs in.bin --outputs out.bin --iterations 200 --warmup 20 --threads 1
//
// Assumes
//   - the libraries and headers of an executorch 1.5 wheel: libexecutorch, _etdump and _threadpool are linked;
//     _backend_xnnpack, _kernels_optimized and _kernels_quantized only register themselves and must be kept by the
//     linker (--no-as-needed). No string or vector crosses their border, so another C++ library than theirs will do
//     (zig's libc++), if its std::variant keeps its index in one byte, as libstdc++'s does;
//   - tensors of float32 and int32 of fixed shape; inputs and outputs as raw bytes, see common.h;
//   - the whole file is read into memory, as ExecuTorch's Android and iOS bindings do by default.
// Writes one JSON object as the last line of stdout; ExecuTorch's own log goes to stderr. Exit code 0 only with
// "complete": true. With --trace every call is recorded in an ETDump, so such a run is not for timing.

#include <executorch/devtools/etdump/etdump_flatcc.h>
#include <executorch/extension/data_loader/file_data_loader.h>
#include <executorch/extension/memory_allocator/malloc_memory_allocator.h>
#include <executorch/runtime/executor/memory_manager.h>
#include <executorch/runtime/executor/method.h>
#include <executorch/runtime/executor/program.h>
#include <executorch/runtime/platform/runtime.h>

#include <deque>
#include <memory>
#include <optional>

#include "common.h"

// The wheel ships this library without its header.
namespace executorch::extension::threadpool {
class ThreadPool {
 public:
  bool _unsafe_reset_threadpool(uint32_t threads);
};
ThreadPool* get_threadpool();
}  // namespace executorch::extension::threadpool

namespace et = executorch::runtime;
using executorch::aten::ScalarType;
using executorch::aten::Tensor;
using executorch::aten::TensorImpl;
using executorch::etdump::ETDumpGen;
using executorch::extension::FileDataLoader;
using executorch::extension::MallocMemoryAllocator;

class Program {
 public:
  explicit Program(const runner::Options& o) : options_(o) {
    executorch::extension::threadpool::get_threadpool()->_unsafe_reset_threadpool(uint32_t(o.threads));
    if (!o.trace.empty()) tracer_ = std::make_unique<ETDumpGen>();
    size_t before = runner::heap_bytes();
    loader_.emplace(take(FileDataLoader::from(o.model.c_str()), "cannot load " + o.model));
    program_.emplace(take(et::Program::load(&*loader_), "cannot load " + o.model));
    program_bytes_ = runner::heap_bytes() - before;
    auto found = program_->method_meta(o.entry.c_str());
    if (!found.ok()) runner::fail("%s has no method %s", o.model.c_str(), o.entry.c_str());
    const et::MethodMeta meta = *found;
    for (size_t i = 0; i < meta.num_memory_planned_buffers(); i++) {
      arena_.emplace_back(size_t(meta.memory_planned_buffer_size(i).get()));
      spans_.emplace_back(arena_.back().data(), arena_.back().size());
      planned_ += int64_t(arena_.back().size());
    }
    planned_memory_.emplace(et::Span<et::Span<uint8_t>>(spans_.data(), spans_.size()));
    manager_.emplace(&objects_, &*planned_memory_, &temporary_);
    method_.emplace(take(program_->load_method(o.entry.c_str(), &*manager_, tracer_.get()),
                         "cannot load the method " + o.entry));
    for (size_t i = 0; i < meta.num_inputs(); i++) add_input(meta.input_tensor_meta(i), i);
    for (size_t i = 0; i < meta.num_outputs(); i++) {
      auto tensor = meta.output_tensor_meta(i);
      if (!tensor.ok()) runner::fail("output %zu of %s is no tensor", i, o.entry.c_str());
      output_bytes_ += tensor->nbytes();
    }
  }

  size_t input_bytes() const { return input_bytes_; }
  size_t output_bytes() const { return output_bytes_; }
  int64_t planned_bytes() const { return planned_; }
  int64_t program_bytes() const { return program_bytes_; }

  void call(const uint8_t* in, uint8_t* out) {
    for (size_t i = 0; i < inputs_.size(); i++) {
      size_t bytes = inputs_[i].data.size();
      memcpy(inputs_[i].data.data(), in, bytes);
      check(method_->set_input(et::EValue(Tensor(&*inputs_[i].tensor)), i), "an input was refused");
      in += bytes;
    }
    check(method_->execute(), "the method " + options_.entry + " failed");
    for (size_t i = 0; i < method_->outputs_size(); i++) {
      const Tensor& tensor = method_->get_output(i).toTensor();
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
  struct Input {
    std::vector<TensorImpl::SizesType> sizes;
    std::vector<TensorImpl::DimOrderType> order;
    std::vector<TensorImpl::StridesType> strides;
    std::vector<uint8_t> data;
    std::optional<TensorImpl> tensor;  // points into the others
  };

  template <class Meta>
  void add_input(const Meta& meta, size_t index) {
    if (!meta.ok()) runner::fail("input %zu of %s is no tensor", index, options_.entry.c_str());
    ScalarType type = meta->scalar_type();
    if (type != ScalarType::Float && type != ScalarType::Int)
      runner::fail("input %zu of %s is neither float32 nor int32", index, options_.entry.c_str());
    Input& input = inputs_.emplace_back();
    input.sizes.assign(meta->sizes().begin(), meta->sizes().end());
    input.order.resize(input.sizes.size());
    input.strides.resize(input.sizes.size());
    TensorImpl::StridesType stride = 1;
    for (size_t d = input.sizes.size(); d-- > 0; stride *= input.sizes[d]) {
      input.order[d] = TensorImpl::DimOrderType(d);
      input.strides[d] = stride;
    }
    input.data.resize(meta->nbytes());
    input_bytes_ += input.data.size();
    input.tensor.emplace(type, ssize_t(input.sizes.size()), input.sizes.data(), input.data.data(), input.order.data(),
                         input.strides.data());
  }

  template <class T>
  static T take(et::Result<T> result, const std::string& what) {
    if (!result.ok()) check(result.error(), what);
    return std::move(*result);
  }

  static void check(et::Error error, const std::string& what) {
    if (error == et::Error::Ok) return;
    runner::fail("%s: ExecuTorch error 0x%x%s", what.c_str(), unsigned(error),
                 error == et::Error::NotFound          ? ", a backend is not in this runner"
                 : error == et::Error::OperatorMissing ? ", an operator is not in this runner"
                 : error == et::Error::InvalidProgram  ? ", not a program of this version, or a damaged one"
                 : error == et::Error::AccessFailed    ? ", the file cannot be read"
                                                       : "");
  }

  runner::Options options_;
  std::unique_ptr<ETDumpGen> tracer_;
  std::optional<FileDataLoader> loader_;
  std::optional<et::Program> program_;
  std::vector<std::vector<uint8_t>> arena_;
  std::vector<et::Span<uint8_t>> spans_;
  std::optional<et::HierarchicalAllocator> planned_memory_;
  MallocMemoryAllocator objects_, temporary_;
  std::optional<et::MemoryManager> manager_;
  std::optional<et::Method> method_;
  std::deque<Input> inputs_;
  size_t input_bytes_ = 0, output_bytes_ = 0;
  int64_t planned_ = 0, program_bytes_ = 0;
};

int main(int argc, char** argv) {
  executorch::runtime::runtime_init();
  return runner::measure<Program>(argc, argv);
}
