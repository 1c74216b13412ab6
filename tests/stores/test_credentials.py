"""Credentials reach no record, no message and no command line that is kept."""

import pytest

from hmsa_label.stores.credentials import hide_in_arguments, hide_in_record, hide_in_text, secret_values
from hmsa_label.stores.runs.record import new_run


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cannot open s3://me:hunter2@host/bucket", "cannot open s3://host/bucket"),
        ('Invalid bucket name "me:hunter2@bucket"', 'Invalid bucket name "bucket"'),
        ("at 10:30, host:22, a@b.c, https://h:1/x", "at 10:30, host:22, a@b.c, https://h:1/x"),
        ("https://h/x?X-Amz-Signature=abc&part=1", "https://h/x?X-Amz-Signature=***&part=1"),
        ("https://h/x?sig=1&token=abc", "https://h/x?sig=1&token=***"),
        ("https://h/x?X-Amz-Credential=AKIA%2F1", "https://h/x?X-Amz-Credential=***"),
        ("aws_secret_access_key=abc", "aws_secret_access_key=***"),
        ("/data/a@b/c and http://host/a@b", "/data/a@b/c and http://host/a@b"),
    ],
)
def test_credentials_are_taken_out_of_what_is_printed(text: str, expected: str) -> None:
    assert hide_in_text(text) == expected


def test_command_line_keeps_no_credentials() -> None:
    given = [
        "hmsa-label", "run", "--store", "s3://ann:pw@bucket/labels?token=abc", "--s3-secret", "xyz", "--api-key=xyz",
        "--data", "/data/cityscapes", "--threshold=0.9",
    ]  # fmt: skip
    assert hide_in_arguments(given) == [
        "hmsa-label", "run", "--store", "s3://bucket/labels?token=***", "--s3-secret", "***", "--api-key=***",
        "--data", "/data/cityscapes", "--threshold=0.9",
    ]  # fmt: skip


def test_entries_that_may_hold_credentials_are_left_out() -> None:
    record = {
        "data": {"root": "s3://bucket/x", "storage_options": {"key": "AKIA"}},
        "env": {"AWS_SECRET_ACCESS_KEY": "x", "AWS_ACCESS_KEY_ID": "y", "LANG": "C"},
        "list": [{"password": "x", "api_token": "y", "tokens_seen": 3}],
    }
    assert hide_in_record(record) == {
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


def test_nested_options_are_searched_for_secrets() -> None:
    options = {"client_kwargs": {"aws_secret_access_key": "very-secret", "region_name": "eu-central-1"}, "anon": True}
    assert {"very-secret"} <= secret_values(options)
    assert not {"eu-central-1", "True"} & secret_values(options)
