"""The table of tied names matches the installed transformers."""

import json

import pytest

pytest.importorskip("torch", reason="models are made with torch")
pytest.importorskip("transformers", reason="the table is compared with transformers")

from tests.model_ops.recovery import architectures, ties_table

pytestmark = pytest.mark.filterwarnings("ignore")  # models warn about sizes that only occur in tests

FEW = (
    "BartForConditionalGeneration",
    "GPTNeoXForCausalLM",
    "Gemma3ForConditionalGeneration",
    "MambaForCausalLM",
)


@pytest.fixture(scope="module")
def table():
    return json.loads(ties_table.TABLE.read_text())


def lines_of(table, name):
    return {
        (tuple(map(tuple, line["spellings"])), line["stored"], line["inner"], line["when"])
        for line in table["ties"]
        if name in line["architectures"]
    }


@pytest.mark.parametrize("name", FEW)
def test_groups_of_a_class_are_in_the_table(table, name):
    found = ties_table.groups_of(architectures.all_classes()[name])
    assert {(g.spellings, g.stored, g.inner, g.when) for g in found} == lines_of(table, name)


def test_classes_by_model_type_are_those_of_transformers(table):
    assert table["by_model_type"] == ties_table.default_classes()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_whole_table_is_what_transformers_does(table):
    assert table == json.loads(json.dumps(ties_table.build_table()))
