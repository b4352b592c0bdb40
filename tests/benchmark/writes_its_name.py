"""A program that `test_suites` has convert something: it writes its first argument."""

import sys
from pathlib import Path

if __name__ == "__main__":
    Path(sys.argv[2]).write_text(sys.argv[1])
