"""Names of files and folders that are never read, whatever the configuration says, neither by a source nor in an
archive."""

import re
from collections.abc import Sequence
from itertools import pairwise

NEVER_READ = {  # file and folder names, in lower case
    *(".git", ".hg", ".svn", ".bzr", "cvs", "__pycache__"),
    *(".ssh", ".gnupg", ".pki", ".password-store", ".vault-token", "keychains", "keyrings"),
    *(".aws", ".azure", ".gcloud", ".kube", ".docker", ".oci", ".aliyun", ".bluemix", ".terraform.d", ".boto"),
    *(".s3cfg", ".databrickscfg", ".dockercfg", "application_default_credentials.json", "rclone.conf"),
    *(".netrc", "_netrc", ".pgpass", ".my.cnf", ".mylogin.cnf", ".htpasswd", ".git-credentials"),
    *(".npmrc", ".yarnrc", ".pypirc", "credentials", "credentials.json", "credentials.toml", "credentials.db"),
    *(".bash_history", ".zsh_history", ".python_history", ".psql_history", ".mysql_history"),
}
NEVER_READ_PAIRS = {  # a folder, by its parent and its own name
    *((".config", name) for name in ("gcloud", "gh", "hub", "op", "rclone", "doctl", "heroku", "fly", "sops")),
}
NEVER_READ_ENDS = (".pem", ".key", ".p12", ".pfx", ".jks", ".keystore", ".kdbx", ".kdb", ".ppk", ".agekey")
# keys have names such as id_ed25519, id_work, id_rsa.bak; id_map.py is not a key
NEVER_READ_KEY = re.compile(r"id_[^.]*|id_(rsa|dsa|ecdsa|ed25519|xmss)[^a-z].*|id_.*\.pub", re.DOTALL)


def is_private(parts: Sequence[str]) -> bool:
    """Whether a path, given as its parts, may hold secrets or version control internals, so that it is never read."""
    return any(map(is_private_name, parts)) or any(
        (parent.lower(), name.lower()) in NEVER_READ_PAIRS for parent, name in pairwise(parts)
    )


def is_private_name(name: str) -> bool:
    """Whether a file or folder with this name may hold secrets or version control internals."""
    name = name.lower()
    return (
        name in NEVER_READ
        or name.endswith(NEVER_READ_ENDS)
        or name.startswith(".env")
        or (name.startswith("id_") and NEVER_READ_KEY.fullmatch(name) is not None)
    )
