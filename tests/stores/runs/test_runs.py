"""Records of runs."""

from hmsa_label.stores.runs.record import fingerprint_of


def test_fingerprint_does_not_depend_on_the_order_of_settings() -> None:
    assert fingerprint_of({"a": 1, "b": [2]}) == fingerprint_of({"b": [2], "a": 1})
    assert fingerprint_of({"a": 1}) != fingerprint_of({"a": 2})
