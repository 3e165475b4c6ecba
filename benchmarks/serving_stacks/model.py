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

    def correct(self, H: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """``H [N, 10, 64]`` to ``k_attn [N, 4, 10, 10]`` and ``k_b [N, 4, 10, 16]``."""
        k_attn, k_b = self._session.run(["k_attn", "k_b"], {"H": H})
        return k_attn, k_b


def tensor(name: str, array: np.ndarray) -> dict[str, Any]:
    """How the protocol announces a binary tensor."""
    parameters = {"binary_data_size": array.nbytes}
    return {"name": name, "datatype": "FP32", "shape": list(array.shape), "parameters": parameters}
