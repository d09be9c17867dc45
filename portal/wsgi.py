"""What gunicorn serves."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "portal.settings")
application = get_wsgi_application()

if "SERVER_SOFTWARE" in os.environ:  # gunicorn's; a server inside a test has no thread that outlives the test
    from access_requests.services.tokens.uses import uses
    from model_ops.services import journal

    uses.write_in_background()
    journal.move_in_background()
