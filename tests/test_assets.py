"""Manifests are complete; only verified bytes arrive; archives stay in their folder."""

import concurrent.futures
import gc
import hashlib
import http.server
import io
import random
import re
import shutil
import tarfile
import threading

import pytest

from ppg_jax import assets
from ppg_jax.data import personachat
from ppg_jax.data.corpus import DataConfig, load_splits
from ppg_jax.errors import UserError

CONTENT = random.Random(0).randbytes(300_000)


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves CONTENT with Range; cuts the connection where the test says so."""

    def do_GET(self):
        server = self.server
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        server.asked.append(asked and int(asked[1]))
        if self.path != "/file":
            self.send_error(404)
            return
        start = int(asked[1]) if asked and server.knows_ranges else 0
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(server.content) - start))
        self.end_headers()
        body = server.content[start:]
        if server.cuts:
            body = body[: server.cuts.pop(0)]
        server.sent += len(body)
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.content, server.knows_ranges = CONTENT, True
    server.cuts, server.asked, server.sent = [], [], 0
    server.url = f"http://127.0.0.1:{server.server_port}/file"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()
    gc.collect()  # a connection left open shows in the test that left it


def entry(url, content=CONTENT):
    digest = hashlib.sha256(content).hexdigest()
    return assets.File("data.bin", url, len(content), digest)


def names(folder):
    """All but the locks, which stay."""
    paths = [path for path in folder.rglob("*") if path.suffix != ".lock"]
    return sorted(str(path.relative_to(folder)) for path in paths)


def test_download_brings_the_verified_file_once(server, tmp_path):
    seen = []
    target = assets.download(
        entry(server.url), tmp_path / "new", lambda *done: seen.append(done)
    )
    assert target.read_bytes() == CONTENT
    assert names(tmp_path / "new") == ["data.bin"]
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert assets.download(entry(server.url), tmp_path / "new") == target
    assert server.asked == [None]


def test_a_cut_connection_goes_on_where_it_stopped(server, tmp_path):
    server.cuts = [100_000, 50_000]
    target = assets.download(entry(server.url), tmp_path)
    assert target.read_bytes() == CONTENT
    assert server.asked == [None, 100_000, 150_000]
    assert server.sent == len(CONTENT)


def test_a_download_that_keeps_failing_is_resumed_by_the_next_run(server, tmp_path):
    server.cuts = [1_000] * assets._ATTEMPTS
    kept = 1_000 * assets._ATTEMPTS
    with pytest.raises(UserError, match=f"ended at {kept:,} of 300,000 bytes; run"):
        assets.download(entry(server.url), tmp_path)
    assert names(tmp_path) == ["data.bin.part"]
    assert assets.download(entry(server.url), tmp_path).read_bytes() == CONTENT
    assert server.asked[-1] == kept
    assert names(tmp_path) == ["data.bin"]


def test_a_server_that_ignores_range_sends_all_again(server, tmp_path):
    server.knows_ranges = False
    (tmp_path / "data.bin.part").write_bytes(CONTENT[:1000])
    assert assets.download(entry(server.url), tmp_path).read_bytes() == CONTENT
    assert server.asked == [1000]


def test_a_complete_part_needs_no_server(tmp_path):
    (tmp_path / "data.bin.part").write_bytes(CONTENT)
    target = assets.download(entry("http://127.0.0.1:9/file"), tmp_path)
    assert target.read_bytes() == CONTENT


def test_ctrl_c_keeps_the_part_and_the_next_run_goes_on(server, tmp_path):
    server.cuts = [70_000]

    def interrupt(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        assets.download(entry(server.url), tmp_path, interrupt)
    assert names(tmp_path) == ["data.bin.part"]
    kept = (tmp_path / "data.bin.part").stat().st_size
    assert 0 < kept <= 70_000
    assert assets.download(entry(server.url), tmp_path).read_bytes() == CONTENT
    assert server.asked == [None, kept]


@pytest.mark.parametrize(
    "content",
    [CONTENT[:-1] + bytes([CONTENT[-1] ^ 1]), CONTENT + b"!", b"x" * len(CONTENT)],
    ids=["one byte", "longer", "other"],
)
def test_another_file_is_refused_and_leaves_nothing(server, tmp_path, content):
    server.content = content
    with pytest.raises(UserError, match="SHA-256 of the manifest"):
        assets.download(entry(server.url), tmp_path)
    assert names(tmp_path) == []


def test_a_damaged_part_is_found_out(server, tmp_path):
    (tmp_path / "data.bin.part").write_bytes(b"?" * 1000)
    with pytest.raises(UserError, match="download was removed; run again"):
        assets.download(entry(server.url), tmp_path)
    assert assets.download(entry(server.url), tmp_path).read_bytes() == CONTENT


def test_a_different_file_of_that_name_is_kept(server, tmp_path):
    (tmp_path / "data.bin").write_bytes(b"mine")
    with pytest.raises(UserError, match="remove it and run again"):
        assets.download(entry(server.url), tmp_path)
    assert (tmp_path / "data.bin").read_bytes() == b"mine"
    assert server.asked == []


@pytest.mark.parametrize("missing", ["server", "page"])
def test_what_cannot_be_reached_is_told_in_one_line(server, tmp_path, missing):
    url = {"server": "http://127.0.0.1:9/x", "page": server.url + "/none"}[missing]
    with pytest.raises(UserError, match=r"cannot reach.*put the file at") as error:
        assets.download(entry(url), tmp_path)
    assert "\n" not in str(error.value)
    assert str(tmp_path / "data.bin") in str(error.value)
    assert not (tmp_path / "data.bin").exists()


def test_a_part_that_is_a_link_is_not_written_through(server, tmp_path):
    outside = tmp_path / "outside"
    outside.write_bytes(b"mine")
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "data.bin.part").symlink_to(outside)
    path = assets.download(entry(server.url), folder)
    assert path.read_bytes() == CONTENT and not path.is_symlink()
    assert outside.read_bytes() == b"mine"


def test_downloads_at_once_bring_the_file_once(server, tmp_path):
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        file = entry(server.url)
        paths = list(pool.map(lambda _: assets.download(file, tmp_path), range(3)))
    assert {path.read_bytes() for path in paths} == {CONTENT}
    assert len(server.asked) == 1


def test_a_server_that_hardly_sends_anything_is_given_up(server, tmp_path, monkeypatch):
    monkeypatch.setattr(assets, "_SLOW_AFTER_SECONDS", 0.0)
    monkeypatch.setattr(assets, "_SLOWEST_BYTES_PER_SECOND", 1e12)
    with pytest.raises(UserError, match=r"sent [\d,]+ bytes in \d+ s; run the same"):
        assets.download(entry(server.url), tmp_path)


def test_what_a_killed_unpacking_left_is_removed(tmp_path):
    (tmp_path / ".unpacking-left" / "folder").mkdir(parents=True)
    archive = tmp_path / "data.tgz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("a"), io.BytesIO())
    assert assets.unpack(archive, tmp_path) == (tmp_path / "a",)
    assert list(tmp_path.glob(".unpacking-*")) == []


def test_an_archive_of_very_many_files_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(assets, "_MOST_MEMBERS", 3)
    archive = tmp_path / "data.tgz"
    with tarfile.open(archive, "w:gz") as tar:
        for name in "abcd":
            tar.addfile(tarfile.TarInfo(name), io.BytesIO())
    with pytest.raises(UserError, match="or 3 files; not unpacked"):
        assets.unpack(archive, tmp_path / "out")
    assert [p.name for p in (tmp_path / "out").iterdir()] == [".data.tgz.lock"]


def test_too_small_a_disk_is_told_before_the_download(server, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=len(CONTENT) - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(UserError, match=r"299,999 bytes free.*needs 300,000"):
        assets.download(entry(server.url), tmp_path)
    assert server.asked == []


def test_a_folder_that_is_a_file_is_told(tmp_path):
    (tmp_path / "data").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        assets.download(entry("http://127.0.0.1:9/x"), tmp_path / "data")


ARTEFACTS = sorted(path.name for path in assets.THIRD_PARTY.iterdir() if path.is_dir())
# Nobody has told us the hashes of these yet; the revision alone pins them.
WITHOUT_FILES = {"dialogpt-medium", "dialogpt-small", "gpt2-medium"}


@pytest.mark.parametrize("name", ARTEFACTS)
def test_every_artefact_has_a_manifest_and_a_licence(name):
    manifest = assets.load_manifest(name)
    assert manifest.homepage and manifest.revision and manifest.spdx
    assert bool(manifest.files) == (name not in WITHOUT_FILES)
    assert (assets.THIRD_PARTY / name / "LICENSE").read_text().strip()


def test_the_manifest_of_personachat_is_that_of_parlai():
    [file] = assets.load_manifest("personachat").files
    assert file.bytes == 223_221_886
    assert file.sha256.startswith("507cf8641d333240654798870ea584d854ab5261071c5e35")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"m"', '"n"', "name is 'n', expected 'm'"),
        ("bytes = 1", "bytes = 0", "positive size"),
        ("bytes = 1", "bytes = true", "positive size"),
        ("bytes = 1", "size = 1", "'size'"),
        ('"00', '"zz', "64 lower-case hex"),
        ("http:", "file:", "an http address"),
        ('"a.bin"', '"../a.bin"', "a plain file name"),
        ("[[files]]", "[[file]]", "fields are in assets.py"),
        ('spdx = "MIT"', "", "spdx"),
        ("bytes = 1", "bytes =", "METADATA.toml"),
    ],
)
def test_a_bad_manifest_says_what_is_wrong(tmp_path, old, new, said):
    good = (
        'name = "m"\nhomepage = "h"\nrevision = "r"\nspdx = "MIT"\n[[files]]\n'
        f'name = "a.bin"\nurl = "http://h/a"\nbytes = 1\nsha256 = "{"0" * 64}"\n'
    )
    (tmp_path / "m").mkdir()
    (tmp_path / "m/METADATA.toml").write_text(good)
    assert assets.load_manifest("m", tmp_path).files[0].name == "a.bin"
    (tmp_path / "m/METADATA.toml").write_text(good.replace(old, new, 1))
    with pytest.raises(UserError, match=said):
        assets.load_manifest("m", tmp_path)


def test_an_unknown_manifest_lists_the_known_ones():
    with pytest.raises(UserError, match=r"there are: .*personachat"):
        assets.load_manifest("none")


def make_archive(path, members, mode="w:gz"):
    """Members: name -> bytes, or a TarInfo of something that is no plain file."""
    with tarfile.open(path, mode) as tar:
        for name, content in members.items():
            if isinstance(content, tarfile.TarInfo):
                tar.addfile(content)
                continue
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def special(kind, target="target"):
    info = tarfile.TarInfo("a/special")
    info.type, info.linkname = kind, target
    return {"a/good": b"x", "a/special": info}


def test_plain_files_are_unpacked(tmp_path):
    members = {"./a/b/c.txt": b"1", "a/d.txt": b"2", "e": b"3"}
    archive = make_archive(tmp_path / "x.tgz", members)
    made = assets.unpack(archive, tmp_path / "out")
    assert made == (tmp_path / "out/a", tmp_path / "out/e")
    assert names(tmp_path / "out") == ["a", "a/b", "a/b/c.txt", "a/d.txt", "e"]
    assert (tmp_path / "out/a/b/c.txt").read_bytes() == b"1"


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"a/good": b"x", "../evil": b"x"}, "leads outside"),
        ({"a/good": b"x", "a/../../evil": b"x"}, "leads outside"),
        ({"a/good": b"x", "/tmp/evil": b"x"}, "leads outside"),
        ({"a/good": b"x", "..\\evil": b"x"}, "leads outside"),
        (special(tarfile.SYMTYPE, "/etc/passwd"), "a link or a device"),
        (special(tarfile.SYMTYPE, "good"), "a link or a device"),
        (special(tarfile.LNKTYPE, "a/good"), "a link or a device"),
        (special(tarfile.CHRTYPE), "a link or a device"),
        (special(tarfile.FIFOTYPE), "a link or a device"),
        ({"a/good": b"x", "a/zeros": bytes(20_000_000)}, "unpacks to over"),
    ],
)
def test_a_hostile_archive_is_refused_and_leaves_nothing(tmp_path, members, said):
    archive = make_archive(tmp_path / "x.tgz", members)
    with pytest.raises(UserError, match=said):
        assets.unpack(archive, tmp_path / "out")
    assert names(tmp_path) == ["out", "x.tgz"]


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
@pytest.mark.parametrize("first", [{}, {"a/good": b"x"}])
def test_an_archive_with_a_huge_header_is_refused_before_it_is_read(
    tmp_path, kind, first
):
    huge = tarfile.TarInfo("huge")
    huge.type, huge.size = kind, 2**33 - 1
    archive = make_archive(tmp_path / "x.tgz", first | {"huge": huge})
    with pytest.raises(UserError, match="a header of 8,589,934,591 bytes"):
        assets.unpack(archive, tmp_path / "out")
    assert names(tmp_path) == ["out", "x.tgz"]


def test_a_name_that_is_there_already_is_kept(tmp_path):
    archive = make_archive(tmp_path / "x.tgz", {"a/new": b"x", "b": b"x"})
    (tmp_path / "out/b").mkdir(parents=True)
    with pytest.raises(UserError, match="out/b is there already; remove it"):
        assets.unpack(archive, tmp_path / "out")
    assert names(tmp_path / "out") == ["b"]


def test_no_archive_is_told(tmp_path):
    (tmp_path / "x.tgz").write_bytes(b"hello")
    with pytest.raises(UserError, match="is damaged"):
        assets.unpack(tmp_path / "x.tgz", tmp_path / "out")
    with pytest.raises(UserError, match="cannot unpack"):
        assets.unpack(tmp_path / "none.tgz", tmp_path / "out")


def test_personachat_is_fetched_and_unpacked_once(server, tmp_path, monkeypatch):
    line = b"1 hi\tho\t\tno|ho\n"
    members = {"personachat/train_both_original.txt": line}
    server.content = make_archive(tmp_path / "x.tgz", members).read_bytes()
    files = (entry(server.url, server.content),)
    manifest = assets.Manifest("personachat", "", "", "CC-BY-4.0", files)
    monkeypatch.setattr(assets, "load_manifest", {"personachat": manifest}.get)
    for _ in range(2):
        personachat.download(tmp_path / "data")
        splits = load_splits(DataConfig(source=str(tmp_path / "data")))
        assert splits["train"][0].utterances == ("hi", "ho")
    assert server.asked == [None]


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz"])
def test_a_mutated_archive_is_unpacked_inside_or_refused(tmp_path, mode):
    rng = random.Random(0)
    members = {"a/b": b"hello " * 50, "a/c": rng.randbytes(300), "d": b"x"}
    archive = make_archive(tmp_path / "x.tar", members, mode)
    data = archive.read_bytes()
    refused = 0
    for _ in range(100):
        variant = bytearray(data)
        for _ in range(rng.randint(1, 3)):
            variant[rng.randrange(len(variant))] = rng.randrange(256)
        archive.write_bytes(variant[: rng.choice([None, rng.randrange(len(variant))])])
        try:
            assets.unpack(archive, tmp_path / "out")
        except UserError:
            refused += 1
            assert names(tmp_path / "out") == []
        shutil.rmtree(tmp_path / "out")
        assert names(tmp_path) == ["x.tar"]
    assert refused > 10
