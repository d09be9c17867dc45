"""Handwritten YAML that a parser would change: kept as written, or refused with line and reason."""

import pytest

from access_requests.cards import CardRefused, read_card


def fields_card(lines: str) -> str:
    """Return a card whose `extra_gated_fields` start on line 3."""
    return f"---\nextra_gated_fields:\n{lines}\n---\n"


@pytest.mark.parametrize(
    "label", ["2024", "3.5", "yes", "No", "null", "2024-01-31", "0x1F", "12:30", "~", "true"]
)
def test_label_that_yaml_would_convert_stays_as_written(label: str):
    card = read_card(fields_card(f"  {label}: text"))

    assert [field.label for field in card.form.fields] == [label]
    assert card.front == {"extra_gated_fields": {label: "text"}}


def test_unquoted_yes_and_no_stay_words():
    card = read_card(fields_card("  News?:\n    type: select\n    options: [Yes, No, on, null, 1.0]"))

    assert [option.value for option in card.form.fields[0].options] == ["Yes", "No", "on", "null", "1.0"]


@pytest.mark.parametrize("word", ["true", "True", "yes", "on", "'true'"])
def test_eu_rule_takes_any_yaml_true(word: str):
    assert read_card(f"---\nextra_gated_eu_disallowed: {word}\n---\n").form.eu_disallowed


@pytest.mark.parametrize("word", ["false", "no", "", "null"])
def test_eu_rule_takes_any_yaml_false(word: str):
    assert not read_card(f"---\nextra_gated_eu_disallowed: {word}\n---\n").form.eu_disallowed


def test_python_tag_is_read_as_plain_data():
    card = read_card("---\nevil: !!python/object/apply:os.system ['id']\nlicense: !!str mit\n---\n")

    assert card.front == {"evil": ["id"], "license": "mit"}


def test_label_of_1024_characters_is_taken_on_one_line_and_as_explicit_key():
    label = "I " + "x" * 1022
    assert read_card(fields_card(f"  {label}: checkbox")).form.fields[0].label == label
    assert read_card(fields_card(f"  ? {label}\n  : checkbox")).form.fields[0].label == label


def test_label_of_one_letter_is_taken():
    assert read_card(fields_card("  我: text")).form.fields[0].label == "我"


def test_lifted_field_that_has_its_own_options_is_read():
    text = "  Job:\n    type: select\n    options: [a]\n    Use:\n      type: select\n      options: [b]"
    card = read_card(fields_card(text))

    assert [(field.key, field.label, field.options[0].value) for field in card.form.fields] == [
        ("f1", "Job", "a"),
        ("f2", "Use", "b"),
    ]


def test_options_without_type_are_a_select():
    card = read_card(fields_card("  Job:\n    options: [a, b]"))

    assert card.form.fields[0].type == "select"
    assert len(card.warnings) == 1


def test_option_written_twice_is_shown_once():
    card = read_card(fields_card("  Job:\n    type: select\n    options: [a, b, a]"))

    assert [option.value for option in card.form.fields[0].options] == ["a", "b"]
    assert len(card.warnings) == 1


def test_options_of_a_text_are_ignored_with_a_warning():
    card = read_card(fields_card("  Job:\n    type: text\n    options: [a]\n    colour: red"))

    assert card.form.fields[0].options == ()
    assert len(card.warnings) == 2


def test_licence_agreement_stays_required():
    card = read_card(fields_card("  I accept the licence: {type: checkbox, required: false}"))

    assert card.form.fields[0].required
    assert len(card.warnings) == 1


def test_label_that_says_optional_is_optional():
    card = read_card(
        fields_card("  Website (optional): text\n  ORCID (optional): {type: text, required: true}")
    )

    assert [field.required for field in card.form.fields] == [False, True]


def test_type_in_capitals_with_blanks_is_taken():
    assert read_card(fields_card("  Name : ' Text '")).form.fields[0].type == "text"


def test_249_options_are_taken():
    options = "\n".join(f"      - Land {n}" for n in range(249))
    card = read_card(fields_card(f"  Country:\n    type: select\n    options:\n{options}"))

    assert len(card.form.fields[0].options) == 249
    assert (card.form.fields[0].role, card.form.fields[0].type) == ("country", "select")


def test_second_field_of_a_role_stays_an_ordinary_question():
    card = read_card(fields_card("  Country: text\n  Country of residence: text\n  Email: text"))

    assert [(field.role, field.type) for field in card.form.fields] == [
        ("country", "country"),
        ("", "text"),
        ("email", "text"),
    ]


def test_front_matter_may_be_empty():
    for text in (
        "---\n---\nbody\n",
        "---\n\n---\nbody\n",
        "---\n# comment\n---\nbody\n",
        "---\n~\n---\nbody\n",
    ):
        card = read_card(text)
        assert (card.front, card.body, card.form.fields, card.warnings) == ({}, "body\n", (), [])


