"""A server that a test or a bench has started ends with it."""

import os
import signal
import subprocess
import sys

import pytest
from waiting import until

from nllab.bench.live import GUARD

STARTS = """
import subprocess, sys
server = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
guard = [sys.executable, "-c", sys.argv[1], sys.executable, "-c", server]
subprocess.Popen(guard, stdin=subprocess.PIPE, start_new_session=True).wait()
"""


@pytest.mark.skipif(os.name != "posix", reason="looks for a process as POSIX has it")
def test_a_server_ends_with_whoever_started_it_even_if_that_one_is_killed():
    starter = subprocess.Popen([sys.executable, "-c", STARTS, GUARD], stdout=subprocess.PIPE)
    with starter:
        server = int(starter.stdout.readline())
        starter.send_signal(signal.SIGKILL)

    def ended():
        try:
            os.kill(server, 0)
        except ProcessLookupError:
            return True
        return False

    until(ended)
