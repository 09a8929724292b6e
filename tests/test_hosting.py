import json
import os
import re
import subprocess
import sys
from contextlib import ExitStack
from importlib.metadata import entry_points
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import HTTPCookieProcessor, Request, build_opener, urlopen

import pytest
from test_load import Session
from waiting import until

from nllab import hosting
from nllab.bench.live import free_port
from nllab.errors import SettingError
from nllab.hosting import serving

SCRIPT, ROOT = Path("serve.py"), Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def no_settings(monkeypatch):
    for name in ("TOKEN", "BASE_PATH", "HOSTS", "FRAMES"):
        monkeypatch.delenv(f"NLLAB_{name}", raising=False)


def test_on_this_machine_alone_nothing_is_asked():
    found = serving(SCRIPT, 8501)
    assert found.links == ["http://127.0.0.1:8501/"] and not found.warnings
    assert "--server.address=127.0.0.1" in found.command and found.environment["NLLAB_TOKEN"] == ""


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "lab.example"])
def test_others_get_a_token_in_the_link_another_one_every_time_and_a_warning(host):
    first, second = serving(SCRIPT, 8501, host=host), serving(SCRIPT, 8501, host=host)
    token = first.environment["NLLAB_TOKEN"]
    assert len(token) >= 32 and token != second.environment["NLLAB_TOKEN"]
    assert all(link.endswith(f"/?token={token}") for link in first.links) and "has the link" in first.warnings[0]
    assert token not in " ".join(first.command)  # which every user of the machine can list


def test_a_token_can_be_given_and_be_left_away(monkeypatch):
    monkeypatch.setenv("NLLAB_TOKEN", "a-token-of-my-own")
    assert serving(SCRIPT, 1).environment["NLLAB_TOKEN"] == "a-token-of-my-own"
    without = serving(SCRIPT, 1, host="0.0.0.0", needs_token=False)
    assert without.environment["NLLAB_TOKEN"] == "" and "Without a token" in without.warnings[0]
    monkeypatch.setenv("NLLAB_TOKEN", "short")
    with pytest.raises(SettingError, match="16 or more"):
        serving(SCRIPT, 1)


def test_paths_names_and_sites_reach_the_server():
    found = serving(SCRIPT, 1, base_path="lab/", allowed_hosts=["lab.example"], allowed_frames=["https://a.example"])
    assert found.links == ["http://127.0.0.1:1/lab/"]
    wanted = {"NLLAB_BASE_PATH": "/lab", "NLLAB_HOSTS": "lab.example", "NLLAB_FRAMES": "https://a.example"}
    assert found.environment.items() >= wanted.items()


@pytest.mark.parametrize(
    "wrong",
    [
        {"host": "a b"},
        {"base_path": "/a?b"},
        {"allowed_hosts": ["<b>"]},
        {"allowed_frames": ["https://a.example; script-src *"]},
        {"allowed_frames": ["slides.example"]},
    ],
)
def test_what_cannot_be_is_a_sentence(wrong):
    with pytest.raises(SettingError, match="expected something like"):
        serving(SCRIPT, 1, **wrong)


def test_jupyters_proxy_shows_the_token_that_the_server_asks_for():
    entry = hosting.jupyter()
    token = entry["environment"]["NLLAB_TOKEN"]
    assert entry["request_headers_override"] == {"X-Nllab-Token": token} and re.fullmatch(r"[\w-]{32}", token)
    assert entry["command"][0] == sys.executable and "{port}" in entry["command"]


def lines_of(keyword):
    """What stands behind this word in the container file, continued lines joined."""
    text = (ROOT / "Containerfile").read_text().replace("\\\n", " ")
    return [line.removeprefix(keyword).strip() for line in text.splitlines() if line.startswith(keyword)]


