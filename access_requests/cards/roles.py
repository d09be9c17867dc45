"""Recognise labels that ask what the portal knows, with a table of words in the languages of cards.

A label that is not clearly one of these gets no role: the field stays as the card has it, and the owner can
choose a role. The licence agreement is the strictest: a newsletter opt-in or a promise about privacy does not
count.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from .form import ROLE_TYPES

_ORG = (
    r"(?:institution|institute|institutional affiliation|affiliation|affiliated institution|organi[sz]ation"
    r"|company|org|university|employer|research group|lab|laboratory)"
)
_YOUR = r"(?:your |the |name of (?:your |the )?|current |primary )?"
_PUBLICATION_KIND = (
    r"(?:(?:list of|links? to|your|any|own|previous|prior|past|recent|related|relevant|selected|and|or) )*"
)

# Role -> a pattern that the whole tidied label must match. The order only helps the reader.
_LABELS: dict[str, str] = {
    "first_name": r"(?:your )?(?:first|given) ?names?|forenames?|prénoms?|vornamen?|nombres?|名|名字",
    "last_name": (
        r"(?:your )?(?:last|family) ?names?|surname|nachname|familienname|nom de famille|apellidos?|姓|姓氏"
    ),
    "full_name": (
        r"(?:your )?(?:(?:full|real|legal|complete) ?)?name|first (?:and|&) last name|name and surname"
        r"|nom complet|nombre completo|vollständiger name|姓名|名前|お名前|氏名|이름|성명|성함"
    ),
    "institution": (
        rf"{_YOUR}{_ORG}(?: ?(?:/|or|and|&|,) ?{_ORG})*(?: name)?|einrichtung|établissement|institución"
        r"|所属単位|所屬單位|所属单位|所属机构|所屬機構|所属|所属機関|单位|單位|机构|機構|機關|公司"
        r"|소속|소속 기관|기관"
    ),
    "country": (
        r"(?:your )?(?:country|country ?(?:/|or|and) ?(?:region|territory)|region ?/ ?country|country name)"
        r"(?: of (?:residence|affiliation|work|employment|location|institution|(?:your )?organi[sz]ation))?"
        r"|country (?:where|in which) .*|pays|land|país|paese|國家|国家|国|国名|국가"
        r"|國家 ?/ ?地區|国家 ?/ ?地区"
    ),
    "email": (
        r"(?:your |valid )?(?:(?:official|work|institutional|business|professional|corporate|company|academic"
        r"|university|contact|organi[sz]ational) )*(?:e-?mail|mail)(?: ?(?:address|id))?"
        r"|correo(?: electrónico)?|courriel|邮箱|邮件|電子郵件|电子邮件|电子邮箱|電子信箱"
        r"|メールアドレス|이메일"
    ),
    "intended_use": (
        r".*\b(?:intend|plan|want|going|wish|like) to use\b.*"
        r"|.*\b(?:intended|planned|proposed) (?:\w+ ){0,2}us(?:e|age)\b.*"
        r"|.*\b(?:do|will|would) (?:you|i) (?:intend to |plan to )?use (?:the|this|our)\b.*"
        r"|use[- ]?cases?|research use"
        r"|(?:purpose|reason)s?(?: (?:of|for) (?:use|usage|access|request|this request|the request))?"
        r"|用途|使用目的|使用用途|利用目的|사용 목적"
    ),
    "publications": (
        rf"{_PUBLICATION_KIND}(?:publications?|papers)(?: or (?:publications?|papers))?|publikationen"
        r"|相关论文|相關論文|发表论文|發表論文|論文"
    ),
}
_COMPILED = {role: re.compile(pattern) for role, pattern in _LABELS.items()}

LONGEST_TIDIED = 400  # characters; the longest labels of real cards have 250, and one sign may become 18

_CJK = re.compile(r"[\u3005-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff]")
_PARENTHESES = re.compile(r"\s*[(\[][^()\[\]]*[)\]]")


def role_of(label: str, declared: str) -> str:
    """Return the role of a field by its label and the type that the card declares; "" if it is not clear."""
    if declared == "checkbox":
        return "licence" if is_licence_agreement(label) else ""
    # Try the label without its parenthesis too, and each half of a bilingual one.
    whole = _tidy_label(label)
    outside = _tidy_label(_PARENTHESES.sub(" ", whole))
    readings = [outside or whole]
    if _CJK.search(whole) and re.search(r"[a-z]", whole):
        readings.append(_tidy_label(re.sub(r"[^\w\s/]|[a-z]", "", outside)).strip(" /"))
        readings.append(_tidy_label(_CJK.sub(" ", whole)).strip(" ()/[]"))
    for text in readings:
        for role, pattern in _COMPILED.items():
            if declared in ROLE_TYPES[role] and pattern.fullmatch(text):
                return role
    return ""


@lru_cache(maxsize=256)
def _tidy_label(label: str) -> str:
    """Return the label in lower case, with uniform signs and no Markdown, so that spellings compare equal."""
    text = unicodedata.normalize("NFKC", label[:LONGEST_TIDIED])[:LONGEST_TIDIED].casefold().replace("’", "'")
    text = re.sub(r"\[([^\[\]]*)\]\([^()]*\)", r"\1", text)
    text = re.sub(r"[*_`“”\"]+", "", text)
    return re.sub(r"\s+", " ", text).strip(" ?:.!,;：？。")


# A promise about personal data is not the licence, even if it mentions terms or agreeing.
_PRIVACY = re.compile(
    r"(?:(?:terms|conditions)(?: and conditions)? (?:of|in) )?"
    r"(?:(?!licen[cs]|terms|use\b|service|conditions|agreement|and\b|of\b|to\b|the\b)[\w'.&-]{1,40} ){0,3}?"
    r"(?:the )?(?:privacy|data protection|cookie) (?:policy|policies|notice|statement|terms|conditions)"
    r"|(?:隱私|隐私|プライバシー|개인정보)\w{0,4}(?:政策|條款|条款|声明|聲明|ポリシー|방침|协议|協議)?"
)
_VERB = (
    r"(?:agree(?:s|d|ing)?|accept(?:s|ed|ing)?|acknowledge|abide|comply|complying|adhere|bound|consent|follow|respect"
    r"|observe|accetto|acepto|aceito|j'accepte|akzeptiere|stimme)"
)
_STOP = (
    r"(?:not|never|without|separate|separately|obtain|buy|purchase|require[sd]?|request|receive|discuss|negotiate"
    r"|news|newsletter|emails?|e-mails?|contact(?:ed)?|privacy|train|cite|commercial|if|before)"
)
_OBJECT = (
    r"(?:(?:[\w.-]+[- ])?licen[cs](?:e|es|ing|ed terms)\b|licencia\b|licença\b|licenza\b|lizenz\w*"
    r"|nutzungsbedingungen|eula\b"
    r"|(?:user|usage|use|access|transfer|licen[cs]e|community|research|service) agreement"
    r"|terms of (?:use|service)\b"
    r"|(?:the|these|all|its|any|our|your|to|with|following|above|said|use|usage|user|access|service|and|&|of)"
    r" (?:terms|conditions)\b|términos|condiciones|conditions d'utilisation|termos)"
)
_AGREES = re.compile(rf"(?<![\w'-]){_VERB} (?:(?!{_STOP}\b)[\w'’&.,/()\[\]-]+ ){{0,8}}?{_OBJECT}")
_OPENS = re.compile(rf"(?<![\w'-]){_VERB} (?:terms|conditions)\b")
_AGREED = re.compile(r"(?:licen[cs]e|terms|conditions)(?: [\w'&]+){0,4} (?:accepted|agreed)\b")
_DENIES = re.compile(r"\b(?:do not|don't|cannot|can't|not) (?:agree|accept|consent)\b|不同意|不接受")
_EAST_ASIAN = re.compile(
    r"\A(?=.*(?:同意|接受|遵守|동의|준수))(?=.*(?:許可|许可|授權|授权|條款|条款|协议|協議|規約|ライセンス|약관|라이선스|라이센스))"
)
_OPT_IN = re.compile(
    r"newsletter|mailing list|marketing|promotion|subscri|\b(?:e-?mail|contact|notify|inform) me\b|keep me"
    r"|\b(?:receive|get|send me)\b.*\b(?:updates?|e-?mails?|news|announcements?|information)\b"
    r"|\bupdates\b.*\bby e-?mail\b|contacted (?:about|for|with|regarding)|訂閱|订阅|電子報|メルマガ|뉴스레터"
)
_OPTIONAL = re.compile(
    r"\b(?:optional|facultatif|freiwillig|opcional|if any|if applicable)\b"
    r"|選填|选填|可选|任意|선택"
)


def is_licence_agreement(label: str) -> bool:
    """Return whether a checkbox plainly says that the licence, its terms or conditions are agreed to."""
    text = _PRIVACY.sub(" ", _tidy_label(label))
    text = re.sub(r"\s+", " ", text)
    if _DENIES.search(text):
        return False
    return any(pattern.search(text) for pattern in (_AGREES, _OPENS, _AGREED, _EAST_ASIAN))


def is_opt_in(label: str) -> bool:
    """Return whether a checkbox is an optional offer, such as a newsletter."""
    return bool(_OPT_IN.search(_tidy_label(label)))


def says_optional(label: str) -> bool:
    """Return whether the label itself says that an answer is optional."""
    return bool(_OPTIONAL.search(_tidy_label(label)))
