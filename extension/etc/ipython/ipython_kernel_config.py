"""Read by every IPython kernel of this environment, before it starts.

debugpy listens on loopback without asking who connects. Where accounts are separated, another account of
the machine could therefore run code in this kernel: the debugger is off there.
"""

import os

if os.environ.get("SPECOLA_SEPARATE_ACCOUNTS") == "1":
    import ipykernel.debugger

    ipykernel.debugger._is_debugpy_available = False
