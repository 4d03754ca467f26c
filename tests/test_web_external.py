"""schemathesis against the API of a server as people start it; it stands in an environment of its own."""

import os
import re
import shutil
import subprocess
import sys

import pytest

#: The program; ``make external-environments`` puts one where ``make test-external`` looks.
PROGRAM = os.environ.get("SCHEMATHESIS", "")
#: Questions of each kind; ``SCHEMATHESIS_EXAMPLES`` asks for more.
EXAMPLES = os.environ.get("SCHEMATHESIS_EXAMPLES", "25")


@pytest.mark.skipif(shutil.which(PROGRAM) is None, reason="schemathesis is not installed: make external-environments")
def test_no_question_of_schemathesis_fails_the_server(tmp_path) -> None:
    environment = {**os.environ, "RIGWISE_STORE": str(tmp_path / "none.sqlite")}
    command = [sys.executable, "-m", "rigwise", "serve", "--port", "0", "--workers", "1", "--quiet"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as process:
        try:
            address = process.stdout.readline().strip().rstrip("/")
            asked = [
                PROGRAM, "run", f"{address}/api/v1/openapi.json", "--checks", "not_a_server_error", "--seed", "1",
                "--max-examples", EXAMPLES, "--request-timeout", "60", "--no-color",
            ]  # fmt: skip
            found = subprocess.run(asked, cwd=tmp_path, capture_output=True, text=True, timeout=1500, check=False)
        finally:
            process.terminate()
            process.wait(30)
    assert found.returncode == 0, found.stdout[-4000:] + found.stderr[-2000:]
    assert int(re.search(r"(\d[\d,]*) generated", found.stdout)[1].replace(",", "")) > 100
