"""The hostile tool server behind a gate, to keep a worker waiting for its handshake.

``python gated_tools.py GATE --sink FILE`` says nothing while the file GATE holds the id of the
worker that started it.
"""

import os
import sys
import time
from pathlib import Path

from toolservers.hostile import main

if __name__ == "__main__":
    gate = Path(sys.argv.pop(1))
    while gate.exists() and gate.read_text() == str(os.getppid()):
        time.sleep(0.02)
    main()
