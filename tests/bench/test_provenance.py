"""Figures say by what they were made."""

import sys

from flair_bench import provenance


def test_a_tree_that_changed_while_measuring_shows(monkeypatch):
    monkeypatch.setattr(provenance, "commit_at_start", lambda: "abc")
    monkeypatch.setattr(provenance, "commit_now", lambda: "abc")
    assert provenance.commit_since_start() == "abc"
    monkeypatch.setattr(provenance, "commit_now", lambda: "def+")
    assert provenance.commit_since_start() == "abc to def+"


def test_a_working_tree_that_differs_from_its_commit_shows(monkeypatch):
    answers = {"rev-parse": "abc", "status": " M cli.py"}
    monkeypatch.setattr(provenance, "said", lambda *command: answers[command[3]])
    assert provenance.commit_now() == "abc+"
    answers["status"] = ""
    assert provenance.commit_now() == "abc"
    answers["rev-parse"] = ""
    assert provenance.commit_now() == "unknown"


def test_folders_of_this_machine_are_left_out(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/somewhere/flair-bench", "io", "data/img", "/tmp/here.json"])
    assert provenance.command_line() == "flair-bench io data/img here.json"


def test_versions_are_of_packages_that_can_change_a_figure():
    found = provenance.versions()
    assert found["python"].startswith("3.")
    assert found.keys() - {"python"} <= set(provenance.VERSIONED_PACKAGES)
    assert "numpy" in found


def test_times_are_utc():
    assert provenance.now().endswith("+00:00")
