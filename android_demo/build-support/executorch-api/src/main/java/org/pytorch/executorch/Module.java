package org.pytorch.executorch;

import java.nio.ByteBuffer;
import java.util.Arrays;

/** The natives are in mobile_host/executorch_jni.cpp; executorch-android has others. */
public final class Module {
  public static final int LOAD_MODE_MMAP = 1;

  static {
    System.loadLibrary("executorch");
  }

  private long handle;

  private Module(long handle) {
    this.handle = handle;
  }

  public static Module load(String path, int loadMode, int threads) {
    if (loadMode != LOAD_MODE_MMAP) throw new IllegalArgumentException("load mode " + loadMode);
    return new Module(open(path, threads));
  }

  /** Loads a method; 0, or an error's number. */
  public int loadMethod(String name) {
    return outputs(handle, name) < 0 ? 1 : 0;
  }

  public EValue[] execute(String name, EValue... inputs) {
    Tensor[] tensors = new Tensor[Math.max(outputs(handle, name), 0)];
    for (int i = 0; i < tensors.length; i++) {
      long[] facts = output(handle, name, i);
      long[] shape = Arrays.copyOfRange(facts, 1, facts.length);
      tensors[i] = new Tensor(Tensor.allocate(shape), facts[0] == 1, shape);
    }
    run(handle, name, Arrays.stream(inputs).map(x -> x.toTensor().data).toArray(ByteBuffer[]::new),
        Arrays.stream(tensors).map(x -> x.data).toArray(ByteBuffer[]::new));
    return Arrays.stream(tensors).map(EValue::from).toArray(EValue[]::new);
  }

  public void destroy() {
    if (handle != 0) close(handle);
    handle = 0;
  }

  private static native long open(String path, int threads);

  private static native void close(long handle);

  private static native int outputs(long handle, String method);

  private static native long[] output(long handle, String method, int index);

  private static native void run(long handle, String method, ByteBuffer[] inputs, ByteBuffer[] outputs);
}
