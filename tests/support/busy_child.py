"""A child process that is busy for ever, and ends with its parent all the same.

What it does lets other threads run.
"""

import signal
import sys

from fieldtune.server.processes.child import end_with_parent, parent_connection

if __name__ == "__main__":
    connection = parent_connection(sys.argv)
    end_with_parent(connection)
    connection.send_bytes(b"busy")
    while True:
        signal.pause()
