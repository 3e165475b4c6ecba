package org.pytorch.executorch;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;

public final class Tensor {
  final ByteBuffer data;
  private final boolean whole;
  private final long[] shape;

  Tensor(ByteBuffer data, boolean whole, long[] shape) {
    this.data = data;
    this.whole = whole;
    this.shape = shape.clone();
  }

  static ByteBuffer allocate(long[] shape) {
    long count = 1;
    for (long size : shape) count *= size;
    return ByteBuffer.allocateDirect(Math.toIntExact(4 * count)).order(ByteOrder.nativeOrder());
  }

  public static Tensor fromBlob(int[] data, long[] shape) {
    Tensor tensor = new Tensor(allocate(shape), true, shape);
    tensor.data.asIntBuffer().put(data);
    return tensor;
  }

  public static Tensor fromBlob(float[] data, long[] shape) {
    Tensor tensor = new Tensor(allocate(shape), false, shape);
    tensor.data.asFloatBuffer().put(data);
    return tensor;
  }

  public float[] getDataAsFloatArray() {
    if (whole) throw new IllegalStateException("this tensor holds integers");
    float[] values = new float[data.capacity() / 4];
    data.asFloatBuffer().get(values);
    return values;
  }

  public int[] getDataAsIntArray() {
    if (!whole) throw new IllegalStateException("this tensor holds floats");
    int[] values = new int[data.capacity() / 4];
    data.asIntBuffer().get(values);
    return values;
  }

  public long[] shape() {
    return shape.clone();
  }
}
