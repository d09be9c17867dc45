from django.db import migrations


class Migration(migrations.Migration):

    dependencies = [
        ('access_requests', '0014_rendered_texts'),
    ]

    operations = [
        migrations.RemoveField(
            model_name='renderedcard',
            name='made_from',
        ),
    ]
