"""The executor: each operator against torch or hand-worked numbers, and programs that are wrong."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from cocorrrec_export.errors import CocorrrecError
from cocorrrec_export.extras import quiet
from cocorrrec_export.runtime.mil import OPERATORS, Function, compile_functions
from cocorrrec_export.runtime.mlpackage import MAX_ELEMENTS, Package, open_package
from tests.coreml import CoreMLExports, change_model, operations

Array = NDArray[Any]
Build = Callable[..., Any]
X = np.random.default_rng(0).standard_normal((3, 4, 5)).astype(np.float32)
TABLE = np.random.default_rng(1).standard_normal((7, 5)).astype(np.float32)
WEIGHT = np.random.default_rng(2).standard_normal((6, 5)).astype(np.float32)
BIAS = np.arange(6, dtype=np.float32)


def program(folder: Path, build: Build, inputs: tuple[Array, ...], *, half: bool = False) -> Function:
    """A function written with Core ML Tools' builder, converted without any pass, saved and loaded."""
    with quiet():
        import coremltools as ct
        from coremltools.converters.mil import Builder as mb
        from coremltools.converters.mil.mil import types

        kinds = {"float32": types.fp32, "int32": types.int32, "float16": types.fp16}
        specs = [mb.TensorSpec(shape=x.shape, dtype=kinds[str(x.dtype)]) for x in inputs]
        names = [f"in{index}" for index in range(len(inputs))]
        source = f"def f({', '.join(names)}): return build(mb, {', '.join(names)})"
        scope: dict[str, Any] = {"build": build, "mb": mb}
        exec(source, scope)  # the builder reads the names of the parameters
        made = mb.program(input_specs=specs, opset_version=ct.target.iOS18)(scope["f"])
        model = ct.convert(
            made,
            minimum_deployment_target=ct.target.iOS18,
            compute_precision=ct.precision.FLOAT16 if half else ct.precision.FLOAT32,
            pass_pipeline=ct.PassPipeline.EMPTY,
            skip_model_load=True,
        )
        model.save(str(folder / "one.mlpackage"))
    return compile_functions(open_package(folder / "one.mlpackage"), ["main"])["main"]


def compute(folder: Path, build: Build, *inputs: Array) -> Array:
    function = program(folder, build, inputs)
    (result,) = function(dict(zip(function.inputs, inputs, strict=True))).values()
    return result


