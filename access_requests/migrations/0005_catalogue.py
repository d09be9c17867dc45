from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("access_requests", "0004_tokens")]
    operations = []
