"""Run cases through tflite-runtime, in its own environment: numpy and tflite-runtime are all it has.

    python tflite_runtime_program.py MODEL.tflite INPUTS.npz OUTPUTS.npz

A tensor is called ``<entry point>|<case>|<name>``.
"""

import sys

import numpy as np
from tflite_runtime.interpreter import Interpreter

model, inputs, outputs = sys.argv[1:]
interpreter = Interpreter(model, num_threads=1)
calls: dict[tuple[str, str], dict[str, np.ndarray]] = {}
with np.load(inputs) as file:
    for key in file.files:
        entry_point, case, name = key.split("|")
        calls.setdefault((entry_point, case), {})[name] = file[key]
runners = {name: interpreter.get_signature_runner(name) for name in interpreter.get_signature_list()}
results = {
    f"{entry_point}|{case}|{name}": np.array(value)
    for (entry_point, case), feeds in calls.items()
    for name, value in runners[entry_point](**feeds).items()
}
np.savez(outputs, **results)
