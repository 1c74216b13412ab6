"""The test of the pages would notice: output that is not printed, exit codes, blocks that are skipped, comments."""

import pytest

from tests.docs.pages import product_calls, read
from tests.docs.session import Session, made_small


@pytest.fixture
def session(tmp_path, monkeypatch):
    return Session(tmp_path, monkeypatch)


@pytest.fixture
def page(tmp_path):
    """`page(text)` is a page with one block."""

    def page(kind, text, comment=""):
        path = tmp_path / "page.md"
        path.write_text(f"# Title\n\n{comment}\n\n```{kind}\n{text}\n```\n")
        return read(path)

    return page


def follow(session, found):
    for block in found.blocks:
        session.take(block, "page")


def test_output_that_is_shown_must_be_printed(session, page):
    follow(session, page("console", "$ echo kept 3 images\nkept     24 images"))
    with pytest.raises(AssertionError, match="printed:\nkept 3 images"):
        follow(session, page("console", "$ echo kept 3 images\nlabeled 24 images"))
    follow(session, page("console", "$ echo kept\nlabeled", "<!-- words differ: a reason -->"))


def test_command_must_leave_with_the_code_that_the_page_says(session, page):
    with pytest.raises(AssertionError, match="left with 1"):
        follow(session, page("sh", "false"))
    follow(session, page("sh", "false", "<!-- exit code: 1 -->"))
    with pytest.raises(AssertionError, match="left with 0"):
        follow(session, page("sh", "true", "<!-- exit code: 1 -->"))
    with pytest.raises(AssertionError, match="no command 'rum'"):
        follow(session, page("sh", "hmsa-label rum"))


def test_block_that_is_not_run_is_not_run(session, page, tmp_path):
    follow(session, page("sh", "touch made", "<!-- not run: a reason -->"))
    assert not (tmp_path / "made").exists()


def test_python_blocks_share_their_names_and_fail_with_the_page(session, page):
    follow(session, page("python", "kept = 3"))
    follow(session, page("python", "assert kept == 3"))
    with pytest.raises(AssertionError):
        follow(session, page("python", "assert kept == 4"))


def test_exported_variables_last_and_files_are_written(session, page, tmp_path):
    follow(session, page("sh", "export PLACE=here"))
    follow(session, page("console", "$ echo $PLACE\nhere"))
    follow(session, page("yaml", "run: {limit: 3}", "<!-- file: small.yaml -->"))
    assert (tmp_path / "small.yaml").read_text() == "run: {limit: 3}\n"


@pytest.mark.parametrize(
    "comment",
    ["<!-- notrun: a reason -->", "<!-- Not run: a reason -->", "<!-- not run: a reason -->\n\nwords between"],
)
def test_comment_that_would_be_overlooked_is_refused(page, comment):
    with pytest.raises(AssertionError, match=r"is none of|belongs to no block"):
        page("sh", "true", comment)


def test_calls_are_found_behind_other_programs():
    assert product_calls("torchrun --no-python hmsa-label train-teacher --data d > log") == [
        ["train-teacher", "--data", "d"]
    ]
    assert product_calls("hmsa-label runs | head && hmsa-label status  # twice") == [["runs"], ["status"]]


def test_options_of_calls_are_made_small():
    assert made_small("hmsa-label compare --max-steps 400 --model hrnet_w48_ocr") == (
        "hmsa-label compare --max-steps 2 --model hrnet_tiny_ocr"
    )
    assert made_small("other --max-steps 400") == "other --max-steps 400"
