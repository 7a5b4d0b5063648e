"""`python -m ensurepip`, as venv calls it."""

import ensurepip

ensurepip.bootstrap()
