"""The command line: `vae-run`, and what the other two commands share with it.

Only this part of the runtime uses click and Pillow.
"""

from vae_runtime.cli.main import main as main
