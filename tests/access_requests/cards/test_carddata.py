"""Front matter as the Hub's cardData."""

from access_requests.cards import card_data, read_card
from access_requests.cards.countries import EU_COUNTRIES, is_shut_out


def test_values_get_their_json_types():
    card = read_card(
        "---\nlicense: mit\ninference: false\nlibrary_name: '2'\ntags: [2024, true]\nlanguage: no\nversion: 3\nempty:\n"
        "model-index:\n- name: x\n  results:\n  - metrics: [{type: acc, value: 59.2, verified: true}]\n"
        "huge: 123456789012345678901234567890\nodd: 1e999\ndate: 2024-01-31\nextra_gated_eu_disallowed: true\n"
        "extra_gated_fields:\n  '2024': text\n  Ask: {type: text, required: true}\n---\n"
    )

    assert card_data(card.front) == {
        "license": "mit",
        "inference": False,
        "library_name": "2",
        "tags": ["2024", "true"],
        "language": "no",
        "version": 3,
        "empty": None,
        "model-index": [
            {"name": "x", "results": [{"metrics": [{"type": "acc", "value": 59.2, "verified": True}]}]}
        ],
        "huge": "123456789012345678901234567890",
        "odd": "1e999",
        "date": "2024-01-31",
        "extra_gated_eu_disallowed": True,
        "extra_gated_fields": {"2024": "text", "Ask": {"type": "text", "required": "true"}},
    }


def test_union_has_27_members_and_parts_overseas():
    form = read_card("---\nextra_gated_eu_disallowed: true\n---\n").form

    assert len(EU_COUNTRIES) == 27
    assert [
        country for country in ("FR", "fr", "RE", "CH", "GB", "NO", "") if is_shut_out(form, country)
    ] == [
        "FR",
        "fr",
        "RE",
    ]
    assert not is_shut_out(read_card("").form, "FR")
