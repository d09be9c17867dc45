"""Cards with the labels, types and odd spellings of real ones; the prose is our own."""

from dataclasses import dataclass, field

import pytest

from access_requests.cards import CardRefused, read_card

T, C, COUNTRY, DATE, SELECT, IP = "text", "checkbox", "country", "date_picker", "select", "ip_location"
FIRST, LAST, FULL = "first_name", "last_name", "full_name"
INSTITUTION, EMAIL, USE, LICENCE = "institution", "email", "intended_use", "licence"

META_CONSENT = "By clicking Submit below I accept the terms of the license and acknowledge the privacy policy"
META_FIELDS = [
    ("First Name", T, FIRST),
    ("Last Name", T, LAST),
    ("Date of birth", DATE, ""),
    ("Country", COUNTRY, "country"),
    ("Affiliation", T, INSTITUTION),
    ("Job title", SELECT, ""),
    ("geo", IP, ""),
    (META_CONSENT, C, LICENCE),
]
META = f"""
extra_gated_prompt: ours
extra_gated_fields:
  First Name: text
  Last Name: text
  Date of birth: date_picker
  Country: country
  Affiliation: text
  Job title:
    type: select
    options:
      - Student
      - Other
  geo: ip_location
  {META_CONSENT}: checkbox
extra_gated_description: >-
  Handled as the [policy](https://example.org/privacy)
  says.
extra_gated_button_content: Submit
"""


@dataclass(frozen=True)
class Shape:
    """One card: YAML, expected fields as (label, type, role), the optional ones, a word of each warning."""

    name: str
    yaml: str
    fields: list[tuple[str, str, str]]
    optional: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


