"""How a server gets its ports."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from fleetlog.bus.embedded.config import Folder, Marker, write_marker
from fleetlog.bus.embedded.files import make_private_folder
from fleetlog.bus.embedded.ports import choose_ports, free_port
from fleetlog.bus.errors import ConfigError
from fleetlog.bus.settings import Settings
from fleetlog.bus.system import SystemEntropy


class FixedEntropy:
    """The same randomness every time."""

    def random(self) -> float:
        return 0.5

    def bytes(self, count: int) -> bytes:
        return bytes(count)


def test_free_ports_are_below_those_of_outgoing_connections() -> None:
    ports = {free_port(SystemEntropy()) for _ in range(50)}
    assert max(ports) < 32_768
    assert min(ports) >= 14_000


def test_taken_port_is_not_given() -> None:
    first = free_port(FixedEntropy())
    assert free_port(FixedEntropy(), but=first) != first
    with socket.socket() as other:
        other.bind(("127.0.0.1", first))
        other.listen()
        assert free_port(FixedEntropy()) != first


def test_ports_are_kept_and_a_named_one_replaces_the_last(tmp_path: Path) -> None:
    folder, settings, notices = Folder(tmp_path), Settings(data=tmp_path), list[str]()
    first = choose_ports(settings, folder, SystemEntropy(), notices.append)
    assert choose_ports(settings, folder, SystemEntropy(), notices.append) == first
    named = Settings(data=tmp_path, port=first.http_port)
    after = choose_ports(named, folder, SystemEntropy(), notices.append)
    assert after.port == first.http_port != after.http_port
    assert choose_ports(settings, folder, SystemEntropy(), notices.append) == after
    assert notices == []


def test_folder_of_another_fleet_gets_no_ports(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    make_private_folder(folder.server)
    write_marker(folder, Marker(fleet="other", port=15_000, http_port=15_001))
    with pytest.raises(ConfigError, match="fleet 'other'"):
        choose_ports(Settings(data=tmp_path), folder, SystemEntropy(), lambda _: None)
