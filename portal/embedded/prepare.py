"""What needs Django before or beside the portal: migrations, and the link that creates the owner.

Run as ``python -m portal.embedded.prepare migrate|owner`` by the supervisor, which stays free of Django itself.
"""

import hashlib
import os
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent.parent
SCHEMA_FILES = ("*/migrations/*.py", "*/*/migrations/*.py", "*/apps.py", "*/*/apps.py")


def schema_fingerprint() -> str:
    """One hash over everything that migrations are made of: ours, and the versions of everybody else's."""
    digest = hashlib.sha256()
    parts = [CHECKOUT / "requirements.lock", CHECKOUT / "portal" / "settings.py"]
    for pattern in SCHEMA_FILES:
        parts += sorted(CHECKOUT.glob(pattern))
    for part in parts:
        digest.update(f"{part.relative_to(CHECKOUT)}\0".encode() + hashlib.sha256(part.read_bytes()).digest())
    return digest.hexdigest()


def migrated(state: Path) -> bool:
    """Whether the embedded database of `state` has every migration there is, without asking Django."""
    try:
        return (state / "pg" / "migrated").read_text() == schema_fingerprint()
    except OSError:
        return False


def migrate(state: Path | None) -> None:
    """Applies every migration; the embedded database of `state` remembers that it has them."""
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", interactive=False, verbosity=0)
    if state is not None:
        (state / "pg" / "migrated").write_text(schema_fingerprint())


def owner_link() -> str:
    """A new one-time link while there is no staff account, else nothing."""
    import django

    django.setup()
    from portal.accounts.owner import owner_link

    return owner_link() or ""


def main(action: str, state: str = "") -> int:
    """Does one thing; a setting that cannot be read is one sentence."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "portal.settings")
    from django.core.exceptions import ImproperlyConfigured

    try:
        if action == "migrate":
            migrate(Path(state) if state else None)
        else:
            print(owner_link())
    except ImproperlyConfigured as refusal:
        print(refusal, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