SHAPES = [
    Shape("sam3-and-llama-3.2-1b", META, META_FIELDS),
    Shape("llama-3.2-11b-vision", META + "extra_gated_eu_disallowed: true\n", META_FIELDS),
    Shape(
        "llama-guard-3 with trailing blanks",
        META.replace("options:", "options: ").replace("- Other", "- Other  ").replace("ip_location", "ip_location  "),
        META_FIELDS,
    ),
    Shape(
        "pixio with an explicit key over three lines",
        """
extra_gated_heading: >-
  Give your
  full names,
  without acronyms,
  since they cannot be
  edited later.
extra_gated_fields:
  First Name: text
  Last Name: text
  Date of birth: date_picker
  Country: country
  Affiliation: text
  I agree to the terms above: checkbox
  geo: ip_location
  ? By clicking Submit below I accept
    the terms of the license
    and acknowledge the privacy policy
  : checkbox
""",
        [
            *META_FIELDS[:5],
            ("I agree to the terms above", C, LICENCE),
            ("geo", IP, ""),
            (META_CONSENT, C, LICENCE),
        ],
    ),
    Shape(
        "apertus with a quoted prompt and line joins",
        f"""
extra_gated_prompt: "### Terms\\n\\nfirst \\
  and second"
extra_gated_fields:
  Your Name: text
  Country: country
  Affiliation: text
  geo: ip_location
  {META_CONSENT}: checkbox
extra_gated_button_content: Submit
""",
        [
            ("Your Name", T, FULL),
            ("Country", COUNTRY, "country"),
            ("Affiliation", T, INSTITUTION),
            ("geo", IP, ""),
            (META_CONSENT, C, LICENCE),
        ],
    ),
    Shape(
        "taide in two languages",
        """
extra_gated_heading: 請先閱讀
extra_gated_fields:
  姓名(Name): text
  生日(Date of birth): date_picker
  國家(Country): country
  所屬單位(Affiliation): text
  geo: ip_location
  按下送出表示同意授權條款與隱私權政策(By clicking Submit I accept the terms of the license): checkbox
extra_gated_button_content: 送出(Submit)
""",
        [
            ("姓名(Name)", T, FULL),
            ("生日(Date of birth)", DATE, ""),
            ("國家(Country)", COUNTRY, "country"),
            ("所屬單位(Affiliation)", T, INSTITUTION),
            ("geo", IP, ""),
            ("按下送出表示同意授權條款與隱私權政策(By clicking Submit I accept the terms of the license)", C, LICENCE),
        ],
    ),
    Shape(
        "network energy data with geo inside the select",
        """
extra_gated_fields:
  First Name: text
  Last Name: text
  Affiliation: text
  Country: country
  Job title:
    type: select
    options:
      - Student
      - Other
    geo: ip_location
""",
        [
            ("First Name", T, FIRST),
            ("Last Name", T, LAST),
            ("Affiliation", T, INSTITUTION),
            ("Country", COUNTRY, "country"),
            ("Job title", SELECT, ""),
            ("geo", IP, ""),
        ],
        warnings=["geo"],
    ),
    Shape(
        "primus-nemotron with labelled options",
        """
extra_gated_fields:
  Affiliation: text
  Country: country
  I want to use this model for:
    type: select
    options:
      - Research
      - Education
      - label: Other
        value: other
  Job title:
    type: select
    options: [Student, Other]
  geo: ip_location
""",
        [
            ("Affiliation", T, INSTITUTION),
            ("Country", COUNTRY, "country"),
            ("I want to use this model for", SELECT, USE),
            ("Job title", SELECT, ""),
            ("geo", IP, ""),
        ],
    ),
    Shape(
        "starcoder, long key",
        "extra_gated_fields:\n  ? I accept the above license agreement and will keep its restrictions\n  : checkbox\n",
        [("I accept the above license agreement and will keep its restrictions", C, LICENCE)],
    ),
    Shape(
        "starcoder, one line",
        "extra_gated_fields:\n  I accept the above license agreement and will keep its restrictions: checkbox\n",
        [("I accept the above license agreement and will keep its restrictions", C, LICENCE)],
    ),
    Shape(
        "the-stack-v2",
        "extra_gated_prompt: |-\n  1. One\n  2. Two\nextra_gated_fields:\n  Email: text\n"
        "  I have read the License and agree with its terms: checkbox\n",
        [("Email", T, EMAIL), ("I have read the License and agree with its terms", C, LICENCE)],
    ),
    Shape(
        "gemma",
        "extra_gated_heading: Ours\nextra_gated_prompt: You’ll be let in at once\n"
        "extra_gated_button_content: Acknowledge license\n",
        [],
    ),
    Shape("medgemma", "extra_gated_prompt: Read the [terms](https://example.org),\n  then go on.\n", []),
    Shape("mistral", "extra_gated_description: See our <a href='https://example.org/'>policy</a>.\n", []),
    Shape(
        "pyannote diarization 3.1",
        "extra_gated_prompt: who\nextra_gated_fields:\n  Company/university: text\n  Website: text\n",
        [("Company/university", T, INSTITUTION), ("Website", T, "")],
    ),
    Shape(
        "pyannote embedding",
        "extra_gated_fields:\n  Company/university: text\n  Website: text\n"
        "  I plan to use this model for (task, type of audio data, etc): text\n",
        [
            ("Company/university", T, INSTITUTION),
            ("Website", T, ""),
            ("I plan to use this model for (task, type of audio data, etc)", T, USE),
        ],
    ),
    Shape(
        "pyannote community with five blanks",
        "extra_gated_fields:\n     Company/university: text\n     Use case:\n          type: select\n"
        "          options:\n               - label: Notes of meetings\n                 value: meetings\n",
        [("Company/university", T, INSTITUTION), ("Use case", SELECT, USE)],
    ),
    Shape(
        "stable diffusion 3.5",
        """
extra_gated_fields:
  Name: text
  Email: text
  Country: country
  Organization or Affiliation: text
  Receive email updates and news on our products, services and research?:
    type: select
    options: ['Yes', 'No']
  What do you intend to use the model for?:@
    type: select
    options: [Research, Personal use, Creative Professional, Startup, Enterprise]
  By clicking here, you agree to the License Agreement, and acknowledge the firm's Privacy Policy: checkbox
""".replace("@", " "),
        [
            ("Name", T, FULL),
            ("Email", T, EMAIL),
            ("Country", COUNTRY, "country"),
            ("Organization or Affiliation", T, INSTITUTION),
            ("Receive email updates and news on our products, services and research?", SELECT, ""),
            ("What do you intend to use the model for?", SELECT, USE),
            ("By clicking here, you agree to the License Agreement, and acknowledge the firm's Privacy Policy", C, LICENCE),
        ],
    ),
    Shape(
        "sv4d without consent",
        "extra_gated_fields:\n  Name: text\n  Email: text\n  Country: country\n  Organization or Affiliation: text\n",
        [
            ("Name", T, FULL),
            ("Email", T, EMAIL),
            ("Country", COUNTRY, "country"),
            ("Organization or Affiliation", T, INSTITUTION),
        ],
    ),
    Shape(
        "stablelm with country as text and a newsletter",
        "extra_gated_fields:\n  Name: text\n  Email: text\n  Country: text\n  Organization or Affiliation: text\n"
        "  I ALLOW this firm to email me about new model releases: checkbox\n",
        [
            ("Name", T, FULL),
            ("Email", T, EMAIL),
            ("Country", COUNTRY, "country"),
            ("Organization or Affiliation", T, INSTITUTION),
            ("I ALLOW this firm to email me about new model releases", C, ""),
        ],
        optional=["I ALLOW this firm to email me about new model releases"],
    ),
    Shape(
        "aya-expanse",
        "extra_gated_prompt: See [the policy]( https://example.org/p )\nextra_gated_fields:\n  Name: text\n"
        "  Affiliation: text\n  Country: country\n  I agree to use this model for non-commercial use ONLY: checkbox\n",
        [
            ("Name", T, FULL),
            ("Affiliation", T, INSTITUTION),
            ("Country", COUNTRY, "country"),
            ("I agree to use this model for non-commercial use ONLY", C, ""),
        ],
    ),
    Shape(
        "conch, musk",
        """
extra_gated_fields:
  Full name (first and last): text
  Current affiliation (no abbreviations): text
  Type of Affiliation:
    type: select
    options:
      - Academia
      - Industry
      - label: Other
        value: other
  Official email (must match primary email, @gmail/@hotmail/@qq are refused; **no exceptions**): text
  Please explain your intended research use: text
  I agree to all terms outlined above: checkbox
  I agree to use this model for non-commercial, academic purposes only: checkbox
  I agree not to distribute the model, if another user wishes to use it they must register as well: checkbox
""",
        [
            ("Full name (first and last)", T, FULL),
            ("Current affiliation (no abbreviations)", T, INSTITUTION),
            ("Type of Affiliation", SELECT, ""),
            ("Official email (must match primary email, @gmail/@hotmail/@qq are refused; **no exceptions**)", T, EMAIL),
            ("Please explain your intended research use", T, USE),
            ("I agree to all terms outlined above", C, LICENCE),
            ("I agree to use this model for non-commercial, academic purposes only", C, ""),
            ("I agree not to distribute the model, if another user wishes to use it they must register as well", C, ""),
        ],
    ),
    Shape(
        "parakeet with a bare address as prompt",
        "extra_gated_prompt: https://example.org/terms\nextra_gated_description: within 2-3 days\nextra_gated_fields:\n"
        "  Company: text\n  Specific date: date_picker\n  I want to use this model for:\n    type: select\n"
        "    options:\n      - Research\n      - label: Other\n        value: other\n"
        "  I agree to use this model for non-commercial use ONLY: checkbox\n",
        [
            ("Company", T, INSTITUTION),
            ("Specific date", DATE, ""),
            ("I want to use this model for", SELECT, USE),
            ("I agree to use this model for non-commercial use ONLY", C, ""),
        ],
    ),
    Shape("falcon-180b", "extra_gated_button_content: >-\n  I have read and\n  agree\n", []),
    Shape(
        "rmbg 1.4",
        """
extra_gated_fields:
  Name: text
  Company/Org name: text
  Org Type (Early/Growth Startup, Enterprise, Academy): text
  Role: text
  Country: text
  Email: text
  By submitting this form, I agree to the firm’s Privacy policy and Terms & conditions: checkbox
""",
        [
            ("Name", T, FULL),
            ("Company/Org name", T, INSTITUTION),
            ("Org Type (Early/Growth Startup, Enterprise, Academy)", T, ""),
            ("Role", T, ""),
            ("Country", COUNTRY, "country"),
            ("Email", T, EMAIL),
            ("By submitting this form, I agree to the firm’s Privacy policy and Terms & conditions", C, LICENCE),
        ],
    ),
    Shape(
        "rmbg 2.0",
        "extra_gated_fields:\n  Company Website URL: text\n  Discord user: text\n",
        [("Company Website URL", T, ""), ("Discord user", T, "")],
    ),
    Shape(
        "sage-attention with type and required",
        """
extra_gated_fields:
  "Full Name":
    type: text
    required: true
  "User Type":
    type: select
    required: true
    options: [Individual, Team]
  "Email": {type: text, required: true}
  "Country/Region": {type: country, required: true}
  "Organization": {type: text, required: false}
  "What problem do you have, and on which hardware do you have it? Please be as exact as you can.":
    type: text
    required: true
""",
        [
            ("Full Name", T, FULL),
            ("User Type", SELECT, ""),
            ("Email", T, EMAIL),
            ("Country/Region", COUNTRY, "country"),
            ("Organization", T, INSTITUTION),
            ("What problem do you have, and on which hardware do you have it? Please be as exact as you can.", T, ""),
        ],
        optional=["Organization"],
    ),
    Shape(
        "thinking-cap with typographic quotes",
        "extra_gated_fields:\n  Name: text\n  'Company name (enter “N/A” if none)': text\n"
        "  'Work email (no free providers)': text\n",
        [
            ("Name", T, FULL),
            ("Company name (enter “N/A” if none)", T, INSTITUTION),
            ("Work email (no free providers)", T, EMAIL),
        ],
    ),
    Shape(
        "mer2025, one request for a team",
        "extra_gated_fields:\n  Team Name: text\n  Team Members (separated by commas): text\n  Organization: text\n"
        "  Country: country\n  Specific Date: date_picker\n  I want to use this dataset for:\n    type: select\n"
        "    options: [Research]\n  I agree to the dataset's terms of use: checkbox\n",
        [
            ("Team Name", T, ""),
            ("Team Members (separated by commas)", T, ""),
            ("Organization", T, INSTITUTION),
            ("Country", COUNTRY, "country"),
            ("Specific Date", DATE, ""),
            ("I want to use this dataset for", SELECT, USE),
            ("I agree to the dataset's terms of use", C, LICENCE),
        ],
    ),
    Shape(
        "trail and reachout-bench",
        "extra_gated_fields:\n  Affiliation: text\n  Intended use: text\n  I agree not to train on it: checkbox\n"
        "  I agree to cite the paper: checkbox\n",
        [
            ("Affiliation", T, INSTITUTION),
            ("Intended use", T, USE),
            ("I agree not to train on it", C, ""),
            ("I agree to cite the paper", C, ""),
        ],
    ),
    Shape(
        "derivative with two consents",
        "extra_gated_fields:\n  I am 18 or older: checkbox\n  I take responsibility for what I make: checkbox\n"
        "  Intended use:\n    type: select\n    options: [a, b, c, d]\n",
        [("I am 18 or older", C, ""), ("I take responsibility for what I make", C, ""), ("Intended use", SELECT, USE)],
    ),
    Shape(
        "biomedical bert",
        "gated: auto\nextra_gated_fields:\n  Full name: text\n  Affiliation / Organisation: text\n  Country: country\n"
        "  Intended use: text\n  I accept the licence: checkbox\n",
        [
            ("Full name", T, FULL),
            ("Affiliation / Organisation", T, INSTITUTION),
            ("Country", COUNTRY, "country"),
            ("Intended use", T, USE),
            ("I accept the licence", C, LICENCE),
        ],
    ),
    Shape("nile-chat", "extra_gated_button_content: Go on\n", []),
    Shape("hunyuan3d", "extra_gated_eu_disallowed: true\n", []),
    Shape(
        "olfaction set, a list of one-key maps with comments",
        "extra_gated_fields:\n- Name: text  # who\n- Affiliation: text\n- Email: text\n# the consent\n"
        "- I agree to use the data for research and to follow the license of each part.: checkbox\n",
        [
            ("Name", T, FULL),
            ("Affiliation", T, INSTITUTION),
            ("Email", T, EMAIL),
            ("I agree to use the data for research and to follow the license of each part.", C, LICENCE),
        ],
    ),
    Shape("generated, an empty list", "extra_gated_fields: []\nextra_gated_prompt: ''\n", []),
    Shape("generated, an empty map", 'extra_gated_fields: {}\nextra_gated_prompt: ""\n', []),
    Shape("generated, an empty text", "extra_gated_fields: ''\n", []),
    Shape("generated, nothing", "extra_gated_fields:\nlicense: mit\n", []),
    Shape(
        "robot template with a description",
        "extra_gated_fields:\n  Lab: {type: 'text', description: 'Where the *robot* stands'}\n",
        [("Lab", T, INSTITUTION)],
    ),
    Shape(
        "modelscope",
        "extra-gated:\n  extra_gated_prompt:\n    description: read\n    link: https://example.org\n"
        "  extra_gated_licence:\n    name: ours\n    link: https://example.org\n"
        "  extra_gated_fields:\n    电话: text\n    邮箱: text\n    是否同意: checkbox\n",
        [("电话", T, ""), ("邮箱", T, EMAIL), ("是否同意", C, "")],
        warnings=["ModelScope", "extra_gated_licence"],
    ),
    Shape(
        "tulu-65b",
        """
extra_gated_fields:
  First Name: text
  Last Name: text
  Institution: text
  Country (where user is located): text
  Intended Use: text
  Previous Related Publications: text
  I agree to abide by the terms of the license associated to this artifact, including domain and used-based restrictions: checkbox
""",
        [
            ("First Name", T, FIRST),
            ("Last Name", T, LAST),
            ("Institution", T, INSTITUTION),
            ("Country (where user is located)", COUNTRY, "country"),
            ("Intended Use", T, USE),
            ("Previous Related Publications", T, "publications"),
            (
                "I agree to abide by the terms of the license associated to this artifact, "
                "including domain and used-based restrictions",
                C,
                LICENCE,
            ),
        ],
        optional=["Previous Related Publications"],
    ),
]  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_card_is_read_as_its_owner_meant(shape: Shape):
    card = read_card(f"---\n{shape.yaml.strip(chr(10))}\n---\n# Ours\n")

    assert [(field.label, field.type, field.role) for field in card.form.fields] == shape.fields
    assert [field.key for field in card.form.fields] == [f"f{n}" for n in range(1, len(shape.fields) + 1)]
    not_asked = {field.label for field in card.form.fields if field.type == IP}
    assert [
        f.label for f in card.form.fields if not f.required and f.label not in not_asked
    ] == shape.optional
    assert len(card.warnings) == len(shape.warnings)
    assert all(word in warning for word, warning in zip(shape.warnings, card.warnings, strict=True))
    assert card.body == "# Ours\n"


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_card_with_byte_order_mark_and_crlf_is_read_alike(shape: Shape):
    text = f"---\n{shape.yaml.strip(chr(10))}\n---\n# Ours\n"

    assert read_card("\ufeff" + text.replace("\n", "\r\n")) == read_card(text)


