"""Labels in the languages that cards use, and which checkboxes count as the licence agreement."""

import pytest

from access_requests.cards.roles import is_licence_agreement, is_opt_in, role_of, says_optional

ROLES = {
    "first_name": ["First Name", "first name:", "Given names", "FIRSTNAME", "Prénom", "**First name** *"],
    "last_name": ["Last name", "Family Name", "Surname", "Nachname", "姓"],
    "full_name": ["Name", "Full Name", "Your name", "姓名(Name)", "姓名 / Name", "氏名", "First and last name"],
    "institution": [
        "Institution", "Affiliation", "Organisation", "Company/university", "Your institution", "Name of your organization",
        "所屬單位(Affiliation)", "所属機関", "Company or University", "Affiliation / Organisation", "Employer",
    ],
    "country": [
        "Country", "Country (where user is located)", "Country of residence", "Country/Region", "國家(Country)", "国家/地区",
        "Pays", "Country where you work",
    ],
    "email": ["Email", "E-mail address", "Work email", "Official e-mail (no free providers)", "邮箱", "Institutional Email"],
    "intended_use": [
        "Intended Use", "Intended use of the model", "How do you plan to use this model?", "Use case", "Purpose of use",
        "What will you use the dataset for?", "用途",
    ],
    "publications": ["Previous Related Publications", "Publications", "Relevant papers", "List of your publications"],
    "": [
        "Type of affiliation", "Country of birth", "Team Name", "User name", "Job title", "Supervisor (Name)", "Phone", "电话",
        "Company Website URL", "Org Type (a, b)", "Role", "Publication date", "负责人姓名(Name of the lead)", "Model name",
        "Does your institution allow it?", "Newspaper",
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("role", "label"), [(role, label) for role, labels in ROLES.items() for label in labels]
)
def test_text_label_is_read_as(role: str, label: str):
    assert role_of(label, "text") == role


def test_type_must_fit_the_role():
    assert role_of("Name", "select") == ""
    assert role_of("Country", "select") == "country"
    assert role_of("Country", "country") == "country"
    assert role_of("Use case", "select") == "intended_use"
    assert role_of("Country", "checkbox") == ""
    assert role_of("I accept the licence", "text") == ""


AGREEMENTS = [
    "I agree to abide by the terms of the license associated to this artifact, including domain restrictions",
    "By clicking Submit below I accept the terms of the license and acknowledge that what I provide is processed "
    "in accordance with the Privacy Policy",
    "By submitting this form, I agree to the firm’s Privacy policy and Terms & conditions, see below",
    "I accept the above license agreement, and will use the Model within its restrictions",
    "I have read the License and agree with its terms",
    "I agree to all terms outlined above",
    "I agree to the [license](https://example.org/a b)",
    "I agree to the **CC-BY-NC 4.0 license**",
    "I accept the EULA",
    "I will comply with the license",
    "Terms and conditions accepted",
    "License agreed?",
    "I agree to the user agreement",
    "I agree to the dataset's terms of use",
    "我已閱讀並同意授權條款",
    "我同意许可协议",
    "利用規約に同意します",
    "라이선스에 동의합니다",
    "J'accepte les conditions d'utilisation",
    "Ich akzeptiere die Lizenzbedingungen",
]
NO_AGREEMENTS = [
    "I ALLOW this firm to email me about new model releases",
    "I agree to receive news according to the terms",
    "I agree to be contacted about the license terms",
    "I agree not to train on it",
    "I agree to cite the paper",
    "I agree to use this model for non-commercial use ONLY",
    "I agree to the privacy policy",
    "I agree to the terms of the privacy policy",
    "I accept the conditions of your Privacy Notice",
    "I do not agree to the licence",
    "I acknowledge that commercial use requires a separate license",
    "I agree to obtain a license first",
    "I agree to store the data under secure conditions",
    "I want a licence",
    "I have a driving licence",
    "I am 18 or older",
    "同意隱私權政策",
    "是否同意",
    "我不同意授權條款",
    "訂閱電子報",
]


@pytest.mark.parametrize("label", AGREEMENTS)
def test_label_that_plainly_agrees_is_the_licence_agreement(label: str):
    assert is_licence_agreement(label)


@pytest.mark.parametrize("label", NO_AGREEMENTS)
def test_label_that_says_something_else_is_no_licence_agreement(label: str):
    assert not is_licence_agreement(label)


def test_offers_may_be_left_out():
    assert is_opt_in("I ALLOW this firm to email me about new model releases")
    assert is_opt_in("Receive email updates on our products")
    assert is_opt_in("訂閱電子報")
    assert not is_opt_in("I agree to cite the paper")
    assert not is_opt_in("I agree that my contact information is stored")


def test_optional_is_read_in_the_label():
    assert says_optional("Website (optional)")
    assert says_optional("网站（选填）")
    assert not says_optional("Options")
