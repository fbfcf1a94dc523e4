"""The layers of the settings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from fleetlog.bus.errors import ConfigError
from fleetlog.bus.settings import Overrides, Settings, child_environment, load_settings


def load(
    cwd: Path, *, flags: Overrides | None = None, environ: Mapping[str, str] | None = None
) -> Settings:
    xdg = {"XDG_CONFIG_HOME": str(cwd / "config"), "XDG_DATA_HOME": str(cwd / "data")}
    return load_settings(flags, environ={**xdg, **(environ or {})}, cwd=cwd)


def test_defaults_are_the_main_fleet_on_this_machine(tmp_path: Path) -> None:
    assert load(tmp_path) == Settings(data=tmp_path / "data/fleetlog/main")


def test_default_folder_follows_the_fleet(tmp_path: Path) -> None:
    settings = load(tmp_path, environ={"FLEETLOG_FLEET": "blue"})
    assert settings.data == tmp_path / "data/fleetlog/blue"


def test_relative_xdg_folders_are_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    settings = load_settings(environ={"XDG_DATA_HOME": "here"}, cwd=tmp_path)
    assert settings.data == tmp_path / ".local/share/fleetlog/main"


@pytest.mark.parametrize(
    ("environ", "flags", "fleet"),
    [
        ({}, Overrides(), "from-file"),
        ({"FLEETLOG_FLEET": "from-environment"}, Overrides(), "from-environment"),
        ({"FLEETLOG_FLEET": "from-environment"}, Overrides(fleet="from-flag"), "from-flag"),
        ({"FLEETLOG_FLEET": ""}, Overrides(), "from-file"),
    ],
)
def test_flags_go_over_environment_over_file(
    tmp_path: Path, environ: dict[str, str], flags: Overrides, fleet: str
) -> None:
    (tmp_path / "fleetlog.toml").write_text('fleet = "from-file"\n')
    assert load(tmp_path, flags=flags, environ=environ).fleet == fleet


def test_layers_are_merged_key_by_key(tmp_path: Path) -> None:
    (tmp_path / "fleetlog.toml").write_text('durability = "relaxed"\nport = 4222\nfleet = "a"\n')
    settings = load(tmp_path, flags=Overrides(port=4333), environ={"FLEETLOG_FLEET": "b"})
    assert (settings.durability, settings.port, settings.fleet) == ("relaxed", 4333, "b")


def test_file_in_the_current_folder_goes_before_the_one_in_the_config_folder(
    tmp_path: Path,
) -> None:
    theirs = tmp_path / "config/fleetlog/fleetlog.toml"
    theirs.parent.mkdir(parents=True)
    theirs.write_text('fleet = "theirs"\ncreds = "their.creds"\n')
    assert load(tmp_path).fleet == "theirs"
    assert load(tmp_path).creds == theirs.parent / "their.creds"
    (tmp_path / "fleetlog.toml").write_text('fleet = "ours"\n')
    assert load(tmp_path).fleet == "ours"
    assert load(tmp_path).creds is None


def test_paths_are_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    settings = load(
        tmp_path,
        flags=Overrides(data=Path("~/fleet")),
        environ={"FLEETLOG_CREDS": "my.creds", "FLEETLOG_NATS_SERVER": "bin/nats-server"},
    )
    assert settings.data == Path("/home/someone/fleet")
    assert settings.creds == tmp_path / "my.creds"
    assert settings.nats_server == tmp_path / "bin/nats-server"


def test_empty_address_overrides_the_file(tmp_path: Path) -> None:
    (tmp_path / "fleetlog.toml").write_text('url = "nats://far:4222"\n')
    assert load(tmp_path).url == "nats://far:4222"
    assert load(tmp_path, environ={"FLEETLOG_URL": ""}).url is None


def test_lifeline_is_a_number(tmp_path: Path) -> None:
    assert load(tmp_path, environ={"FLEETLOG_LIFELINE": "7"}).lifeline_fd == 7
    with pytest.raises(ConfigError, match="FLEETLOG_LIFELINE"):
        load(tmp_path, environ={"FLEETLOG_LIFELINE": "seven"})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('durabillity = "always"', "unknown key 'durabillity'; did you mean 'durability'"),
        ("zzz = 1", "unknown key 'zzz'; known keys: url, fleet"),
        ('nats_server = "./evil"', "unknown key 'nats_server'"),
        ('durability = "often"', "often"),
        ('port = "high"', "port"),
        ("port = 70000", "port 70000"),
        ('fleet = "a.b"', "fleet 'a.b' is not valid"),
        ("fleet = ", "fleetlog.toml"),
    ],
)
def test_wrong_file_is_refused_by_name(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "fleetlog.toml").write_text(text)
    with pytest.raises(ConfigError) as refusal:
        load(tmp_path)
    assert says in str(refusal.value)


def test_unreadable_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "fleetlog.toml").mkdir()
    with pytest.raises(ConfigError, match=r"fleetlog\.toml can't be read"):
        load(tmp_path)


def test_unknown_durability_flag_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'always' or 'relaxed', not 'never'"):
        load(tmp_path, flags=Overrides(durability="never"))


def test_process_environment_counts_unless_another_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLEETLOG_FLEET", "outer")
    monkeypatch.chdir(tmp_path)
    assert load_settings().fleet == "outer"
    assert child_environment({"FLEETLOG_FLEET": "inner"})["FLEETLOG_FLEET"] == "inner"
    assert "PATH" in child_environment({})