def test_fence_may_have_blanks_after_it():
    assert read_card("---  \nlicense: mit\n--- \t\nbody").front == {"license": "mit"}


def test_long_rule_in_the_body_is_no_fence():
    assert read_card("---\nlicense: mit\n----: x\n---\nbody").front == {"license": "mit", "----": "x"}


def test_card_without_front_matter_has_no_form():
    for text in ("", "# Title\n", "<!-- hi -->\n---\nlicense: mit\n---\nbody\n", "---\nlicense: mit\nbody\n"):
        card = read_card(text)
        assert (card.front, card.form.fields, len(card.warnings)) == ({}, (), 1)


def test_gate_keys_in_a_code_block_are_an_example():
    body = "```yaml\nextra_gated_prompt: x\n```\n~~~~\nextra_gated_fields:\n~~~\nextra_gated_fields:\n~~~~\n"
    assert read_card(f"---\nlicense: mit\n---\n{body}").warnings == []
    assert read_card(f"# Title\n{body}").front == {}


def test_gate_key_below_a_real_gate_is_only_told():
    card = read_card("---\nextra_gated_prompt: x\n---\nextra_gated_fields: y\n")

    assert (card.form.prompt, card.warnings) == (
        "x",
        ["Line 4: " + card.warnings[0].removeprefix("Line 4: ")],
    )


def test_unknown_gate_key_is_told():
    card = read_card("---\nextra_gated_prompt: x\nextra_gated_feilds: y\nextra-gated-other: z\n---\n")

    assert [warning[:7] for warning in card.warnings] == ["Line 3:", "Line 4:"]


BOMB = "a: &a [x, x]\n" + "\n".join(
    f"{name}: &{name} [{', '.join(f'*{before}' for _ in range(9))}]"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)

