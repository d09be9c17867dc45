"""The check for text in templates that is not marked for translation; every template compiles."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
from django.template import engines

CHECKOUT = Path(__file__).resolve().parent.parent
TEMPLATES = sorted(path for path in (CHECKOUT / "templates").rglob("*") if path.is_file())


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, CHECKOUT / ".ci" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def marks() -> ModuleType:
    return load("marks")


@pytest.mark.parametrize(
    ("path", "source", "line", "text"),
    [
        ("a.html", "<h1>{% translate 'Marked' %}</h1>\n<p>Not marked</p>", 2, "Not marked"),
        ("a.html", '{% translate "A" %}{% if b %}\n\n  <b>и так</b>{% endif %}', 3, "и так"),
        ("a.html", '{% blocktranslate count n=n %}A\n{% plural %}B{% endblocktranslate %}\n{{ n }} of', 3, "\ue000 of"),
        ("a.html", '<img src="a" alt="Code {{ n }}">', 1, "Code \ue000"),
        ("a.html", '<input type="submit" value="Save">', 1, "Save"),
        ("a.html", '<p>\n{{ name|default:"nobody" }}</p>', 2, '|default:"nobody"'),
        ("a.html", "{% blocktranslate with a=b|pluralize %}{{ a }}{% endblocktranslate %}", 1, "|pluralize"),
        ("a.html", "<code>hf</code> downloads", 1, "downloads"),
        ("a.txt", "{% autoescape off %}Subject: Hello\n{% endautoescape %}", 1, "Hello"),
        ("a.txt", "Subject: {{ a }}\n\n{% comment %}\nno{% endcomment %}Go to {{ a }}/b", 4, "Go to"),
    ],
)  # fmt: skip
def test_an_unmarked_text_is_found_with_its_line(
    marks: ModuleType, path: str, source: str, line: int, text: str
) -> None:
    assert list(marks.faults(path, source)) == [
        f"{path}:{line}: {text!r}: mark it with translate or blocktranslate"
    ]


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("a.html", "<title>{{ a }} · Gatehouse</title><p>{{ at }} UTC &rsaquo; {# no #}<pre>hf download</pre>"),
        ("a.html", '<p title="{% translate "A" %}" class="b">{% blocktranslate %}C{% endblocktranslate %}</p>'),
        ("a.html", '{% block width %}reading{% endblock %}<input type="hidden" value="a">{{ a|default:_("B") }}'),
        ("a.html", "<script>let a</script><style>b {}</style><kbd>Ctrl</kbd>{% comment %}<p>C</p>{% endcomment %}"),
        ("a.txt", 'Subject: {% translate "A" %}\n\n    hf download\n\n{{ portal }}/me/tokens\n'),
    ],
)  # fmt: skip
def test_code_names_and_marked_texts_are_left_alone(marks: ModuleType, path: str, source: str) -> None:
    assert list(marks.faults(path, source)) == []


def test_a_marked_text_is_still_read_for_its_words() -> None:
    prose = load("prose")
    words = prose.read_words("frog: toad\n")
    source = (
        '<p title="{% translate "A frog" %}">{% translate "Your frog." %}</p>\n{{ a|default:_("no frog") }}'
    )
    fault = '"frog": write "toad"'
    assert list(prose.faults("a.html", source, words)) == [f"a.html:{line}: {fault}" for line in (1, 1, 2)]


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: str(path.relative_to(CHECKOUT)))
def test_every_template_compiles(path: Path) -> None:
    engines["django"].get_template(str(path.relative_to(CHECKOUT / "templates")))