CASES: dict[str, tuple[Build, tuple[Array, ...], Array]] = {
    "add": (lambda mb, x: mb.add(x=x, y=X[:, :1]), (X,), X + X[:, :1]),
    "sub": (lambda mb, x: mb.sub(x=x, y=X[0]), (X,), X - X[0]),
    "mul": (lambda mb, x: mb.mul(x=x, y=np.float32(0.5)), (X,), X * np.float32(0.5)),
    "real_div": (lambda mb, x: mb.real_div(x=x, y=X + 9), (X,), X / (X + 9)),
    "floor": (lambda mb, x: mb.floor(x=x), (X,), np.floor(X)),
    "sqrt": (lambda mb, x: mb.sqrt(x=x), (X * X,), np.abs(X)),
    "rsqrt": (lambda mb, x: mb.rsqrt(x=x, epsilon=0.5), (X * X,), 1 / np.sqrt(X * X + 0.5)),
    "sigmoid": (lambda mb, x: mb.sigmoid(x=x), (X * 50,), torch.sigmoid(torch.tensor(X * 50)).numpy()),
    "abs": (lambda mb, x: mb.abs(x=x), (X,), np.abs(X)),
    "exp": (lambda mb, x: mb.exp(x=x), (X,), np.exp(X)),
    "log": (lambda mb, x: mb.log(x=x, epsilon=0.5), (X * X,), np.log(X * X + 0.5)),
    "relu": (lambda mb, x: mb.relu(x=x), (X,), np.maximum(X, 0)),
    "silu": (lambda mb, x: mb.silu(x=x), (X * 50,), torch.nn.functional.silu(torch.tensor(X * 50)).numpy()),
    "gelu": (lambda mb, x: mb.gelu(x=x, mode="EXACT"), (X,), torch.nn.functional.gelu(torch.tensor(X)).numpy()),
    "softmax": (lambda mb, x: mb.softmax(x=x, axis=1), (X * 50,), torch.softmax(torch.tensor(X * 50), 1).numpy()),
    "tanh": (lambda mb, x: mb.tanh(x=x), (X,), np.tanh(X)),
    "clip": (lambda mb, x: mb.clip(x=x, alpha=-0.5, beta=0.25), (X,), np.clip(X, -0.5, 0.25)),
    "cast": (lambda mb, x: mb.cast(x=x, dtype="int32"), (X * 3,), (X * 3).astype(np.int32)),
    "equal": (
        lambda mb, x: mb.cast(x=mb.equal(x=x, y=X.round()), dtype="fp32"),
        (X.round() * (X > 0),),
        (X.round() * (X > 0) == X.round()).astype(np.float32),
    ),
    "not_equal": (
        lambda mb, x: mb.cast(x=mb.not_equal(x=x, y=np.float32(0)), dtype="int32"),
        (X.round(),),
        (X.round() != 0).astype(np.int32),
    ),
    "gather": (
        lambda mb, i: mb.gather(x=TABLE, indices=i, axis=0, batch_dims=0, validate_indices=False),
        (np.array([6, 0, 0, 5], np.int32),),
        TABLE[[6, 0, 0, 5]],
    ),
    "linear": (
        lambda mb, x: mb.linear(x=x, weight=WEIGHT, bias=BIAS),
        (X,),
        torch.nn.functional.linear(*map(torch.tensor, (X, WEIGHT, BIAS))).numpy(),
    ),
    "linear without bias": (lambda mb, x: mb.linear(x=x, weight=WEIGHT), (X,), X @ WEIGHT.T),
    "matmul": (lambda mb, x, y: mb.matmul(x=x, y=y, transpose_y=True), (X, X * 2), X @ (X * 2).swapaxes(1, 2)),
    "matmul, first transposed": (
        lambda mb, x, y: mb.matmul(x=x, y=y, transpose_x=True),
        (X, X * 2),
        X.swapaxes(1, 2) @ (X * 2),
    ),
    "matmul by a constant": (lambda mb, x: mb.matmul(x=x, y=WEIGHT, transpose_y=True), (X,), X @ WEIGHT.T),
    "identity": (lambda mb, x: mb.identity(x=mb.identity(x=x)), (X,), X),
    "reshape": (lambda mb, x: mb.reshape(x=x, shape=[0, 2, -1]), (X,), X.reshape(3, 2, 10)),
    "topk, values": (lambda mb, x: mb.topk(x=x, k=2, axis=-1)[0], (X,), np.sort(X)[..., :-3:-1]),
    "topk": (lambda mb, x: mb.topk(x=x, k=2, axis=-1)[1], (X,), np.argsort(X)[..., :-3:-1].astype(np.int32)),
    "transpose": (lambda mb, x: mb.transpose(x=x, perm=[2, 0, 1]), (X,), X.transpose(2, 0, 1)),
    "expand_dims": (lambda mb, x: mb.expand_dims(x=x, axes=[0, 2]), (X,), X[None, :, None]),
    "tile": (lambda mb, x: mb.tile(x=x, reps=[1, 2, 3]), (X,), np.tile(X, (1, 2, 3))),
    "concat": (lambda mb, x, y: mb.concat(values=(x, y), axis=-1), (X, X * 2), np.concatenate((X, X * 2), axis=-1)),
    "slice_by_index": (
        lambda mb, x: mb.slice_by_index(x=x, begin=[1, -3, 0], end=[3, 0, -1], end_mask=[False, True, False]),
        (X,),
        X[1:3, -3:, 0:-1],
    ),
    "slice with stride, masks and a squeezed dimension": (
        lambda mb, x: mb.slice_by_index(
            x=x,
            begin=[2, 1, 1],
            end=[9, 4, 5],
            stride=[1, 1, 2],
            begin_mask=[False, True, False],
            squeeze_mask=[True, False, False],
        ),
        (X,),
        X[2, :4, 1:5:2],
    ),
    "reduce_sum": (lambda mb, x: mb.reduce_sum(x=x, axes=[-1, 0], keep_dims=True), (X,), X.sum((0, 2), keepdims=True)),
    "reduce_sum of whole numbers": (
        lambda mb, x: mb.reduce_sum(x=x, axes=[1], keep_dims=False),
        (np.arange(6, dtype=np.int32).reshape(2, 3),),
        np.array([3, 12], np.int32),
    ),
    "constexpr_blockwise_shift_scale": (
        lambda mb, x: mb.linear(
            x=x,
            weight=mb.constexpr_blockwise_shift_scale(
                data=np.arange(-12, 12, dtype=np.int8).reshape(6, 4),
                scale=np.array([[0.5, 2], [1, 0.25]], np.float32),
                offset=np.array([[1, 0], [0, -1]], np.int8),
            ),
        ),
        (X[..., :4],),
        X[..., :4]
        @ (
            (np.arange(-12, 12).reshape(6, 4) - np.repeat(np.repeat([[1, 0], [0, -1]], 3, 0), 2, 1))
            * np.repeat(np.repeat([[0.5, 2], [1, 0.25]], 3, 0), 2, 1)
        ).T,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_operators(tmp_path: Path, name: str) -> None:
    build, inputs, expected = CASES[name]
    result = compute(tmp_path, build, *inputs)
    assert result.shape == expected.shape
    np.testing.assert_allclose(result, expected, rtol=2e-6, atol=1e-6)


def test_every_operator_has_a_case() -> None:
    assert {name for name in OPERATORS if name not in CASES} == set()


def test_float16_is_rounded_after_each_operation(tmp_path: Path) -> None:
    """1 + 2^-11 is not a float16 number: the sum of two operations is not that of one."""
    x = np.full((1, 4), 1, np.float16)
    step = np.float16(2**-11)
    result = compute(tmp_path, lambda mb, x: mb.sub(x=mb.add(x=x, y=step), y=np.float16(1)), x)
    assert result.dtype == np.float16
    np.testing.assert_array_equal(result, np.zeros((1, 4)))


def test_float16_overflows_as_hardware_does(tmp_path: Path) -> None:
    x = np.array([[300, -300, 2]], np.float16)
    np.testing.assert_array_equal(compute(tmp_path, lambda mb, x: mb.mul(x=x, y=x), x), [[np.inf, np.inf, 4]])


def test_products_of_float16_are_summed_in_float32(tmp_path: Path) -> None:
    x = np.full((1, 4096), 1, np.float16)
    weight = np.full((1, 4096), 1, np.float16)
    result = compute(tmp_path, lambda mb, x: mb.linear(x=x, weight=weight), x)
    assert result.dtype == np.float16 and result[0, 0] == 4096  # in float16, 2048 + 1 is 2048


@pytest.mark.parametrize("index", [7, -1, 2**31 - 1])
def test_an_index_outside_of_the_table(tmp_path: Path, index: int) -> None:
    build = CASES["gather"][0]
    with pytest.raises(CocorrrecError, match=r"main: gather '.*' failed: indices .* lead outside of 7 rows"):
        compute(tmp_path, build, np.full(4, index, np.int32))


def test_an_unknown_operator_is_named(tmp_path: Path) -> None:
    with pytest.raises(CocorrrecError, match="operator 'erf'"):
        compute(tmp_path, lambda mb, x: mb.erf(x=x), X)


# ---------------------------------------------------------------------- programs that are wrong


def first(package: Package, kind: str, function: str = "rank") -> Any:
    return next(x for x in operations(package, function) if x.type == kind)


def rename_operator(package: Package) -> None:
    first(package, "tanh").type = "erf"


def read_ahead(package: Package) -> None:
    first(package, "tanh").inputs["x"].arguments[0].name = "scores"


def lie_about_a_shape(package: Package) -> None:
    first(package, "tanh").outputs[0].type.tensorType.dimensions[0].constant.size = 99


def lie_about_a_dtype(package: Package) -> None:
    first(package, "tanh").outputs[0].type.tensorType.dataType = 10  # FLOAT16


def claim_an_absurd_size(package: Package) -> None:
    dimensions = first(package, "concat").outputs[0].type.tensorType.dimensions
    dimensions[1].constant.size = MAX_ELEMENTS + 1


def invent_a_dtype(package: Package) -> None:
    first(package, "concat").outputs[0].type.tensorType.dataType = 77


def leave_a_dimension_open(package: Package) -> None:
    first(package, "concat").outputs[0].type.tensorType.dimensions[1].unknown.variadic = False


def drop_an_operand(package: Package) -> None:
    del first(package, "gather").inputs["indices"]


def drop_the_block(package: Package) -> None:
    package.model.mlProgram.functions["rank"].opset = "CoreML99"


def drop_the_function(package: Package) -> None:
    del package.model.mlProgram.functions["rank"]


def drop_what_computes_the_output(package: Package) -> None:
    del operations(package, "rank")[-1]


def compute_twice(package: Package) -> None:
    operations(package, "rank").append(operations(package, "rank")[-1])


def grow(package: Package) -> None:
    """A table broadcast against a column of itself would fill the memory."""
    first(package, "mul").inputs["y"].arguments[0].name = "table"


def point_outside(package: Package) -> None:
    value = next(x.attributes["val"].blobFileValue for x in operations(package, "rank") if x.outputs[0].name == "table")
    value.offset = 1 << 62


def point_outside_of_the_package(package: Package) -> None:
    value = next(x.attributes["val"].blobFileValue for x in operations(package, "rank") if x.outputs[0].name == "table")
    value.fileName = "@model_path/../../../../../etc/passwd"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (rename_operator, r"rank: operator 'erf' \('v\w+'\) is not known here"),
        (read_ahead, "reads 'scores', which nothing before it computes"),
        (lie_about_a_shape, r"matmul 'v\w+': operands do not fit: gives \[1, 99\], declared \[1, 100\]"),
        (lie_about_a_dtype, r"tanh .* gave float32 \[100, 64\], the program declares float16"),
        (claim_an_absurd_size, "absurd size"),
        (invent_a_dtype, "unknown dtype 77"),
        (leave_a_dimension_open, "a dimension is not fixed"),
        (drop_an_operand, "gather 'v.*': operands do not fit: 'indices'"),
        (drop_the_block, "lacks the block of its operator set 'CoreML99'"),
        (drop_the_function, "has no function 'rank'"),
        (drop_what_computes_the_output, "nothing computes the output 'scores'"),
        (compute_twice, "'scores': is computed twice"),
        (grow, "operands do not fit"),
        (point_outside, "outside of the file"),
        (point_outside_of_the_package, "leads outside"),
    ],
)
def test_wrong_programs(
    coreml_exports: CoreMLExports, tmp_path: Path, change: Callable[[Package], None], message: str
) -> None:
    path, _ = coreml_exports.package(tmp_path)
    change_model(path, change)
    inputs = {"ids": np.ones((1, 10), np.int32), "candidates": np.ones((1, 100), np.int32)}
    with pytest.raises(CocorrrecError, match=message) as raised:
        compile_functions(open_package(path), ["rank"])["rank"](inputs)
    assert "\n" not in str(raised.value)
