"""third_party/*/METADATA.toml -> verified local paths of what others have made.

A manifest describes one artefact that we use and do not carry:

    name = "personachat"                 # of its folder under third_party/
    homepage = "https://..."             # where a person reads about it
    revision = "..."                     # commit, tag or date of what is pinned
    spdx = "CC-BY-4.0"                   # licence; its text stands beside in LICENSE
    [[files]]
    name = "personachat.tgz"             # of the local file
    url = "https://..."
    bytes = 223221886
    sha256 = "507c..."                   # 64 lower-case hex digits

`files` is empty where nobody has told us the hashes: the revision alone pins those.
No listed file is trusted before its size and SHA-256 agree with the manifest.
"""

import dataclasses
import fcntl
import hashlib
import http.client
import re
import shutil
import tarfile
import tempfile
import time
import tomllib
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from ppg_jax.errors import UserError


def carried(name: str) -> Path:
    """launch/, configs/ or third_party/: inside the installed package, or beside it."""
    package = Path(__file__).parent
    inside = package / name
    return inside if inside.is_dir() else package.with_name(name)


THIRD_PARTY = carried("third_party")
_CHUNK = 1 << 20
_TIMEOUT_SECONDS = 60
_ATTEMPTS = 5
# Text compresses five to ten times, a bomb a thousand times.
_MAX_EXPANSION = 40
_ALWAYS_ALLOWED_BYTES = 1 << 24
_MOST_MEMBERS = 10_000
_LONGEST_HEADER = 1 << 20  # of a member: long names, attributes
_MOST_SECONDS = 300  # to unpack; PersonaChat takes 3
# Less than this over a minute is no download, but a server that keeps us waiting.
_SLOWEST_BYTES_PER_SECOND, _SLOW_AFTER_SECONDS = 1000, 60


@dataclasses.dataclass(frozen=True)
class File:
    """One file of an artefact: where it is, and how to tell that it is the one."""

    name: str
    url: str
    bytes: int
    sha256: str


@dataclasses.dataclass(frozen=True)
class Manifest:
    """One METADATA.toml (fields: see the module)."""

    name: str
    homepage: str
    revision: str
    spdx: str
    files: tuple[File, ...]


def load_manifest(name: str, third_party: Path = THIRD_PARTY) -> Manifest:
    """The manifest of ``third_party/<name>``; UserError names what is wrong with it."""
    path = third_party / name / "METADATA.toml"
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
        files = tuple(File(**entry) for entry in values.pop("files"))
        manifest = Manifest(files=files, **values)
    except FileNotFoundError:
        known = ", ".join(sorted(p.parent.name for p in third_party.glob("*/*.toml")))
        raise UserError(f"no manifest {path}; there are: {known or 'none'}.") from None
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path}: {error}; the fields are in assets.py.") from None
    if manifest.name != name:
        raise UserError(f"{path}: name is {manifest.name!r}, expected {name!r}.")
    for file in manifest.files:
        _check(file, path)
    return manifest


def _check(file, path) -> None:
    rules = {
        "name": (r"\w[\w.-]*", "a plain file name"),
        "url": (r"https?://\S+", "an http address"),
        "bytes": (r"[1-9][0-9]*", "a positive size"),
        "sha256": (r"[0-9a-f]{64}", "64 lower-case hex digits"),
    }
    for field, (pattern, expected) in rules.items():
        value = getattr(file, field)
        if not re.fullmatch(pattern, str(value)):
            message = f"{path}: {field} is {value!r}, expected {expected}."
            raise UserError(message)


def download(
    file: File, folder, progress: Callable[[int, int], None] | None = None
) -> Path:
    """Brings one file into `folder` and returns its path, bytes and hash verified.

    A stopped download stays as ``<name>.part`` and goes on from there; the name
    itself appears only when everything agrees. `progress` is told (bytes, of bytes).

    Raises:
      UserError: no connection, no space, or not the file that the manifest means.
    """
    target = Path(folder) / file.name
    try:
        with _alone(target):
            return _brought(file, target, progress or (lambda done, total: None))
    except OSError as error:
        raise UserError(f"cannot write {target}: {error.strerror}.") from None


