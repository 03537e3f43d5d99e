"""Secrets are hidden, and ordinary speech configs are not."""

from __future__ import annotations

import pytest

from espnet3.utils.masking import mask_argument, mask_secrets, mask_url


def test_secrets_are_masked_wherever_their_text_turns_up():
    masked = mask_secrets(
        {
            "hf_token": "hf_abcdef",
            "url": "https://hub/hf_abcdef/x",
            "db": [{"password": 12345, "user": "me"}],
            "credentials": {"user": "u", "key": "k"},
            "api-key": None,
            "apiKey": "x",
        }
    )
    assert masked == {
        "hf_token": "***",
        "url": "https://hub/***/x",
        "db": [{"password": "***", "user": "me"}],
        "credentials": "***",
        "api-key": None,
        "apiKey": "***",
    }


def test_speech_configs_stay_readable():
    config = {
        "token_list": ["a", "b"],
        "token_type": "bpe",
        "tokenizer": {"vocab_size": 30},
        "max_tokens": 5,
        "unk_token": "<unk>",
        "use_auth_token": True,
    }
    assert mask_secrets(config) == config


def test_passwords_in_urls_and_values_of_secret_variables_are_masked(monkeypatch):
    monkeypatch.setenv("SOME_SECRET", "s3cr3t-value")
    masked = mask_secrets({"a": "https://me:pw@host/x", "b": "uses s3cr3t-value"})
    assert masked == {"a": "https://me:***@host/x", "b": "uses ***"}


@pytest.mark.parametrize(
    ("word", "shown"),
    [
        ("inference.hf_token=abc", "inference.hf_token=***"),
        ("+db.password=abc=d", "+db.password=***"),
        ("model.beam=4", "model.beam=4"),
        ("conf/token.yaml", "conf/token.yaml"),
    ],
)
def test_arguments(word, shown):
    assert mask_argument(word) == shown


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://me:pw@host:8/a/b?token=x&y=1#z", "https://host:8/a/b?***"),
        ("https://host/a", "https://host/a"),
        ("file:///a/b", "file:///a/b"),
        ("http://[broken", "***"),
    ],
)
def test_urls(url, shown):
    assert mask_url(url) == shown
