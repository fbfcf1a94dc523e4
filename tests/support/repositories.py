"""Real git repositories for tests, and what a person's checkout looks like byte for byte."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

ENVIRON = {
    **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "Ann",
    "GIT_AUTHOR_EMAIL": "ann@example.invalid",
    "GIT_COMMITTER_NAME": "Ann",
    "GIT_COMMITTER_EMAIL": "ann@example.invalid",
}


def git(folder: Path, *args: str, check: bool = True) -> str:
    """Runs git as the person Ann."""
    ran = subprocess.run(
        ("git", *args), cwd=folder, env=ENVIRON, capture_output=True, text=True, check=False
    )
    assert not check or ran.returncode == 0, ran.stderr
    return ran.stdout.strip()


def repository(path: Path) -> Path:
    """A repository with one commit, and a checkout in which a person is at work."""
    path.mkdir(parents=True)
    git(path, "init", "-q", "-b", "main")
    (path / "a.txt").write_text("one\ntwo\n")
    (path / "deep").mkdir()
    (path / "deep" / "b.txt").write_text("b\n")
    (path / ".gitignore").write_text("*.o\n.env\n")
    git(path, "add", "-A")
    git(path, "commit", "-qm", "first")
    hook = path / ".git" / "hooks" / "post-checkout"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\ntouch '{path.parent}/hook-ran'\n")
    hook.chmod(0o755)
    (path / "a.txt").write_text("stashed\n")
    git(path, "stash", "-q")
    (path / "deep" / "b.txt").write_text("staged\n")
    git(path, "add", "deep")
    (path / "a.txt").write_text("changed\n")
    (path / "mine.txt").write_text("untracked\n")
    (path / ".env").write_text("SECRET=1\n")
    return path


def untouched(path: Path) -> dict[str, bytes | str]:
    """All of a checkout that is the person's own: files, HEAD, index, stash, settings, hooks, branches."""
    found: dict[str, bytes | str] = {
        str(file.relative_to(path)): file.read_bytes()
        for file in sorted(path.rglob("*"))
        if file.is_file() and ".git" not in file.relative_to(path).parts
    }
    own = path / ".git"
    for name in ("HEAD", "ORIG_HEAD", "index", "config", "logs/HEAD", "info/exclude"):
        if (own / name).exists():
            found[f".git/{name}"] = (own / name).read_bytes()
    for hook in sorted((own / "hooks").iterdir()):
        found[f"hook {hook.name}"] = hook.read_bytes()
    found["stash"] = git(path, "stash", "list", "--format=%H %gs")
    found["status"] = git(path, "--no-optional-locks", "status", "--porcelain=v2", "--branch")
    refs = git(path, "for-each-ref", "--format=%(refname) %(objectname)").splitlines()
    found["refs"] = "\n".join(ref for ref in refs if not ref.startswith("refs/heads/fleetlog/"))
    return found


def branches(path: Path) -> list[str]:
    """The names of fleetlog's branches."""
    said = git(path, "for-each-ref", "--format=%(refname:short)", "refs/heads/fleetlog")
    return said.split()


def worktrees(path: Path) -> list[str]:
    """The folders of all worktrees but the checkout itself."""
    said = git(path, "worktree", "list", "--porcelain").splitlines()
    return [line.removeprefix("worktree ") for line in said if line.startswith("worktree ")][1:]


def files_at(path: Path, revision: str) -> dict[str, str]:
    """Every file of a commit with its content."""
    names = git(path, "ls-tree", "-r", "--name-only", revision).splitlines()
    return {name: git(path, "show", f"{revision}:{name}") for name in names}
