"""Whether weights are those that a run, or an export, wrote beside their hash."""

from collections.abc import Callable
from pathlib import Path

from ppg_jax import run_dir
from ppg_jax.errors import UserError
from ppg_jax.run_dir import EXPORTED, FINGERPRINT, RESULT


def require_sound(folder: Path, sha256: Callable[[], str]) -> None:
    """Raises UserError if `folder` is known to have held other weights.

    sha256: gives that of the weights that it holds; asked where they are known.
    """
    for record in (RESULT, EXPORTED):
        path = folder.parent / record
        known = path if record == EXPORTED else folder.parent / FINGERPRINT
        if not (path.exists() and known.exists()):  # a stranger's, or none
            continue
        recorded = _recorded(path)
        if not recorded:  # of before weights were named
            continue
        if (theirs := recorded.get(folder.name)) is None:
            raise UserError(
                f"{path} names no weights of {folder.name}/, and {', '.join(recorded)} "
                f"alone; {_again(path)}"
            )
        if (found := sha256()) != theirs:
            raise UserError(
                f"{folder}: its weights are damaged or another model's (SHA-256 "
                f"{found[:12]}, {record} says {theirs[:12]}); {_again(path)}"
            )


def _recorded(path: Path) -> dict[str, str]:
    if path.name == RESULT:
        return run_dir.weights_of(run_dir.result_of(path.parent))
    return run_dir.weights_of(run_dir.read_exported(path.parent))


def _again(path: Path) -> str:
    if path.name == EXPORTED:
        return run_dir.EXPORT_AGAIN
    return run_dir.again_of(path.parent)
