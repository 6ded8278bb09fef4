"""What is masked in an error of a source, and what stays: secrets never show, and the language does."""

import base64

import pytest
from pydantic import BaseModel, SecretStr

from airweave_server.sync.scrub import MASK, mask, secrets_of

M = MASK
LONG = "xk7-Qz93_w0rd%5/+"


@pytest.mark.parametrize(
    ("secret", "text", "shown"),
    [
        # a word is masked where it is a value
        ("test", "Custom E2E test error", None),
        ("test", "the test failed: test it again, contest, testing, E2E_test", None),
        ("test", "error: test failed", None),
        ("test", "password=test", f"password={M}"),
        ("test", "Password: test, user: bob", f"Password: {M}, user: bob"),
        ("test", '{"password": "test", "what": "a test"}', f'{{"password": "{M}", "what": "a test"}}'),
        ("test", "https://user:test@host/test/path", f"https://user:{M}@host/test/path"),
        ("test", "?api_key=test&q=1", f"?api_key={M}&q=1"),
        ("test", "--token test --full", f"--token {M} --full"),
        ("test", "the password is test", f"the password is {M}"),
        ("test", "invalid credentials 'test'", f"invalid credentials '{M}'"),
        ("test", "Authorization: Bearer test", f"Authorization: Bearer {M}"),
        ("test", "'authorization': 'Basic dXNlcjp0ZXN0'", f"'authorization': 'Basic {M}'"),
        ("password", "password authentication failed for user bob", None),
        (
            "postgres",
            "no database postgres, postgresql://postgres:postgres@db",
            f"no database postgres, postgresql://postgres:{M}@db",
        ),
        ("1234", "line 1234 of 5678", None),
        ("1234", "pin=1234, pin: 1234", f"pin={M}, pin: {M}"),
        ("sa", "https://sa:sa@db says: a sample", f"https://sa:{M}@db says: a sample"),
        ("sa", "password=sa", f"password={M}"),
        # what nobody writes by chance is masked as a whole word
        ("hunter2", "hunter2 was refused, as was (hunter2)", f"{M} was refused, as was ({M})"),
        ("hunter2", "hunter25 is another", None),
        ("swordfish", "could not sign in with swordfish.", f"could not sign in with {M}."),
        ("swordfish", "swordfishing", None),
        # a long one anywhere, in every form, also cut short
        (LONG, f"a{LONG}b", f"a{M}b"),
        (LONG, f"https://h/{'xk7-Qz93_w0rd%255%2F%2B'}", f"https://h/{M}"),
        (LONG, f"it was {LONG[:13]}…", f"it was {M}…"),
    ],
)
def test_what_is_secret_is_masked_and_the_language_is_not(secret: str, text: str, shown: str | None) -> None:
    assert mask(text, (secret,)) == (text if shown is None else shown)


def test_a_long_secret_is_masked_in_base64_too() -> None:
    masked = mask(base64.b64encode(f"bob:{LONG}".encode()).decode(), (LONG,))
    assert len(masked.replace(MASK, "")) < 10


def test_every_secret_of_a_model_is_known_but_documented_defaults() -> None:
    class Inner(BaseModel):
        pin: SecretStr = SecretStr("0000")

    class Config(BaseModel):
        name: str = "name"
        token: SecretStr
        more: list[Inner] = []

    config = Config(token=SecretStr("t"), more=[Inner(), Inner(pin=SecretStr("12"))])
    assert secrets_of(config, None) == ("t", "12")