REFUSED = [
    # (what is wrong, card, line, a word of the error)
    ("label twice", fields_card("  Name: text\n  Email: text\n  Name: checkbox"), 5, "first on line 3"),
    ("label twice but for a blank", fields_card("  Name: text\n  'Name ': checkbox"), 4, "occurs twice"),
    ("label twice in a list", fields_card("- Name: text\n- Name: checkbox"), 4, "first on line 3"),
    (
        "lifted label twice",
        fields_card("  A: {type: text, geo: ip_location}\n  geo: ip_location"),
        4,
        "twice",
    ),
    ("key twice", "---\nlicense: mit\ntags: []\nlicense: other\n---\n", 4, "first on line 2"),
    ("type twice", fields_card("  A:\n    type: text\n    type: checkbox"), 5, "twice"),
    ("alias bomb", f"---\n{BOMB}\n---\n", 2, "anchor"),
    ("alias", "---\na: *b\n---\n", 2, "alias"),
    ("anchor", "---\na: &b c\n---\n", 2, "anchor"),
    ("asterisk bullet", fields_card("  * Name: text"), 3, "`*`"),
    ("label marked as required", fields_card("  *required Name: text"), 3, "*"),
    ("template", fields_card("  {field_name_0}: {field_type_0}"), 3, "template"),
    ("list as label", fields_card("  [a, b]: text"), 3, "text"),
    ("map as label", fields_card("  ? a: b\n  : text"), 3, "text"),
    ("colon in a label", fields_card("  Name: text\n  Use: what for: text"), 4, "colon"),
    ("tab indentation", fields_card("  Name: text\n\tEmail: text"), 4, "tab"),
    (
        "quote never closed",
        fields_card('  Name: text\n  "Email: text\n  Country: country'),
        4,
        "never closed",
    ),
    ("label starting with @", fields_card("  @gmail: text"), 3, "quotes"),
    ("label starting with a backtick", fields_card("  `Name`: text"), 3, "quotes"),
    ("one-line label over 1,024", fields_card("  Name: text\n  " + "x" * 1025 + ": text"), 4, "1,024"),
    ("explicit label over 1,024", fields_card("  ? " + "x " * 600 + "\n  : text"), 3, "1,024"),
    ("empty label", fields_card("  '': text"), 3, "label"),
    (
        "indentation lost",
        "---\nlicense: mit\nextra_gated_fields:\nName: text\nEmail: text\n---\n",
        4,
        "indented",
    ),
    (
        "lost for a map",
        "---\nextra_gated_fields:\nJob:\n  type: select\n  options: [a]\n---\n",
        3,
        "indented",
    ),
    ("lost half-way", "---\nextra_gated_fields:\n  Name: text\nEmail: text\n---\n", 4, "indented"),
    ("lost inside a select", fields_card("  Job:\n  type: select\n  options: [a]"), 3, "no type"),
    ("misaligned", fields_card("  Name: text\n Email: text"), 4, "indentation"),
    ("unknown type", fields_card("  Name: textarea"), 3, "textarea"),
    ("no type", fields_card("  Name:"), 3, "no type"),
    ("type is a list", fields_card("  Name: {type: [text]}"), 3, "list"),
    ("field is a list", fields_card("  Name: [a, b]"), 3, "select"),
    ("select without options", fields_card("  Job: select"), 3, "options"),
    ("select with empty options", fields_card("  Job: {type: select, options: []}"), 3, "options"),
    ("options in one text", fields_card("  Job: {type: select, options: 'a, b'}"), 3, "options"),
    ("option with a colon", fields_card("  Job:\n    type: select\n    options:\n    - a: b"), 6, "option"),
    ("option empty", fields_card("  Job:\n    type: select\n    options:\n    - a\n    -"), 7, "option"),
    (
        "one value for two options",
        fields_card(
            "  Job:\n    type: select\n    options:\n    - {label: A, value: x}\n    - {label: B, value: x}"
        ),
        7,
        "two options",
    ),
    (
        "required is no boolean",
        fields_card("  Name:\n    type: text\n    required: perhaps"),
        5,
        "true or false",
    ),
    ("list of texts", fields_card("- Name\n- Email"), 3, "label: type"),
    ("fields are a text", "---\nextra_gated_fields: Name\n---\n", 2, "map"),
    ("prompt is a list", "---\nextra_gated_prompt: [a]\n---\n", 2, "text"),
    ("heading too long", f"---\nextra_gated_heading: {'x' * 3000}\n---\n", 2, "2,000"),
    ("eu rule is no boolean", "---\nextra_gated_eu_disallowed: maybe\n---\n", 2, "true or false"),
    ("front matter is a list", "---\n- a\n---\n", 2, "key: value"),
    ("front matter is prose", "---\nOnce upon a time\n---\n", 2, "key: value"),
    ("never closed", "---\nlicense: mit\nextra_gated_prompt: x\n", 3, "never closed"),
    ("blank line first", "\n---\nextra_gated_prompt: x\n---\n", 3, "first line"),
    ("no fences at all", "extra_gated_prompt: x\n", 1, "no front matter"),
    ("in a second block", "---\nlicense: mit\n---\ntext\n---\nextra_gated_prompt: x\n---\n", 6, "below"),
    ("second document", "---\na: b\n...\n--- c\n---\n", 4, "second"),
    ("too deep", "---\na: " + "[" * 40 + "]" * 40 + "\n---\n", 2, "levels"),
    ("very deep", "---\na: " + "[" * 200_000 + "\n---\n", 2, "levels"),
    ("NUL", "---\na: b\n---\nbo\0dy\n", 4, "NUL"),
    ("NUL as an escape", '---\na: "\\0"\n---\n', 2, "escape"),
    ("half a pair as an escape", '---\na: "\\ud800"\n---\n', 2, "escape"),
    ("escape beyond Unicode", '---\nx: y\na: "\\UFFFFFFFF"\n---\n', 3, "escape"),
    ("endless version", "---\n%YAML " + "9" * 5000 + ".1\n---\n", 2, "number"),
    ("control character", "---\na: b\nc: \x07d\n---\n", 3, "U+0007"),
    ("half a pair", "---\na: \ud800\n---\n", 2, "UTF-8"),
    ("too large", "---\na: b\n---\n" + "x" * 1024 * 1024, None, "1 MiB"),
    ("front matter too large", "---\na: " + "x" * 600_000 + "\n---\n", 1, "512 KiB"),
    ("too many fields", fields_card("\n".join(f"  Q{n}: text" for n in range(101))), 103, "100 fields"),
]


@pytest.mark.parametrize(
    ("text", "line", "word"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED]
)
def test_card_that_cannot_be_understood_is_refused_with_its_line(text: str, line: int | None, word: str):
    with pytest.raises(CardRefused) as refused:
        read_card(text)

    assert (refused.value.line, word in refused.value.sentence) == (line, True), str(refused.value)
    assert refused.value.sentence.endswith(".")
    assert "\n" not in refused.value.sentence


def test_line_counts_the_whole_file_with_crlf_and_byte_order_mark():
    text = "\ufeff" + fields_card("  Name: text\n  Email: text\n  Name: checkbox").replace("\n", "\r\n")
    with pytest.raises(CardRefused) as refused:
        read_card(text)

    assert refused.value.line == 5


def test_line_is_right_after_text_with_line_separators():
    text = "---\nextra_gated_prompt: 'a\u2028b\x85c'\nextra_gated_eu_disallowed: maybe\n---\n"
    with pytest.raises(CardRefused) as refused:
        read_card(text)

    assert refused.value.line == 3
