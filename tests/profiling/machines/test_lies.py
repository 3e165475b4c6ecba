"""Devices, runners and adb clients that say what they should not: one sentence, in bounded time and memory."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from cocorrrec_export.contract import EntryPoint, TensorSpec
from cocorrrec_export.errors import CocorrrecError
from cocorrrec_export.profiling.machines import adb as adb_module
from cocorrrec_export.profiling.machines import processes
from cocorrrec_export.profiling.machines.adb import Attached, DeviceError, choose_serial, find_adb
from cocorrrec_export.profiling.machines.device import Device, device_abi, device_facts, device_state
from cocorrrec_export.profiling.machines.host import Host
from cocorrrec_export.profiling.machines.runs import (
    MEMORY_KEYS,
    MEMORY_STAGES,
    Call,
    RunError,
    check_memory,
    read_report,
)
from tests.profiling.machines.pretended import pretended_device
from tests.profiling.machines.test_adb import LISTED, fake_adb

CONTRACT = EntryPoint("encode", (TensorSpec("ids", "int32", (1, 4)),), (TensorSpec("H", "float32", (1, 4, 8)),))
CALL = Call(contract=CONTRACT, inputs=bytes(4 * 4 * 3), iterations=2)


def report(**changed: Any) -> dict[str, Any]:
    stage = dict.fromkeys(MEMORY_KEYS, 1)
    return {
        "runner": 1,
        "ok": True,
        "load_ns": 1,
        "first_call_ns": 1,
        "planned_bytes": 0,
        "program_bytes": 0,
        "memory": {name: dict(stage) for name in MEMORY_STAGES},
        "latency_ns": [1, 2],
        "complete": True,
    } | changed


def test_the_report_of_these_tests_is_taken() -> None:
    assert read_report(json.dumps(report()), "", 0, CALL)["latency_ns"] == [1, 2]


STAGES = report()["memory"]
LIES: list[dict[str, Any]] = [
    {"memory": {name: {} for name in MEMORY_STAGES}},
    {"memory": STAGES | {"idle": {"peak_kb": 1}}},
    {"memory": STAGES | {"end": STAGES["end"] | {"peak_kb": "12"}}},
    {"memory": STAGES | {"end": STAGES["end"] | {"heap_bytes": 10**18}}},
    {"memory": STAGES | {"end": STAGES["end"] | {"more": 1}}},
    {"memory": STAGES | {"end": None}},
    {"memory": None},
    {"latency_ns": [1, -2]},
    {"latency_ns": [1, True]},
    {"latency_ns": [1, 1.5]},
    {"latency_ns": [1, 10**17]},
    {"latency_ns": [1]},
    {"latency_ns": {"0": 1, "1": 2}},
    {"load_ns": -1},
    {"first_call_ns": False},
    {"planned_bytes": 2**63 - 1},
    {"program_bytes": "1"},
    {"complete": 1},
    {"ok": False, "error": "a\x1b[31mb\x00c"},
]


@pytest.mark.parametrize("lie", LIES)
def test_a_runner_that_says_something_else_is_not_believed(lie: dict[str, Any]) -> None:
    with pytest.raises(RunError) as raised:
        check_memory(read_report(json.dumps(report(**lie)), "", 0, CALL), CALL)
    assert str(raised.value).isprintable()


@pytest.mark.parametrize("key", [key for key in report() if key not in ("runner", "ok")])
def test_a_runner_that_leaves_something_out_is_not_believed(key: str) -> None:
    said = {name: value for name, value in report().items() if name != key}
    with pytest.raises(RunError):
        read_report(json.dumps(said), "", 0, CALL)


@pytest.mark.parametrize("text", ['"latency_ns": [1, 1e999]', '"load_ns": 1, "load_ns": 2', '"load_ns": ' + "9" * 500])
def test_numbers_and_keys_that_json_lets_through_are_not_believed(text: str) -> None:
    said = json.dumps(report())[:-1] + f", {text}}}"
    with pytest.raises(RunError):
        read_report(said, "", 0, CALL)


def test_adb_that_hangs_at_its_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_adb(tmp_path, "exec sleep 600")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(adb_module, "SHORT_S", 0.5)
    start = time.monotonic()
    with pytest.raises(DeviceError, match="does not answer"):
        find_adb()
    assert time.monotonic() - start < 5


def test_endless_output_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "MAX_OUTPUT_BYTES", 1 << 20)
    adb = fake_adb(tmp_path, f"{LISTED}; exec yes 0123456789012345678901234567890123456789")
    start = time.monotonic()
    with pytest.raises(DeviceError, match="more than 1 MiB"):
        adb.ask("getprop")
    host = Host(["/bin/sh", "-c", "exec yes >&2", "sh"], tmp_path, timeout_s=30)
    with pytest.raises(RunError, match="more than 1 MiB"):
        host.run(tmp_path / "program", CALL)
    assert time.monotonic() - start < 10


def test_a_greeting_before_each_answer_is_no_part_of_it(tmp_path: Path) -> None:
    body = f'{LISTED}; echo "WARNING: linker: something"; echo banner >&2; shift 2; shift; exec sh -c "$1"'
    adb = fake_adb(tmp_path, body)
    assert adb.ask("echo arm64-v8a") == "arm64-v8a"
    assert adb.ask("true") == ""
    with pytest.raises(DeviceError):
        adb.ask("false")


def test_facts_of_a_device_are_lines_of_sane_length(tmp_path: Path) -> None:
    body = (
        LISTED
        + r"""
