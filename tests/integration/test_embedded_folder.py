"""What the embedded server refuses to touch, and which binary it runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from fleetlog.bus.embedded.binary import find_binary
from fleetlog.bus.embedded.config import Folder
from fleetlog.bus.embedded.server import EmbeddedServer
from fleetlog.bus.errors import ConfigError
from fleetlog.bus.settings import Settings


async def refusal(settings: Settings) -> str:
    with pytest.raises(ConfigError) as refused:
        await EmbeddedServer(settings).__aenter__()
    return str(refused.value)


def tree(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


def program(path: Path, body: str) -> Path:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o700)
    return path


@pytest.mark.parametrize("store", ["jetstream/$G/streams", "server/store/jetstream/$G"])
async def test_store_of_another_server_stays_untouched(tmp_path: Path, store: str) -> None:
    (tmp_path / store).mkdir(parents=True)
    before = tree(tmp_path)
    assert "the store of another nats-server" in await refusal(Settings(data=tmp_path))
    assert tree(tmp_path) == before


async def test_store_that_a_cluster_has_had_is_refused(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path / "fleet")
    async with EmbeddedServer(settings) as server:
        store = Folder(server.data).store
    (store / "jetstream/$SYS/_js_/_meta_").mkdir(parents=True)
    assert "clustered" in await refusal(settings)


async def test_folder_of_another_fleet_is_refused(tmp_path: Path) -> None:
    async with EmbeddedServer(Settings(data=tmp_path, fleet="a")):
        pass
    says = await refusal(Settings(data=tmp_path, fleet="b"))
    assert "is the folder of fleet 'a', not 'b'" in says


@pytest.mark.parametrize(
    ("marker", "says"),
    [
        ("nonsense", "is not fleetlog's"),
        ('{"format":2,"fleet":"main","port":1,"http_port":2}', "newer fleetlog"),
    ],
)
async def test_marker_that_cannot_be_read_is_refused(
    tmp_path: Path, marker: str, says: str
) -> None:
    (tmp_path / "server").mkdir()
    (tmp_path / "server/store.json").write_text(marker)
    assert says in await refusal(Settings(data=tmp_path))


async def test_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    says = await refusal(Settings(data=tmp_path / "file/fleet"))
    assert "can't be made (Not a directory): name another one with --data" in says


async def test_folder_on_a_file_system_without_writes_is_refused() -> None:
    says = await refusal(Settings(data=Path("/proc/fleetlog")))
    assert "/proc/fleetlog can't be made" in says


async def test_installed_binary_is_found_beside_python(tmp_path: Path) -> None:
    binary = await find_binary(Settings(data=tmp_path))
    assert binary.name == "nats-server"


async def test_named_binary_goes_first(tmp_path: Path) -> None:
    named = program(tmp_path / "mine", "echo nats-server: v3.0.1-dev")
    assert await find_binary(Settings(data=tmp_path, nats_server=named)) == named


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("echo nats-server: v2.14.9", "is nats-server 2.14.9, which is too old"),
        ("echo something else", "is not a nats-server, it says 'something else'"),
    ],
)
async def test_wrong_binary_is_refused(tmp_path: Path, body: str, says: str) -> None:
    binary = program(tmp_path / "nats-server", body)
    refused = await refusal(Settings(data=tmp_path / "fleet", nats_server=binary))
    assert says in refused
    assert "FLEETLOG_NATS_SERVER" in refused
    assert not (tmp_path / "fleet").exists()


async def test_missing_binary_is_refused(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path / "fleet", nats_server=tmp_path / "none")
    assert "does not run (No such file or directory)" in await refusal(settings)
