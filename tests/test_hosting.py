import re
import sys
from pathlib import Path

import pytest

from nllab import hosting
from nllab.errors import SettingError
from nllab.hosting import serving

SCRIPT = Path("serve.py")


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
