"""Hub ids: one pinned revision each, verified, fetched once; offline, what to do."""

import hashlib
import json
import os
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

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