case "$4" in *getprop*) echo cocorr-begin; printf 'ro.product.model=a\033[2Jb\001 [red]x[/y]\n'
    echo "ro.soc.model=$(head -c 5000 /dev/zero | tr '\0' x)"; echo cocorr-ok;;
*meminfo*) echo cocorr-begin; echo "MemTotal: 99999999999999999999999999 kB"; echo cocorr-ok;;
*thermal*) echo cocorr-begin; echo "Thermal Status: 99999999999999999999"; echo cocorr-ok;;
*battery*) echo cocorr-begin; echo "temperature: 365"; echo cocorr-ok;;
*) echo cocorr-begin; printf 'x\ty\n'; echo cocorr-ok;; esac"""
    )
    adb = fake_adb(tmp_path, body)
    facts, state = device_facts(adb), device_state(adb)
    for value in facts.values():
        assert not isinstance(value, str) or (value.isprintable() and len(value) < 700), value
    assert "[red]x[/y]" in facts["name"] and "\\x1b[2J" in facts["name"]
    assert facts["memory_kb"] is None and state["thermal_status"] is None and state["battery_celsius"] == 36.5


@pytest.mark.parametrize("size", [0, 4 * 4 * 8 * 3 - 4, 4 * 4 * 8 * 3 + 1, 3 << 30])
def test_outputs_of_another_size_are_not_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    adb = pretended_device(tmp_path, monkeypatch)
    runner = tmp_path / "runner"
    runner.write_text(f"#!/bin/sh\ntruncate -s {size} outputs.bin\necho '{json.dumps(report())}'\n")
    runner.chmod(0o755)
    (tmp_path / "program").write_bytes(b"x")
    (tmp_path / "run").mkdir()
    device = Device(adb, [str(runner)], str(tmp_path / "run"), 30)
    start = time.monotonic()
    with pytest.raises(RunError, match=rf"wrote {size} bytes of outputs, 384 were expected"):
        device.run(tmp_path / "program", CALL)
    host = Host(["/bin/sh", "-c", f"truncate -s {size} {tmp_path}/outputs.bin; echo '{json.dumps(report())}'", "sh"],
                tmp_path, timeout_s=30)  # fmt: skip
    with pytest.raises(RunError, match=rf"wrote {size} bytes of outputs, 384 were expected"):
        host.run(tmp_path / "program", CALL)
    assert time.monotonic() - start < 20


@pytest.mark.parametrize(
    ("state", "hint"),
    [
        (
            "no permissions (user in plugdev group; are your udev rules wrong?); see [http://developer.android.com]",
            "udev rule",
        ),
        ("no permissions", "udev rule"),
        ("unauthorized", "unlock the phone"),
        ("sideload", "start Android on it"),
    ],
)
def test_states_with_words_of_adbs_own_get_their_hint(state: str, hint: str) -> None:
    with pytest.raises(DeviceError, match=hint):
        choose_serial([Attached("R5CT", state)], None)


@pytest.mark.parametrize(
    ("said", "short"),
    [("mips64", False), ("riscv64", False), ("armeabi-v7a,armeabi", True), ("x86", True), ("mips", True)],
)
def test_only_a_32_bit_phone_is_called_one(tmp_path: Path, said: str, short: bool) -> None:
    adb = fake_adb(tmp_path, f"{LISTED}; echo cocorr-begin; echo {said}; echo cocorr-ok")
    with pytest.raises(CocorrrecError, match="and runners exist for") as raised:
        device_abi(adb)
    assert ("32-bit" in str(raised.value)) == short
