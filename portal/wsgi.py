"""The WSGI application that gunicorn serves."""

import os
import resource

from django.core.wsgi import get_wsgi_application

from portal.database import kinds

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "portal.settings")
django = get_wsgi_application()

from portal.door import Door  # noqa: E402 - reads settings

application = Door(django)

if "SERVER_SOFTWARE" in os.environ:  # gunicorn's; a test's own server has no thread that outlives the test
    kinds.become(kinds.WEB)
    # Each connection is an open file, even if idle, and gunicorn accepts 1000: more than the usual soft limit
    # allows.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))

    from access_requests.services.tokens.uses import uses
    from model_ops.services.downloads import journal
    from portal.accounts.activity import sights

    uses.write_in_background()
    sights.write_in_background()
    journal.move_in_background()
