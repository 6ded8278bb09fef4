"""Which names are never read, in whatever form, and which names that look alike are read."""

import time

import pytest

from airweave_server.sdk import is_private, is_private_name
from airweave_server.sdk.private import INTERNALS, NEVER_READ

NEVER = (
    # compressed or in an archive
    *("server.pem.gz", ".netrc.gz", ".git-credentials.gz", "vault.key.gz", "a.key.xz", "id_rsa.bz2", ".env.zst"),
    *("prod.env.lz4", "x.p12.br", "a.pem.Z", "server.PEM.GZ", "id_work.gz", ".env.b64", "server.pem.tar.gz"),
    *("server.pem.zip", ".ssh.zip", ".ssh.tar.gz", ".gnupg.7z"),
    # kept by people, editors and package managers
    *("server.pem.bak", ".netrc~", "backup_id_rsa", "id_rsa.bak", "id_work.bak", "id_rsa.1", ".id_rsa.swp", ".aws.bak"),
    *("server.pem.swp", ".server.pem.swp", ".git.old", "._server.pem", ".#.netrc", "~$vault.key", "tls.key.dpkg-old"),
    *("server.pem.2024-01-01", "server.pem-20240101", ".netrc.2024-01-01T12:00:00", ".netrc 2024-01-01", ".netrc.1"),
    *(".netrc.~1~", "vault.key.1.gz", "server.pem.2024-01-01.gz", "credentials.json.bak", "secrets-old.yml"),
    *("secrets.bak.yml", "old.env", "server.pem.gz.bak.xz.1~", ".zsh_history.old", "id_ecdsa.old.2", "old-id_rsa"),
    *("copy of id_rsa", "Copy of server.pem", "Copy of secrets.yml", "copy_of_id_rsa", "id_rsa (1)", "id_rsa - Copy"),
    *("id_rsa copy", "secrets (1).yml", "secrets copy.yml", "secrets - Copy (2).yml", "credentials (1).json"),
    *("server.pem (2).gz", "backup of .netrc", "Kopie von id_rsa", "id_rsa.txt", "server.pem.txt", ".netrc.txt"),
    *("credentials.txt", "server.pem" + ".gz" * 60, "x" + ".gz" * 100),
    # written in another way
    *("a.pem ", "a.pem.", "a.pem . ", " a.pem", "SECRETS.YML", ".NetRC", "server\uff0epem", "server\u2024pem"),
    *(".\uff4eetrc", ".net\u200brc", "a.\uff50em"),
    # by their own names
    *("prod.env", "app.env.local", ".env.example", ".envrc", "authorized_keys", "authorized_keys2", "known_hosts"),
    *("secrets.yml", "secrets.yaml", "secrets.json", "secrets.toml", "secret.yaml", "prod.secrets.json"),
    *("secrets.prod.yaml", "credentials.yml", "credentials.csv", "client_secret_12.json", "passwords.csv"),
    *("id_work", "id_rsa.pub", "id_ed25519_sk", "id_rsa_work", "deploy_id_ed25519", "github.id_rsa"),
    *("ssh_host_rsa_key", "ssh_host_ed25519_key.pub", "login.keychain-db", "kubeconfig"),
)
READ = (
    *("environment.md", "environment", "env", "env.example", "env.py", "env.sh", "environment.txt.gz", "vite.env.d.ts"),
    *("webpack.env.js", "process.env.md", "id_map.py", "id_map.txt", "id_map.txt.gz", "id_map.csv.gz", "hid_rsa.md"),
    *("keyboard.md", "monkey.txt", "monkey.bak.gz", "donkey.gz", "key.txt", "keys.md", "hotkey.ini", "keymap.json"),
    *("public_keys.md", "authorized_keys.md", "known_hosts.py", "tls.crt.md", "pem.md", "ssh.md", "test_id_rsa.py"),
    *("secrets.py", "secrets.md", "secrets.go", "secrets", "secrets_test.py", "external-secrets.yaml"),
    *("credentials.ts", "credentials.md", "credential_store.py", "passwords.php", "password.json", "client_secret.md"),
    *("history.md", ".history_of_rome.md", "cvs.txt", "keychains.txt", "keyrings.md", ".gitignore", ".gitattributes"),
    *(".github", ".config", ".vscode", ".dockerignore", "dockerfile", "backup.zip", "backup_of_notes.md", "a.tar.gz"),
    *("notes.md.gz", "notes (1).md", "copy of notes.md", "report.2024-01-01.pdf", "photo.1.jpg", "README.md~"),
    *("1.md", "old.md", "copy.md", "tmp.md", "~", ".", "..", "2024-01-01.md", "Copy of keyboard.md"),
)


@pytest.mark.parametrize("name", NEVER)
def test_a_secret_is_known_by_its_name_in_every_form(name: str) -> None:
    assert is_private_name(name)
    assert is_private(("folder", name, "inside"))


@pytest.mark.parametrize("name", READ)
def test_what_only_looks_like_a_secret_is_read(name: str) -> None:
    assert not is_private_name(name)


def test_what_decides_most_names_hides_no_secret() -> None:
    for name in sorted(NEVER_READ | INTERNALS):
        assert is_private_name(name)


@pytest.mark.parametrize("path", [(".config", "gh"), ("home", ".Config", "gcloud.bak", "x"), (".config", "rclone.zip")])
def test_a_secret_may_be_known_by_its_folder(path: tuple[str, ...]) -> None:
    assert is_private(path)
    assert not is_private(path[1:]) or path[0] == "home"


@pytest.mark.parametrize(
    "part", ["a", "copy ", " (1)", ".bak", ".a(1)", "-20240101", ".", "~", "id_rsa ", "prod.", "é~"]
)
def test_a_long_name_takes_no_time(part: str) -> None:
    began_at = time.monotonic()
    is_private_name(part * 20_000)
    assert time.monotonic() - began_at < 0.5
