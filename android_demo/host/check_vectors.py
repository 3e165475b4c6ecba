"""Compare a phone's TensorFlow Lite library with the model: ``check_vectors.py ARTIFACT RUNNER ...``.

Every case of every entry point goes through the runner (run_tflite, for arm64 under qemu). The limits are those that
the export itself had to keep.
"""

import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

Arrays = dict[str, np.ndarray]


def call(runner: "subprocess.Popen[bytes]", entry: dict[str, Any], inputs: Arrays) -> Arrays:
    """One call of a signature."""
    assert runner.stdin is not None and runner.stdout is not None
    parts = [f"{entry['name']} {len(entry['inputs'])} {len(entry['outputs'])}\n".encode()]
    for spec in entry["inputs"]:
        data = np.ascontiguousarray(inputs[spec["name"]]).tobytes()
        parts += [f"{spec['name']} {len(data)}\n".encode(), data]
    parts += [f"{spec['name']}\n".encode() for spec in entry["outputs"]]
    runner.stdin.write(b"".join(parts))
    runner.stdin.flush()
    outputs = {}
    for spec in entry["outputs"]:
        size = runner.stdout.readline()
        if not size:
            sys.exit(f"{entry['name']}: the runner ended")
        data = runner.stdout.read(int(size))
        outputs[spec["name"]] = np.frombuffer(data, spec["dtype"]).reshape(spec["shape"])
    return outputs


def main() -> None:
    """Print the largest difference of each entry point; exit 1 where one is beyond its limits."""
    artifact = Path(sys.argv[1])
    manifest = json.loads((artifact / "manifest.json").read_text(encoding="utf-8"))
    limits = manifest["recipe"]["parity"]
    vectors = load_file(artifact / "vectors.safetensors")
    command = [*sys.argv[2:], str(artifact / "scn.tflite")]
    runner = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    cases = 0
    for entry in manifest["entry_points"]:
        worst = 0.0
        names = sorted(name for name in vectors if name.startswith(entry["name"] + "."))
        for case, group in itertools.groupby(names, key=lambda name: name.split(".")[1]):
            tensors = {tuple(name.split(".")[2:5:2]): vectors[name] for name in group}
            outputs = call(runner, entry, {name: x for (side, name), x in tensors.items() if side == "in"})
            for name, output in outputs.items():
                expected = tensors["out", name]
                difference = float(np.abs(output.astype(np.float64) - expected).max())
                scale = float(np.abs(expected).max())
                beyond = name == "scores" and difference > limits["max_abs"]
                if not np.isfinite(difference) or beyond or difference > limits["max_rel"] * scale:
                    sys.exit(f"{entry['name']} {case} {name} differs by {difference:g}, largest value {scale:g}")
                worst = max(worst, difference)
            cases += 1
        print(f"{artifact.name}: {entry['name']} max {worst:.5f}")
    print(f"{artifact.name}: {cases} cases within the limits")


if __name__ == "__main__":
    main()
