"""A script: Python with SIGUSR2 held back, which a job's training lets through when it can answer it.

python -S held_back.py ARGUMENTS OF PYTHON...
"""

import os
import signal
import sys

if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
    os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