def test_the_container_starts_the_lab_as_nobody_special_with_a_token_and_names_a_stage_for_development():
    command = json.loads(lines_of("CMD")[-1])
    assert lines_of("USER")[-1] == "lab" and command[:2] == ["nllab", "dashboard"]
    options = dict(zip(command[2::2], [*command[3::2], ""], strict=True))
    found = serving(SCRIPT, int(options["--port"]), host=options["--host"], browser=False)
    assert found.environment["NLLAB_TOKEN"] and "--no-browser" in options
    assert lines_of("EXPOSE") == [options["--port"]] and f":{options['--port']}/" in lines_of("HEALTHCHECK")[0]
    development = json.loads((ROOT / ".devcontainer.json").read_text())
    stages = [line.rpartition(" AS ")[2] for line in lines_of("FROM")]
    assert development["build"]["target"] in stages and development["remoteUser"] == "lab"


@pytest.mark.slow
def test_the_containers_own_command_and_health_check_work_and_the_server_asks_for_its_token():
    port = free_port()
    command = [word.replace("8501", str(port)) for word in json.loads(lines_of("CMD")[-1])]
    check = json.loads(lines_of("HEALTHCHECK")[0].partition("CMD")[2].replace("8501", str(port)))
    run = [sys.executable, "-c", "from nllab.cli import main; main()", *command[1:]]

    def healthy():
        return subprocess.run([sys.executable, *check[1:]], stderr=subprocess.DEVNULL, check=False).returncode == 0

    assert not healthy()
    server = subprocess.Popen(run, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    try:
        assert server.stderr
        said = "".join(server.stderr.readline() for _ in range(2))
        link = re.findall(rf"http://127\.0\.0\.1:{port}/\?token=\S+", said)[0]
        until(healthy)
        with pytest.raises(HTTPError) as refused:
            urlopen(f"http://127.0.0.1:{port}/")
        assert refused.value.code == 403 and "token" in refused.value.read().decode()
        refused.value.close()
        with build_opener(HTTPCookieProcessor()).open(link) as page:
            assert page.status == 200 and "token" not in page.url
    finally:
        server.terminate()
        server.communicate(timeout=20)


@pytest.mark.slow
def test_jupyter_opens_the_lab_from_its_launcher_and_passes_pages_streams_and_sockets_on(tmp_path):
    pytest.importorskip("jupyter_server_proxy")
    pytest.importorskip("websockets.sync.client")
    if not any(one.name == "nllab" for one in entry_points(group="jupyter_serverproxy_servers")):
        pytest.skip("nllab was installed before it had this entry; run pip install again")
    port, token = free_port(), "a-token-of-jupyters"
    options = [f"--port={port}", f"--IdentityProvider.token={token}", "--no-browser", "--allow-root"]
    extension = "--ServerApp.jpserver_extensions=jupyter_server_proxy=True"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    places = {name: str(tmp_path) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR")}
    server = subprocess.Popen(
        [sys.executable, "-m", "jupyter_server", *options, extension],
        cwd=tmp_path,
        env={**os.environ, **places, "NLLAB_TEST": "1", "NLLAB_RUNS": "none"},
        **quiet,
    )
    address, let_in = f"http://127.0.0.1:{port}", {"Authorization": f"token {token}"}

    def asked(path):
        try:
            with urlopen(Request(address + path, headers=let_in), timeout=70) as answer:
                return answer.read().decode()
        except (OSError, HTTPError):
            return None

    try:
        until(lambda: asked("/api/status"))
        page = until(lambda: asked("/nllab/"))
        assert "window.__streamlit" in page or "Streamlit" in page
        until(lambda: asked("/nllab/stat"))
        assert "BACKEND_BASE_URL" in asked("/nllab/compare") and asked("/nllab/assets/plotly.min.js")
        with ExitStack() as stack:
            session = Session(f"{address}/nllab", stack, let_in)
            session.rerun()
            session.rerun("play")
            session.watch()
            until(lambda: session.heard and session.heard[-1]["step"] > 3)
            session.close()
        with urlopen(f"{address}/nllab/stat") as answer:  # who has not been let in by Jupyter is sent to its door
            assert "/login" in answer.url and b'"runs"' not in answer.read()
    finally:
        server.terminate()
        server.wait(20)
