"""Names of files and folders that are never read, whatever the configuration says, neither by a source nor in an
archive or an e-mail.

One rule holds for all of them. A name is reduced step by step: each step removes something that people and programs put
around names, such as ``.gz``, ``.zip``, ``.bak``, ``~``, ``.2024-01-01``, ``backup_`` and ``copy of``. A file is never
read if any of these forms is the name of a secret. Endings of programs and documentation are not removed, so
``id_map.py``, ``secrets.md`` and ``credentials.ts`` are read.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from itertools import pairwise

MAX_STEPS = 64  # endings and beginnings that are removed from one name; with more of them it is never read
MAX_NAME_CHARS = 1_000  # the end of a longer name decides; names of files are shorter, those of attachments need not be

INTERNALS = {".git", ".hg", ".svn", ".bzr", "cvs", "__pycache__", "keychains", "keyrings"}  # these exact names only
NEVER_READ = {  # file and folder names, in lower case
    *(".git", ".hg", ".svn", ".bzr"),
    *(".ssh", ".gnupg", ".pki", ".password-store", ".vault-token", ".vault_pass", ".vault_password"),
    *(".aws", ".azure", ".gcloud", ".kube", ".docker", ".oci", ".aliyun", ".bluemix", ".terraform.d", ".boto"),
    *(".s3cfg", ".databrickscfg", ".dockercfg", "application_default_credentials.json", "rclone.conf", "kubeconfig"),
    *(".netrc", "_netrc", ".pgpass", "pgpass.conf", ".my.cnf", ".mylogin.cnf", ".htpasswd", ".htdigest"),
    *(".npmrc", ".yarnrc", ".pypirc", ".git-credentials", "credentials", "credentials.db"),
    *("authorized_keys", "authorized_keys2", "known_hosts", "accesskeys.csv", "passwords.csv", "password.csv"),
    *("passwords.txt", "password.txt", "secrets.txt", "secret.txt"),
}
NEVER_READ_PAIRS = {  # a folder, by its parent and its own name
    *((".config", name) for name in ("gcloud", "gh", "hub", "op", "rclone", "doctl", "heroku", "fly", "sops")),
}
_STAGE = "local|dev|devel|development|prod|production|stage|staging|test|testing|qa|uat|live|ci|default|private"
NEVER_READ_ENDS = (
    *(".pem", ".key", ".p12", ".pfx", ".jks", ".keystore", ".kdbx", ".kdb", ".ppk", ".agekey", ".keychain", ".keyring"),
    *(".keychain-db", ".kubeconfig"),
)
# by the part that every name of the kind has, which is quick to look for
NEVER_READ_KINDS = {
    "history": r"\.\w*history",  # of shells and database clients
    ".env": rf"\.env.*|.*\.env([._-]({_STAGE}))*",  # .env.local, .envrc; prod.env, app.env.local
    "client_secret": r"client_secrets?([._-].*)?\.json",
    **dict.fromkeys(  # secrets.yml, prod.secrets.json, credentials.csv
        ("secret", "credential"),
        rf"(({_STAGE})[._-])*(secrets?|credentials?)([._-]({_STAGE}))*\.(ya?ml|json|toml|ini|cfg|conf|properties|xml|csv)",
    ),
    "id_": r"(.*[^a-z0-9])?id_(rsa|dsa|ecdsa|ed25519|xmss)(_sk)?(\.pub)?"
    r"|id_(rsa|dsa|ecdsa|ed25519|xmss)[^a-z].*|id_.*\.pub",  # deploy_id_rsa; id_rsa_work
    "ssh_host_": r"(.*[^a-z0-9])?ssh_host_\w*key(\.pub)?",
}
_KINDS = [(part, re.compile(pattern, re.DOTALL)) for part, pattern in NEVER_READ_KINDS.items()]
# every name that is never read contains one of these: most names are decided by this alone, since listings are long
_TRACES = re.compile(
    r"env|pem|key|p12|pfx|jks|kdb|ppk|hist|secret|cred|id_|ssh|passw|vault|\.git|\.hg|\.svn|\.bzr|cvs|pycache|gnupg|\.pki"
    r"|\.aws|azure|gcloud|kube|docker|\.oci|aliyun|bluemix|terraform|boto|s3cfg|databricks|rclone|netrc|pgpass|my\.cnf"
    r"|mylogin|htdigest|npmrc|yarnrc|pypirc|known_hosts"
)
# keys have names such as id_work, but id_map.py and id_map.txt are none
NEVER_READ_KEY = re.compile(r"id_[^.]*", re.DOTALL)

_COMPRESSED = "gz gzip z bz2 bz bzip2 xz lzma lz lz4 lzo zst zstd br sz snappy zz"
_ARCHIVES = "tar tgz taz tbz tbz2 txz tlz tzst zip zipx 7z rar cpio ar iso dmg cab lha lzh arj"
_ENCODINGS = "b64 base64 asc txt"
_BACKUPS = (
    "bak bk bkp bkup backup back old orig original save saved sav swp swo swn swx tmp temp copy prev previous new "
    "rej rpmsave rpmnew rpmorig dpkg-old dpkg-dist dpkg-new dpkg-bak ucf-old ucf-dist ucf-new pacnew pacsave "
    "part partial crdownload download filepart disabled off unused deleted"
)
_ENDINGS = frozenset(f"{_COMPRESSED} {_ARCHIVES} {_ENCODINGS} {_BACKUPS}".split())
_TEXT = "txt"
_MARKS = r"bak|bkp|backup|old|orig|original|save|saved|copy|kopie|copie|prev|previous|tmp"
# .1, .~1~, .2024-01-01, -20240101T1200; and _old, " (1)", " - Copy (2)", also before an ending: secrets (1).yml
_LAST = re.compile(
    rf"""
      (?P<version> \.~?\d{{1,20}}~?
        | [._\ -]\d{{4}}[._-]?\d\d[._-]?\d\d([t_.\ -]?\d\d[.:_h-]?\d\d([.:_m-]?\d\d)?z?)?)$
    | ( \ ?\(\d{{1,6}}\) | (\ -\ |[._\ -])({_MARKS})(\ ?\d{{1,6}}|\ ?\(\d{{1,6}}\))? )(?=(\.[a-z0-9]{{1,12}})?$)
    """,
    re.VERBOSE,
)
_FIRST = re.compile(
    r"(backup|bak|bkp|old|orig|original|save|saved|copy|kopie|copie|prev|previous|tmp|temp)( ?\(\d{1,6}\))?"
    r"([ _-](of|von|de))?([ _-]+|\.)|\.#|#|~\$|\._|\.(?=[^.])"
)
_DOTS = dict.fromkeys(map(ord, "\u3002\u06d4\u0701\u0702\ua4f8\ua60e\u0660\u06f0\u00b7\u2219\u22c5"), ".")


def is_private(parts: Sequence[str]) -> bool:
    """Whether a path, given as its parts, may hold secrets or version control internals, so that it is never read."""
    return any(map(is_private_name, parts)) or any(
        (above, below) in NEVER_READ_PAIRS
        for parent, name in pairwise(parts)
        if "config" in _fold(parent)
        for above, _ in _reduce(parent)
        for below, _ in _reduce(name)
    )


def is_private_name(name: str) -> bool:
    """Whether a file or folder with this name may hold secrets or version control internals."""
    if len(name) <= MAX_STEPS and name.isascii() and _TRACES.search(name.lower()) is None:
        return False
    steps = 0
    for form, is_whole in _reduce(name):
        if (
            form in NEVER_READ
            or form.endswith(NEVER_READ_ENDS)
            or any(part in form and pattern.fullmatch(form) is not None for part, pattern in _KINDS)
            or (is_whole and form.startswith("id_") and NEVER_READ_KEY.fullmatch(form) is not None)
            or (steps == 0 and form in INTERNALS)
        ):
            return True
        steps += 1
    return steps > MAX_STEPS


def _reduce(name: str) -> Iterator[tuple[str, bool]]:
    """The forms of a name, each shorter than the one before, at most ``MAX_STEPS`` after the first. With each, whether
    only backup and compression endings were removed: it then names what the whole name names."""
    form, is_whole = _fold(name[-MAX_NAME_CHARS:]), True
    yield form, is_whole
    for _ in range(MAX_STEPS):
        stem, dot, ending = form.rpartition(".")
        if dot and stem and ending in _ENDINGS:
            is_whole = is_whole and ending != _TEXT
            form = stem
        elif form.endswith("~"):
            form = form[:-1]
        elif (found := _LAST.search(form)) is not None:
            form = form[: found.start()] + form[found.end() :]
        elif (found := _FIRST.match(form)) is not None:
            is_whole = False
            form = form[found.end() :]
        else:
            return
        form = form.strip(" .") if not form.startswith(".") else form.rstrip(" .")
        yield form, is_whole


def _fold(name: str) -> str:
    """The name in the form in which names are compared: lower case, without invisible characters, and each character
    that looks like a dot, a letter in another width and so on replaced by the plain one."""
    if not name.isascii():
        name = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold()).translate(_DOTS)
        name = "".join(char for char in name if unicodedata.category(char) not in ("Cf", "Mn"))
    return name.lower().strip().rstrip(". \t\r\n")
