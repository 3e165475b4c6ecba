// See scn_host.h. Assumes the libraries and headers of an executorch 1.5 wheel.
#include "scn_host.h"

#include <executorch/extension/module/module.h>
#include <executorch/extension/tensor/tensor.h>

#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

// The wheel ships this library without its header.
namespace executorch::extension::threadpool {
class ThreadPool {
 public:
  bool _unsafe_reset_threadpool(uint32_t threads);
};
ThreadPool *get_threadpool();
}  // namespace executorch::extension::threadpool

namespace ext = executorch::extension;
namespace rt = executorch::runtime;
using executorch::aten::ScalarType;

struct scn_program {
  explicit scn_program(const char *path) : module(path, ext::Module::LoadMode::Mmap) {}
  ext::Module module;
};

namespace {
constexpr int kWrongUse = -1;

struct Message {
  char *text;
  size_t size;

  int fail(int code, const std::string &sentence) const {
    if (text && size) std::snprintf(text, size, "%s", sentence.c_str());
    return code;
  }
  int fail(rt::Error error, const std::string &what) const {
    return fail(int(error), what + ": ExecuTorch error " + std::to_string(int(error)));
  }
};

size_t count(const rt::MethodMeta &meta, scn_side side) {
  return side == SCN_INPUT ? meta.num_inputs() : meta.num_outputs();
}

rt::Result<rt::TensorInfo> info(const rt::MethodMeta &meta, scn_side side, size_t index) {
  return side == SCN_INPUT ? meta.input_tensor_meta(index) : meta.output_tensor_meta(index);
}
}  // namespace

scn_program *scn_open(const char *path, int threads, char *error, size_t error_size) {
  const Message message{error, error_size};
  if (threads > 0) ext::threadpool::get_threadpool()->_unsafe_reset_threadpool(uint32_t(threads));
  auto program = std::make_unique<scn_program>(path);
  if (auto code = program->module.load(); code != rt::Error::Ok) {
    message.fail(code, std::string(path) + " is not a program that ExecuTorch can load");
    return nullptr;
  }
  return program.release();
}

void scn_close(scn_program *program) { delete program; }

int scn_count(scn_program *program, const char *method, scn_side side) {
  auto meta = program->module.method_meta(method);
  return meta.ok() ? int(count(*meta, side)) : -1;
}

int scn_describe(scn_program *program, const char *method, scn_side side, int index, scn_tensor *tensor, char *error,
                 size_t error_size) {
  const Message message{error, error_size};
  auto meta = program->module.method_meta(method);
  if (!meta.ok()) return message.fail(meta.error(), std::string("no method ") + method);
  if (index < 0 || size_t(index) >= count(*meta, side))
    return message.fail(kWrongUse, std::string(method) + " has no tensor " + std::to_string(index));
  auto found = info(*meta, side, size_t(index));
  if (!found.ok()) return message.fail(found.error(), method);
  const bool whole = found->scalar_type() == ScalarType::Int;
  if ((!whole && found->scalar_type() != ScalarType::Float) || found->sizes().size() > 8)
    return message.fail(kWrongUse, std::string(method) + ": neither float32 nor int32 of at most 8 dimensions");
  tensor->type = whole ? SCN_INT32 : SCN_FLOAT32;
  tensor->bytes = int64_t(found->nbytes());
  tensor->dimensions = int32_t(found->sizes().size());
  std::copy(found->sizes().begin(), found->sizes().end(), tensor->shape);
  return 0;
}

int scn_run(scn_program *program, const char *method, const void *const *inputs, const size_t *input_bytes,
            int input_count, void *const *outputs, const size_t *output_bytes, int output_count, char *error,
            size_t error_size) {
  const Message message{error, error_size};
  const std::string name(method);
  auto meta = program->module.method_meta(name);
  if (!meta.ok()) return message.fail(meta.error(), "no method " + name);
  if (int(meta->num_inputs()) != input_count || int(meta->num_outputs()) != output_count)
    return message.fail(kWrongUse, name + " takes " + std::to_string(meta->num_inputs()) + " tensors and gives " +
                                       std::to_string(meta->num_outputs()));
  std::vector<ext::TensorPtr> tensors;
  std::vector<rt::EValue> values;
  for (int i = 0; i < input_count; ++i) {
    auto tensor = meta->input_tensor_meta(size_t(i));
    if (!tensor.ok() || tensor->nbytes() != input_bytes[i])
      return message.fail(kWrongUse, name + ": input " + std::to_string(i) + " has the wrong size");
    std::vector<executorch::aten::SizesType> sizes(tensor->sizes().begin(), tensor->sizes().end());
    tensors.push_back(ext::from_blob(const_cast<void *>(inputs[i]), sizes, tensor->scalar_type()));
    values.emplace_back(*tensors.back());
  }
  auto result = program->module.execute(name, values);
  if (!result.ok()) return message.fail(result.error(), name);
  for (int i = 0; i < output_count; ++i) {
    auto tensor = (*result)[size_t(i)].toTensor();
    if (tensor.nbytes() != output_bytes[i])
      return message.fail(kWrongUse, name + ": output " + std::to_string(i) + " has the wrong size");
    std::memcpy(outputs[i], tensor.const_data_ptr(), tensor.nbytes());
  }
  return 0;
}
