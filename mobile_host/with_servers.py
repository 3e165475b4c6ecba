"""Run a command with the servers that the demos' tests ask: ``with_servers.py GCN_ARTIFACT COMMAND ...``.

The command finds their addresses in the environment: COCORR_SERVER is a real ``cocorr-serve gcn`` of that artifact,
COCORR_SCRIPTED the server of the scenarios. Both end with it.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

from scripted_server import scripted_server


def main() -> int:
    """Exit code of the command."""
    artifact, *command = sys.argv[1:]
    program = Path(sys.executable).with_name("cocorr-serve")
    real = subprocess.Popen(
        [program, "gcn", artifact, "--port", "0", "--json", "--drain-seconds", "0"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert real.stdout is not None
        line = real.stdout.readline()
        if not line:
            sys.exit(f"cocorr-serve gcn {artifact} did not start")
        with scripted_server() as scripted:
            addresses = {"COCORR_SERVER": json.loads(line)["address"], "COCORR_SCRIPTED": scripted.address}
            return subprocess.run(command, env=os.environ | addresses).returncode
    finally:
        real.terminate()
        real.wait(timeout=30)


if __name__ == "__main__":
    sys.exit(main())
