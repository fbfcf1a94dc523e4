"""The table of agent CLIs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from support.mock_clis import executable

from fleetlog.agents.executors.profiles import (
    Profile,
    load_profiles,
    profile_variables,
    read_credentials,
)
from fleetlog.bus.errors import ConfigError

ENVIRON = {"PATH": "/usr/bin:/bin", "HOME": "/h", "ANTHROPIC_API_KEY": "k", "ANTHROPIC_MODEL": "m"}


@pytest.mark.parametrize("name", load_profiles())
def test_no_built_in_profile_puts_the_prompt_into_an_argument(name: str) -> None:
    profile = load_profiles()[name]
    words = (*profile.argv, *profile.new_session, *(profile.resume or ()), *profile.last)
    assert not any("{prompt}" in word for word in words)
    assert set(profile.keys) <= set(profile.environment(dict.fromkeys(profile.keys, "k"), "key"))


def test_keys_are_seen_in_mode_key_only() -> None:
    claude = load_profiles()["claude"]
    session = claude.environment({**ENVIRON, "CLAUDE_CODE_SSE_PORT": "1", "OTHER": "x"}, "session")
    assert session == {"PATH": "/usr/bin:/bin", "HOME": "/h", "ANTHROPIC_MODEL": "m", **claude.env}
    assert claude.environment(ENVIRON, "key")["ANTHROPIC_API_KEY"] == "k"


def test_a_program_is_found_by_its_variable_then_by_path_then_in_its_folders(
    tmp_path: Path,
) -> None:
    profile = Profile(program="my-cli", argv=(), path_variable="MY_CLI", look_in=("~/bin", "/no"))
    for folder in ("named", "path", "bin"):
        (tmp_path / folder).mkdir()
        executable(tmp_path / folder / "my-cli", "#!/bin/sh\n")
    environ = {"HOME": str(tmp_path), "PATH": str(tmp_path / "path")}
    named = str(tmp_path / "named" / "my-cli")
    assert profile.find(environ | {"MY_CLI": named}) == named
    assert profile.find(environ) == str(tmp_path / "path" / "my-cli")
    assert profile.find(environ | {"PATH": "/no"}) == str(tmp_path / "bin" / "my-cli")
    assert profile.find({"HOME": "/no", "PATH": "/no"}) is None
    assert profile.find(environ | {"MY_CLI": "/no/such"}) is None


def test_a_file_adds_profiles_and_replaces_some(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('[mine]\nprogram = "x"\nargv = []\n[codex]\nprogram = "y"\nargv = ["z"]\n')
    profiles = load_profiles(str(path))
    assert profiles["codex"] == Profile(program="y", argv=("z",))
    assert {"mine", "claude"} <= set(profiles)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[mine]\nprogram = "x"\n', "argv"),
        ('[mine]\nprogram = "x"\nargv = []\nshell = true\n', "shell"),
        ('[mine]\nprogram = "x"\nargv = []\nparser = "none"\n', "parser"),
        ("[mine", "mine.toml"),
        (None, "No such file"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(tmp_path: Path, text: str | None, words: str) -> None:
    path = tmp_path / "mine.toml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=words):
        load_profiles(str(path))


def test_credentials_are_names_with_a_mode() -> None:
    assert read_credentials(["claude=key", "b=session"]) == {"claude": "key", "b": "session"}
    for wrong in ("claude", "=key", "claude=", "claude=token"):
        with pytest.raises(ConfigError, match="NAME=session"):
            read_credentials([wrong])


def test_a_worker_is_given_what_profiles_name_and_where_their_programs_are() -> None:
    names = profile_variables(load_profiles())
    assert {"ANTHROPIC_*", "CLAUDE_CLI_PATH", "OPENAI_*"} <= set(names)
    assert len(names) == len(set(names))


def test_the_mock_refuses_what_the_real_one_refuses() -> None:
    mock = Path(__file__).resolve().parents[3] / "examples" / "mock_claude.py"

    def run(*words: str, prompt: str = "x") -> tuple[int, str]:
        ran = subprocess.run(
            [sys.executable, mock, *words],
            input=prompt,
            capture_output=True,
            text=True,
            check=False,
        )
        return ran.returncode, ran.stdout + ran.stderr

    assert run("--version") == (0, "2.1.329 (Claude Code)\n")
    for words, says in (
        (["-p", "--output-format", "stream-json"], "requires --verbose"),
        (["-p", "--session-id", "7"], "Invalid session ID"),
    ):
        code, said = run(*words)
        assert (code, says in said) == (1, True)
    assert run("-p", prompt="")[0] == 1
