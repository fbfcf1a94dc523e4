"""Worktrees: a folder and a branch of a repository for each attempt, and none of its work is ever lost."""
