"""Compute an ML program with numpy: what is in a ``.mlpackage`` can be checked where Core ML does not exist.

A function is compiled once into a list of steps over numbered values, so a call costs little more than its arithmetic.
Every operation rounds its result to the dtype that the program declares for it. Sums of float16 products are kept in
float32 and rounded once; hardware may round more often. Operators are those that this toolkit's graphs become; any
other is an error that names it. Their meaning: https://apple.github.io/coremltools/source/coremltools.converters.mil.mil.ops.defs.html
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cocorrrec_export.errors import CocorrrecError
from cocorrrec_export.runtime.mlpackage import Package, WeightFiles, tensor_type

Array = NDArray[Any]
Kernel = Callable[..., Array | tuple[Array, ...]]
Shape = tuple[int, ...]
_DTYPES = {"float16", "float32", "int32", "int8", "uint8", "bool"}
_CAST = {"fp16": "float16", "fp32": "float32", "int32": "int32", "int8": "int8", "uint8": "uint8", "bool": "bool"}
_FAULTS = (ValueError, TypeError, IndexError, KeyError, OverflowError, MemoryError)
"""What numpy, and the operators below, raise on operands that do not fit."""


@dataclass(frozen=True)
class Value:
    """What is known of a value before a call."""

    dtype: str
    shape: Shape
    slot: int
    constant: Array | None = None


@dataclass(frozen=True)
class Step:
    """One operation of a compiled function."""

    label: str
    kernel: Kernel
    arguments: tuple[int, ...]
    results: tuple[Value, ...]


class Operands:
    """The named operands of an operation, while it is compiled."""

    def __init__(self, values: dict[str, list[Value]], results: tuple[Value, ...]) -> None:
        self._values = values
        self.results = results
        self.result = results[0]
        self.used: list[Value] = []

    def has(self, name: str) -> bool:
        """Whether the operand is given."""
        return bool(self._values.get(name))

    def tensor(self, name: str) -> Value:
        """An operand that the kernel gets, in the order of these calls."""
        (value,) = self._values[name]
        self.used.append(value)
        return value

    def tensors(self, name: str) -> list[Value]:
        """A list of such operands."""
        self.used += self._values[name]
        return self._values[name]

    def constant(self, name: str, default: Any = None) -> Any:
        """A parameter, which must be known before the call, as a Python value or nested list."""
        if default is not None and not self.has(name):
            return default
        (value,) = self._values[name]
        if value.constant is None:
            raise ValueError(f"{name} is not constant")
        return value.constant.tolist()


def _quoted(name: str) -> str:
    """A name from a file, which may be damaged, for a message of one line."""
    return repr(name[:60])


def _widened(x: Array) -> Array:
    return x.astype(np.float32) if x.dtype == np.float16 else x


def _grows_to(operands: Operands, shape: Shape) -> None:
    """Refuse, before anything is allocated, a result of another shape than the program declares."""
    if shape != operands.result.shape:
        raise ValueError(f"gives {list(shape)}, declared {list(operands.result.shape)}")


def _elementwise(function: Callable[..., Array], *names: str) -> Callable[[Operands], Kernel]:
    def build(operands: Operands) -> Kernel:
        values = [operands.tensor(name) for name in names]
        _grows_to(operands, np.broadcast_shapes(*(value.shape for value in values)))
        if names == ("x", "y") and values[0].dtype != values[1].dtype:
            raise ValueError(f"operands are {values[0].dtype} and {values[1].dtype}")
        return function

    return build


def _in_float32(function: Callable[[Array], Array]) -> Callable[[Operands], Kernel]:
    """A function of one float operand, rounded once at the end."""

    def build(operands: Operands) -> Kernel:
        dtype = operands.tensor("x").dtype
        return function if dtype == "float32" else lambda x: function(_widened(x)).astype(dtype)

    return build


def _sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def _rsqrt(operands: Operands) -> Kernel:
    epsilon = np.float32(operands.constant("epsilon", 1e-12))
    return _in_float32(lambda x: 1 / np.sqrt(x + epsilon))(operands)


def _log(operands: Operands) -> Kernel:
    epsilon = np.float32(operands.constant("epsilon", 1e-45))
    return _in_float32(lambda x: np.log(x + epsilon))(operands)


_erf = np.vectorize(math.erf, otypes=[np.float32])


def _gelu(operands: Operands) -> Kernel:
    mode = operands.constant("mode", "EXACT")
    if mode != "EXACT":
        raise ValueError(f"mode {_quoted(str(mode))} is not known")
    return _in_float32(lambda x: x * np.float32(0.5) * (1 + _erf(x * np.float32(math.sqrt(0.5)))))(operands)


def _softmax(operands: Operands) -> Kernel:
    axis = operands.constant("axis", -1)

    def softmax(x: Array) -> Array:
        y = np.exp(x - x.max(axis=axis, keepdims=True))
        return y / y.sum(axis=axis, keepdims=True)

    return _in_float32(softmax)(operands)


def _clip(operands: Operands) -> Kernel:
    dtype = operands.tensor("x").dtype
    low, high = (np.asarray(operands.constant(name)).astype(dtype) for name in ("alpha", "beta"))
    return lambda x: np.clip(x, low, high)


def _cast(operands: Operands) -> Kernel:
    operands.tensor("x")
    dtype = np.dtype(_CAST[operands.constant("dtype")])
    return lambda x: x.astype(dtype)


def _gather(operands: Operands) -> Kernel:
    table, indices = operands.tensor("x"), operands.tensor("indices")
    axis = operands.constant("axis", 0)
    if axis != 0 or operands.constant("batch_dims", 0) != 0:
        raise ValueError("only rows can be gathered")
    if 0 in indices.shape:
        raise ValueError("no indices")
    _grows_to(operands, indices.shape + table.shape[1:])
    rows = table.shape[0]

    def gather(x: Array, i: Array) -> Array:
        lowest, highest = int(i.min()), int(i.max())
        if lowest < 0 or highest >= rows:
            raise IndexError(f"indices {lowest} to {highest} lead outside of {rows} rows")
        return x[i]

    return gather


def _transposed(x: Array) -> Array:
    return np.swapaxes(x, -1, -2)


def _matmul(operands: Operands) -> Kernel:
    x, y = operands.tensor("x"), operands.tensor("y")
    swap_x, swap_y = operands.constant("transpose_x", False), operands.constant("transpose_y", False)
    if min(len(x.shape), len(y.shape)) < 2:
        raise ValueError("operands must be matrices")
    rows, columns = x.shape[-1 if swap_x else -2], y.shape[-2 if swap_y else -1]
    _grows_to(operands, (*np.broadcast_shapes(x.shape[:-2], y.shape[:-2]), rows, columns))
    dtype = operands.result.dtype
    if y.constant is not None:  # widened, and laid out, once
        fixed = _widened(_transposed(y.constant) if swap_y else y.constant)
        return lambda x, _: np.matmul(_widened(_transposed(x) if swap_x else x), fixed).astype(dtype, copy=False)

    def matmul(x: Array, y: Array) -> Array:
        x, y = _transposed(x) if swap_x else x, _transposed(y) if swap_y else y
        return np.matmul(_widened(x), _widened(y)).astype(dtype, copy=False)

    return matmul


def _linear(operands: Operands) -> Kernel:
    x, weight = operands.tensor("x"), operands.tensor("weight")
    if weight.constant is None or len(weight.shape) != 2:
        raise ValueError("weight must be a constant matrix")
    _grows_to(operands, (*x.shape[:-1], weight.shape[0]))
    columns = _widened(weight.constant.T)
    bias: Array = np.zeros(weight.shape[0], np.float32)
    if operands.has("bias"):
        bias = np.asarray(operands.constant("bias"), np.float32)
    if bias.shape != (weight.shape[0],):
        raise ValueError(f"bias is {list(bias.shape)}")
    dtype = operands.result.dtype
    return lambda x, _: (np.matmul(_widened(x), columns) + bias).astype(dtype, copy=False)


def _reshape(operands: Operands) -> Kernel:
    x, shape = operands.tensor("x"), operands.constant("shape")
    shape = tuple(x.shape[axis] if size == 0 else size for axis, size in enumerate(shape))  # 0 keeps a size
    return lambda x: x.reshape(shape)


def _transpose(operands: Operands) -> Kernel:
    operands.tensor("x")
    order = operands.constant("perm")
    return lambda x: np.ascontiguousarray(x.transpose(order))


def _expand_dims(operands: Operands) -> Kernel:
    operands.tensor("x")
    axes = tuple(operands.constant("axes"))
    return lambda x: np.expand_dims(x, axes)


def _tile(operands: Operands) -> Kernel:
    x, times = operands.tensor("x"), tuple(operands.constant("reps"))
    _grows_to(operands, tuple(size * n for size, n in zip(x.shape, times, strict=True)))
    return lambda x: np.tile(x, times)


def _concat(operands: Operands) -> Kernel:
    values, axis = operands.tensors("values"), operands.constant("axis")
    if operands.constant("interleave", False):
        raise ValueError("interleaved concat is not known")
    shape = list(values[0].shape)
    shape[axis] = sum(value.shape[axis] for value in values)
    _grows_to(operands, tuple(shape))
    return lambda *x: np.concatenate(x, axis=axis)


def _slice(operands: Operands) -> Kernel:
    rank = len(operands.tensor("x").shape)
    begin, end = operands.constant("begin"), operands.constant("end")
    stride = operands.constant("stride", [1] * rank)
    masks = [operands.constant(name, [False] * rank) for name in ("begin_mask", "end_mask", "squeeze_mask")]
    where: list[slice | int] = []
    for b, e, s, from_start, to_end, squeeze in zip(begin, end, stride, *masks, strict=True):
        where.append(b if squeeze else slice(None if from_start else b, None if to_end else e, s))
    if len(where) != rank:
        raise ValueError(f"{len(where)} ranges for {rank} dimensions")
    index = tuple(where)
    return lambda x: x[index]


def _reduce_sum(operands: Operands) -> Kernel:
    x = operands.tensor("x")
    axes, keep = tuple(operands.constant("axes")), operands.constant("keep_dims", False)
    return lambda a: (
        _widened(a)
        .sum(axis=axes, keepdims=keep, dtype=None if x.dtype == "float16" else x.dtype)
        .astype(x.dtype, copy=False)
    )


def _topk(operands: Operands) -> Kernel:
    """The largest values along the last axis, in order, and where they are; of equal ones the first."""
    x, count = operands.tensor("x"), operands.constant("k", 1)
    if operands.constant("axis", -1) not in (-1, len(x.shape) - 1) or operands.constant("ascending", False):
        raise ValueError("only the largest along the last axis are known")
    if not operands.constant("sort", True):
        raise ValueError("the order must be asked for")
    shape = (*x.shape[:-1], count)
    if [value.shape for value in operands.results] != [shape, shape] or not 1 <= count <= x.shape[-1]:
        raise ValueError(f"{count} of {list(x.shape)}, declared {[list(value.shape) for value in operands.results]}")

    def topk(x: Array) -> tuple[Array, Array]:
        places = np.argsort(-x, axis=-1, kind="stable")[..., :count]
        return np.take_along_axis(x, places, axis=-1), places.astype(np.int32)

    return topk


def _shift_scale(operands: Operands) -> Kernel:
    """Quantized weights; one scale, and one offset, for each block of a shape that divides theirs."""
    data, scale = operands.tensor("data"), operands.tensor("scale")
    _grows_to(operands, data.shape)
    offset = operands.tensor("offset") if operands.has("offset") else None
    for part in (scale, offset) if offset else (scale,):
        if len(part.shape) != len(data.shape) or any(
            n == 0 or size % n for size, n in zip(data.shape, part.shape, strict=True)
        ):
            raise ValueError(f"blocks of {list(part.shape)} do not divide {list(data.shape)}")
    dtype = operands.result.dtype

    def spread(x: Array) -> Array:
        for axis, size in enumerate(data.shape):
            x = np.repeat(x, size // x.shape[axis], axis=axis)
        return x.astype(np.float32)

    def shift_scale(q: Array, s: Array, o: Array | None = None) -> Array:
        shifted = q.astype(np.float32) - (0 if o is None else spread(o))
        return (shifted * spread(s)).astype(dtype)

    return shift_scale


OPERATORS: dict[str, Callable[[Operands], Kernel]] = {
    "abs": _elementwise(np.abs, "x"),
    "add": _elementwise(np.add, "x", "y"),
    "cast": _cast,
    "clip": _clip,
    "concat": _concat,
    "constexpr_blockwise_shift_scale": _shift_scale,
    "equal": _elementwise(np.equal, "x", "y"),
    "exp": _in_float32(np.exp),
    "expand_dims": _expand_dims,
    "floor": _elementwise(np.floor, "x"),
    "gather": _gather,
    "gelu": _gelu,
    "identity": _elementwise(np.array, "x"),
    "linear": _linear,
    "log": _log,
    "matmul": _matmul,
    "mul": _elementwise(np.multiply, "x", "y"),
    "not_equal": _elementwise(np.not_equal, "x", "y"),
    "real_div": _elementwise(np.divide, "x", "y"),
    "reduce_sum": _reduce_sum,
    "relu": _in_float32(lambda x: np.maximum(x, 0)),
    "reshape": _reshape,
    "rsqrt": _rsqrt,
    "sigmoid": _in_float32(_sigmoid),
    "silu": _in_float32(lambda x: x * _sigmoid(x)),
    "slice_by_index": _slice,
    "softmax": _softmax,
    "sqrt": _in_float32(np.sqrt),
    "sub": _elementwise(np.subtract, "x", "y"),
    "tanh": _in_float32(np.tanh),
    "tile": _tile,
    "topk": _topk,
    "transpose": _transpose,
}
"""Operators, and how each is compiled; in the order of the alphabet."""
_OUTPUTS = {"topk": 2}
"""Of operators that have more than one."""


class Function:
    """A compiled function.

    Args:
        package: the package.
        name: of the function.
        weights: the package's constants; several functions share what they read.

    Raises:
        CocorrrecError: no such function; an operator, dtype or constant that is unknown or does not fit.
    """

    def __init__(self, package: Package, name: str, weights: WeightFiles) -> None:
        self._where = f"{package.path}: {name}"
        self._weights = weights
        self._values: dict[str, Value] = {}
        self._start: list[Array | None] = []
        self._steps: list[Step] = []
        function = package.functions.get(name)
        if function is None:
            raise CocorrrecError(f"{package.path}: has no function '{name}'")
        if function.opset not in function.block_specializations:
            raise CocorrrecError(f"{self._where}: lacks the block of its operator set {_quoted(function.opset)}")
        block = function.block_specializations[function.opset]
        self.inputs = {x.name: self._declare(x.name, x.type) for x in function.inputs}
        for operation in block.operations:
            self._compile(operation)
        missing = [output for output in block.outputs if output not in self._values]
        if missing:
            raise CocorrrecError(f"{self._where}: nothing computes the output {_quoted(missing[0])}")
        self.outputs = {output: self._values[output] for output in block.outputs}

    def __call__(self, inputs: dict[str, Array]) -> dict[str, Array]:
        """Compute all outputs of inputs that have the declared dtypes and shapes.

        Raises:
            CocorrrecError: an operation failed, or gave another dtype or shape than it declares.
        """
        values: list[Any] = self._start.copy()
        for name, value in self.inputs.items():
            values[value.slot] = inputs[name]
        with np.errstate(all="ignore"):
            for step in self._steps:
                computed = self._run(step, [values[slot] for slot in step.arguments])
                for result, array in zip(step.results, computed, strict=True):
                    values[result.slot] = array
        return {name: np.array(values[value.slot]) for name, value in self.outputs.items()}

    def _run(self, step: Step, arguments: Sequence[Array]) -> tuple[Array, ...]:
        try:
            computed = step.kernel(*arguments)
        except _FAULTS as error:
            raise CocorrrecError(f"{self._where}: {step.label} failed: {error}") from None
        computed = computed if isinstance(computed, tuple) else (computed,)
        for array, result in zip(computed, step.results, strict=True):
            if array.shape != result.shape or array.dtype != result.dtype:
                raise CocorrrecError(
                    f"{self._where}: {step.label} gave {array.dtype} {list(array.shape)}, the program declares "
                    f"{result.dtype} {list(result.shape)}"
                )
        return computed

    def _type(self, name: str, type_: Any) -> tuple[str, Shape]:
        try:
            return tensor_type(type_)
        except ValueError as error:
            raise CocorrrecError(f"{self._where}: value {_quoted(name)}: {error}") from None

    def _declare(self, name: str, type_: Any, constant: Array | None = None) -> Value:
        dtype, shape = self._type(name, type_)
        if name in self._values:
            raise CocorrrecError(f"{self._where}: value {_quoted(name)}: is computed twice")
        if dtype not in _DTYPES and constant is None:
            raise CocorrrecError(f"{self._where}: value {_quoted(name)}: dtype {dtype} is not known here")
        value = Value(dtype, shape, len(self._start), constant)
        self._values[name] = value
        self._start.append(constant)
        return value

    def _compile(self, operation: Any) -> None:
        kind = operation.type
        name = operation.outputs[0].name if len(operation.outputs) == _OUTPUTS.get(kind, 1) else ""
        label = f"{_quoted(kind)[1:-1]} {_quoted(name)}"
        if kind == "const" and name and "val" in operation.attributes:
            constant = self._constant(name, operation.attributes["val"])
            if (constant.dtype, constant.shape) != self._type(name, operation.outputs[0].type):
                raise CocorrrecError(f"{self._where}: {label}: its value is of another type than it declares")
            return
        if kind not in OPERATORS or operation.blocks:
            raise CocorrrecError(f"{self._where}: operator {_quoted(kind)} ({_quoted(name)}) is not known here")
        if len(operation.outputs) != (count := _OUTPUTS.get(kind, 1)):
            outputs = "one output" if count == 1 else f"{count} outputs"
            raise CocorrrecError(f"{self._where}: {label} must have {outputs}")
        given = {key: [self._look_up(x, label) for x in value.arguments] for key, value in operation.inputs.items()}
        results = tuple(self._declare(output.name, output.type) for output in operation.outputs)
        operands = Operands(given, results)
        try:
            kernel = OPERATORS[kind](operands)
        except _FAULTS as error:
            raise CocorrrecError(f"{self._where}: {label}: operands do not fit: {error}") from None
        step = Step(label, kernel, tuple(value.slot for value in operands.used), results)
        known = [value.constant for value in operands.used]
        if kind.startswith("constexpr_"):
            if any(x is None for x in known):
                raise CocorrrecError(f"{self._where}: {label}: an operand is not constant")
            with np.errstate(all="ignore"):
                (folded,) = self._run(step, known)  # type: ignore[arg-type]  # none is None
            (result,) = results
            self._values[name] = Value(result.dtype, result.shape, result.slot, folded)
            self._start[result.slot] = folded
        else:
            self._steps.append(step)

    def _look_up(self, binding: Any, label: str) -> Value:
        if binding.WhichOneof("binding") == "value":
            return self._constant(f"operand {len(self._start)} of {label}", binding.value)
        if binding.name not in self._values:
            raise CocorrrecError(
                f"{self._where}: {label} reads {_quoted(binding.name)}, which nothing before it computes"
            )
        return self._values[binding.name]

    def _constant(self, name: str, value: Any) -> Value:
        try:
            array = self._stored(value, *tensor_type(value.type))
        except (*_FAULTS, UnicodeError) as error:
            raise CocorrrecError(f"{self._where}: constant {_quoted(name)}: {error}") from None
        return self._declare(name, value.type, array)

    def _stored(self, value: Any, dtype: str, shape: Shape) -> Array:
        if value.WhichOneof("value") == "blobFileValue":
            flat: Array = self._weights.read(value.blobFileValue.fileName, value.blobFileValue.offset)
            if flat.dtype != dtype:
                raise ValueError(f"is {flat.dtype} in the file of weights, declared {dtype}")
        else:
            flat = _immediate(value.immediateValue.tensor, dtype)
        if flat.size != math.prod(shape):
            raise ValueError(f"has {flat.size} elements, declared {list(shape)}")
        return flat.reshape(shape)


def _immediate(tensor: Any, dtype: str) -> Array:
    """The elements of a message ``TensorValue``."""
    kind = tensor.WhichOneof("value")
    if kind is None:
        raise ValueError("has no value")
    values = getattr(tensor, kind).values
    if kind == "bytes":
        if dtype not in _DTYPES:
            raise ValueError(f"dtype {dtype} is not known here")
        return np.frombuffer(values, dtype)
    if (kind == "strings") != (dtype == "string"):
        raise ValueError(f"{kind} for a value of dtype {dtype}")
    return np.array(list(values), dtype=object if dtype == "string" else dtype)


def compile_functions(package: Package, names: Sequence[str]) -> dict[str, Function]:
    """The functions called ``names`` of a package.

    Raises:
        CocorrrecError: one is missing, or cannot be computed here.
    """
    weights = package.weight_files()
    return {name: Function(package, name, weights) for name in names}
