"""``cocorr-export bundle``: an export in the form that another program takes."""

from pathlib import Path
from typing import Annotated

import typer

from cocorrrec_export.cli import console, options
from cocorrrec_export.cli.root import App

EPILOG = """
Examples:

  cocorr-export bundle android

  cocorr-export bundle ios dist/scn-executorch-int8 --out MyApp/CoCorrRec

  cocorr-export bundle triton
"""
ANDROID_EPILOG = """
Examples:

  cocorr-export bundle android

  cocorr-export bundle android dist/scn-tflite-int8 --out MyApp/cocorrrec --json
"""
IOS_EPILOG = """
Examples:

  cocorr-export bundle ios

  cocorr-export bundle ios dist/scn-coreml-fp16 --out MyApp/CoCorrRec --json
"""
TRITON_EPILOG = """
Examples:

  cocorr-export bundle triton

  cocorr-export bundle triton dist/gcn-onnx-fp32 --out model_repository --max-batch 128 --json

  cocorr-export bundle triton --storage-uri s3://models/cocorrrec
"""

app = App(no_args_is_help=True, help="Put an export into the form that an app or a server takes.", epilog=EPILOG)


@app.command(epilog=TRITON_EPILOG)
def triton(
    artifact: Annotated[
        Path | None, typer.Argument(help="Folder that 'cocorr-export gcn' wrote. Default: the newest under dist.")
    ] = None,
    out: options.Out = Path("dist/triton"),
    max_batch: Annotated[int, typer.Option(min=1, help="Users of one batch.")] = 64,
    max_delay_us: Annotated[int, typer.Option(min=0, help="Microseconds that a batch waits for more.")] = 100,
    storage_uri: Annotated[
        str, typer.Option(help="Where the KServe cluster finds the repository.")
    ] = "pvc://models/cocorrrec",
    json: options.Json = False,
) -> None:
    """Write a Triton model repository with dynamic batching, and a KServe InferenceService that serves it."""
    from cocorrrec_export.artifact.manifest import newest_artifact
    from cocorrrec_export.serving.bundle import bundle_triton

    made = bundle_triton(
        artifact or newest_artifact(Path("dist"), kind="gcn"),
        out,
        max_batch=max_batch,
        max_queue_delay_us=max_delay_us,
        storage_uri=storage_uri,
    )
    if json:
        console.print_json(made)
    else:
        console.print_table("Triton model repository", ("", ""), made.items())


Artifact = Annotated[
    Path | None, typer.Argument(help="Folder that 'cocorr-export scn' wrote. Default: the newest under dist.")
]
AppModel = Annotated[
    str | None,
    typer.Option("--model", help="Name or folder of the exported model, whose item ids and titles go along."),
]


@app.command(epilog=ANDROID_EPILOG)
def android(
    artifact: Artifact = None,
    out: options.Out = Path("dist/android"),
    model: AppModel = None,
    json: options.Json = False,
) -> None:
    """Write a Gradle module with the model, the Kotlin sources that run it, and a page of three steps."""
    from cocorrrec_export.apps.android import ANDROID
    from cocorrrec_export.apps.bundle import write_bundle
    from cocorrrec_export.artifact.manifest import newest_artifact

    chosen = artifact or newest_artifact(Path("dist"), kind="scn", targets=ANDROID.targets)
    _print("Module for Android", write_bundle(ANDROID, chosen, out, model=model), json)


@app.command(epilog=IOS_EPILOG)
def ios(
    artifact: Artifact = None,
    out: options.Out = Path("dist/ios"),
    model: AppModel = None,
    json: options.Json = False,
) -> None:
    """Write a Swift package with the model, the sources that run it, and a page of three steps."""
    from cocorrrec_export.apps.bundle import write_bundle
    from cocorrrec_export.apps.ios import IOS
    from cocorrrec_export.artifact.manifest import newest_artifact

    chosen = artifact or newest_artifact(Path("dist"), kind="scn", targets=IOS.targets)
    _print("Package for iOS", write_bundle(IOS, chosen, out, model=model), json)


def _print(title: str, made: dict[str, str], as_json: bool) -> None:
    if as_json:
        console.print_json(made)
    else:
        console.print_table(title, ("", ""), made.items())
