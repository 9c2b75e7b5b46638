"""`models fetch` against a server on the loopback: resumed, verified, asked for once, and never believed blindly."""

import hashlib
import io
import json
import socket

import numpy as np
import pytest
from hub_helpers import COMMIT, HubServer, breaks_after

from cross_view_loc.cli import main
from cross_view_loc.errors import InputError, ModelError
from cross_view_loc.models import hub as hub_module
from cross_view_loc.models.download import git_sha1_of
from cross_view_loc.models.fetch import already_fetched, fetch, locate_repository, plan_fetch
from cross_view_loc.models.hub import ATTEMPTS, Hub
from cross_view_loc.models.installed import fetched, find_registered
from cross_view_loc.models.lock import read_lock
from cross_view_loc.models.registry import MODELS, OPEN_LICENCES
from cross_view_loc.models.store import accepted_licence, repository_folder

WEIGHTS = np.random.default_rng(0).integers(0, 256, 300_000, dtype=np.uint8).tobytes()
FILES = {"config.json": b'{"model_type": "dpt"}', "preprocessor_config.json": b"{}", "model.safetensors": WEIGHTS,
         "pytorch_model.bin": b"pickle", "README.md": b"# model", "onnx/model.onnx": b"other"}  # fmt: skip
SMALL, LARGE = "depth-anything-v2-small", "depth-anything-v2-large"


