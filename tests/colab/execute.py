"""Execute a notebook in place with this Python's kernel, up to its first error: execute.py PATH SECONDS-A-CELL."""

import contextlib
import sys

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

path, seconds = sys.argv[1], int(sys.argv[2])
notebook = nbformat.read(path, as_version=4)
with contextlib.suppress(CellExecutionError):  # the error stands in the cell's outputs
    NotebookClient(notebook, timeout=seconds, kernel_name="python3").execute()
nbformat.write(notebook, path)
