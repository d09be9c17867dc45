from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("model_ops", "0002_downloads")]
    operations = []