@pytest.fixture(autouse=True)
def surroundings(tmp_path, monkeypatch):
    """An own models folder, no variables of the machine, and only the loopback."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    for name in ("HF_ENDPOINT", "HF_HUB_OFFLINE", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    connect = socket.socket.connect

    def local_only(self, address):
        assert address[0] == "127.0.0.1", address
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", local_only)


@pytest.fixture
def server():
    with HubServer(dict(FILES)) as running:
        yield running


def get(server, name=SMALL, revision="", slept=None, **environment):
    """Plan and fetch without a question; `slept` collects the waits."""
    hub = Hub(server.url, (slept if slept is not None else []).append, environment, timeout_s=5.0)
    try:
        return fetch(hub, plan_fetch(hub, name, revision))
    finally:
        hub.close()


def folder_of(name=SMALL):
    return repository_folder(MODELS[name].repository)


def test_everything_needed_and_nothing_else_arrives_whole_and_is_locked(server):
    lock = get(server)
    there = {path.name: path.read_bytes() for path in folder_of().iterdir() if not path.name.startswith(".")}
    there.pop("cross_view_loc.lock.json")
    assert there == {name: FILES[name] for name in ("config.json", "preprocessor_config.json", "README.md",
                                                    "model.safetensors")}  # fmt: skip
    assert lock.revision == COMMIT and lock == read_lock(folder_of())
    assert lock.files["model.safetensors"].sha256 == hashlib.sha256(WEIGHTS).hexdigest()
    assert find_registered(MODELS[SMALL]) == folder_of() and already_fetched(SMALL) == lock
    agents = {request.headers["user-agent"] for request in server.requests}
    assert len(agents) == 1 and next(iter(agents)).startswith("cross_view_loc/")
    assert all(COMMIT in request.path for request in server.asked("/resolve/"))  # not of a branch that may move


def test_a_broken_connection_is_gone_on_with_where_it_broke(server):
    server.faults += [lambda *_: False] * 3 + [breaks_after(100_000), breaks_after(50_000)]
    slept = []
    get(server, slept=slept)
    ranges = [request.headers.get("range", "") for request in server.asked("storage")]
    assert ranges == ["", "bytes=100000-", "bytes=150000-"] and len(slept) == 2
    assert (folder_of() / "model.safetensors").read_bytes() == WEIGHTS
    assert not list(folder_of().glob(".*.part"))


def test_a_later_call_goes_on_with_what_an_earlier_one_left(server):
    server.faults += [lambda *_: False] * 3 + [breaks_after(120_000)] + [breaks_after(0)] * ATTEMPTS
    with pytest.raises(ModelError, match="goes on later"):
        get(server)
    assert fetched(MODELS[SMALL].repository) is None and not (folder_of() / "model.safetensors").exists()
    server.requests.clear()
    server.faults.clear()
    get(server)
    assert [request.headers.get("range") for request in server.asked("storage")] == ["bytes=120000-"]
    assert len(server.asked("/resolve/")) == 1  # the others are here
    assert (folder_of() / "model.safetensors").read_bytes() == WEIGHTS


def test_a_server_that_cannot_resume_is_asked_for_all_again(server):
    server.resumes = False
    server.faults += [lambda *_: False] * 3 + [breaks_after(100_000)]
    get(server)
    assert (folder_of() / "model.safetensors").read_bytes() == WEIGHTS


def test_a_server_that_resumes_elsewhere_is_noticed_at_once(server):
    def from_the_start(handler, data):
        handler.answer(206, WEIGHTS, {"Content-Range": f"bytes 0-{len(WEIGHTS) - 1}/{len(WEIGHTS)}"})
        return True

    server.faults += [lambda *_: False] * 3 + [breaks_after(100_000), from_the_start]
    get(server)
    assert [request.headers.get("range", "") for request in server.asked("storage")] == ["", "bytes=100000-", ""]
    assert (folder_of() / "model.safetensors").read_bytes() == WEIGHTS


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
@pytest.mark.parametrize("kind", ["other bytes", "longer", "shorter", "a page"])
def test_content_that_is_not_what_was_announced_is_never_kept(server, name, kind):
    data = bytearray(FILES[name])
    data[len(data) // 2] ^= 1
    server.lies[name] = {"other bytes": bytes(data), "longer": FILES[name] + b"x", "shorter": FILES[name][:-1],
                         "a page": b"<html>log in</html>"}[kind]  # fmt: skip
    with pytest.raises(ModelError, match=r"nothing of it is kept|times in a row"):
        get(server)
    assert not (folder_of() / name).exists() and read_lock(folder_of()) is None


def test_a_part_that_was_damaged_on_disk_is_thrown_away_once(server):
    server.faults += [lambda *_: False] * 3 + [breaks_after(1000)] + [breaks_after(0)] * ATTEMPTS
    with pytest.raises(ModelError):
        get(server)
    server.faults.clear()
    part = next(folder_of().glob(".model.safetensors.*.part"))
    part.write_bytes(b"\0" * 1000)
    get(server)
    assert (folder_of() / "model.safetensors").read_bytes() == WEIGHTS


@pytest.mark.parametrize(
    ("status", "headers", "sentence"),
    [(401, {}, "refuses .* (401).*HF_TOKEN"), (403, {}, "refuses .* (403)"), (404, {}, "has no .* (404).*revision"),
     (418, {}, "answers 418")],
)  # fmt: skip
def test_refusals_are_final_and_say_what_to_do(server, status, headers, sentence):
    server.statuses += [(status, headers)]
    slept = []
    with pytest.raises(ModelError, match=sentence.replace("(", r"\(").replace(")", r"\)")):
        get(server, slept=slept)
    assert slept == [] and len(server.requests) == 1


def test_a_server_in_trouble_is_asked_again_as_late_as_it_wishes(server):
    server.statuses += [(503, {}), (429, {"Retry-After": "7"}), (500, {})]
    slept = []
    get(server, slept=slept)
    assert len(slept) == 3 and slept[1] >= 7.0 and all(wait > 0 for wait in slept)
    server.statuses += [(503, {})] * ATTEMPTS
    with pytest.raises(ModelError, match=f"answers 503 .*{ATTEMPTS} times in a row"):
        get(server, LARGE)
    with pytest.raises(ModelError, match="times in a row"):
        get(type("Gone", (), {"url": "http://127.0.0.1:9"})())


def test_the_token_goes_to_that_host_alone(server):
    server.token = "hf_secret_token"
    with pytest.raises(ModelError, match=r"refuses .*401"):
        get(server)
    get(server, HF_TOKEN="hf_secret_token")
    own = [request.headers.get("authorization") for request in server.requests if "storage" not in request.path][1:]
    assert set(own) == {"Bearer hf_secret_token"}
    assert [request.headers.get("authorization") for request in server.asked("storage")] == [None]
    with pytest.raises(ModelError) as caught:
        get(server, LARGE, HF_TOKEN="hf_wrong_token")
    assert "hf_wrong_token" not in str(caught.value) and "HF_TOKEN" in str(caught.value)


def test_offline_nothing_is_asked(server):
    with pytest.raises(ModelError, match="HF_HUB_OFFLINE is set"):
        get(server, HF_HUB_OFFLINE="1")
    assert server.requests == []
    get(server, HF_HUB_OFFLINE="0")


def test_what_was_fetched_once_stays_the_same(server):
    get(server)
    server.commit, server.files["model.safetensors"] = "f" * 40, WEIGHTS[::-1]
    assert already_fetched(SMALL) is not None
    (folder_of() / "model.safetensors").unlink()
    assert already_fetched(SMALL) is None
    with pytest.raises(ModelError, match="404"):  # the commit of the lock, not the branch
        get(server)
    server.commit = COMMIT  # a server that says that it is the same commit, with other content
    with pytest.raises(ModelError, match=r"another SHA-256 .*than when it was first fetched"):
        get(server)
    get(server, revision="main")  # meant
    assert (folder_of() / "model.safetensors").read_bytes() == WEIGHTS[::-1]


def test_a_small_file_that_changed_under_the_same_commit_is_refused(server):
    get(server)
    (folder_of() / "config.json").write_bytes(b"damaged")
    server.files["config.json"] = b'{"model_type": "glpn"}'
    with pytest.raises(ModelError, match="SHA-256"):
        get(server)


def test_only_what_is_missing_or_damaged_is_fetched_again(server):
    get(server)
    server.requests.clear()
    (folder_of() / "config.json").write_bytes(b"damaged")
    with pytest.raises(ModelError, match="models fetch"):
        fetched(MODELS[SMALL].repository)
    get(server)
    assert len(server.asked("/resolve/")) == 1 and fetched(MODELS[SMALL].repository) is not None


def test_shards_and_pickles(server):
    del server.files["model.safetensors"]
    assert {file.name for file in plan_fetch(Hub(server.url), SMALL).files} == {
        "config.json", "preprocessor_config.json", "README.md", "pytorch_model.bin"}  # fmt: skip
    shards = {f"model-0000{i}-of-00002.safetensors": bytes([i]) for i in (1, 2)}
    server.files |= {"model.safetensors.index.json": b"{}", "model-of-mine.safetensors": b"", **shards}
    names = {file.name for file in plan_fetch(Hub(server.url), SMALL).files}
    assert {"model.safetensors.index.json", *shards} < names and "pytorch_model.bin" not in names
    assert "model-of-mine.safetensors" not in names
    server.files = {"config.json": b"{}", "../evil.safetensors": b""}
    with pytest.raises(ModelError, match=r"has no config\.json with"):
        plan_fetch(Hub(server.url), SMALL)


def test_what_is_no_server_of_models_is_recognised(server):
    server.description = lambda: {"hello": "world"}
    with pytest.raises(ModelError, match="not as a server of models"):
        get(server)
    with pytest.raises(ModelError, match="no address"):
        Hub("huggingface.co", environment={})
    for name in ("nothing", "../x/y", "a/../b", "owner/name/more"):
        with pytest.raises(InputError, match="there is no model"):
            locate_repository(name)


def test_a_full_disk_is_noticed_before(server, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000})())
    with pytest.raises(ModelError, match="make room"):
        get(server)


def test_two_at_a_time_do_not_meet(server):
    import fcntl

    folder_of().mkdir(parents=True)
    with (folder_of() / ".fetching").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(ModelError, match="another command is fetching"):
            get(server)


def test_gits_hash_is_gits(tmp_path):
    (tmp_path / "a").write_bytes(b"hello\n")
    assert git_sha1_of(tmp_path / "a") == "ce013625030ba8dba906f756967f9e9ca394464a"  # git hash-object


# --- the command ---


def fetch_command(server, *words, answer=None, monkeypatch=None):
    monkeypatch.setattr("sys.stdin", io.StringIO("" if answer is None else answer))
    return main(["models", "fetch", *words, "--endpoint", server.url])


def test_name_licence_and_size_come_first_and_no_is_no(server, monkeypatch, capsys):
    for answer in ("n\n", "\n", None):
        assert fetch_command(server, LARGE, answer=answer, monkeypatch=monkeypatch) == 1
        said = capsys.readouterr().err
        assert "CC-BY-NC-4.0 (its page states apache-2.0), which restricts use" in said and "0.3 MB in all" in said
        assert said.count("[y/N]") == 1 and "accept the licence CC-BY-NC-4.0" in said
        assert not server.asked("/resolve/") and accepted_licence(MODELS[LARGE].repository) == ""
    with pytest.raises(ModelError, match=f"models fetch {LARGE}"):
        find_registered(MODELS[LARGE])


def test_yes_is_remembered_and_the_next_time_nothing_is_asked(server, monkeypatch, capsys):
    assert fetch_command(server, LARGE, "--json", answer="y\n", monkeypatch=monkeypatch) == 0
    out, said = capsys.readouterr()
    row = json.loads(out)["results"][0]
    assert row["installed"] == "yes" and row["accepted"] and row["megabytes"] == 0.3 and row["revision"] == COMMIT
    assert row["sha256"]["model.safetensors"] == hashlib.sha256(WEIGHTS).hexdigest()
    assert f"to use it: depth: {LARGE}" in said
    server.requests.clear()
    assert fetch_command(server, LARGE, monkeypatch=monkeypatch) == 0
    assert server.requests == [] and "what was fetched" in capsys.readouterr().err
    (folder_of(LARGE) / "model.safetensors").unlink()
    assert fetch_command(server, LARGE, monkeypatch=monkeypatch) == 0  # accepted before: only mended
    assert "[y/N]" not in capsys.readouterr().err


def test_scripts_say_yes_beforehand_and_unknown_licences_are_to_be_accepted(server, monkeypatch, capsys, tmp_path):
    server.licence = "other"
    words = ["somebody/depth", "--folder", str(tmp_path / "elsewhere")]
    assert fetch_command(server, *words, monkeypatch=monkeypatch) == 1
    assert "accept the licence other" in capsys.readouterr().err
    assert fetch_command(server, *words, "--accept-licence", "--revision", COMMIT[:7], monkeypatch=monkeypatch) == 0
    said = capsys.readouterr()
    assert f"hf:{tmp_path}/elsewhere/somebody--depth" in said.err and "[y/N]" not in said.err
    assert main(["models", "list", "--folder", str(tmp_path / "elsewhere")]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("somebody/depth"))
    assert " yes " in line and " other " in line and "0.3 MB" in line


def test_endpoint_and_token_come_from_the_environment(server, monkeypatch, capsys):
    monkeypatch.setenv("HF_ENDPOINT", server.url + "/")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert main(["models", "fetch", SMALL, "--accept-licence"]) == 1
    assert "HF_HUB_OFFLINE" in capsys.readouterr().err and server.requests == []
    monkeypatch.delenv("HF_HUB_OFFLINE")
    assert main(["models", "fetch", SMALL, "--accept-licence"]) == 0
    assert server.asked("/api/models/depth-anything/Depth-Anything-V2-Small-hf/revision/main?blobs=true")


def test_the_list_tells_what_is_here_and_what_is_damaged(server, capsys):
    get(server)
    capsys.readouterr()
    weights = folder_of() / "model.safetensors"
    before = weights.stat()
    weights.write_bytes(WEIGHTS[:-1] + b"\0")
    import os

    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))  # same size, same time: only reading it tells
    states = {}
    for words in ([], ["--check"]):
        assert main(["models", "list", "--json", *words]) == 0
        rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)["results"]}
        states[len(words)] = rows[SMALL]["installed"]
    assert states[0] == "yes" and states[1].startswith("damaged") and "another SHA-256" in states[1]
    assert set(MODELS) <= set(rows) and rows[LARGE]["installed"] == "no" and rows[LARGE]["must_accept"]
    assert rows["town_matcher"]["installed"] == "yes"
    assert main(["models", "list"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert "unknown until fetched" in lines["unidepth-v2-vitl"] and " about 1900 MB " in lines["depth-pro"]
    assert "about" not in lines[SMALL] and "unknown" not in lines[SMALL] + lines["town_matcher"]


def test_the_registry_is_honest_about_licences():
    for model in MODELS.values():
        assert model.must_accept == (model.licence not in OPEN_LICENCES)
        assert not model.sha256 or all(len(digest) == 64 for _, digest in model.sha256)
    assert {name for name in MODELS if MODELS[name].must_accept} == {
        *(f"depth-anything-v2{kind}-{size}" for kind in ("", "-metric-outdoor") for size in ("base", "large")),
        *(f"unik3d-{size}" for size in ("vits", "vitb", "vitl")), "unidepth-v2-vitl", "depth-pro"}  # fmt: skip
    assert hub_module.ENDPOINT == "https://huggingface.co"
