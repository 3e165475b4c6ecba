"""The model that every stack of the trial serves: gcn.onnx on one thread."""

import os
from typing import Any

import numpy as np
import onnxruntime


class Gcn:
    """ONNX Runtime on the file that the environment variable GCN names."""

    def __init__(self) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        path = os.environ["GCN"]
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        (upload,) = self._session.get_inputs()
        self.input = upload.name
        self.dtype = np.dtype("<i4" if upload.type == "tensor(int32)" else "<f4")
        self.length = int(upload.shape[1])
        self.outputs = [output.name for output in self._session.get_outputs()]

    def correct(self, upload: np.ndarray) -> list[np.ndarray]:
        """``H [N, L, D]`` to ``k_attn [N, h, L, L]`` and ``k_b [N, h, L, f]``, or ``ids [N, L_cloud]`` to a vector."""
        return self._session.run(self.outputs, {self.input: upload})

    def uploads(self, users: int) -> np.ndarray:
        """Random ones of so many users."""
        random = np.random.default_rng(0)
        if self.dtype.kind == "i":
            return random.integers(1, 1000, (users, self.length), dtype=np.int32)
        return random.standard_normal((users, self.length, 64), dtype=np.float32)


def tensor(name: str, array: np.ndarray) -> dict[str, Any]:
    """How the protocol announces a binary tensor."""
    parameters = {"binary_data_size": array.nbytes}
    return {"name": name, "datatype": "FP32", "shape": list(array.shape), "parameters": parameters}