@contextmanager
def _alone(target: Path) -> Iterator[None]:
    """Waits until no other process brings or unpacks `target`."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.with_name(f".{target.name}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _brought(file: File, target: Path, progress) -> Path:
    if target.exists():
        if agrees(target, file):
            return target
        message = f"{target} is not the file of {file.url}; remove it and run again."
        raise UserError(message)
    part = target.with_name(target.name + ".part")
    if part.is_symlink():  # it would be written through
        part.unlink()
    _require_space(part, file)
    _fetch(file, part, progress)
    if not agrees(part, file):
        part.unlink()
        raise UserError(
            f"{file.url} does not have the size and SHA-256 of the manifest "
            f"({file.sha256[:12]}...): the download was removed; run again."
        )
    return part.rename(target)


def agrees(path: Path, file: File) -> bool:
    """Whether what lies at `path` has the size and SHA-256 of the manifest."""
    if path.stat().st_size != file.bytes:
        return False
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest() == file.sha256


def _size(path) -> int:
    return path.stat().st_size if path.exists() else 0


def _require_space(part, file) -> None:
    needed = file.bytes - _size(part)
    free = shutil.disk_usage(part.parent).free
    if needed > free:
        raise UserError(
            f"{part.parent} has {free:,} bytes free, {file.name} needs {needed:,}; "
            "free some or choose another folder."
        )


def _fetch(file, part, progress) -> None:
    # A cut connection is common enough on 200 MB to go on without asking.
    for _ in range(_ATTEMPTS):
        if _size(part) >= file.bytes:
            return
        _fetch_rest(file, part, progress)
    if _size(part) < file.bytes:
        raise UserError(
            f"{file.url}: the connection ended at {_size(part):,} of {file.bytes:,} "
            "bytes; run the same command to go on from there."
        )


def _fetch_rest(file, part, progress) -> None:
    start = _size(part)
    headers = {"Range": f"bytes={start}-"} if start else {}
    request = urllib.request.Request(file.url, headers=headers)
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS)
    except (OSError, http.client.HTTPException) as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()  # it holds the connection
        raise UserError(
            f"cannot reach {file.url}: {_reason(error)}; check the network, or put "
            f"the file at {part.with_suffix('')} yourself."
        ) from None
    began = time.monotonic()
    with response, part.open("ab" if response.status == 206 else "wb") as out:
        done = first = out.tell()
        # One byte more than expected shows that the file is another one.
        while done <= file.bytes:
            try:
                chunk = response.read1(_CHUNK)
            except (OSError, http.client.HTTPException):
                return
            if not chunk:
                return
            out.write(chunk)
            done += len(chunk)
            progress(done, file.bytes)
            seconds = time.monotonic() - began
            slow = done - first < _SLOWEST_BYTES_PER_SECOND * seconds
            if slow and seconds > _SLOW_AFTER_SECONDS:
                raise UserError(
                    f"{file.url} sent {done - first:,} bytes in {seconds:.0f} s; run "
                    "the same command to go on from there, or put the file at "
                    f"{part.with_suffix('')} yourself."
                )


def _reason(error) -> str:
    told = str(getattr(error, "reason", "") or error) or type(error).__name__
    return " ".join(told.split())[:200]


def unpack(archive, destination) -> tuple[Path, ...]:
    """Unpacks a tar archive of plain files and folders; the paths it made on top.

    Everything is unpacked beside first, then renamed into `destination`: after an
    error nothing of the archive is there.

    Raises:
      UserError: damaged, would write outside `destination`, holds links or devices,
        is far larger than its size, or `destination` has an entry of that name.
    """
    archive, destination = Path(archive), Path(destination)
    with _alone(destination / archive.name):
        for left in destination.glob(".unpacking-*"):  # by a kill
            shutil.rmtree(left, ignore_errors=True)
        return _unpacked(archive, destination)


def _unpacked(archive: Path, destination: Path) -> tuple[Path, ...]:
    staging = Path(tempfile.mkdtemp(prefix=".unpacking-", dir=destination))
    try:
        _extract(archive, staging)
        names = sorted(path.name for path in staging.iterdir())
        for name in names:
            if (destination / name).exists():
                message = f"{destination / name} is there already; remove it first."
                raise UserError(message)
        return tuple((staging / n).rename(destination / n) for n in names)
    except (tarfile.TarError, EOFError, zlib.error) as error:
        told = _reason(error)
        message = f"{archive} is damaged ({told}); remove it and get it again."
        raise UserError(message) from None
    except OSError as error:
        raise UserError(f"cannot unpack {archive}: {_reason(error)}.") from None
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _extract(archive, staging) -> None:
    limit = max(_MAX_EXPANSION * archive.stat().st_size, _ALWAYS_ALLOWED_BYTES)
    began, total = time.monotonic(), 0
    with tarfile.open(archive, tarinfo=_Member) as tar:
        for number, member in enumerate(tar, 1):
            _require_plain(archive, member)
            total += member.size
            # What lies before it, headers and padding too, was read to come here.
            if max(total, member.offset_data) > limit or number > _MOST_MEMBERS:
                message = f"{archive} unpacks to over {limit:,} bytes or "
                message += f"{_MOST_MEMBERS:,} files; not unpacked."
                raise UserError(message)
            if time.monotonic() - began > _MOST_SECONDS:
                message = f"{archive} takes over {_MOST_SECONDS} s; not unpacked."
                raise UserError(message)
            tar.extract(member, staging, filter="data")


class _Member(tarfile.TarInfo):
    """Of a sane header: a long one is read whole before anybody sees the member."""

    def _proc_member(self, tar):
        if self.size > _LONGEST_HEADER and self.type in _HEADERS:
            raise tarfile.ReadError(f"a header of {self.size:,} bytes")
        return super()._proc_member(tar)


_HEADERS = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)


def _require_plain(archive, member) -> None:
    path = PurePosixPath(member.name)
    outside = path.is_absolute() or ".." in path.parts or "\\" in member.name
    if outside or not (member.isreg() or member.isdir()):
        what = "leads outside" if outside else "is a link or a device"
        message = f"{archive}: {member.name!r} {what}; expected plain files only."
        raise UserError(message)
