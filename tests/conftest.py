"""What all tests share: real nats-servers on temporary folders, and names for fleets."""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, settings
from support import containers
from support.measuring import not_measuring

from fleetlog.bus.embedded.server import EmbeddedServer
from fleetlog.bus.settings import ENVIRONMENT, Settings

# In the background of a shell SIGINT is ignored, under nohup SIGHUP, and so in every process we start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

# Hypothesis: the same examples in every run; `HYPOTHESIS_PROFILE=explore` tries many new ones.
# Fixtures that apply to every test (a clean environment) do no harm when examples share them.
_SHARED = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
settings.register_profile(
    "fixed", derandomize=True, database=None, deadline=None, suppress_health_check=_SHARED
)
settings.register_profile(
    "explore", database=None, deadline=None, max_examples=5_000, suppress_health_check=_SHARED
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fixed"))


@pytest.fixture(scope="module")
def unmeasured() -> Iterator[None]:
    """For what computes a lot, and covers nothing that a smaller test does not: see `support.measuring`."""
    with not_measuring():
        yield


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting of the person who runs the tests reaches them."""
    for variable in (*ENVIRONMENT.values(), "NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "xdg-data"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg-config"))


@pytest.fixture
def fleet() -> str:
    """A fleet's name that no other test uses, so that tests can share one server."""
    return f"t{uuid.uuid4().hex[:12]}"


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def server(
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[EmbeddedServer | containers.ContainerServer]:
    """A real server for all tests of a run, durability `always`: connect to `server.target`.

    FLEETLOG_TEST_SERVER=container puts it into a container; such a one has nothing but its target.
    """
    folder = tmp_path_factory.mktemp("server")
    if containers.IS_WANTED:
        async with containers.container_server(folder) as contained:
            yield contained
        return
    async with EmbeddedServer(Settings(data=folder)) as running:
        yield running


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def relaxed_server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EmbeddedServer]:
    """Like `server`, with durability `relaxed`."""
    settings = Settings(data=tmp_path_factory.mktemp("relaxed"), durability="relaxed")
    async with EmbeddedServer(settings) as running:
        yield running


@pytest_asyncio.fixture
async def fresh_server(tmp_path: Path) -> AsyncIterator[EmbeddedServer]:
    """A server of this test's own, which it may kill and restart; its store is empty."""
    async with EmbeddedServer(Settings(data=tmp_path / "fleet")) as running:
        yield running