def form_of(name: str):
    shape = next(shape for shape in SHAPES if shape.name == name)
    return read_card(f"---\n{shape.yaml.strip(chr(10))}\n---\n").form


def test_texts_around_the_form_are_kept():
    form = form_of("sam3-and-llama-3.2-1b")

    assert form.prompt == "ours"
    assert form.description == "Handled as the [policy](https://example.org/privacy) says."
    assert form.button == "Submit"
    assert not form.eu_disallowed


def test_heading_of_five_lines_is_joined():
    form = form_of("pixio with an explicit key over three lines")

    assert form.heading == "Give your full names, without acronyms, since they cannot be edited later."


def test_button_of_two_lines_is_joined():
    assert form_of("falcon-180b").button == "I have read and agree"


def test_prompt_in_double_quotes_has_its_line_breaks():
    assert form_of("apertus with a quoted prompt and line joins").prompt == "### Terms\n\nfirst and second"


def test_modelscope_prompt_joins_text_and_link():
    assert form_of("modelscope").prompt == "read\n\nhttps://example.org"


def test_eu_rule_is_read():
    assert form_of("llama-3.2-11b-vision").eu_disallowed
    assert form_of("hunyuan3d").eu_disallowed


def test_options_keep_value_and_label_without_blanks():
    options = form_of("primus-nemotron with labelled options").fields[2].options
    assert [(option.value, option.label) for option in options] == [
        ("Research", "Research"),
        ("Education", "Education"),
        ("other", "Other"),
    ]
    options = form_of("llama-guard-3 with trailing blanks").fields[5].options
    assert [option.value for option in options] == ["Student", "Other"]


