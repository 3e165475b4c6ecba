// The natives of android_demo/build-support/executorch-api, over scn_host: an exported .pte on a desk's JVM. Tests only.
#include <jni.h>

#include <string>
#include <vector>

#include "scn_host.h"

namespace {
class Text {
 public:
  Text(JNIEnv *env, jstring value) : env_(env), value_(value), chars_(env->GetStringUTFChars(value, nullptr)) {}
  ~Text() { env_->ReleaseStringUTFChars(value_, chars_); }
  operator const char *() const { return chars_; }

 private:
  JNIEnv *env_;
  jstring value_;
  const char *chars_;
};

void raise(JNIEnv *env, const char *message) {
  env->ThrowNew(env->FindClass("java/lang/IllegalStateException"), message);
}

scn_program *program_of(jlong handle) { return reinterpret_cast<scn_program *>(handle); }
}  // namespace

extern "C" {
JNIEXPORT jlong JNICALL Java_org_pytorch_executorch_Module_open(JNIEnv *env, jclass, jstring path, jint threads) {
  char error[512] = "";
  scn_program *program = scn_open(Text(env, path), threads, error, sizeof error);
  if (!program) raise(env, error);
  return reinterpret_cast<jlong>(program);
}

JNIEXPORT void JNICALL Java_org_pytorch_executorch_Module_close(JNIEnv *, jclass, jlong handle) {
  scn_close(program_of(handle));
}

JNIEXPORT jint JNICALL Java_org_pytorch_executorch_Module_outputs(JNIEnv *env, jclass, jlong handle, jstring method) {
  return scn_count(program_of(handle), Text(env, method), SCN_OUTPUT);
}

// The shape of an output, after its type: 0 float32, 1 int32.
JNIEXPORT jlongArray JNICALL Java_org_pytorch_executorch_Module_output(JNIEnv *env, jclass, jlong handle,
                                                                       jstring method, jint index) {
  char error[512] = "";
  scn_tensor tensor;
  if (scn_describe(program_of(handle), Text(env, method), SCN_OUTPUT, index, &tensor, error, sizeof error))
    return raise(env, error), nullptr;
  std::vector<jlong> facts{tensor.type};
  facts.insert(facts.end(), tensor.shape, tensor.shape + tensor.dimensions);
  jlongArray made = env->NewLongArray(jsize(facts.size()));
  env->SetLongArrayRegion(made, 0, jsize(facts.size()), facts.data());
  return made;
}

// Inputs and outputs are direct buffers in the machine's byte order.
JNIEXPORT void JNICALL Java_org_pytorch_executorch_Module_run(JNIEnv *env, jclass, jlong handle, jstring method,
                                                              jobjectArray inputs, jobjectArray outputs) {
  auto collect = [env](jobjectArray buffers, std::vector<void *> &data, std::vector<size_t> &bytes) {
    for (jsize i = 0; i < env->GetArrayLength(buffers); ++i) {
      jobject buffer = env->GetObjectArrayElement(buffers, i);
      data.push_back(env->GetDirectBufferAddress(buffer));
      bytes.push_back(size_t(env->GetDirectBufferCapacity(buffer)));
    }
  };
  std::vector<void *> in, out;
  std::vector<size_t> in_bytes, out_bytes;
  collect(inputs, in, in_bytes);
  collect(outputs, out, out_bytes);
  char error[512] = "";
  if (scn_run(program_of(handle), Text(env, method), in.data(), in_bytes.data(), int(in.size()), out.data(),
              out_bytes.data(), int(out.size()), error, sizeof error))
    raise(env, error);
}
}
