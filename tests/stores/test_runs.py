"""Provenance: credentials never reach a record."""

import pytest

from hmsa_label.stores.runs import fingerprint_of, new_run, secret_values, without_credentials


def test_entries_that_may_hold_credentials_are_left_out() -> None:
    record = {
        "data": {"root": "s3://bucket/x", "storage_options": {"key": "AKIA"}},
        "env": {"AWS_SECRET_ACCESS_KEY": "x", "AWS_ACCESS_KEY_ID": "y", "LANG": "C"},
        "list": [{"password": "x", "api_token": "y", "tokens_seen": 3}],
    }
    assert without_credentials(record) == {
        "data": {"root": "s3://bucket/x"},
        "env": {"LANG": "C"},
        "list": [{"tokens_seen": 3}],
    }


def test_passwords_in_urls_and_known_secrets_in_text_are_blotted_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "very-secret")
    record = {"root": "https://me:pass@host/x", "command": "run --option secret=very-secret --key AKIAX"}
    run = new_run({"settings": {"a": 1}, **record}, "label", {"key": "AKIAX"})
    assert run.record["root"] == "https://host/x"
    assert run.record["command"] == "run --option secret=*** --key ***"


def test_short_values_are_not_taken_for_secrets() -> None:
    assert "x" not in secret_values({"key": "x"})


def test_fingerprint_does_not_depend_on_the_order_of_settings() -> None:
    assert fingerprint_of({"a": 1, "b": [2]}) == fingerprint_of({"b": [2], "a": 1})
    assert fingerprint_of({"a": 1}) != fingerprint_of({"a": 2})
