"""The programs, one a file: python -m launch.NAME."""

import sys

if sys.argv[:1] == ["-m"]:  # one of them begins; what it imports takes seconds
    from ppg_jax.launching import end_at_once

    end_at_once()
