"""The workspace and the environment."""

from __future__ import annotations

import pytest

from deepfeatures import settings


def test_home_comes_from_the_argument_then_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("DEEPFEATURES_HOME", str(tmp_path / "env"))
    assert settings.workspace(tmp_path / "given").home == tmp_path / "given"
    assert settings.workspace().home == tmp_path / "env"
    monkeypatch.delenv("DEEPFEATURES_HOME")
    monkeypatch.chdir(tmp_path)
    assert settings.workspace().home == tmp_path / "workspace"
    assert (tmp_path / "workspace").is_dir()


def test_a_file_is_no_workspace(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="--home"):
        settings.workspace(tmp_path / "file")


@pytest.mark.parametrize("text", ["x", "0", "65536", "-1", "80.5"])
def test_wrong_ports_are_refused(monkeypatch, text):
    monkeypatch.setenv("PORT", text)
    with pytest.raises(ValueError, match="65535"):
        settings.port()


def test_port_has_a_default(monkeypatch):
    monkeypatch.delenv("PORT", raising=False)
    assert settings.port() == 5006


@pytest.mark.parametrize("name", ["", "../up", "a b", "a/b", "a.b", "x" * 101, "ü"])
def test_names_that_could_leave_the_workspace_are_refused(name):
    with pytest.raises(ValueError, match="letters, digits"):
        settings.checked_name(name)
    assert settings.checked_name("A-z_09") == "A-z_09"