def test_description_of_a_field_is_kept():
    assert form_of("robot template with a description").fields[0].description == "Where the *robot* stands"


def test_country_as_text_remembers_what_the_card_says():
    field = form_of("stablelm with country as text and a newsletter").fields[2]

    assert (field.declared, field.type) == ("text", "country")


def test_second_block_in_the_body_is_body():
    card = read_card("---\nextra_gated_fields:\n  Name: text\n---\n\n---\nlicense: mit\n---\ntext\n")

    assert card.front == {"extra_gated_fields": {"Name": "text"}}
    assert card.body == "---\nlicense: mit\n---\ntext\n"


REFUSED = [
    (
        "comment before the front matter",
        "<!-- hi -->\n---\nextra_gated_fields:\n  Name: text\n---\n",
        3,
        "first line",
    ),
    ("conflict marker", "<<<<<<< HEAD\n---\nextra_gated_prompt: x\n---\n", 3, "first line"),
    (
        "template left unfilled",
        "---\nextra_gated_fields:\n- {field_name_0}: {field_type_0}\n---\n",
        3,
        "template",
    ),
    ("re-wrapped by a formatter", "---\nextra_gated_fields:\n* Name: text\n* Email: text\n---\n", 3, "`*`"),
]


@pytest.mark.parametrize(
    ("text", "line", "word"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED]
)
def test_card_whose_gate_would_vanish_is_refused(text: str, line: int, word: str):
    with pytest.raises(CardRefused) as refused:
        read_card(text)

    assert refused.value.line == line
    assert word in refused.value.sentence
    assert str(refused.value) == f"Line {line} of the card: {refused.value.sentence}"
