"""Start a test device and leave it running, so that ``cocorr-profile`` finds it as it would find a phone.

make start-test-device
"""

import os
import signal
import tempfile
from pathlib import Path
from typing import NoReturn

from tests.device import adbd


def cache_folder() -> Path:
    """Where Debian's adbd is kept."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "cocorrrec-export" / "test-device"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _interrupt(_signum: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt


def main() -> None:
    """Until Ctrl-C."""
    for number in (signal.SIGINT, signal.SIGTERM):  # a shell leaves the first ignored in what it starts by &
        signal.signal(number, _interrupt)
    reason = adbd.missing()
    if reason is not None:
        raise SystemExit(f"error: {reason}")
    with tempfile.TemporaryDirectory() as folder, adbd.adb_server(Path(folder) / "home") as server:
        device = adbd.TestDevice(Path(folder), adbd.fetch_adbd(cache_folder()), subnet=20 + os.getpid() % 100)
        try:
            device.start()
            server.connect(device.serial)
            settings = {
                name: value for name, value in server.environment.items() if name.startswith(("ADB", "ANDROID"))
            }
            print(f"{device.serial} is running; in another shell of the same user:")
            print(" ".join(f"export {name}={value};" for name, value in settings.items()), flush=True)
            signal.pause()
        except KeyboardInterrupt:
            print("stopping")
        finally:
            device.stop()


if __name__ == "__main__":
    main()
